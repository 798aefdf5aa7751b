"""Measures of detectors, for +1/-1 labels and scores that are lower for the more abnormal rows."""

import warnings
from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils import check_consistent_length, column_or_1d

__all__ = ["f1_at_ratio", "precision_at_n", "precision_recall_f1_at_ratio"]


def precision_recall_f1_at_ratio(
    y_true: ArrayLike, scores: ArrayLike, ratio: float | None = None
) -> tuple[float, float, float]:
    """Precision, recall and F1 of the anomalies when a known share of the rows is flagged.

    The ``round(ratio * n)`` rows with the lowest scores are flagged as anomalies, which is how
    [1]_ and much of the literature after it compare detectors.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Labels, read by their sign: negative for anomalies (the positive class of the measures),
        positive for normal rows. Rows labelled 0 are unlabelled and are ignored.
    scores : array-like of shape (n_samples,)
        What ``score_samples`` returns: the lower, the more abnormal.
    ratio : float, default=None
        Share of the labelled rows that is flagged, above 0 and at most 1. With the default, the
        share of anomalies in `y_true`; then as many rows are flagged as there are anomalies, and
        precision, recall and F1 are equal.

    Returns
    -------
    precision, recall, f1 : float
        Between 0 and 1. If several rows are tied at the threshold and not all of them can be
        flagged, the expected values under a random choice among them.

    Raises
    ------
    ValueError
        If the lengths differ, `y_true` has no anomaly or a value that is not a number, a labelled
        row has the score NaN, or `ratio` is out of range.

    Warns
    -----
    sklearn.exceptions.UndefinedMetricWarning
        If `ratio` is so small that no row is flagged; the precision is then reported as 0.

    See Also
    --------
    f1_at_ratio : F1 alone.
    precision_at_n : Precision when a known number of rows is flagged.
    anomaly_estimators.model_selection.f1_at_ratio_scorer : F1 as a scorer of a search.

    Notes
    -----
    A detector that gives all rows one score flags rows at random: it gets the expectation of that,
    never a lucky draw which depends on the order of the rows. All three measures are linear in the
    number of anomalies among the flagged rows, so the expectation is exact.

    References
    ----------
    .. [1] B. Zong, Q. Song, M. R. Min, W. Cheng, C. Lumezanu, D. Cho and H. Chen, "Deep
           Autoencoding Gaussian Mixture Model for Unsupervised Anomaly Detection", ICLR 2018.

    Examples
    --------
    >>> from anomaly_estimators.metrics import precision_recall_f1_at_ratio
    >>> y_true = [-1, 1, -1, 1, 1, 1]
    >>> scores = [-9.0, -7.0, -5.0, -1.0, -1.0, -1.0]
    >>> precision_recall_f1_at_ratio(y_true, scores)
    (0.5, 0.5, 0.5)
    >>> precision, recall, f1 = precision_recall_f1_at_ratio(y_true, scores, ratio=0.5)
    >>> round(precision, 3), recall, f1
    (0.667, 1.0, 0.8)
    """
    if ratio is not None and (not isinstance(ratio, Real) or not 0 < ratio <= 1):
        raise ValueError(f"ratio must be above 0 and at most 1, got {ratio!r}")
    is_anomaly, scores = _labelled_rows(y_true, scores)
    n_anomalies = _count_anomalies(is_anomaly)
    n_flagged = n_anomalies if ratio is None else round(ratio * len(scores))
    if n_flagged == 0:
        warnings.warn(
            f"ratio={ratio} of {len(scores)} labelled rows flags none of them: the precision is "
            "undefined and reported as 0; choose a larger ratio",
            UndefinedMetricWarning,
            stacklevel=2,
        )
        return 0.0, 0.0, 0.0
    hits = _expected_hits(is_anomaly, scores, n_flagged)
    return hits / n_flagged, hits / n_anomalies, 2 * hits / (n_flagged + n_anomalies)


def f1_at_ratio(y_true: ArrayLike, scores: ArrayLike, ratio: float | None = None) -> float:
    """F1 of the anomalies when a known share of the rows is flagged.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Labels, read by their sign: negative for anomalies, positive for normal rows, 0 for rows
        that are ignored.
    scores : array-like of shape (n_samples,)
        What ``score_samples`` returns: the lower, the more abnormal.
    ratio : float, default=None
        Share of the labelled rows that is flagged, above 0 and at most 1; with the default, the
        share of anomalies in `y_true`.

    Returns
    -------
    f1 : float
        Between 0 and 1; the expectation under random tie-breaking.

    Raises
    ------
    ValueError
        As `precision_recall_f1_at_ratio`.

    See Also
    --------
    precision_recall_f1_at_ratio : Precision and recall as well, with all details.

    Examples
    --------
    >>> from anomaly_estimators.metrics import f1_at_ratio
    >>> f1_at_ratio([-1, 1, 1, 1], [-3.0, -1.0, -1.0, -1.0])
    1.0
    >>> f1_at_ratio([-1, 1, 1, 1], [0.0, 0.0, 0.0, 0.0])
    0.25
    """
    return precision_recall_f1_at_ratio(y_true, scores, ratio)[2]


def precision_at_n(y_true: ArrayLike, scores: ArrayLike, n: int | None = None) -> float:
    """Share of anomalies among the `n` rows with the lowest scores.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Labels, read by their sign: negative for anomalies, positive for normal rows, 0 for rows
        that are ignored.
    scores : array-like of shape (n_samples,)
        What ``score_samples`` returns: the lower, the more abnormal.
    n : int, default=None
        Number of rows that are flagged, at least 1 and at most the number of labelled rows; with
        the default, the number of anomalies in `y_true`.

    Returns
    -------
    precision : float
        Between 0 and 1; the expectation under random tie-breaking.

    Raises
    ------
    ValueError
        If the lengths differ, `y_true` has no anomaly or a value that is not a number, a labelled
        row has the score NaN, or `n` is out of range.

    See Also
    --------
    precision_recall_f1_at_ratio : The number of flagged rows as a share.

    Examples
    --------
    >>> from anomaly_estimators.metrics import precision_at_n
    >>> precision_at_n([-1, 1, -1, 1], [-4.0, -3.0, -2.0, -1.0], n=1)
    1.0
    >>> precision_at_n([-1, 1, -1, 1], [-4.0, -3.0, -2.0, -1.0])
    0.5
    """
    is_anomaly, scores = _labelled_rows(y_true, scores)
    n_anomalies = _count_anomalies(is_anomaly)
    n = n_anomalies if n is None else n
    if not isinstance(n, Integral) or not 1 <= n <= len(scores):
        raise ValueError(f"n must be an integer from 1 to the {len(scores)} labelled rows, got {n}")
    return _expected_hits(is_anomaly, scores, int(n)) / int(n)


def _check_labels(y_true: ArrayLike) -> NDArray:
    """Labels as a numeric vector without NaN; their signs are what counts."""
    labels = column_or_1d(y_true)
    if not np.issubdtype(labels.dtype, np.number) or np.isnan(labels).any():
        raise ValueError(
            "labels must be numbers, +1 for normal and -1 for anomalous rows; turn other labels "
            "into them with np.where(y == <the anomaly's label>, -1, 1)"
        )
    return labels


def _labelled_rows(y_true: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], NDArray]:
    """Whether each labelled row is an anomaly, and its score; unlabelled rows are dropped."""
    labels, scores = _check_labels(y_true), column_or_1d(scores)
    check_consistent_length(labels, scores)
    labelled = labels != 0
    labels, scores = labels[labelled], scores[labelled]
    n_nan = np.count_nonzero(np.isnan(scores))
    if n_nan:
        raise ValueError(
            f"{n_nan} of the {len(scores)} labelled rows have the score NaN, which has no rank: "
            "repair the detector or the rows that it cannot score"
        )
    return labels < 0, scores


def _count_anomalies(is_anomaly: NDArray[np.bool_]) -> int:
    n_anomalies = int(np.count_nonzero(is_anomaly))
    if n_anomalies == 0:
        raise ValueError(
            "y_true has no anomaly (no negative label), so nothing can be found; turn 0/1 labels "
            "into +1/-1 with np.where(y == 1, -1, 1) where 1 is the anomaly"
        )
    return n_anomalies


def _expected_hits(is_anomaly: NDArray[np.bool_], scores: NDArray, n_flagged: int) -> float:
    """Expected number of anomalies among the flagged rows; ties are broken at random."""
    threshold = np.partition(scores, n_flagged - 1)[n_flagged - 1]
    below, tied = scores < threshold, scores == threshold
    n_from_ties = n_flagged - np.count_nonzero(below)
    share_of_ties = np.count_nonzero(is_anomaly & tied) / np.count_nonzero(tied)
    return float(np.count_nonzero(is_anomaly & below) + n_from_ties * share_of_ties)
