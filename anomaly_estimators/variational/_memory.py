"""What a detector has computed, kept by joblib for those that compute the same."""

import os
from collections.abc import Callable
from typing import Any

import joblib
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_memory
from torch import nn

from anomaly_estimators.training.checkpoints import describe

__all__ = ["Remembered", "check_remembered", "digest_of_parameters"]


def check_remembered(estimator: BaseEstimator) -> None:
    """Refuse parameters by which a result could not be known again.

    Raises
    ------
    ValueError
    """
    if estimator.memory is None:
        return
    if isinstance(estimator.random_state, np.random.RandomState):
        raise ValueError(
            "memory needs a random_state that can be known again: an int, or None to take whatever "
            "fit is there. A generator is another one after every fit."
        )
    digest_of_parameters(estimator)


class Remembered:
    """The results of one fit, on the disk.

    Parameters
    ----------
    estimator : BaseEstimator
        Its parameters but ``_free_parameters`` are a part of the key, and its ``memory`` is where the
        results are kept.
    X : ndarray of shape (n_samples, n_features)
        Training rows: the other part of the key.
    """

    def __init__(self, estimator: BaseEstimator, X: np.ndarray):
        memory = estimator.memory
        self.memory = os.fspath(memory) if isinstance(memory, os.PathLike) else memory
        self.key = joblib.hash((digest_of_parameters(estimator), joblib.hash(X)))

    def recall(self, name: str, compute: Callable[[], Any], X: np.ndarray | None = None) -> Any:
        """Return a result that is there, or compute and keep it.

        Parameters
        ----------
        name : str
            Of the result.
        compute : callable
        X : ndarray, default=None
            Rows that the result is about.
        """
        cached = check_memory(self.memory).cache(_computed, ignore=["compute"])
        return cached(self.key, name, None if X is None else joblib.hash(X), compute=compute)


def _computed(key: str, name: str, rows: str | None, compute: Callable[[], Any]) -> Any:
    return compute()


def digest_of_parameters(estimator: BaseEstimator) -> str:
    """Digest of the parameters that decide the outcome of a fit.

    Raises
    ------
    ValueError
        If a parameter cannot be known again.
    """
    digests = {}
    for name, value in sorted(estimator.get_params(deep=False).items()):
        if name in estimator._free_parameters:
            continue
        try:
            digests[name] = describe(value) if isinstance(value, nn.Module) else joblib.hash(value)
        except Exception as error:
            raise ValueError(
                f"{name}={value!r} cannot be known again, which memory needs ({error}): define "
                "functions and classes in a module, or set memory=None."
            ) from error
    return joblib.hash((type(estimator).__qualname__, digests))
