"""How rows are known again."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn.utils import check_random_state

from anomaly_estimators import fingerprint
from anomaly_estimators.fingerprint import row_fingerprints

few = settings(max_examples=60, deadline=None, derandomize=True, database=None)
ROWS = arrays(
    np.float32,
    st.tuples(st.integers(1, 30), st.integers(1, 5)),
    elements=st.floats(width=32, allow_nan=False),
)


def normal(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


@few
@given(ROWS, st.randoms(use_true_random=False))
def test_rows_have_the_same_number_alone_in_a_batch_and_in_any_order(X, random):
    found = row_fingerprints(X)
    assert found.shape == (len(X),) and found.dtype == np.uint64
    alone = [row_fingerprints(X[i : i + 1])[0] for i in range(len(X))]
    np.testing.assert_array_equal(alone, found)
    order = random.sample(range(len(X)), len(X))
    np.testing.assert_array_equal(row_fingerprints(X[order]), found[order])


@few
@given(ROWS)
def test_rows_have_the_same_number_in_either_precision(X):
    np.testing.assert_array_equal(row_fingerprints(X.astype(np.float64)), row_fingerprints(X))


def test_rows_that_are_not_float32_have_the_number_of_what_they_round_to():
    X = normal(500, 4)
    assert (X.astype(np.float32) != X).any()
    np.testing.assert_array_equal(row_fingerprints(X), row_fingerprints(X.astype(np.float32)))
    huge = np.array([[1e300, 0.0]])  # beyond float32, without a warning
    assert row_fingerprints(huge) == row_fingerprints(np.array([[np.inf, 0.0]]))


@few
@given(ROWS)
def test_equal_rows_have_equal_numbers_and_others_have_others(X):
    """The sign of a zero is no difference, as ``==`` has it; any other bit is one."""
    found = row_fingerprints(X)
    same = (X[:, None] == X).all(axis=2)
    np.testing.assert_array_equal(found[:, None] == found, same)


def test_zeros_of_either_sign_are_the_same():
    for dtype in (np.float32, np.float64):
        zero = np.array([[0.0, 1.0, 0.0]], dtype=dtype)
        negative = np.array([[-0.0, 1.0, -0.0]], dtype=dtype)
        assert row_fingerprints(negative) == row_fingerprints(zero)
    # What rounds to a zero is one.
    assert row_fingerprints(np.array([[-1e-60]])) == row_fingerprints(np.array([[0.0]]))
    assert row_fingerprints(np.array([[-1.0]])) != row_fingerprints(np.array([[1.0]]))


@few
@given(ROWS, st.data())
def test_a_change_of_one_bit_is_seen(X, data):
    row, column = (data.draw(st.integers(0, n - 1)) for n in X.shape)
    changed = X.copy()
    changed[row, column] = np.nextafter(
        X[row, column], np.float32(data.draw(st.sampled_from([-1e38, 1e38])))
    )
    differs = row_fingerprints(changed) != row_fingerprints(X)
    assert differs.tolist() == (changed != X).any(axis=1).tolist()


@pytest.mark.parametrize("n_features", [2, 3, 8, 100])
def test_the_order_of_the_columns_counts(n_features):
    X = normal(300, n_features)
    seen = {int(number) for number in row_fingerprints(X)}
    for shift in range(1, min(n_features, 6)):
        moved = {int(number) for number in row_fingerprints(np.roll(X, shift, axis=1))}
        assert len(moved) == 300 and not moved & seen
        seen |= moved


def test_zero_columns_count():
    """Rows of widths of their own, and a value in any of the columns."""
    widths = {int(row_fingerprints(np.zeros((1, d)))[0]) for d in range(1, 60)}
    assert len(widths) == 59
    places = row_fingerprints(np.eye(200))
    assert len(set(places.tolist())) == 200
    sums = row_fingerprints(np.array([[1.0, 3.0], [3.0, 1.0], [2.0, 2.0], [0.0, 4.0], [4.0, 0.0]]))
    assert len(set(sums.tolist())) == 5


def grid(n, d):
    """Rows of few values, in many combinations."""
    return np.stack(np.unravel_index(np.arange(n), (60,) * d), axis=1) / 4.0


TABLES = {
    "normal": lambda: normal(200_000, 3),
    "one column": lambda: np.arange(200_000.0)[:, None],
    "neighbours": lambda: np.arange(2**29, 2**29 + 200_000, dtype=np.uint32).view(np.float32)[
        :, None
    ],
    "grid": lambda: grid(200_000, 3),
    "pixels": lambda: np.random.default_rng(0).integers(0, 256, (50_000, 64)) / 255.0,
    "binary": lambda: ((np.arange(2**17)[:, None] >> np.arange(17)) & 1).astype(np.float32),
}


@pytest.mark.parametrize("table", TABLES)
def test_numbers_are_distinct_and_spread_over_all_bits(table):
    X = TABLES[table]()
    found = row_fingerprints(X)
    n = len(found)
    assert len(np.unique(found)) == n == len(np.unique(X.astype(np.float32), axis=0))
    # The places of noise are taken by the number modulo 1024; no other bits are worse.
    for bits in (found % 1024, found >> np.uint64(54), (found >> np.uint64(27)) % 1024):
        counts = np.bincount(bits.astype(np.int64), minlength=1024)
        assert counts.size == 1024
        assert 1e-4 < stats.chisquare(counts).pvalue < 1 - 1e-4
    ones = (found[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    np.testing.assert_allclose(ones.mean(axis=0), 0.5, atol=4.5 * 0.5 / np.sqrt(n))


def test_a_changed_bit_changes_half_of_the_number():
    X = normal(20_000, 2).astype(np.float32)
    changed = X.copy()
    changed[:, 1] = np.nextafter(X[:, 1], np.float32(np.inf))
    flipped = row_fingerprints(X) ^ row_fingerprints(changed)
    ones = (flipped[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    np.testing.assert_allclose(ones.mean(axis=0), 0.5, atol=0.02)


@pytest.mark.parametrize("values", [1, 7, 20, 10**6])
def test_numbers_do_not_depend_on_the_pieces(values, monkeypatch):
    X = normal(50, 4)
    expected = row_fingerprints(X)
    monkeypatch.setattr(fingerprint, "_PIECE_VALUES", values)
    np.testing.assert_array_equal(row_fingerprints(X), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_do_not_depend_on_how_rows_lie(dtype, tmp_path):
    X = normal(40, 3).astype(dtype)
    expected = row_fingerprints(X)
    wide = np.zeros((80, 6), dtype=dtype)
    wide[::2, ::2] = X
    np.save(tmp_path / "X.npy", X)
    for form in (np.asfortranarray(X), wide[::2, ::2], np.load(tmp_path / "X.npy", mmap_mode="r")):
        np.testing.assert_array_equal(row_fingerprints(form), expected)
    X.flags.writeable = False
    before = X.copy()
    row_fingerprints(X)
    np.testing.assert_array_equal(X, before)


def test_numbers_are_the_same_in_every_process():
    """Written down: rows that a file's model was fitted on are known again by them."""
    X = np.arange(6, dtype=np.float64).reshape(3, 2)
    assert row_fingerprints(X).tolist() == [
        1901757069048747918,
        4748403902229155141,
        15329940652188123154,
    ]


def test_nothing_is_drawn_from_the_global_generator():
    generator = check_random_state(None)
    before = generator.get_state(legacy=False)["state"]
    row_fingerprints(normal(5, 2))
    after = generator.get_state(legacy=False)["state"]
    assert after["pos"] == before["pos"]
    np.testing.assert_array_equal(after["key"], before["key"])


def test_no_rows_have_no_numbers():
    assert row_fingerprints(np.empty((0, 3))).shape == (0,)
