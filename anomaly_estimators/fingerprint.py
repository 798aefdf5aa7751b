"""How a table is known again."""

import hashlib

import numpy as np

__all__ = ["data_fingerprint"]


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
