"""The contract of every detector: scores, threshold, labels. No torch here."""

import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from anomaly_estimators._docstrings import inherit_entries
from anomaly_estimators._signatures import check_arguments, inherit_parameters
from anomaly_estimators.labels import read_labels
from anomaly_estimators.row_blocks import join, row_blocks
from anomaly_estimators.settings import check_settings, settings_of
from anomaly_estimators.thresholds import flagged_count, threshold
from anomaly_estimators.validation import validate_rows

__all__ = ["OutlierDetector", "finite_scores", "threshold"]

# Rows that are scored a second time, to see by how much rounding differs.
_TRIED = 8
# What helps where mean scores do not.
_SEARCH_BY = (
    "To search by labels, pass scoring=, such as anomaly_estimators.model_selection.roc_auc_scorer; "
    "without labels, the mean scores of KDE and GMM, which are log densities, can be compared."
)


def finite_scores(anomaly_scores: np.ndarray) -> np.ndarray:
    """Turn the paper's scores into those of the contract: higher is more normal, and none is NaN.

    Parameters
    ----------
    anomaly_scores : ndarray of shape (n_samples,)

    Returns
    -------
    ndarray of shape (n_samples,)
        What is not finite is the lowest finite number.

    Examples
    --------
    >>> finite_scores(np.array([1.0, -2.0, np.nan])).tolist()
    [-1.0, 2.0, -1.7976931348623157e+308]
    """
    # Not by the sign alone: the score of 0 is no negative zero.
    scores = 0.0 - anomaly_scores
    lowest = np.finfo(scores.dtype).min
    return np.nan_to_num(scores, copy=False, nan=lowest, posinf=lowest, neginf=lowest)


class OutlierDetector(OutlierMixin, BaseEstimator):
    """Base class of all detectors.

    A subclass defines ``_fit(X, labels)`` and ``_anomaly_score(X)``, the paper's score of validated
    rows, higher for anomalies. It gets parameter validation, the threshold, ``predict``,
    ``decision_function``, ``score``, ``fit_predict`` and a fit that leaves the estimator as it was
    when it fails.

    Parameters
    ----------
    contamination : float or "auto", default=0.1
        Share of the training rows, in (0, 0.5], that ``predict`` flags: exactly so many of them.
        Of new rows it may flag far more, as the model was fitted to the training rows; the user
        guide tells how held-out rows make a threshold. "auto" flags the rows whose score lies below
        the lower quartile by more than 1.5 interquartile ranges. It sets the threshold ``offset_``
        and has no part in the scores.

    Attributes
    ----------
    offset_ : float
        Threshold on the scores: rows with a lower score are predicted as anomalies.
    n_features_in_ : int
        Number of features seen in ``fit``.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features seen in ``fit``, if all of them are strings.
    """

    _parameter_constraints: dict = {
        "contamination": [StrOptions({"auto"}), Interval(Real, 0, 0.5, closed="right")],
    }
    # Detectors that learn from labels set it; the others ignore y.
    _uses_labels = False
    # Those that have nothing to learn where no row is a known anomaly set it: fit warns then.
    _needs_anomalies = False
    # Those whose scores are log probabilities of the rows as they were given set it: a search may
    # compare their means. Any other mean depends on units, codes or networks: score warns of it.
    _scores_compare = False
    # Parameters that mean something on one machine only, and are left out of a saved file.
    _local_parameters: frozenset = frozenset()
    # Parameters that nothing learned depends on: they may be changed at any time.
    _passive_parameters: frozenset = frozenset()
    # Parameters that are read when rows are scored: scores follow a change of them, the threshold cannot.
    _scoring_parameters: frozenset = frozenset()
    # False where the score of a row depends on the rows that come with it.
    _scores_rows_apart = True

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        inherit_parameters(cls)
        inherit_entries(cls)

    def __init__(self, *, contamination=0.1):
        self.contamination = contamination

    def __new__(cls, *args, **kwargs):
        # Here, because the constructors pass what they do not know on to one another.
        check_arguments(cls, kwargs)
        return super().__new__(cls)

    # What tools are shown.
    __new__.__signature__ = inspect.signature(__init__)

    def fit(self, X, y=None):
        """Fit the detector.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows, at least two.
        y : array-like of shape (n_samples,), default=None
            Ignored by unsupervised detectors. Otherwise read by sign: +1 known normal, -1 known anomaly,
            0 unlabelled.

        Returns
        -------
        self : object
            The fitted estimator. If the fit fails, the estimator is left as it was.

        Raises
        ------
        ValueError
            If a parameter is impossible, or if X has missing or infinite values or too few rows.
        """
        with _unchanged_on_failure(self):
            self._validate_params()
            self._check_parameters()
            X = self._validate_rows(X, reset=True)
            labels = read_labels(y, X) if self._uses_labels else None
            if labels is not None:
                self._check_labels(labels)
            self._fit_rows(X, labels)
        return self

    def score_samples(self, X) -> np.ndarray:
        """Score rows: the higher, the more normal.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
            The negative of the paper's anomaly score; float32 for float32 rows, else float64. A row
            that is too far off to be scored in that precision gets the lowest finite number.

        Raises
        ------
        ValueError
            If X cannot be scored, or if a parameter that the fit depends on was changed since.
        """
        check_is_fitted(self)
        check_settings(self, free=self._scoring_parameters)
        return self._scores(self._validate_rows(X, reset=False))

    def decision_function(self, X) -> np.ndarray:
        """Score rows relative to the threshold.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,), dtype float64
            ``score_samples(X) - offset_``, computed in float64 whatever the type of X: negative for
            rows that are predicted as anomalies.

        Raises
        ------
        ValueError
            As by :meth:`score_samples`, or if a parameter that the scores follow was changed, for
            which there is no threshold.
        """
        check_is_fitted(self)
        check_settings(self)
        return self._exact_scores(self._validate_rows(X, reset=False)) - self.offset_

    def predict(self, X) -> np.ndarray:
        """Tell anomalies from normal rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,), dtype int64
            -1 for anomalies, +1 for normal rows.
        """
        return np.where(self.decision_function(X) < 0, -1, 1)

    def fit_predict(self, X, y=None) -> np.ndarray:
        """Fit the detector and tell the anomalies among the training rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,), default=None
            Labels as in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_samples,), dtype int64
            -1 for anomalies, +1 for normal rows.
        """
        return self.fit(X, y).predict(X)

    def score(self, X, y=None) -> float:
        """Mean score of rows, for a search without labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,), default=None
            Ignored, with a warning where it holds labels of more than one kind.

        Returns
        -------
        float
            Mean of ``score_samples(X)``. Of :class:`~anomaly_estimators.KDE` and
            :class:`~anomaly_estimators.GMM` it is the mean log density of the rows, which compares
            scalers, bandwidths and numbers of components; of
            :class:`~anomaly_estimators.LabelConsistency` the mean log probability of the given labels.
            Of all others its units differ between models, even those of one method, and it cannot
            tell which is better.

        Warns
        -----
        UserWarning
            If the mean score does not compare models, or if labels in ``y`` are ignored.
        """
        notes = []
        if not self._scores_compare:
            notes.append(
                f"The mean score of {type(self).__name__} does not compare models: a search by it may "
                "take small units or a collapsed code for a good fit."
            )
        labels = np.ravel(y)
        if (labels[1:] != labels[:-1]).any():
            notes.append("The labels in y are ignored.")
        if notes:
            warnings.warn(" ".join([*notes, _SEARCH_BY]), UserWarning, stacklevel=2)
        return float(np.mean(self.score_samples(X), dtype=np.float64))

    def save(self, path) -> None:
        """Save the fitted detector to a file that is safe to load.

        Parameters
        ----------
        path : str or path-like
            A file there is replaced once the new one is complete.

        See Also
        --------
        anomaly_estimators.save : The same as a function, with the details.
        anomaly_estimators.load : Read the file.
        """
        from anomaly_estimators.persistence import save

        save(self, path)

    # What a subclass defines

    def _fit(self, X: np.ndarray, labels: np.ndarray | None) -> None:
        raise NotImplementedError

    def _anomaly_score(self, X: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def _check_parameters(self) -> None:
        """Refuse parameters that do not go together, before any work is done."""

    def _check_labels(self, labels: np.ndarray) -> None:
        """Refuse labels from which nothing can be learned, before any work is done."""
        if (labels < 0).all():
            raise ValueError(
                "All rows are labelled as known anomalies (y < 0), and none is left to tell what is "
                "normal: add unlabelled rows (0) or known normal ones (+1)."
            )
        if self._needs_anomalies and not (labels < 0).any():
            warnings.warn(
                "No row is labelled as a known anomaly (y < 0): a classifier has nothing to learn, and "
                "its scores mean little. Label some anomalies, or take an unsupervised detector.",
                UserWarning,
                stacklevel=3,
            )

    def _check_scores(self, scores: np.ndarray, X: np.ndarray) -> None:
        """Warn if the scores of the training rows show that something went wrong."""

    def _get_fitted_state(self) -> dict:
        """Return what a fit has added: numbers, strings, arrays, and containers of them."""
        left_out = {*self.get_params(deep=False), "_settings"}
        return {name: value for name, value in vars(self).items() if name not in left_out}

    def _set_fitted_state(self, state: dict) -> None:
        """Take over what :meth:`_get_fitted_state` returned; raise if it does not fit."""
        vars(self).update(state)

    # What is shared

    def _fit_rows(self, X: np.ndarray, labels: np.ndarray | None) -> None:
        """Fit validated rows, and set the threshold."""
        self._fit(X, labels)
        self._calibrate(X)
        self._settings = settings_of(self)

    def _calibrate(self, X: np.ndarray) -> None:
        """Set the threshold by the scores of the training rows."""
        self._set_threshold(self._exact_scores(X), X)

    def _set_threshold(self, scores: np.ndarray, X: np.ndarray) -> None:
        self._check_scores(scores, X)
        self._take_scores(scores, self._seen_rounding(scores, X))

    def _take_scores(self, scores: np.ndarray, noise: float = 0.0) -> None:
        """Take from the scores of the training rows what is to be known of them."""
        self.offset_ = threshold(scores, self.contamination, noise)

    def _seen_rounding(self, scores: np.ndarray, X: np.ndarray) -> float:
        """By how much the scores of some rows differ when they are computed alone, or among a few.

        A score may be what is left of large terms: then rounding is large beside it, and only a trial
        tells. The rows are those next to the threshold, where it matters.
        """
        if not self._scores_rows_apart:
            return 0.0
        place = flagged_count(np.sort(scores), self.contamination)
        near = np.argsort(scores, kind="stable")[max(0, place - _TRIED // 2) :][:_TRIED]
        trials = [near, *near[:, None]]
        with np.errstate(over="ignore", invalid="ignore"):
            seen = [np.abs(self._exact_scores(X[rows]) - scores[rows]).max() for rows in trials]
        return float(np.nan_to_num(max(seen), posinf=0.0))

    def _scores(self, X: np.ndarray) -> np.ndarray:
        """Scores of validated rows, in their own precision."""
        if isinstance(X, np.memmap) and self._scores_rows_apart:
            return join(map(self._scores, row_blocks(X)), X.shape[0])
        return finite_scores(self._anomaly_score(X))

    def _exact_scores(self, X: np.ndarray) -> np.ndarray:
        """Scores of validated rows in float64, which decide the labels: rows of any type have the same."""
        if X.dtype == np.float64:
            return self._scores(X)
        if not self._scores_rows_apart:
            return self._scores(np.asarray(X, dtype=np.float64))
        return join(map(self._scores, row_blocks(X, np.float64)), X.shape[0])

    def _validate_rows(self, X, *, reset: bool) -> np.ndarray:
        return validate_rows(self, X, reset=reset)


@contextmanager
def _unchanged_on_failure(estimator: BaseEstimator) -> Iterator[None]:
    """Put an estimator's attributes back if the block fails, or is interrupted."""
    before = vars(estimator).copy()
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise
