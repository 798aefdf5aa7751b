"""Verdicts of an expert, checked before anything is learned from them."""

import numpy as np

__all__ = ["check_verdicts", "find_contradiction"]


def check_verdicts(indices, verdicts, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Check rows and verdicts for what they must be.

    Parameters
    ----------
    indices : array-like of int of shape (n,)
    verdicts : array-like of shape (n,)
    n_rows : int
        Number of rows in the table.

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
            raise ValueError(
                f"The verdict on row {row} is {_shown(verdict)}, but must be -1 for an anomaly or +1 for "
                "a normal row. Leave a row out that the expert cannot tell."
            )
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
