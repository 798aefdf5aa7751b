"""Scores in float64 come from a copy of the network that is made once, and never out of date."""

import copy
import pickle
import threading

import numpy as np
import pytest
import torch
from _public import deep_detectors, fitted, labels, suited
from torch import nn

from anomaly_estimators import DAGMM, Autoencoder
from anomaly_estimators.training.twin import DoubleTwin


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).normal(size=(60, 4))


@pytest.fixture
def copies(monkeypatch):
    """Number of networks that were copied."""
    counted = []
    real = copy.deepcopy
    monkeypatch.setattr(
        "anomaly_estimators.training.twin.copy.deepcopy",
        lambda value, *rest: (
            counted.append(value) if isinstance(value, nn.Module) else None,
            real(value, *rest),
        )[1],
    )
    return counted


@pytest.mark.parametrize("cls", deep_detectors(), ids=lambda cls: cls.__name__)
def test_the_network_is_copied_once_a_fit_and_not_when_scoring(cls, X, copies):
    rows = suited(cls, X)
    detector = fitted(cls, rows)
    detector.score_samples(rows)
    copies.clear()
    for i in range(3):
        detector.score_samples(rows[[i]])
        detector.predict(rows[[i]].astype(np.float32))
    assert not copies
    detector.fit(rows, labels(cls, len(rows)))
    assert detector.net_._twin.of(detector.module_) is detector.net_._twin.of(detector.module_)


def _scale(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1.5)


def _load(module):
    module.load_state_dict({k: 1.5 * v for k, v in module.state_dict().items()})


def _replace(module):
    for part in module.modules():
        if isinstance(part, nn.Linear):
            part.weight = nn.Parameter(1.5 * part.weight.detach())


def _step(module):
    optimizer = torch.optim.Adam(module.parameters(), lr=0.1, fused=True)
    module(torch.ones(3, 4))[1].square().mean().backward()
    optimizer.step()


def _write_through(module):
    for parameter in module.parameters():
        parameter.data *= 1.5


@pytest.mark.parametrize("change", [_scale, _load, _replace, _step, _write_through])
def test_a_change_of_the_weights_is_seen(change, X):
    detector = fitted(Autoencoder, X)
    before = detector.score_samples(X)
    change(detector.module_)
    after = detector.score_samples(X)
    single = detector.score_samples(X.astype(np.float32))
    assert not np.allclose(before, after)
    np.testing.assert_allclose(after, single, rtol=1e-4)


def test_a_buffer_that_is_replaced_is_seen(X):
    detector = fitted(DAGMM, X)
    before = detector.score_samples(X)
    detector.module_.head.means = detector.module_.head.means + 1.0
    assert not np.allclose(detector.score_samples(X), before)


def test_it_is_in_no_pickle_and_no_copy(X):
    detector = fitted(Autoencoder, X, hidden_layer_sizes=(64, 64))
    bare = len(pickle.dumps(detector))
    detector.score_samples(X)
    assert len(pickle.dumps(detector)) == bare
    copied = copy.deepcopy(detector)
    assert copied.net_._twin is not detector.net_._twin
    np.testing.assert_array_equal(copied.score_samples(X), detector.score_samples(X))


def test_threads_score_the_same(X):
    detector = fitted(Autoencoder, X)
    expected = detector.score_samples(X)
    detector.net_._twin = DoubleTwin()
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(detector.score_samples(X))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    for scores in found:
        np.testing.assert_array_equal(scores, expected)


def test_the_twin_follows_the_mode():
    module = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)).eval()
    twin = DoubleTwin()
    assert not twin.of(module).training
    module.train()
    assert twin.of(module).training
