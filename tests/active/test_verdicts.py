"""Verdicts: what they may be, and which contradict what is known."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from anomaly_estimators.active.verdicts import check_verdicts, find_contradiction

ROWS = st.lists(st.integers(0, 99), unique=True, max_size=20)


@given(rows=ROWS, data=st.data())
def test_rows_and_verdicts_come_back_in_their_order(rows, data):
    given_ = data.draw(st.lists(st.sampled_from([-1, 1]), min_size=len(rows), max_size=len(rows)))
    indices, verdicts = check_verdicts(rows, given_, 100)
    assert indices.dtype == np.int64 and verdicts.dtype == np.int8
    assert indices.tolist() == rows and verdicts.tolist() == given_


@pytest.mark.parametrize(
    "one",
    [1, 1.0, np.int8(1), np.uint64(1), np.float16(1), np.array(1), Decimal(1), Fraction(1)],
    ids=repr,
)
def test_one_is_one_in_any_type(one):
    minus_one = np.int8(-1) if isinstance(one, np.uint64) else -one
    assert check_verdicts([7, 3], [one, minus_one], 8)[1].tolist() == [1, -1]


@pytest.mark.parametrize("kind", [np.int8, np.int64, np.uint8, np.uint64, np.uint16])
def test_positions_may_have_any_integer_type(kind):
    rows, _ = check_verdicts(np.array([7, 0], dtype=kind), [1, 1], 8)
    assert rows.dtype == np.int64 and rows.tolist() == [7, 0]


def test_rows_are_a_copy():
    given_ = np.array([1, 2])
    rows, _ = check_verdicts(given_, [1, 1], 3)
    assert not np.shares_memory(rows, given_)


ZEROS = [0, -0.0, np.False_]


@pytest.mark.parametrize(
    "verdict",
    [*ZEROS, 2, 1 + 1e-12, np.nan, -np.inf, True, None, "1", b"-1", "anomaly", pd.NA]
    + [pd.NaT, [1], np.ones(1), np.array(True), 1j, 10**400, {1}],
    ids=repr,
)
def test_everything_else_is_no_verdict(verdict):
    with pytest.raises(ValueError, match=r"The verdict on row 4 is .*Leave a row out") as caught:
        check_verdicts([2, 4], [1, verdict], 5)
    assert len(str(caught.value)) < 250
    assert ("np.where" in str(caught.value)) == any(verdict is zero for zero in ZEROS)


def test_long_input_is_not_shown_as_a_whole():
    with pytest.raises(ValueError) as caught:
        check_verdicts("long" * 1000, [1], 5)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("indices", [3, "3", None, [[1, 2]], [1.0], [True], ["1"], [2**70], {1: 2}])
def test_what_is_no_sequence_of_positions_is_refused(indices):
    with pytest.raises(ValueError, match=r"indices must be a sequence of positions"):
        check_verdicts(indices, [1], 5)


@given(row=st.integers(-(2**63), 2**63 - 1).filter(lambda row: not 0 <= row < 5))
def test_rows_that_are_not_there_are_named(row):
    with pytest.raises(ValueError, match=rf"no row {row}: .* rows 0 to 4\."):
        check_verdicts([1, row, 2], [1, 1, 1], 5)


def test_repeated_rows_are_named():
    with pytest.raises(ValueError, match="Row 3 comes 2 times"):
        check_verdicts([3, 5, 3], [1, 1, 1], 6)
    with pytest.raises(ValueError, match="Row 3 comes 2 times"):
        check_verdicts([3, 5, 3, 5, 5], [1, 1, 1, 1, 1], 6)


@pytest.mark.parametrize("verdicts", [[], [1], [1, 1, 1], 1, None, "ab", np.ones((1, 2))], ids=repr)
def test_there_is_one_verdict_a_row(verdicts):
    with pytest.raises(ValueError, match=r"verdicts? on 2 rows: give one for each"):
        check_verdicts([0, 1], verdicts, 2)


@given(labels=st.lists(st.sampled_from([-1, 0, 1]), min_size=1, max_size=12), data=st.data())
def test_a_contradiction_is_a_known_row_with_another_verdict(labels, data):
    rows = data.draw(st.lists(st.integers(0, len(labels) - 1), unique=True))
    verdicts = data.draw(st.lists(st.sampled_from([-1, 1]), min_size=len(rows), max_size=len(rows)))
    wrong = [r for r, v in zip(rows, verdicts, strict=True) if labels[r] == -v]
    known = np.array(labels, dtype=np.int8)
    told = find_contradiction(np.array(rows, dtype=np.int64), np.array(verdicts), known)
    if not wrong:
        assert told is None
        return
    before, now = ("-1", "+1") if labels[wrong[0]] < 0 else ("+1", "-1")
    assert told.startswith(f"Row {wrong[0]} was judged {before}") and f"is {now}" in told
    assert_array_equal(known, labels)
