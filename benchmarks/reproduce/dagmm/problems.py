"""A data set, split as the paper does it."""

from dataclasses import asdict, dataclass
from functools import cache, cached_property

import numpy as np

from anomaly_estimators.datasets.protocols import one_class_split
from benchmarks.reproduce.dagmm.settings import DATASETS, Setting

__all__ = ["Problem", "load"]


@cache
def _load(name: str, seed: int | None):
    return DATASETS[name].fetch(return_X_y=True, **({} if seed is None else {"random_state": seed}))


def load(name: str, seed: int):
    """Load a data set; KDDCUP-Rev with the attacks that this run draws."""
    if name == "KDDCUP-Rev":
        _load.cache_clear()
        return _load(name, seed)
    return _load(name, None)


@dataclass(frozen=True)
class Problem:
    """One run's rows.

    Parameters
    ----------
    dataset : str
    seed : int
    contamination : float
        Share of the anomalies of the training half that are among the training rows.
    max_iter : int or None
        Epochs, where they are not to be the paper's.
    base : float
        Table 5's factor on lambda1 and lambda2.
    """

    dataset: str
    seed: int
    contamination: float = 0.0
    max_iter: int | None = None
    base: float = 1

    @property
    def key(self) -> dict:
        """What makes it, for caches: not the rows."""
        return asdict(self)

    @property
    def setting(self) -> Setting:
        return DATASETS[self.dataset]

    @cached_property
    def _split(self):
        X, y = load(self.dataset, self.seed)
        halves = one_class_split(
            X, y, train_size=0.5, contamination=self.contamination, random_state=self.seed
        )
        return *halves, float((y < 0).mean())

    @property
    def X_train(self) -> np.ndarray:
        return self._split[0]

    @property
    def X_test(self) -> np.ndarray:
        return self._split[1]

    @property
    def y_test(self) -> np.ndarray:
        return self._split[3]

    @property
    def ratio(self) -> float:
        """Share of the anomalies in the whole set: the paper's threshold flags as many."""
        return self._split[4]
