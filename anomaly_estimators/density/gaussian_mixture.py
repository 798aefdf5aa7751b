"""GMM: a mixture of normal distributions, fitted by EM, as a detector."""

import warnings
from collections.abc import Callable
from numbers import Integral, Real

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from anomaly_estimators.base import OutlierDetector
from anomaly_estimators.density.kde import reference_bandwidth
from anomaly_estimators.scalers import SCALERS, log_volume_factor

__all__ = ["GMM"]

# Shape of the covariances of K components of d features.
_COVARIANCE_SHAPES = {
    "full": lambda K, d: (K, d, d),
    "tied": lambda K, d: (d, d),
    "diag": lambda K, d: (K, d),
    "spherical": lambda K, d: (K,),
}
# Scaled values are held within it, so that no square overflows.
_LARGEST = 1e100
# Of the variance of the features: what is added where reg_covar leaves a covariance singular.
_LEAST_SHARE = 1e-12
# Values that are scored at a time.
_PIECE_VALUES = 2**20


class GMM(OutlierDetector):
    """Gaussian mixture: rows that are unlikely under a few normal distributions are anomalies.

    The score is the log density of a :class:`~sklearn.mixture.GaussianMixture`, which
    expectation-maximisation [1]_ fits to the training rows. Behind an
    :class:`~anomaly_estimators.Autoencoder` it is the PAE-GMM-EM of [2]_ (section 4.2): its sample
    energy, the negative of the score, is equation 6.

    Parameters
    ----------
    n_components : int or "bic", default="bic"
        Number of normal distributions. "bic" fits each of the `candidates` and takes the one with
        the lowest Bayesian information criterion [3]_.
    candidates : array-like of int, default=(1, 2, 3, 4)
        Numbers that ``n_components="bic"`` compares. Those that would leave a component with fewer
        rows than its covariance needs are passed over: ``n_features + 1`` where it is "full", else
        two.
    covariance_type : {"full", "tied", "diag", "spherical"}, default="diag"
        Form of the covariances: each component has its own matrix, all share one, each has variances
        alone, or each has one variance.
    tol : float, default=0.001
        EM stops when the mean log-likelihood of the training rows grows by less than this.
    reg_covar : float or "scott", default="scott"
        Added to every variance, on the scale of the scaled features. "scott" is the square of the
        bandwidth that Scott's rule gives a :class:`~anomaly_estimators.KDE` of the rows: every
        component is then at least as wide as such a kernel. A small number, such as scikit-learn's
        1e-6, gives the likeliest density. Where it leaves a covariance singular, more is added and a
        warning tells.
    max_iter : int, default=100
        Largest number of EM iterations.
    n_init : int, default=3
        Number of starts; the one with the highest likelihood is kept.
    init_params : {"kmeans", "k-means++", "random", "random_from_data"}, default="kmeans"
        How EM starts, as in :class:`~sklearn.mixture.GaussianMixture`.
    scaler : {"standard", "minmax", "robust"} or None, default="standard"
        Scaling of the features. For other transformers, see :class:`~sklearn.pipeline.Pipeline`, with
        ``None`` here.
    random_state : int, RandomState instance or None, default=None
        Seed of the starts.

    Attributes
    ----------
    weights_ : ndarray of shape (n_components,)
        Shares of the components.
    means_ : ndarray of shape (n_components, `n_features_in_`)
        Their means, on the scale of the scaled features.
    covariances_ : ndarray
        Their covariances, on the scale of the scaled features: of shape (n_components, d, d) where
        they are "full", (d, d) "tied", (n_components, d) "diag" and (n_components,) "spherical".
    precisions_cholesky_ : ndarray
        Cholesky factors of the inverse covariances, of the same shape.
    n_components_ : int
        Number of components.
    candidates_ : ndarray of shape (n_candidates,)
        Numbers of components that were fitted.
    bic_ : ndarray of shape (n_candidates,)
        Bayesian information criterion of each, on the scale of the scaled features.
    reg_covar_ : float
        What was added to the variances.
    converged_ : bool
        Whether EM met `tol`.
    n_iter_ : int
        Number of EM iterations of the start that was kept.
    scaler_ : transformer or None
        Fitted scaler.

    See Also
    --------
    sklearn.mixture.GaussianMixture : The mixture alone, with sampling.
    DAGMM : Trains the codes and the mixture together.
    KDE : A density without a form.

    Notes
    -----
    The default of `reg_covar` is more than numerics need, for a reason: narrow components follow
    every group of training rows, and among training rows that are not all normal, some groups are of
    anomalies.

    The density is that of the unscaled rows, so that the mean score of held-out rows also compares
    scalers; but no steps of a pipeline, which change the rows before they come here. With
    ``scaler=None`` it is scikit-learn's. Rows are centred before EM, which changes nothing but
    rounding.

    References
    ----------
    .. [1] Dempster, Laird and Rubin, "Maximum Likelihood from Incomplete Data via the EM Algorithm",
       Journal of the Royal Statistical Society B 39, 1977.
    .. [2] Zong et al., "Deep Autoencoding Gaussian Mixture Model for Unsupervised Anomaly Detection",
       ICLR 2018. https://openreview.net/forum?id=BJJLHbb0-
    .. [3] Schwarz, "Estimating the Dimension of a Model", The Annals of Statistics 6, 1978.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from anomaly_estimators import GMM
    >>> X, _ = load_breast_cancer(return_X_y=True)
    >>> detector = GMM(random_state=0).fit(X)
    >>> int((detector.predict(X) == -1).sum())
    56
    """

    _parameter_constraints: dict = {
        **OutlierDetector._parameter_constraints,
        "n_components": [Interval(Integral, 1, None, closed="left"), StrOptions({"bic"})],
        "candidates": ["array-like"],
        "covariance_type": [StrOptions(set(_COVARIANCE_SHAPES))],
        "tol": [Interval(Real, 0, None, closed="left")],
        "reg_covar": [Interval(Real, 0, None, closed="left"), StrOptions({"scott"})],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "init_params": [StrOptions({"kmeans", "k-means++", "random", "random_from_data"})],
        "scaler": [StrOptions(set(SCALERS)), None],
        "random_state": ["random_state"],
    }
    _scores_compare = True

    def __init__(
        self,
        *,
        n_components="bic",
        candidates=(1, 2, 3, 4),
        covariance_type="diag",
        tol=1e-3,
        reg_covar="scott",
        max_iter=100,
        n_init=3,
        init_params="kmeans",
        scaler="standard",
        contamination=0.1,
        random_state=None,
    ):
        super().__init__(contamination=contamination)
        self.n_components = n_components
        self.candidates = candidates
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.scaler = scaler
        self.random_state = random_state

    def predict_component_proba(self, X) -> np.ndarray:
        """Probabilities that rows come from each component of the mixture.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            Rows that sum to 1; float32 for float32 rows, else float64.
        """
        check_is_fitted(self)
        X = self._validate_rows(X, reset=False)
        return self._map(GaussianMixture.predict_proba, X, (self.n_components_,))

    def predict_component(self, X) -> np.ndarray:
        """Tell which component of the mixture rows most probably come from.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,), dtype int64
            Indices into ``means_``.
        """
        return self.predict_component_proba(X).argmax(axis=1)

    def _check_parameters(self) -> None:
        candidates = np.asarray(self.candidates)
        if (
            candidates.ndim != 1
            or not candidates.size
            or candidates.dtype.kind not in "iu"
            or candidates.min() < 1
        ):
            raise ValueError(
                "candidates must be a sequence of integers of at least 1, such as [1, 2, 4]; "
                f"got {self.candidates!r}."
            )

    def _fit(self, X: np.ndarray, labels: np.ndarray | None) -> None:
        numbers = self._numbers(*X.shape)
        rows = np.ascontiguousarray(X, dtype=np.float64)
        self.scaler_ = None if self.scaler is None else SCALERS[self.scaler]().fit(rows)
        # A copy also without a scaler: it may be changed.
        rows = self._scale(rows)
        origin = rows.mean(axis=0)
        rows -= origin
        ridge = self._ridge(rows)
        random_state = check_random_state(self.random_state)
        # Each from the same state: what "bic" takes is what its number alone would give.
        state = random_state.get_state()
        fitted = [
            self._expectation_maximisation(rows, k, ridge, random_state, state) for k in numbers
        ]
        self.candidates_ = numbers
        self.bic_ = np.array([mixture.bic(rows) for mixture in fitted])
        best = fitted[np.argmin(self.bic_)]
        self.n_components_ = int(best.n_components)
        self.weights_ = best.weights_
        self.means_ = best.means_ + origin
        self.covariances_ = best.covariances_
        self.precisions_cholesky_ = best.precisions_cholesky_
        self.reg_covar_ = float(best.reg_covar)
        self.converged_ = bool(best.converged_)
        self.n_iter_ = int(best.n_iter_)
        self._warn_of_trouble(ridge)

    def _anomaly_score(self, X: np.ndarray) -> np.ndarray:
        log_factor = log_volume_factor(self.scaler_)
        return -self._map(lambda mixture, rows: mixture.score_samples(rows) + log_factor, X, ())

    def _map(self, function: Callable, X: np.ndarray, shape: tuple) -> np.ndarray:
        """Call a function of the mixture and pieces of the rows, scaled and centred alike."""
        # Any origin near the means will do; centred, sums of squares do not cancel.
        origin = self.weights_ @ self.means_
        mixture = GaussianMixture(self.n_components_, covariance_type=self.covariance_type)
        mixture.weights_ = self.weights_
        mixture.means_ = self.means_ - origin
        mixture.covariances_ = self.covariances_
        mixture.precisions_cholesky_ = self.precisions_cholesky_
        step = max(1, _PIECE_VALUES // X.shape[1])
        out = np.empty((len(X), *shape), dtype=np.float32 if X.dtype == np.float32 else np.float64)
        with np.errstate(all="ignore"):
            for start in range(0, len(X), step):
                piece = slice(start, start + step)
                out[piece] = function(mixture, self._scale(X[piece]) - origin)
        return out

    def _scale(self, X: np.ndarray) -> np.ndarray:
        X = np.ascontiguousarray(X, dtype=np.float64)
        with np.errstate(all="ignore"):
            scaled = X if self.scaler_ is None else self.scaler_.transform(X)
        return np.nan_to_num(np.clip(scaled, -_LARGEST, _LARGEST), nan=_LARGEST)

    def _numbers(self, n_rows: int, n_features: int) -> np.ndarray:
        """Numbers of components to fit."""
        if self.n_components != "bic":
            numbers = np.array([self.n_components])
        else:
            numbers = np.unique(self.candidates)
            needed = n_features + 1 if self.covariance_type == "full" else 2
            enough = numbers[numbers * needed <= n_rows]
            numbers = enough if enough.size else numbers[:1]
        if numbers[0] > n_rows:
            name = "n_components" if self.n_components != "bic" else "smallest of the candidates"
            raise ValueError(
                f"{n_rows} rows (n_samples={n_rows}) cannot make up {numbers[0]} components: pass "
                f"more rows, or a {name} of at most {n_rows}."
            )
        return numbers

    def _expectation_maximisation(
        self, rows: np.ndarray, n_components: int, ridge: float, random_state, state
    ) -> GaussianMixture:
        """Fit a mixture, with a larger ridge where a covariance is singular."""
        while True:
            random_state.set_state(state)
            mixture = GaussianMixture(
                n_components,
                covariance_type=self.covariance_type,
                tol=self.tol,
                reg_covar=ridge,
                max_iter=self.max_iter,
                n_init=self.n_init,
                init_params=self.init_params,
                random_state=random_state,
            )
            try:
                with np.errstate(all="ignore"), warnings.catch_warnings():
                    # One of our own, for the mixture that is taken, names the cure.
                    warnings.simplefilter("ignore", ConvergenceWarning)
                    return mixture.fit(rows)
            except ValueError:
                variance = rows.var(axis=0).max()
                if ridge > max(1.0, variance):
                    raise
                ridge = max(100 * ridge, _LEAST_SHARE * variance, np.finfo(np.float64).eps)

    def _ridge(self, rows: np.ndarray) -> float:
        """Tell what is to be added to the variances."""
        if self.reg_covar != "scott":
            return float(self.reg_covar)
        return reference_bandwidth(rows, "gaussian", "scott") ** 2

    def _warn_of_trouble(self, ridge: float) -> None:
        if self.reg_covar_ > ridge:
            what = (
                f"reg_covar={ridge:g} leaves a covariance singular, so {self.reg_covar_:g} "
                'was taken: pass a larger one, fewer components, or scaler="standard".'
            )
        elif not self.converged_:
            what = (
                f"EM did not converge in max_iter={self.max_iter} iterations: raise max_iter or tol, "
                "or take fewer components."
            )
        else:
            return
        warnings.warn(what, ConvergenceWarning, stacklevel=5)

    def _set_fitted_state(self, state: dict) -> None:
        super()._set_fitted_state(state)
        n_components, n_features = np.shape(self.weights_)[0], self.n_features_in_
        shape = _COVARIANCE_SHAPES[self.covariance_type](n_components, n_features)
        if (
            self.n_components_ != n_components
            or np.shape(self.means_) != (n_components, n_features)
            or np.shape(self.covariances_) != shape
            or np.shape(self.precisions_cholesky_) != shape
        ):
            raise ValueError("the arrays of the mixture do not go together")
