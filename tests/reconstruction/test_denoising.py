"""The denoising autoencoder: noise in training, and nowhere else."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, load_wine
from sklearn.metrics import roc_auc_score
from skorch.callbacks import Callback
from torch import nn

from anomaly_estimators import Autoencoder, DeepDetector, DeepSVDD, DenoisingAutoencoder, load
from anomaly_estimators.nn.autoencoder import AutoencoderNetwork


@pytest.fixture(scope="module")
def X():
    return load_wine().data


SMALL = {
    "hidden_layer_sizes": (6, 5),
    "latent_dim": 3,
    "max_iter": 3,
    "learning_rate": 0.01,
    "random_state": 0,
    "device": "cpu",
}


def make(**params):
    return DenoisingAutoencoder(**{**SMALL, **params})


def scaled(X):
    return (X - X.mean(0)) / X.std(0)


# The objective


def linear(n_features=13, width=3):
    torch.manual_seed(1)
    return AutoencoderNetwork(
        nn.Linear(n_features, width, bias=False), nn.Linear(width, n_features, bias=False)
    )


@pytest.mark.filterwarnings("ignore:Training did not move:UserWarning")
@pytest.mark.parametrize("noise", [0.0, 0.3, 2.0])
def test_loss_is_the_error_of_the_clean_row_rebuilt_from_the_noisy_one(noise, X):
    """Of a linear network A the mean over the noise is ||x - Ax||^2 + noise^2 ||A||^2."""
    network = linear()
    detector = make(
        network=network, noise=noise, learning_rate=1e-12, max_iter=300, batch_size=178
    ).fit(X)
    A = (network.decoder.weight @ network.encoder.weight).detach().numpy()
    clean = np.square(scaled(X) @ (np.eye(13) - A).T).sum(1).mean()
    expected = clean + noise**2 * np.square(A).sum()
    assert np.mean(detector.loss_curve_) == pytest.approx(expected, rel=0.01)
    # The score has no noise in it.
    assert -detector.score(X) == pytest.approx(clean, rel=1e-5)


@pytest.mark.filterwarnings("ignore:Training did not move:UserWarning")
def test_held_out_rows_have_no_noise(X):
    detector = make(
        network=linear(), noise=5.0, learning_rate=1e-12, early_stopping=True, max_iter=4
    ).fit(X)
    losses = [row["valid_loss"] for row in detector.history_]
    np.testing.assert_allclose(losses, losses[0], rtol=1e-6)
    assert detector.loss_curve_[0] > 3 * losses[0]


def test_score_and_code_are_those_of_a_plain_network(X):
    detector = make(noise=0.5).fit(X)
    sizes, layers = [13, 6, 5, 3, 5, 6, 13], []
    for n_in, n_out in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Linear(n_in, n_out), *([] if n_out in (3, 13) else [nn.Tanh()])]
    network = nn.Sequential(*layers).double()
    with torch.no_grad():
        for mine, theirs in zip(network.parameters(), detector.module_.parameters(), strict=True):
            mine.copy_(theirs)
        rows = torch.from_numpy(scaled(X))
        error = (rows - network(rows)).square().sum(1)
    np.testing.assert_allclose(detector.score_samples(X), -error, rtol=1e-9)
    np.testing.assert_allclose(detector.transform(X), network[:5](rows).detach(), rtol=1e-9)
    back = detector.inverse_transform(detector.transform(X))
    np.testing.assert_allclose(
        scaled(X) - (back - X.mean(0)) / X.std(0), (rows - network(rows)).detach(), atol=1e-9
    )


@pytest.mark.parametrize("noise", [0.2, 1.0])
def test_scoring_draws_nothing(noise, X):
    detector = make(noise=noise).fit(X)
    assert not any(module.training for module in detector.module_.modules())
    before = torch.random.get_rng_state()
    scores = detector.score_samples(X)
    assert torch.equal(torch.random.get_rng_state(), before)
    np.testing.assert_array_equal(detector.score_samples(X), scores)


def test_code_is_of_the_noisy_row_while_the_network_trains(X):
    """l = f(x + e) in eq 6 of the paper, which a layer on top of the code learns from."""
    detector = make(noise=0.5).fit(X)
    rows = torch.from_numpy(scaled(X)).float()
    module = detector.module_
    first, second = (detector._module_transform(module.train(), rows) for _ in range(2))
    assert not torch.isclose(first, second).any()
    first, second = (detector._module_transform(module.eval(), rows) for _ in range(2))
    assert torch.equal(first, second)


# Beside the autoencoder


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"pretrain": "layerwise", "pretrain_max_iter": 2},
        {"network": linear()},
        {"input_shape": (1, 13), "channels": (3,), "batch_norm": True},
        {"early_stopping": True, "ema_decay": 0.9},
    ],
    ids=["plain", "layerwise", "network", "series", "averaged"],
)
def test_without_noise_it_is_the_autoencoder_to_the_bit(params, X):
    plain = Autoencoder(**{**SMALL, **params}).fit(X)
    silent, noisy = make(noise=0, **params).fit(X), make(noise=0.2, **params).fit(X)
    for rows in (X, X.astype(np.float32)):
        np.testing.assert_array_equal(silent.score_samples(rows), plain.score_samples(rows))
        np.testing.assert_array_equal(silent.transform(rows), plain.transform(rows))
        assert not np.isclose(noisy.score_samples(rows), plain.score_samples(rows)).all()
    assert silent.offset_ == plain.offset_ and silent.loss_curve_ == plain.loss_curve_
    assert {row["phase"] for row in noisy.history_} == {row["phase"] for row in plain.history_}


def test_noise_is_taken_away():
    """With a code as wide as the rows, an autoencoder copies; a denoising one does not."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(400, 2)) @ rng.normal(size=(2, 8))
    noisy = rows + 0.5 * rng.normal(size=rows.shape)
    left = {}
    for noise in (0.0, 0.5):
        detector = make(
            noise=noise, hidden_layer_sizes=(), latent_dim=8, max_iter=300, scaler=None
        ).fit(rows)
        back = detector.inverse_transform(detector.transform(noisy))
        left[noise] = np.square(back - rows).sum() / np.square(noisy - rows).sum()
    assert left[0.5] < 0.5 < 0.6 < left[0.0]


def test_anomalies_are_found(X):
    labels = load_wine().target
    detector = DenoisingAutoencoder(latent_dim=2, max_iter=100, learning_rate=1e-3, random_state=0)
    detector.fit(X[labels != 2][::2])
    rest = np.r_[X[labels != 2][1::2], X[labels == 2]]
    truth = np.r_[np.zeros(65), np.ones(48)]
    assert roc_auc_score(truth, -detector.score_samples(rest)) > 0.85


@pytest.mark.parametrize("pretrain", [None, "layerwise"])
def test_gradients_reach_every_parameter(pretrain, X):
    detector = make(pretrain=pretrain, noise=0.3)
    module = detector._build_module(13)
    phase = detector._phases(module)[-1]
    rows = torch.from_numpy(scaled(X)).float()
    phase.loss(module(rows), rows, None).backward()
    assert all(p.grad is not None and p.grad.any() for p in module.parameters())


def test_images_are_folded_and_convolved():
    rows = load_digits().data[:150]
    detector = make(input_shape=(1, 8, 8), channels=(4,), max_iter=15, noise=0.2).fit(rows)
    assert any(isinstance(layer, nn.Conv2d) for layer in detector.module_.modules())
    assert detector.loss_curve_[-1] < 0.9 * detector.loss_curve_[0]
    assert detector.inverse_transform(detector.transform(rows)).shape == rows.shape


def test_other_detectors_take_its_network(X):
    denoising = make().fit(X)
    detector = DeepSVDD(network=denoising.module_, pretrain=None, max_iter=1, device="cpu")
    assert detector.fit(X).transform(X).shape == (178, 3)


# Life of an estimator


def test_warm_start_goes_on_under_other_noise(X):
    detector = make(noise=2.0, warm_start=True, max_iter=30).fit(X)
    loud = np.mean(detector.loss_curve_[-5:])
    detector.set_params(noise=0.0).fit(X)
    assert detector.loss_curve_[30] < 0.9 * loud
    assert detector.n_iter_ == 60 and detector.module_.noise.std == 0.0


@pytest.mark.parametrize("params", [{}, {"pretrain": "layerwise", "noise": 0.7}], ids=str)
def test_files_and_pickles(params, X, tmp_path):
    detector = make(**params).fit(X)
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


@pytest.mark.parametrize("pretrain", [None, "layerwise"])
def test_stopped_fit_ends_as_an_uninterrupted_one(pretrain, X, tmp_path, monkeypatch):
    monkeypatch.setattr(DeepDetector, "_checkpoint_interval", 0.0)
    params = {"pretrain": pretrain, "pretrain_max_iter": 2, "max_iter": 6, "noise": 0.4}
    path = tmp_path / "fit.pt"
    with pytest.raises(RuntimeError, match="power cut"):
        make(checkpoint=path, callbacks=[Stop()], **params).fit(X)
    resumed = make(checkpoint=path, **params).fit(X)
    np.testing.assert_array_equal(resumed.score_samples(X), make(**params).fit(X).score_samples(X))


@pytest.mark.parametrize("noise", [-0.1, "0.1", None, np.nan])
def test_impossible_noise_is_refused(noise, X):
    with pytest.raises(ValueError, match="'noise' parameter"):
        make(noise=noise).fit(X)
