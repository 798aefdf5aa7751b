"""LODA: histograms of random projections."""

from collections.abc import Iterator
from numbers import Integral

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from anomaly_estimators.active._cell_features import binary_exponents, pieces
from anomaly_estimators.active._loda_histograms import (
    Histograms,
    ProjectedHistograms,
    draw_projections,
    fit_histograms,
    project,
)
from anomaly_estimators.base import OutlierDetector
from anomaly_estimators.scalers import SCALERS

__all__ = ["LODA", "feature_importances"]


class LODA(OutlierDetector):
    """Lightweight on-line detector of anomalies: histograms of random projections ([1]_).

    Each projection weighs a few features, chosen at random, by random numbers, and a histogram
    estimates how dense the training rows lie along it. A row is anomalous where it lies thin along many
    of them: the score is the mean of the negative log densities. Training and scoring take time
    proportional to the number of rows.

    Parameters
    ----------
    n_projections : int, default=100
        Number of projections, and of histograms.
    n_bins : int or "auto", default="auto"
        Number of bins. "auto" chooses for each histogram by penalised likelihood ([2]_), as the paper
        does, among 110 numbers up to 5040.
    scaler : {"standard", "minmax", "robust"} or None, default="standard"
        How features are brought to one scale before they are projected: divided by their standard
        deviation, their range, or their interquartile range.
    random_state : int, RandomState instance or None, default=None
        Seed of the projections.

    Attributes
    ----------
    components_ : ndarray of shape (n_projections, `n_features_in_`)
        The projections, as weights of the unscaled features. Each has about the square root of
        their number.
    n_bins_ : ndarray of shape (n_projections,)
        Number of bins of each histogram.
    ranges_ : ndarray of shape (n_projections, 2)
        Where the first bin of each histogram begins, and where the last one ends.
    log_densities_ : ndarray of shape (n_bins,)
        Log densities of the bins of all histograms, one histogram after another.

    See Also
    --------
    AAD : Learns from an expert how much each projection counts.
    KDE : A density estimate in all features at once.
    sklearn.ensemble.IsolationForest : Random splits in the place of random projections.

    Notes
    -----
    An empty bin counts as half a row. So does all that lies beyond the range of the training rows: on
    either side follow bins that double in width, over which that half row thins out like a density of
    1 / distance squared. The further a row is off, the lower it scores, and however far it is, the
    score stays finite. A projection along which all training rows are equal tells only whether a row
    is equal, too: it has a density of 1 there, and that of half a row anywhere else.

    The rows are read twice, in pieces; a memory map need not fit into memory.

    References
    ----------
    .. [1] Pevny, "Loda: Lightweight on-line detector of anomalies", Machine Learning 102, 2016.
       https://doi.org/10.1007/s10994-015-5521-0
    .. [2] Birge and Rozenholc, "How many bins should be put in a regular histogram", ESAIM:
       Probability and Statistics 10, 2006. https://doi.org/10.1051/ps:2006001

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.metrics import roc_auc_score
    >>> from anomaly_estimators import LODA
    >>> X, benign = load_breast_cancer(return_X_y=True)
    >>> detector = LODA(random_state=0).fit(X)
    >>> bool(roc_auc_score(benign, detector.score_samples(X)) > 0.8)
    True
    """

    _parameter_constraints: dict = {
        **OutlierDetector._parameter_constraints,
        "n_projections": [Interval(Integral, 1, None, closed="left")],
        "n_bins": [Interval(Integral, 1, 1_000_000, closed="both"), StrOptions({"auto"})],
        "scaler": [StrOptions(set(SCALERS)), None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        *,
        n_projections=100,
        n_bins="auto",
        scaler="standard",
        contamination=0.1,
        random_state=None,
    ):
        super().__init__(contamination=contamination)
        self.n_projections = n_projections
        self.n_bins = n_bins
        self.scaler = scaler
        self.random_state = random_state

    def feature_importances(self, X) -> np.ndarray:
        r"""Tell which features make rows anomalous, as the paper explains its scores.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Statistic of a one-tailed two-sample t-test: whether the projections with the feature have
            a larger negative log density than those without. Above about 2 a feature matters. It is 0
            where there are fewer than two projections of either kind.
        """
        check_is_fitted(self)
        X = self._validate_rows(X, reset=False)
        importances = np.empty(X.shape)
        used = np.zeros((self.n_features_in_, len(self.components_)))
        used[self._columns.T, np.arange(len(self.components_))] = 1
        for part, logs in self._log_densities(X):
            importances[part] = feature_importances(-logs, used)
        return importances.astype(np.float32 if X.dtype == np.float32 else np.float64)

    def _fit(self, X: np.ndarray, labels: np.ndarray | None) -> None:
        random_state = check_random_state(self.random_state)
        columns, weights = draw_projections(self.n_projections, X.shape[1], random_state)
        # Scaling is a part of the weights; where the rows are centred plays no part in a histogram.
        scales, exponents = self._scales(X)
        with np.errstate(all="ignore"):
            weights = np.nan_to_num(np.ldexp(weights / scales[columns], -exponents[columns]))
        self._columns = columns
        self.components_ = np.zeros((self.n_projections, X.shape[1]))
        np.put_along_axis(self.components_, columns, weights, axis=1)

        def projected() -> Iterator[np.ndarray]:
            for _, piece in pieces(X, self.n_projections):
                yield project(piece, columns, weights)

        (
            self.ranges_,
            self.n_bins_,
            self._n_cells,
            self.log_densities_,
            self._log_tails,
        ) = fit_histograms(projected, self.n_bins)

    def _scales(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Width of each feature, as a number and a binary exponent."""
        exponents = np.zeros(X.shape[1], dtype=np.int32)
        if self.scaler is None:
            return np.ones(X.shape[1]), exponents
        if isinstance(X, np.memmap):
            from anomaly_estimators.training.scaling import fit_scaler

            scaler = fit_scaler(self.scaler, X)
        else:
            # Brought near to one first: the squares of some numbers are none.
            exponents = binary_exponents(X)
            scaler = SCALERS[self.scaler]().fit(np.ldexp(X, -exponents))
        return (1 / scaler.scale_ if self.scaler == "minmax" else scaler.scale_), exponents

    def _anomaly_score(self, X: np.ndarray) -> np.ndarray:
        scores = np.empty(X.shape[0], dtype=np.float32 if X.dtype == np.float32 else np.float64)
        for part, logs in self._log_densities(X):
            total = np.zeros(logs.shape[1])
            # One by one: a row has the same sum alone and among others, to the last bit.
            for member in logs:
                total += member
            # Turned round here and once more as a score, which is no negative zero then.
            scores[part] = -(total / len(logs))
        return scores

    def _log_densities(self, X: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """Log densities of each projection, of shape (n_projections, n_rows), for pieces of rows."""
        members = self._members
        table, starts = members.histograms.table, members.histograms.starts[:-1, None]
        for part, piece in pieces(X, len(self.components_)):
            yield part, table[members.locate(piece) + starts]

    @property
    def _members(self) -> ProjectedHistograms:
        return ProjectedHistograms(
            self._columns,
            np.take_along_axis(self.components_, self._columns, axis=1),
            Histograms(
                self.ranges_, self.n_bins_, self._n_cells, self.log_densities_, self._log_tails
            ),
        )

    def _set_fitted_state(self, state: dict) -> None:
        super()._set_fitted_state(state)
        if self.components_.shape[1] != self.n_features_in_:
            raise ValueError(f"components_ must have {self.n_features_in_} columns")
        self._members.check(self.n_features_in_)


def feature_importances(surprises: np.ndarray, used: np.ndarray) -> np.ndarray:
    r"""Statistics of t-tests between the projections with a feature and those without.

    .. math:: t = \frac{\mu - \bar\mu}{\sqrt{s^2 / n + \bar s^2 / \bar n}}

    with means :math:`\mu` and variances :math:`s^2` of a row's negative log densities over the
    :math:`n` projections with the feature, and the same with a bar for those without.

    Parameters
    ----------
    surprises : ndarray of shape (n_projections, n_samples)
        Negative log densities.
    used : ndarray of shape (n_features, n_projections)
        1 where a projection has the feature, else 0.

    Returns
    -------
    ndarray of shape (n_samples, n_features)

    Examples
    --------
    >>> surprises = np.array([[5.0], [6.0], [1.0], [2.0]])
    >>> feature_importances(surprises, np.array([[1.0, 1.0, 0.0, 0.0]])).round(3)
    array([[5.657]])
    """
    # About the mean of each row, lest the squares cancel.
    centred = surprises - surprises.mean(axis=0)
    squares = centred**2
    means, errors, counts = [], [], []
    for group in (used, 1 - used):
        n = group.sum(axis=1, keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = group @ centred / n
            variance = np.maximum(group @ squares / n - mean**2, 0) * n / (n - 1)
            errors.append(variance / n)
        means.append(mean)
        counts.append(n)
    with np.errstate(divide="ignore", invalid="ignore"):
        statistics = (means[0] - means[1]) / np.sqrt(errors[0] + errors[1])
    enough = (counts[0] >= 2) & (counts[1] >= 2)
    return np.where(enough & np.isfinite(statistics), statistics, 0.0).T
