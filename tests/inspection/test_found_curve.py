import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from anomaly_estimators import AuditHistory
from anomaly_estimators.inspection import FoundCurveDisplay


@pytest.fixture
def truth():
    """30 rows with 6 anomalies."""
    return np.where(np.arange(30) % 5 == 0, -1, 1)


@pytest.fixture
def runs(truth):
    """What five rankings have found, the last of them with fewer rows judged."""
    rng = np.random.default_rng(0)
    budgets = [20, 20, 20, 20, 12]
    return [AuditHistory.from_scores(rng.normal(size=30), truth, budget=b) for b in budgets]


def data(line):
    return line.get_xdata().tolist(), line.get_ydata().tolist()


def legend(display):
    return [text.get_text() for text in display.ax_.get_legend().get_texts()]


def test_a_curve_starts_at_nothing_and_counts_up(truth):
    scores = np.where(
        np.arange(30) < 6, -1.0, 0.0
    )  # rows 0 and 5 are anomalies among the first six
    display = FoundCurveDisplay.from_predictions(truth, scores, budget=8, label="shallow", name="T")
    assert data(display.lines_["shallow"]) == (list(range(9)), [0, 1, 1, 1, 1, 1, 2, 2, 2])
    assert not display.bands_
    assert display.ax_.get_title() == "T" and display.ax_.get_ylim()[0] == 0
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == (
        "rows judged",
        "anomalies found",
    )


def test_several_runs_are_a_median_in_a_band(runs):
    display = FoundCurveDisplay.from_histories({"five": runs, "one": runs[0]})
    found = np.array([run.found_at(np.arange(13)) for run in runs])
    judged, median = data(display.lines_["five"])
    assert judged == list(range(13))  # as far as all of them go
    assert_allclose(median, np.median(found, axis=0))
    corners = display.bands_["five"].get_paths()[0].vertices
    for budget in range(13):
        heights = corners[corners[:, 0] == budget, 1]
        assert (heights.min(), heights.max()) == (found[:, budget].min(), found[:, budget].max())
    assert len(display.lines_["one"].get_xdata()) == 21
    assert list(display.bands_) == ["five"]


def test_references_say_what_any_order_finds_at_best_and_by_chance(truth):
    display = FoundCurveDisplay.from_predictions(truth, np.zeros(30))
    assert legend(display) == ["found", "perfect", "random"]
    assert data(display.references_["perfect"])[1] == [*range(7)] + [6] * 24
    random = display.references_["random"].get_ydata()
    assert_allclose(random, np.arange(31) * 6 / 30)
    # The mean over many orders.
    rng = np.random.default_rng(0)
    orders = [AuditHistory.from_scores(rng.random(30), truth).n_found for _ in range(3000)]
    assert_allclose(np.mean(orders, axis=0), random[1:], atol=0.15)


def test_references_need_what_they_need(runs, truth):
    assert not FoundCurveDisplay.from_histories({"five": runs}).references_
    display = FoundCurveDisplay.from_history(runs[0])
    assert not display.references_ and display.ax_.get_legend() is None
    display = FoundCurveDisplay.from_history(runs[0], n_anomalies=6)
    assert list(display.references_) == ["perfect", "random"]
    assert data(display.references_["random"])[1][-1] == pytest.approx(20 * 6 / 30)
    anywhere = AuditHistory([4, 2], [-1, 1], [1, 1])
    display = FoundCurveDisplay.from_history(anywhere, n_anomalies=3)
    assert list(display.references_) == ["perfect"]
    display = FoundCurveDisplay.from_history(anywhere, n_anomalies=3, n_rows=9, references=False)
    assert not display.references_
    # A ranking of all rows knows how many there are, and tells those beside it.
    whole = AuditHistory.from_scores(np.arange(30), truth)
    display = FoundCurveDisplay.from_histories({"five": runs, "whole": whole}, budget=10)
    assert (display.n_anomalies, display.n_rows) == (6, 30)
    assert len(display.references_["perfect"].get_xdata()) == 11
    # Tables that differ have no line in common.
    other = AuditHistory.from_scores(np.arange(10), truth[:10])
    display = FoundCurveDisplay.from_histories({"other": other, "whole": whole})
    assert (display.n_anomalies, display.n_rows) == (None, None)


def test_rows_of_which_nothing_is_known_do_not_count(truth):
    partly = np.where(np.arange(30) < 20, truth, 0)
    display = FoundCurveDisplay.from_predictions(partly, np.arange(30))
    assert (display.n_anomalies, display.n_rows) == (4, 20)
    assert data(display.lines_["found"])[1][-1] == 4


def test_draws_on_the_axes_given(runs):
    import matplotlib.pyplot as plt

    _, ax = plt.subplots()
    ax.set_xscale("symlog")
    display = FoundCurveDisplay.from_history(runs[0], ax=ax, color="red")
    assert display.ax_ is ax and display.figure_ is ax.figure
    assert display.lines_["found"].get_color() == "red"
    assert display.plot(name="again").ax_ is not ax
    assert display.ax_.get_title() == "again"


def test_an_empty_history_is_a_point(truth):
    display = FoundCurveDisplay.from_history(AuditHistory([], [], []), n_anomalies=1)
    assert_array_equal(display.lines_["found"].get_ydata(), [0])


def test_what_cannot_be_drawn_is_said(runs):
    with pytest.raises(ValueError, match="no curve"):
        FoundCurveDisplay.from_histories({})
    with pytest.raises(ValueError, match="no run of 'none'"):
        FoundCurveDisplay.from_histories({"none": []})
    with pytest.raises(TypeError, match="from_history"):
        FoundCurveDisplay.from_histories(runs)
