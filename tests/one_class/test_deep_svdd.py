"""Deep SVDD: its two objectives and its radius."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score
from torch import nn

from anomaly_estimators import DeepSVDD


@pytest.fixture(scope="module")
def X():
    return load_breast_cancer().data[:160, :12]


def make(**params):
    defaults = {
        "hidden_layer_sizes": (8,),
        "latent_dim": 4,
        "max_iter": 3,
        "pretrain_max_iter": 3,
        "learning_rate": 0.01,
        "random_state": 0,
        "device": "cpu",
    }
    return DeepSVDD(**{**defaults, **params})


def untrained(**params):
    """Weights that a step of 1e-12 does not change: the loss of an epoch is that of the start."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(12, 6, bias=False), nn.LeakyReLU(), nn.Linear(6, 3, bias=False)
    )
    still = {"network": network, "pretrain": None, "max_iter": 1, "learning_rate": 1e-12}
    return make(**still, **params)


def distances(detector, X):
    return np.square(detector.transform(X) - detector.center_).sum(axis=1)


@pytest.mark.filterwarnings("ignore:Training did not move:UserWarning")
@pytest.mark.parametrize("batch_size", [160, 32, 30])
def test_loss_is_the_mean_squared_distance_of_all_rows(batch_size, X):
    detector = untrained(batch_size=batch_size, normalize_distances=False).fit(X)
    mean = distances(detector, X).mean()
    assert detector.module_.unit == 1.0
    assert detector.loss_curve_[0] == pytest.approx(mean, rel=1e-5)
    # In units of that very mean it starts from 1.
    detector = untrained(batch_size=batch_size, normalize_distances=True).fit(X)
    assert detector.module_.unit.item() == pytest.approx(mean, rel=1e-5)
    assert detector.loss_curve_[0] == pytest.approx(1.0, rel=1e-5)


@pytest.mark.filterwarnings("ignore:Training did not move:UserWarning")
@pytest.mark.parametrize("nu", [0.01, 0.1, 0.33, 0.9])
def test_loss_of_the_soft_boundary_is_its_objective(nu, X):
    for normalize in (False, True):
        detector = untrained(
            objective="soft_boundary", nu=nu, batch_size=160, normalize_distances=normalize
        ).fit(X)
        squared = distances(detector, X)
        least = min(r + np.maximum(squared - r, 0.0).sum() / (nu * 160) for r in [0.0, *squared])
        unit = squared.mean() if normalize else 1.0
        assert detector.loss_curve_[0] == pytest.approx(least / unit, rel=1e-5)


@pytest.mark.parametrize("objective", ["one_class", "soft_boundary"])
@pytest.mark.parametrize("nu", [0.01, 0.05, 0.1, 0.25, 0.5, 0.9])
def test_share_nu_of_the_rows_is_outside_the_radius(objective, nu, X):
    detector = make(objective=objective, nu=nu).fit(X)
    assert isinstance(detector.radius_, float) and detector.radius_ > 0.0
    outside = (np.sqrt(distances(detector, X)) > detector.radius_).sum()
    assert abs(outside - nu * 160) <= 1
    assert detector.radius_ == pytest.approx(np.quantile(-detector.score_samples(X), 1 - nu))


def test_nu_takes_part_in_the_soft_boundary_alone(X):
    one = [make(nu=nu).fit(X).score_samples(X) for nu in (0.05, 0.5)]
    np.testing.assert_array_equal(*one)
    soft = [make(objective="soft_boundary", nu=nu).fit(X).score_samples(X) for nu in (0.05, 0.5)]
    assert not np.isclose(*soft).any()
    # With all rows outside of it, the sphere is a point, and the objective the one-class one.
    small = make(objective="soft_boundary", nu=1.0 - 1e-9).fit(X).score_samples(X)
    np.testing.assert_allclose(small, one[0], rtol=0.05)


@pytest.mark.parametrize("objective", ["one_class", "soft_boundary"])
def test_training_draws_the_rows_together(objective, X):
    """Relative to rows of noise on the same scale, which the network does not see in training."""
    params = {"objective": objective, "learning_rate": 0.003}
    noise = X.mean(0) + 3.0 * X.std(0) * np.random.default_rng(0).normal(size=X.shape)
    ratios = []
    for epochs in (1, 60):
        detector = make(max_iter=epochs, **params).fit(X)
        ratios.append(distances(detector, X).mean() / distances(detector, noise).mean())
    assert ratios[1] < 0.9 * ratios[0]
    assert detector.loss_curve_[-1] < 0.5 * detector.loss_curve_[0]


@pytest.mark.parametrize("objective", ["one_class", "soft_boundary"])
def test_anomalies_are_found(objective):
    X, y = load_breast_cancer(return_X_y=True)
    benign, malignant = X[y == 1], X[y == 0]
    detector = DeepSVDD(objective=objective, max_iter=30, random_state=0, device="cpu")
    detector.fit(benign[::2])
    rest, truth = np.r_[benign[1::2], malignant], np.r_[np.zeros(178), np.ones(212)]
    assert roc_auc_score(truth, -detector.score_samples(rest)) > 0.9


def test_sphere_of_a_small_batch_is_trained(X):
    """Where less than one row of a batch may be outside, the farthest one has all the weight."""
    detector = make(objective="soft_boundary", nu=0.01, batch_size=16, max_iter=20).fit(X)
    assert detector.loss_curve_[-1] < 0.7 * detector.loss_curve_[0]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"nu": 0.0}, "nu"),
        ({"nu": 1.0}, "nu"),
        ({"objective": "hard"}, "one_class"),
        ({"latent_dim": 0}, "latent_dim"),
    ],
)
def test_impossible_parameters_are_refused(params, message, X):
    with pytest.raises(ValueError, match=message):
        make(**params).fit(X)


def test_labels_have_no_part(X):
    labels = np.resize([-1, 0, 1], 160)
    np.testing.assert_array_equal(
        make().fit(X, labels).score_samples(X), make().fit(X).score_samples(X)
    )
