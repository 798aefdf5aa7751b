"""Rows of a table that may be larger than memory, read block by block."""

import mmap
from collections.abc import Iterable, Iterator

import numpy as np

__all__ = ["join", "precision_of", "release_pages", "row_blocks"]

# Values in a block: a few MB, which stays in the cache between one step and the next.
_BLOCK_VALUES = 2**19


def precision_of(X: np.ndarray) -> np.dtype:
    """Precision in which rows are scored: float32 for float32 rows, float64 for all others.

    Examples
    --------
    >>> precision_of(np.zeros((2, 1), dtype=np.float16))
    dtype('float64')
    """
    return np.dtype(np.float32 if X.dtype == np.float32 else np.float64)


def row_blocks(X: np.ndarray, dtype=None) -> Iterator[np.ndarray]:
    """Cut rows into blocks of their own, cast to one precision.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Of any real type; may be a memory map.
    dtype : numpy dtype, default=None
        ``None`` takes :func:`precision_of` the rows.

    Yields
    ------
    ndarray of shape (n, n_features)
        In C order.

    Examples
    --------
    >>> [block.dtype.name for block in row_blocks(np.ones((3, 2), dtype=np.int8))]
    ['float64']
    """
    dtype = precision_of(X) if dtype is None else dtype
    step = max(1, _BLOCK_VALUES // max(1, X.shape[1]))
    for start in range(0, X.shape[0], step):
        # Plain arrays: a map among maps would be cut once more.
        yield np.ascontiguousarray(np.asarray(X[start : start + step]), dtype=dtype)
        release_pages(X)


def release_pages(X: np.ndarray) -> None:
    """Let the system take back the memory of a file's pages that were read through a map.

    Without it a memory map counts as resident memory, page by page, until all of it was read.
    """
    mapped = getattr(X, "_mmap", None)
    if isinstance(mapped, mmap.mmap) and getattr(X, "mode", None) in ("r", "r+"):
        mapped.madvise(mmap.MADV_DONTNEED)


def join(pieces: Iterable[np.ndarray], n_rows: int) -> np.ndarray:
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
