import pickle

import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from anomaly_estimators.metrics import f1_at_ratio, precision_at_n
from anomaly_estimators.model_selection import (
    average_precision_scorer,
    f1_at_ratio_scorer,
    precision_at_n_scorer,
    roc_auc_scorer,
)

SCORERS = [
    roc_auc_scorer,
    average_precision_scorer,
    f1_at_ratio_scorer(),
    f1_at_ratio_scorer(0.3),
    precision_at_n_scorer(),
    precision_at_n_scorer(7),
]


class FirstColumn(OutlierMixin, BaseEstimator):
    """Scores a row by its first feature, with either sign."""

    def __init__(self, sign=1):
        self.sign = sign

    def fit(self, X, y=None):
        self.is_fitted_ = True
        return self

    def score_samples(self, X):
        return self.sign * np.asarray(X)[:, 0]


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    y = np.where(rng.random(200) < 0.25, -1, 1)
    X = rng.normal(size=(200, 2)) + 1.5 * y[:, None]
    return X, y


def test_values(rows):
    X, y = rows
    detector = FirstColumn().fit(X)
    anomaly, abnormality = y == -1, -X[:, 0]
    assert roc_auc_scorer(detector, X, y) == roc_auc_score(anomaly, abnormality) > 0.9
    assert average_precision_scorer(detector, X, y) == average_precision_score(anomaly, abnormality)
    assert f1_at_ratio_scorer()(detector, X, y) == f1_at_ratio(y, X[:, 0])
    assert f1_at_ratio_scorer(0.3)(detector, X, y) == f1_at_ratio(y, X[:, 0], 0.3)
    assert precision_at_n_scorer()(detector, X, y) == precision_at_n(y, X[:, 0]) < 1
    assert precision_at_n_scorer(60)(detector, X, y) == precision_at_n(y, X[:, 0], 60) < 1


@pytest.mark.parametrize("scorer", SCORERS, ids=repr)
def test_unlabelled_rows_are_ignored(scorer, rows):
    X, y = rows
    detector = FirstColumn().fit(X)
    hidden = np.where(np.arange(200) % 3 == 0, 0, y)
    labelled = hidden != 0
    assert scorer(detector, X, hidden) == scorer(detector, X[labelled], y[labelled])


@pytest.mark.parametrize("scorer", SCORERS, ids=repr)
@pytest.mark.parametrize("label", [-1, 1, 0])
def test_one_class_is_undefined(scorer, rows, label):
    X, y = rows
    with pytest.warns(UndefinedMetricWarning, match="both needed.*read by their sign"):
        assert np.isnan(scorer(FirstColumn().fit(X), X, np.full_like(y, label)))


@pytest.mark.parametrize("scorer", SCORERS, ids=repr)
def test_search_takes_the_better_detector(scorer, rows):
    X, y = rows
    pipeline = make_pipeline(StandardScaler(), FirstColumn())
    search = GridSearchCV(pipeline, {"firstcolumn__sign": [-1, 1]}, scoring=scorer, cv=3).fit(X, y)
    assert search.best_params_ == {"firstcolumn__sign": 1}
    assert search.score(X, y) == scorer(search.best_estimator_, X, y)


@pytest.mark.parametrize("routing", [False, True])
def test_search_over_several_scorers(rows, routing):
    X, y = rows
    scoring = {repr(scorer): scorer for scorer in SCORERS}
    with sklearn.config_context(enable_metadata_routing=routing):
        search = GridSearchCV(
            FirstColumn(), {"sign": [-1, 1]}, scoring=scoring, cv=3, refit="roc_auc_scorer"
        ).fit(X, y)
    assert search.best_params_ == {"sign": 1}
    assert "mean_test_f1_at_ratio_scorer(ratio=0.3)" in search.cv_results_


def test_with_a_detector_of_scikit_learn(rows):
    X, y = rows
    scores = cross_val_score(
        IsolationForest(n_estimators=10, random_state=0), X, y, scoring=roc_auc_scorer, cv=3
    )
    assert (scores > 0.5).all()


@pytest.mark.parametrize("scorer", SCORERS, ids=repr)
def test_pickle_and_clone(scorer, rows):
    X, y = rows
    copy = pickle.loads(pickle.dumps(scorer))
    assert copy == scorer and repr(copy) == repr(scorer)
    assert copy(FirstColumn().fit(X), X, y) == scorer(FirstColumn().fit(X), X, y)
    search = clone(GridSearchCV(FirstColumn(), {"sign": [1]}, scoring=scorer))
    assert search.scoring == scorer


def test_repr():
    assert repr(roc_auc_scorer) == "roc_auc_scorer"
    assert repr(f1_at_ratio_scorer(ratio=0.2)) == "f1_at_ratio_scorer(ratio=0.2)"
    assert repr(precision_at_n_scorer(np.int64(9))) == "precision_at_n_scorer(n=9)"


@pytest.mark.parametrize("scorer", SCORERS, ids=repr)
def test_bad_input(scorer, rows):
    X, y = rows
    with pytest.raises(TypeError, match="NearestNeighbors does not offer"):
        scorer(NearestNeighbors().fit(X), X, y)
    with pytest.raises(ValueError, match="give y"):
        scorer(FirstColumn().fit(X), X, None)
    with pytest.raises(ValueError, match="give y"):
        scorer(FirstColumn().fit(X), X)
    X[0, 0] = np.nan
    with pytest.raises(ValueError, match="score NaN"):
        scorer(FirstColumn().fit(X), X, y)


@pytest.mark.parametrize("ratio", [0, -0.1, 1.5, np.nan])
def test_bad_ratio_is_found_at_once(ratio):
    with pytest.raises(ValueError, match="ratio must be above 0"):
        f1_at_ratio_scorer(ratio)


@pytest.mark.parametrize("n", [0, -1, 1.5, "3"])
def test_bad_n_is_found_at_once(n):
    with pytest.raises(ValueError, match="n must be None or an integer of at least 1"):
        precision_at_n_scorer(n)


def test_n_beyond_the_labelled_rows(rows):
    X, y = rows
    y = np.where(np.arange(200) < 20, y, 0)
    with pytest.raises(ValueError, match="the 20 labelled rows, got 21"):
        precision_at_n_scorer(21)(FirstColumn().fit(X), X, y)
