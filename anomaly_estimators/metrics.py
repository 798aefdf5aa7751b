"""Measures of detectors, for +1/-1 labels and scores that are lower for the more abnormal rows."""

import warnings
from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils import check_consistent_length, column_or_1d

from .labels import are_unusual, how_read, label_values

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
        If `ratio` is so small that no row is flagged; the precision is then reported as 0. If
        `y_true` has no normal row, so that every detector gets the same figures.
    UserWarning
        If labels or scores are most likely meant the other way round: there are labels other than
        -1, 0 and +1, or more than half of the rows are anomalies and none is unlabelled, or nearly
        all anomalies have higher scores than nearly all normal rows. The message says how the labels
        were read, and how to turn them.

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
    check_ratio(ratio)
    return at_ratio(*_ranked_rows(y_true, scores), ratio)


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

    Warns
    -----
    UserWarning, sklearn.exceptions.UndefinedMetricWarning
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
    check_ratio(ratio)
    return at_ratio(*_ranked_rows(y_true, scores), ratio)[2]


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

    Warns
    -----
    UserWarning, sklearn.exceptions.UndefinedMetricWarning
        As `precision_recall_f1_at_ratio`, of labels and scores.

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
    return at_n(*_ranked_rows(y_true, scores), n)


def check_ratio(ratio: float | None) -> None:
    """Refuse what is no share."""
    if ratio is not None and (not isinstance(ratio, Real) or not 0 < ratio <= 1):
        raise ValueError(f"ratio must be above 0 and at most 1, got {ratio!r}")


def at_ratio(
    is_anomaly: NDArray[np.bool_], scores: NDArray, ratio: float | None
) -> tuple[float, float, float]:
    """Precision, recall and F1 where a share of the rows is flagged, of which some are anomalies."""
    n_anomalies = int(np.count_nonzero(is_anomaly))
    n_flagged = n_anomalies if ratio is None else round(ratio * len(scores))
    if n_flagged == 0:
        warnings.warn(
            f"ratio={ratio} of {len(scores)} labelled rows flags none of them: the precision is "
            "undefined and reported as 0; choose a larger ratio",
            UndefinedMetricWarning,
            stacklevel=3,
        )
        return 0.0, 0.0, 0.0
    hits = _expected_hits(is_anomaly, scores, n_flagged)
    return hits / n_flagged, hits / n_anomalies, 2 * hits / (n_flagged + n_anomalies)


def at_n(is_anomaly: NDArray[np.bool_], scores: NDArray, n: int | None) -> float:
    """Precision where a number of rows is flagged."""
    n = int(np.count_nonzero(is_anomaly)) if n is None else n
    if not isinstance(n, Integral) or not 1 <= n <= len(scores):
        raise ValueError(f"n must be an integer from 1 to the {len(scores)} labelled rows, got {n}")
    return _expected_hits(is_anomaly, scores, int(n)) / int(n)


def labelled_rows(
    y: NDArray, scores: ArrayLike, name: str, stacklevel: int
) -> tuple[NDArray[np.bool_], NDArray]:
    """Whether each labelled row is an anomaly, and its score; unlabelled rows are dropped.

    Labels that are most likely meant in another way are pointed out, where both kinds are there.
    """
    try:
        scores = column_or_1d(scores, dtype=np.float64)
    except ValueError as error:
        raise ValueError(f"scores must be a vector of numbers. {error}") from error
    check_consistent_length(y, scores)
    labelled = y != 0
    is_anomaly, scores = y[labelled] < 0, scores[labelled]
    n_nan = np.count_nonzero(np.isnan(scores))
    if n_nan:
        raise ValueError(
            f"{n_nan} of the {len(scores)} labelled rows have the score NaN, which has no rank: "
            "repair the detector or the rows that it cannot score"
        )
    if is_anomaly.any() and not is_anomaly.all():
        if are_unusual(y):
            warnings.warn(how_read(y, name), UserWarning, stacklevel=stacklevel)
        elif labelled.all() and is_anomaly.mean() > 0.5:
            warnings.warn(
                f"Most rows are anomalies by {name}, which is rare. {how_read(y, name)}",
                UserWarning,
                stacklevel=stacklevel,
            )
    return is_anomaly, scores


def _ranked_rows(y_true: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], NDArray]:
    """As `labelled_rows`, with at least one anomaly; what makes a figure doubtful is pointed out."""
    y = label_values(y_true, "y_true")
    is_anomaly, scores = labelled_rows(y, scores, "y_true", stacklevel=4)
    if not is_anomaly.any():
        raise ValueError(
            "y_true has no anomaly (no negative label), so nothing can be found. "
            + how_read(y, "y_true")
        )
    if is_anomaly.all():
        warnings.warn(
            "y_true has no normal row (no positive label), so that all scores give the same figure. "
            + how_read(y, "y_true"),
            UndefinedMetricWarning,
            stacklevel=3,
        )
    elif _are_reversed(is_anomaly, scores):
        warnings.warn(
            "Nearly all anomalies have higher scores than nearly all normal rows. The lower a score, the "
            "more abnormal the row: pass -scores where they are anomaly scores. "
            + how_read(y, "y_true"),
            UserWarning,
            stacklevel=3,
        )
    return is_anomaly, scores


def _are_reversed(is_anomaly: NDArray[np.bool_], scores: NDArray) -> bool:
    """Whether scores rank the rows as the opposite of a good detector would, and not by chance.

    More than nine in ten pairs of an anomaly and a normal row are the wrong way round, which happens
    to random scores once in some hundred times with five rows of each kind, and less often with more.
    """
    n_anomalies, n_normal = np.count_nonzero(is_anomaly), np.count_nonzero(~is_anomaly)
    if min(n_anomalies, n_normal) < 5:
        return False
    n_right = n_normal + (n_anomalies + 1) / 2 - rankdata(scores)[is_anomaly].mean()
    return bool(n_right < 0.1 * n_normal)


def _expected_hits(is_anomaly: NDArray[np.bool_], scores: NDArray, n_flagged: int) -> float:
    """Expected number of anomalies among the flagged rows; ties are broken at random."""
    threshold = np.partition(scores, n_flagged - 1)[n_flagged - 1]
    below, tied = scores < threshold, scores == threshold
    n_from_ties = n_flagged - np.count_nonzero(below)
    share_of_ties = np.count_nonzero(is_anomaly & tied) / np.count_nonzero(tied)
    return float(np.count_nonzero(is_anomaly & below) + n_from_ties * share_of_ties)
