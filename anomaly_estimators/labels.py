"""Labels of partially labelled data: +1 known normal, -1 known anomaly, 0 unlabelled."""

import warnings

import numpy as np
from sklearn.utils.validation import check_array, check_consistent_length

__all__ = ["read_labels"]


def read_labels(y, X=None) -> np.ndarray:
    """Read labels by their sign.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or None
        Numbers: above 0 is a known normal row, below 0 a known anomaly, 0 an unlabelled row.
        ``None`` leaves all rows unlabelled.
    X : array-like of shape (n_samples, n_features), default=None
        The rows that the labels belong to, for their number.

    Returns
    -------
    ndarray of shape (n_samples,), dtype int8
        +1, 0 and -1.

    Raises
    ------
    ValueError
        If there are not as many labels as rows, if a label is missing (NaN), or if the labels are
        not numbers.

    Warns
    -----
    UserWarning
        If there are values other than -1, 0 and +1, or only 0 and 1, which is most often a vector
        of truth with 1 for the anomalies: the message says how they were read.

    Examples
    --------
    >>> read_labels([1, 0, -1])
    array([ 1,  0, -1], dtype=int8)
    """
    if y is None:
        return np.zeros(X.shape[0], dtype=np.int8)
    try:
        y = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
    except (TypeError, ValueError) as error:
        raise ValueError(
            "y must hold numbers without gaps: +1 for a known normal row, -1 for a known anomaly, 0 for"
            f" an unlabelled row. {error}"
        ) from error
    y = y.ravel() if y.ndim == 2 and y.shape[1] == 1 else y
    if y.ndim != 1:
        raise ValueError(f"y should be a 1d array, got an array of shape {y.shape} instead.")
    if X is not None:
        check_consistent_length(X, y)
    labels = np.sign(y).astype(np.int8)
    values = np.unique(y)
    if not np.isin(values, (-1, 0, 1)).all() or np.array_equal(values, (0, 1)):
        counts = {sign: int((labels == sign).sum()) for sign in (1, 0, -1)}
        warnings.warn(
            "Labels are read by their sign: "
            f"{counts[1]} rows above 0 as known normal, {counts[0]} rows of 0 as unlabelled and "
            f"{counts[-1]} rows below 0 as known anomalies. If 1 stands for an anomaly in y, pass "
            "np.where(y == 1, -1, 1).",
            UserWarning,
            stacklevel=2,
        )
    return labels
