import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.ensemble import IsolationForest
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from anomaly_estimators.inspection import ScoreDistributionDisplay


@pytest.fixture
def forest(rows):
    X, _ = rows
    return IsolationForest(contamination=0.1, random_state=0).fit(X)


def drawn_shares(display, group):
    """Heights of a group's bars, read off the outline that was drawn."""
    (polygon,) = display.bars_[group]
    edges, outline = display.bin_edges_, polygon.get_xy()
    middles = (edges[:-1] + edges[1:]) / 2
    upper = outline[: 2 * edges.size]
    order = np.searchsorted(upper[::2, 0], middles, side="right") - 1
    return upper[1::2, 1][order]


def test_each_groups_bars_are_shares_of_that_group(forest, rows):
    X, y = rows
    display = ScoreDistributionDisplay.from_estimator(forest, X, y, bins=10)
    scores = forest.score_samples(X)
    assert list(display.bars_) == ["normal", "anomaly"]
    for group, sign in (("normal", 1), ("anomaly", -1)):
        counts, _ = np.histogram(scores[y == sign], bins=display.bin_edges_)
        assert counts.sum() == np.sum(y == sign)
        assert_allclose(drawn_shares(display, group), counts / counts.sum())


def test_legend_counts_rows_and_flagged_rows(forest, rows):
    X, y = rows
    display = ScoreDistributionDisplay.from_estimator(forest, X, y)
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    n_flagged = int(np.sum(forest.predict(X) == -1))
    assert labels == [
        "normal (190)",
        "anomaly (10)",
        f"threshold ({n_flagged} of 200 flagged)",
    ]


def test_threshold_line_stands_at_the_offset(forest, rows):
    display = ScoreDistributionDisplay.from_estimator(forest, *rows)
    assert_allclose(display.line_.get_xdata(), forest.offset_)
    assert display.ax_.get_title() == "IsolationForest"
    assert "score samples" in display.ax_.get_xlabel()


def test_threshold_is_zero_for_the_decision_function(forest, rows):
    display = ScoreDistributionDisplay.from_estimator(
        forest, *rows, response_method="decision_function"
    )
    assert_allclose(display.line_.get_xdata(), 0.0)
    assert_allclose(display.scores, forest.decision_function(rows[0]))


def test_threshold_is_found_through_a_pipeline_and_a_search(rows):
    X, y = rows
    pipeline = make_pipeline(StandardScaler(), IsolationForest(contamination=0.1, random_state=0))
    search = GridSearchCV(
        pipeline, {"isolationforest__n_estimators": [10]}, scoring=lambda *_: 0.0, cv=2
    ).fit(X)
    for estimator, step in (
        (pipeline.fit(X), pipeline[-1]),
        (search, search.best_estimator_[-1]),
    ):
        display = ScoreDistributionDisplay.from_estimator(estimator, X, y)
        assert_allclose(display.threshold, step.offset_)


def test_without_labels_there_is_one_group(forest, rows):
    display = ScoreDistributionDisplay.from_estimator(forest, rows[0])
    assert list(display.bars_) == ["all rows"]


def test_unlabelled_rows_are_a_group_of_their_own(forest, rows):
    X, y = rows
    y = np.where(np.arange(200) < 50, 0, y)
    display = ScoreDistributionDisplay.from_estimator(forest, X, y)
    assert list(display.bars_) == ["unlabelled", "normal", "anomaly"]


def test_a_vector_of_zeros_and_ones_is_questioned(forest, rows):
    X, y = rows
    with pytest.warns(UserWarning, match="read by their sign"):
        ScoreDistributionDisplay.from_estimator(forest, X, (y < 0).astype(int))


def test_heavy_tails_bend_the_axis_and_keep_every_row():
    rng = np.random.default_rng(0)
    scores = np.r_[rng.normal(size=500), -1e7, -1e4, -50.0]
    display = ScoreDistributionDisplay.from_predictions(scores, threshold=-3.0)
    assert display.ax_.get_xscale() == "asinh"
    assert -1e6 in display.ax_.get_xticks() and 0.0 in display.ax_.get_xticks()
    low, high = display.ax_.get_xlim()
    assert low <= scores.min() and high >= scores.max()
    assert_allclose(drawn_shares(display, "all rows").sum(), 1.0)


def test_light_tails_leave_the_axis_straight():
    scores = np.random.default_rng(0).normal(size=500)
    assert ScoreDistributionDisplay.from_predictions(scores).ax_.get_xscale() == "linear"


@pytest.mark.parametrize("scores", [np.zeros(5), np.array([3.0])])
@pytest.mark.parametrize("scale", ["auto", "linear", "asinh"])
def test_constant_scores_can_be_drawn(scores, scale):
    display = ScoreDistributionDisplay.from_predictions(scores, scale=scale)
    assert_allclose(drawn_shares(display, "all rows").sum(), 1.0)


def test_draws_on_the_axes_given(forest, rows):
    import matplotlib.pyplot as plt

    _, ax = plt.subplots()
    display = ScoreDistributionDisplay.from_estimator(forest, *rows, ax=ax, name="forest")
    assert display.ax_ is ax and display.figure_ is ax.figure
    assert ax.get_title() == "forest"


def test_bad_arguments_are_named(forest, rows):
    with pytest.raises(ValueError, match="response_method"):
        ScoreDistributionDisplay.from_estimator(forest, *rows, response_method="predict")
    with pytest.raises(ValueError, match="scale"):
        ScoreDistributionDisplay.from_predictions([1.0, 2.0], scale="log")


def test_missing_matplotlib_names_the_extra(monkeypatch, forest, rows):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"anomaly-estimators\[plots\]"):
        ScoreDistributionDisplay.from_estimator(forest, *rows)
