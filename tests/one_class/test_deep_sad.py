"""Deep SAD: Deep SVDD without labels, and what a few labels change."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.metrics import roc_auc_score
from torch import nn

from anomaly_estimators import DeepSAD, DeepSVDD


@pytest.fixture(scope="module")
def cancer():
    """Rows of which a third is malignant, and the truth: -1 for these."""
    X, y = load_breast_cancer(return_X_y=True)
    return X[:240, :15], np.where(y[:240] == 1, 1, -1)


@pytest.fixture(scope="module")
def X(cancer):
    return cancer[0]


@pytest.fixture(scope="module")
def y(cancer):
    """A tenth of the malignant and of the benign rows are labelled."""
    return np.where(np.arange(240) % 10 == 0, cancer[1], 0)


def make(cls=DeepSAD, **params):
    defaults = {
        "hidden_layer_sizes": (8,),
        "latent_dim": 4,
        "max_iter": 4,
        "pretrain_max_iter": 3,
        "learning_rate": 0.01,
        "random_state": 0,
        "device": "cpu",
    }
    return cls(**{**defaults, **params})


# m = 0


@pytest.mark.parametrize("none", [None, "zeros"])
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"batch_norm": False},
        {"pretrain": None},
        {"pretrain": "layerwise", "pretrain_max_iter": 1},
        {"early_stopping": True},
        {"ema_decay": 0.9},
        {"early_stopping": True, "ema_decay": 0.9, "batch_size": 50},
        {"optimizer": "sgd", "weight_decay": 0.1},
        {"input_shape": (3, 5), "channels": (2,)},
        {"activation": "elu", "hidden_layer_sizes": ()},
        {"scaler": "minmax", "batch_size": 7},
        {"normalize_distances": False},
    ],
    ids=str,
)
def test_without_labels_it_is_deep_svdd_to_the_bit(none, params, X):
    svdd = make(DeepSVDD, **params).fit(X)
    sad = make(DeepSAD, eta=7.0, **params).fit(X, None if none is None else np.zeros(240))
    for (name, first), second in zip(
        svdd.module_.state_dict().items(), sad.module_.state_dict().values(), strict=True
    ):
        assert torch.equal(first, second), name
    np.testing.assert_array_equal(sad.score_samples(X), svdd.score_samples(X))
    np.testing.assert_array_equal(sad.center_, svdd.center_)
    assert sad.offset_ == svdd.offset_ and sad.loss_curve_ == svdd.loss_curve_


def test_with_labels_it_is_not(X, y):
    svdd, sad = make(DeepSVDD).fit(X), make(DeepSAD).fit(X, y)
    assert not np.isclose(sad.score_samples(X), svdd.score_samples(X)).all()
    assert not np.allclose(sad.center_, svdd.center_)


# Eq 8 over the whole set


def equation_8(detector, X, y, eta):
    total = 0.0
    for z, label in zip(detector.transform(X), y, strict=True):
        distance = np.sum((z - detector.center_) ** 2) / detector.module_.unit.item()
        if label == 0:
            total += distance / len(X)
        else:
            total += eta / len(X) * (distance if label > 0 else 1.0 / (distance + 1e-6))
    return total


@pytest.mark.filterwarnings("ignore:Training did not move:UserWarning")
@pytest.mark.parametrize("eta", [0.1, 1.0, 25.0])
@pytest.mark.parametrize("batch_size", [240, 60, 24, 17])
@pytest.mark.parametrize("normalize", [False, True])
def test_batches_weigh_labelled_rows_by_their_share_of_the_whole(normalize, eta, batch_size, X, y):
    """n and m count in the whole set: the losses of the batches average to eq 8 on all rows."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(15, 6, bias=False), nn.ELU(), nn.Linear(6, 3, bias=False))
    detector = make(
        network=network,
        pretrain=None,
        max_iter=1,
        learning_rate=1e-12,
        batch_size=batch_size,
        normalize_distances=normalize,
        eta=eta,
    ).fit(X, y)
    expected = equation_8(detector, X, y, eta)
    assert detector.loss_curve_[0] == pytest.approx(expected, rel=1e-5)
    squared = np.square(detector.transform(X) - detector.center_).sum(axis=1)
    unit = squared[y >= 0].mean() if normalize else 1.0
    assert detector.module_.unit.item() == pytest.approx(unit, rel=1e-5)


def test_held_out_loss_is_equation_8_on_the_rows_held_out(X, y):
    from anomaly_estimators.training.placement import hold_out

    detector = make(eta=4.0, early_stopping=True, validation_fraction=0.3, max_iter=1).fit(X, y)
    seed = np.random.RandomState(0).randint(np.iinfo(np.int32).max)
    _, valid = hold_out(y.astype(np.int8), 0.3, seed)
    assert set(y[valid]) == {-1, 0, 1}
    loss = detector.history_[-1]["valid_loss"]
    assert loss == pytest.approx(equation_8(detector, X[valid], y[valid], 4.0), rel=1e-4)


# What labels do


def reach(detector, X):
    return -detector.score_samples(X)


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_labelled_anomalies_end_farther_than_without_labels(batch_norm, seed, cancer, y):
    X, truth = cancer
    params = {"batch_norm": batch_norm, "random_state": seed, "max_iter": 40}
    ratios = []
    for labels in (None, np.where(y < 0, y, 0)):
        reaches = reach(make(**params).fit(X, labels), X)
        ratios.append(np.median(reaches[y < 0]) / np.median(reaches[truth > 0]))
    assert ratios[1] > 1.2 * ratios[0]


@pytest.mark.filterwarnings("ignore:Labels are read by their sign:UserWarning")
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_labelled_normals_end_nearer_with_a_larger_eta(seed, X):
    """Odd rows, that no other row is like, are drawn to the centre once they are labelled."""
    odd = np.random.default_rng(seed).choice(240, 12, replace=False)
    rows = X.copy()
    rows[odd] += 4.0 * X.std(0) * np.random.default_rng(9).normal(size=(12, 15))
    labels = np.zeros(240)
    labels[odd] = 1
    params = {"random_state": seed, "max_iter": 40, "learning_rate": 3e-3}
    reaches = []
    for eta in (0.01, 1.0, 100.0):
        detector = make(eta=eta, **params).fit(rows, labels)
        others = np.median(reach(detector, rows[labels == 0]))
        reaches.append(np.median(reach(detector, rows[odd])) / others)
    assert reaches[0] > reaches[1] > reaches[2]
    assert reaches[0] > 1.5 * reaches[2]


@pytest.mark.parametrize("seed", [0, 1])
def test_anomalies_end_farther_with_a_larger_eta(seed, X, y):
    params = {"random_state": seed, "max_iter": 40, "learning_rate": 3e-3}
    reaches = []
    for eta in (0.01, 1.0, 100.0):
        detector = make(eta=eta, **params).fit(X, np.where(y < 0, y, 0))
        reaches.append(np.median(reach(detector, X[y < 0])))
    assert reaches[0] < reaches[1] < reaches[2]


@pytest.mark.parametrize("seed", [0, 1])
def test_known_anomalies_help_to_find_others_like_them_and_not_at_the_cost_of_new_ones(seed):
    """Digits 1 to 4 are normal; of the eights some are known, and nines are new."""
    X, digit = load_digits(return_X_y=True)
    X = X / 16.0
    normal, eights, nines = X[np.isin(digit, [1, 2, 3, 4])], X[digit == 8], X[digit == 9]
    rows = np.r_[normal[::2], eights[:40]]
    labels = np.repeat([0, -1], [len(normal[::2]), 40])
    found = []
    for kinds in (0 * labels, labels):
        detector = DeepSAD(
            max_iter=30,
            pretrain_max_iter=20,
            learning_rate=3e-3,
            scaler="minmax",
            random_state=seed,
            device="cpu",
        ).fit(rows, kinds)
        for anomalies in (eights[40:], nines):
            test = np.r_[normal[1::2], anomalies]
            truth = np.repeat([0, 1], [len(normal[1::2]), len(anomalies)])
            found.append(roc_auc_score(truth, reach(detector, test)))
    eights_before, nines_before, eights_after, nines_after = found
    assert eights_after > 0.95 and eights_after > eights_before + 0.05
    assert nines_after > nines_before - 0.02


@pytest.mark.parametrize("eta", [0.0, -1.0, np.inf, "one"])
def test_impossible_weights_are_refused(eta, X, y):
    with pytest.raises(ValueError, match="eta"):
        make(eta=eta).fit(X, y)


@pytest.mark.filterwarnings("ignore:Labels are read by their sign:UserWarning")
def test_few_labels_of_one_kind_are_enough(X):
    for label in (-1, 1):
        labels = np.zeros(240)
        labels[3] = label
        detector = make(early_stopping=True).fit(X, labels)
        assert np.isfinite(detector.score_samples(X)).all()
    everything = make().fit(X, np.ones(240))
    assert np.isfinite(everything.score_samples(X)).all()
