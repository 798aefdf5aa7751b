"""Which score to trust, against arithmetic by hand."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.special import expit

from anomaly_estimators.active._trust import Trust, expected_yield, hit_rate

LOGITS = st.lists(st.floats(-50, 50), min_size=1, max_size=10).map(np.array)
COUNTS = st.floats(0, 1e4)


def log_odds(p):
    return np.log(p) - np.log1p(-np.asarray(p))


# The functions


@pytest.mark.parametrize(
    ("p", "predicted", "found", "expected"),
    [
        # Nothing has been seen yet: the probabilities as they are.
        ([0.5, 0.1], 0.0, 0.0, 0.3),
        # As many as it had expected.
        ([0.2, 0.4], 7.0, 7.0, 0.3),
        # (1 + 4) / (1 + 9) of what it says.
        ([0.8], 9.0, 4.0, 0.4),
        # It had been too modest.
        ([0.9], 0.0, 1.0, 1.8),
        ([0.5, 0.5, 0.5, 0.9], 19.0, 0.0, 0.03),
    ],
)
def test_expected_yield_by_hand(p, predicted, found, expected):
    assert expected_yield(log_odds(p), predicted, found) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("found", "audited", "expected"),
    [(0, 0, 1 / 2), (0, 8, 1 / 10), (8, 8, 9 / 10), (3, 10, 4 / 12), (0.8, 1.6, 0.5)],
)
def test_hit_rate_by_hand(found, audited, expected):
    assert hit_rate(found, audited) == pytest.approx(expected, rel=1e-12)


@given(LOGITS, COUNTS, COUNTS)
def test_expected_yield_is_the_mean_probability_corrected(logits, predicted, found):
    expected = expit(logits).mean() * (1 + found) / (1 + predicted)
    assert expected_yield(logits, predicted, found) == pytest.approx(
        expected, rel=1e-6, abs=1e-15 * (1 + found)
    )


@given(LOGITS, COUNTS, COUNTS, st.floats(0, 20), st.floats(0, 100))
def test_expected_yield_is_monotone(logits, predicted, found, shift, more):
    value = expected_yield(logits, predicted, found)
    assert value >= 0
    assert expected_yield(logits + shift, predicted, found) >= value
    assert expected_yield(logits, predicted, found + more) >= value
    assert expected_yield(logits, predicted + more, found) <= value


@given(COUNTS, COUNTS, st.floats(0, 100))
def test_hit_rate_is_a_share_and_monotone(found, missed, more):
    rate = hit_rate(found, found + missed)
    assert 0 < rate < 1
    assert hit_rate(found + more, found + missed + more) >= rate
    assert hit_rate(found, found + missed + more) <= rate


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_far_logits_are_finite(dtype):
    with np.errstate(all="raise"):
        assert expected_yield(np.array([1e30, -1e30], dtype=dtype), 0.0, 0.0) == 0.5
        assert expected_yield(np.array([np.inf, -np.inf], dtype=dtype), 0.0, 0.0) == 0.5


def test_single_precision_is_summed_in_double():
    logits = np.full(10, -20.0, dtype=np.float32)
    assert expected_yield(logits, 0.0, 0.0) == pytest.approx(float(expit(-20.0)), rel=1e-9)


# The books


def test_rounds_by_hand():
    trust = Trust()
    assert trust == (0.0, 0.0, 0.0, 0.0)
    trust = trust.updated("base", log_odds([0.9, 0.5, 0.1]), np.array([True, False, False]))
    np.testing.assert_allclose(trust, (1.5, 1.0, 3.0, 1.0))
    # The head chose: nothing is learned of the base score, and nothing forgotten.
    trust = trust.updated("uai", log_odds([0.8, 0.8]), np.array([True, True]))
    np.testing.assert_allclose(trust, (0.8 * 1.5 + 1.6, 0.8 + 2.0, 3.0, 1.0))
    trust = trust.updated("base", log_odds([0.25]), np.array([False]))
    np.testing.assert_allclose(trust, (0.8 * 2.8 + 0.25, 0.8 * 2.8, 0.8 * 3 + 1, 0.8))
    # 0.5 * (2.24 + 1) / (2.49 + 1) = 0.464 against (0.8 + 1) / (3.4 + 2) = 1/3
    assert trust.prefers_head(log_odds([0.5]))
    # 0.359 * 3.24 / 3.49 = 0.33328
    assert not trust.prefers_head(log_odds([0.359]))
    assert trust.prefers_head(log_odds([0.3591]))


def test_a_round_leaves_the_books_before_it():
    before = Trust(1.0, 2.0, 3.0, 1.0)
    before.updated("base", np.zeros(2), np.array([True, False]))
    assert before == (1.0, 2.0, 3.0, 1.0)


def test_books_are_plain_numbers():
    """As a file can hold them."""
    trust = Trust().updated("base", np.zeros(3, dtype=np.float32), np.array([True, False, True]))
    assert all(type(number) is float for number in trust)
    assert type(trust.prefers_head(np.zeros(1, dtype=np.float32))) is bool


def test_even_chances_are_the_base_scores():
    assert not Trust().prefers_head(np.zeros(3))


ROUNDS = st.lists(
    st.tuples(st.sampled_from(["base", "uai"]), st.lists(st.booleans(), min_size=1, max_size=5)),
    max_size=8,
)


@given(ROUNDS, LOGITS)
def test_only_what_has_been_audited_counts(rounds, logits):
    trust = Trust()
    for chosen, verdicts in rounds:
        trust = trust.updated(chosen, logits[: len(verdicts)].repeat(5)[:5], np.array(verdicts))
    base = [verdicts for chosen, verdicts in rounds if chosen == "base"]
    weights = [0.8**i for i in range(len(base))][::-1]
    assert trust.base_audited == pytest.approx(5 * sum(weights))
    assert trust.base_found == pytest.approx(
        sum(w * sum(v) for w, v in zip(weights, base, strict=True))
    )
    weights = [0.8**i for i in range(len(rounds))][::-1]
    assert trust.found == pytest.approx(
        sum(w * sum(v) for w, (_, v) in zip(weights, rounds, strict=True))
    )


@given(LOGITS, LOGITS, st.integers(0, 5))
def test_a_head_that_promised_much_and_found_little_is_trusted_less(said, says, found):
    verdicts = np.arange(len(said)) < found
    assume(verdicts.sum() < len(said))
    better = verdicts.copy()
    better[-1] = True
    worse, other = (Trust().updated("uai", said, v) for v in (verdicts, better))
    # What the head would choose next promises more, the more was found.
    assert expected_yield(says, worse.expected, worse.found) <= expected_yield(
        says, other.expected, other.found
    )
    assert worse.prefers_head(says) <= other.prefers_head(says)


@given(LOGITS, LOGITS)
def test_a_base_score_that_finds_is_trusted_more(said, says):
    hits, misses = (
        Trust().updated("base", said, np.full(len(said), kind)) for kind in (True, False)
    )
    assert hit_rate(hits.base_found, hits.base_audited) > hit_rate(
        misses.base_found, misses.base_audited
    )
