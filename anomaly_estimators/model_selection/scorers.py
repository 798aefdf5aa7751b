"""Scorers of detectors for scikit-learn's searches and cross-validation.

A scorer is a callable ``scorer(estimator, X, y) -> float``, the larger the better. scikit-learn's
own scorers read +1 as the positive class and have no notion of rows without a label; these take
``estimator.score_samples(X)``, read -1 as the positive class and ignore rows labelled 0.

scikit-learn stratifies by default for classifiers only. Anomalies are rare and often sorted, so
give a search over detectors a splitter that does: ``cv=StratifiedKFold(shuffle=True)``.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import average_precision_score, roc_auc_score

from ..metrics import _labelled_rows, f1_at_ratio

__all__ = ["average_precision_scorer", "f1_at_ratio_scorer", "roc_auc_scorer"]


@dataclass(frozen=True)
class _ScoreSamplesScorer:
    """A measure of ``score_samples``; picklable, since the measure is a module's function."""

    name: str
    measure: Callable[..., float] = field(repr=False)
    options: tuple[tuple[str, float | None], ...] = ()

    def __call__(self, estimator, X, y: ArrayLike) -> float:
        if y is None:
            raise ValueError(f"{self.name} compares scores with labels: give y (+1, -1, 0) as well")
        if not hasattr(estimator, "score_samples"):
            raise TypeError(
                f"{self.name} needs score_samples, which {type(estimator).__name__} does not "
                "offer: search over a detector, or a pipeline that ends in one"
            )
        # All rows are scored, with or without a label: a score may depend on its neighbours.
        is_anomaly, scores = _labelled_rows(y, estimator.score_samples(X))
        if is_anomaly.all() or not is_anomaly.any():
            warnings.warn(
                f"{self.name} is undefined and nan: the labelled rows hold "
                f"{np.count_nonzero(is_anomaly)} anomalies (-1) and "
                f"{np.count_nonzero(~is_anomaly)} normal rows (+1), and both are needed; "
                "split with cv=StratifiedKFold(shuffle=True) or label more rows",
                UndefinedMetricWarning,
                stacklevel=2,
            )
            return float("nan")
        return float(self.measure(is_anomaly, scores, **dict(self.options)))

    def __repr__(self) -> str:
        options = ", ".join(f"{key}={value!r}" for key, value in self.options)
        return f"{self.name}({options})" if options else self.name

    def _accept_sample_weight(self) -> bool:
        # Searches over several scorers with metadata routing ask this of every scorer.
        return False


def _roc_auc(is_anomaly, scores):
    return roc_auc_score(is_anomaly, -scores)


def _average_precision(is_anomaly, scores):
    return average_precision_score(is_anomaly, -scores)


def _f1_at_ratio(is_anomaly, scores, ratio):
    return f1_at_ratio(np.where(is_anomaly, -1, 1), scores, ratio)


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
        `sklearn.exceptions.UndefinedMetricWarning` if not both classes are present.

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
    if ratio is not None and not 0 < ratio <= 1:
        raise ValueError(f"ratio must be above 0 and at most 1, got {ratio!r}")
    return _ScoreSamplesScorer("f1_at_ratio_scorer", _f1_at_ratio, (("ratio", ratio),))
