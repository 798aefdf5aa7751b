"""The threshold stands between scores, further from both than rounding."""

import warnings

import numpy as np
import pytest

from anomaly_estimators.thresholds import flagged_count, rounding, threshold


def flagged(scores, contamination):
    scores = np.asarray(scores, dtype=np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return scores < threshold(scores, contamination)


@pytest.mark.parametrize(
    ("scores", "contamination", "expected"),
    [
        ([1.0, 2.0, 3.0, 5.0], 0.25, 1.5),
        ([5.0, 3.0, 2.0, 1.0], 0.5, 2.5),
        ([-1e308, 1e308], 0.5, 0.0),
    ],
)
def test_it_lies_half_way_between_the_flagged_and_the_others(scores, contamination, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert threshold(np.array(scores), contamination) == expected


def test_less_than_one_row_is_one_row_and_said():
    with pytest.warns(
        UserWarning, match="contamination=0.1 of 4 training rows is less than one row"
    ):
        assert threshold(np.array([1.0, 2.0, 3.0, 5.0]), 0.1) == 1.5


def test_rounding_of_the_share_does_not_lose_a_row():
    assert flagged(np.arange(100.0), 0.29).sum() == 29  # 0.29 * 100 < 29 in floats


@pytest.mark.parametrize(
    ("sizes", "contamination", "n_flagged"),
    [
        ((120, 880), 0.1, 120),  # the group's end is nearer than none
        ((300, 700), 0.1, 0),
        ((90, 40, 870), 0.1, 90),
        ((90, 15, 895), 0.1, 105),
        ((95, 10, 895), 0.1, 95),  # as near: the smaller
        ((1000,), 0.1, 0),
    ],
)
@pytest.mark.parametrize("noise", [0.0, 1e-15, 1e-12])
def test_equal_scores_are_on_one_side_and_a_warning_says_how_many(
    sizes, contamination, n_flagged, noise
):
    levels = np.repeat(-10.0 + np.arange(len(sizes)), sizes)
    scores = levels * (1 + noise * np.random.default_rng(0).uniform(-1, 1, 1000))
    with pytest.warns(UserWarning, match=rf"asks for 100 of 1000 .* {n_flagged} are flagged"):
        offset = threshold(scores, contamination)
    # In other company, the scores differ by rounding.
    for seed in range(5):
        again = levels * (1 + noise * np.random.default_rng(seed).uniform(-1, 1, 1000))
        assert (again < offset).sum() == n_flagged


@pytest.mark.parametrize("scale", [1e-300, 1e-12, 1.0, 1e12, 1e300])
@pytest.mark.parametrize("shift", [0.0, 1.0, -1e3])
def test_it_is_further_from_both_neighbours_than_rounding(scale, shift):
    scores = np.sort(scale * (np.random.default_rng(0).normal(size=500) + shift))
    for contamination in (0.001, 0.1, 0.29, 0.5, "auto"):
        offset = threshold(scores, contamination)
        n = int((scores < offset).sum())
        assert n == flagged_count(scores, contamination)
        margin = rounding(scores)
        assert scores[n - 1] + margin[n - 1] < offset < scores[n] - margin[n]


def test_scores_that_lie_as_close_as_floats_can_are_one():
    below = 1.0
    scores = np.array([below, np.nextafter(below, 2.0), 3.0, 4.0])
    with pytest.warns(UserWarning, match="asks for 1 of 4 training rows, but 0 are flagged"):
        assert (scores < threshold(scores, 0.25)).sum() == 0


def test_many_rows_are_not_taken_for_tied():
    scores = np.sort(np.random.default_rng(0).normal(size=1_000_000))
    assert flagged(scores, 0.1).sum() == 100_000


@pytest.mark.parametrize("value", [7.0, 0.0, -1e-310, 1e300, -np.finfo(float).max])
def test_below_equal_scores_what_is_lower_is_flagged(value):
    with pytest.warns(UserWarning, match="0 are flagged"):
        offset = threshold(np.full(5, value), 0.5)
    assert np.isfinite(offset) and offset <= value
    if value > -1e300:
        assert value - max(1e-8 * abs(value), 1e-300) < offset < value


def test_automatic_threshold_is_the_fence_of_tukey():
    rng = np.random.default_rng(0)
    scores = np.r_[rng.normal(size=500), [-8.0, -9.0, -10.0]]
    lower, upper = np.percentile(scores, [25, 75])
    expected = scores < lower - 1.5 * (upper - lower)
    np.testing.assert_array_equal(flagged(scores, "auto"), expected)
    assert expected[-3:].all()


def test_automatic_threshold_flags_the_lowest_score_at_least():
    assert flagged(np.arange(10.0), "auto").sum() == 1
