"""Identical rows of a table, on which an expert gives one verdict."""

from functools import cached_property

import numpy as np

from anomaly_estimators.active._cell_features import pieces
from anomaly_estimators.fingerprint import row_fingerprints

__all__ = ["IdenticalRows"]


class IdenticalRows:
    """Which rows of a table are identical: equal in every value, to the last bit.

    A zero of either sign is the same value. Only numbers of 64 bits by which rows are known again are
    compared, so that a table need not fit into memory.

    Parameters
    ----------
    firsts : ndarray of shape (n_samples,), dtype int64
        Position of the first row that is identical to each.

    Examples
    --------
    >>> rows = IdenticalRows.of(np.array([[1.0, 2.0], [0.0, 0.0], [1.0, 2.0], [-0.0, 0.0]]))
    >>> rows.firsts
    array([0, 1, 0, 1])
    >>> rows.others(2)
    array([0])
    """

    def __init__(self, firsts: np.ndarray):
        self.firsts = firsts

    @classmethod
    def of(cls, X: np.ndarray) -> "IdenticalRows":
        """Find the identical rows of a table, reading it once, piece by piece."""
        dtype = np.float32 if X.dtype == np.float32 else np.float64
        keys = np.empty(X.shape[0], dtype=np.uint64)
        for part, piece in pieces(X, 1):
            keys[part] = row_fingerprints(piece, dtype)
        _, first, which = np.unique(keys, return_index=True, return_inverse=True)
        return cls(first[which])

    @classmethod
    def none(cls, n_rows: int) -> "IdenticalRows":
        """Take every row for one of its own."""
        return cls(np.arange(n_rows))

    @cached_property
    def _order(self) -> np.ndarray:
        return np.argsort(self.firsts, kind="stable")

    @cached_property
    def _ranked(self) -> np.ndarray:
        return self.firsts[self._order]

    def others(self, row: int) -> np.ndarray:
        """Positions of the other rows that are identical to one."""
        first = self.firsts[row]
        start, end = np.searchsorted(self._ranked, [first, first + 1])
        group = self._order[start:end]
        return group[group != row]

    def shared(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give labels to the rows that are identical to labelled ones.

        Parameters
        ----------
        labels : ndarray of shape (n_samples,)
            +1, -1, and 0 where there is none.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Those that were given stand. Where identical rows have both labels, the others get none.
        torn : ndarray
            First rows of those that are identical and have both labels.
        """
        has = np.zeros((2, len(labels)), dtype=bool)
        for own, sign in zip(has, (-1, 1), strict=True):
            own[self.firsts[labels == sign]] = True
        common = has[1].astype(labels.dtype) - has[0].astype(labels.dtype)
        return np.where(labels == 0, common[self.firsts], labels), np.flatnonzero(has.all(axis=0))

    def one_of_each(self, labels: np.ndarray) -> np.ndarray:
        """Positions of the labelled rows, of which those that are identical come once a label."""
        known = np.flatnonzero(labels)
        _, chosen = np.unique(2 * self.firsts[known] + (labels[known] > 0), return_index=True)
        return np.sort(known[chosen])

    def untouched(self, labels: np.ndarray) -> np.ndarray:
        """Positions of the rows without a label, of which those that are identical come once.

        Rows that are identical to labelled ones are left out.
        """
        left = self.firsts == np.arange(len(labels))
        left[self.firsts[labels != 0]] = False
        return np.flatnonzero(left)
