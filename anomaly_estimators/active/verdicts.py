"""Verdicts of an expert, checked before anything is learned from them."""

from collections.abc import Sequence

import numpy as np

__all__ = [
    "DOUBT",
    "check_verdicts",
    "find_contradiction",
    "is_in_doubt",
    "is_zero",
    "misread",
    "say_doubt",
]

# How the warning of verdicts in doubt is known.
DOUBT = r"All \d+ verdicts so far are \+1"


def check_verdicts(
    indices, verdicts, n_rows: int, taught: Sequence[int] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Check rows and verdicts for what they must be.

    Parameters
    ----------
    indices : array-like of int of shape (n,)
    verdicts : array-like of shape (n,)
    n_rows : int
        Number of rows in the table.
    taught : sequence of int, default=()
        Rows that were taught as +1 before, if all were: a verdict of 0 puts them in doubt.

    Returns
    -------
    indices : ndarray of shape (n,), dtype int64
    verdicts : ndarray of shape (n,), dtype int8
        -1 and +1.

    Raises
    ------
    ValueError
        If an index is none of the table's, an index comes twice, there are not as many verdicts as
        indices, or a verdict is neither -1 nor +1.

    Examples
    --------
    >>> check_verdicts([4, 2], [-1, 1.0], n_rows=5)
    (array([4, 2]), array([-1,  1], dtype=int8))
    """
    rows = np.asarray(indices)
    if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
        raise ValueError(
            f"indices must be a sequence of positions of rows, such as what query returns; got "
            f"{_shown(indices)}."
        )
    rows = rows.astype(np.int64)
    unknown = rows[(rows < 0) | (rows >= n_rows)]
    if len(unknown):
        raise ValueError(
            f"There is no row {unknown[0]}: the table under audit has the rows 0 to {n_rows - 1}."
        )
    # One number a time, so that words and gaps are told from numbers wherever they are.
    given = (
        list(verdicts) if np.iterable(verdicts) and not isinstance(verdicts, str) else [verdicts]
    )
    if len(given) != len(rows):
        raise ValueError(
            f"There are {len(given)} verdicts on {len(rows)} rows: give one for each, -1 for an anomaly "
            "and +1 for a normal row."
        )
    for row, verdict in zip(rows, given, strict=True):
        if not _is_verdict(verdict):
            message = (
                f"The verdict on row {row} is {_shown(verdict)}, but must be -1 for an anomaly or +1 for "
                "a normal row. Leave a row out that the expert cannot tell."
            )
            if is_zero(verdict):
                message += (
                    " Answers of 1 for an anomaly and 0 for a normal row are turned by "
                    "np.where(np.asarray(verdicts) == 1, -1, 1)."
                )
                kept = list(map(int, taught))
                message += misread(kept, f"detector.teach({kept}, {[-1] * len(kept)}, revise=True)")
            raise ValueError(message)
    repeated, counts = np.unique(rows, return_counts=True)
    if (counts > 1).any():
        raise ValueError(
            f"Row {repeated[counts > 1][0]} comes {counts[counts > 1][0]} times: give one verdict on a row."
        )
    return rows, np.array([int(verdict) for verdict in given], dtype=np.int8)


def find_contradiction(indices: np.ndarray, verdicts: np.ndarray, labels: np.ndarray) -> str | None:
    """Tell the first verdict that contradicts what is known; ``None`` if none does.

    Parameters
    ----------
    indices : ndarray of shape (n,)
    verdicts : ndarray of shape (n,)
    labels : ndarray of shape (n_samples,)
        +1, -1, and 0 where nothing is known.

    Returns
    -------
    str or None

    Examples
    --------
    >>> find_contradiction(np.array([1]), np.array([1]), np.array([0, -1]))
    'Row 1 was judged -1 (anomaly) before, and is +1 (normal) now.'
    """
    for row, verdict in zip(indices, verdicts, strict=True):
        if labels[row] and labels[row] != verdict:
            return (
                f"Row {row} was judged {_named(labels[row])} before, and is {_named(verdict)} now."
            )
    return None


def is_in_doubt(verdicts: Sequence[int], n_before: int = 0) -> bool:
    """Tell whether the verdicts so far are likely to be read the wrong way round.

    They are on the most suspicious rows of a table: where all of them are +1, 1 may stand for an
    anomaly.

    Parameters
    ----------
    verdicts : sequence of int
        All verdicts so far.
    n_before : int, default=0
        How many of them came before the last round. It is a doubt of one round, the first in which
        there are two verdicts.

    Examples
    --------
    >>> is_in_doubt([1, 1, 1]), is_in_doubt([1, 1, -1]), is_in_doubt([1, 1, 1, 1], n_before=3)
    (True, False, False)
    """
    return n_before < 2 <= len(verdicts) and all(verdict > 0 for verdict in verdicts)


def say_doubt(n_verdicts: int, cure: str) -> str:
    """Tell how verdicts were read of which all are +1.

    Parameters
    ----------
    n_verdicts : int
    cure : str
        How they are corrected.

    Examples
    --------
    >>> say_doubt(5, "history.revise(history.indices, -1)")
    'All 5 verdicts so far are +1, and were read as normal rows...'
    """
    return (
        f"All {n_verdicts} verdicts so far are +1, and were read as normal rows, though they are on the "
        "rows that looked most suspicious. If 1 stands for an anomaly in them, correct them by "
        f"{cure}, and turn all further answers by np.where(answers == 1, -1, 1). If the rows are "
        "normal, nothing is wrong."
    )


def misread(rows: list[int], cure: str) -> str:
    """Tell which verdicts were misread where 0 stands for a normal row.

    Examples
    --------
    >>> misread([4, 2], "revise([4, 2], -1)")
    ' If so, the 2 answers of 1 before were misread as normal: correct them by revise([4, 2], -1).'
    >>> misread([], "")
    ''
    """
    if not rows:
        return ""
    answers = (
        "answer of 1 before was" if len(rows) == 1 else f"{len(rows)} answers of 1 before were"
    )
    return f" If so, the {answers} misread as normal: correct them by {cure}."


def is_zero(value) -> bool:
    """Tell whether a verdict is 0 or False, as of an expert who calls anomalies 1."""
    try:
        return not isinstance(value, str | bytes) and np.ndim(value) == 0 and float(value) == 0.0
    except (TypeError, ValueError, OverflowError):
        return False


def _is_verdict(value) -> bool:
    # True is not +1 here: it is as likely to mean "an anomaly".
    if isinstance(value, str | bytes) or np.ndim(value) or np.asarray(value).dtype.kind == "b":
        return False
    try:
        return float(value) in (-1.0, 1.0)
    except (TypeError, ValueError, OverflowError):
        return False


def _named(label: int) -> str:
    return "-1 (anomaly)" if label < 0 else "+1 (normal)"


def _shown(value) -> str:
    return f"{value!r:.60}"
