"""SSAD: the one-class support vector machine that learns from a few labelled rows."""

import warnings
from numbers import Integral, Real

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval, StrOptions

from anomaly_estimators.base import OutlierDetector
from anomaly_estimators.one_class._kernel_cache import Kernel, KernelRows, weighted_sums
from anomaly_estimators.one_class._ssad_solver import Problem, check_feasible, solve
from anomaly_estimators.row_blocks import precision_of

__all__ = ["SSAD"]

# Values of the rows that are scored at a time.
_PIECE_VALUES = 2**19


class SSAD(OutlierDetector):
    r"""Semi-supervised anomaly detection by a convex kernel machine (Goernitz et al. 2013).

    The one-class support vector machine with labels: a hyperplane in the feature space of a kernel
    keeps the unlabelled and the known normal rows on one side, and known anomalies on the other,
    the labelled ones by a margin ([1]_, convex variant). The score is the projection onto the normal
    of the hyperplane, <w, phi(x)>. Without labels it is scikit-learn's
    :class:`~sklearn.svm.OneClassSVM`.

    Parameters
    ----------
    kernel : {"rbf", "linear", "poly", "sigmoid"} or callable, default="rbf"
        Kernel function. A callable takes two arrays of rows and returns the matrix of their kernel
        values, as the functions in :mod:`sklearn.metrics.pairwise` do. It must be positive
        semi-definite for the solution to be the global one; "sigmoid" need not be.
    gamma : {"scale", "auto"} or float, default="scale"
        Coefficient of "rbf", "poly" and "sigmoid". "scale" is one over the number of features times
        the variance of all training values, "auto" one over the number of features.
    degree : int, default=3
        Degree of "poly".
    coef0 : float, default=0.0
        Constant in "poly" and "sigmoid".
    kappa : float, default=1.0
        Weight of the margin of the labelled rows in the objective: the weights of the labelled rows
        sum up to at least this much.
    nu : float, default=0.3
        Share of the unlabelled rows that may lie outside, in (0, 1], if ``eta_u="auto"``.
    eta_u : float or "auto", default="auto"
        Penalty of an unlabelled row that lies outside, and so the largest weight that it can get.
        "auto" is 1 / (nu * n), where n is the number of unlabelled rows. The paper's 1 is a hard
        margin.
    eta_l : float, default=1.0
        The same for a labelled row.
    tol : float, default=1e-4
        Violation of the conditions of optimality at which the solver stops, relative to the mean
        absolute score of the training rows.
    cache_size : float, default=200
        Memory for the rows of the kernel matrix that were used last, in MB. Beside it the solver
        needs a copy of the training rows, and up to 100 MB whatever their number.
    max_iter : int, default=1000000
        Largest number of steps of the solver.

    Attributes
    ----------
    support_ : ndarray of shape (n_support,), dtype int64
        Indices of the support vectors, the training rows with a weight.
    support_vectors_ : ndarray of shape (n_support, n_features)
        The support vectors; float32 if the training rows were, else float64.
    dual_coef_ : ndarray of shape (n_support,)
        Their weights y_i * a_i, which are negative for known anomalies. They sum up to 1.
    rho_ : float
        Offset of the hyperplane: in the paper, a row with a score below is an anomaly. ``predict``
        uses ``offset_`` in its place.
    margin_ : float
        The margin of the labelled rows: outside of their slack, known normal rows score at least
        ``rho_ + margin_``, and known anomalies at most ``rho_ - margin_``.
    eta_u_ : float
        The penalty of an unlabelled row that was used.
    gamma_ : float
        The coefficient of the kernel that was used.
    n_iter_ : int
        Number of steps of the solver, at least 1.

    Warns
    -----
    ConvergenceWarning
        If the solver has reached ``max_iter`` before ``tol``.

    See Also
    --------
    DeepSAD : Learns a representation from the same labels.
    KDE : Density estimate with the same kernel, without labels.
    sklearn.svm.OneClassSVM : The same without labels.

    Notes
    -----
    ``fit(X, y)`` reads ``y`` by its sign: +1 known normal, -1 known anomaly, 0 unlabelled. The dual
    is

    .. math::

        \min_a \tfrac12 \sum_{ij} a_i a_j y_i y_j k(x_i, x_j) \quad \text{subject to} \quad
        \sum_i y_i a_i = 1, \quad 0 \le a_i \le \eta_i, \quad
        \sum_{i\,\text{labelled}} a_i \ge \kappa,

    where unlabelled rows have y = +1. It has no solution where the penalties are too small for the
    constraints; ``fit`` raises an error then.

    With ``eta_u = 1 / (nu * n)``, at most a share nu of the n unlabelled rows lies outside if nothing is
    labelled. The setting of [2]_, ``kappa = eta_u = eta_l = 1``, lets next to none lie outside, which
    is weak where anomalies are among the unlabelled rows. Where the labelled rows are all
    anomalies, ``nu`` can be at most 1 / (1 + kappa).

    The kernel compares distances over all features: scale the rows first.

    References
    ----------
    .. [1] Goernitz et al., "Toward Supervised Anomaly Detection", Journal of Artificial
       Intelligence Research 46, 2013. https://doi.org/10.1613/jair.3623
    .. [2] Ruff et al., "Deep Semi-Supervised Anomaly Detection", ICLR 2020, appendix E.
       https://openreview.net/forum?id=HkgH0TEYwH

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.metrics import roc_auc_score
    >>> from sklearn.preprocessing import StandardScaler
    >>> from anomaly_estimators import SSAD
    >>> X, benign = load_breast_cancer(return_X_y=True)
    >>> X = StandardScaler().fit_transform(X)
    >>> y = np.zeros(len(X))
    >>> y[np.flatnonzero(benign == 0)[:10]] = -1  # ten confirmed anomalies
    >>> detector = SSAD().fit(X, y)
    >>> bool(roc_auc_score(benign, detector.score_samples(X)) > 0.9)
    True
    """

    _parameter_constraints: dict = {
        **OutlierDetector._parameter_constraints,
        "kernel": [StrOptions({"rbf", "linear", "poly", "sigmoid"}), callable],
        "gamma": [StrOptions({"scale", "auto"}), Interval(Real, 0, None, closed="left")],
        "degree": [Interval(Integral, 0, None, closed="left")],
        "coef0": [Interval(Real, None, None, closed="neither")],
        "kappa": [Interval(Real, 0, None, closed="left")],
        "nu": [Interval(Real, 0, 1, closed="right")],
        "eta_u": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "eta_l": [Interval(Real, 0, None, closed="neither")],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "cache_size": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
    }
    _uses_labels = True

    def __init__(
        self,
        *,
        kernel="rbf",
        gamma="scale",
        degree=3,
        coef0=0.0,
        kappa=1.0,
        nu=0.3,
        eta_u="auto",
        eta_l=1.0,
        tol=1e-4,
        cache_size=200,
        max_iter=1_000_000,
        **inherited,
    ):
        super().__init__(**inherited)
        self.kernel = kernel
        self.gamma = gamma
        self.degree = degree
        self.coef0 = coef0
        self.kappa = kappa
        self.nu = nu
        self.eta_u = eta_u
        self.eta_l = eta_l
        self.tol = tol
        self.cache_size = cache_size
        self.max_iter = max_iter

    def _check_labels(self, labels: np.ndarray) -> None:
        super()._check_labels(labels)
        check_feasible(self._problem(labels))

    def _problem(self, labels: np.ndarray) -> Problem:
        eta_u = self.eta_u
        if eta_u == "auto":
            eta_u = 1 / (self.nu * max(1, np.count_nonzero(labels == 0)))
        return Problem(kinds=labels, eta_u=float(eta_u), eta_l=self.eta_l, kappa=self.kappa)

    def _fit(self, X: np.ndarray, labels: np.ndarray) -> None:
        problem = self._problem(labels)
        self.eta_u_ = problem.eta_u
        self.gamma_ = _bandwidth(self.gamma, X)
        kernel = self._kernel(origin=np.mean(X, axis=0, dtype=np.float64))
        with np.errstate(over="ignore", invalid="ignore"):
            rows = KernelRows(X, kernel, self.cache_size)
            solution = solve(problem, rows, tol=self.tol, max_iter=self.max_iter)
        self.support_ = np.flatnonzero(solution.weights)
        self.support_vectors_ = np.array(X[self.support_], dtype=precision_of(X))
        self.dual_coef_ = solution.weights[self.support_]
        self.rho_ = solution.rho
        self.margin_ = solution.margin
        self.n_iter_ = max(solution.n_iter, 1)
        if not solution.converged:
            warnings.warn(
                f"SSAD stopped after {solution.n_iter} steps with a violation of "
                f"{solution.violation:.2g} of the conditions of optimality: raise max_iter "
                f"({self.max_iter}) or tol ({self.tol:g}), or scale the rows.",
                ConvergenceWarning,
                stacklevel=4,
            )

    def _kernel(self, origin) -> Kernel:
        return Kernel(
            self.kernel, gamma=self.gamma_, degree=self.degree, coef0=self.coef0, origin=origin
        )

    def _anomaly_score(self, X: np.ndarray) -> np.ndarray:
        kernel = self._kernel(origin=np.mean(self.support_vectors_, axis=0, dtype=np.float64))
        scores = np.empty(X.shape[0], dtype=precision_of(X))
        step = max(1, _PIECE_VALUES // X.shape[1])
        with np.errstate(over="ignore", invalid="ignore"):
            support = kernel.prepare(self.support_vectors_)
            for i in range(0, X.shape[0], step):
                rows = kernel.prepare(X[i : i + step])
                scores[i : i + step] = -weighted_sums(kernel, rows, support, self.dual_coef_)
        return scores


def _bandwidth(gamma, X: np.ndarray) -> float:
    """Kernel coefficient as in scikit-learn."""
    if gamma == "auto":
        return 1 / X.shape[1]
    if gamma == "scale":
        with np.errstate(over="ignore", under="ignore"):
            variance = float(np.var(X, dtype=np.float64))
        return 1 / (X.shape[1] * variance) if variance > 0 else 1.0
    return float(gamma)
