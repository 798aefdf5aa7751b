"""Kernels in tiles: values on demand, the rows used last kept within a bound of memory."""

import numpy as np
from scipy.linalg.blas import daxpy

__all__ = ["Kernel", "KernelRows", "weighted_sums"]

# Values in a tile, which stays in the cache of a core while it is worked on.
_TILE_VALUES = 2**17
# So that squares do not overflow: rows that far off have a kernel value of 0 in any case.
_FARTHEST = 1e75


class Kernel:
    """Kernel function of two sets of rows, which are prepared once.

    Parameters
    ----------
    kernel : {"rbf", "linear", "poly", "sigmoid"} or callable
        A callable takes arrays of shape (n, n_features) and (m, n_features) and returns one of
        shape (n, m).
    gamma, degree, coef0 : float
        As in scikit-learn's kernels.
    origin : float or ndarray of shape (n_features,), default=0.0
        A point amid the rows, from which the RBF kernel measures so as to lose no digits.

    Examples
    --------
    >>> kernel = Kernel("poly", gamma=1.0, degree=2)
    >>> kernel(kernel.prepare(np.eye(2)), kernel.prepare(np.ones((1, 2))))
    array([[1.],
           [1.]])
    """

    def __init__(self, kernel, *, gamma=1.0, degree=3, coef0=0.0, origin=0.0):
        self.kernel = kernel
        self.gamma = gamma
        self.degree = degree
        self.coef0 = coef0
        self.origin = origin
        self._values = self._of_function if callable(kernel) else getattr(self, f"_{kernel}")

    def prepare(self, X: np.ndarray) -> np.ndarray:
        """Rows as :meth:`__call__` takes them, in float64."""
        X = np.asarray(X, dtype=np.float64)
        if self.kernel != "rbf":
            return X
        # -gamma |a - b|^2 is the inner product of (a', 1, -|a'|^2 / 2) and (b', -|b'|^2 / 2, 1)
        # with a' = sqrt(2 gamma) (a - origin).
        prepared = np.empty((X.shape[0], X.shape[1] + 2))
        scaled = np.subtract(X, self.origin, out=prepared[:, :-2])
        scaled *= np.sqrt(2 * self.gamma)
        np.clip(scaled, -_FARTHEST, _FARTHEST, out=scaled)
        prepared[:, -2] = 1.0
        prepared[:, -1] = -0.5 * np.einsum("ij,ij->i", scaled, scaled)
        return prepared

    def __call__(self, A: np.ndarray, B: np.ndarray) -> np.ndarray:
        """Return the values, of shape (len(A), len(B)), for prepared rows."""
        return self._values(A, B)

    def _rbf(self, A, B):
        swapped = A.copy()
        swapped[:, -2:] = A[:, :-3:-1]
        values = swapped @ B.T
        np.minimum(values, 0, out=values)
        return np.exp(values, out=values)

    def _linear(self, A, B):
        return A @ B.T

    def _poly(self, A, B):
        return (self.gamma * (A @ B.T) + self.coef0) ** self.degree

    def _sigmoid(self, A, B):
        return np.tanh(self.gamma * (A @ B.T) + self.coef0)

    def _of_function(self, A, B):
        values = np.asarray(self.kernel(A, B), dtype=np.float64)
        if values.shape != (len(A), len(B)):
            raise ValueError(
                f"The kernel returned an array of shape {values.shape} for {len(A)} and {len(B)} rows: it "
                "must take two arrays of rows and return one value for each pair of them, as the "
                "functions in sklearn.metrics.pairwise do."
            )
        return values


def weighted_sums(kernel: Kernel, A: np.ndarray, B: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sum over the rows of B: ``weights[j] * kernel(A[i], B[j])``, tile by tile.

    Parameters
    ----------
    kernel : Kernel
    A, B : ndarray of shape (n, ...) and (m, ...)
        Prepared rows.
    weights : ndarray of shape (m,)

    Returns
    -------
    ndarray of shape (n,)
    """
    sums = np.zeros(len(A))
    width = min(max(len(B), 1), 512)
    height = max(1, _TILE_VALUES // width)
    for j in range(0, len(B), width):
        for i in range(0, len(A), height):
            tile = kernel(A[i : i + height], B[j : j + width])
            sums[i : i + height] += tile @ weights[j : j + width]
    return sums


class KernelRows:
    """Rows of the kernel matrix of a data set, computed on demand.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    kernel : Kernel
    cache_size : float
        MB in which the rows used last are kept.

    Attributes
    ----------
    n_evaluations : int
        Kernel values computed so far.
    """

    def __init__(self, X: np.ndarray, kernel: Kernel, cache_size: float):
        self.kernel = kernel
        self.n_evaluations = 0
        n = len(X)
        n_slots = min(n, int(cache_size * 2**20 / (8 * n)))
        # Memory is taken page by page as the slots are filled.
        self._kept = np.empty((n_slots, n))
        self._slot_of = np.full(n, -1)
        self._row_in = np.full(n_slots, -1)
        self._last_use = np.zeros(n_slots, dtype=np.int64)
        self._clock = 0
        self._rows = kernel.prepare(X)

    def block(self, rows: np.ndarray) -> np.ndarray:
        """Return the square matrix of the kernel values among some rows."""
        slots = self._slot_of[rows]
        kept = slots >= 0
        values = np.empty((len(rows), len(rows)))
        for at in np.flatnonzero(kept):
            values[at] = self._kept[slots[at], rows]
        missing = np.flatnonzero(~kept)
        if len(missing):
            values[missing] = self._compute(self._rows[rows[missing]], self._rows[rows])
        return values

    def mean_over(self, rows: np.ndarray) -> np.ndarray:
        """Return the mean kernel value of each row with some rows, which are not kept."""
        self.n_evaluations += len(self._rows) * len(rows)
        return weighted_sums(
            self.kernel, self._rows, self._rows[rows], np.full(len(rows), 1 / len(rows))
        )

    def add_product(self, rows: np.ndarray, weights: np.ndarray, sums: np.ndarray) -> None:
        """Add the kernel rows times their weights to ``sums``, in place; keep the rows.

        Parameters
        ----------
        rows : ndarray of shape (k,), dtype intp
        weights : ndarray of shape (k,)
        sums : ndarray of shape (n_samples,)
        """
        self._clock += 1
        slots = self._slot_of[rows]
        kept = slots >= 0
        self._last_use[slots[kept]] = self._clock
        for slot, weight in zip(slots[kept], weights[kept], strict=True):
            daxpy(self._kept[slot], sums, a=weight)
        rows, weights = rows[~kept], weights[~kept]
        slots = self._make_room(rows)
        step = max(1, _TILE_VALUES // min(max(len(rows), 1), 512))
        for j in range(0, len(rows), 512):
            part = slice(j, j + 512)
            into = slots[part]
            B = self._rows[rows[part]]
            for i in range(0, len(sums), step):
                tile = self._compute(B, self._rows[i : i + step])
                sums[i : i + step] += weights[part] @ tile
                self._kept[into, i : i + step] = tile[: len(into)]

    def _make_room(self, rows: np.ndarray) -> np.ndarray:
        """Give slots to as many rows as there are, those unused for the longest time first."""
        n = min(len(rows), len(self._row_in))
        slots = np.argsort(self._last_use, kind="stable")[:n]
        dropped = self._row_in[slots]
        self._slot_of[dropped[dropped >= 0]] = -1
        self._slot_of[rows[:n]] = slots
        self._row_in[slots] = rows[:n]
        self._last_use[slots] = self._clock
        return slots

    def _compute(self, A: np.ndarray, B: np.ndarray) -> np.ndarray:
        self.n_evaluations += len(A) * len(B)
        return self.kernel(A, B)
