"""Sparse random projections and one-dimensional histograms, the members of LODA."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

__all__ = [
    "Histograms",
    "ProjectedHistograms",
    "choose_n_bins",
    "draw_projections",
    "fit_histograms",
    "project",
]

# "auto" compares numbers of bins that divide this one, so that the rows are counted once for all.
_N_CELLS = 55440
_DIVISORS = np.array([d for d in range(1, 5041) if _N_CELLS % d == 0])
# Bins outside of the range, each twice as wide as the last: the last one reaches any number.
_N_TAIL_BINS = 1025
# A bin without rows counts as this many.
_EMPTY = 0.5
# The range is wider than that of the rows by this share, so that rounding moves none of them out.
_SLACK = 1e-6


class Histograms(NamedTuple):
    """Regular histograms of several variables, with tails."""

    ranges: np.ndarray  # (n_variables, 2), where the first bin begins and the last one ends
    n_bins: np.ndarray  # (n_variables,)
    n_cells: int  # cells in each range; a bin is a whole number of them
    log_densities: np.ndarray  # (sum of n_bins,), variable after variable
    log_tails: np.ndarray  # (n_variables, 2): the first tail bin's, and what each next one loses

    @property
    def starts(self) -> np.ndarray:
        """Where the bins of each variable begin in :attr:`table`, and where the last ones end."""
        return np.concatenate([[0], np.cumsum(self.n_bins + _N_TAIL_BINS)])

    @property
    def table(self) -> np.ndarray:
        """Log densities of all bins, variable after variable, each one's tail bins last."""
        inner = np.split(self.log_densities, np.cumsum(self.n_bins)[:-1])
        tails = self.log_tails[:, :1] - np.arange(_N_TAIL_BINS) * self.log_tails[:, 1:]
        return np.concatenate([part for pair in zip(inner, tails, strict=True) for part in pair])

    def locate(self, values: np.ndarray) -> np.ndarray:
        """Number of the bin in which each value lies.

        Parameters
        ----------
        values : ndarray of shape (n_variables, n_samples)

        Returns
        -------
        ndarray of shape (n_variables, n_samples), dtype int64
            The bins in the range come first. The first tail bin is as wide as these, and each next
            one twice as wide; both sides share them.

        Examples
        --------
        >>> histograms = fit_histograms(lambda: [np.array([[0.0, 0.1, 0.2, 1.0]])], 2)
        >>> histograms.locate(np.array([[0.3, 0.7, 1.2, -0.2, 1.6, 1e300]]))
        array([[  0,   1,   2,   2,   3, 999]])
        """
        lows, highs = self.ranges[:, :1], self.ranges[:, 1:]
        n_bins = self.n_bins[:, None]
        bins = _cells(values, lows, highs, self.n_cells) // (self.n_cells // n_bins)
        outside = (values < lows) | (values > highs)
        if outside.any():
            with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
                beyond = np.maximum(lows - values, values - highs)
                widths = beyond / ((highs - lows) / n_bins)
                octaves = np.frexp(1 + widths)[1] - 1
                octaves[~np.isfinite(widths)] = _N_TAIL_BINS - 1
            bins = np.where(outside, n_bins + np.clip(octaves, 0, _N_TAIL_BINS - 1), bins)
        return bins


class ProjectedHistograms(NamedTuple):
    """Projections, and the histogram of each."""

    columns: np.ndarray  # (n_projections, n_used)
    weights: np.ndarray  # (n_projections, n_used)
    histograms: Histograms

    def locate(self, X: np.ndarray) -> np.ndarray:
        """Number of the bin in which each row lies along each projection."""
        return self.histograms.locate(project(X, self.columns, self.weights))

    def check(self, n_features: int) -> None:
        """Refuse arrays that do not go together.

        Raises
        ------
        ValueError
        """
        ranges, n_bins, n_cells, log_densities, log_tails = self.histograms
        n = len(self.columns)
        if not (
            self.columns.shape == self.weights.shape
            and np.isfinite(self.weights).all()
            and ((self.columns >= 0) & (self.columns < n_features)).all()
            and ranges.shape == log_tails.shape == (n, 2)
            and n_bins.shape == (n,)
            and ((n_bins >= 1) & (n_cells % n_bins == 0)).all()
            and log_densities.shape == (n_bins.sum(),)
            and np.isfinite(log_densities).all()
            and np.isfinite(log_tails).all()
            and not np.isnan(ranges).any()
        ):
            raise ValueError("these are no histograms of projections")


def draw_projections(
    n_projections: int, n_features: int, random_state: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray]:
    """Draw sparse random projections.

    Parameters
    ----------
    n_projections, n_features : int
    random_state : RandomState

    Returns
    -------
    columns : ndarray of shape (n_projections, n_used)
        Features that enter each projection, as many as the square root of their number.
    weights : ndarray of shape (n_projections, n_used)
        Standard normal numbers.

    Examples
    --------
    >>> columns, weights = draw_projections(4, 10, np.random.RandomState(0))
    >>> columns.shape, weights.shape
    ((4, 3), (4, 3))
    """
    n_used = max(1, round(n_features**0.5))
    drawn = [random_state.choice(n_features, n_used, replace=False) for _ in range(n_projections)]
    return np.sort(drawn, axis=1), random_state.standard_normal((n_projections, n_used))


def project(X: np.ndarray, columns: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Project rows.

    The terms are added in one order whatever the number of rows, so that a row has the same
    projections alone and among others, to the last bit: rounding must not move it to another bin.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    columns, weights : ndarray of shape (n_projections, n_used)

    Returns
    -------
    ndarray of shape (n_projections, n_samples), dtype float64
        Infinite where the sum is too large, or where it is none.

    Examples
    --------
    >>> project(np.array([[1.0, 2.0, 3.0]]), np.array([[0, 2]]), np.array([[10.0, 1.0]]))
    array([[13.]])
    """
    features = np.ascontiguousarray(X.T, dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        projected = features[columns[:, 0]] * weights[:, :1]
        for i in range(1, columns.shape[1]):
            projected += features[columns[:, i]] * weights[:, i : i + 1]
    projected[np.isnan(projected)] = np.inf
    return projected


def fit_histograms(pieces: Callable[[], Iterable[np.ndarray]], n_bins: int | str) -> Histograms:
    """Fit a regular histogram to each of several variables, in two passes over the rows.

    Parameters
    ----------
    pieces : callable
        Returns the rows, in pieces of shape (n_variables, n_rows of the piece).
    n_bins : int or "auto"
        Number of bins; "auto" is that of :func:`choose_n_bins`.

    Returns
    -------
    Histograms
        A bin without rows counts as half a row, and so do the tails on either side together with all
        their bins. A variable that is constant has one bin with a density of 1. One that has infinite
        values has a density of 1 everywhere.

    Examples
    --------
    >>> x = np.array([[0.0, 0.1, 0.2, 1.0]])
    >>> np.exp(fit_histograms(lambda: [x], 2).log_densities).round(3)
    array([1.5, 0.5])
    """
    ranges, constant = _ranges(pieces())
    n_cells = _N_CELLS if n_bins == "auto" else int(n_bins)
    counts = np.zeros((len(ranges), n_cells), dtype=np.int32)
    for piece in pieces():
        cells = _cells(piece, ranges[:, :1], ranges[:, 1:], n_cells)
        for count, own in zip(counts, cells, strict=True):
            count += np.bincount(own, minlength=n_cells).astype(np.int32)
    log_n = np.log(counts[0].sum())
    sizes, densities, tails = [], [], []
    for (low, high), is_constant, count in zip(ranges, constant, counts, strict=True):
        if is_constant:
            size = 1 if n_bins == "auto" else n_cells
            densities.append(np.zeros(size))
            # No width to measure by: a value that was never seen.
            tails.append((np.log(_EMPTY) - log_n, 0.0))
        else:
            size = choose_n_bins(count) if n_bins == "auto" else n_cells
            in_bins = np.maximum(count.reshape(size, -1).sum(axis=1), _EMPTY)
            # In halves: the difference may be too large for a number.
            log_width = np.log(high / 2 - low / 2) + np.log(2) - np.log(size)
            densities.append(np.log(in_bins) - log_n - log_width)
            # Half of the mass beyond any point of a tail bin's begin is in this one.
            tails.append((np.log(_EMPTY / 2) - log_n - log_width, 2 * np.log(2)))
        sizes.append(size)
    return Histograms(ranges, np.array(sizes), n_cells, np.concatenate(densities), np.array(tails))


def choose_n_bins(counts: np.ndarray) -> int:
    r"""Number of bins of a regular histogram, by penalised likelihood (Birge and Rozenholc 2006).

    It maximises :math:`\sum_b n_b \log (D n_b / n) - (D - 1 + (\log D)^{2.5})` over numbers of bins
    :math:`D \le n / \log n`. The candidates divide the number of cells, and are at most 5040.

    Parameters
    ----------
    counts : ndarray of shape (n_cells,)
        Number of rows in each of 55440 cells.

    Returns
    -------
    int

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> flat = np.bincount(rng.integers(55440, size=1000), minlength=55440)
    >>> peak = np.bincount(rng.integers(27000, 28000, size=1000), minlength=55440)
    >>> choose_n_bins(flat) <= 2, choose_n_bins(peak) > 10
    (True, True)
    """
    n = int(counts.sum())
    below = np.concatenate([[0], np.cumsum(counts)])
    best, highest = 1, -np.inf
    for candidate in _DIVISORS[_DIVISORS <= max(1, n / np.log(max(n, 2)))]:
        in_bins = np.diff(below[:: _N_CELLS // candidate])
        in_bins = in_bins[in_bins > 0]
        likelihood = np.sum(in_bins * np.log(in_bins * (candidate / n)))
        penalised = likelihood - (candidate - 1 + np.log(candidate) ** 2.5)
        if penalised > highest:
            best, highest = int(candidate), penalised
    return best


def _ranges(pieces: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Range of each variable, and whether there is none to divide into bins."""
    ends = [np.stack([piece.min(axis=1), piece.max(axis=1)]) for piece in pieces]
    lows, highs = np.min(ends, axis=(0, 1)), np.max(ends, axis=(0, 1))
    finite = np.isfinite(lows) & np.isfinite(highs)
    with np.errstate(over="ignore", invalid="ignore"):
        half = highs / 2 - lows / 2
        constant = ~(half > np.finfo(np.float64).tiny)
        slack = np.where(constant, np.abs(lows), half) * _SLACK
        ranges = np.stack([lows - slack, highs + slack], axis=1)
    ranges[~finite] = -np.inf, np.inf
    return ranges, constant | ~finite


def _cells(values: np.ndarray, lows: np.ndarray, highs: np.ndarray, n_cells: int) -> np.ndarray:
    """Number of the cell in which each value lies, or to which it is nearest."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        # In halves: the difference may be too large for a number.
        shares = (values / 2 - lows / 2) / (highs / 2 - lows / 2)
        cells = np.clip(np.nan_to_num(shares, nan=0.0) * n_cells, 0, n_cells - 1)
    return cells.astype(np.int64)
