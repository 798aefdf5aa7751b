"""The autoencoder as a detector and as a transformer."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, load_wine
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.svm import OneClassSVM
from torch import nn

from anomaly_estimators import Autoencoder
from anomaly_estimators.nn.autoencoder import AutoencoderNetwork


@pytest.fixture(scope="module")
def X():
    return load_wine().data


def make(**params):
    defaults = {
        "hidden_layer_sizes": (6, 5),
        "latent_dim": 3,
        "max_iter": 3,
        "random_state": 0,
        "device": "cpu",
    }
    return Autoencoder(**{**defaults, **params})


def plain_network(detector, n_features=13):
    """The same network in plain torch, with the weights copied across."""
    network = nn.Sequential(
        nn.Linear(n_features, 6),
        nn.Tanh(),
        nn.Linear(6, 5),
        nn.Tanh(),
        nn.Linear(5, 3),
        nn.Linear(3, 5),
        nn.Tanh(),
        nn.Linear(5, 6),
        nn.Tanh(),
        nn.Linear(6, n_features),
    ).double()
    with torch.no_grad():
        for mine, theirs in zip(network.parameters(), detector.module_.parameters(), strict=True):
            mine.copy_(theirs)
    return network


def test_score_code_and_reconstruction_are_those_of_a_plain_network(X):
    detector = make().fit(X)
    network = plain_network(detector)
    rows = torch.from_numpy((X - X.mean(0)) / X.std(0))
    with torch.no_grad():
        code, reconstruction = network[:5](rows), network(rows)
    error = (rows - reconstruction).pow(2).sum(1)
    np.testing.assert_allclose(detector.transform(X), code, rtol=1e-9)
    np.testing.assert_allclose(detector.score_samples(X), -error, rtol=1e-9)
    np.testing.assert_allclose(
        detector.inverse_transform(detector.transform(X)),
        reconstruction.numpy() * X.std(0) + X.mean(0),
        rtol=1e-9,
    )


def test_training_is_that_of_a_plain_loop(X):
    """One batch an epoch: the shuffle cannot matter but for rounding."""
    detector = make(max_iter=5, batch_size=178, learning_rate=0.01)
    start = make(max_iter=1, batch_size=178, learning_rate=1e-12).fit(X)
    detector.fit(X)
    network = plain_network(start)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    rows = torch.from_numpy((X - X.mean(0)) / X.std(0))
    losses = []
    for _ in range(5):
        loss = (network(rows) - rows).pow(2).sum(1).mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    np.testing.assert_allclose(detector.loss_curve_, losses, rtol=1e-4)
    for mine, theirs in zip(network.parameters(), detector.module_.parameters(), strict=True):
        torch.testing.assert_close(theirs.double(), mine, rtol=1e-2, atol=1e-4)


def test_gradients_reach_every_parameter_in_every_phase(X):
    detector = make(pretrain="layerwise")
    module = detector._build_module(13)
    rows = torch.randn(20, 13)
    reached = []
    for phase in detector._phases(module):
        module.zero_grad(set_to_none=True)
        part = phase.module or module
        phase.loss(part(rows), rows, None).backward()
        reached.append({n for n, p in module.named_parameters() if p.grad is not None})
    names = {name for name, _ in module.named_parameters()}
    assert len(reached) == 4
    assert reached[-1] == set.union(*reached[:-1]) == names


def test_it_trained(X):
    detector = make(max_iter=60, learning_rate=0.01).fit(X)
    assert detector.loss_curve_[-1] < 0.5 * detector.loss_curve_[0]


def test_layerwise_pretraining_reaches_the_detector(X):
    plain = make(max_iter=1, learning_rate=0.01).fit(X)
    pretrained = make(
        max_iter=1, learning_rate=0.01, pretrain="layerwise", pretrain_max_iter=40
    ).fit(X)
    assert pretrained.loss_curve_[0] < 0.8 * plain.loss_curve_[0]
    assert [row["phase"] for row in pretrained.history_][::40] == [
        "pre-training, layer 1",
        "pre-training, layer 2",
        "pre-training, layer 3",
        "training",
    ]


def test_wide_code_reproduces_the_rows(X):
    detector = make(
        hidden_layer_sizes=(),
        latent_dim=13,
        max_iter=400,
        learning_rate=0.01,
        activation="identity",
    ).fit(X)
    back = detector.inverse_transform(detector.transform(X))
    np.testing.assert_allclose(back, X, atol=0.2 * X.std(0).max())
    assert detector.score(X) > -0.5


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scaler", ["standard", "minmax", None, MinMaxScaler((-1, 1))], ids=str)
def test_inverse_transform_returns_to_the_scale_of_the_rows(dtype, scaler, X):
    rows = X.astype(dtype)
    detector = make(scaler=scaler, learning_rate=1e-4).fit(rows)
    back = detector.inverse_transform(detector.transform(rows))
    assert back.shape == rows.shape and back.dtype == dtype
    if scaler is not None:
        residual = detector.scaler_.transform(rows) - detector.scaler_.transform(back)
        np.testing.assert_allclose(
            -np.square(residual).sum(1), detector.score_samples(rows), rtol=1e-2, atol=1e-3
        )


def test_inverse_transform_refuses_what_is_no_code(X):
    detector = make().fit(X)
    with pytest.raises(ValueError, match="3"):
        detector.inverse_transform(X)
    with pytest.raises(ValueError, match="NaN"):
        detector.inverse_transform(np.full((2, 3), np.nan))


def test_codes_feed_a_one_class_svm(X):
    hybrid = make_pipeline(make(max_iter=20), OneClassSVM(nu=0.1)).fit(X)
    codes = hybrid[0].transform(X)
    expected = OneClassSVM(nu=0.1).fit(codes).score_samples(codes)
    np.testing.assert_allclose(hybrid.score_samples(X), expected)
    assert list(hybrid[0].get_feature_names_out()) == ["code0", "code1", "code2"]
    assert set(hybrid.predict(X)) == {-1, 1}
    np.testing.assert_array_equal(hybrid[0].fit_transform(X), hybrid[0].transform(X))


def test_anomalies_are_found(X):
    labels = load_wine().target
    detector = Autoencoder(latent_dim=2, max_iter=60, random_state=0, device="cpu")
    detector.fit(X[labels != 2][::2])
    rest = np.r_[X[labels != 2][1::2], X[labels == 2]]
    truth = np.r_[np.zeros(65), np.ones(48)]
    assert roc_auc_score(truth, -detector.score_samples(rest)) > 0.85


def test_far_rows_are_anomalies(X):
    detector = make().fit(X)
    far = X[:3] * np.array([[1e3], [1e30], [1e150]])
    assert (detector.predict(far) == -1).all()
    scores = detector.score_samples(far)
    assert np.isfinite(scores).all() and (np.diff(scores) < 0).all()


@pytest.mark.parametrize("shape", [(1, 8, 8), (4, 16)], ids=str)
@pytest.mark.parametrize("batch_norm", [True, False])
def test_images_and_series_are_folded_and_convolved(shape, batch_norm):
    rows = load_digits().data[:150]
    detector = make(
        input_shape=shape, channels=(4,), batch_norm=batch_norm, max_iter=15, learning_rate=0.003
    ).fit(rows)
    kinds = [type(layer) for layer in detector.module_.encoder.modules()]
    assert kinds.count(nn.Conv2d) == 1
    assert detector.loss_curve_[-1] < 0.9 * detector.loss_curve_[0]
    assert detector.transform(rows).shape == (150, 3)
    back = detector.inverse_transform(detector.transform(rows))
    residual = detector.scaler_.transform(rows) - detector.scaler_.transform(back)
    np.testing.assert_allclose(np.square(residual).sum(1), -detector.score_samples(rows), rtol=1e-6)
    with pytest.raises(ValueError, match="64 features.*holds 60"):
        make(input_shape=(4, 15)).fit(rows)


def test_own_convolutional_network(X):
    class Convolutions(AutoencoderNetwork):
        def __init__(self, n_features):
            super().__init__(
                nn.Sequential(
                    nn.Unflatten(1, (1, n_features)),
                    nn.Conv1d(1, 2, 3, padding=1),
                    nn.ReLU(),
                    nn.Flatten(),
                    nn.Linear(2 * n_features, 4),
                ),
                nn.Linear(4, n_features),
            )

    detector = make(network=Convolutions, max_iter=20, learning_rate=0.01).fit(X)
    assert detector.loss_curve_[-1] < detector.loss_curve_[0]
    assert detector.transform(X).shape == (178, 4)
