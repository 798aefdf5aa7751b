"""t-SNE as a transformer: a map that is fitted once, and that new rows join."""

from numbers import Integral, Real

import numpy as np
from joblib import effective_n_jobs
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from anomaly_estimators.manifold.bandwidths import Bandwidths

__all__ = ["TSNEMap", "initial_positions"]

# The optimization of new rows: short and careful, because they start among their neighbours.
_PLACEMENT = {
    "n_iter": 250,
    "learning_rate": 0.1,
    "exaggeration": 1.0,
    "momentum": 0.8,
    "max_grad_norm": 0.25,
}
# Neighbours whose median position a new row starts from.
_N_START = 15
# From so many rows on gradients by interpolation are the faster ones.
_N_INTERPOLATED = 4_000
# Largest value of a new row, in units of the size of the rows: squares are numbers.
_FARTHEST = 1e150
# What follows from the rows and their positions, and is made anew when they are read from a file.
_DERIVED = ("_reference", "_affinities", "_bandwidths")


def initial_positions(X: np.ndarray, random_state: np.random.RandomState) -> np.ndarray:
    """Start of an embedding: the first two principal components, very small, and a trace of noise.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        May have one column, and rows that are all the same.
    random_state : RandomState

    Returns
    -------
    ndarray of shape (n_samples, 2)

    Examples
    --------
    >>> X = np.array([[0.0], [1.0], [3.0]])
    >>> initial_positions(X, np.random.RandomState(0)).std(axis=0).round(6).tolist()
    [0.0001, 1e-06]
    """
    centred = X - X.mean(axis=0)
    # Of a matrix that is far from 1 in size, the products would leave the range of numbers.
    centred = centred / max(np.abs(centred).max(), np.finfo(np.float64).tiny)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    positions = np.zeros((len(X), 2))
    leading = centred @ vectors[:, ::-1][:, :2]
    # Signs that do not depend on the library that found the vectors.
    largest = np.abs(leading).argmax(axis=0)
    leading = leading * np.where(leading[largest, range(leading.shape[1])] < 0, -1.0, 1.0)
    spread = leading[:, 0].std()
    if spread > 0:
        positions[:, : leading.shape[1]] = leading * (1e-4 / spread)
    return positions + random_state.normal(0.0, 1e-6, positions.shape)


class TSNEMap(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """t-SNE map of two dimensions that new rows can join, by openTSNE.

    ``fit`` embeds the training rows [1]_; ``transform`` places each new row against the fitted map by
    itself [2]_, so that its position does not depend on which rows come with it.

    A new row is drawn to its neighbours as it would be in a map of all rows: by the symmetric
    affinities of [1]_, in which also counts whether the neighbours would have it for one of theirs. A row
    far from all others is drawn half as much as one among them, and comes to lie further off.

    Parameters
    ----------
    perplexity : float, default=30
        About how many neighbours a row is held to, at least 1; less where there are fewer than three
        times as many rows.
    max_iter : int, default=750
        Number of iterations, a third of them with early exaggeration.
    learning_rate : float or "auto", default="auto"
        Step size of the optimization; "auto" takes the number of rows over the exaggeration (Belkina
        et al. 2019), but at least 200.
    n_jobs : int or None, default=None
        Number of threads; ``None`` is one, -1 all. The map is the same for any.
    random_state : int, RandomState instance or None, default=None
        Decides the traces of noise in the initial positions.

    Attributes
    ----------
    rows_ : ndarray of shape (n_samples, n_features)
        The rows that the map was fitted on.
    embedding_ : ndarray of shape (n_samples, 2)
        Their positions.
    n_features_in_ : int
        Number of features seen in ``fit``.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if all of them are strings.

    Notes
    -----
    A row that was in ``fit`` gets a position near its own from ``transform``, not the same.

    Nearest neighbours are exact, so that a map depends on nothing but its rows and the seed. Fits take
    time in proportion to n log n, and for some tens of thousands of rows it is minutes: fit on a
    subset then.

    References
    ----------
    .. [1] van der Maaten & Hinton, "Visualizing Data using t-SNE", JMLR 9, 2008.
    .. [2] Policar, Strazar & Zupan, "Embedding to reference t-SNE space addresses batch effects in
       single-cell classification", Machine Learning 112, 2023.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from anomaly_estimators.manifold.tsne_map import TSNEMap
    >>> X, _ = load_iris(return_X_y=True)
    >>> tsne = TSNEMap(max_iter=100, random_state=0).fit(X[::2])
    >>> tsne.embedding_.shape, tsne.transform(X[1::2]).shape
    ((75, 2), (75, 2))
    """

    _parameter_constraints: dict = {
        "perplexity": [Interval(Real, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        *,
        perplexity=30,
        max_iter=750,
        learning_rate="auto",
        n_jobs=None,
        random_state=None,
    ):
        self.perplexity = perplexity
        self.max_iter = max_iter
        self.learning_rate = learning_rate
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X, y=None):
        """Embed rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            At least two rows.
        y : object, default=None
            Ignored.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If X has missing or infinite values, or fewer than two rows.
        """
        self._validate_params()
        X = validate_data(self, X, dtype=np.float64, order="C", ensure_min_samples=2)
        self.rows_ = X.copy()
        self._affinities = self._new_affinities()
        start = initial_positions(X, check_random_state(self.random_state))
        reference = self._reference_of(start, "bh" if len(X) < _N_INTERPOLATED else "fft")
        early = self.max_iter // 3
        for n_iter, exaggeration in ((early, 12.0), (self.max_iter - early, 1.0)):
            rate = (
                max(200.0, len(X) / exaggeration)
                if self.learning_rate == "auto"
                else self.learning_rate
            )
            reference.optimize(
                n_iter=n_iter,
                learning_rate=rate,
                exaggeration=exaggeration,
                momentum=0.8,
                inplace=True,
                propagate_exception=True,
            )
        positions = np.asarray(reference)
        self.embedding_ = positions - (positions.max(axis=0) + positions.min(axis=0)) / 2
        self._prepare()
        return self

    def fit_transform(self, X, y=None) -> np.ndarray:
        """Embed rows and return their positions.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            At least two rows.
        y : object, default=None
            Ignored.

        Returns
        -------
        ndarray of shape (n_samples, 2), dtype float64
            ``embedding_``.
        """
        return self.fit(X).embedding_

    def transform(self, X) -> np.ndarray:
        """Place rows in the fitted map, each by itself.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, 2), dtype float64
            NaN for rows so far off that their distances are no numbers.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, order="C", reset=False)
        if "_reference" not in vars(self):
            # Read from a file; not before it is asked for, because it takes a while.
            self._prepare()
        from openTSNE.tsne import PartialTSNEEmbedding

        with np.errstate(over="ignore"):
            # A number, if one whose distances are none: infinite rows are refused.
            rows = np.clip(X / self._scale, -_FARTHEST, _FARTHEST)
        affinities, neighbors, distances = self._affinities.to_new(rows, return_distances=True)
        start = np.median(self.embedding_[neighbors[:, :_N_START]], axis=1)
        placed = PartialTSNEEmbedding(
            np.ascontiguousarray(start),
            self._reference,
            self._bandwidths.symmetric(affinities, neighbors, distances),
            **self._reference.gradient_descent_params,
        )
        placed.optimize(inplace=True, propagate_exception=True, **_PLACEMENT)
        return np.array(placed)

    @property
    def _n_features_out(self) -> int:
        return 2

    @property
    def _scale(self) -> float:
        """Size of the rows: squares of larger ones would leave the range of numbers."""
        rows = self.rows_ - self.rows_.mean(axis=0)
        size = np.abs(rows).max()
        # Rows that are all the same are left as they are.
        return size if size > 0 else 1.0

    @property
    def _perplexity(self) -> float:
        return min(float(self.perplexity), max(1.0, (len(self.rows_) - 1) / 3))

    @property
    def _n_neighbors(self) -> int:
        return max(1, min(len(self.rows_) - 1, int(3 * self._perplexity)))

    def _new_affinities(self):
        from openTSNE.affinity import PerplexityBasedNN

        return PerplexityBasedNN(
            self.rows_ / self._scale,
            perplexity=self._perplexity,
            k_neighbors=self._n_neighbors,
            method="exact",
            # Row by row, where products of matrices round by how many rows there are.
            knn_kwargs={"algorithm": "kd_tree"},
            n_jobs=self._n_threads(),
        )

    def _n_threads(self) -> int:
        return effective_n_jobs(self.n_jobs)

    def _reference_of(self, positions: np.ndarray, method: str):
        from openTSNE import TSNEEmbedding

        return TSNEEmbedding(
            np.array(positions, dtype=np.float64, order="C"),
            self._affinities,
            negative_gradient_method=method,
            n_jobs=self._n_threads(),
            # Nothing is drawn any more.
            random_state=0,
        )

    def _prepare(self) -> None:
        """Make ready what new rows are placed by; it follows from the rows and their positions."""
        if "_affinities" not in vars(self):
            self._affinities = self._new_affinities()
        rows = self.rows_ / self._scale
        self._bandwidths = Bandwidths.of(rows, self._n_neighbors, self._perplexity)
        self._reference = self._reference_of(self.embedding_, "bh")

    def _restore(self, rows: np.ndarray, embedding: np.ndarray) -> "TSNEMap":
        """Take up a map that was fitted elsewhere."""
        self.rows_, self.embedding_ = rows, embedding
        self.n_features_in_ = rows.shape[1]
        return self

    # openTSNE's objects are left out of a pickle: arrays that come back as read-only maps of a file
    # would be none that they can work with.

    def __getstate__(self):
        state = super().__getstate__()
        return {name: value for name, value in state.items() if name not in _DERIVED}
