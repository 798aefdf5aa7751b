"""Scaling of the features before the network."""

import numpy as np
from sklearn.base import clone

from anomaly_estimators.scalers import SCALERS
from anomaly_estimators.training.rows import RowSource

__all__ = ["fit_scaler", "make_scaler"]

# Rows of a memory map on which a scaler without partial_fit is fitted.
_SAMPLED_ROWS = 100_000


def make_scaler(scaler):
    """Return a new scaler, not fitted: one named in ``SCALERS``, a clone of a transformer, or ``None``."""
    if scaler is None:
        return None
    return SCALERS[scaler]() if isinstance(scaler, str) else clone(scaler)


def fit_scaler(scaler, X: np.ndarray):
    """Fit a scaler on the training rows, in float64; piece by piece where they are of another type.

    Parameters
    ----------
    scaler : str, transformer or None
        A key of ``SCALERS``, or a scikit-learn transformer, which is cloned.
    X : ndarray of shape (n_samples, n_features)

    Returns
    -------
    transformer or None

    Raises
    ------
    ValueError
        If the transformer changes the number of features.
    """
    fitted = make_scaler(scaler)
    if fitted is None:
        return None
    plain = RowSource(X, None, np.float64)
    mapped = isinstance(X, np.memmap)
    if X.dtype == np.float64 and not mapped:
        fitted.fit(X)
    elif hasattr(fitted, "partial_fit"):
        for piece in plain.pieces():
            fitted.partial_fit(piece.numpy())
    elif mapped:
        rows = np.unique(np.linspace(0, len(X) - 1, _SAMPLED_ROWS).astype(np.int64))
        fitted.fit(plain.take(rows).numpy())
    else:
        fitted.fit(X.astype(np.float64))
    width = np.shape(fitted.transform(plain.take(np.arange(1)).numpy()))[1]
    if width != X.shape[1]:
        raise ValueError(
            f"scaler={scaler!r} makes {width} features of {X.shape[1]}: use one that keeps their "
            "number, or put this one before the detector in a Pipeline."
        )
    return fitted
