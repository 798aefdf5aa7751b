"""Training that goes wrong says so, and the estimator stays usable."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from anomaly_estimators import DAGMM, Autoencoder
from anomaly_estimators.nn.autoencoder import AutoencoderNetwork
from anomaly_estimators.reconstruction import autoencoder as autoencoder_module
from anomaly_estimators.training.guards import warn_if_collapsed, warn_if_unmoved
from anomaly_estimators.training.pretraining import reconstruction_loss


def assert_usable(detector, X):
    assert all(p.isfinite().all() for p in detector.module_.state_dict().values())
    scores = detector.score_samples(X)
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) > 1
    assert set(detector.predict(X)) == {-1, 1}


@pytest.fixture
def spoil(monkeypatch):
    """Make the loss NaN at the given steps (all from the first on, if ``forever``)."""

    def spoil(*steps, forever=False, value=torch.nan):
        count = 0

        def loss(outputs, X, y):
            nonlocal count
            count += 1
            good = reconstruction_loss(outputs, X, y)
            return good * value if count in steps or (forever and count >= steps[0]) else good

        monkeypatch.setattr(autoencoder_module, "reconstruction_loss", loss)

    return spoil


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("step", [1, 8])
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"ema_decay": 0.9},
        {"early_stopping": True},
        {"early_stopping": True, "ema_decay": 0.9},
        {"optimizer": "sgd"},
        {"optimizer": torch.optim.Adagrad},
        {"lr_schedule": "cosine"},
    ],
    ids=str,
)
def test_non_finite_loss_rolls_back_and_training_goes_on(value, step, params, spoil, tiny, rows):
    spoil(step, value=value)
    detector = tiny(max_iter=6, **params)
    with pytest.warns(ConvergenceWarning, match="goes on at 0.1 times the learning rate"):
        detector.fit(rows)
    assert_usable(detector, rows)
    assert detector.n_iter_ == 6
    assert np.isnan(detector.loss_curve_).sum() + np.isinf(detector.loss_curve_).sum() == 1
    assert np.isfinite(detector.loss_curve_[-1])


def test_rolled_back_weights_are_those_of_the_last_finite_epoch(spoil, tiny, rows):
    before = tiny(max_iter=2).fit(rows)
    spoil(9, forever=True)  # four batches an epoch: from the third epoch on
    detector = tiny(max_iter=50)
    with pytest.warns(ConvergenceWarning, match="Training stopped"):
        detector.fit(rows)
    for name, weights in before.module_.state_dict().items():
        assert torch.equal(detector.module_.state_dict()[name], weights)
    assert detector.n_iter_ < 10
    assert_usable(detector, rows)


def test_learning_rate_falls_at_every_rollback(spoil, tiny, rows):
    spoil(1, 5)
    with pytest.warns(ConvergenceWarning) as caught:
        tiny(max_iter=3).fit(rows)
    messages = [str(w.message) for w in caught]
    assert any("0.1 times" in m for m in messages) and any("0.01 times" in m for m in messages)


@pytest.mark.parametrize("params", [{}, {"ema_decay": 0.9}, {"early_stopping": True}], ids=str)
def test_loss_that_is_never_finite_ends_with_a_warning(params, spoil, tiny, rows):
    spoil(1, forever=True)
    detector = tiny(max_iter=50, **params)
    with pytest.warns(ConvergenceWarning, match="Training stopped"):
        detector.fit(rows)
    assert detector.n_iter_ < 10
    assert_usable(detector, rows)


@pytest.mark.parametrize("cls", [Autoencoder, DAGMM])
def test_huge_learning_rate_ends_in_an_estimator(cls, tiny, rows):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        detector = tiny(cls, learning_rate=1e30, optimizer="sgd", activation="relu").fit(rows)
    assert np.isfinite(detector.score_samples(rows)).all()
    assert np.isfinite(detector.offset_)


class Constant(nn.Module):
    """Ignores its input; still has a weight to train."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))

    def forward(self, X):
        return self.weight.expand(len(X), -1)


def test_collapsed_scores_are_warned_of(tiny):
    # Points on a circle have one distance from a constant.
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    X = np.c_[np.cos(angle), np.sin(angle)]

    class Centre(Constant):
        def forward(self, X):
            return 0.0 * super().forward(X)

    detector = tiny(network=AutoencoderNetwork(nn.Linear(2, 1), Centre(2)), scaler=None)
    with pytest.warns(ConvergenceWarning, match="same score"):
        detector.fit(X)


def test_good_training_warns_of_nothing(tiny, rows):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for cls in (Autoencoder, DAGMM):
            tiny(cls).fit(rows)
            tiny(cls).fit(rows.astype(np.float32))


def test_equal_rows_are_no_collapse():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_collapsed(np.ones(5), np.ones((5, 2)))
        warn_if_collapsed(np.array([1.0, 1.0 + 1e-12]), np.array([[1.0], [2.0]]))
    with pytest.warns(ConvergenceWarning, match="same score"):
        warn_if_collapsed(np.ones(2), np.array([[1.0], [2.0]]))


def test_weights_that_did_not_move_are_warned_of(tiny, rows):
    with pytest.warns(ConvergenceWarning, match="did not move the weights"):
        tiny(learning_rate=1e-60, optimizer="sgd").fit(rows)


def test_one_moved_weight_is_enough():
    network = nn.Linear(2, 2)
    initial = [p.detach().clone() for p in network.parameters()]
    with pytest.warns(ConvergenceWarning):
        warn_if_unmoved(network, initial)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with torch.no_grad():
            network.bias[0] += 1
        warn_if_unmoved(network, initial)
