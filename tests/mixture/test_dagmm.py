"""DAGMM against the paper's model, written down a second time."""

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline
from skorch.callbacks import Callback
from torch import nn

from anomaly_estimators import DAGMM, Autoencoder
from anomaly_estimators.mixture import dagmm as dagmm_module


@pytest.fixture(scope="module")
def X():
    return load_breast_cancer().data[:150, :6]


def make(**params):
    defaults = {
        "hidden_layer_sizes": (5, 4),
        "latent_dim": 2,
        "n_components": 3,
        "reconstruction_features": ("relative_euclidean", "cosine_similarity"),
        "max_iter": 3,
        "random_state": 0,
        "device": "cpu",
    }
    return DAGMM(**{**defaults, **params})


class PaperDAGMM(nn.Module):
    """Equations 1 to 7 of Zong et al. (2018), term by term, in float64."""

    def __init__(self, n_features, sizes=(5, 4), latent_dim=2, n_components=3, estimation=10):
        super().__init__()
        a, b = sizes
        self.encode = nn.Sequential(
            nn.Linear(n_features, a),
            nn.Tanh(),
            nn.Linear(a, b),
            nn.Tanh(),
            nn.Linear(b, latent_dim),
        )
        self.decode = nn.Sequential(
            nn.Linear(latent_dim, b),
            nn.Tanh(),
            nn.Linear(b, a),
            nn.Tanh(),
            nn.Linear(a, n_features),
        )
        self.estimate = nn.Sequential(
            nn.Linear(latent_dim + 2, estimation), nn.Tanh(), nn.Linear(estimation, n_components)
        )
        self.double()

    def copy_weights(self, module):
        theirs = [p for p in module.parameters()]
        mine = list(self.parameters())
        assert [p.shape for p in mine] == [p.shape for p in theirs]
        with torch.no_grad():
            for p, q in zip(mine, theirs, strict=True):
                p.copy_(q)
        return self

    def represent(self, x):
        z_c = self.encode(x)  # eq 1
        x_ = self.decode(z_c)
        relative = (x - x_).pow(2).sum(1).sqrt() / x.pow(2).sum(1).sqrt()  # eq 2
        cosine = (x * x_).sum(1) / (x.pow(2).sum(1).sqrt() * x_.pow(2).sum(1).sqrt())
        return torch.cat([z_c, relative[:, None], cosine[:, None]], dim=1), x_  # eq 3

    def memberships(self, z):
        p = self.estimate(z).exp()
        return p / p.sum(dim=1, keepdim=True)  # eq 4

    @staticmethod
    def mixture(z, gamma):  # eq 5
        phi, mu, sigma = [], [], []
        for k in range(gamma.shape[1]):
            total = gamma[:, k].sum()
            phi.append(total / len(z))
            mu.append((gamma[:, k, None] * z).sum(0) / total)
            c = z - mu[-1]
            sigma.append(
                sum(g * torch.outer(r, r) for g, r in zip(gamma[:, k], c, strict=True)) / total
            )
        return phi, mu, sigma

    @staticmethod
    def densities(z, phi, mu, sigma):  # the summands of eq 6
        columns = []
        for p, m, s in zip(phi, mu, sigma, strict=True):
            c = z - m
            inside = -0.5 * ((c @ torch.linalg.inv(s)) * c).sum(1)
            columns.append(p * inside.exp() / torch.linalg.det(2 * math.pi * s).sqrt())
        return torch.stack(columns, dim=1)

    def energy(self, z, *parameters):
        return -self.densities(z, *parameters).sum(1).log()

    def loss(self, x, lambda1, lambda2, bound=False, weight=1.0):  # eq 7
        z, x_ = self.represent(x)
        gamma = self.memberships(z)
        phi, mu, sigma = self.mixture(z, gamma)
        energy = self.energy(z, phi, mu, sigma)
        if bound:  # eq 8 to 10
            joint = self.densities(z, phi, mu, sigma)
            posterior = joint / joint.sum(1, keepdim=True)
            energy = energy + (gamma * (gamma.log() - posterior.log())).sum(1)
        penalty = sum((1 / s.diagonal()).sum() for s in sigma)
        error = (x - x_).pow(2).sum(1).mean()
        return weight * error + lambda1 * energy.mean() + lambda2 * penalty


@pytest.fixture(scope="module")
def pair(X):
    """A fitted detector, the paper's model with its weights, and the scaled rows."""
    detector = make().fit(X)
    rows = torch.from_numpy(detector.scaler_.transform(X))
    return detector, PaperDAGMM(6).copy_weights(detector.module_), rows


def test_representation_and_memberships_are_those_of_the_paper(pair, X):
    detector, paper, rows = pair
    with torch.no_grad():
        z, _ = paper.represent(rows)
        np.testing.assert_allclose(detector.transform(X), z, rtol=1e-10)
        np.testing.assert_allclose(
            detector.predict_component_proba(X), paper.memberships(z), rtol=1e-10
        )


def test_score_is_the_negative_energy_of_the_paper(pair, X):
    detector, paper, rows = pair
    with torch.no_grad():
        z, _ = paper.represent(rows)
        energy = paper.energy(z, *paper.mixture(z, paper.memberships(z)))
    # The ridge, 1e-6 of the variances, is all that differs.
    np.testing.assert_allclose(detector.score_samples(X), -energy, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("objective", ["energy", "nvi"])
@pytest.mark.parametrize("weights", [(0.1, 0.005, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.5)])
def test_loss_and_gradient_are_those_of_the_paper(objective, weights, pair, X):
    detector, paper, rows = pair
    lambda1, lambda2, reconstruction_weight = weights
    module = make()._build_module(6).double().eval()  # without dropout
    module.load_state_dict(detector.module_.state_dict())
    loss = (
        make(
            objective=objective,
            lambda1=lambda1,
            lambda2=lambda2,
            reconstruction_weight=reconstruction_weight,
        )
        ._phases(module)[-1]
        .loss
    )
    found = loss(module(rows), rows, None)
    expected = paper.loss(rows, lambda1, lambda2, objective == "nvi", reconstruction_weight)
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)
    gradients = torch.autograd.grad(found, list(module.parameters()), materialize_grads=True)
    references = torch.autograd.grad(expected, list(paper.parameters()), materialize_grads=True)
    a, b = (torch.cat([g.ravel() for g in group]) for group in (gradients, references))
    assert torch.cosine_similarity(a, b, dim=0) > 0.9999
    assert a.norm().item() == pytest.approx(b.norm().item(), rel=1e-2)


def test_mixture_is_estimated_again_from_all_rows(X):
    detector = make(batch_size=20).fit(X)
    z, gamma = detector.transform(X), detector.predict_component_proba(X)
    np.testing.assert_allclose(gamma.sum(axis=1), 1.0)
    np.testing.assert_allclose(detector.weights_, gamma.mean(axis=0), rtol=1e-10)
    for k in range(3):
        weights = gamma[:, k]
        np.testing.assert_allclose(
            detector.means_[k], np.average(z, axis=0, weights=weights), rtol=1e-9
        )
        np.testing.assert_allclose(
            detector.covariances_[k], np.cov(z.T, aweights=weights, ddof=0), rtol=1e-6, atol=1e-12
        )


def test_mixture_is_merged_over_pieces(X, monkeypatch):
    from anomaly_estimators.training import rows as rows_module

    whole = make().fit(X)
    monkeypatch.setattr(rows_module, "_PIECE_VALUES", 6 * 11)
    pieces = make().fit(X)
    np.testing.assert_allclose(pieces.covariances_, whole.covariances_, rtol=1e-8, atol=1e-14)
    np.testing.assert_allclose(pieces.score_samples(X), whole.score_samples(X), rtol=1e-6)


def phase_gradients(detector, X):
    """Names of the parameters with a gradient, phase by phase."""
    torch.manual_seed(0)
    module = detector._build_module(X.shape[1])
    rows = torch.from_numpy(X - X.mean(0)).float() / torch.from_numpy(X.std(0)).float()
    for phase in detector._phases(module):
        module.zero_grad(set_to_none=True)
        part = module if phase.module is None else phase.module
        phase.loss(part(rows), rows, None).backward()
        yield (
            phase.name,
            {name for name, p in module.named_parameters() if p.grad is not None and p.grad.any()},
        )


@pytest.mark.parametrize("objective", ["energy", "nvi"])
def test_gradients_reach_every_parameter(objective, X):
    gradients = dict(phase_gradients(make(pretrain="layerwise", objective=objective), X))
    names = {name for name, _ in make()._build_module(6).named_parameters()}
    autoencoder = {name for name in names if name.startswith("autoencoder.")}
    assert gradients["training"] == names
    assert gradients["pre-training"] == autoencoder
    layers = [gradients[f"pre-training, layer {i}"] for i in (1, 2, 3)]
    assert set.union(*layers) == autoencoder
    assert all(len(layer) == 4 for layer in layers)
    assert layers[0] == {
        f"autoencoder.{part}.{kind}"
        for part in ("encoder.0", "decoder.4")
        for kind in ("weight", "bias")
    }


def test_without_reconstruction_error_the_mixture_still_moves_the_codes(X):
    """GMM-EN: the objective without its first term."""
    gradients = dict(phase_gradients(make(reconstruction_weight=0.0), X))
    names = {name for name, _ in make()._build_module(6).named_parameters()}
    assert gradients["training"] == names
    plain, bare = (make(reconstruction_weight=w).fit(X).score_samples(X) for w in (1.0, 0.0))
    assert (plain != bare).all()


class AtStart(Callback):
    """Keep the weights with which the main phase starts."""

    weights: dict = {}

    def on_train_begin(self, net, **kwargs):
        if net.phase_.main:
            type(self).weights = {k: v.clone() for k, v in net.module_.state_dict().items()}


def weights_of(detector):
    return {k: v.clone() for k, v in detector.module_.state_dict().items()}


@pytest.mark.parametrize("pretrain", ["layerwise", "end_to_end"])
def test_frozen_codes_are_those_of_the_pretraining(pretrain, X):
    """PAE-GMM: the estimation network learns, the autoencoder stays."""
    detector = make(pretrain=pretrain, freeze_codes=True, callbacks=[AtStart()]).fit(X)
    for name, weights in weights_of(detector).items():
        if name.startswith("autoencoder."):
            assert torch.equal(weights, AtStart.weights[name]), name
        elif name.startswith("head.network."):
            assert not torch.equal(weights, AtStart.weights[name]), name
    gradients = dict(phase_gradients(make(pretrain=pretrain, freeze_codes=True), X))
    assert all(name.startswith("head.") for name in gradients["training"])


def test_frozen_codes_of_an_own_network(X):
    trained = Autoencoder(hidden_layer_sizes=(4,), latent_dim=2, max_iter=3, random_state=0).fit(X)
    detector = make(network=trained.module_, freeze_codes=True).fit(X)
    for ours, theirs in zip(
        detector.module_.autoencoder.parameters(), trained.module_.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs)
    np.testing.assert_allclose(detector.transform(X)[:, :2], trained.transform(X), rtol=1e-12)


@pytest.mark.parametrize("pretrain", ["layerwise", "end_to_end"])
def test_pretraining_reaches_the_detector(pretrain, X):
    """The main phase starts from the pre-trained weights, and they are better than none."""
    detector = make(
        pretrain=pretrain,
        pretrain_max_iter=30,
        learning_rate=0.01,
        callbacks=[AtStart()],
        max_iter=1,
    ).fit(X)
    random = make(callbacks=[AtStart()], max_iter=1)
    started = dict(AtStart.weights)
    random.fit(X)
    for name, weights in started.items():
        moved = not torch.equal(weights, AtStart.weights[name])
        assert moved == name.startswith("autoencoder."), name

    def error(weights):
        module = make()._build_module(6)
        module.load_state_dict(weights)
        rows = torch.from_numpy(detector.scaler_.transform(X)).float()
        with torch.no_grad():
            return (module.autoencoder(rows)[1] - rows).square().sum(1).mean().item()

    assert error(started) < 0.7 * error(AtStart.weights)
    losses = [row["train_loss"] for row in detector.history_ if row["phase"] == "pre-training"]
    assert losses[-1] < losses[0]


def test_layers_are_trained_one_after_the_other_as_denoisers(X):
    class Trace(Callback):
        weights: list = []

        def on_train_begin(self, net, **kwargs):
            self.weights.append({k: v.clone() for k, v in net.module_.state_dict().items()})

    make(pretrain="layerwise", corruption=0.3, callbacks=[Trace()]).fit(X)
    pairs = [("encoder.0", "decoder.4"), ("encoder.2", "decoder.2"), ("encoder.4", "decoder.0")]
    for layer, expected in enumerate(pairs):
        before, after = Trace.weights[layer], Trace.weights[layer + 1]
        moved = {k.rsplit(".", 1)[0] for k in before if not torch.equal(before[k], after[k])}
        assert moved == {f"autoencoder.{part}" for part in expected}
    clean = make(pretrain="layerwise", corruption=0.0, max_iter=2).fit(X)
    noisy = make(pretrain="layerwise", corruption=0.3, max_iter=2).fit(X)
    assert clean.history_[0]["train_loss"] != noisy.history_[0]["train_loss"]


def test_dropout_is_for_training_only(X):
    detector = make(dropout=0.5).fit(X)
    assert any(isinstance(layer, nn.Dropout) for layer in detector.module_.head.modules())
    np.testing.assert_array_equal(detector.score_samples(X), detector.score_samples(X))
    assert (detector.score_samples(X) != make(dropout=0.0).fit(X).score_samples(X)).all()


@pytest.mark.parametrize("objective", ["energy", "nvi"])
def test_it_trained(objective, X):
    detector = make(objective=objective, max_iter=60, learning_rate=0.01, dropout=0.0).fit(X)
    assert detector.loss_curve_[-1] < 0.7 * detector.loss_curve_[0]
    untrained = make(max_iter=1, learning_rate=1e-8).fit(X)
    assert abs(np.corrcoef(detector.score_samples(X), untrained.score_samples(X))[0, 1]) < 0.99


def test_objectives_differ(X):
    a, b = (make(objective=o).fit(X).score_samples(X) for o in ("energy", "nvi"))
    assert (a != b).all()


def test_weights_of_the_objective_have_their_effect(X):
    """A large lambda2 keeps the variances up; a large lambda1 brings the energy down."""
    params = {"max_iter": 40, "learning_rate": 0.01, "dropout": 0.0}

    def variance(lambda2):
        detector = make(lambda2=lambda2, **params).fit(X)
        return 1.0 / np.diagonal(detector.covariances_, axis1=1, axis2=2)

    assert variance(1.0).sum() < variance(0.0).sum()
    energies = [-make(lambda1=v, **params).fit(X).score(X) for v in (0.0, 1.0)]
    assert energies[1] < energies[0]


def test_anomalies_are_found():
    data = load_breast_cancer()
    benign, malignant = data.data[data.target == 1], data.data[data.target == 0]
    detector = DAGMM(max_iter=40, random_state=0, device="cpu").fit(benign[:300])
    rows = np.r_[benign[300:], malignant]
    truth = np.r_[np.zeros(57), np.ones(212)]
    assert roc_auc_score(truth, -detector.score_samples(rows)) > 0.85


def test_codes_feed_the_mixture_of_scikit_learn(X):
    """PAE-GMM-EM: a pre-trained autoencoder and expectation maximisation."""
    pipeline = make_pipeline(
        make(pretrain="layerwise", freeze_codes=True), GaussianMixture(2, random_state=0)
    ).fit(X)
    z = pipeline[0].transform(X)
    expected = GaussianMixture(2, random_state=0).fit(z).score_samples(z)
    np.testing.assert_allclose(pipeline.score_samples(X), expected)
    names = ["code0", "code1", "relative_euclidean", "cosine_similarity"]
    assert list(pipeline[0].get_feature_names_out()) == names


@pytest.mark.parametrize("pretrain", [None, "end_to_end", "layerwise"])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_images_are_folded_and_convolved(pretrain, batch_norm):
    rows = load_digits().data[:150]
    detector = make(
        input_shape=(1, 8, 8),
        channels=(4,),
        pretrain=pretrain,
        pretrain_max_iter=1,
        batch_norm=batch_norm,
        learning_rate=0.01,
    ).fit(rows)
    assert any(isinstance(layer, nn.Conv2d) for layer in detector.module_.modules())
    assert detector.transform(rows).shape == (150, 4)
    assert len(np.unique(detector.score_samples(rows))) == 150
    assert detector.loss_curve_[-1] < detector.loss_curve_[0]


def test_one_component_is_a_gaussian(X):
    from scipy.stats import multivariate_normal

    detector = make(n_components=1).fit(X)
    z = detector.transform(X)
    np.testing.assert_allclose(detector.predict_component_proba(X), 1.0)
    expected = multivariate_normal(z.mean(0), np.cov(z.T, ddof=0)).logpdf(z)
    np.testing.assert_allclose(detector.score_samples(X), expected, rtol=1e-3, atol=1e-3)


def test_named_features_are_the_ones_computed(X):
    detector = make(reconstruction_features=("squared_error", "euclidean")).fit(X)
    z = detector.transform(X)
    np.testing.assert_allclose(z[:, 2], z[:, 3] ** 2, rtol=1e-9)
    assert make(reconstruction_features=()).fit(X).transform(X).shape == (150, 2)


def test_losses_are_a_table_of_the_module():
    assert set(dagmm_module._OBJECTIVES) == {"energy", "nvi"}
