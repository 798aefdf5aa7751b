"""VAE: likelihoods where they are known, the pull of the divergence, scores, rows drawn from it."""

import copy
import math
import pickle
import warnings

import joblib
import numpy as np
import pytest
import torch
from scipy.special import expit, logsumexp
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, Normalizer, StandardScaler
from skorch.callbacks import Callback
from torch import nn
from torch.distributions import Normal, kl_divergence

from anomaly_estimators import VAE, deep, load
from anomaly_estimators.nn.autoencoder import AutoencoderNetwork
from anomaly_estimators.nn.variational import Evidence
from anomaly_estimators.training import rows as training_rows

FLOWS = (None, "planar", "iaf")
flows = pytest.mark.parametrize("flow", FLOWS)
SCORES = ("reconstruction_probability", "elbo", "importance_weighted")


def make(**params):
    defaults = {
        "hidden_layer_sizes": (8,),
        "latent_dim": 2,
        "n_flows": 2,
        "n_draws": 12,
        "max_iter": 2,
        "random_state": 0,
        "device": "cpu",
    }
    return VAE(**{**defaults, **params})


@pytest.fixture(scope="module")
def X():
    rng = np.random.default_rng(0)
    return 3.0 + rng.normal(size=(80, 3)) @ rng.normal(size=(3, 5)) + rng.normal(size=(80, 5))


@pytest.fixture(scope="module")
def cancer():
    return load_breast_cancer().data


@pytest.fixture(scope="module")
def digits():
    return load_digits().data[:500] / 16.0


def double(detector):
    return copy.deepcopy(detector.module_).double()


# A model whose likelihood is known


class LinearModel:
    """x = W z + b + noise, with columns of W such that the posterior's coordinates are independent."""

    def __init__(self, n_features=6, scales=(3.0, 1.5)):
        rng = np.random.default_rng(0)
        self.width = len(scales)
        self.variance = 0.3 * np.exp(0.5 * rng.normal(size=n_features))
        directions, _ = np.linalg.qr(rng.normal(size=(n_features, self.width)))
        self.weight = np.sqrt(self.variance)[:, None] * directions * np.array(scales)
        self.bias = rng.normal(size=n_features)
        # W'/variance W is diagonal, with the squared scales.
        self.posterior_variance = 1.0 / (1.0 + np.square(scales))
        self.to_mean = self.posterior_variance[:, None] * self.weight.T / self.variance
        covariance = self.weight @ self.weight.T + np.diag(self.variance)
        self.distribution = multivariate_normal(self.bias, covariance)

    def rows(self, n, seed):
        return self.distribution.rvs(n, random_state=seed)

    def detector(self, *, shift=0.0, widen=0.0, **params):
        """A VAE whose weights were set by hand; its posterior is off by as much as is asked for."""
        detector = make(
            network=lambda d: AutoencoderNetwork(
                nn.Linear(d, self.width), nn.Linear(self.width, d)
            ),
            latent_dim=self.width,
            activation="identity",
            batch_norm=False,
            scaler=None,
            max_iter=1,
            **params,
        ).fit(self.rows(20, 0))
        module = detector.module_.double()
        log_variance = np.log(self.posterior_variance) + widen
        eye, zero = np.eye(self.width), np.zeros(self.width)
        for part, weight, bias in (
            (module.encoder.encoder, self.to_mean, -self.to_mean @ self.bias + shift),
            (
                module.encoder.posterior.layer,
                np.concatenate([eye, 0 * eye]),
                np.concatenate([zero, 8 * np.arctanh(log_variance / 8)]),
            ),
            (module.decoder.before[0], eye, zero),
            (module.decoder.decoder, self.weight, self.bias),
        ):
            with torch.no_grad():
                part.weight.copy_(torch.from_numpy(weight))
                part.bias.copy_(torch.from_numpy(bias))
        with torch.no_grad():
            scale = np.arctanh(np.log(self.variance) / 8)
            module.decoder.likelihood.scale.copy_(torch.from_numpy(scale))
        return detector

    def posterior(self, X, shift=0.0, widen=0.0):
        mean = torch.from_numpy((X - self.bias) @ self.to_mean.T + shift)
        deviation = torch.from_numpy(np.sqrt(self.posterior_variance * np.exp(widen)))
        return Normal(mean, deviation.expand_as(mean))


@pytest.fixture(scope="module")
def model():
    return LinearModel()


@pytest.mark.parametrize("score", ["elbo", "importance_weighted"])
@pytest.mark.parametrize("n_draws", [1, 7, 300])
def test_bounds_are_the_likelihood_at_the_posterior(score, n_draws, model):
    """log p(x, z) - log p(z|x) is log p(x) at every z."""
    detector = model.detector(n_draws=n_draws, anomaly_score=score)
    X = np.concatenate([model.rows(30, 1), 20.0 * model.rows(5, 2)])
    np.testing.assert_allclose(detector.score_samples(X), model.distribution.logpdf(X), rtol=1e-8)


@pytest.mark.parametrize("widen", [0.0, -1.0, 1.0])
@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_divergence_is_the_closed_form(shift, widen, model):
    X = model.rows(30, 1)
    found = model.detector(shift=shift, widen=widen).kl_divergence(X)
    prior = Normal(torch.zeros(1).double(), torch.ones(1).double())
    expected = kl_divergence(model.posterior(X, shift, widen), prior).sum(dim=1)
    assert found.shape == (30,) and found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-8)


WRONG = [(0.4, 0.0), (0.0, -1.0), (0.0, 0.8), (-0.3, 0.5)]


@pytest.mark.parametrize(("shift", "widen"), WRONG)
def test_bound_at_a_wrong_posterior_is_lower_by_its_divergence_from_the_right_one(
    shift, widen, model
):
    X, n_draws = model.rows(12, 1), 8000
    detector = model.detector(shift=shift, widen=widen, n_draws=n_draws, anomaly_score="elbo")
    gap = kl_divergence(model.posterior(X, shift, widen), model.posterior(X)).sum(dim=1).numpy()
    with torch.no_grad():
        draws = sum(double(detector).evidence(torch.from_numpy(X))).numpy()
    assert draws.shape == (12, n_draws)
    error = draws.std(axis=1) / np.sqrt(n_draws)
    expected = model.distribution.logpdf(X) - gap
    assert (np.abs(detector.score_samples(X) - expected) < 4.5 * error).all()
    assert (gap > 5 * error).all()


@pytest.mark.parametrize(("shift", "widen"), WRONG)
def test_importance_weighted_bound_rises_from_the_plain_one_to_the_likelihood(shift, widen, model):
    X = model.rows(40, 1)
    detector = model.detector(shift=shift, widen=widen, n_draws=4096)
    scores = {name: detector.set_params(anomaly_score=name).score_samples(X) for name in SCORES}
    true = model.distribution.logpdf(X)
    assert (scores["elbo"] < scores["importance_weighted"]).all()
    assert scores["elbo"].mean() < scores["importance_weighted"].mean() - 0.05
    np.testing.assert_allclose(scores["importance_weighted"], true, atol=0.25)
    with torch.no_grad():
        draws = sum(double(detector).evidence(torch.from_numpy(X))).numpy()
    means = [
        (logsumexp(draws.reshape(40, -1, size), axis=2) - math.log(size)).mean()
        for size in (1, 4, 16, 64, 4096)
    ]
    np.testing.assert_allclose(
        [means[0], means[-1]], [scores["elbo"].mean(), scores["importance_weighted"].mean()]
    )
    assert means == sorted(means) and abs(means[-1] - true.mean()) < 0.05


def test_reconstruction_probability_is_the_expected_likelihood(model):
    """At the posterior: log p(x) and the divergence from the prior together, over many draws."""
    X = model.rows(20, 1)
    detector = model.detector(n_draws=20_000)
    expected = model.distribution.logpdf(X) + detector.kl_divergence(X)
    np.testing.assert_allclose(detector.score_samples(X), expected, atol=0.1)


@pytest.mark.parametrize("flow", [None, "iaf"])
def test_fitted_model_reaches_the_entropy(flow, model):
    """In nats a row: what a linear model of these rows can reach at best is known."""
    detector = make(
        flow=flow,
        scaler=None,
        activation="identity",
        batch_norm=False,
        max_iter=12,
        learning_rate=0.02,
        lr_schedule="cosine",
        n_draws=30,
        anomaly_score="elbo",
    ).fit(model.rows(1500, 1))
    X = model.rows(1000, 2)
    true = model.distribution.logpdf(X)
    bound = detector.score_samples(X)
    assert bound.mean() == pytest.approx(true.mean(), abs=0.1)
    assert np.corrcoef(bound, true)[0, 1] > 0.99
    closer = detector.set_params(anomaly_score="importance_weighted").score_samples(X)
    assert bound.mean() < closer.mean() < true.mean() + 0.02
    # And the rows that it makes have the covariance of the model.
    drawn = detector.sample(20_000, random_state=0)
    np.testing.assert_allclose(drawn.mean(axis=0), model.bias, atol=0.15)
    scale = np.sqrt(np.diag(model.distribution.cov))
    difference = (np.cov(drawn.T) - model.distribution.cov) / np.outer(scale, scale)
    assert np.abs(difference).max() < 0.12


# The objective, and the pull of the divergence


@pytest.mark.parametrize(
    ("params", "progress", "factor"),
    [
        ({}, 0.0, 1.0),
        ({}, 1.0, 1.0),
        ({"kl_schedule": "cyclical"}, 0.0, 0.0),
        ({"kl_schedule": "cyclical"}, 0.0625, 0.5),
        ({"kl_schedule": "cyclical"}, 0.2, 1.0),
        ({"kl_schedule": "cyclical", "n_cycles": 1}, 0.0625, 0.125),
        ({"kl_schedule": "cyclical", "n_cycles": 2}, 0.625, 0.5),
        ({"kl_schedule": "cyclical"}, 1.0, 1.0),
        ({"kl_schedule": "capacity", "capacity": 3.0}, 0.0, 0.0),
        ({"kl_schedule": "capacity", "capacity": 3.0}, 0.25, 0.5),
        ({"kl_schedule": "capacity", "capacity": 3.0}, 0.75, 1.0),
        ({"kl_schedule": "capacity", "capacity": 3.0}, 1.0, 1.0),
    ],
    ids=str,
)
@pytest.mark.parametrize("beta", [0.0, 0.5, 40.0])
def test_loss_is_that_of_the_paper(params, progress, factor, beta, X):
    """Eq 1, and eq 2 with the capacity of Burgess et al."""
    detector = make(beta=beta, **params)
    phase = detector._phases(detector._build_module(5))[-1]
    log_likelihood, kl = torch.tensor([-3.0, -1.0, 5.0]), torch.tensor([0.5, 1.0, 0.3])
    evidence = Evidence(log_likelihood, kl)
    untold = phase.loss(evidence, None, None).item()
    phase.anneal(progress)
    found = phase.loss(evidence, None, None).item()
    pull = beta * factor * 0.6
    if "capacity" in params:
        pull = beta * abs(0.6 - factor * 3.0)
    assert found == pytest.approx(pull - 1.0 / 3.0, rel=1e-6)
    phase.anneal(1.0)
    assert phase.loss(evidence, None, None).item() == untold  # what it ends with


@pytest.mark.parametrize(
    ("flow", "likelihood", "betas"),
    [
        (None, "gaussian", (0.05, 0.5, 5.0, 50.0)),
        (None, "unit_gaussian", (0.05, 0.5, 5.0)),
        ("planar", "unit_gaussian", (0.1, 5.0)),
        ("iaf", "unit_gaussian", (0.1, 5.0)),
    ],
)
def test_divergence_falls_as_beta_grows(flow, likelihood, betas, cancer):
    found = []
    for beta in betas:
        detector = make(beta=beta, flow=flow, likelihood=likelihood, max_iter=6, latent_dim=4)
        detector.set_params(learning_rate=5e-3).fit(cancer)
        found.append(detector.kl_divergence(cancer).mean())
    assert all(low < 0.8 * high for high, low in zip(found, found[1:], strict=False)), found
    assert found[0] > 3.0 and found[-1] < 1.0


@pytest.mark.parametrize(
    ("flow", "capacity"), [(None, 0.5), (None, 3.0), (None, 8.0), ("planar", 3.0), ("iaf", 6.0)]
)
def test_divergence_meets_the_capacity(flow, capacity, cancer):
    detector = make(
        flow=flow,
        kl_schedule="capacity",
        capacity=capacity,
        beta=30.0,
        max_iter=14,
        latent_dim=4,
        learning_rate=7e-3,
    ).fit(cancer)
    assert detector.kl_divergence(cancer).mean() == pytest.approx(capacity, rel=0.2, abs=0.2)


def test_capacity_is_reached_step_by_step(digits):
    """It rises through the first half of the training, and the divergence with it."""

    class Record(Callback):
        def on_epoch_end(self, net, **kwargs):
            with torch.no_grad():
                kl = net.module_.eval().divergence(torch.from_numpy(digits).float()).mean()
            net.history.record("kl", kl.item())

    detector = make(
        kl_schedule="capacity",
        capacity=8.0,
        beta=30.0,
        max_iter=20,
        latent_dim=4,
        learning_rate=5e-3,
        scaler=None,
        likelihood="bernoulli",
        callbacks=[Record()],
    ).fit(digits)
    found = [row["kl"] for row in detector.history_]
    assert found[4] == pytest.approx(4.0, rel=0.25)  # at a quarter
    assert found[9] == pytest.approx(8.0, rel=0.2)
    assert found[19] == pytest.approx(8.0, rel=0.1)


def test_cycles_have_their_part(X):
    def losses(**params):
        detector = make(max_iter=8, batch_size=20, learning_rate=1e-12, **params)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return np.array(detector.fit(X).loss_curve_)

    constant = losses()
    none = losses(beta=0.0)
    kl = constant - none  # the same draws, whatever the weight
    assert (kl > 0).all()
    for n_cycles in (1, 2, 4):
        weights = (losses(kl_schedule="cyclical", n_cycles=n_cycles) - none) / kl
        steps = (np.arange(32) / 32 * n_cycles) % 1.0
        expected = np.minimum(1.0, 2 * steps).reshape(8, 4).mean(axis=1)
        np.testing.assert_allclose(weights, expected, atol=0.1)
    trained = [
        make(max_iter=8, **params).fit(X).score_samples(X)
        for params in ({}, {"kl_schedule": "cyclical"}, {"kl_schedule": "cyclical", "n_cycles": 2})
    ]
    assert not np.allclose(trained[0], trained[1]) and not np.allclose(trained[1], trained[2])


def test_held_out_rows_are_evaluated_with_the_weight_at_the_end(X):
    """By weights that do not move, and draws that are the same: losses differ by the weight alone."""

    def losses(**params):
        detector = make(
            early_stopping=True,
            n_iter_no_change=50,
            validation_fraction=0.5,
            max_iter=6,
            learning_rate=1e-12,
            beta=5.0,
            batch_size=10,
            **params,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            history = detector.fit(X).history_
        return (np.array([row[f"{kind}_loss"] for row in history]) for kind in ("train", "valid"))

    (train, valid), (annealed, held_out) = losses(), losses(kl_schedule="cyclical", n_cycles=1)
    np.testing.assert_allclose(held_out, valid, rtol=1e-6)
    assert annealed[0] < train[0] - 1.0
    # Capacities above the divergence: the losses are as far apart as they are.
    low, high = (losses(kl_schedule="capacity", capacity=capacity) for capacity in (50.0, 60.0))
    train, valid = (b - a for a, b in zip(low, high, strict=True))
    np.testing.assert_allclose(valid, 5.0 * 10.0, rtol=1e-4)
    progress = np.arange(24).reshape(6, 4) / 24
    np.testing.assert_allclose(train, 50.0 * np.minimum(1.0, 2 * progress).mean(axis=1), rtol=1e-4)


class Watch(Callback):
    """Keeps which parameters had a gradient, phase by phase."""

    def initialize(self):
        self.moved = {}
        type(self).last = self
        return self

    def on_grad_computed(self, net, named_parameters, **kwargs):
        names = {id(p): name for name, p in net.module_.named_parameters()}
        moved = self.moved.setdefault(net.phase_.name, set())
        moved.update(
            names[id(p)] for _, p in named_parameters if p.grad is not None and p.grad.any()
        )


@flows
@pytest.mark.parametrize("kl_schedule", ["constant", "capacity"])
def test_gradients_reach_every_parameter_and_the_loss_falls(flow, kl_schedule, X):
    detector = make(flow=flow, kl_schedule=kl_schedule, max_iter=12, callbacks=[Watch()])
    detector.set_params(learning_rate=5e-3, pretrain="end_to_end", pretrain_max_iter=1).fit(X)
    moved = Watch.last.moved
    names = {name for name, _ in detector.module_.named_parameters()}
    assert moved["training"] == names
    assert moved["pre-training"] == {
        name for name in names if name.startswith(("encoder.encoder.", "decoder.decoder."))
    }
    if kl_schedule == "constant":
        assert detector.loss_curve_[-1] < detector.loss_curve_[0] - 0.5
    assert detector.n_iter_ == 12 == len(detector.history_) - 1


# Scores


def log_likelihood(detector, X, z):
    """log p(x|z) at codes of shape (n, n_draws, latent_dim), of one row and draw after the other."""
    module, rows = double(detector), torch.from_numpy(detector.scaler_.transform(X))
    with torch.no_grad():
        outputs = module.decoder.decoder(module.decoder.before(z.flatten(0, 1)))
        outputs = outputs.reshape(*z.shape[:2], -1)
        rows = rows[:, None].expand_as(outputs)
        if detector.likelihood == "bernoulli":
            loss = nn.functional.binary_cross_entropy_with_logits
            return -loss(outputs, rows, reduction="none").sum(-1).numpy()
        deviation = torch.ones(rows.shape[-1]).double()
        if detector.likelihood == "gaussian":
            deviation = (4 * module.decoder.likelihood.scale.tanh()).exp()
        return Normal(outputs, deviation).log_prob(rows).sum(-1).numpy()


@flows
@pytest.mark.parametrize("likelihood", ["gaussian", "unit_gaussian", "bernoulli"])
def test_scores_are_those_of_a_plain_computation(flow, likelihood, X):
    detector = make(flow=flow, likelihood=likelihood, scaler="minmax", max_iter=5).fit(X)
    module = double(detector)
    assert module.noise.shape == (12, 2)
    rows = torch.from_numpy(detector.scaler_.transform(X))
    with torch.no_grad():
        hidden = module.encoder.hidden(rows)
        mean, log_variance = (part[:, None] for part in module.encoder.posterior(hidden))
        q = Normal(mean, (0.5 * log_variance).exp())
        z = mean + q.stddev * module.noise
        log_q = q.log_prob(z).sum(-1)
        if flow is not None:
            z, log_det = module.flow(z, hidden[:, None])
            log_q = log_q - log_det
        log_ratio = (Normal(0.0, 1.0).log_prob(z).sum(-1) - log_q).numpy()
        kl = (
            kl_divergence(q, Normal(0.0, 1.0)).sum(-1)[:, 0] if flow is None else -log_ratio.mean(1)
        )
    likelihoods = log_likelihood(detector, X, z)
    expected = {
        "reconstruction_probability": likelihoods.mean(axis=1),
        "elbo": (likelihoods + log_ratio).mean(axis=1),
        "importance_weighted": logsumexp(likelihoods + log_ratio, axis=1, b=1 / 12),
    }
    for name in SCORES:
        found = detector.set_params(anomaly_score=name).score_samples(X)
        np.testing.assert_allclose(found, expected[name], rtol=1e-9, atol=1e-9, err_msg=name)
    fitted = clone(detector).fit(X)
    np.testing.assert_array_equal(fitted.score_samples(X), found)
    assert (fitted.predict(X) == -1).sum() == 8
    np.testing.assert_allclose(detector.kl_divergence(X), kl, rtol=1e-9, atol=1e-12)


@flows
def test_a_row_has_one_score(flow, X):
    """Alone, in a batch, in another order, again: the noise is the same for all rows."""
    detector = make(flow=flow, max_iter=5).fit(X)
    state, rounded = torch.get_rng_state(), X.astype(np.float32)
    for score in SCORES:
        detector.set_params(anomaly_score=score)
        scores = detector.score_samples(X)
        assert scores.dtype == np.float64
        np.testing.assert_array_equal(detector.score_samples(X), scores)
        close = {"rtol": 1e-9, "atol": 1e-9}
        single = [detector.score_samples(X[i : i + 1])[0] for i in range(0, 80, 9)]
        np.testing.assert_allclose(single, scores[::9], **close)
        np.testing.assert_allclose(detector.score_samples(X[::-1])[::-1], scores, **close)
        twice = detector.score_samples(np.repeat(X[:1], 3, axis=0))
        np.testing.assert_allclose(twice, scores[0], **close)
        in_single, expected = (detector.score_samples(x) for x in (rounded, rounded.astype(float)))
        assert in_single.dtype == np.float32
        np.testing.assert_allclose(in_single, expected, rtol=1e-4, atol=1e-4)
    divergence = detector.kl_divergence(X)
    np.testing.assert_array_equal(detector.kl_divergence(X), divergence)
    assert detector.kl_divergence(rounded).dtype == np.float32
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("decoded", [1, 5, 10**9])
@flows
def test_scores_do_not_depend_on_how_many_draws_are_decoded_at_a_time(
    flow, decoded, X, monkeypatch
):
    from anomaly_estimators.variational import evidence

    detector = make(flow=flow, anomaly_score="elbo").fit(X)
    expected = detector.score_samples(X), detector.kl_divergence(X)
    monkeypatch.setattr(evidence, "_DECODED_ROWS", decoded)
    found = detector.score_samples(X), detector.kl_divergence(X)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("flow", [None, "iaf"])
def test_noise_is_a_part_of_the_model(flow, X, tmp_path):
    detector = make(flow=flow, max_iter=3).fit(X)
    detector.save(tmp_path / "model")
    joblib.dump(detector, tmp_path / "model.joblib")
    scores, drawn = detector.score_samples(X), detector.sample(5, random_state=1)
    for again in (
        pickle.loads(pickle.dumps(detector)),
        load(tmp_path / "model"),
        joblib.load(tmp_path / "model.joblib", mmap_mode="r"),
        make(flow=flow, max_iter=3).fit(X),
    ):
        np.testing.assert_array_equal(again.score_samples(X), scores)
        np.testing.assert_array_equal(again.sample(5, random_state=1), drawn)
        np.testing.assert_array_equal(again.kl_divergence(X), detector.kl_divergence(X))
        assert torch.equal(again.module_.noise, detector.module_.noise)
    other = make(flow=flow, max_iter=3, random_state=1).fit(X)
    assert not torch.equal(other.module_.noise, detector.module_.noise)
    noise = make(n_draws=20_000, max_iter=1).fit(X).module_.noise
    assert noise.mean().abs() < 0.03 and (noise.T.cov() - torch.eye(2)).abs().max() < 0.03


def test_second_fit_goes_on_with_the_noise_of_the_first(X):
    detector = make(warm_start=True, kl_schedule="capacity", flow="planar").fit(X)
    noise, scores = detector.module_.noise.clone(), detector.score_samples(X)
    detector.fit(X)
    assert torch.equal(detector.module_.noise, noise)
    assert len(detector.history_) == 4 and (detector.score_samples(X) != scores).any()


@flows
def test_far_rows_rank_below_near_ones(flow, cancer):
    detector = make(flow=flow, max_iter=4, latent_dim=4).fit(cancer)
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(20, cancer.shape[1])) * cancer.std(axis=0)
    for score in SCORES:
        detector.set_params(anomaly_score=score)
        found = [
            np.median(detector.score_samples(cancer.mean(axis=0) + size * directions))
            for size in (0.3, 3.0, 10.0, 100.0, 1e4)
        ]
        assert found == sorted(found, reverse=True)
        far = detector.score_samples(cancer.mean(axis=0) + 30.0 * directions)
        assert far.max() < np.median(detector.score_samples(cancer))


def test_far_rows_of_a_bernoulli_model_rank_below_near_ones(cancer):
    """Beyond 0 and 1 after scaling there is nothing that such a model would expect."""
    detector = make(likelihood="bernoulli", scaler="minmax", max_iter=10, latent_dim=4).fit(cancer)
    low, high = cancer.min(axis=0), cancer.max(axis=0)
    near = np.median(detector.score_samples(cancer))
    for corner in (low, high):
        outwards = corner - cancer.mean(axis=0)
        rows = np.array([cancer.mean(axis=0) + size * outwards for size in (1.0, 3.0, 10.0, 1e3)])
        found = detector.score_samples(rows)
        assert found[1:].max() < near
        assert sorted(found, reverse=True) == found.tolist()


# Codes and rows


def easy(n=400, seed=0):
    """Rows near a plane, on scales of their own."""
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(9).normal(size=(2, 6))
    X = rng.normal(size=(n, 2)) @ directions + 0.1 * rng.normal(size=(n, 6))
    return X * np.array([1.0, 10.0, 0.1, 1.0, 5.0, 1.0]) + np.array([0, 100.0, 0, -3.0, 0, 7.0])


@pytest.fixture(scope="module")
def on_a_plane():
    network = {"hidden_layer_sizes": (16,), "activation": "identity", "batch_norm": False}
    return make(max_iter=40, learning_rate=0.01, lr_schedule="cosine", **network).fit(easy())


def test_decoded_codes_are_near_the_rows(on_a_plane):
    X = easy(seed=1)
    codes = on_a_plane.transform(X)
    assert codes.shape == (400, 2) and codes.dtype == np.float64
    decoded = on_a_plane.inverse_transform(codes)
    error = (decoded - X) / X.std(axis=0)
    assert np.sqrt((error**2).mean()) < 0.25
    # float32 codes have float32 rows, and single ones are those of a batch.
    single = on_a_plane.inverse_transform(codes.astype(np.float32))
    assert single.dtype == np.float32 and decoded.dtype == np.float64
    np.testing.assert_allclose(single, decoded, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(on_a_plane.inverse_transform(codes[3:4])[0], decoded[3])
    assert on_a_plane.get_feature_names_out().tolist() == ["code0", "code1"]


@flows
@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_decoded_rows_are_the_mean_of_the_likelihood(flow, likelihood, X):
    detector = make(flow=flow, likelihood=likelihood, scaler="minmax").fit(X)
    codes = detector.transform(X)
    with torch.no_grad():
        module, rows = double(detector), torch.from_numpy(detector.scaler_.transform(X))
        hidden = module.encoder.hidden(rows)
        z = module.encoder.posterior(hidden).mean
        z = z if flow is None else module.flow(z, hidden).z
        outputs = module.decoder(z).numpy()
    np.testing.assert_allclose(codes, z, rtol=1e-9, atol=1e-12)
    mean = expit(outputs) if likelihood == "bernoulli" else outputs
    expected = X.min(axis=0) + mean * np.ptp(X, axis=0)
    np.testing.assert_allclose(detector.inverse_transform(codes), expected, rtol=1e-7)


def test_drawn_rows_are_like_the_training_rows(on_a_plane):
    X, drawn = easy(), on_a_plane.sample(20_000, random_state=0)
    assert drawn.shape == (20_000, 6) and drawn.dtype == np.float64
    scale = X.std(axis=0)
    np.testing.assert_allclose((drawn.mean(axis=0) - X.mean(axis=0)) / scale, 0.0, atol=0.15)
    difference = (np.cov(drawn.T) - np.cov(X.T)) / np.outer(scale, scale)
    assert np.abs(difference).max() < 0.35
    assert np.median(on_a_plane.score_samples(drawn)) == pytest.approx(
        np.median(on_a_plane.score_samples(X)), abs=1.0
    )


def test_drawn_rows_are_their_mean_and_its_grain(on_a_plane):
    means = on_a_plane.sample(5000, random_state=3, noise=False)
    codes = np.random.RandomState(3).standard_normal((5000, 2))
    np.testing.assert_allclose(on_a_plane.inverse_transform(codes), means, rtol=1e-9)
    grain = on_a_plane.sample(5000, random_state=3) - means
    scale = (4 * double(on_a_plane).decoder.likelihood.scale.tanh()).exp().detach().numpy()
    expected = scale * on_a_plane.scaler_.scale_
    np.testing.assert_allclose(grain.std(axis=0), expected, rtol=0.06)
    correlation = np.corrcoef(grain.T) - np.eye(6)
    assert np.abs(correlation).max() < 0.08
    assert abs(np.corrcoef(grain[:-1, 0], grain[1:, 0])[0, 1]) < 0.08


def test_seeds_decide_what_is_drawn(on_a_plane):
    state = torch.get_rng_state()
    first = on_a_plane.sample(7, random_state=0)
    np.testing.assert_array_equal(on_a_plane.sample(7, random_state=0), first)
    assert not np.allclose(on_a_plane.sample(7, random_state=1), first)
    generator = np.random.RandomState(0)
    np.testing.assert_array_equal(on_a_plane.sample(7, random_state=generator), first)
    assert not np.allclose(on_a_plane.sample(7, random_state=generator), first)
    means = [on_a_plane.sample(7, random_state=seed, noise=False) for seed in (0, 1)]
    grain = [on_a_plane.sample(7, random_state=seed) - means[seed] for seed in (0, 1)]
    assert not np.allclose(*means) and not np.allclose(*grain)
    assert on_a_plane.sample().shape == (1, 6)
    assert not np.allclose(on_a_plane.sample(), on_a_plane.sample())
    assert on_a_plane.sample(np.int64(3), random_state=0).shape == (3, 6)
    assert torch.equal(torch.get_rng_state(), state)


def test_pieces_of_drawn_rows_have_noise_of_their_own(on_a_plane, monkeypatch):
    monkeypatch.setattr(training_rows, "_PIECE_VALUES", 2 * 50)
    drawn = on_a_plane.sample(200, random_state=0)
    means = on_a_plane.sample(200, random_state=0, noise=False)
    grain = ((drawn - means) / on_a_plane.scaler_.scale_).reshape(4, 50, 6)
    assert all(not np.allclose(grain[0], piece) for piece in grain[1:])
    monkeypatch.undo()
    np.testing.assert_allclose(on_a_plane.sample(200, random_state=0, noise=False), means)


@pytest.mark.parametrize("flow", [None, "planar"])
def test_bernoulli_rows_are_zeros_and_ones(flow, digits):
    detector = make(likelihood="bernoulli", scaler=None, flow=flow, max_iter=15)
    detector.set_params(learning_rate=0.02).fit(digits)
    drawn = detector.sample(3000, random_state=0)
    assert set(np.unique(drawn)) == {0.0, 1.0}
    probability = detector.sample(3000, random_state=0, noise=False)
    assert probability.min() >= 0.0 and probability.max() <= 1.0
    np.testing.assert_allclose(drawn.mean(axis=0), probability.mean(axis=0), atol=0.05)
    np.testing.assert_allclose(probability.mean(axis=0), digits.mean(axis=0), atol=0.15)


def test_bernoulli_rows_are_on_the_scale_of_the_training_rows(X):
    detector = make(likelihood="bernoulli", scaler="minmax").fit(X)
    drawn = detector.sample(200, random_state=0)
    for column, values in zip(drawn.T, X.T, strict=True):
        np.testing.assert_allclose(np.unique(column), [values.min(), values.max()])


def test_codes_and_scalers_that_cannot_be_decoded_are_refused(X):
    detector = make().fit(X)
    for width in (1, 3):
        with pytest.raises(ValueError, match=f"{width} columns, but the codes of this VAE have 2"):
            detector.inverse_transform(np.zeros((4, width)))
    with pytest.raises(ValueError, match="NaN"):
        detector.inverse_transform(np.full((4, 2), np.nan))
    one_way = make(scaler=Normalizer()).fit(X)
    for ask in (lambda: one_way.inverse_transform(np.zeros((4, 2))), lambda: one_way.sample(2)):
        with pytest.raises(ValueError, match="no inverse_transform.*scaler=None"):
            ask()
    for n_samples in (0, -1, 2.5, "3", None):
        with pytest.raises(ValueError, match="n_samples must be an integer of at least 1"):
            detector.sample(n_samples)
    for ask in (
        lambda: make().sample(),
        lambda: make().kl_divergence(X),
        lambda: make().inverse_transform(np.zeros((4, 2))),
    ):
        with pytest.raises(NotFittedError):
            ask()
    with pytest.raises(ValueError, match="4 features.*expecting 5"):
        detector.kl_divergence(X[:, :4])


def test_own_scaler_is_inverted(X):
    found = [
        make(scaler=scaler).fit(X).sample(9, random_state=0)
        for scaler in ("minmax", MinMaxScaler())
    ]
    np.testing.assert_array_equal(*found)


# Rows piece by piece


@pytest.mark.parametrize("rows_a_piece", [1, 2, 7, 79, 80, 1000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_goes_along_with_rows_is_cut_in_step(rows_a_piece, dtype, X, monkeypatch):
    detector = make(scaler=None).fit(X)
    X, seen = X.astype(dtype), []
    numbers = np.arange(80)
    table = np.random.default_rng(0).normal(size=(80, 3, 2))

    def function(module, rows, number, values):
        seen.append(len(rows))
        assert len(rows) == len(number) == len(values)
        return torch.cat([rows, number[:, None], values.flatten(1)], dim=1)

    monkeypatch.setattr(training_rows, "_PIECE_VALUES", 5 * rows_a_piece)
    found = np.concatenate(list(detector._map(function, X, numbers, table)))
    assert seen == [min(rows_a_piece, 80 - i) for i in range(0, 80, rows_a_piece)]
    assert found.dtype == dtype
    expected = np.column_stack([X, numbers, table.reshape(80, 6)])
    np.testing.assert_allclose(found, expected, rtol=1e-6 if dtype == np.float32 else 0)


@pytest.mark.parametrize("rows_a_piece", [1, 7, 80])
def test_scores_do_not_depend_on_the_pieces(rows_a_piece, X, monkeypatch):
    detector = make(flow="iaf").fit(X)
    ask = (detector.score_samples, detector.kl_divergence, detector.transform)
    expected = [method(X) for method in ask]
    monkeypatch.setattr(training_rows, "_PIECE_VALUES", 5 * rows_a_piece)
    for method, values in zip(ask, expected, strict=True):
        np.testing.assert_allclose(method(X), values, rtol=1e-9, atol=1e-9)


# Interrupted fits, searches, own networks


class Stop(Callback):
    """Raise an error on a batch of an epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_begin(self, net, **kwargs):
        self.n_batches = 0

    def on_batch_begin(self, net, training, **kwargs):
        self.n_batches += 1
        if len(net.history) == self.epoch and self.n_batches == 2:
            raise RuntimeError("power cut")


@pytest.mark.parametrize("epoch", [2, 5])
@pytest.mark.parametrize(
    "params",
    [
        {"kl_schedule": "cyclical", "n_cycles": 2},
        {"kl_schedule": "capacity", "flow": "iaf"},
        {"kl_schedule": "capacity", "flow": "planar", "early_stopping": True, "ema_decay": 0.9},
        {"kl_schedule": "cyclical", "pretrain": "end_to_end", "pretrain_max_iter": 1},
    ],
    ids=str,
)
def test_stopped_fit_ends_as_an_uninterrupted_one(params, epoch, X, tmp_path, monkeypatch):
    monkeypatch.setattr(deep.DeepDetector, "_checkpoint_interval", 0.0)
    params = {"max_iter": 6, "batch_size": 20, "learning_rate": 0.01, **params}
    whole = make(**params).fit(X)
    path = tmp_path / "fit.pt"
    with pytest.raises(RuntimeError, match="power cut"):
        make(checkpoint=path, callbacks=[Stop(epoch)], **params).fit(X)
    assert list(tmp_path.iterdir())
    resumed = make(checkpoint=path, **params).fit(X)
    for name, tensor in whole.module_.state_dict().items():
        assert torch.equal(resumed.module_.state_dict()[name], tensor), name
    assert resumed.loss_curve_ == whole.loss_curve_
    np.testing.assert_array_equal(resumed.score_samples(X), whole.score_samples(X))
    assert resumed.offset_ == whole.offset_


def test_beta_can_be_searched_for_in_a_pipeline(cancer):
    line = make_pipeline(StandardScaler(), make(scaler=None, max_iter=4, learning_rate=5e-3))
    search = GridSearchCV(line, {"vae__beta": [0.1, 100.0]}, cv=2)
    search.fit(cancer)
    # By the reconstruction probability: the lower the weight, the closer.
    assert search.best_params_["vae__beta"] == 0.1
    assert np.diff(search.cv_results_["mean_test_score"]) < -1.0
    best = search.best_estimator_
    assert best[-1].kl_divergence(best[:-1].transform(cancer)).mean() > 1.0
    assert search.predict(cancer).shape == (569,)


@flows
@pytest.mark.parametrize("shape", [(1, 8, 8), (4, 16)], ids=str)
def test_images_and_series(flow, shape, digits):
    detector = make(
        flow=flow,
        input_shape=shape,
        channels=(2, 3),
        likelihood="bernoulli",
        scaler=None,
        max_iter=1,
    ).fit(digits[:60])
    assert any("Conv" in type(part).__name__ for part in detector.module_.encoder.modules())
    assert detector.sample(2).shape == (2, 64)
    assert detector.inverse_transform(detector.transform(digits[:5])).shape == (5, 64)
    assert np.isfinite(detector.score_samples(digits)).all()


@flows
@pytest.mark.parametrize(
    ("hidden_layer_sizes", "latent_dim"), [((), 3), ((3,), 1), ([5, 4], 1)], ids=str
)
def test_any_depth_and_width(flow, hidden_layer_sizes, latent_dim, X):
    detector = make(flow=flow, hidden_layer_sizes=hidden_layer_sizes, latent_dim=latent_dim).fit(X)
    assert detector.transform(X).shape == (80, latent_dim)
    assert detector.module_.noise.shape == (12, latent_dim)
    own = AutoencoderNetwork(nn.Linear(5, 7), nn.Linear(7, 5))
    built = make(flow=flow, latent_dim=latent_dim, network=own).fit(X)
    assert np.isfinite(built.score_samples(X)).all()


# Parameters and numbers


@pytest.mark.parametrize(
    "params",
    [
        {"beta": -0.1},
        {"kl_schedule": "linear"},
        {"n_cycles": 0},
        {"n_cycles": 1.5},
        {"capacity": -1.0},
        {"flow": "radial"},
        {"n_flows": 0},
        {"n_draws": 0},
        {"anomaly_score": "energy"},
        {"likelihood": "poisson"},
    ],
    ids=str,
)
def test_impossible_parameters_are_refused(params, X):
    with pytest.raises(ValueError, match=f"The '{next(iter(params))}' parameter of VAE"):
        make(**params).fit(X)


def test_numbers_of_flows_and_draws_are_taken(X):
    for flow in ("planar", "iaf"):
        sizes = [
            sum(p.numel() for p in make(flow=flow, n_flows=n).fit(X).module_.flow.parameters())
            for n in (1, 3)
        ]
        assert sizes[1] == 3 * sizes[0]
    assert make(n_flows=3).fit(X).module_.flow is None
    few, many = (make(n_draws=n, max_iter=4).fit(X) for n in (1, 400))
    assert not np.allclose(few.score_samples(X), many.score_samples(X))


@pytest.mark.parametrize("scaler", ["standard", "robust"])
def test_bernoulli_features_are_not_standardised(scaler, X):
    with pytest.raises(ValueError, match="scaler='minmax'"):
        make(likelihood="bernoulli", scaler=scaler).fit(X)


@pytest.mark.parametrize("pretrain", [None, "end_to_end"])
@pytest.mark.parametrize("value", [-0.1, 1.1, 1e300])
def test_bernoulli_features_lie_between_0_and_1(pretrain, value, digits):
    rows = digits[:60].copy()
    detector = make(flow="planar", pretrain=pretrain, likelihood="bernoulli", scaler=None).fit(rows)
    before = detector.score_samples(rows)
    spoilt = rows.copy()
    spoilt[17, 2] = value
    with pytest.raises(ValueError, match=r"needs rows in \[0, 1\]"):
        detector.fit(spoilt)
    np.testing.assert_array_equal(detector.score_samples(rows), before)  # still fitted


def test_bernoulli_features_of_a_warm_start_lie_between_0_and_1(digits):
    detector = make(likelihood="bernoulli", scaler=None, warm_start=True).fit(digits)
    before = detector.score_samples(digits)
    with pytest.raises(ValueError, match=r"needs rows in \[0, 1\]"):
        detector.fit(16.0 * digits)
    np.testing.assert_array_equal(detector.score_samples(digits), before)
    detector.fit(digits[::-1])


@flows
@pytest.mark.parametrize("scale", [1e30, 1e-30])
@pytest.mark.parametrize("scaler", ["standard", None])
def test_extreme_scales_have_finite_scores(flow, scale, scaler, X):
    detector = make(flow=flow, scaler=scaler)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector.fit(scale * X)
        for score in SCORES:
            detector.set_params(anomaly_score=score)
            assert np.isfinite(detector.score_samples(scale * X)).all()
            far = detector.score_samples(np.array([[1e30, -1e30, 0.0, 1e300, 1.0]]))
            assert np.isfinite(far).all()


@flows
def test_few_rows_and_features(flow, X):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for rows in (X[:2], X[:3, :1], np.ones((9, 3)), np.zeros((5, 1))):
            detector = make(flow=flow, batch_size=1).fit(rows)
            assert np.isfinite(detector.score_samples(rows)).all()
            assert np.isfinite(detector.sample(3, random_state=0)).all()
