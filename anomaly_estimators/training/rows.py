"""Rows on their way from an array to the network: scaled, cast and read piece by piece."""

import mmap
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

__all__ = ["RowSource", "join", "release_pages"]

# Values in a piece: a few MB, which stays in the cache between scaling and network.
_PIECE_VALUES = 2**19


def release_pages(X: np.ndarray) -> None:
    """Let the system take back the memory of a file's pages that were read through a map.

    Without it a memory map counts as resident memory, page by page, until all of it was read.
    """
    mapped = getattr(X, "_mmap", None)
    if isinstance(mapped, mmap.mmap) and getattr(X, "mode", None) in ("r", "r+"):
        mapped.madvise(mmap.MADV_DONTNEED)


class RowSource:
    """An array, scaled and cast when it is read.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        May be a memory map.
    scaler : transformer or None
        Fitted scikit-learn transformer for the rows.
    dtype : numpy dtype
        What the rows are cast to after scaling.
    """

    def __init__(self, X: np.ndarray, scaler, dtype):
        self.X = X
        self.scaler = scaler
        self.dtype = np.dtype(dtype)
        self.n_rows = X.shape[0]
        self.n_columns = X.shape[1]
        self.piece = max(1, _PIECE_VALUES // max(1, self.n_columns))

    @property
    def n_bytes(self) -> int:
        """Memory that all the rows take once they are read."""
        return self.n_rows * self.n_columns * self.dtype.itemsize

    def prepare(self, rows: np.ndarray) -> Tensor:
        """Scale and cast rows."""
        if self.scaler is not None:
            rows = self.scaler.transform(rows)
        # Huge values may pass the range of float32: they are infinite there, which the guards of
        # training and scoring know how to answer.
        with np.errstate(over="ignore"):
            rows = np.ascontiguousarray(rows, dtype=self.dtype)
        # torch has no read-only tensors, and would warn of one.
        return torch.from_numpy(rows if rows.flags.writeable else rows.copy())

    def take(self, rows: np.ndarray) -> Tensor:
        """Rows by number."""
        parts = (rows[i : i + self.piece] for i in range(0, len(rows), self.piece))
        return torch.from_numpy(join(self._read(parts), len(rows)))

    def pieces(self) -> Iterator[Tensor]:
        """Pieces of the rows in their order."""
        yield from self._read(slice(i, i + self.piece) for i in range(0, self.n_rows, self.piece))

    def load(self) -> Tensor:
        """All rows as one tensor."""
        if self.scaler is None:
            return self.prepare(self.X)
        return torch.from_numpy(join(self.pieces(), self.n_rows))

    def _read(self, parts: Iterable[np.ndarray | slice]) -> Iterator[Tensor]:
        for part in parts:
            yield self.prepare(self.X[part])
            release_pages(self.X)


def join(pieces: Iterable[np.ndarray | Tensor], n_rows: int) -> np.ndarray:
    """Join pieces into one array as they come.

    Kept in a list until the last has come, the small results of large pieces hold the memory between
    them: the heap then grows as if no piece were ever freed.

    Examples
    --------
    >>> join(iter([np.zeros((2, 3)), np.ones((1, 3))]), 3).sum(axis=1)
    array([0., 0., 3.])
    """
    joined, start = None, 0
    for piece in pieces:
        piece = np.asarray(piece)
        if joined is None:
            joined = np.empty((n_rows, *piece.shape[1:]), dtype=piece.dtype)
        joined[start : start + len(piece)] = piece
        start += len(piece)
    return joined
