"""Training sees the revealed labels, scoring the truth."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.exceptions import UndefinedMetricWarning, UnsetMetadataPassedError
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import (
    GridSearchCV,
    RandomizedSearchCV,
    StratifiedKFold,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.metadata_routing import get_routing_for_object

from anomaly_estimators import Autoencoder, OutlierDetector
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
    precision_at_n_scorer(3),
]
every_scorer = pytest.mark.parametrize("scorer", SCORERS, ids=repr)
FOLDS = StratifiedKFold(3, shuffle=True, random_state=0)


@pytest.fixture(autouse=True)
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


class Directed(OutlierDetector):
    """Semi-supervised: scores along the line from the known anomalies to all other rows."""

    _uses_labels = True
    _parameter_constraints = {**OutlierDetector._parameter_constraints, "shrinkage": [float]}

    def __init__(self, *, shrinkage=0.0, contamination=0.1):
        super().__init__(contamination=contamination)
        self.shrinkage = shrinkage

    def _fit(self, X, labels):
        self.seen_ = labels
        direction = X[labels >= 0].mean(axis=0) - X[labels < 0].mean(axis=0)
        self.direction_ = (1 - self.shrinkage) * direction + self.shrinkage * np.eye(X.shape[1])[-1]

    def _anomaly_score(self, X):
        return -X @ self.direction_


class Recorder(OutlierMixin, BaseEstimator):
    """Takes any metadata, and keeps what it was fitted with."""

    def fit(self, X, y=None, **metadata):
        self.rows_, self.y_, self.metadata_ = X, y, metadata
        return self

    def score_samples(self, X):
        return np.asarray(X, dtype=float)[:, 0]


@pytest.fixture(scope="module")
def data():
    """Rows, the labels that are revealed, and the truth."""
    rng = np.random.default_rng(0)
    truth = np.where(rng.random(240) < 0.2, -1, 1)
    X = rng.normal(size=(240, 4))
    X[:, :2] += 1.2 * truth[:, None]
    revealed = np.where(rng.random(240) < 0.2, truth, 0)
    assert np.count_nonzero(revealed == -1) >= 6
    return X, revealed, truth


def expected_scores(detector, X, revealed, truth, measure=roc_auc_score):
    """The search, written as a loop."""
    scores = []
    for train, test in FOLDS.split(X, revealed):
        fitted = clone(detector).fit(X[train], revealed[train])
        scores.append(measure(truth[test] == -1, -fitted.score_samples(X[test])))
    return scores


GRID = {"shrinkage": [0.0, 0.5, 1.0]}


@pytest.mark.parametrize("name", ["truth", "whole_truth"])
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_search_scores_the_truth_and_trains_on_what_is_revealed(data, name, n_jobs):
    X, revealed, truth = data
    scorer = roc_auc_scorer.set_score_request(truth=True if name == "truth" else name)
    search = GridSearchCV(Directed(), GRID, scoring=scorer, cv=FOLDS, n_jobs=n_jobs)
    search.fit(X, revealed, **{name: truth})
    for i, shrinkage in enumerate(GRID["shrinkage"]):
        expected = expected_scores(Directed(shrinkage=shrinkage), X, revealed, truth)
        found = [search.cv_results_[f"split{k}_test_score"][i] for k in range(3)]
        assert found == expected
        # By the revealed labels alone the scores would be others.
        assert (
            found
            != cross_val_score(
                Directed(shrinkage=shrinkage), X, revealed, scoring=roc_auc_scorer, cv=FOLDS
            ).tolist()
        )
    np.testing.assert_array_equal(search.best_estimator_.seen_, revealed)
    whole = roc_auc_score(truth == -1, -search.score_samples(X))
    assert search.score(X, revealed, **{name: truth}) == search.score(X, truth) == whole


def test_search_over_a_pipeline(data):
    X, revealed, truth = data
    pipeline = make_pipeline(MinMaxScaler(), Directed())
    search = RandomizedSearchCV(
        pipeline,
        {"directed__shrinkage": [0.0, 1.0]},
        n_iter=2,
        random_state=0,
        scoring=average_precision_scorer.set_score_request(truth=True),
        cv=FOLDS,
    ).fit(X, revealed, truth=truth)
    best = clone(pipeline).set_params(**search.best_params_)
    expected = expected_scores(best, X, revealed, truth, average_precision_score)
    assert search.best_score_ == pytest.approx(np.mean(expected), rel=1e-12)
    np.testing.assert_array_equal(search.best_estimator_[-1].seen_, revealed)


def test_cross_validation_over_several_scorers(data):
    X, revealed, truth = data
    scoring = {
        "by_truth": roc_auc_scorer.set_score_request(truth=True),
        "by_labels": roc_auc_scorer.set_score_request(truth=False),
        "precision": precision_at_n_scorer(5).set_score_request(truth="truth"),
    }
    results = cross_validate(
        Directed(), X, revealed, scoring=scoring, cv=FOLDS, params={"truth": truth}
    )
    assert results["test_by_truth"].tolist() == expected_scores(Directed(), X, revealed, truth)
    alone = cross_val_score(Directed(), X, revealed, scoring=roc_auc_scorer, cv=FOLDS)
    assert results["test_by_labels"].tolist() == alone.tolist()
    assert results["test_by_labels"].tolist() != results["test_by_truth"].tolist()
    lowest = [
        np.mean(truth[test][np.argsort(fitted.score_samples(X[test]))[:5]] == -1)
        for train, test in FOLDS.split(X, revealed)
        for fitted in [Directed().fit(X[train], revealed[train])]
    ]
    assert results["test_precision"].tolist() == lowest


def test_search_over_several_scorers(data):
    X, revealed, truth = data
    scoring = {repr(scorer): scorer.set_score_request(truth=True) for scorer in SCORERS}
    search = GridSearchCV(
        Directed(), GRID, scoring=scoring, cv=FOLDS, refit="roc_auc_scorer", error_score="raise"
    ).fit(X, revealed, truth=truth)
    for i, shrinkage in enumerate(GRID["shrinkage"]):
        expected = expected_scores(Directed(shrinkage=shrinkage), X, revealed, truth)
        assert search.cv_results_["split2_test_roc_auc_scorer"][i] == expected[2]
    assert search.score(X, revealed, truth=truth) == search.score(X, truth)


def test_nested_search(data):
    X, revealed, truth = data
    scorer = roc_auc_scorer.set_score_request(truth=True)
    inner = GridSearchCV(Directed(), GRID, scoring=scorer, cv=FOLDS)
    results = cross_validate(
        inner,
        X,
        revealed,
        scoring=scorer,
        cv=FOLDS,
        params={"truth": truth},
        return_estimator=True,
    )
    for k, (train, test) in enumerate(FOLDS.split(X, revealed)):
        alone = clone(inner).fit(X[train], revealed[train], truth=truth[train])
        assert results["estimator"][k].best_params_ == alone.best_params_
        assert results["test_score"][k] == scorer(alone, X[test], truth=truth[test])


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_fit_never_receives_the_truth(data, n_jobs):
    X, revealed, truth = data
    scorer = roc_auc_scorer.set_score_request(truth=True)
    for detector in (Recorder(), make_pipeline(MinMaxScaler(), Recorder())):
        results = cross_validate(
            detector,
            X,
            revealed,
            scoring=scorer,
            cv=FOLDS,
            params={"truth": truth},
            return_estimator=True,
            n_jobs=n_jobs,
        )
        assert np.isfinite(results["test_score"]).all()
        for fitted, (train, _) in zip(results["estimator"], FOLDS.split(X, revealed), strict=True):
            recorder = fitted if isinstance(fitted, Recorder) else fitted[-1]
            assert recorder.metadata_ == {}
            np.testing.assert_array_equal(recorder.y_, revealed[train])


def test_truth_without_labels_is_enough(data):
    X, _, truth = data
    search = GridSearchCV(
        Recorder(), {}, scoring=roc_auc_scorer.set_score_request(truth=True), cv=3
    ).fit(X, truth=truth)
    assert search.best_estimator_.y_ is None
    assert search.score(X, truth=truth) == roc_auc_score(truth == -1, -X[:, 0])


@pytest.mark.parametrize("container", [list, pd.Series, lambda t: t.astype(float)[:, None]])
def test_truth_may_be_any_vector(data, container):
    X, revealed, truth = data
    scorer = roc_auc_scorer.set_score_request(truth=True)
    scores = cross_val_score(
        Directed(), X, revealed, scoring=scorer, cv=FOLDS, params={"truth": container(truth)}
    )
    assert scores.tolist() == expected_scores(Directed(), X, revealed, truth)


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(3, 40), scorer=st.sampled_from(SCORERS))
def test_score_by_the_truth_is_the_score_by_labels_that_tell_all(seed, n, scorer):
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.r_[-1, 1, 1, rng.choice([-1, 1], size=n - 3)])
    # Rounded, so that there are ties.
    X = rng.normal(size=(n, 1)).round(1)
    revealed = rng.choice([-1, 0, 1], size=n)
    detector = Recorder().fit(X)
    with sklearn.config_context(enable_metadata_routing=True):
        assert scorer(detector, X, revealed, truth=truth) == scorer(detector, X, truth)


# The request


@every_scorer
def test_truth_is_not_forgotten(scorer, data):
    X, revealed, truth = data
    search = GridSearchCV(Directed(), GRID, scoring=scorer, cv=FOLDS)
    with pytest.raises(UnsetMetadataPassedError, match="truth") as caught:
        search.fit(X, revealed, truth=truth)
    assert f"`{scorer!r}.set_score_request" in str(caught.value)


def test_unknown_metadata_is_refused(data):
    X, revealed, truth = data
    scorer = roc_auc_scorer.set_score_request(truth="whole")
    with pytest.raises(TypeError, match="truht"):
        GridSearchCV(Directed(), GRID, scoring=scorer).fit(X, revealed, truht=truth)
    with pytest.raises(TypeError, match="sample_weight"):
        roc_auc_scorer.set_score_request(sample_weight=True)
    for request in ("not a name", 3, ["truth"]):
        with pytest.raises((TypeError, ValueError), match="truth|unhashable"):
            roc_auc_scorer.set_score_request(truth=request)


@every_scorer
def test_scorer_is_immutable(scorer):
    before = repr(scorer)
    requesting = scorer.set_score_request(truth="other")
    assert repr(scorer) == before and scorer.truth_request is None
    assert requesting != scorer and requesting is not scorer
    assert requesting.set_score_request(truth=None) == scorer
    assert get_routing_for_object(requesting).score.requests == {"truth": "other"}
    assert get_routing_for_object(scorer).score.requests == {"truth": None}
    with pytest.raises(AttributeError):
        scorer.truth_request = True
    assert eval(repr(requesting)) == requesting


@every_scorer
@pytest.mark.parametrize("request_", [True, False, "other"])
def test_pickle_and_clone_keep_the_request(scorer, request_, data):
    X, revealed, truth = data
    requesting = scorer.set_score_request(truth=request_)
    copy = pickle.loads(pickle.dumps(requesting))
    assert copy == requesting and repr(copy) == repr(requesting)
    search = clone(GridSearchCV(Directed(), GRID, scoring=requesting, cv=FOLDS))
    assert search.scoring == requesting
    name = request_ if isinstance(request_, str) else "truth"
    if request_:
        search.fit(X, revealed, **{name: truth})
        pickled = pickle.loads(pickle.dumps(search))
        assert pickled.score(X, **{name: truth}) == scorer(search, X, truth)


# Bad input


def test_routing_that_is_off_is_pointed_out(data):
    X, revealed, truth = data
    scorer = roc_auc_scorer.set_score_request(truth=True)
    detector = Directed().fit(X, revealed)
    with sklearn.config_context(enable_metadata_routing=False):
        with pytest.raises(RuntimeError, match="enable_metadata_routing=True"):
            roc_auc_scorer.set_score_request(truth=True)
        with pytest.raises(ValueError, match="enable_metadata_routing=True"):
            scorer(detector, X, revealed, truth=truth)
        # scikit-learn gives fit all that it is given then, and fit refuses it.
        search = GridSearchCV(Directed(), GRID, scoring=scorer, cv=FOLDS)
        with pytest.raises(ValueError, match="unexpected keyword argument 'truth'"):
            search.fit(X, revealed, truth=truth)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: (t == -1).astype(int), r"the values 0, 1\. .*np.where\(truth == 1, -1, 1\)"),
        (lambda t: t == -1, "np.where"),
        (lambda t: np.where(t == -1, 2, 1), r"the values 1, 2\. .*truth == 2, -1, 1"),
        (lambda t: np.arange(len(t)) % 6, r"the values 0, 1, 2, 3, 4, \.\.\.\."),
        (lambda t: t[:-1], "one value for each row of X"),
        (lambda t: np.where(np.arange(len(t)) == 3, np.nan, t), "truth contains NaN"),
        (lambda t: np.where(t == -1, "anomaly", "normal"), "could not convert"),
        (lambda t: np.stack([t, t], axis=1), "truth should be a 1d array"),
    ],
)
def test_truth_that_cannot_be_read(data, change, message):
    X, revealed, truth = data
    scorer = roc_auc_scorer.set_score_request(truth=True)
    with pytest.raises(ValueError, match=message):
        scorer(Directed().fit(X, revealed), X, revealed, truth=change(truth))
    search = GridSearchCV(Directed(), GRID, scoring=scorer, cv=FOLDS, error_score="raise")
    with pytest.raises(ValueError, match=message):
        search.fit(X, revealed, truth=change(truth))


def test_truth_is_read_before_rows_are_scored(data):
    X, revealed, truth = data

    class Unwilling(Recorder):
        def score_samples(self, X):
            raise AssertionError("scored")

    with pytest.raises(ValueError, match="one value for each row"):
        roc_auc_scorer(Unwilling().fit(X), X, truth=truth[1:])


def test_zeros_in_the_truth_are_ignored_and_pointed_out(data):
    X, revealed, truth = data
    known = np.arange(240) % 3 > 0
    detector = Directed().fit(X, revealed)
    with pytest.warns(UserWarning, match="truth is 0 in 80 rows of 240"):
        score = roc_auc_scorer(detector, X, truth=np.where(known, truth, 0))
    assert score == roc_auc_scorer(detector, X[known], truth[known])
    with (
        pytest.warns(UserWarning, match="truth is 0 in 240 rows of 240"),
        pytest.warns(UndefinedMetricWarning, match="0 rows below 0"),
    ):
        assert np.isnan(roc_auc_scorer(detector, X, truth=np.zeros(240)))


@pytest.mark.parametrize("label", [-1, 1])
def test_truth_of_one_class_is_undefined(data, label):
    X, revealed, _ = data
    with pytest.warns(UndefinedMetricWarning, match="both needed.*read by their sign"):
        assert np.isnan(roc_auc_scorer(Recorder().fit(X), X, truth=np.full(240, label)))


def test_missing_truth_is_pointed_out_where_it_matters(data):
    X, revealed, truth = data
    detector = Directed().fit(X, revealed)
    for request, name in ((True, "truth"), ("whole", "whole")):
        scorer = roc_auc_scorer.set_score_request(truth=request)
        n_unlabelled = np.count_nonzero(revealed == 0)
        with pytest.warns(UserWarning, match=f"{n_unlabelled} unlabelled rows.*Pass {name}=") as w:
            assert scorer(detector, X, revealed) == roc_auc_scorer(detector, X, revealed)
        assert w[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert scorer(detector, X, truth) == roc_auc_scorer(detector, X, truth)
        roc_auc_scorer(detector, X, revealed)
        scorer.set_score_request(truth=False)(detector, X, revealed)


# Labels on their way through a pipeline


@pytest.mark.parametrize("enabled", [False, True])
def test_labels_reach_the_detector_after_an_autoencoder(data, enabled):
    X, revealed, _ = data
    encoder = Autoencoder(
        hidden_layer_sizes=(4,), latent_dim=2, max_iter=2, device="cpu", random_state=0
    )
    with sklearn.config_context(enable_metadata_routing=enabled):
        hybrid = make_pipeline(encoder, Recorder()).fit(X, revealed)
        codes = clone(encoder).fit(X).transform(X)
    np.testing.assert_array_equal(hybrid[-1].y_, revealed)
    # The autoencoder itself does not look at them.
    np.testing.assert_array_equal(hybrid[-1].rows_, codes)
    assert hybrid[-1].metadata_ == {}
    np.testing.assert_array_equal(hybrid.score_samples(X), codes[:, 0])
    assert make_pipeline(encoder, Recorder()).fit(X)[-1].y_ is None


def test_search_over_a_hybrid(data):
    X, revealed, truth = data
    encoder = Autoencoder(
        hidden_layer_sizes=(4,), latent_dim=2, max_iter=2, device="cpu", random_state=0
    )
    search = GridSearchCV(
        make_pipeline(encoder, Directed()),
        {"autoencoder__latent_dim": [1, 2], "directed__shrinkage": [0.0]},
        scoring=roc_auc_scorer.set_score_request(truth=True),
        cv=FOLDS,
        error_score="raise",
    ).fit(X, revealed, truth=truth)
    np.testing.assert_array_equal(search.best_estimator_[-1].seen_, revealed)
    hybrid = make_pipeline(clone(encoder).set_params(latent_dim=2), Directed())
    expected = expected_scores(hybrid, X, revealed, truth)
    assert [search.cv_results_[f"split{k}_test_score"][1] for k in range(3)] == expected
