"""How wide the rows of a map look for neighbours, for affinities that count both ways."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from sklearn.neighbors import KDTree

__all__ = ["Bandwidths"]

# Halvings of the interval in which a precision is sought.
_N_HALVINGS = 100


@dataclass(frozen=True)
class Bandwidths:
    """Gaussians of the rows of a map, each as wide as its perplexity asks.

    Parameters
    ----------
    precision : ndarray of shape (n_samples,)
        1 / (2 sigma^2) of each row.
    log_mass : ndarray of shape (n_samples,)
        Logarithm of the sum of each Gaussian, without its constant, over the neighbours.

    Examples
    --------
    >>> rows = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> widths = Bandwidths.of(rows, n_neighbors=3, perplexity=2.0)
    >>> widths.mutual(np.array([[0, 1]]), np.array([[0.5, 0.5]])).round(2).tolist()
    [[0.49, 1.0]]
    """

    precision: np.ndarray
    log_mass: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray, n_neighbors: int, perplexity: float) -> "Bandwidths":
        """Find the widths at which the entropy over the neighbours is log(perplexity)."""
        distances, _ = KDTree(rows).query(rows, k=n_neighbors + 1)
        squares = np.square(distances[:, 1:])
        # Less the nearest, so that no Gaussian vanishes.
        excess = squares - squares[:, :1]
        low, high = np.zeros(len(rows)), np.full(len(rows), np.inf)
        precision = 1.0 / np.maximum(squares.mean(axis=1), 1e-30)
        for _ in range(_N_HALVINGS):
            too_wide = _entropy(excess, precision) > np.log(perplexity)
            low = np.where(too_wide, precision, low)
            high = np.where(too_wide, high, precision)
            # Twice as much as long as there is no upper end.
            precision = 0.5 * (low + np.where(np.isinf(high), 3.0 * low, high))
        weights = np.exp(-precision[:, None] * excess)
        return cls(precision, np.log(weights.sum(axis=1)) - precision * squares[:, 0])

    def mutual(self, neighbors: np.ndarray, distances: np.ndarray) -> np.ndarray:
        """Probability with which each neighbour would have a new row for one of its own.

        Parameters
        ----------
        neighbors : ndarray of shape (n_new, k), dtype int64
            Rows of the map.
        distances : ndarray of shape (n_new, k)

        Returns
        -------
        ndarray of shape (n_new, k)
        """
        log_weight = -self.precision[neighbors] * np.square(distances)
        return np.exp(log_weight - np.logaddexp(self.log_mass[neighbors], log_weight))

    def symmetric(
        self, affinities: sparse.csr_matrix, neighbors: np.ndarray, distances: np.ndarray
    ) -> sparse.csr_matrix:
        """Mean of the affinities of new rows to their neighbours, and of the neighbours to them.

        Parameters
        ----------
        affinities : sparse matrix of shape (n_new, n_samples)
            Each row sums to 1.
        neighbors, distances : ndarray of shape (n_new, k)

        Returns
        -------
        sparse matrix of shape (n_new, n_samples)
            Rows sum to a half for a row that none has for its neighbour, and to more for others.
        """
        n_new, k = neighbors.shape
        back = sparse.csr_matrix(
            (
                self.mutual(neighbors, distances).ravel(),
                neighbors.ravel(),
                range(0, n_new * k + 1, k),
            ),
            shape=affinities.shape,
        )
        both = sparse.csr_matrix(0.5 * (affinities + back))
        both.sort_indices()
        return both


def _entropy(excess: np.ndarray, precision: np.ndarray) -> np.ndarray:
    weights = np.exp(-precision[:, None] * excess)
    mass = weights.sum(axis=1)
    return np.log(mass) + precision * (weights * excess).sum(axis=1) / mass
