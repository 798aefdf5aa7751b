import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import precision_recall_fscore_support

from anomaly_estimators.metrics import f1_at_ratio, precision_at_n, precision_recall_f1_at_ratio


@st.composite
def labelled_scores(draw, highest=8, max_size=40, labels=(-1, 1)):
    """Labels with at least one anomaly, and scores; few score values give many ties."""
    size = draw(st.integers(1, max_size))
    y_true = draw(st.lists(st.sampled_from(labels), min_size=size - 1, max_size=size - 1))
    scores = draw(st.lists(st.integers(0, highest), min_size=size, max_size=size))
    return np.array([-1, *y_true]), np.array(scores, dtype=float)


RATIOS = st.none() | st.floats(0.2, 1)
pytestmark = pytest.mark.filterwarnings(
    "ignore:ratio=",
    "ignore:y_true has no normal row",
    "ignore:(Labels are read|Most rows are anomalies|Nearly all anomalies)",
)


@given(st.integers(0, 2**32 - 1), st.integers(5, 60), RATIOS)
def test_agrees_with_scikit_learn_without_ties(seed, size, ratio):
    rng = np.random.default_rng(seed)
    y_true = np.where(rng.random(size) < 0.3, -1, 1)
    y_true[0] = -1
    scores = rng.permutation(size) / 7
    n_flagged = round(np.mean(y_true == -1) * size if ratio is None else ratio * size)
    y_pred = np.ones(size, dtype=int)
    y_pred[np.argsort(scores)[:n_flagged]] = -1
    expected = precision_recall_fscore_support(
        y_true, y_pred, pos_label=-1, average="binary", zero_division=0
    )[:3]
    measures = precision_recall_f1_at_ratio(y_true, scores, ratio)
    np.testing.assert_allclose(measures, expected, rtol=1e-12)
    assert f1_at_ratio(y_true, scores, ratio) == measures[2]


@settings(deadline=None)  # thousands of orders an example, on machines that do other work
@given(labelled_scores(highest=2, max_size=7), st.integers(1, 7))
def test_ties_give_the_mean_over_all_ways_to_break_them(sample, n_flagged):
    y_true, scores = sample
    n_flagged = min(n_flagged, len(y_true))
    # Every order of the rows, then a stable sort: each way to break the ties equally often.
    measures = []
    for order in map(list, itertools.permutations(range(len(y_true)))):
        flagged = np.array(order)[np.argsort(scores[order], kind="stable")[:n_flagged]]
        y_pred = np.ones(len(y_true), dtype=int)
        y_pred[flagged] = -1
        hits = np.count_nonzero((y_pred == -1) & (y_true == -1))
        n_anomalies = np.count_nonzero(y_true == -1)
        precision, recall = hits / n_flagged, hits / n_anomalies
        f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
        measures.append((precision, recall, f1))
    result = precision_recall_f1_at_ratio(y_true, scores, n_flagged / len(y_true))
    np.testing.assert_allclose(result, np.mean(measures, axis=0), rtol=1e-9)
    assert precision_at_n(y_true, scores, n_flagged) == pytest.approx(result[0])


@given(labelled_scores(), RATIOS, st.randoms(use_true_random=False))
def test_invariances(sample, ratio, random):
    y_true, scores = sample
    result = precision_recall_f1_at_ratio(y_true, scores, ratio)
    assert all(0 <= value <= 1 for value in result)
    order = list(range(len(y_true)))
    random.shuffle(order)
    assert precision_recall_f1_at_ratio(y_true[order], scores[order], ratio) == result
    # Only the order of the scores counts, and only the signs of the labels.
    assert precision_recall_f1_at_ratio(y_true, np.exp(scores) - 5, ratio) == result
    assert precision_recall_f1_at_ratio(y_true * 3.5, scores, ratio) == result
    assert precision_recall_f1_at_ratio(y_true.tolist(), scores.tolist(), ratio) == result


@given(labelled_scores(labels=(-1, 0, 1)), RATIOS)
def test_unlabelled_rows_are_ignored(sample, ratio):
    y_true, scores = sample
    labelled = y_true != 0
    expected = precision_recall_f1_at_ratio(y_true[labelled], scores[labelled], ratio)
    assert precision_recall_f1_at_ratio(y_true, scores, ratio) == expected
    assert precision_recall_f1_at_ratio(y_true, np.where(labelled, scores, np.nan), ratio) == (
        expected
    )


@given(labelled_scores())
def test_default_ratio_makes_the_three_measures_equal(sample):
    precision, recall, f1 = precision_recall_f1_at_ratio(*sample)
    assert precision == recall == f1 == precision_at_n(*sample)


@pytest.mark.parametrize("anomalies_first", [True, False])
def test_constant_scores_are_not_lucky(anomalies_first):
    y_true = np.repeat([-1, 1] if anomalies_first else [1, -1], [20, 80])
    share = np.mean(y_true == -1)
    assert f1_at_ratio(y_true, np.zeros(100)) == pytest.approx(share)


def test_best_and_worst():
    y_true = np.repeat([-1, 1], [3, 7])
    assert f1_at_ratio(y_true, np.arange(10)) == 1
    assert f1_at_ratio(y_true, -np.arange(10)) == 0
    scores = np.where(y_true == -1, -np.inf, np.inf)
    assert precision_recall_f1_at_ratio(y_true, scores, 0.6) == (0.5, 1.0, pytest.approx(2 / 3))


def test_ratio_that_flags_nothing_warns():
    with pytest.warns(UndefinedMetricWarning, match="flags none"):
        assert precision_recall_f1_at_ratio([-1, 1], [0, 1], ratio=0.1) == (0, 0, 0)


@pytest.mark.parametrize(
    ("y_true", "scores", "ratio", "message"),
    [
        ([-1, 1], [0, np.nan], None, "1 of the 2 labelled rows have the score NaN"),
        ([1, 1], [0, 1], None, "no anomaly"),
        ([0, 1], [0, 1], None, r"np.where\(y_true == 1, -1, 1\)"),
        (["out", "in"], [0, 1], None, "y_true must hold numbers"),
        ([-1, np.nan], [0, 1], None, "y_true must hold numbers"),
        ([True, False], [0, 1], None, "no anomaly"),
        ([-1, 1, 1], [0, 1], None, "inconsistent numbers of samples"),
        ([-1, 1], [[0, 1], [2, 3]], None, "1d array"),
        ([-1, 1], [0, 1], 0, "ratio must be above 0"),
        ([-1, 1], [0, 1], 1.1, "ratio must be above 0"),
        ([-1, 1], [0, 1], np.nan, "ratio must be above 0"),
        ([-1, 1], [0, 1], "0.2", "ratio must be above 0"),
    ],
)
def test_bad_input(y_true, scores, ratio, message):
    with pytest.raises(ValueError, match=message):
        precision_recall_f1_at_ratio(y_true, scores, ratio)


@pytest.mark.parametrize("n", [0, 3, 1.0, "1"])
def test_bad_n(n):
    with pytest.raises(ValueError, match="n must be an integer from 1 to the 2 labelled rows"):
        precision_at_n([-1, 1], [0, 1], n)
