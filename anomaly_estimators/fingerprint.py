"""How a table is known again."""

import hashlib

import numpy as np

__all__ = ["data_fingerprint", "row_fingerprints"]

# Rows are read in pieces of about so many values.
_PIECE_VALUES = 2**19


def data_fingerprint(X: np.ndarray, y: np.ndarray | None = None, extra: str = "") -> str:
    """Digest by which a checkpoint, or an audit, knows its own data and parameters.

    At most 64 blocks of rows are read, spread over the whole, so that it costs nothing on large
    files.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,), default=None
        Read as a whole.
    extra : str, default=""
        What else has to be the same.

    Returns
    -------
    str

    Examples
    --------
    >>> X = np.zeros((3, 2))
    >>> data_fingerprint(X) == data_fingerprint(X + 1)
    False
    """
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"{X.shape}{X.dtype}{extra}".encode())
    for start in np.unique(np.linspace(0, max(0, X.shape[0] - 16), 64).astype(int)):
        digest.update(np.ascontiguousarray(X[start : start + 16]).tobytes())
    if y is not None:
        digest.update(np.ascontiguousarray(y))
    return digest.hexdigest()


def row_fingerprints(X: np.ndarray, dtype: type = np.float32) -> np.ndarray:
    """Numbers by which rows are known again, alone or among others, in either precision.

    Rows that are the same in a precision have the same number, and others have different ones but by
    a chance of about 2 to the power of -64 for a pair.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    dtype : {numpy.float32, numpy.float64}, default=numpy.float32
        The precision.

    Returns
    -------
    ndarray of shape (n_samples,), dtype uint64

    Examples
    --------
    >>> X = np.array([[0.1, 0.2], [0.2, 0.1]])
    >>> a, b = row_fingerprints(X)
    >>> bool(a == row_fingerprints(X[:1].astype(np.float32))[0]), bool(a == b)
    (True, False)
    """
    generator = np.random.RandomState(X.shape[1])
    # Odd factors, two for each value, with which sums of different values meet as rarely as they can.
    factors = generator.randint(0, 2**63 - 1, size=(2, X.shape[1]), dtype=np.uint64) | np.uint64(1)
    keys = np.empty(X.shape[0], dtype=np.uint64)
    step = max(1, _PIECE_VALUES // max(1, X.shape[1]))
    for start in range(0, X.shape[0], step):
        with np.errstate(over="ignore"):
            # A zero of either sign is the same number.
            rows = np.ascontiguousarray(X[start : start + step], dtype=dtype) + dtype(0)
        bits = rows.view(f"u{rows.itemsize}").astype(np.uint64)
        mixed = (bits + factors[0]) * factors[1]
        keys[start : start + step] = _scrambled(_scrambled(mixed).sum(axis=1, dtype=np.uint64))
    return keys


def _scrambled(keys: np.ndarray) -> np.ndarray:
    """Let every bit have a part in every other."""
    keys = (keys ^ (keys >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return keys ^ (keys >> np.uint64(32))
