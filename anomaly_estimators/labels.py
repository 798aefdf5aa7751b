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
    y = label_values(y)
    if X is not None:
        check_consistent_length(X, y)
    if are_unusual(y):
        warnings.warn(how_read(y), UserWarning, stacklevel=2)
    return np.sign(y).astype(np.int8)


def label_values(y, name: str = "y") -> np.ndarray:
    """Take labels as a vector of numbers, as they are.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, 1)
    name : str, default="y"
        What the messages call it.

    Returns
    -------
    ndarray of shape (n_samples,), dtype float64

    Raises
    ------
    ValueError
        If there are none, one is missing (NaN), or they are not numbers or no vector.

    Examples
    --------
    >>> label_values([[1], [-1]])
    array([ 1., -1.])
    """
    try:
        y = check_array(y, ensure_2d=False, allow_nd=True, dtype=np.float64, input_name=name)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} must hold numbers without gaps: +1 for a known normal row, -1 for a known anomaly, "
            f"0 for an unlabelled row. Other labels are turned into them by np.where({name} == "
            f"<the anomaly's label>, -1, 1). {error}"
        ) from error
    y = y.ravel() if y.ndim == 2 and y.shape[1] == 1 else y
    if y.ndim != 1:
        raise ValueError(f"{name} should be a 1d array, got an array of shape {y.shape} instead.")
    return y


def are_unusual(y: np.ndarray) -> bool:
    """Tell whether labels are likely to be meant in another way than they are read.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)

    Returns
    -------
    bool
        For values other than -1, 0 and +1; and for 0 and 1 alone, most often a vector of truth.

    Examples
    --------
    >>> [are_unusual(np.array(y)) for y in ([-1, 1], [-1, 0, 1], [0, -1], [0, 1], [1, 2])]
    [False, False, False, True, True]
    """
    values = np.unique(y)
    return not np.isin(values, (-1, 0, 1)).all() or np.array_equal(values, (0, 1))


def how_read(y: np.ndarray, name: str = "y") -> str:
    """Say how labels are read, and how to turn those that are meant in another way.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
    name : str, default="y"
        What the labels are called in the message.

    Returns
    -------
    str

    Examples
    --------
    >>> print(how_read(np.array([0, 0, 1])))
    Labels are read by their sign: 1 rows above 0 as known normal, 2 rows of 0 as unlabelled and
    0 rows below 0 as known anomalies. If 1 stands for an anomaly in y, pass
    np.where(y == 1, -1, 1); if 0 does, np.where(y == 0, -1, 1).
    """
    sign, values = np.sign(y), np.unique(y)
    normal, unlabelled, anomalies = (np.count_nonzero(sign == s) for s in (1, 0, -1))
    read = (
        f"Labels are read by their sign: {normal} rows above 0 as known normal, {unlabelled} rows of 0 "
        f"as unlabelled and {anomalies} rows below 0 as known anomalies."
    )
    if len(values) > 2:
        return f"{read} If VALUE stands for an anomaly in {name}, pass np.where({name} == VALUE, -1, 1)."
    # The readings other than the one that was taken.
    others = [v for v in values[::-1] if (np.where(values == v, -1, 1) != np.sign(values)).any()]
    turns = [(f"{value:g}", f"np.where({name} == {value:g}, -1, 1)") for value in others]
    if not turns:
        return read
    (value, turned), *rest = turns
    rest = "".join(f"; if {value} does, {turned}" for value, turned in rest)
    return f"{read} If {value} stands for an anomaly in {name}, pass {turned}{rest}."
