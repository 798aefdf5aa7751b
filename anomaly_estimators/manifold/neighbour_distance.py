"""Distance of rows to their nearest neighbours among landmarks."""

import numpy as np
from sklearn.neighbors import KDTree

__all__ = ["matches", "neighbour_distance"]


def neighbour_distance(
    positions: np.ndarray, landmarks: np.ndarray, n_neighbors: int, own: np.ndarray
) -> np.ndarray:
    """Mean distance to the nearest landmarks, eq 4 of [1]_; a landmark is none of its own neighbours.

    Parameters
    ----------
    positions : ndarray of shape (n_samples, n_components)
    landmarks : ndarray of shape (n_landmarks, n_components)
    n_neighbors : int
        k, below the number of landmarks.
    own : ndarray of shape (n_samples,), dtype int64
        Which landmark a row is, or -1 if it is none.

    Returns
    -------
    ndarray of shape (n_samples,), dtype float64

    References
    ----------
    .. [1] "Anomaly Detection Based on Unsupervised Disentangled Representation Learning in Combination
       with Manifold Learning" (AnoDM), 2019.

    Examples
    --------
    >>> landmarks = np.array([[0.0], [1.0], [5.0]])
    >>> neighbour_distance(np.array([[0.0], [0.0]]), landmarks, 1, np.array([-1, 0])).tolist()
    [0.0, 1.0]
    """
    if not len(positions):
        return np.empty(0)
    distances, indices = KDTree(landmarks).query(positions, k=n_neighbors + 1)
    distances[indices == own[:, None]] = np.inf
    return np.sort(distances, axis=1)[:, :n_neighbors].mean(axis=1)


def matches(keys: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Where keys are among known ones.

    Parameters
    ----------
    keys : ndarray of shape (n,), dtype uint64
    known : ndarray of shape (n_known,), dtype uint64

    Returns
    -------
    ndarray of shape (n,), dtype int64
        Number of the first known key that is the same, or -1.

    Examples
    --------
    >>> keys = np.array([7, 5, 6], dtype=np.uint64)
    >>> matches(keys, np.array([6, 7, 7], dtype=np.uint64)).tolist()
    [1, -1, 0]
    """
    if not len(known):
        return np.full(len(keys), -1)
    order = np.argsort(known, kind="stable")
    place = np.searchsorted(known[order], keys)
    found = order[np.minimum(place, len(known) - 1)]
    return np.where(known[found] == keys, found, -1)
