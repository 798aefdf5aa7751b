"""One class out: the rows of all others to train on, and a test set with that class as the anomaly."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from anomaly_estimators.datasets import (
    fetch_cifar10,
    fetch_fashion_mnist,
    fetch_heartbeats,
    fetch_mnist,
    fetch_smallnorb,
)

__all__ = ["DATASETS", "N_TEST", "Problem", "is_there", "problem"]

# As many rows of the test set as the paper's maps show beside as many training rows.
N_TEST = 5_000


@dataclass(frozen=True)
class Problem:
    """Training rows without the anomalous class, and a test set with it."""

    X: np.ndarray  # (n, n_features), float32 in [0, 1]
    X_test: np.ndarray
    anomalous: np.ndarray  # bool, of the test set


def _pixels(fetch: Callable, subset: str, **options) -> tuple[np.ndarray, np.ndarray]:
    X, y = fetch(subset=subset, return_X_y=True, dtype=np.float32, **options)
    return X / 255.0, y


def _idx(fetch: Callable) -> tuple:
    return (*_pixels(fetch, "train"), *_pixels(fetch, "test"))


def _cifar10() -> tuple:
    X, y = _pixels(fetch_cifar10, "test", variant="reduced")
    more, of_more = _pixels(fetch_cifar10, "extra", variant="reduced")
    train = _pixels(fetch_cifar10, "train", variant="reduced")
    return (*train, np.concatenate([X, more]), np.concatenate([y, of_more]))


def _heartbeats() -> tuple:
    # The paper's own file where it is, and the set that was made in its likeness where it is not.
    for variant in ("kaggle", "derived"):
        try:
            return tuple(
                part
                for subset in ("train", "test")
                for part in fetch_heartbeats(variant=variant, subset=subset, return_X_y=True)
            )
        except OSError:
            continue
    raise OSError("neither the published nor the derived heartbeats are there")


def _smallnorb() -> tuple:
    return tuple(
        part
        for subset in ("train", "test")
        for part in _pixels(fetch_smallnorb, subset, size=32, download_if_missing=False)
    )


DATASETS: Mapping[str, Callable[[], tuple]] = {
    "mnist": lambda: _idx(fetch_mnist),
    "fashion_mnist": lambda: _idx(fetch_fashion_mnist),
    "cifar10": _cifar10,
    "heartbeats": _heartbeats,
    "smallnorb": _smallnorb,
}


@cache
def _load(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    return DATASETS[name]()


def is_there(name: str) -> bool:
    """Whether the files of a set are at hand."""
    try:
        _load(name)
    except OSError:
        return False
    return True


def problem(
    name: str, anomaly: int, seed: int, n_train: int | None = None, n_test: int = N_TEST
) -> Problem:
    """Leave a class out.

    Parameters
    ----------
    name : str
    anomaly : int
        The class that is the anomaly.
    seed : int
        Decides which rows are taken where there are more than are asked for.
    n_train, n_test : int or None
        How many rows at most; ``None`` takes all.
    """
    X, y, X_test, y_test = _load(name)
    rng = np.random.default_rng([seed, anomaly])
    rows = _some(rng, np.flatnonzero(y != anomaly), n_train)
    tested = _some(rng, np.arange(len(y_test)), n_test)
    return Problem(X[rows], X_test[tested], y_test[tested] == anomaly)


def _some(rng: np.random.Generator, rows: np.ndarray, n: int | None) -> np.ndarray:
    """Some of the rows in their order."""
    if n is None or len(rows) <= n:
        return rows
    return np.sort(rng.choice(rows, n, replace=False))
