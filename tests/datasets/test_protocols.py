import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from anomaly_estimators.datasets import one_class_split


def labels(n_normal, n_anomalies, seed=0):
    y = np.repeat([1, -1], [n_normal, n_anomalies])
    return np.random.default_rng(seed).permutation(y)


def split_indices(y, **arguments):
    train, test, y_train, y_test = one_class_split(np.arange(len(y)), y, **arguments)
    np.testing.assert_array_equal(y[train], y_train)
    np.testing.assert_array_equal(y[test], y_test)
    return train, test


@given(
    n_normal=st.integers(20, 200),
    n_anomalies=st.integers(0, 60),
    train_size=st.floats(0.4, 0.9),
    contamination=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
@pytest.mark.filterwarnings("ignore:contamination")
def test_protocol(n_normal, n_anomalies, train_size, contamination, seed):
    y = labels(n_normal, n_anomalies)
    train, test = split_indices(
        y, train_size=train_size, contamination=contamination, random_state=seed
    )
    n_train = int(train_size * len(y))
    assert len(test) == len(set(test)) == len(y) - n_train
    assert len(train) == len(set(train))
    assert not set(train) & set(test)
    # Every normal row is in one of the sets; a share of the anomalies set aside is in neither.
    assert set(np.flatnonzero(y == 1)) <= {*train, *test}
    n_set_aside = n_anomalies - np.count_nonzero(y[test] == -1)
    assert abs(np.count_nonzero(y[train] == -1) - contamination * n_set_aside) <= 0.5


def test_clean_by_default_and_contaminated_on_demand():
    y = labels(900, 100)
    clean, test = split_indices(y, random_state=3)
    assert (y[clean] == 1).all()
    mixed, same_test = split_indices(y, contamination=0.05, random_state=3)
    np.testing.assert_array_equal(test, same_test)
    np.testing.assert_array_equal(mixed[y[mixed] == 1], clean)
    n_set_aside = np.count_nonzero(y == -1) - np.count_nonzero(y[test] == -1)
    assert np.count_nonzero(y[mixed] == -1) == round(0.05 * n_set_aside) > 0
    whole, _ = split_indices(y, contamination=1.0, random_state=3)
    assert len(whole) == 500


def test_seed_decides():
    y = labels(100, 20)
    first, again, other = (split_indices(y, random_state=seed)[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(np.sort(first), np.sort(other))


def test_rows_are_in_random_order():
    train, test = split_indices(np.ones(100, dtype=int), random_state=0)
    assert (np.diff(train) < 0).any() and (np.diff(test) < 0).any()


def test_container_types_are_kept():
    pd = pytest.importorskip("pandas")
    y = labels(30, 6)
    X = np.arange(72.0).reshape(36, 2)
    expected = one_class_split(X, y, random_state=0)

    frame = pd.DataFrame(X, columns=["a", "b"], index=np.arange(36) + 100)
    series = pd.Series(y, index=frame.index)
    parts = one_class_split(frame, series, random_state=0)
    for part, array in zip(parts, expected, strict=True):
        assert isinstance(part, (pd.DataFrame, pd.Series))
        np.testing.assert_array_equal(part, array)
    assert parts[0].index.equals(parts[2].index)

    sparse = one_class_split(scipy.sparse.csr_array(X), y, random_state=0)
    np.testing.assert_array_equal(sparse[1].toarray(), expected[1])


def test_rounding_to_no_anomaly_warns():
    with pytest.warns(UserWarning, match="rounds to none"):
        split_indices(labels(50, 6), contamination=0.01, random_state=0)


@pytest.mark.parametrize(
    ("y", "arguments", "message"),
    [
        ([1, -1, 0, 1], {}, "unlabelled"),
        ([1, 0, 0, 0], {}, r"np.where\(y == 1, -1, 1\)"),
        (["a", "b", "a", "a"], {}, "y must hold numbers"),
        ([1.0, np.nan, 1.0, -1.0], {}, "y must hold numbers"),
        ([1, 1, 1], {}, "inconsistent numbers of samples"),
        ([1, 1, 1, -1], {"train_size": 1.5}, "train_size must be a share between 0 and 1"),
        ([1, 1, 1, -1], {"train_size": 1.0}, "no row to test on"),
        ([1, 1, 1, -1], {"train_size": 0.0}, "none of the 0 training rows is normal"),
        ([1, 1, 1, -1], {"contamination": -0.1}, "contamination must be a share"),
        ([1, 1, 1, -1], {"contamination": "5%"}, "contamination must be a share"),
        ([-1, -1, -1, -1], {}, "training rows is normal"),
    ],
)
def test_bad_input(y, arguments, message):
    with pytest.raises(ValueError, match=message):
        one_class_split(np.zeros((4, 2)), y, **arguments)
