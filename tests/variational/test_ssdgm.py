"""SS-DGM: the paper's objective, and what it learns."""

import copy
import math
import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score
from skorch.callbacks import Callback
from torch import nn
from torch.distributions import Categorical, Normal

from anomaly_estimators.nn.autoencoder import AutoencoderNetwork, mlp_autoencoder
from anomaly_estimators.nn.variational import GaussianLikelihood
from anomaly_estimators.variational.ssdgm import SSDGM

MODELS = ("m2", "m1+m2")
models = pytest.mark.parametrize("model", MODELS)


def make(**params):
    defaults = {
        "model": "m2",
        "alpha": 0.1,
        "hidden_layer_sizes": (6, 5),
        "latent_dim": 2,
        "max_iter": 2,
        "random_state": 0,
        "device": "cpu",
    }
    return SSDGM(**{**defaults, **params})


def blobs(n=400, n_features=20, shift=0.5, seed=0):
    """Two overlapping blobs and what they are; no feature by itself tells them apart."""
    rng = np.random.default_rng(seed)
    truth = np.where(rng.random(n) < 0.5, -1, 1)
    return rng.normal(size=(n, n_features)) + shift * truth[:, None], truth


def reveal(truth, n_normal, n_anomalies):
    y = np.zeros(len(truth))
    y[np.flatnonzero(truth > 0)[:n_normal]] = 1
    y[np.flatnonzero(truth < 0)[:n_anomalies]] = -1
    return y


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).normal(3.0, 2.0, size=(60, 4))


@pytest.fixture(scope="module")
def y():
    return reveal(np.where(np.arange(60) % 4, 1, -1), 5, 3)


# The model


@models
def test_score_is_the_log_odds_of_the_class(model, X, y):
    detector = make(model=model).fit(X, y)
    rows = torch.from_numpy(detector.scaler_.transform(X))
    module = copy.deepcopy(detector.module_).double()
    with torch.no_grad():
        if model == "m1+m2":
            rows = module.m1.encoder(rows).mean
        probability = module.m2.log_probability(rows).exp()
    np.testing.assert_allclose(probability.sum(1), 1.0)
    expected = (probability[:, 1] / probability[:, 0]).log()
    np.testing.assert_allclose(-detector.score_samples(X), expected, rtol=1e-8, atol=1e-10)


def test_classes_start_at_their_prior(X, y):
    detector = make(anomaly_prior=0.02, learning_rate=1e-12, batch_norm=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        detector.fit(np.zeros_like(X), y)
    np.testing.assert_allclose(-detector.score_samples(0 * X), math.log(0.02 / 0.98), rtol=1e-6)


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
@pytest.mark.parametrize("labels", ["both", "anomalies", "none"])
def test_loss_is_that_of_the_paper(likelihood, labels, X, y):
    y = {"both": y, "anomalies": np.minimum(y, 0), "none": 0 * y}[labels]
    detector = make(likelihood=likelihood, scaler="minmax", alpha=0.3, anomaly_prior=0.2)
    if labels == "none":
        with pytest.warns(UserWarning, match="known anomaly"):
            detector.fit(X, y)
    else:
        detector.fit(X, y)
    module = copy.deepcopy(detector.module_).double().eval()
    rows = torch.from_numpy(detector.scaler_.transform(X))
    torch.manual_seed(7)
    found = detector._phases(module)[-1].loss(module(rows), rows, torch.from_numpy(y))
    m2 = module.m2
    torch.manual_seed(7)
    noise = torch.randn(60, 1, 2, dtype=torch.float64)[:, 0]
    joint = []  # -L(x, y), eq 6, class by class
    for k, prior in enumerate((0.8, 0.2)):
        one_hot = torch.eye(2, dtype=torch.float64)[k].expand(60, -1)
        q = m2.encoder.posterior(torch.cat([m2.encoder.hidden(rows), one_hot], dim=1))
        q = Normal(q.mean, (0.5 * q.log_variance).exp())
        z = q.mean + q.stddev * noise
        outputs = m2.decoder(torch.cat([z, one_hot], dim=1))
        if likelihood == "gaussian":
            deviation = (4 * m2.decoder.likelihood.scale[k].tanh()).exp()
            log_likelihood = Normal(outputs, deviation).log_prob(rows).sum(1)
        else:
            log_likelihood = -nn.functional.binary_cross_entropy_with_logits(
                outputs, rows, reduction="none"
            ).sum(1)
        kl = torch.distributions.kl_divergence(q, Normal(0.0, 1.0)).sum(1)
        joint.append(log_likelihood + math.log(prior) - kl)
    log_odds = m2.log_odds(rows)
    total, classification = 0.0, []
    for i in range(60):
        q = Categorical(logits=torch.stack([0 * log_odds[i], log_odds[i]]))
        if y[i]:
            k = int(y[i] < 0)
            total = total - joint[k][i]  # eq 8
            classification.append(-q.logits[k])
        else:  # eq 7
            total = total - sum(q.probs[k] * joint[k][i] for k in range(2)) - q.entropy()
    if classification:  # eq 9, with alpha = 0.3 N
        total = total + 0.3 * 60 * torch.stack(classification).mean()
    assert found.item() == pytest.approx(total.item() / 60, rel=1e-7)


def test_weight_of_the_labels_is_that_of_the_whole_set_in_every_batch(X, y):
    # Eight of sixty rows are labelled, and in a batch of four often none: counted batch by batch,
    # their weight would be another.
    detector = make(batch_size=4).fit(X, y)
    outputs = detector.module_(torch.zeros(4, 4))
    loss = detector._phases(detector.module_)[-1].loss
    labelled = torch.tensor([0, 0, 0, -1])
    with_labels = loss(outputs, None, labelled)
    detector.alpha = 0.0
    difference = (with_labels - loss(outputs, None, labelled)).item()
    expected = -0.1 * 60 / 8 * outputs.log_probability[3, 1].item() / 4
    assert difference == pytest.approx(expected, rel=1e-5)


class Watch(Callback):
    """Keeps the weights at the end of every phase, and which parameters had a gradient."""

    def initialize(self):
        self.states, self.moved = {}, {}
        type(self).last = self
        return self

    def on_grad_computed(self, net, named_parameters, **kwargs):
        moved = self.moved.setdefault(net.phase_.name, set())
        moved.update(id(p) for _, p in named_parameters if p.grad is not None and p.grad.any())

    def on_train_end(self, net, **kwargs):
        names = {id(p): name for name, p in net.module_.named_parameters()}
        name = net.phase_.name
        self.moved[name] = {names[i] for i in self.moved[name]}
        self.states[name] = copy.deepcopy(net.module_.state_dict())


@models
@pytest.mark.parametrize("pretrain", [None, "layerwise"])
@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_gradients_reach_every_parameter_in_the_phases_that_own_them(
    model, pretrain, likelihood, X, y
):
    detector = make(
        model=model,
        pretrain=pretrain,
        likelihood=likelihood,
        scaler="minmax",
        activation="tanh",
        callbacks=[Watch()],
    ).fit(X, y)
    moved = Watch.last.moved
    names = {name for name, _ in detector.module_.named_parameters()}
    of_m1 = {name for name in names if name.startswith("m1.")}
    assert moved["training"] == names - of_m1
    assert moved.get("M1", set()) == of_m1
    if pretrain:
        vae = "m1" if model == "m1+m2" else "m2"
        owned = {
            n for n in names if n.startswith((f"{vae}.encoder.encoder", f"{vae}.decoder.decoder"))
        }
        assert moved["pre-training"] == owned
    assert [row["phase"] for row in detector.history_].count("training") == detector.n_iter_ == 2


@pytest.mark.parametrize("batch_norm", [False, True])
def test_m2_is_trained_on_the_codes_of_the_trained_m1(batch_norm, X, y):
    detector = make(
        model="m1+m2", batch_norm=batch_norm, pretrain_max_iter=30, callbacks=[Watch()]
    ).fit(X, y)
    after, last = Watch.last.states["M1"], detector.module_.state_dict()
    start = make(model="m1+m2", batch_norm=batch_norm, learning_rate=1e-12, callbacks=[Watch()])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        start.fit(X, y)
    before = start.module_.state_dict()
    for name, tensor in last.items():
        if name.startswith("m1."):
            # Statistics of the normalisation and all: M1 is as its own phase left it.
            assert torch.equal(tensor, after[name]), name
            if tensor.is_floating_point():
                assert not torch.allclose(tensor, before[name], atol=1e-4), name
    np.testing.assert_allclose(
        detector.transform(X),
        copy.deepcopy(detector.module_.m1)
        .double()
        .encoder(torch.from_numpy(detector.scaler_.transform(X)))
        .mean.detach(),
        rtol=1e-9,
    )


def test_m2_of_the_stack_learns_from_draws_and_scores_by_means(X, y):
    module = make(model="m1+m2").fit(X, y).module_.train()
    assert not module.m1.training and module.m2.training
    seen = []
    module.m2.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    rows = torch.zeros(20_000, 4)
    torch.manual_seed(0)
    module(rows)
    q = module.m1.encoder(rows[:1])
    torch.testing.assert_close(seen[0].mean(0), q.mean[0], atol=0.05, rtol=0)
    torch.testing.assert_close(seen[0].var(0), q.log_variance[0].exp(), atol=0, rtol=0.05)
    assert not seen[0].requires_grad
    module.eval()
    torch.testing.assert_close(module.log_odds(rows[:3]), module.m2.log_odds(q.mean.expand(3, -1)))


def test_posterior_variances_fall_below_one():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 1)) @ np.array([[1.0, -1.0, 1.0, 1.0]])
    X = X + 0.1 * rng.normal(size=X.shape)  # one latent variable, which the rows determine
    detector = make(model="m1+m2", latent_dim=1, pretrain_max_iter=40, learning_rate=0.01)
    detector.fit(X, reveal(np.where(np.arange(300) % 9, 1, -1), 5, 5))
    rows = torch.from_numpy(detector.scaler_.transform(X)).float()
    with torch.no_grad():
        variance = detector.module_.m1.encoder(rows).log_variance.exp()
    assert variance.max() < 0.2


# What it learns


@models
def test_labels_of_both_classes_are_learned(model):
    (X, truth), (X_test, truth_test) = blobs(seed=0), blobs(seed=1)
    detector = make(model=model, anomaly_prior=0.5, max_iter=40, learning_rate=0.005)
    detector.fit(X, reveal(truth, 60, 60))
    assert roc_auc_score(truth_test, detector.score_samples(X_test)) > 0.98
    assert detector.loss_curve_[-1] < detector.loss_curve_[0] - 1


@models
def test_unlabelled_rows_help(model):
    aucs = {"all": [], "labelled": []}
    for seed in range(2):
        X, truth = blobs(300, seed=seed)
        X_test, truth_test = blobs(300, seed=100 + seed)
        y = reveal(truth, 4, 4)
        for name, rows in (("all", slice(None)), ("labelled", y != 0)):
            detector = make(
                model=model,
                alpha=1.0,
                anomaly_prior=0.5,
                max_iter=30,
                learning_rate=0.005,
                random_state=seed,
            ).fit(X[rows], y[rows])
            aucs[name].append(roc_auc_score(truth_test, detector.score_samples(X_test)))
    assert np.mean(aucs["all"]) > 0.97
    assert np.mean(aucs["all"]) > np.mean(aucs["labelled"]) + 0.05


@models
def test_labelled_anomalies_alone_are_enough(model):
    rng = np.random.default_rng(0)
    truth = np.where(np.arange(600) % 10, 1, -1)
    X = rng.normal(size=(600, 8)) - 1.5 * (truth < 0)[:, None]
    y = reveal(truth[:300], 0, 8)
    assert set(y) == {0, -1}
    detector = make(model=model, max_iter=40, learning_rate=0.005).fit(X[:300], y)
    scores = detector.score_samples(X[300:])
    assert roc_auc_score(truth[300:], scores) > 0.97
    # Of the anomalies that were not labelled, most are told to be some.
    hidden = (truth[:300] < 0) & (y == 0)
    assert (detector.score_samples(X[:300])[hidden] < 0).mean() > 0.6


def test_classification_weight_pulls_the_labelled_rows(X, y):
    losses = []
    for alpha in (0.0, 0.1, 20.0):
        detector = make(model="m2", alpha=alpha, hidden_layer_sizes=(32,), max_iter=60)
        scores = detector.set_params(learning_rate=0.01).fit(X, y).score_samples(X)
        losses.append(np.logaddexp(0.0, -y * scores)[y != 0].mean())  # -log q(y|x)
    assert losses[0] > losses[1] > losses[2]
    assert losses[2] < 0.3 < losses[0]


# Parameters and labels


def test_no_labelled_anomaly_is_warned_of(X):
    for y in (None, np.zeros(60), np.ones(60)):
        with pytest.warns(UserWarning, match="No row is labelled as a known anomaly"):
            detector = make().fit(X, y)
        assert np.isfinite(detector.score_samples(X)).all()


def test_anomalies_alone_are_refused(X):
    with pytest.raises(ValueError, match="All rows are labelled as known anomalies"):
        make().fit(X, -np.ones(60))


@pytest.mark.parametrize("scaler", ["standard", "robust"])
def test_bernoulli_features_are_not_standardised(scaler, X, y):
    with pytest.raises(ValueError, match="scaler='minmax'"):
        make(likelihood="bernoulli", scaler=scaler).fit(X, y)


@models
@pytest.mark.parametrize("pretrain", [None, "end_to_end"])
@pytest.mark.parametrize("value", [-0.1, 1.1, 1e300])
def test_bernoulli_features_lie_between_0_and_1(model, pretrain, value, y):
    X = np.random.default_rng(0).random((60, 4))
    detector = make(model=model, pretrain=pretrain, likelihood="bernoulli", scaler=None)
    scores = detector.fit(X, y).score_samples(X)
    X[17, 2] = value
    with pytest.raises(ValueError, match=r"needs rows in \[0, 1\]"):
        detector.fit(X, y)
    X[17, 2] = 0.5
    assert detector.score_samples(X).shape == scores.shape  # still fitted


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rounding_of_scaled_rows_is_forgiven(dtype):
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(200, 30)) * 10.0 ** rng.integers(-6, 6, 30) + 1.0).astype(dtype)
    make(likelihood="bernoulli", scaler="minmax", max_iter=1).fit(X, reveal(np.ones(200), 3, 0) - 1)


@models
def test_pretrained_parts_are_taken_over(model, X, y):
    detector = make(
        model=model,
        pretrain="end_to_end",
        pretrain_max_iter=5,
        learning_rate=0.01,
        callbacks=[Watch()],
    ).fit(X, y)
    state = Watch.last.states["pre-training"]
    fresh = make(model=model, learning_rate=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        start = fresh.fit(X, y).module_.state_dict()
    vae = "m1" if model == "m1+m2" else "m2"
    name = f"{vae}.encoder.encoder.0.weight"
    assert not torch.allclose(state[name], start[name], atol=1e-3)
    if model == "m2":
        # One step of the main phase is no way from the weights that the classifier took over.
        one = make(model=model, pretrain="end_to_end", pretrain_max_iter=5, max_iter=1)
        one.set_params(learning_rate=0.01, batch_size=60).fit(X, y)
        found = one.module_.state_dict()["m2.classifier.0.0.weight"]
        assert (found - one.module_.state_dict()[name]).abs().max() <= 0.021
    assert detector.history_[0]["phase"] == "pre-training"


def test_second_fit_goes_on_with_new_labels(X, y):
    detector = make(warm_start=True, max_iter=3)
    with pytest.warns(UserWarning, match="known anomaly"):
        detector.fit(X)
    first = copy.deepcopy(detector.module_.state_dict())
    detector.fit(X, y)
    assert len(detector.history_) == 6
    assert detector._labelled_weight == 60 / 8
    second = detector.module_.state_dict()
    name = "m2.classifier.0.0.weight"
    assert 0 < (second[name] - first[name]).abs().max() < 0.1


@models
def test_images_and_series(model):
    rng = np.random.default_rng(0)
    y = reveal(np.where(np.arange(30) % 5, 1, -1), 2, 3)
    for shape in ((1, 8, 8), (2, 16)):
        X = rng.random((30, math.prod(shape)))
        detector = make(
            model=model,
            input_shape=shape,
            channels=(3, 4),
            scaler=None,
            likelihood="bernoulli",
            max_iter=1,
        ).fit(X, y)
        vae = detector.module_.m2 if model == "m2" else detector.module_.m1
        kinds = {type(m) for m in vae.encoder.modules()}
        assert nn.Conv2d in kinds
        assert any("Conv" in type(m).__name__ for m in vae.decoder.modules())
        assert detector.transform(X).shape == (30, 2)
        assert np.isfinite(detector.score_samples(X)).all()


@models
def test_own_network_is_built_in(model, X, y):
    network = mlp_autoencoder(4, (7,), 3)
    detector = make(model=model, network=network).fit(X, y)
    vae = detector.module_.m2 if model == "m2" else detector.module_.m1
    assert repr(vae.encoder.encoder) == repr(network.encoder)
    assert repr(vae.decoder.decoder) == repr(network.decoder)
    assert isinstance(vae.decoder.likelihood, GaussianLikelihood)
    built = make(
        model=model, network=lambda d: AutoencoderNetwork(nn.Linear(d, 3), nn.Linear(3, d))
    )
    assert built.fit(X, y).transform(X).shape == (60, 2)
    with pytest.raises(ValueError, match="encoder and decoder"):
        make(model=model, network=nn.Linear(4, 2)).fit(X, y)


@models
@pytest.mark.parametrize("hidden_layer_sizes", [(), (3,), [5, 4, 3], np.array([4, 3])], ids=str)
def test_any_depth(model, hidden_layer_sizes, X, y):
    detector = make(model=model, hidden_layer_sizes=hidden_layer_sizes).fit(X, y)
    assert detector.transform(X).shape == (60, 2)
    layers = [m for m in detector.module_.m2.classifier.modules() if isinstance(m, nn.Linear)]
    widths = list(hidden_layer_sizes) or [2]  # without hidden layers, one of latent_dim
    assert [layer.out_features for layer in layers] == [*widths, 1]


# Numbers


@models
@pytest.mark.parametrize("scale", [1e30, 1e-30])
@pytest.mark.parametrize("scaler", ["standard", None])
def test_extreme_scales_have_finite_scores(model, scale, scaler, X, y):
    detector = make(model=model, scaler=scaler)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = detector.fit(scale * X, y).score_samples(scale * X)
        far = detector.score_samples(np.array([[1e30, -1e30, 0.0, 1e300]]))
    assert np.isfinite(scores).all() and np.isfinite(far).all()


@models
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_follow_the_precision_and_the_row(model, dtype, X, y):
    detector = make(model=model, max_iter=5).fit(X, y)
    rows = X.astype(dtype)
    scores = detector.score_samples(rows)
    assert scores.dtype == dtype
    tolerance = 1e-4 if dtype == np.float32 else 1e-9
    single = [detector.score_samples(rows[i : i + 1])[0] for i in range(60)]
    np.testing.assert_allclose(single, scores, atol=tolerance)
    again = make(model=model, max_iter=5).fit(X, y).score_samples(rows)
    np.testing.assert_array_equal(again, scores)


@models
@pytest.mark.parametrize("batch_norm", [False, True])
def test_batches_of_one_row(model, batch_norm, X, y):
    detector = make(model=model, batch_size=1, batch_norm=batch_norm).fit(X[:7], y[:7])
    assert np.isfinite(detector.loss_curve_).all()
    assert np.isfinite(detector.score_samples(X)).all()


def test_held_out_loss_and_averaged_weights(X, y):
    detector = make(early_stopping=True, ema_decay=0.9, max_iter=4).fit(X, y)
    assert all(np.isfinite(row["valid_loss"]) for row in detector.history_)
    again = make(early_stopping=True, ema_decay=0.9, max_iter=4).fit(X, y)
    np.testing.assert_array_equal(again.score_samples(X), detector.score_samples(X))
