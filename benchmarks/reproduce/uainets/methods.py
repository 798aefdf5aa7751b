"""The methods that are compared, as the paper sets them."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from sklearn.ensemble import IsolationForest

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
    "activation": "relu",
    "batch_norm": False,
    "batch_size": 256,
    **_RATE,
}
_STEPS = 5_000
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


def _dae(seed: int, problem: Problem):
    return DenoisingAutoencoder(
        max_iter=_epochs(len(problem.X)), scaler=problem.scaler, random_state=seed, **_NETWORK
    )


def _class(seed: int, problem: Problem):
    return LabelConsistency(
        max_iter=_epochs(len(problem.X)), scaler=problem.scaler, random_state=seed, **_NETWORK
    )


def _uai(base: Callable, seed: int, problem: Problem, **parameters):
    settings = {
        "cold_start": 10,
        "audited_batch_size": 256,
        "head_learning_rate": 0.01,
        **_RATE,
        **parameters,
    }
    return UAI(base(seed, problem), random_state=seed, **settings)


def _dagmm(seed: int, problem: Problem):
    return DAGMM(random_state=seed, scaler="minmax", **_DAGMM)


def _loda_aad(seed: int, problem: Problem):
    return AAD(LODA(random_state=seed), max_labels=_memory(problem), random_state=seed)


def _tree_aad(seed: int, problem: Problem):
    forest = IsolationForest(n_estimators=100, max_samples=256, random_state=seed)
    return AAD(forest, max_labels=_memory(problem), random_state=seed)


def _memory(problem: Problem) -> int | None:
    """Labels that AAD keeps in mind: limited on the large sets of KDDCUP, as in the paper."""
    return 2_000 if problem.n_anomalies > 10_000 else None


# name -> function of seed and problem
METHODS: dict[str, Callable[[int, Problem], OutlierDetector]] = {
    "DAGMM (clean)": _dagmm,
    "DAGMM (dirty)": _dagmm,
    "LODA-AAD": _loda_aad,
    "Tree-AAD": _tree_aad,
    "DAE": _dae,
    "DAE_uai": partial(_uai, _dae),
    "DAE_uai, auto": partial(_uai, _dae, cold_start="auto"),
    "DAE_uai, defaults": lambda seed, problem: UAI(random_state=seed),
    "Class": _class,
    "Class_uai": partial(_uai, _class),
}
CLASSIFIERS = ("Class", "Class_uai")
TABULAR = tuple(name for name in METHODS if name not in CLASSIFIERS)


def make(method: str, seed: int, problem: Problem) -> OutlierDetector:
    """The detector of a method."""
    return METHODS[method](seed, problem)


def rows_of(method: str, problem: Problem) -> np.ndarray:
    """The rows as a method takes them: with the given label as the last column, for classifiers."""
    if method not in CLASSIFIERS:
        return problem.X
    return np.column_stack([problem.X, problem.label]).astype(np.float32)
