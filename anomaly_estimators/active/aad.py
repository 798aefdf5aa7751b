"""AAD: active anomaly discovery, which weighs the members of an ensemble by an expert's verdicts."""

import warnings
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from anomaly_estimators.active._aad_solver import Problem, solve
from anomaly_estimators.active._cell_features import CellFeatures, fit_features, pieces
from anomaly_estimators.active._forest_features import ForestFeatures
from anomaly_estimators.active._loda_features import LODAFeatures
from anomaly_estimators.active.base import ActiveDetector
from anomaly_estimators.active.loda import LODA
from anomaly_estimators.base import finite_scores
from anomaly_estimators.row_blocks import precision_of

__all__ = ["AAD"]

# The features that a file may name.
_KINDS = {cls.__name__: cls for cls in (ForestFeatures, LODAFeatures)}
# Largest gap between the objective and the dual, relative to the objective.
_TOLERANCE = 1e-3


class _Table(NamedTuple):
    """What is kept of the table under audit, so that a round need not look at its rows."""

    rows: np.ndarray  # (n, n_features)
    cells: np.ndarray  # (n_members, n)
    sums: np.ndarray  # (n,), by the weights of now


class AAD(ActiveDetector):
    r"""Active anomaly discovery: an ensemble that an expert's verdicts reweigh ([1]_, [2]_).

    The anomaly score of an ensemble is a sum over its members. AAD weighs the terms of the sum: with
    equal weights, before the first verdict, it ranks as the ensemble does; then it learns weights with
    which known anomalies score above the top share ``tau`` of the table, and known normal rows below.
    The ensemble itself stays as it is, so that a round is quick.

    Parameters
    ----------
    estimator : IsolationForest, LODA or None, default=None
        The ensemble, which is cloned. :class:`~sklearn.ensemble.IsolationForest` is the Tree-AAD of
        [2]_, :class:`LODA` the method of [1]_. ``None`` takes ``IsolationForest()``: 100 trees of up to
        256 rows each, as in [2]_.
    forest_features : {"nodes", "leaves"}, default="nodes"
        What of a forest gets a weight: every node but the roots, each of which adds 1 to the length of
        a path, or every leaf, with the whole length. Nodes learn from a verdict about rows in
        neighbouring leaves too; leaves are faster.
    tau : float, default=0.03
        Share of the table above which known anomalies are to be, in (0, 1).
    margin : float, default=1.0
        By how much, in standard deviations of the scores of the table, known rows are to be on
        their side. In the papers' objective it is 0; see the notes.
    C_a : float, default=1.0
        Weight of the known anomalies, against the score of rank ``tau``.
    C_n : float, default=1.0
        Weight of the known normal rows, against the score of rank ``tau``.
    C_x : float, default=1.0
        Weight of known rows of both kinds against the row of rank ``tau``, whose score changes with
        the weights.
    prior_influence : float or "auto", default="auto"
        Strength of the pull towards equal weights. "auto" is 1 over the number of known rows.
    max_labels : int or None, default=None
        Number of labels to learn from, the newest ones. ``None`` learns from all; time and memory of a
        round grow with their number.
    random_state : int, RandomState instance or None, default=None
        Seed of the ensemble, if it has none of its own.

    Attributes
    ----------
    weights_ : ndarray of shape (n_weights,)
        Weights of the features: projection by projection, or tree by tree in the order of the nodes,
        or of the leaves. Their squares sum up to 1; they can be negative.
    quantile_ : float
        Weighted sum that the share ``tau`` of the table reaches. The score of a row is this, less its
        own weighted sum.

    Warns
    -----
    ConvergenceWarning
        If the weights are not the best ones, to one thousandth of the objective.
    UserWarning
        If all rows that a forest has seen are equal: it gives every row the same score then.

    See Also
    --------
    LODA : Random projections with histograms, on its own.
    UAI : The same loop with a deep detector.
    active_search : The loop of queries and verdicts.
    sklearn.ensemble.IsolationForest : The forest on its own.

    Notes
    -----
    With features z, scores :math:`\langle w, z \rangle`, the score q of rank ``tau`` and the row
    :math:`z_\tau` that has it, both by the weights of the round before, the objective is

    .. math::

        \sum_i \frac{C_i}{n_i} \ell(s_i (q - \langle w, z_i \rangle))
        + \sum_i \frac{C_x}{n_i} \ell(s_i \langle w, z_\tau - z_i \rangle)
        + \lambda \lVert w - w_0 \rVert^2, \qquad \ell(u) = \max(0, u + m),

    over the known rows, with :math:`s_i = 1` for anomalies and -1 for normal rows, :math:`C_i` the
    weight of their kind and :math:`n_i` the number of known rows of that kind. It is convex, and is solved
    to a certified precision. Then w is brought back to unit length.

    The papers have m = 0. The rows then move just to the border, so little that hardly any other row is
    found by it. The authors' gradient steps overshoot, and their published results are not those of
    the minimum; a margin gives the same effect to an exact solution.

    References
    ----------
    .. [1] Das et al., "Incorporating Expert Feedback into Active Anomaly Discovery", ICDM 2016.
       https://doi.org/10.1109/ICDM.2016.0102
    .. [2] Das et al., "Incorporating Feedback into Tree-based Anomaly Detection", KDD Workshop on
       Interactive Data Exploration and Analytics, 2017. https://arxiv.org/abs/1708.09441

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_breast_cancer
    >>> from anomaly_estimators import AAD
    >>> X, benign = load_breast_cancer(return_X_y=True)
    >>> truth = np.where(benign == 1, 1, -1)
    >>> X, truth = X[(truth > 0) | (np.arange(569) % 10 == 0)], truth[
    ...     (truth > 0) | (np.arange(569) % 10 == 0)]
    >>> detector = AAD(random_state=0).fit(X)
    >>> for _ in range(2):
    ...     rows = detector.query(X, k=10)
    ...     detector = detector.teach(rows, truth[rows])
    >>> int((truth[detector.labels_ != 0] == -1).sum()) > 10
    True
    """

    _parameter_constraints: dict = {
        **ActiveDetector._parameter_constraints,
        "estimator": [IsolationForest, LODA, None],
        "forest_features": [StrOptions({"nodes", "leaves"})],
        "tau": [Interval(Real, 0, 1, closed="neither")],
        "margin": [Interval(Real, 0, None, closed="left")],
        "C_a": [Interval(Real, 0, None, closed="left")],
        "C_n": [Interval(Real, 0, None, closed="left")],
        "C_x": [Interval(Real, 0, None, closed="left")],
        "prior_influence": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "max_labels": [Interval(Integral, 1, None, closed="left"), None],
        "random_state": ["random_state"],
    }
    _table_attributes = ActiveDetector._table_attributes | {"_table"}

    def __init__(
        self,
        estimator=None,
        *,
        forest_features="nodes",
        tau=0.03,
        margin=1.0,
        C_a=1.0,
        C_n=1.0,
        C_x=1.0,
        prior_influence="auto",
        max_labels=None,
        random_state=None,
        **inherited,
    ):
        super().__init__(**inherited)
        self.estimator = estimator
        self.forest_features = forest_features
        self.tau = tau
        self.margin = margin
        self.C_a = C_a
        self.C_n = C_n
        self.C_x = C_x
        self.prior_influence = prior_influence
        self.max_labels = max_labels
        self.random_state = random_state

    def _ensemble(self):
        if self.estimator is None:
            return IsolationForest()
        return self.estimator

    def _check_parameters(self) -> None:
        self._ensemble()._validate_params()

    # Learning

    def _start(self, X: np.ndarray, labels: np.ndarray) -> None:
        self._features = fit_features(
            self._ensemble(),
            X,
            forest_features=self.forest_features,
            random_state=check_random_state(self.random_state),
        )
        self.weights_ = _equal_weights(self._features)
        self._table = self._observe(X)
        self.quantile_, _ = _ranked(self._table.sums, self.tau)
        self._taught = self._identical(X).one_of_each(labels)
        if len(self._taught):
            self._learn_weights(labels)

    def _continue(self, X: np.ndarray, labels: np.ndarray, taught: np.ndarray) -> None:
        table = vars(self).get("_table")
        if table is None or table.rows is not X:
            self._table = self._observe(X)
        # Rows that were judged again count as new; those of another table are all among these.
        kept = self._taught[self._taught < len(labels)]
        firsts = self._identical(X).firsts
        kept = kept[~np.isin(firsts[kept], firsts[taught])]
        order = np.concatenate([kept, taught])
        self._taught = order[labels[order] != 0]
        self._learn_weights(labels)

    def _observe(self, X: np.ndarray) -> _Table:
        cells = self._features.locate_all(X)
        return _Table(X, cells, self._features.score(cells, self.weights_))

    def _learn_weights(self, labels: np.ndarray) -> None:
        solution = solve(self._problem(labels), _TOLERANCE)
        length = np.linalg.norm(solution.weights)
        # Weights that cancel altogether rank nothing.
        self.weights_ = solution.weights / length if length > 0 else _equal_weights(self._features)
        sums = self._features.score(self._table.cells, self.weights_)
        self._table = self._table._replace(sums=sums)
        self.quantile_, _ = _ranked(sums, self.tau)
        if not solution.converged:
            warnings.warn(
                f"The weights of AAD are up to {solution.gap:.2g} above the lowest objective, which is "
                f"about {solution.objective:.2g}: learn from fewer labels (max_labels), or raise "
                "prior_influence.",
                ConvergenceWarning,
                stacklevel=5,
            )

    def _problem(self, labels: np.ndarray) -> Problem:
        features, table = self._features, self._table
        # Negative numbers from the end: the newest.
        known = self._taught if self.max_labels is None else self._taught[-self.max_labels :]
        cells, is_anomaly, counts = _distinct(table.cells[:, known], labels[known] < 0)
        shares = counts / np.where(is_anomaly, *_sizes(labels[known]))
        quantile, rank = _ranked(table.sums, self.tau)
        influence = self.prior_influence
        return Problem(
            rows=features.rows(cells),
            signs=np.where(is_anomaly, 1.0, -1.0),
            quantile=quantile,
            reference=features.rows(table.cells[:, [rank]]).combine(np.ones(1)),
            margin=self.margin * float(np.std(table.sums)),
            prior=_equal_weights(features),
            quantile_costs=shares * np.where(is_anomaly, self.C_a, self.C_n),
            reference_costs=shares * self.C_x,
            influence=1 / max(1, len(known)) if influence == "auto" else influence,
        )

    # Scoring

    def _calibrate(self, X: np.ndarray) -> None:
        # The sums of the table are at hand.
        self._set_threshold(finite_scores(self._table.sums - self.quantile_), X)

    def _seen_rounding(self, scores: np.ndarray, X: np.ndarray) -> float:
        # A row has the same sum in any company, to the last bit, and a round does not look at the rows.
        return 0.0

    def _anomaly_score(self, X: np.ndarray) -> np.ndarray:
        features = self._features
        scores = np.empty(X.shape[0], dtype=precision_of(X))
        for part, piece in pieces(X, len(features.starts) - 1):
            # From the quantile, because float32 has no digits to spare for what all rows share.
            scores[part] = features.score(features.locate(piece), self.weights_) - self.quantile_
        return scores

    # Files hold the arrays of the features.

    def _get_fitted_state(self) -> dict:
        state = super()._get_fitted_state()
        features = state.pop("_features")
        return {**state, "ensemble": [type(features).__name__, features.state()]}

    def _set_fitted_state(self, state: dict) -> None:
        state = dict(state)
        kind, arrays = state.pop("ensemble")
        self._features = _KINDS[kind](**arrays)
        super()._set_fitted_state(state)
        n_labels = len(self.labels_)
        if (
            self._features.n_columns > self.n_features_in_
            or self.weights_.shape != (self._features.n_weights,)
            or not np.isfinite(self.weights_).all()
            or not np.isfinite(self.quantile_)
            or not ((self._taught >= 0) & (self._taught < n_labels)).all()
        ):
            raise ValueError("its weights are none")


def _equal_weights(features: CellFeatures) -> np.ndarray:
    return np.full(features.n_weights, features.n_weights**-0.5)


def _distinct(cells: np.ndarray, is_anomaly: np.ndarray) -> tuple[np.ndarray, ...]:
    """Rows that differ in cells or kind, their kinds, and how many there are of each."""
    keys = np.ascontiguousarray(np.vstack([cells, is_anomaly[None].astype(cells.dtype)]).T)
    keys = keys.view(np.dtype((np.void, keys.shape[1] * keys.itemsize))).ravel()
    _, first, counts = np.unique(keys, return_index=True, return_counts=True)
    return cells[:, first], is_anomaly[first], counts


def _sizes(labels: np.ndarray) -> tuple[int, int]:
    """Numbers of known anomalies and of known normal rows, at least 1."""
    return max(1, int((labels < 0).sum())), max(1, int((labels > 0).sum()))


def _ranked(scores: np.ndarray, tau: float) -> tuple[float, int]:
    """Score of the rank that a share of the rows reaches, and a row that has it."""
    rank = min(round(tau * len(scores)), len(scores) - 1)
    quantile = -np.partition(-scores, rank)[rank]
    return float(quantile), int(np.flatnonzero(scores == quantile)[0])
