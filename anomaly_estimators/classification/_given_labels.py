"""Labels that rows have been given, and where in the data they are."""

from collections.abc import Sequence

import numpy as np
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import column_or_1d

from anomaly_estimators.row_blocks import release_pages
from anomaly_estimators.training.labelled import are_numbers, distinct_labels

__all__ = [
    "distinct_in_column",
    "find_column",
    "has_kinds",
    "read_given_labels",
    "strings_in_column",
]

# Values of a memory map that are read at a time.
_READ_VALUES = 2**22


def find_column(label_column: int | str, n_columns: int, names: Sequence | None = None) -> int:
    """Return the position of the label, counted from the start.

    Raises
    ------
    ValueError
        If there is no such column, or none beside it.

    Examples
    --------
    >>> find_column(-1, 3), find_column("kind", 3, ["kind", "a", "b"])
    (2, 0)
    """
    if n_columns == 1:
        raise ValueError(
            "X has n_features = 1, which is the label, and no feature to tell it from: add features, or "
            "pass the label as y with label_column=None."
        )
    if isinstance(label_column, str):
        if names is None:
            raise ValueError(
                f"label_column={label_column!r} is a name, but X is no data frame with names: give the "
                "position of the column, or pass a data frame."
            )
        if label_column not in names:
            shown = [*names[:8], *(["..."] if len(names) > 8 else [])]
            raise ValueError(
                f"label_column={label_column!r} is no column of X, whose columns are {', '.join(shown)}."
            )
        return list(names).index(label_column)
    if not -n_columns <= label_column < n_columns:
        raise ValueError(
            f"label_column={label_column} is no column of X, which has {n_columns}: take one within "
            f"{-n_columns} and {n_columns - 1}."
        )
    return int(label_column) % n_columns


def has_kinds(X) -> bool:
    """Tell whether columns of other kinds than numbers may be in X."""
    array = isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind in "OSU"
    return array or hasattr(X, "columns")


def strings_in_column(X, column: int) -> np.ndarray | None:
    """Return the labels in a column if they are no numbers; ``None`` if they are."""
    labels = np.asarray(_safe_indexing(X, column, axis=1))
    return None if are_numbers(labels) else labels


def read_given_labels(y) -> np.ndarray:
    """Read labels that come beside the rows.

    Raises
    ------
    ValueError
        If they are not one a row.

    Examples
    --------
    >>> read_given_labels([3, 1]), read_given_labels(["a", None])
    (array([3, 1]), array(['a', None], dtype=object))
    """
    # As objects, because numpy would turn a gap among the strings of a list into a string.
    labels = column_or_1d(np.asarray(y, dtype=None if hasattr(y, "dtype") else object))
    if labels.dtype == object and are_numbers(labels):
        return np.array(labels.tolist())
    return labels


def distinct_in_column(X: np.ndarray, column: int) -> np.ndarray:
    """Return the distinct numbers in a column, also of a memory map that is larger than memory."""
    step = max(1, _READ_VALUES // X.shape[1])
    found = []
    for start in range(0, X.shape[0], step):
        found.append(np.unique(X[start : start + step, column]))
        release_pages(X)
    return distinct_labels(np.concatenate(found))
