"""AnoDM: reconstruction by a beta-VAE, and nearness to the training rows in a map of its codes."""

from functools import partial
from numbers import Integral, Real

import joblib
import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from anomaly_estimators.base import finite_scores
from anomaly_estimators.fingerprint import row_fingerprints
from anomaly_estimators.functional.reconstruction import normalised_squared_error, squared_error
from anomaly_estimators.functional.variational import reparametrise
from anomaly_estimators.manifold.neighbour_distance import matches, neighbour_distance
from anomaly_estimators.manifold.tsne_map import TSNEMap
from anomaly_estimators.nn.autoencoder import mlp_autoencoder
from anomaly_estimators.nn.strided import strided_autoencoder
from anomaly_estimators.nn.temporal import temporal_autoencoder
from anomaly_estimators.row_blocks import join, precision_of
from anomaly_estimators.variational._memory import (
    Remembered,
    check_remembered,
    digest_of_parameters,
)
from anomaly_estimators.variational.evidence import VAENetwork, VariationalDetector

__all__ = ["AnoDM"]

_ERRORS = {"normalised": normalised_squared_error, "squared": squared_error}
# Rows of noise that are kept: each row has its own place among them, which its values decide.
_N_KEPT_DRAWS = 1024
# What a fit that is remembered has no part in: names of columns, and the threshold.
_NOT_LEARNED = frozenset({"feature_names_in_", "n_features_in_", "offset_"})
# What the terms of a row depend on, of what was learned.
_IN_TERMS = ("module", "scaler_", "embedding_", "landmark_codes_", "map_", "term_scales_")


def _mlp(n_features: int, shape: tuple | None, channels: tuple, **options) -> nn.Module:
    return mlp_autoencoder(n_features, **options)


def _conv(n_features: int, shape: tuple | None, channels: tuple, **options) -> nn.Module:
    return strided_autoencoder(shape or (1, n_features), channels, **options)


def _temporal(
    n_features: int,
    shape: tuple | None,
    channels: tuple,
    *,
    encoder: str,
    bias: bool,
    **options,
) -> nn.Module:
    return temporal_autoencoder(
        shape or (1, n_features), encoder=encoder, channels=channels, **options
    )


_ENCODERS = {
    "conv": _conv,
    "lstm": partial(_temporal, encoder="lstm"),
    "mlp": _mlp,
    "tcn": partial(_temporal, encoder="tcn"),
}


class AnoDM(VariationalDetector):
    """Reconstruction error of a beta-VAE, and distance to the training rows in a t-SNE map of its codes.

    The anomaly score is ``alpha * D_RE + (1 - alpha) * D_map`` ([1]_, eq 2). D_RE is the error of the
    reconstruction (eq 3), on the network's scale. D_map is the mean distance to the ``n_neighbors``
    nearest training rows in a map of the codes (eq 4). An anomaly that is reproduced well may lie off
    the map's islands, and one that lands on an island may be reproduced badly.

    Parameters
    ----------
    alpha : float, default=0.9
        Weight of the reconstruction error, in [0, 1]: 1 is the plain beta-VAE, 0 the map alone.
    reconstruction_error : {"squared", "normalised"}, default="squared"
        D_RE: the squared error; or the squared error over the norm of the row, eq 3. The norm suits
        pictures, which may be dark or bright. In tables it makes light of rows that are far off.
    scale_terms : bool, default=True
        Whether each term is divided by its mean over the training rows, so that ``alpha`` means
        the same for any data. Without it the terms are those of the paper, whose sizes have nothing
        to do with one another.
    n_neighbors : int, default=1
        Number of neighbours k in the map.
    n_landmarks : int or None, default=2000
        How many training rows, drawn at random, make up the map: the time that it takes to fit and
        the time that it takes to place a row in it grow with them. ``None`` takes all.
    embedding : {"tsne", "passthrough"} or transformer, default="tsne"
        What makes the map: t-SNE; nothing, so that distances are those of the codes themselves; or any
        scikit-learn transformer with ``fit_transform`` and ``transform``, which is cloned.
    perplexity : float, default=30
        Perplexity of t-SNE, at least 1.
    embedding_max_iter : int, default=1000
        Number of iterations of t-SNE.
    latent : {"mean", "sample"}, default="mean"
        What is mapped: the means of the codes, or a draw of each (the paper's z-based variant).
    transductive : bool, default=False
        Whether ``score_samples`` embeds the rows to score and the landmarks together, as the paper does,
        rather than placing each row in the map that is there. Scores then depend on the rows that come
        with a row, and every call takes as long as a fit of the map. The threshold is that of the
        fitted map.
    n_draws : int, default=0
        Number of draws of the code that D_RE is averaged over, 1 in the paper; 0 takes the mean of the
        code. The noise is drawn in ``fit``, and the values of a row decide which part of it the row
        has.
    beta : float, default=0.1
        Weight of the divergence KL(q(z|x) || p(z)) against the log-likelihood. With
        ``kl_schedule="capacity"`` it weighs the distance between the divergence and the capacity C,
        as in eq 1.
    likelihood : {"gaussian", "unit_gaussian", "bernoulli"}, default="unit_gaussian"
        What a scaled row is about the decoder's output: "gaussian", with a variance that is learned
        for each feature; "unit_gaussian", with variance 1, so that the log-likelihood is half the
        squared error; or "bernoulli" for rows in [0, 1] such as pixels, which needs
        ``scaler="minmax"`` or ``None``.
    encoder : {"mlp", "conv", "tcn", "lstm"}, default="mlp"
        Kind of network: fully connected; convolutions of stride 2 and deconvolutions, for images or
        series; a temporal convolutional network, or an LSTM, for series, both with deconvolutions for
        a decoder.
    input_shape : tuple of int or None, default=None
        What a row is folded to: (channels, height, width) for images, (channels, length) for series.
        ``None`` takes rows as series of one channel. A fully connected network does without.
    learning_rate : float, default=1e-4
        Step size of the optimizer.
    channels : tuple of int, default=(32, 32)
        Number of filters of each convolution of stride 2, and of the deconvolutions in reverse.
    memory : str, path-like, object with the interface of joblib.Memory, or None, default=None
        Where to keep what was fitted and the terms of rows that were scored, so that a fit, and a
        score, with the same data and other values of ``alpha`` and ``contamination`` costs nothing.
        With ``random_state=None`` too the fit that is there is taken.
    n_jobs : int or None, default=None
        Number of threads of t-SNE; ``None`` is one, -1 all. The map is the same for any.

    Attributes
    ----------
    landmark_codes_ : ndarray of shape (n_landmarks, latent_dim)
        Codes of the rows that the map was fitted on.
    map_ : ndarray of shape (n_landmarks, n_components)
        Their positions in the map.
    embedding_ : transformer or None
        The fitted transformer; ``None`` where the codes are taken as they are.
    term_scales_ : ndarray of shape (2,)
        What D_RE and D_map are divided by.

    See Also
    --------
    VAE : Scores by the likelihood.
    anomaly_estimators.manifold.TSNEMap : The map alone.

    Notes
    -----
    A row that is a landmark itself has its own place in the map, and is none of its neighbours: by the
    map, training rows are scored as if each had been left out. So a few anomalies among them are found
    too. Their errors are those of rows that the network was fitted to.

    ``alpha`` may be changed after a fit: scores follow, the threshold stays. :meth:`score_terms` returns
    the two terms for a sweep by hand; ``memory`` is for one by
    :class:`~sklearn.model_selection.GridSearchCV`.

    A map has islands but no sea: a row placed in it comes to lie by the island that is least strange
    to it, however far off it is. With small ``alpha`` such rows are overlooked.

    The defaults serve tables of unknown kind. The paper's settings are ``reconstruction_error="normalised",
    n_draws=1, scale_terms=False, n_landmarks=5000, transductive=True, batch_size=100, scaler=None,
    learning_rate=1e-3, max_iter=20`` on pixels in [0, 1], with ``alpha`` and ``beta`` searched for.

    Inside :class:`UAI` the score is the reconstruction error alone, by the mean code: the map cannot
    follow a network that goes on learning.

    A transformer other than t-SNE as ``embedding`` cannot be saved by :func:`~anomaly_estimators.save`;
    it can be pickled.

    References
    ----------
    .. [1] "Anomaly Detection Based on Unsupervised Disentangled Representation Learning in Combination
       with Manifold Learning" (AnoDM), 2019.
    .. [2] Higgins et al., "beta-VAE: Learning Basic Visual Concepts with a Constrained Variational
       Framework", ICLR 2017.
    .. [3] Burgess et al., "Understanding disentangling in beta-VAE", 2018.
       https://arxiv.org/abs/1804.03599

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from anomaly_estimators import AnoDM
    >>> X, _ = load_breast_cancer(return_X_y=True)
    >>> detector = AnoDM(max_iter=5, random_state=0).fit(X)
    >>> int((detector.predict(X) == -1).sum())
    56
    >>> detector.transform_map(X).shape
    (569, 2)
    """

    _parameter_constraints: dict = {
        **VariationalDetector._parameter_constraints,
        "alpha": [Interval(Real, 0, 1, closed="both")],
        "reconstruction_error": [StrOptions(set(_ERRORS))],
        "scale_terms": ["boolean"],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "n_landmarks": [Interval(Integral, 2, None, closed="left"), None],
        "embedding": [
            StrOptions({"tsne", "passthrough"}),
            HasMethods(["fit_transform", "transform"]),
        ],
        "perplexity": [Interval(Real, 1, None, closed="left")],
        "embedding_max_iter": [Interval(Integral, 1, None, closed="left")],
        "latent": [StrOptions({"mean", "sample"})],
        "transductive": ["boolean"],
        "n_draws": [Interval(Integral, 0, _N_KEPT_DRAWS, closed="both")],
        "encoder": [StrOptions(set(_ENCODERS))],
        "memory": [str, HasMethods(["cache"]), HasMethods(["__fspath__"]), None],
        "n_jobs": [Integral, None],
    }
    _local_parameters = VariationalDetector._local_parameters | {"memory"}
    _passive_parameters = VariationalDetector._passive_parameters | {"memory", "n_jobs"}
    _scoring_parameters = frozenset(
        {"alpha", "n_draws", "n_neighbors", "reconstruction_error", "transductive"}
    )
    _n_kept_draws = _N_KEPT_DRAWS
    # What a fit does not depend on.
    _free_parameters = frozenset(
        {"alpha", "contamination", "memory", "n_jobs", "transductive", "verbose", "checkpoint"}
    )

    def __init__(
        self,
        *,
        alpha=0.9,
        reconstruction_error="squared",
        scale_terms=True,
        n_neighbors=1,
        n_landmarks=2000,
        embedding="tsne",
        perplexity=30,
        embedding_max_iter=1000,
        latent="mean",
        transductive=False,
        n_draws=0,
        encoder="mlp",
        memory=None,
        n_jobs=None,
        beta=0.1,
        likelihood="unit_gaussian",
        channels=(32, 32),
        learning_rate=1e-4,
        **inherited,
    ):
        super().__init__(
            beta=beta,
            likelihood=likelihood,
            channels=channels,
            learning_rate=learning_rate,
            **inherited,
        )
        self.alpha = alpha
        self.reconstruction_error = reconstruction_error
        self.scale_terms = scale_terms
        self.n_neighbors = n_neighbors
        self.n_landmarks = n_landmarks
        self.embedding = embedding
        self.perplexity = perplexity
        self.embedding_max_iter = embedding_max_iter
        self.latent = latent
        self.transductive = transductive
        self.n_draws = n_draws
        self.encoder = encoder
        self.memory = memory
        self.n_jobs = n_jobs

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_remembered(self)
        if isinstance(self.embedding, type):
            raise ValueError(
                f"embedding={self.embedding.__name__} is a class: pass an instance, such as "
                f"{self.embedding.__name__}()."
            )
        if self.n_landmarks is not None and self.n_neighbors >= self.n_landmarks:
            raise ValueError(
                f"n_neighbors={self.n_neighbors} must be below n_landmarks={self.n_landmarks}: a "
                "landmark is none of its own neighbours."
            )

    def _make_autoencoder(self, n_features: int, shape: tuple | None, **options) -> nn.Module:
        return _ENCODERS[self.encoder](n_features, shape, tuple(self.channels), **options)

    @property
    def _scores_rows_apart(self) -> bool:
        return not self.transductive

    # Training

    def _fit(self, X: np.ndarray, labels: np.ndarray | None) -> None:
        if self.n_neighbors >= len(X):
            raise ValueError(
                f"n_neighbors={self.n_neighbors} must be below the number of training rows, "
                f"{len(X)}."
            )
        vars(self).pop("_remembered", None)
        # To be filled by _finish, for the threshold. A round of an audit, where the threshold is another
        # matter, does without.
        self._training_terms = None
        goes_on = self.warm_start and "net_" in vars(self)
        if self.memory is None or goes_on:
            # A training that goes on depends on the one before, which is no part of the key.
            super()._fit(X, labels)
            return
        fitted = super()._fit
        self._remembered = Remembered(self, X)

        def learn() -> dict:
            fitted(X, labels)
            state = {**self._get_fitted_state(), "_training_terms": self._training_terms}
            return {name: value for name, value in state.items() if name not in _NOT_LEARNED}

        state = self._remembered.recall("fit", learn)
        self._set_fitted_state(state)

    def _finish(self, X: np.ndarray) -> None:
        generator = check_random_state(self.random_state)
        keys = row_fingerprints(X)
        codes, errors = self._codes_and_errors(X, keys, np.float64)
        finite = np.isfinite(codes).all(axis=1)
        rows = np.flatnonzero(finite)
        if self.n_landmarks is not None and len(rows) > self.n_landmarks:
            rows = np.sort(generator.choice(rows, self.n_landmarks, replace=False))
        if len(rows) <= self.n_neighbors:
            # The network went astray, and its guard has said so: no row has a place.
            rows = rows[:0]
        self._landmark_keys = keys[rows]
        self.landmark_codes_ = codes[rows]
        self.embedding_ = self._new_embedding(generator) if len(rows) else None
        self.map_ = (
            self.landmark_codes_
            if self.embedding_ is None
            else np.asarray(self.embedding_.fit_transform(self.landmark_codes_), dtype=np.float64)
        )
        terms = np.column_stack([errors, self._map_distances(codes, keys)])
        # Of rows that are all alike the distances are nothing but rounding.
        least = np.array([0.0, 1e-9 * np.abs(self.map_).max(initial=0.0)])
        self.term_scales_ = _sizes(terms, least) if self.scale_terms else np.ones(2)
        if "_training_terms" in vars(self):
            self._training_terms = terms / self.term_scales_

    def _new_embedding(self, generator: np.random.RandomState):
        if self.embedding == "passthrough":
            return None
        if self.embedding != "tsne":
            return clone(self.embedding)
        return TSNEMap(
            perplexity=self.perplexity,
            max_iter=self.embedding_max_iter,
            n_jobs=self.n_jobs,
            random_state=generator.randint(np.iinfo(np.int32).max),
        )

    def _calibrate(self, X: np.ndarray) -> None:
        # The terms of the training rows are known: no row is placed twice.
        terms = vars(self).pop("_training_terms")
        self._set_threshold(finite_scores(self._combined(terms)), X)

    def _seen_rounding(self, scores: np.ndarray, X: np.ndarray) -> float:
        # Placing rows once more takes long, and their places do not depend on company.
        return 0.0

    # Scores

    def _anomaly_score(self, X: np.ndarray) -> np.ndarray:
        return self._combined(self._terms(X).astype(precision_of(X)))

    def _combined(self, terms: np.ndarray) -> np.ndarray:
        """Eq 2. A term without a weight has no say, even where it is infinite."""
        weights = np.array([self.alpha, 1.0 - self.alpha], dtype=terms.dtype)
        used = weights > 0
        return terms[:, used] @ weights[used]

    def _terms(self, X: np.ndarray) -> np.ndarray:
        if self.memory is None or "_remembered" not in vars(self):
            return self._compute_terms(X)
        # By the parameters and the network of now: some may have been changed after the fit, and in an
        # audit the network goes on learning.
        state = self._get_fitted_state()
        learned = joblib.hash([state[part] for part in _IN_TERMS])
        name = f"terms, {self.transductive}, {digest_of_parameters(self)}, {learned}"
        return self._remembered.recall(name, lambda: self._compute_terms(X), X)

    def _compute_terms(self, X: np.ndarray) -> np.ndarray:
        keys = row_fingerprints(X)
        codes, errors = self._codes_and_errors(X, keys)
        distances = self._joint_distances if self.transductive else self._map_distances
        return np.column_stack([errors, distances(codes, keys)]) / self.term_scales_

    def _codes_and_errors(
        self, X: np.ndarray, keys: np.ndarray, dtype=None
    ) -> tuple[np.ndarray, np.ndarray]:
        """What is mapped, and D_RE of eq 3."""
        places = (keys % np.uint64(_N_KEPT_DRAWS)).astype(np.int64)
        pieces = self._map(self._module_code_and_error, X, places, dtype=dtype)
        both = join(pieces, len(X)).astype(np.float64)
        # The error of a row that is too far off may be no number.
        return both[:, :-1].copy(), np.where(np.isnan(both[:, -1]), np.inf, both[:, -1])

    def _module_code_and_error(self, module: VAENetwork, X: Tensor, places: Tensor) -> Tensor:
        draws = torch.arange(max(1, self.n_draws), device=X.device)
        noise = module.noise[(places.unsqueeze(1) + draws) % len(module.noise)]
        mean, log_variance = (part.unsqueeze(1) for part in module.encoder(X))
        z = reparametrise(mean, log_variance, noise)
        reconstruction = self._module_decode(module, z if self.n_draws else mean)
        error = _ERRORS[self.reconstruction_error](X.unsqueeze(1), reconstruction).mean(dim=1)
        code = mean if self.latent == "mean" else z
        return torch.cat([code[:, 0], error.unsqueeze(1)], dim=1)

    def _map_distances(self, codes: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """D_map of eq 4; infinite for rows that have no place in the map."""
        own = matches(keys, self._landmark_keys)
        positions = self._positions(codes, own)
        return _distances(positions, self.map_, self.n_neighbors, own)

    def _positions(self, codes: np.ndarray, own: np.ndarray) -> np.ndarray:
        """Places in the map: a landmark has its own, any other row is placed; NaN where none can be."""
        if self.embedding_ is None:
            return codes
        positions = np.full((len(codes), self.map_.shape[1]), np.nan)
        positions[own >= 0] = self.map_[own[own >= 0]]
        new = (own < 0) & np.isfinite(codes).all(axis=1)
        if new.any():
            positions[new] = self.embedding_.transform(codes[new])
        return positions

    def _joint_distances(self, codes: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """D_map in a map of landmarks and rows that is made for these rows."""
        both = np.concatenate([self.landmark_codes_, codes])
        finite = np.isfinite(both).all(axis=1)
        positions = np.full((len(both), self.map_.shape[1]), np.nan)
        embedding = self.embedding_ and clone(self.embedding_)
        positions[finite] = (
            both[finite] if embedding is None else embedding.fit_transform(both[finite])
        )
        landmarks, rows = np.split(positions, [len(self.landmark_codes_)])
        own = matches(keys, self._landmark_keys)
        return _distances(rows, landmarks, self.n_neighbors, own)

    def _module_score(self, module: VAENetwork, X: Tensor) -> Tensor:
        # What an UAI layer builds upon.
        error = _ERRORS[self.reconstruction_error]
        return error(X, self._module_decode(module, module.code(X)))

    # What can be asked of a fitted detector

    def score_terms(self, X) -> np.ndarray:
        """The two terms of the anomaly score, for any ``alpha``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, 2), dtype float64
            D_RE and D_map, each divided by its ``term_scales_``: ``-score_samples(X)`` is
            ``terms @ [alpha, 1 - alpha]``. Infinite where a row is too far off to be computed with.
        """
        check_is_fitted(self)
        return self._terms(self._validate_rows(X, reset=False))

    def transform_map(self, X) -> np.ndarray:
        """Places of rows in the map.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_components), dtype float64
            Where a row is a landmark, its own place; NaN for rows too far off to have a code.
        """
        check_is_fitted(self)
        X = self._validate_rows(X, reset=False)
        keys = row_fingerprints(X)
        codes, _ = self._codes_and_errors(X, keys)
        return self._positions(codes, matches(keys, self._landmark_keys))

    # Persistence

    def _get_fitted_state(self) -> dict:
        state = super()._get_fitted_state()
        for name in ("_training_terms", "_remembered"):
            state.pop(name, None)
        if isinstance(state["embedding_"], TSNEMap):
            # It follows from the codes of the landmarks and their positions.
            state["embedding_"] = state["embedding_"].get_params()
        return state

    def _set_fitted_state(self, state: dict) -> None:
        state = dict(state)
        if isinstance(state["embedding_"], dict):
            embedding = TSNEMap(**state["embedding_"])
            state["embedding_"] = embedding._restore(state["landmark_codes_"], state["map_"])
        super()._set_fitted_state(state)


def _distances(
    positions: np.ndarray, landmarks: np.ndarray, n_neighbors: int, own: np.ndarray
) -> np.ndarray:
    """Distances to the nearest landmarks, infinite for rows without a place."""
    distances = np.full(len(positions), np.inf)
    placed = np.isfinite(positions).all(axis=1) & (len(landmarks) > 0)
    distances[placed] = neighbour_distance(positions[placed], landmarks, n_neighbors, own[placed])
    return distances


def _sizes(terms: np.ndarray, least: np.ndarray) -> np.ndarray:
    """Mean of each term over the rows in which it is finite, or 1 where that is not above the least."""
    finite = np.isfinite(terms)
    means = np.where(finite, terms, 0.0).sum(axis=0) / np.maximum(1, finite.sum(axis=0))
    return np.where((means > least) & np.isfinite(means), means, 1.0)
