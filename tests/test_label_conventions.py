"""Labels in other conventions: a measure gives the right figure or says how it read them."""

import inspect
import re
import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.model_selection import GridSearchCV, KFold, cross_validate

from anomaly_estimators import metrics, model_selection
from anomaly_estimators.datasets import one_class_split
from anomaly_estimators.model_selection import semi_supervised_split

N_ROWS = 60
TRUTH = np.where(np.arange(N_ROWS) % 5 == 0, -1, 1)
SCORES = np.random.default_rng(0).normal(size=N_ROWS) + TRUTH


class Given(OutlierMixin, BaseEstimator):
    """Takes a row's first feature for its score."""

    def fit(self, X, y=None):
        self.is_fitted_ = True
        return self

    def score_samples(self, X):
        return X[:, 0]


def rows(scores):
    return np.column_stack([scores, np.arange(len(scores))])


def public_scorers() -> dict:
    """All scorers, by name; those that are made by a function as it makes them by default."""
    named = {name: getattr(model_selection, name) for name in model_selection.__all__}
    scorers = {name: scorer for name, scorer in named.items() if name.endswith("_scorer")}
    return {k: v() if inspect.isfunction(v) else v for k, v in scorers.items()}


SCORERS = public_scorers()


def direct(scorer):
    return lambda y, scores: scorer(Given().fit(None), rows(scores), y)


def validated(y, scores, **options):
    """Scores of the folds, by all scorers."""
    folds = KFold(3, shuffle=True, random_state=0)
    results = cross_validate(Given(), rows(scores), y, scoring=SCORERS, cv=folds, **options)
    return np.array([results[f"test_{name}"] for name in SCORERS])


def searched(y, scores):
    """Best scores of a search, by all scorers."""
    folds = KFold(3, shuffle=True, random_state=0)
    search = GridSearchCV(Given(), {}, scoring=SCORERS, refit=False, cv=folds)
    results = search.fit(rows(scores), y).cv_results_
    return np.array([results[f"mean_test_{name}"] for name in SCORERS])


def by_truth(y, scores):
    """Scores of the folds, by all scorers, where the labels are the truth that is routed to them."""
    folds = KFold(3, shuffle=True, random_state=0)
    with sklearn.config_context(enable_metadata_routing=True):
        scoring = {k: v.set_score_request(truth=True) for k, v in SCORERS.items()}
        given = {"scoring": scoring, "cv": folds, "params": {"truth": y}}
        results = cross_validate(Given(), rows(scores), **given)
    return np.array([results[f"test_{name}"] for name in SCORERS])


METRICS = {name: getattr(metrics, name) for name in metrics.__all__}
MEASURES = METRICS | {name: direct(scorer) for name, scorer in SCORERS.items()}
WITHIN = {"cross_validate": validated, "GridSearchCV": searched, "truth": by_truth}
SPLITS = {
    "semi_supervised_split": lambda y, scores: semi_supervised_split(
        scores, y, labelled_ratio=0.2, random_state=0
    )[1],
    "one_class_split": lambda y, scores: np.ravel(one_class_split(scores, y, random_state=0)[3]),
}


def outcome(measure, y, scores):
    """The figure, None where there is none, and all that was said."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            figure = measure(y, scores)
        except ValueError as error:
            return None, str(error)
    return figure, "\n".join(str(warning.message) for warning in caught)


def turn(value):
    """The cure, where a value stands for the anomalies."""
    return re.escape(f" == {value}, -1, 1)")


RIGHT = {
    "floats": TRUTH.astype(float),
    "bytes": TRUTH.astype(np.int8),
    "list": TRUTH.tolist(),
    "column vector": TRUTH[:, None],
    "objects": TRUTH.astype(object),
    "Series": pd.Series(TRUTH, index=np.arange(N_ROWS) + 7),
    "DataFrame": pd.DataFrame({"label": TRUTH}),
    "nullable": pd.Series(TRUTH, dtype="Int64"),
}
OTHER = {
    "0/1": ((TRUTH == -1).astype(int), "0 rows below 0 as known anomalies.*" + turn(1)),
    "0/1, floats": ((TRUTH == -1).astype(float), "0 rows below 0.*" + turn(1)),
    "0/1, column": ((TRUTH == -1).astype(int)[:, None], "0 rows below 0.*" + turn(1)),
    "0/1, Series": (pd.Series((TRUTH == -1).astype(int)), "0 rows below 0.*" + turn(1)),
    "0/1, 0 the anomaly": ((TRUTH == 1).astype(int), "0 rows below 0.*" + turn(0)),
    "True/False": (TRUTH == -1, "0 rows below 0.*" + turn(1)),
    "True/False, objects": ((TRUTH == -1).astype(object), "0 rows below 0.*" + turn(1)),
    "strings": (np.where(TRUTH == -1, "anomaly", "normal"), "must hold numbers.*np.where"),
    "strings, objects": (
        pd.Series(np.where(TRUTH == -1, "anomaly", "normal"), dtype=object),
        "must hold numbers.*np.where",
    ),
    "1/2": (np.where(TRUTH == -1, 2, 1), "rows above 0 as known normal.*" + turn(2)),
    "2/4": (np.where(TRUTH == -1, 4, 2), "rows above 0 as known normal.*" + turn(4)),
    "0/1/2": (np.where(TRUTH == -1, np.arange(N_ROWS) % 2 + 1, 0), "VALUE, -1, 1"),
    "-1/0": (np.where(TRUTH == -1, -1, 0), "rows of 0 as unlabelled.*" + turn(-1)),
    "NaN": (np.where(np.arange(N_ROWS) == 3, np.nan, TRUTH), "without gaps"),
    "None": (np.where(np.arange(N_ROWS) == 3, None, TRUTH), "without gaps"),
    "only normal": (np.ones(N_ROWS), "0 rows below 0"),
    "only anomalies": (-np.ones(N_ROWS), "0 rows above 0"),
    "only unlabelled": (np.zeros(N_ROWS), "0 rows above 0.*0 rows below 0"),
    "two columns": (np.stack([TRUTH, TRUTH], axis=1), "1d array"),
}
# What a split cannot know, or need not mind.
FLIPPED = {"+1 the anomaly": (-TRUTH, "Most rows are anomalies.*" + turn(1))}
LENGTHS = {
    "too short": (TRUTH[:-1], "inconsistent numbers of samples"),
    "too long": (np.r_[TRUTH, 1], "inconsistent numbers of samples"),
    "empty": (TRUTH[:0], "0 sample|inconsistent"),
}


def table(cases):
    return pytest.mark.parametrize("case", cases.values(), ids=cases.keys())


def measures(named):
    return pytest.mark.parametrize("measure", named.values(), ids=named.keys())


@measures(MEASURES | WITHIN | SPLITS)
@table(RIGHT)
def test_what_is_one_vector_of_signs_is_read_without_a_word(measure, case):
    figure, said = outcome(measure, case, SCORES)
    assert said == ""
    np.testing.assert_array_equal(figure, measure(TRUTH, SCORES))


@measures(MEASURES)
@table(OTHER | FLIPPED | LENGTHS)
def test_other_conventions_are_spoken_of(measure, case):
    y, message = case
    assert re.search(message, outcome(measure, y, SCORES)[1], re.DOTALL)


@measures(WITHIN)
@table(OTHER | FLIPPED)
def test_what_is_said_reaches_the_user_of_a_search(measure, case):
    y, message = case
    assert re.search(message, outcome(measure, y, SCORES)[1], re.DOTALL)


@measures(SPLITS)
@table(OTHER | LENGTHS)
def test_splits_refuse_or_speak_of_other_conventions(measure, case):
    y, message = case
    figure, said = outcome(measure, y, SCORES)
    # Nothing is wrong with a set without anomalies, or with a kind that is not needed to train.
    assert figure is not None or re.search(f"{message}|np.where|is normal", said, re.DOTALL)


@measures(MEASURES)
def test_unlabelled_rows_beside_both_kinds_are_ignored(measure):
    known = np.arange(N_ROWS) % 3 > 0
    figure, said = outcome(measure, np.where(known, TRUTH, 0), SCORES)
    assert said == ""
    assert figure == measure(TRUTH[known], SCORES[known])


@measures(MEASURES)
def test_labels_of_other_sizes_are_read_by_their_sign_which_is_said(measure):
    figure, said = outcome(measure, np.where(TRUTH == -1, -2.5, 3), SCORES)
    assert figure == measure(TRUTH, SCORES)
    assert "48 rows above 0 as known normal, 0 rows of 0" in said


@measures(MEASURES)
def test_few_labels_may_be_of_anomalies_mostly(measure):
    y = np.where(np.arange(N_ROWS) < 12, np.where(np.arange(N_ROWS) < 3, 1, -1), 0)
    assert outcome(measure, y, SCORES)[1] == ""


@measures(METRICS)
@pytest.mark.parametrize("scores", [SCORES[:-1], np.stack([SCORES, SCORES], axis=1)])
def test_scores_that_do_not_fit_are_refused(measure, scores):
    assert re.search("inconsistent|scores must be a vector", outcome(measure, TRUTH, scores)[1])


@measures(METRICS)
def test_anomaly_scores_are_told_from_scores_where_they_show_it(measure):
    figure, said = outcome(measure, TRUTH, -2 * TRUTH + 0.1 * SCORES)
    assert "pass -scores" in said and "read by their sign" in said
    assert np.max(figure) == 0
    # Bad, but no worse than bad detectors are; and too few rows to tell.
    noise = np.random.default_rng(1).normal(size=N_ROWS)
    assert outcome(measure, TRUTH, noise - 0.5 * TRUTH)[1] == ""
    assert outcome(measure, [-1, 1, 1, 1], [3, 0, 1, 2])[1] == ""


@measures(SCORERS)
def test_labels_are_refused_before_rows_are_scored(measure):
    class Unwilling(Given):
        def score_samples(self, X):
            raise AssertionError("scored")

    for y in (TRUTH[1:], np.where(TRUTH == -1, "anomaly", "normal")):
        with pytest.raises(ValueError, match="inconsistent|must hold numbers"):
            measure(Unwilling(), rows(SCORES), y)
