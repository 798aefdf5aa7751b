"""Rows on their way from an array to the network: scaled, cast and read piece by piece."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from anomaly_estimators.row_blocks import join, release_pages

__all__ = ["RowSource"]

# Values in a piece: a few MB, which stays in the cache between scaling and network.
_PIECE_VALUES = 2**19


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
            # In float64 whatever their type: a scaler computes in that of the rows, and a mean that is
            # large beside the spread leaves no digits in float32, and none at all in float16.
            rows = self.scaler.transform(np.asarray(rows, dtype=np.float64))
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
