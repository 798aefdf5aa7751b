"""Conventions of the detectors that learn from labels, and of those that do not."""

import warnings

import numpy as np
import pandas as pd
import pytest
from _public import deep_detectors, label_detectors, labels, public_detectors, small
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from anomaly_estimators import DeepSAD
from anomaly_estimators.model_selection import roc_auc_scorer

taught = pytest.mark.parametrize("cls", label_detectors(), ids=lambda cls: cls.__name__)
untaught = pytest.mark.parametrize(
    "cls",
    [cls for cls in public_detectors() if cls not in label_detectors()],
    ids=lambda cls: cls.__name__,
)


@pytest.fixture(scope="module")
def cancer():
    """Breast cancer rows, and the truth: -1 for the malignant."""
    X, y = load_breast_cancer(return_X_y=True)
    return X[:200, :10], np.where(y[:200] == 1, 1, -1)


@pytest.fixture(scope="module")
def X(cancer):
    return cancer[0]


@pytest.fixture(scope="module")
def y(cancer):
    """A third of the rows is labelled."""
    return np.where(np.arange(200) % 3 == 0, cancer[1], 0)


def scores(cls, X, y, **params):
    return small(cls, **params).fit(X, y).score_samples(X)


def test_there_are_detectors_of_both_kinds():
    assert DeepSAD in label_detectors()
    assert set(label_detectors()) < set(public_detectors())


@untaught
@pytest.mark.parametrize("ignored", [[1, 2], "text", [np.nan] * 200, [-1] * 200], ids=str)
def test_labels_are_ignored_by_the_others(cls, ignored, X):
    np.testing.assert_array_equal(scores(cls, X, None), scores(cls, X, ignored))


# What labels do


@taught
def test_same_labels_same_model_and_other_labels_other_model(cls, X, y):
    first = scores(cls, X, y)
    np.testing.assert_array_equal(scores(cls, X, y), first)
    for other in (np.zeros(200), np.where(y < 0, 0, y), np.where(y > 0, -1, y), y[::-1]):
        with warnings.catch_warnings():
            # Some have nothing to learn without a known anomaly.
            warnings.simplefilter("ignore", UserWarning)
            changed = scores(cls, X, other)
        assert not np.array_equal(changed, first)


@taught
def test_no_labels_are_unlabelled_rows(cls, X):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        np.testing.assert_array_equal(scores(cls, X, None), scores(cls, X, np.zeros(200)))


@taught
@pytest.mark.parametrize(
    "convert",
    [
        list,
        tuple,
        lambda y: y.astype(np.int8),
        lambda y: y.astype(np.float32),
        lambda y: y.astype(object),
        lambda y: y[:, None],
        lambda y: np.repeat(y, 2)[::2],
        lambda y: pd.Series(y, index=np.arange(5000, 4800, -1)),
        lambda y: pd.Series(y, index=[f"row {i}" for i in range(200)], name="label"),
        lambda y: pd.DataFrame({"label": y}, index=np.arange(200)[::-1]),
        lambda y: pd.Series(y).astype("Int64"),
        lambda y: pytest.importorskip("polars").Series(y),
    ],
    ids=[
        "list",
        "tuple",
        "int8",
        "float32",
        "object",
        "column",
        "strided",
        "series",
        "named series",
        "frame",
        "nullable",
        "polars",
    ],
)
def test_labels_may_come_in_any_container_and_are_read_by_position(cls, convert, X, y):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        np.testing.assert_array_equal(scores(cls, X, convert(y)), scores(cls, X, y))


@taught
def test_rows_and_labels_may_both_be_frames(cls, X, y):
    order = np.random.default_rng(0).permutation(200)
    frame = pd.DataFrame(X, columns=[f"f{i}" for i in range(10)], index=order)
    detector = small(cls).fit(frame, pd.Series(y, index=order[::-1]))
    np.testing.assert_array_equal(detector.score_samples(frame), scores(cls, X, y))


@taught
def test_labels_are_not_changed(cls, X, y):
    for given in (y.copy(), y.astype(float), pd.Series(y)):
        before = given.copy()
        small(cls).fit(X, given)
        np.testing.assert_array_equal(given, before)
        assert given.dtype == before.dtype
    locked = y.copy()
    locked.flags.writeable = False
    np.testing.assert_array_equal(scores(cls, X, locked), scores(cls, X, y))


# How they are read


@taught
@pytest.mark.parametrize("factor", [5, 0.25, 1e6])
def test_labels_are_read_by_their_sign_with_a_warning(cls, factor, X, y):
    with pytest.warns(UserWarning, match="read by their sign"):
        scaled = scores(cls, X, factor * y)
    np.testing.assert_array_equal(scaled, scores(cls, X, y))


@taught
@pytest.mark.filterwarnings("ignore:No row is labelled as a known anomaly:UserWarning")
def test_vector_of_truth_is_warned_of_with_how_it_was_read(cls, cancer):
    X, truth = cancer
    ones = (truth == -1).astype(int)
    said = f"{ones.sum()} rows above 0 as known normal, {200 - ones.sum()} rows of 0 as unlabelled"
    with pytest.warns(UserWarning, match=said):
        small(cls).fit(X, ones)


@taught
@pytest.mark.parametrize("kinds", [(1, 0, -1), (0, -1), (1, -1)], ids=str)
def test_usual_labels_are_not_warned_of(cls, kinds, X):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small(cls).fit(X, np.resize(kinds, 200))


REFUSED = [
    pytest.param(lambda y: np.where(y == 0, np.nan, y), "without gaps", id="nan"),
    pytest.param(lambda y: pd.Series(y).where(y != 0), "without gaps", id="gaps of a series"),
    pytest.param(lambda y: np.where(y == 0, np.inf, y), "without gaps", id="inf"),
    pytest.param(lambda y: y[:-1], "inconsistent", id="too few"),
    pytest.param(lambda y: np.r_[y, 0], "inconsistent", id="too many"),
    pytest.param(lambda y: np.c_[y, y], "1d array", id="two columns"),
    pytest.param(lambda y: np.where(y < 0, "anomaly", "normal"), "numbers", id="text"),
    pytest.param(lambda y: -np.ones(len(y)), "All rows are labelled as known anomalies", id="all"),
]


@taught
@pytest.mark.parametrize("was_fitted", [False, True])
@pytest.mark.parametrize(("spoil", "message"), REFUSED)
def test_impossible_labels_are_refused_and_the_fit_before_stays(
    cls, was_fitted, spoil, message, X, y, monkeypatch
):
    detector = small(cls)
    if was_fitted:
        before = detector.fit(X[:, :4], y).score_samples(X[:, :4])
    attributes = set(vars(detector))

    def no_work(self, *args):
        raise AssertionError("the training began")

    monkeypatch.setattr(cls, "_fit", no_work)
    with pytest.raises(ValueError, match=message):
        detector.fit(X, spoil(y))
    assert set(vars(detector)) == attributes
    if was_fitted:
        assert detector.n_features_in_ == 4
        np.testing.assert_array_equal(detector.score_samples(X[:, :4]), before)


@taught
def test_one_row_that_is_no_anomaly_is_enough(cls, X):
    kinds = -np.ones(200)
    kinds[7] = 0
    detector = small(cls).fit(X, kinds)
    assert np.isfinite(detector.score_samples(X)).all()


# Where they pass through


@taught
def test_fit_predict_passes_the_labels_on(cls, X, y):
    detector = small(cls)
    predicted = detector.fit_predict(X, y)
    np.testing.assert_array_equal(predicted, small(cls).fit(X, y).predict(X))
    np.testing.assert_array_equal(detector.score_samples(X), scores(cls, X, y))


@taught
def test_pipeline_passes_the_labels_on(cls, X, y):
    pipeline = make_pipeline(StandardScaler(), small(cls)).fit(X, y)
    scaled = StandardScaler().fit_transform(X)
    np.testing.assert_array_equal(pipeline.score_samples(X), scores(cls, scaled, y))
    np.testing.assert_array_equal(
        make_pipeline(StandardScaler(), small(cls)).fit_predict(X, y), pipeline.predict(X)
    )


@taught
def test_transformer_passes_the_labels_on(cls, X, y):
    detector = small(cls)
    if not hasattr(detector, "transform"):
        pytest.skip("no transformer")
    codes = detector.fit_transform(X, y)
    np.testing.assert_array_equal(codes, small(cls).fit(X, y).transform(X))


@taught
def test_search_scores_by_the_labels_of_the_rows_left_out(cls, X, y):
    folds = StratifiedKFold(2, shuffle=True, random_state=0)
    search = GridSearchCV(
        small(cls), {"contamination": [0.1, 0.2]}, scoring=roc_auc_scorer, cv=folds
    ).fit(X, y)
    train, test = next(folds.split(X, y))
    fold = small(cls, contamination=0.1).fit(X[train], y[train])
    assert search.cv_results_["split0_test_score"][0] == roc_auc_scorer(fold, X[test], y[test])
    best = small(cls, contamination=search.best_params_["contamination"]).fit(X, y)
    np.testing.assert_array_equal(search.score_samples(X), best.score_samples(X))


def test_sweep_of_eta(X, y):
    search = GridSearchCV(
        small(DeepSAD, max_iter=10, latent_dim=4),
        {"eta": [0.01, 1.0, 100.0]},
        scoring=roc_auc_scorer,
        cv=StratifiedKFold(3, shuffle=True, random_state=0),
    ).fit(X, y)
    found = search.cv_results_["mean_test_score"]
    assert np.isfinite(found).all() and len(set(found)) == 3
    assert set(search.best_params_) == {"eta"}


# Training


@pytest.mark.parametrize(
    "cls", [cls for cls in deep_detectors() if cls._uses_labels], ids=lambda cls: cls.__name__
)
def test_held_out_rows_have_their_labels(cls, X, y):
    """Early stopping measures the labelled loss: other labels, other losses."""
    few = {"early_stopping": True, "max_iter": 3}
    losses = [
        [
            row["valid_loss"]
            for row in small(cls, **few).fit(X, kinds).history_
            if "valid_loss" in row
        ]
        for kinds in (y, labels(cls, 200))
    ]
    assert len(losses[0]) == len(losses[1]) > 0 and losses[0] != losses[1]
