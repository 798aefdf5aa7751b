"""Where the threshold stands among the scores of the training rows."""

import warnings

import numpy as np

__all__ = ["flagged_count", "rounding", "threshold"]

# Scores that differ by less, relative to their size, are the same: several hundred thousand times the
# rounding of a single operation in float64, and what is left of it after sums that cancel.
_ROUNDING = 1e-9
# Some rows were looked at; others may differ by more.
_NOISE_FACTOR = 16.0


def rounding(scores: np.ndarray) -> np.ndarray:
    """By how much each score may differ when it is computed again, in other company.

    Parameters
    ----------
    scores : ndarray of shape (n_samples,)
        Scores in float64.

    Returns
    -------
    ndarray of shape (n_samples,)
        A billionth of the score or of the interquartile range, whichever is larger.

    Examples
    --------
    >>> float(rounding(np.array([-4.0, -2.0, -2.0, -2.0]))[0])
    4e-09
    """
    lower, upper = _quartiles(scores)
    # Each scaled before the difference, which may overflow.
    spread = _ROUNDING * upper - _ROUNDING * lower
    return np.maximum(_ROUNDING * np.abs(scores), spread)


def flagged_count(scores: np.ndarray, contamination: float | str) -> int:
    """Number of rows that are asked for, whether or not their scores can be told from the others'.

    Parameters
    ----------
    scores : ndarray of shape (n_samples,)
        In ascending order.
    contamination : float or "auto"
        As in :func:`threshold`.

    Returns
    -------
    int
        At least one.

    Examples
    --------
    >>> flagged_count(np.arange(100.0), 0.29), flagged_count(np.arange(100.0), 0.001)
    (29, 1)
    """
    if contamination == "auto":
        lower, upper = _quartiles(scores)
        n_flagged = int(np.searchsorted(scores, lower - 1.5 * (upper - lower)))
    else:
        # The smallest excess is rounding: 0.29 * 100 is 28.999999999999996.
        n_flagged = int(np.floor(contamination * len(scores) + 1e-9))
    return max(1, n_flagged)


def threshold(scores: np.ndarray, contamination: float | str, noise: float = 0.0) -> float:
    """Score below which a row is flagged.

    Parameters
    ----------
    scores : ndarray of shape (n_samples,)
        Scores of the training rows; higher is more normal.
    contamination : float or "auto"
        Share of the rows to flag, at least one row. "auto" flags what lies below the lower quartile
        by more than 1.5 interquartile ranges (Tukey's fence).
    noise : float, default=0.0
        By how much scores were seen to differ when they were computed again.

    Returns
    -------
    float
        Half-way between the last flagged score and the next, which are further apart than by
        :func:`rounding`: rows with the same score are on the same side, however they are asked for.
        Where the share asked for would part such rows, as near to it as can be; just below all scores
        where they are all the same, or none is nearer.

    Warns
    -----
    UserWarning
        If another number of rows is flagged than was asked for, or less than one row was: the message
        says how many.

    Examples
    --------
    >>> threshold(np.array([-9.0, -1.0, -1.5, -1.25]), 0.25)
    -5.25
    """
    ranked = np.sort(np.asarray(scores, dtype=np.float64))
    n_asked = flagged_count(ranked, contamination)
    margins = np.maximum(rounding(ranked), _NOISE_FACTOR * noise)
    # A gap between two neighbours is one that rounding of both leaves open.
    with np.errstate(over="ignore"):
        gaps = np.diff(ranked) > 2.0 * np.maximum(margins[1:], margins[:-1])
    possible = np.concatenate([[0], 1 + np.flatnonzero(gaps)])
    n_flagged = int(possible[np.abs(possible - n_asked).argmin()])
    if n_flagged != n_asked and (contamination != "auto" or n_flagged == 0):
        all_tied = len(possible) == 1
        _warn_of_ties(n_flagged, n_asked, len(ranked), contamination, all_tied=all_tied)
    elif contamination != "auto" and contamination * len(ranked) < 1.0:
        warnings.warn(
            f"contamination={contamination!r} of {len(ranked)} training rows is less than one row: the "
            "one with the lowest score is flagged.",
            UserWarning,
            stacklevel=2,
        )
    if n_flagged:
        # Halved before they are added, because the sum may overflow.
        return float(0.5 * ranked[n_flagged - 1] + 0.5 * ranked[n_flagged])
    with np.errstate(over="ignore"):
        below = ranked[0] - max(2.0 * margins[0], np.finfo(np.float64).tiny)
    return float(max(below, np.finfo(np.float64).min))


def _quartiles(scores: np.ndarray) -> np.ndarray:
    # By halves: the difference of two neighbours may overflow.
    return 2.0 * np.percentile(0.5 * np.asarray(scores), [25, 75])


def _warn_of_ties(
    n_flagged: int, n_asked: int, n_rows: int, contamination: float | str, *, all_tied: bool
) -> None:
    if all_tied:
        why = (
            "all have the same score. Where the rows themselves are all equal, nothing can be learned "
            "of what is unusual: fit rows that differ."
        )
    else:
        why = (
            "rows with the same score are on the same side of the threshold. Rank the rows by "
            "score_samples where that is too coarse."
        )
    warnings.warn(
        f"contamination={contamination!r} asks for {n_asked} of {n_rows} training rows, but "
        f"{n_flagged} are flagged ({n_flagged / n_rows:.2%}): {why}",
        UserWarning,
        stacklevel=2,
    )
