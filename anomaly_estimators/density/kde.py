"""KDE: the kernel density estimate of the training rows as a detector."""

import warnings
from functools import cache
from numbers import Integral, Real

import numpy as np
from scipy.integrate import quad
from scipy.spatial.distance import cdist
from scipy.special import gammaln
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold
from sklearn.neighbors import KernelDensity
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, RealNotInt, StrOptions

from anomaly_estimators.base import OutlierDetector
from anomaly_estimators.scalers import SCALERS, log_volume_factor

__all__ = ["KDE"]

# Logarithm of each kernel, less its constant, from the squared distance in bandwidths.
_LOG_KERNELS = {
    "gaussian": lambda squared: -0.5 * squared,
    "exponential": lambda squared: -np.sqrt(squared),
    "tophat": lambda squared: np.where(squared < 1, 0.0, -np.inf),
    "epanechnikov": lambda squared: np.log1p(-np.minimum(squared, 1)),
    "linear": lambda squared: np.log1p(-np.minimum(np.sqrt(squared), 1)),
    "cosine": lambda squared: np.log(
        np.where(squared < 1, np.cos(np.pi / 2 * np.sqrt(squared)), 0)
    ),
}

# Logarithm of the integral over r of r ** (d - 1) times each kernel at r bandwidths.
_LOG_RADIAL_INTEGRALS = {
    "gaussian": lambda d: gammaln(d / 2) + (d / 2 - 1) * np.log(2),
    "exponential": lambda d: gammaln(d),
    "tophat": lambda d: -np.log(d),
    "epanechnikov": lambda d: np.log(2 / (d * (d + 2))),
    "linear": lambda d: -np.log(d * (d + 1)),
    "cosine": lambda d: np.log(quad(lambda r: r ** (d - 1) * np.cos(np.pi / 2 * r), 0, 1)[0]),
}

# The default grid, in Scott's bandwidths.
_GRID = 2.0 ** np.array([0.5, 1, 1.5, 2, 2.5])

# Distances that are held at a time: as many as a processor's cache holds.
_PIECE_VALUES = 2**16

# In bandwidths: a row this near to a training row is taken for it. Wider than the rounding of float32
# and of steps before this one, and so narrow that new rows lie there by rare chance.
_SAME = 1e-4


class KDE(OutlierDetector):
    """Kernel density estimation: rows where the training rows are sparse are anomalies.

    The score is the logarithm of the density that a kernel around every training row adds up to
    [1]_, as :class:`~sklearn.neighbors.KernelDensity` estimates it; that around all others where
    the row is a training row itself. The width of the kernel, the one parameter that matters, is
    chosen by the likelihood of held-out rows, as in the experiments of [2]_ (appendix E).

    Parameters
    ----------
    bandwidth : float or {"cv", "scott", "silverman"}, default="cv"
        Width of the kernel, on the scale of the scaled features. "cv" takes the one of `bandwidths`
        under which held-out rows are most likely. "scott" and "silverman" are the rules of thumb
        for the Gaussian kernel; another kernel gets the width at which it spreads as much.
    bandwidths : array-like of shape (n_bandwidths,) or None, default=None
        Candidates of ``bandwidth="cv"``. ``None`` takes five, from 2\\ :sup:`0.5` to 2\\ :sup:`2.5`
        times Scott's bandwidth. The paper's grid [2]_ is ``2.0 ** np.arange(0.5, 5.5, 0.5)``.
    cv : int or splitter, default=5
        Number of folds, which are drawn at random, or a splitter of scikit-learn. With fewer rows
        than folds, each row is a fold.
    kernel : {"gaussian", "tophat", "epanechnikov", "exponential", "linear", "cosine"}, \
default="gaussian"
        Kernel. All but "gaussian" and "exponential" end at the bandwidth: they cannot rank the rows
        that are further than this from all training rows.
    algorithm : {"auto", "brute", "kd_tree", "ball_tree"}, default="auto"
        How scores are added up. "brute" takes all training rows. The trees of scikit-learn skip what
        a kernel does not reach: they are faster for kernels that end, in up to about six features,
        but lose digits far from the training rows. "auto" is "kd_tree" where there is a tolerance,
        else "brute".
    leaf_size : int, default=40
        Number of rows in a leaf of the tree.
    atol : float, default=0
        Absolute tolerance of the density, for a tree.
    rtol : float, default=0
        Relative tolerance of the density, for a tree.
    max_samples : int, float or None, default=None
        Number, or share, of the training rows that the density is made of, drawn at random. ``None``
        takes all. Time grows with the number of training rows at each scored row, and with its
        square in ``fit``.
    scaler : {"standard", "minmax", "robust"} or None, default="standard"
        Scaling of the features, without which one bandwidth does not suit features of different
        units. For other transformers, see :class:`~sklearn.pipeline.Pipeline`, with ``None`` here.
    contamination : float or "auto", default=0.1
        Share of the training rows, in (0, 0.5], that ``predict`` flags. As each is scored by the
        others, about this share of new rows of the same kind is flagged too. "auto" flags the rows
        whose score lies below the lower quartile by more than 1.5 interquartile ranges. It sets the
        threshold ``offset_`` and has no part in the scores.
    random_state : int, RandomState instance or None, default=None
        Seed of the folds and of the rows that are drawn.

    Attributes
    ----------
    bandwidth_ : float
        Width of the kernel, on the scale of the scaled features.
    bandwidths_ : ndarray of shape (n_bandwidths,)
        Candidates that were compared; only with ``bandwidth="cv"``.
    log_likelihoods_ : ndarray of shape (n_bandwidths,)
        Mean log density of held-out rows for each candidate, on the scale of the scaled features;
        only with ``bandwidth="cv"``.
    rows_ : ndarray of shape (n_rows, `n_features_in_`)
        Rows that the density is made of, scaled.
    scaler_ : transformer or None
        Fitted scaler.

    See Also
    --------
    sklearn.neighbors.KernelDensity : The density alone, with sampling.
    sklearn.neighbors.LocalOutlierFactor : Compares the density of a row with that of its
        neighbours.

    Notes
    -----
    Scott's bandwidth is ``n ** (-1 / (d + 4))`` for features of unit variance, times their root
    mean square deviation otherwise. The default grid begins above it, for a reason: the held-out
    likelihood is highest where the density follows every group of training rows, and among
    training rows that are not all normal, some groups are of anomalies. On clean rows the wider
    kernel costs little.

    A training row has a kernel of its own, which no new row has: with it, in many features, every
    training row would lie above every new one, and a threshold between training rows would tell
    nothing. So a row within 1e-4 bandwidths of a training row is scored as if that one had been left
    out. New rows that are copies of training rows are scored so too, for a score is a function of the
    model and the row; where there are several copies, one of them is left out.

    The density is that of the unscaled rows, so that the mean score of held-out rows also compares
    scalers; but no steps of a pipeline, which change the rows before they come here.

    References
    ----------
    .. [1] Parzen, "On Estimation of a Probability Density Function and Mode", The Annals of
       Mathematical Statistics 33, 1962.
    .. [2] Ruff et al., "Deep Semi-Supervised Anomaly Detection", ICLR 2020.
       https://openreview.net/forum?id=HkgH0TEYwH

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from anomaly_estimators import KDE
    >>> X, _ = load_breast_cancer(return_X_y=True)
    >>> detector = KDE(random_state=0).fit(X)
    >>> int((detector.predict(X) == -1).sum())
    56
    >>> round(detector.bandwidth_, 3)
    1.173
    """

    _parameter_constraints: dict = {
        **OutlierDetector._parameter_constraints,
        "bandwidth": [
            Interval(Real, 0, None, closed="neither"),
            StrOptions({"cv", "scott", "silverman"}),
        ],
        "bandwidths": ["array-like", None],
        "cv": [Interval(Integral, 2, None, closed="left"), HasMethods(["split", "get_n_splits"])],
        "kernel": [StrOptions(set(_LOG_KERNELS))],
        "algorithm": [StrOptions({"auto", "brute", "kd_tree", "ball_tree"})],
        "leaf_size": [Interval(Integral, 1, None, closed="left")],
        "atol": [Interval(Real, 0, None, closed="left")],
        "rtol": [Interval(Real, 0, None, closed="left")],
        "max_samples": [
            Interval(Integral, 2, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="right"),
            None,
        ],
        "scaler": [StrOptions(set(SCALERS)), None],
        "random_state": ["random_state"],
    }
    _scores_compare = True

    def __init__(
        self,
        *,
        bandwidth="cv",
        bandwidths=None,
        cv=5,
        kernel="gaussian",
        algorithm="auto",
        leaf_size=40,
        atol=0,
        rtol=0,
        max_samples=None,
        scaler="standard",
        contamination=0.1,
        random_state=None,
    ):
        super().__init__(contamination=contamination)
        self.bandwidth = bandwidth
        self.bandwidths = bandwidths
        self.cv = cv
        self.kernel = kernel
        self.algorithm = algorithm
        self.leaf_size = leaf_size
        self.atol = atol
        self.rtol = rtol
        self.max_samples = max_samples
        self.scaler = scaler
        self.random_state = random_state

    def _check_parameters(self) -> None:
        if self.bandwidths is not None:
            bandwidths = np.asarray(self.bandwidths)
            if (
                bandwidths.ndim != 1
                or not bandwidths.size
                or bandwidths.dtype.kind not in "iuf"
                or not np.isfinite(bandwidths).all()
                or bandwidths.min() <= 0
            ):
                raise ValueError(
                    "bandwidths must be a sequence of finite numbers above 0, such as "
                    f"[0.5, 1, 2]; got {self.bandwidths!r}."
                )
        if self.algorithm == "brute" and (self.atol or self.rtol):
            raise ValueError(
                'algorithm="brute" adds up all rows: a tolerance needs algorithm="kd_tree", '
                '"ball_tree" or "auto".'
            )
        if self.kernel == "cosine" and self._algorithm() != "brute":
            # Theirs is not a density where the number of features is even.
            raise ValueError(
                'kernel="cosine" cannot be added up by the trees of scikit-learn: take '
                'algorithm="brute", with atol=0 and rtol=0, or another kernel.'
            )

    def _fit(self, X: np.ndarray, labels: np.ndarray | None) -> None:
        random_state = check_random_state(self.random_state)
        # A copy, so that the model does not change with the caller's array.
        rows = np.array(X[self._draw(len(X), random_state)], dtype=np.float64, order="C")
        self.scaler_ = None if self.scaler is None else SCALERS[self.scaler]().fit(rows)
        self.rows_ = self._scale(rows)
        self._choose_bandwidth(random_state)
        self._grow_tree()

    def _anomaly_score(self, X: np.ndarray) -> np.ndarray:
        step = max(1, _PIECE_VALUES // X.shape[1])
        log_density = np.empty(len(X), dtype=np.float32 if X.dtype == np.float32 else np.float64)
        with np.errstate(all="ignore"):
            for start in range(0, len(X), step):
                piece = slice(start, start + step)
                log_density[piece] = self._log_density(self._scale(X[piece]))
        return -log_density

    def _check_scores(self, scores: np.ndarray, X: np.ndarray) -> None:
        # Two rows are always as far from each other.
        if len(scores) <= 2 or not (X[:1000] != X[0]).any():
            return
        lowest = int((scores == scores.min()).sum())
        most = 0.25 if self.contamination == "auto" else self.contamination
        if lowest == len(scores):
            what = (
                f"All training rows have the same score: with bandwidth_={self.bandwidth_:g} each has "
                "no other near it, or all of them. Other rows may still be ranked, but there is no "
                "threshold to be found: take another bandwidth, a scaler or fewer features."
            )
        elif scores.min() == np.finfo(scores.dtype).min and lowest > most * len(scores):
            what = (
                f"{lowest} of {len(scores)} training rows have no other within reach of the "
                f"{self.kernel} kernel with bandwidth_={self.bandwidth_:g}, and all these share the "
                f"lowest score: more than contamination={self.contamination!r} may flag, so no row is "
                'flagged at all. Take a larger bandwidth, or kernel="gaussian".'
            )
        else:
            return
        warnings.warn(what, ConvergenceWarning, stacklevel=6)

    def _log_density(self, X: np.ndarray) -> np.ndarray:
        log_density = self._sum_all(X) if self._tree is None else self._sum_by_tree(X)
        return log_density + log_volume_factor(self.scaler_)

    def _sum_all(self, X: np.ndarray) -> np.ndarray:
        bandwidths = [self.bandwidth_]
        return mean_log_density(X, self.rows_, bandwidths, self.kernel, leave_out=True)[0]

    def _sum_by_tree(self, X: np.ndarray) -> np.ndarray:
        # scikit-learn's trees take no infinite numbers.
        X = np.nan_to_num(X)
        log_density = self._tree.score_samples(X)
        distance = self._tree.tree_.query(X)[0][:, 0] / self.bandwidth_
        n_rows, n_features = self.rows_.shape
        height = _log_height(self.kernel, n_features, self.bandwidth_, n_rows)
        own = np.flatnonzero(distance < _SAME)
        share = np.exp(_LOG_KERNELS[self.kernel](distance[own] ** 2) + height - log_density[own])
        log_density[own] += np.log1p(-share) + np.log(n_rows / (n_rows - 1))
        # Where most of a sum is taken away, what is left has lost its digits.
        lost = own[~(share < 0.5)]
        log_density[lost] = self._sum_all(X[lost])
        return log_density

    def _draw(self, n_samples: int, random_state: np.random.RandomState):
        """Tell which training rows to keep, in their order."""
        n_kept = self.max_samples
        if isinstance(n_kept, Real) and not isinstance(n_kept, Integral):
            n_kept = max(2, int(n_kept * n_samples))
        if n_kept is None or n_kept >= n_samples:
            return slice(None)
        return np.sort(random_state.choice(n_samples, n_kept, replace=False))

    def _scale(self, X: np.ndarray) -> np.ndarray:
        X = np.ascontiguousarray(X, dtype=np.float64)
        # scikit-learn's configuration may have it make data frames.
        return X if self.scaler_ is None else np.asarray(self.scaler_.transform(X))

    def _choose_bandwidth(self, random_state: np.random.RandomState) -> None:
        vars(self).pop("bandwidths_", None)
        vars(self).pop("log_likelihoods_", None)
        if self.bandwidth != "cv":
            rule = isinstance(self.bandwidth, str)
            self.bandwidth_ = float(
                reference_bandwidth(self.rows_, self.kernel, self.bandwidth)
                if rule
                else self.bandwidth
            )
            return
        if self.bandwidths is None:
            self.bandwidths_ = _GRID * reference_bandwidth(self.rows_, self.kernel, "scott")
        else:
            self.bandwidths_ = np.asarray(self.bandwidths, dtype=np.float64)
        folds = self.cv
        if isinstance(folds, Integral):
            folds = KFold(min(folds, len(self.rows_)), shuffle=True, random_state=random_state)
        self.log_likelihoods_ = held_out_log_likelihoods(
            self.rows_, list(folds.split(self.rows_)), self.bandwidths_, self.kernel
        )
        self.bandwidth_ = float(self.bandwidths_[np.argmax(self.log_likelihoods_)])
        if not np.isfinite(self.log_likelihoods_).any():
            self.bandwidth_ = float(self.bandwidths_.max())
            ends = self.kernel not in ("gaussian", "exponential")
            warnings.warn(
                f"Under every one of the bandwidths some held-out rows have a {self.kernel} density of "
                f"zero, so the largest, {self.bandwidth_:g}, is taken: "
                + (
                    'pass larger ones, or kernel="gaussian".'
                    if ends
                    else "divide X by its largest value."
                ),
                UserWarning,
                stacklevel=5,
            )

    def _algorithm(self) -> str:
        if self.algorithm != "auto":
            return self.algorithm
        return "kd_tree" if self.atol or self.rtol else "brute"

    def _grow_tree(self) -> None:
        """Build the tree, if there is to be one; files hold the rows alone."""
        algorithm = self._algorithm()
        self._tree = None
        if algorithm != "brute":
            self._tree = KernelDensity(
                bandwidth=self.bandwidth_,
                algorithm=algorithm,
                kernel=self.kernel,
                atol=self.atol,
                rtol=self.rtol,
                leaf_size=self.leaf_size,
            ).fit(self.rows_)

    def _get_fitted_state(self) -> dict:
        state = super()._get_fitted_state()
        del state["_tree"]
        return state

    def _set_fitted_state(self, state: dict) -> None:
        super()._set_fitted_state(state)
        if np.ndim(self.rows_) != 2 or self.rows_.shape[1] != self.n_features_in_:
            raise ValueError(f"rows_ must have {self.n_features_in_} columns")
        self._grow_tree()


def mean_log_density(
    X: np.ndarray,
    rows: np.ndarray,
    bandwidths: np.ndarray,
    kernel: str,
    *,
    leave_out: bool = False,
) -> np.ndarray:
    """Logarithm of the kernel density estimate, for several bandwidths at once.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Where the density is wanted.
    rows : ndarray of shape (n_rows, n_features)
        What it is made of.
    bandwidths : array-like of shape (n_bandwidths,)
    kernel : str
        As in :class:`KDE`.
    leave_out : bool, default=False
        Whether the density where one of the rows lies is that of the others. Of several that lie
        there, one is left out.

    Returns
    -------
    ndarray of shape (n_bandwidths, n_samples)
        Minus infinity where no kernel reaches.

    Examples
    --------
    >>> rows = np.array([[0.0], [2.0]])
    >>> np.exp(mean_log_density(np.array([[0.0], [1.5]]), rows, [1.0, 2.0], "tophat")).tolist()
    [[0.25, 0.25], [0.125, 0.25]]
    >>> np.exp(mean_log_density(rows, rows, [4.0], "tophat", leave_out=True)).tolist()
    [[0.125, 0.125]]
    """
    n_rows, n_features = rows.shape
    log_density = np.empty((len(bandwidths), len(X)))
    step = max(1, _PIECE_VALUES // n_rows)
    for start in range(0, len(X), step):
        piece = slice(start, start + step)
        # By differences: the expansion of the square cancels far from the origin.
        squared = cdist(X[piece], rows, "sqeuclidean")
        for out, bandwidth in zip(log_density, bandwidths, strict=True):
            with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
                scaled = squared / bandwidth**2
                height = _log_height(kernel, n_features, bandwidth, n_rows)
                if leave_out:
                    without = _log_height(kernel, n_features, bandwidth, n_rows - 1)
                    height = np.where(_put_own_out_of_reach(scaled), without, height)
                out[piece] = _log_sum(_LOG_KERNELS[kernel](scaled)) + height
    return log_density


def held_out_log_likelihoods(
    rows: np.ndarray,
    folds: list[tuple[np.ndarray, np.ndarray]],
    bandwidths: np.ndarray,
    kernel: str,
) -> np.ndarray:
    """Mean log density of held-out rows, for each bandwidth.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_features)
    folds : list of (train, test)
        Indices of the rows that make the density, and of those that are held out.
    bandwidths : ndarray of shape (n_bandwidths,)
    kernel : str
        As in :class:`KDE`.

    Returns
    -------
    ndarray of shape (n_bandwidths,)

    Examples
    --------
    >>> rows = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> folds = [(np.array([0, 2]), np.array([1, 3]))]
    >>> held_out_log_likelihoods(rows, folds, np.array([0.1, 1.0, 10.0]), "gaussian").argmax()
    np.int64(1)
    """
    by_row = [
        mean_log_density(rows[test], rows[train], bandwidths, kernel) for train, test in folds
    ]
    return np.concatenate(by_row, axis=1).mean(axis=1)


def reference_bandwidth(rows: np.ndarray, kernel: str, rule: str) -> float:
    """Bandwidth by a rule of thumb, which suits rows from one normal distribution.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_features)
    kernel : str
        As in :class:`KDE`.
    rule : {"scott", "silverman"}

    Returns
    -------
    float
        Scott's ``n ** (-1 / (d + 4))`` or Silverman's ``(n * (d + 2) / 4) ** (-1 / (d + 4))``, times
        the root mean square deviation of the features that vary.

    Examples
    --------
    >>> rows = np.array([[-1.0, -1.0], [1.0, 1.0]])
    >>> round(reference_bandwidth(rows, "gaussian", "scott"), 4) == round(2 ** (-1 / 6), 4)
    True
    """
    n_rows, n_features = rows.shape
    n = n_rows if rule == "scott" else n_rows * (n_features + 2) / 4
    deviations = np.std(rows, axis=0)
    varying = deviations[deviations > 0]
    deviation = np.sqrt(np.mean(varying**2)) if varying.size else 1.0
    return float(n ** (-1 / (n_features + 4)) * deviation * _unit_spread(kernel, n_features))


@cache
def _log_constant(kernel: str, n_features: int) -> float:
    """Logarithm of the factor that makes a kernel with a bandwidth of 1 a density."""
    log_sphere = np.log(2) + n_features / 2 * np.log(np.pi) - gammaln(n_features / 2)
    return float(-log_sphere - _LOG_RADIAL_INTEGRALS[kernel](n_features))


def _log_height(kernel: str, n_features: int, bandwidth: float, n_rows: int) -> float:
    """Logarithm of what each of the rows adds to the density where it lies."""
    return _log_constant(kernel, n_features) - n_features * np.log(bandwidth) - np.log(n_rows)


def _put_own_out_of_reach(squared: np.ndarray) -> np.ndarray:
    """Make the smallest of each row's squared distances infinite where it is none, and tell where."""
    nearest = squared.argmin(axis=1)
    own = squared.min(axis=1) < _SAME**2
    squared[own, nearest[own]] = np.inf
    return own


def _unit_spread(kernel: str, n_features: int) -> float:
    """Bandwidth at which each coordinate of a kernel has a variance of 1, as the Gaussian's at 1."""
    integral = _LOG_RADIAL_INTEGRALS[kernel]
    return float(np.sqrt(n_features * np.exp(integral(n_features) - integral(n_features + 2))))


def _log_sum(logs: np.ndarray) -> np.ndarray:
    """Logarithm of the sum of each row's exponentials, which are left in the array."""
    top = logs.max(axis=1)
    top[np.isneginf(top)] = 0.0
    logs -= top[:, None]
    np.exp(logs, out=logs)
    return np.log(logs.sum(axis=1)) + top
