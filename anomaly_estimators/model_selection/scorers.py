"""Scorers of detectors for scikit-learn's searches and cross-validation.

A scorer is a callable ``scorer(estimator, X, y, *, truth=None) -> float``, the larger the better.
scikit-learn's own scorers read +1 as the positive class and have no notion of rows without a label;
these take ``estimator.score_samples(X)``, read -1 as the positive class and ignore rows labelled 0.

A detector that learns from a few labels gets them as ``y``, with 0 for all other rows. What is known
of those for scoring alone is the metadata ``truth``: scikit-learn routes it to the scorers that ask
for it by ``set_score_request``, and to nothing else.

scikit-learn stratifies by default for classifiers only. Anomalies are rare and often sorted, so
give a search over detectors a splitter that does: ``cv=StratifiedKFold(shuffle=True)``.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import get_config
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.utils import check_consistent_length
from sklearn.utils.metadata_routing import MetadataRequest

from ..labels import how_read, label_values
from ..metrics import at_n, at_ratio, check_ratio, labelled_rows

__all__ = [
    "average_precision_scorer",
    "f1_at_ratio_scorer",
    "precision_at_n_scorer",
    "roc_auc_scorer",
]


@dataclass(frozen=True)
class _ScoreSamplesScorer:
    """A measure of ``score_samples``; picklable, since the measure is a module's function."""

    name: str
    measure: Callable[..., float] = field(repr=False)
    options: tuple[tuple[str, float | None], ...] = ()
    truth_request: bool | str | None = None

    def __call__(
        self, estimator, X, y: ArrayLike | None = None, *, truth: ArrayLike | None = None
    ) -> float:
        """Measure how well a fitted detector ranks rows.

        Parameters
        ----------
        estimator : object
            A detector, or a pipeline or search that ends in one, with ``score_samples``.
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,), default=None
            Labels, read by their sign: +1 normal, -1 anomaly, 0 ignored. Not looked at where there
            is a truth.
        truth : array-like of shape (n_samples,), default=None
            +1 for normal rows, -1 for anomalies, and 0 for rows of which nothing is known.

        Returns
        -------
        float
            nan if there are not both normal rows and anomalies.

        Raises
        ------
        TypeError
            If the estimator has no ``score_samples``.
        ValueError
            If there are neither labels nor a truth, if they cannot be read or a labelled row has
            the score NaN, or if truth is given while metadata routing is disabled.

        Warns
        -----
        sklearn.exceptions.UndefinedMetricWarning
            If the score is nan: the message says how the labels were read, and how to turn them.
        UserWarning
            If labels are most likely meant in another way: see
            `anomaly_estimators.metrics.precision_recall_f1_at_ratio`.
        """
        if truth is not None:
            _require_routing(f"{self._base_repr()} takes truth")
        elif y is None:
            raise ValueError(f"{self.name} compares scores with labels: give y (+1, -1, 0) as well")
        if not hasattr(estimator, "score_samples"):
            raise TypeError(
                f"{self.name} needs score_samples, which {type(estimator).__name__} does not "
                "offer: search over a detector, or a pipeline that ends in one"
            )
        name = "y" if truth is None else "truth"
        if truth is not None:
            labels = _read_truth(truth, X)
        else:
            labels = label_values(y)
            check_consistent_length(X, labels)
            if self.truth_request:
                self._warn_of_missing_truth(labels)
        # All rows are scored, with or without a label: a score may depend on its neighbours.
        is_anomaly, scores = labelled_rows(labels, estimator.score_samples(X), name, stacklevel=3)
        if is_anomaly.all() or not is_anomaly.any():
            warnings.warn(
                f"{self.name} is undefined and nan: normal rows and anomalies are both needed. "
                f"{how_read(labels, name)} Where they are read as they are meant, split with "
                "cv=StratifiedKFold(shuffle=True) or label more rows.",
                UndefinedMetricWarning,
                stacklevel=2,
            )
            return float("nan")
        return float(self.measure(is_anomaly, scores, **dict(self.options)))

    def set_score_request(self, *, truth: bool | str | None) -> "_ScoreSamplesScorer":
        """Ask scikit-learn's metadata routing for a truth to score by.

        Parameters
        ----------
        truth : bool, str or None
            True: score by the metadata ``truth`` of the search; without it, by the labelled rows
            of ``y``. False: score by ``y``, whatever the search is given. A name: the truth has
            this name in the search. None, as in the scorers of this module: a search that is given
            a truth raises an error, so that it is not forgotten.

        Returns
        -------
        scorer : callable
            A new scorer. This one stays as it is, other than with scikit-learn's scorers, because
            it is shared by all who import it.

        Raises
        ------
        RuntimeError
            If metadata routing is disabled.
        ValueError
            If the request is none of these.
        """
        _require_routing("set_score_request is available", RuntimeError)
        requesting = replace(self, truth_request=truth)
        requesting.get_metadata_routing()  # refuses what is no request
        return requesting

    def get_metadata_routing(self) -> MetadataRequest:
        """Tell scikit-learn what the scorer asks for.

        Returns
        -------
        MetadataRequest
        """
        request = MetadataRequest(owner=self._base_repr())
        request.score.add_request(param="truth", alias=self.truth_request)
        return request

    def __repr__(self) -> str:
        if self.truth_request is None:
            return self._base_repr()
        return f"{self._base_repr()}.set_score_request(truth={self.truth_request!r})"

    def _base_repr(self) -> str:
        options = ", ".join(f"{key}={value!r}" for key, value in self.options)
        return f"{self.name}({options})" if options else self.name

    def _warn_of_missing_truth(self, y: NDArray) -> None:
        n_unlabelled = np.count_nonzero(y == 0)
        if n_unlabelled:
            warnings.warn(
                f"{self._base_repr()} asks for a truth and got none: {n_unlabelled} unlabelled "
                f"rows of {len(y)} are ignored. Pass {_metadata_name(self.truth_request)}=... to "
                "the search, or take a scorer without the request",
                UserWarning,
                stacklevel=3,
            )

    def _accept_sample_weight(self) -> bool:
        # Searches over several scorers with metadata routing ask this of every scorer.
        return False


def _metadata_name(request: bool | str) -> str:
    return request if isinstance(request, str) else "truth"


def _require_routing(what: str, error: type[Exception] = ValueError) -> None:
    if not get_config()["enable_metadata_routing"]:
        raise error(
            f"{what} only when metadata routing is enabled: call "
            "sklearn.set_config(enable_metadata_routing=True) first"
        )


def _read_truth(truth: ArrayLike, X) -> NDArray:
    """Truth as a vector of +1, -1 and 0.

    Stricter than labels are read, since models are chosen by it: nothing else is accepted, and rows
    of which nothing is known are pointed out.
    """
    truth = label_values(truth, "truth")
    try:
        check_consistent_length(X, truth)
    except ValueError as error:
        raise ValueError(
            "truth must have one value for each row of X; a search splits it into folds only then. "
            f"{error}"
        ) from error
    n_unknown = np.count_nonzero(truth == 0)
    if not np.isin(truth, (-1, 0, 1)).all() or (n_unknown and truth.min() == 0 < truth.max()):
        values = np.unique(truth)
        raise ValueError(
            "truth must hold +1 for normal rows and -1 for anomalies (0: nothing is known), got the "
            f"values {', '.join(f'{value:g}' for value in values[:5])}"
            f"{', ...' if len(values) > 5 else ''}. {how_read(truth, 'truth')}"
        )
    if n_unknown:
        warnings.warn(
            f"truth is 0 in {n_unknown} rows of {len(truth)}, which are read as rows of which "
            "nothing is known, and ignored",
            UserWarning,
            stacklevel=3,
        )
    return truth


def _roc_auc(is_anomaly, scores):
    return roc_auc_score(is_anomaly, -scores)


def _average_precision(is_anomaly, scores):
    return average_precision_score(is_anomaly, -scores)


def _f1_at_ratio(is_anomaly, scores, ratio):
    return at_ratio(is_anomaly, scores, ratio)[2]


def _precision_at_n(is_anomaly, scores, n):
    return at_n(is_anomaly, scores, n)


roc_auc_scorer = _ScoreSamplesScorer("roc_auc_scorer", _roc_auc)
average_precision_scorer = _ScoreSamplesScorer("average_precision_scorer", _average_precision)


def f1_at_ratio_scorer(ratio: float | None = None) -> Callable[..., float]:
    """Make a scorer that flags a known share of the rows and returns the F1 of the anomalies.

    Parameters
    ----------
    ratio : float, default=None
        Share of the labelled rows that is flagged, above 0 and at most 1; with the default, the
        share of anomalies among the labelled rows that are scored.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y) -> float``. `y` holds +1 (normal), -1 (anomaly) and 0 (ignored).
        It raises a TypeError if the estimator has no ``score_samples``, and returns nan with an
        `sklearn.exceptions.UndefinedMetricWarning` if not both classes are present. With
        ``scorer.set_score_request(truth=True)`` it scores by the ``truth`` that a search is given.

    Raises
    ------
    ValueError
        If `ratio` is out of range.

    See Also
    --------
    anomaly_estimators.metrics.f1_at_ratio : The measure, with its treatment of ties.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.ensemble import IsolationForest
    >>> from sklearn.model_selection import GridSearchCV, StratifiedKFold
    >>> from anomaly_estimators.model_selection import f1_at_ratio_scorer
    >>> f1_at_ratio_scorer(ratio=0.2)
    f1_at_ratio_scorer(ratio=0.2)
    >>> rng = np.random.default_rng(0)
    >>> X = np.vstack([rng.normal(size=(40, 2)), rng.normal(loc=9, size=(4, 2))])
    >>> y = np.repeat([1, -1], [40, 4])
    >>> search = GridSearchCV(
    ...     IsolationForest(n_estimators=10, random_state=0),
    ...     {"max_samples": [8, 16]},
    ...     scoring=f1_at_ratio_scorer(),
    ...     cv=StratifiedKFold(2, shuffle=True, random_state=0),
    ... ).fit(X, y)
    >>> float(search.best_score_)
    1.0
    """
    check_ratio(ratio)
    return _ScoreSamplesScorer("f1_at_ratio_scorer", _f1_at_ratio, (("ratio", ratio),))


def precision_at_n_scorer(n: int | None = None) -> Callable[..., float]:
    """Make a scorer that returns the share of anomalies among the rows with the lowest scores.

    Parameters
    ----------
    n : int, default=None
        Number of labelled rows that are flagged, at least 1; with the default, the number of
        anomalies among the labelled rows that are scored. Cross-validation scores one fold at a
        time: `n` counts in the fold, and must not exceed its labelled rows.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y) -> float``, as that of `f1_at_ratio_scorer`.

    Raises
    ------
    ValueError
        If `n` is out of range.

    See Also
    --------
    anomaly_estimators.metrics.precision_at_n : The measure, with its treatment of ties.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.ensemble import IsolationForest
    >>> from anomaly_estimators.model_selection import precision_at_n_scorer
    >>> scorer = precision_at_n_scorer(2)
    >>> scorer
    precision_at_n_scorer(n=2)
    >>> X = np.array([[0.0], [0.1], [0.2], [7.0], [9.0]])
    >>> y = [1, 1, 1, 1, -1]
    >>> scorer(IsolationForest(random_state=0).fit(X), X, y)
    0.5
    """
    if n is not None:
        if not isinstance(n, Integral) or n < 1:
            raise ValueError(f"n must be None or an integer of at least 1, got {n!r}")
        n = int(n)
    return _ScoreSamplesScorer("precision_at_n_scorer", _precision_at_n, (("n", n),))
