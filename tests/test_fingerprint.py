"""How a table is known again."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from anomaly_estimators.fingerprint import data_fingerprint

SMALL = arrays(
    np.float64, st.tuples(st.integers(1, 40), st.integers(1, 4)), elements=st.floats(-9, 9)
)


def forms(X, tmp_path):
    np.save(tmp_path / "X.npy", X)
    wide = np.zeros((2 * len(X), 2 * X.shape[1]), dtype=X.dtype)
    wide[::2, ::2] = X
    yield X.copy()
    yield np.asfortranarray(X)
    yield wide[::2, ::2]
    yield np.load(tmp_path / "X.npy", mmap_mode="r")
    np.save(tmp_path / "F.npy", np.asfortranarray(X))
    yield np.load(tmp_path / "F.npy", mmap_mode="r")


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16])
@pytest.mark.parametrize("n_rows", [1, 15, 16, 17, 1024, 1025, 5000])
def test_equal_tables_have_the_same_fingerprint_however_they_lie(n_rows, dtype, tmp_path):
    X = np.random.default_rng(0).normal(scale=100, size=(n_rows, 3)).astype(dtype)
    for whole in (False, True):
        for form in forms(X, tmp_path):
            assert data_fingerprint(form, form if whole else None) == data_fingerprint(
                X, X if whole else None
            )


@given(SMALL, st.data())
def test_small_tables_are_read_as_a_whole(X, data):
    changed = X.copy()
    row, column = (data.draw(st.integers(0, n - 1)) for n in X.shape)
    changed[row, column] += 1.0
    assert data_fingerprint(X) != data_fingerprint(changed)


@settings(max_examples=30)
@given(row=st.integers(0, 9999), column=st.integers(0, 2))
def test_what_is_passed_as_y_is_read_as_a_whole(row, column):
    X = np.zeros((10_000, 3))
    changed = X.copy()
    changed[row, column] = np.nextafter(0.0, 1.0)
    assert data_fingerprint(X, X) != data_fingerprint(changed, changed)
    y = np.zeros(10_000, dtype=np.int8)
    other = y.copy()
    other[row] = 1
    assert data_fingerprint(X, y) != data_fingerprint(X, other)


def test_large_tables_are_read_in_64_blocks_from_the_first_row_to_the_last():
    """So that checkpoints cost nothing on large files: a change in between may go unseen."""
    X = np.zeros((100_000, 2))
    seen = 0
    for row in [*range(0, 100_000, 997), 0, 99_999]:
        changed = X.copy()
        changed[row] = 1.0
        seen += data_fingerprint(changed) != data_fingerprint(X)
        if row in (0, 99_999):
            assert data_fingerprint(changed) != data_fingerprint(X)
    assert seen < 20
    rng = np.random.default_rng(0)
    assert data_fingerprint(X) != data_fingerprint(X + rng.normal(size=X.shape))


def test_shape_type_order_and_extra_count():
    X = np.arange(12.0).reshape(4, 3)
    different = [
        data_fingerprint(X),
        data_fingerprint(X.reshape(3, 4)),
        data_fingerprint(X.reshape(2, 6)),
        data_fingerprint(X.view(np.int64)),
        data_fingerprint(X.astype(np.float32)),
        data_fingerprint(X[::-1]),
        data_fingerprint(X[:, ::-1]),
        data_fingerprint(X[:3]),
        data_fingerprint(X, extra="a"),
        data_fingerprint(X, extra="b"),
        data_fingerprint(X, np.zeros(4)),
        data_fingerprint(X, np.ones(4)),
        data_fingerprint(X, np.zeros(4), extra="a"),
    ]
    assert len(set(different)) == len(different)


def test_missing_values_are_known_again():
    X = np.array([[np.nan, 1.0], [np.inf, -0.0]])
    assert data_fingerprint(X) == data_fingerprint(X.copy())


def test_it_is_the_same_in_every_process():
    """Written down: audits in files rely on it."""
    X = np.arange(6, dtype="<f8").reshape(3, 2)
    assert data_fingerprint(X, X) == "13b66fb4337c0d9760d0a23d22cb5967"
    assert len(data_fingerprint(X)) == 32


def test_nothing_is_changed():
    X = np.arange(6.0).reshape(3, 2)
    X.flags.writeable = False
    data_fingerprint(X, X)
