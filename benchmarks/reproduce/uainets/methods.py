"""The methods that are compared, as the paper sets them."""

from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
import torch
from sklearn.ensemble import IsolationForest
from sklearn.frozen import FrozenEstimator

from anomaly_estimators import (
    AAD,
    DAGMM,
    LODA,
    UAI,
    DenoisingAutoencoder,
    LabelConsistency,
)
from anomaly_estimators.base import OutlierDetector
from benchmarks.reproduce.uainets.problems import Problem

__all__ = ["CLASSIFIERS", "METHODS", "TABULAR", "make", "rows_of"]

# Appendix A.1. TensorFlow's RMSProp forgets faster than torch's.
_RMSPROP = partial(torch.optim.RMSprop, alpha=0.9, eps=1e-10)
_RATE = {"optimizer": _RMSPROP, "learning_rate": 0.01}
_NETWORK = {
    "hidden_layer_sizes": (256, 64),
    "latent_dim": 8,
    "batch_norm": False,
    "batch_size": 256,
    **_RATE,
}
_STEPS = 5_000
# Every row is a verdict of its own in the papers, also where it is identical to another.
_AUDIT = {"duplicates": "each"}
# The paper's DAGMM is that of its own paper, whose network for KDDCUP serves all sets here.
_DAGMM = {
    "hidden_layer_sizes": (60, 30, 10),
    "latent_dim": 1,
    "n_components": 4,
    "reconstruction_features": ("relative_euclidean", "cosine_similarity"),
}


def _epochs(n_rows: int) -> int:
    """Epochs that make the paper's steps of pre-training."""
    return max(1, round(_STEPS / -(-n_rows // 256)))


def _dae(seed: int, problem: Problem) -> FrozenEstimator:
    return _pretrained(DenoisingAutoencoder, seed, problem)


def _class(seed: int, problem: Problem) -> FrozenEstimator:
    return _pretrained(LabelConsistency, seed, problem)


@lru_cache(maxsize=2)
def _pretrained(cls: type, seed: int, problem: Problem) -> FrozenEstimator:
    """The paper's network after its first training, which several methods start from."""
    X = labelled_rows(problem) if cls is LabelConsistency else problem.X
    detector = cls(
        max_iter=_epochs(len(X)),
        scaler=problem.scaler,
        # The paper names no activation. A classifier of rectifiers dies of its learning rate.
        activation="tanh" if cls is LabelConsistency else "relu",
        random_state=seed,
        **_NETWORK,
    )
    return FrozenEstimator(detector.fit(X))


def _uai(base: Callable, seed: int, problem: Problem, **parameters):
    settings = {
        "cold_start": 10,
        "audited_batch_size": 256,
        "head_learning_rate": 0.01,
        **_AUDIT,
        **_RATE,
        **parameters,
    }
    return UAI(base(seed, problem), random_state=seed, **settings)


def _dagmm(seed: int, problem: Problem):
    return DAGMM(random_state=seed, scaler="minmax", **_DAGMM)


def _loda_aad(seed: int, problem: Problem, **parameters):
    return _aad(LODA(random_state=seed), seed, problem, **parameters)


def _tree_aad(seed: int, problem: Problem, **parameters):
    forest = IsolationForest(n_estimators=100, max_samples=256, random_state=seed)
    return _aad(forest, seed, problem, **parameters)


def _aad(ensemble, seed: int, problem: Problem, **parameters):
    parameters = {"max_labels": _memory(problem), "random_state": seed, **_AUDIT, **parameters}
    return AAD(ensemble, **parameters)


def _memory(problem: Problem) -> int | None:
    """Labels that AAD keeps in mind: limited on the large sets of KDDCUP, as in the paper."""
    return 2_000 if problem.n_anomalies > 10_000 else None


# name -> function of seed and problem
METHODS: dict[str, Callable[[int, Problem], OutlierDetector]] = {
    "DAGMM (clean)": _dagmm,
    "DAGMM (dirty)": _dagmm,
    "LODA-AAD": _loda_aad,
    "LODA-AAD, margin 0": partial(_loda_aad, margin=0.0),
    "Tree-AAD": _tree_aad,
    "Tree-AAD, margin 0": partial(_tree_aad, margin=0.0),
    "DAE": _dae,
    "DAE_uai": partial(_uai, _dae),
    "DAE_uai, auto": partial(_uai, _dae, cold_start="auto"),
    "DAE_uai, defaults": lambda seed, problem: UAI(random_state=seed, **_AUDIT),
    "Class": _class,
    "Class_uai": partial(_uai, _class),
}
CLASSIFIERS = ("Class", "Class_uai")
TABULAR = tuple(name for name in METHODS if name not in CLASSIFIERS)


def make(method: str, seed: int, problem: Problem) -> OutlierDetector | FrozenEstimator:
    """The detector of a method; the paper's networks have had their first training."""
    return METHODS[method](seed, problem)


def rows_of(method: str, problem: Problem) -> np.ndarray:
    """The rows as a method takes them: with the given label as the last column, for classifiers."""
    return labelled_rows(problem) if method in CLASSIFIERS else problem.X


def labelled_rows(problem: Problem) -> np.ndarray:
    """The rows with their given label as the last column."""
    return np.column_stack([problem.X, problem.label]).astype(np.float32)
