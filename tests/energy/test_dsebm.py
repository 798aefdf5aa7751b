"""DSEBM: an energy learned by denoising, and the two scores that it gives."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score
from skorch.callbacks import Callback
from torch import nn

from anomaly_estimators import DSEBM, UAI, Autoencoder, DeepDetector, load

SCORES = ("energy", "reconstruction")
SMALL = {
    "hidden_layer_sizes": (6, 5),
    "latent_dim": 3,
    "max_iter": 3,
    "learning_rate": 0.01,
    "random_state": 0,
    "device": "cpu",
}


def make(**params):
    return DSEBM(**{**SMALL, **params})


@pytest.fixture(scope="module")
def X():
    return load_wine().data


def scaled(X):
    return (X - X.mean(0)) / X.std(0)


def energies(detector, X):
    """Energy and its gradient, layer by layer in NumPy."""
    state = {name: t.double().numpy() for name, t in detector.module_.state_dict().items()}
    weights = [v for name, v in state.items() if name.endswith("weight")]
    biases = [v for name, v in state.items() if name.endswith(".bias")]
    h, slopes = X, []
    for W, b in zip(weights, biases, strict=True):
        z = h @ W.T + b
        h, slope = np.logaddexp(0, z), 1 / (1 + np.exp(-z))
        slopes.append(slope)
    back = np.ones_like(h)
    for W, slope in zip(weights[::-1], slopes[::-1], strict=True):
        back = (back * slope) @ W
    offset = X - state["visible_bias"]
    return 0.5 * (offset**2).sum(1) - h.sum(1), offset - back, h


# The scores


@pytest.mark.parametrize("params", [{}, {"hidden_layer_sizes": ()}, {"latent_dim": 1}], ids=str)
def test_scores_and_codes_are_those_of_numpy(params, X):
    detector = make(**params).fit(X)
    energy, gradient, h = energies(detector, scaled(X))
    np.testing.assert_allclose(detector.score_samples(X), -energy, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(detector.transform(X), h, rtol=1e-8)
    detector.set_params(anomaly_score="reconstruction")
    np.testing.assert_allclose(detector.score_samples(X), -(gradient**2).sum(1), rtol=1e-8)
    np.testing.assert_allclose(detector.transform(X), h, rtol=1e-8)


@pytest.mark.parametrize("score", SCORES)
def test_switched_score_is_that_of_a_fit_with_it(score, X):
    other = SCORES[1 - SCORES.index(score)]
    switched = make(anomaly_score=other).fit(X)
    offset = switched.offset_
    before = switched.score_samples(X)
    switched.set_params(anomaly_score=score)
    fitted = make(anomaly_score=score).fit(X)
    np.testing.assert_array_equal(switched.score_samples(X), fitted.score_samples(X))
    assert not np.isclose(before, fitted.score_samples(X)).any()
    # The threshold is that of the score in fit.
    assert switched.offset_ == offset != fitted.offset_
    assert (fitted.predict(X) == -1).sum() == 17


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize(
    "params",
    [{}, {"input_shape": (1, 13), "channels": (3,)}, {"scaler": "minmax", "activation": "tanh"}],
    ids=str,
)
def test_a_row_has_one_score(score, params, X):
    detector = make(anomaly_score=score, **params).fit(X)
    state = torch.get_rng_state()
    scores = detector.score_samples(X)
    np.testing.assert_array_equal(detector.score_samples(X), scores)
    single = [detector.score_samples(X[i : i + 1])[0] for i in range(0, 178, 11)]
    np.testing.assert_allclose(single, scores[::11], rtol=1e-9)
    np.testing.assert_allclose(detector.score_samples(X[::-1])[::-1], scores, rtol=1e-9)
    rounded = X.astype(np.float32)
    found = detector.score_samples(rounded)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, detector.score_samples(rounded.astype(float)), rtol=1e-3)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("score", SCORES)
def test_scoring_leaves_no_gradients(score, mode, X):
    detector = make(anomaly_score=score).fit(X)
    scores = detector.score_samples(X)
    for parameter in detector.module_.parameters():
        parameter.grad = None
    for rows in (X, X.astype(np.float32)):
        with mode():
            found = detector.score_samples(rows)
        np.testing.assert_allclose(found, scores, rtol=1e-3)
    assert all(parameter.grad is None for parameter in detector.module_.parameters())


@pytest.mark.parametrize("score", SCORES)
def test_latent_and_score_in_one_pass_are_those_of_two(score, X):
    detector = make(anomaly_score=score).fit(X)
    rows = torch.from_numpy(scaled(X)).float()
    latent, found = detector._module_latent_and_score(detector.module_, rows)
    assert latent.requires_grad
    with torch.no_grad():
        assert torch.equal(latent, detector._module_transform(detector.module_, rows))
        torch.testing.assert_close(found, detector._module_score(detector.module_, rows))
    audited = UAI(detector, n_steps=3, random_state=0).fit(X, np.repeat([0, 1, -1], [158, 10, 10]))
    assert np.isfinite(audited.score_samples(X)).all()


# The objective


@pytest.mark.parametrize("noise", [0.3, 2.0])
def test_loss_is_the_error_of_the_row_rebuilt_from_the_noisy_one(noise, X):
    """Of a one-layer network, written with tied weights; the mean over many draws of the noise."""
    torch.manual_seed(0)
    layer = nn.Linear(13, 4)
    still = {"network": layer, "learning_rate": 1e-12, "batch_size": 178, "noise": noise}
    detector = make(max_iter=200, **still).fit(X)
    W, b = (p.detach().double().numpy() for p in layer.parameters())
    noisy = scaled(X) + noise * np.random.default_rng(0).normal(size=(200, *X.shape))
    rebuilt = 1 / (1 + np.exp(-(noisy @ W.T + b))) @ W
    expected = ((scaled(X) - rebuilt) ** 2).sum(2).mean()
    assert np.mean(detector.loss_curve_) == pytest.approx(expected, rel=0.01)
    assert np.std(detector.loss_curve_) > 0


def test_held_out_rows_meet_the_same_noise_in_every_epoch(X):
    still = {"learning_rate": 1e-12, "early_stopping": True, "max_iter": 5, "random_state": 1}
    losses = {}
    for noise in (1e-6, 3.0):
        detector = make(noise=noise, **still).fit(X)
        losses[noise] = [row["valid_loss"] for row in detector.history_]
        np.testing.assert_allclose(losses[noise], losses[noise][0], rtol=1e-6)
    assert losses[3.0][0] > 1.01 * losses[1e-6][0]


@pytest.mark.parametrize("noise", [0.5, 1.0])
def test_score_matching_finds_the_density_of_noisy_gaussian_rows(noise):
    rng = np.random.default_rng(0)
    mean, root = np.array([0.5, -0.5]), np.array([[1.0, 0.0], [0.6, 0.6]])
    detector = DSEBM(
        noise=noise,
        hidden_layer_sizes=(32,),
        latent_dim=16,
        scaler=None,
        max_iter=60,
        batch_size=128,
        learning_rate=5e-3,
        lr_schedule="cosine",
        random_state=0,
        device="cpu",
    ).fit(mean + rng.normal(size=(4000, 2)) @ root.T)
    precision = np.linalg.inv(root @ root.T + noise**2 * np.eye(2))
    rows = mean + rng.normal(size=(500, 2)) @ root.T
    rows += noise * rng.normal(size=(500, 2))
    network = detector.module_.double()
    found = -network.gradient(torch.from_numpy(rows)).numpy() / noise**2
    true = -(rows - mean) @ precision
    error = np.square(found - true).sum() / np.square(true).sum()
    assert error < 0.03
    # The energy is then minus the logarithm of the density, up to a constant.
    energy = -detector.score_samples(rows) / noise**2
    log_density = -0.5 * (((rows - mean) @ precision) * (rows - mean)).sum(1)
    slope = np.polyfit(log_density, energy, 1)[0]
    assert slope == pytest.approx(-1.0, abs=0.1)
    assert np.corrcoef(energy, log_density)[0, 1] < -0.99


def test_training_lowers_the_loss_and_anomalies_are_found():
    X, y = load_breast_cancer(return_X_y=True)
    benign = np.flatnonzero(y == 1)
    detector = DSEBM(max_iter=60, random_state=0).fit(X[benign[::2]])
    assert detector.loss_curve_[-1] < 0.5 * detector.loss_curve_[0]
    rest = np.r_[X[benign[1::2]], X[y == 0]]
    truth = np.r_[np.zeros(len(benign) // 2), np.ones((y == 0).sum())]
    for score in SCORES:
        scores = detector.set_params(anomaly_score=score).score_samples(rest)
        assert roc_auc_score(truth, -scores) > 0.9, score


def test_training_that_fails_warns(X):
    with pytest.warns(ConvergenceWarning, match="not finite"):
        make(learning_rate=1e20, max_iter=8).fit(X)
    with pytest.warns(ConvergenceWarning, match="did not move"):
        make(learning_rate=1e-60).fit(X)


# Networks


@pytest.mark.parametrize("activation", ["elu", "gelu", "sigmoid", "silu", "softplus", "tanh"])
def test_smooth_activations_train_every_parameter(activation, X):
    detector = make(activation=activation)
    module = detector._build_module(13)
    phase = detector._phases(module)[-1]
    rows = torch.from_numpy(scaled(X)).float()
    phase.loss(module(rows), rows, None).backward()
    assert all(p.grad is not None and p.grad.any() for p in module.parameters())


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "identity"])
def test_energies_with_kinks_are_refused(activation, X):
    with pytest.raises(ValueError, match=r"take a smooth one, .*softplus"):
        make(activation=activation).fit(X)


def test_batch_normalisation_is_refused(X):
    with pytest.raises(ValueError, match="set batch_norm=False"):
        make(batch_norm=True).fit(X)
    network = nn.Sequential(nn.Linear(13, 4), nn.BatchNorm1d(4), nn.Softplus(), nn.Linear(4, 2))
    with pytest.raises(ValueError, match="LayerNorm"):
        make(network=network).fit(X)
    network[1] = nn.LayerNorm(4)
    scores = make(network=network).fit(X).score_samples(X)
    assert len(np.unique(scores)) > 170


def test_images_are_folded_and_convolved():
    rows = load_digits().data[:150]
    detector = make(input_shape=(1, 8, 8), channels=(4,), max_iter=15).fit(rows)
    assert any(isinstance(layer, nn.Conv2d) for layer in detector.module_.modules())
    assert detector.loss_curve_[-1] < 0.9 * detector.loss_curve_[0]
    for score in SCORES:
        assert np.isfinite(detector.set_params(anomaly_score=score).score_samples(rows)).all()
    assert detector.transform(rows).shape == (150, 3)


@pytest.mark.parametrize("pretrain", ["end_to_end", "layerwise"])
def test_pretraining_comes_first_and_its_decoder_is_dropped(pretrain, X):
    detector = make(pretrain=pretrain, pretrain_max_iter=2).fit(X)
    phases = [row["phase"] for row in detector.history_]
    assert phases[-5:] == ["pre-training"] * 2 + ["training"] * 3
    assert not any("decoder" in name for name in detector.module_.state_dict())
    trained = make(network=Autoencoder(latent_dim=3, max_iter=1).fit(X).module_).fit(X)
    assert trained.transform(X).shape == (178, 3)


def test_own_network_is_what_comes_before_the_last_activation(X):
    detector = make(network=lambda d: nn.Linear(d, 5), activation="tanh").fit(X)
    layer = detector.module_.encoder
    with torch.no_grad():
        expected = np.tanh(layer.double()(torch.from_numpy(scaled(X))).numpy())
    np.testing.assert_allclose(detector.transform(X), expected, rtol=1e-9)


# Life of an estimator


def test_warm_start_goes_on_under_other_noise(X):
    detector = make(noise=2.0, warm_start=True, max_iter=30).fit(X)
    loud = np.mean(detector.loss_curve_[-5:])
    detector.set_params(noise=0.1).fit(X)
    assert detector.loss_curve_[30] < 0.9 * loud
    assert detector.n_iter_ == 60 and detector.module_.noise == 0.1


def test_stopped_and_averaged_trainings(X):
    detector = make(early_stopping=True, n_iter_no_change=3, max_iter=150, ema_decay=0.9).fit(X)
    losses = [row["valid_loss"] for row in detector.history_]
    assert np.isfinite(losses).all() and min(losses) < 0.9 * losses[0]
    plain = make(early_stopping=True, n_iter_no_change=3, max_iter=150).fit(X)
    assert not np.isclose(plain.score_samples(X), detector.score_samples(X)).all()


@pytest.mark.parametrize("params", [{}, {"pretrain": "layerwise", "noise": 0.7}], ids=str)
@pytest.mark.parametrize("score", SCORES)
def test_files_and_pickles(score, params, X, tmp_path):
    detector = make(anomaly_score=score, **params).fit(X)
    detector.save(tmp_path / "model")
    for other in (load(tmp_path / "model"), pickle.loads(pickle.dumps(detector))):
        assert other.get_params() == detector.get_params()
        assert repr(other.module_) == repr(detector.module_)
        np.testing.assert_array_equal(other.score_samples(X), detector.score_samples(X))
        np.testing.assert_array_equal(other.fit(X).score_samples(X), detector.score_samples(X))


class Stop(Callback):
    def on_batch_begin(self, net, training, **kwargs):
        if len(net.history) == 4:
            raise RuntimeError("power cut")


@pytest.mark.parametrize("early_stopping", [False, True])
def test_stopped_fit_ends_as_an_uninterrupted_one(early_stopping, X, tmp_path, monkeypatch):
    monkeypatch.setattr(DeepDetector, "_checkpoint_interval", 0.0)
    params = {"max_iter": 6, "early_stopping": early_stopping}
    path = tmp_path / "fit.pt"
    with pytest.raises(RuntimeError, match="power cut"):
        make(checkpoint=path, callbacks=[Stop()], **params).fit(X)
    resumed = make(checkpoint=path, **params).fit(X)
    np.testing.assert_array_equal(resumed.score_samples(X), make(**params).fit(X).score_samples(X))


@pytest.mark.parametrize("noise", [-0.1, 0, "0.1", None, np.nan])
def test_impossible_noise_is_refused(noise, X):
    with pytest.raises(ValueError, match="'noise' parameter"):
        make(noise=noise).fit(X)


@pytest.mark.parametrize("score", SCORES)
def test_far_rows_are_finite_and_far(score, X):
    detector = make(anomaly_score=score).fit(X)
    far = np.r_[X[:1] + 1e6, X[:1] + 1e30, X[:1] + 1e300]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = detector.score_samples(far)
    assert np.isfinite(scores).all() and (scores < detector.score_samples(X).min()).all()
    assert (np.diff(scores) < 0).all()
    assert clone(detector).get_params() == detector.get_params()
