"""What AAD learns weights for: the features that an ensemble of detectors makes of a row."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import singledispatch

import numpy as np
from scipy.sparse import csr_array

from anomaly_estimators.active._aad_solver import Rows
from anomaly_estimators.row_blocks import release_pages

__all__ = ["CellFeatures", "binary_exponents", "fit_features", "pieces"]

# Values, of the rows or of their cells, that are held at a time.
_PIECE_VALUES = 2**19


class CellFeatures(ABC):
    """Features in factored form.

    Each member of an ensemble puts a row into one of its cells: a tree into a leaf, a histogram into
    a bin. What the row has as features is the sum of what its cells have, so that a small number for
    each member is all that is kept of it.

    Attributes
    ----------
    starts : ndarray of shape (n_members + 1,)
        Where the cells of each member begin among those of all members, and where the last ones end.
    values : csr_array of shape (n_cells, n_weights)
        Features of the cells. Rows with larger ones are more suspicious.
    n_columns : int
        Number of columns that rows must have, at least.
    """

    starts: np.ndarray
    values: csr_array
    n_columns: int

    @property
    def n_weights(self) -> int:
        """Number of features."""
        return self.values.shape[1]

    @abstractmethod
    def locate(self, X: np.ndarray) -> np.ndarray:
        """Number of the cell, among those of the member, in which each row of a piece lies.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_members, n_samples), dtype int
        """

    @abstractmethod
    def rows(self, cells: np.ndarray) -> Rows:
        """Features of rows, in the form in which the solver does best with them.

        Parameters
        ----------
        cells : ndarray of shape (n_members, n_samples)
        """

    @abstractmethod
    def state(self) -> dict:
        """Arrays and numbers, which make the same features as arguments of the class."""

    def __reduce__(self):
        # Pickles hold no more than files do.
        return _remake, (type(self), self.state())

    def locate_all(self, X: np.ndarray) -> np.ndarray:
        """Find the cells of a table, piece by piece, in as few bytes as hold them.

        Returns
        -------
        ndarray of shape (n_members, n_samples)
        """
        sizes = np.diff(self.starts)
        cells = np.empty((len(sizes), X.shape[0]), dtype=np.min_scalar_type(int(sizes.max())))
        for part, piece in pieces(X, len(sizes)):
            cells[:, part] = self.locate(piece)
        return cells

    def score(self, cells: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Weighted sums of the features of rows.

        Parameters
        ----------
        cells : ndarray of shape (n_members, n_samples)
        weights : ndarray of shape (n_weights,)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        by_cell = self.values @ weights
        total = np.zeros(cells.shape[1])
        # Member by member: a row has the same sum alone and among others, to the last bit.
        for member, start in zip(cells, self.starts[:-1], strict=True):
            total += by_cell[start:][member]
        return total


@singledispatch
def fit_features(
    detector, X: np.ndarray, *, forest_features: str, random_state: np.random.RandomState
) -> CellFeatures:
    """Fit an ensemble, and take from it what makes features of rows.

    Parameters
    ----------
    detector : estimator
        Not fitted; it is left as it is.
    X : ndarray of shape (n_samples, n_features)
    forest_features : {"nodes", "leaves"}
    random_state : RandomState
        For a detector that has no seed of its own.
    """
    raise TypeError(f"{type(detector).__name__} is no ensemble that features can be taken from")


def binary_exponents(X: np.ndarray) -> np.ndarray:
    """Exponent of the power of two by which the largest value of each feature comes to be near to one.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)

    Returns
    -------
    ndarray of shape (n_features,), dtype int32

    Examples
    --------
    >>> binary_exponents(np.array([[3e300, 0.0], [1.0, -5.0]]))
    array([999,   3], dtype=int32)
    """
    largest = np.zeros(X.shape[1])
    for _, piece in pieces(X, 1):
        np.maximum(largest, np.abs(piece.astype(np.float64)).max(axis=0), out=largest)
    return np.frexp(largest)[1]


def _remake(cls: type[CellFeatures], state: dict) -> CellFeatures:
    return cls(**state)


def pieces(X: np.ndarray, n_members: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Cut rows into pieces for which both the rows and their cells are small."""
    step = max(1, _PIECE_VALUES // max(X.shape[1], n_members))
    for start in range(0, X.shape[0], step):
        part = slice(start, min(start + step, X.shape[0]))
        yield part, X[part]
        release_pages(X)
