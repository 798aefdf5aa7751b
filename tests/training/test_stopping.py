"""Early stopping: what is held out, when training ends, and which weights remain."""

import copy

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback

from anomaly_estimators import DAGMM
from anomaly_estimators.training.placement import hold_out
from anomaly_estimators.training.pretraining import reconstruction_loss


class Keep(Callback):
    """Keep the weights of every epoch in a list of the class."""

    epochs: list[dict] = []

    def on_epoch_end(self, net, **kwargs):
        self.epochs.append(copy.deepcopy(net.module_.state_dict()))


@pytest.fixture(autouse=True)
def _forget():
    Keep.epochs.clear()


def overfit(tiny, **params):
    """A network with room to learn 40 rows of noise by heart: the held-out loss must rise."""
    X = np.random.default_rng(1).normal(size=(40, 6))
    detector = tiny(
        hidden_layer_sizes=(64,),
        latent_dim=5,
        learning_rate=0.02,
        max_iter=400,
        early_stopping=True,
        validation_fraction=0.3,
        n_iter_no_change=4,
        callbacks=[Keep()],
        **params,
    )
    return detector.fit(X), X


def test_training_stops_and_the_best_weights_are_kept(tiny):
    detector, X = overfit(tiny)
    losses = [row["valid_loss"] for row in detector.history_]
    assert 5 <= len(losses) < 400
    best = int(np.argmin(losses))
    assert len(losses) - 1 - best >= 4 or losses[-1] > losses[best]
    # Improvements below tol do not count, so the kept epoch may be one of the flat ones before.
    kept = [
        i
        for i, weights in enumerate(Keep.epochs)
        if all(torch.equal(weights[k], v) for k, v in detector.module_.state_dict().items())
    ]
    assert kept == [len(losses) - 1 - 4]
    assert losses[kept[0]] <= losses[best] * (1 + 1e-3)
    assert detector.n_iter_ == len(losses)


def test_held_out_loss_is_that_of_the_held_out_rows_alone(tiny):
    detector, X = overfit(tiny)
    kept = detector.n_iter_ - 1 - 4
    train, valid = hold_out(
        np.zeros(40, dtype=np.int8), detector.validation_fraction, _seed(detector)
    )
    assert len(valid) == 12 and not set(train) & set(valid)
    rows = torch.from_numpy(detector.scaler_.transform(X[valid])).float()
    with torch.no_grad():
        loss = reconstruction_loss(detector.module_(rows), rows, None)
    assert detector.history_[kept]["valid_loss"] == pytest.approx(loss.item(), rel=1e-6)


def _seed(detector):
    return np.random.RandomState(detector.random_state).randint(np.iinfo(np.int32).max)


def test_training_goes_on_while_the_loss_falls(tiny, rows):
    detector = tiny(max_iter=12, early_stopping=True, n_iter_no_change=2, learning_rate=1e-3)
    losses = [row["valid_loss"] for row in detector.fit(rows).history_]
    assert len(losses) == 12
    assert losses == sorted(losses, reverse=True)


def test_large_tolerance_stops_after_the_patience(tiny, rows):
    detector = tiny(max_iter=50, early_stopping=True, n_iter_no_change=3, tol=10.0).fit(rows)
    assert detector.n_iter_ == 4


def test_pretraining_is_not_stopped(tiny, rows):
    detector = tiny(
        DAGMM,
        max_iter=50,
        early_stopping=True,
        n_iter_no_change=2,
        tol=10.0,
        pretrain="layerwise",
        pretrain_max_iter=7,
    ).fit(rows)
    phases = [row["phase"] for row in detector.history_]
    assert phases.count("pre-training, layer 1") == phases.count("pre-training") == 7
    assert phases.count("training") == detector.n_iter_ == 3


def test_average_is_evaluated_and_kept_where_there_is_one(tiny):
    """The weights that remain are those whose held-out loss was the best: the averaged ones."""
    detector, X = overfit(tiny, ema_decay=0.99)
    kept = detector.n_iter_ - 1 - 4
    _, valid = hold_out(np.zeros(40, dtype=np.int8), detector.validation_fraction, _seed(detector))
    rows = torch.from_numpy(detector.scaler_.transform(X[valid])).float()
    with torch.no_grad():
        loss = reconstruction_loss(detector.module_(rows), rows, None)
    assert detector.history_[kept]["valid_loss"] == pytest.approx(loss.item(), rel=1e-6)
    assert not any(
        torch.equal(weights["encoder.0.weight"], detector.module_.encoder[0].weight)
        for weights in Keep.epochs
    )


@pytest.mark.parametrize("n_anomalies", [0, 1, 2, 3, 20])
@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 0.9])
def test_labelled_rows_are_on_both_sides(n_anomalies, fraction):
    labels = np.zeros(100, dtype=np.int8)
    labels[:n_anomalies] = -1
    labels[50:70] = 1
    train, valid = hold_out(labels, fraction, seed=0)
    assert sorted([*train, *valid]) == list(range(100))
    assert {0, 1} <= set(labels[train]) & set(labels[valid])
    if n_anomalies >= 2:
        assert -1 in labels[train] and -1 in labels[valid]
    if n_anomalies == 1:
        assert -1 in labels[train]
    if n_anomalies == 20:
        assert (labels[valid] == -1).sum() == np.clip(round(fraction * 20), 1, 19)
    assert len(valid) == pytest.approx(100 * fraction, abs=3)


def test_split_is_decided_by_the_seed():
    labels = np.zeros(50, dtype=np.int8)
    splits = [hold_out(labels, 0.1, seed)[1].tolist() for seed in (0, 0, 1)]
    assert splits[0] == splits[1] != splits[2]


def test_two_rows_are_enough(tiny):
    X = np.array([[0.0, 1.0], [2.0, 3.0]])
    detector = tiny(early_stopping=True).fit(X)
    assert np.isfinite(detector.score_samples(X)).all()
