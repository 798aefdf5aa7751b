"""Labels among the features: told apart, numbered, and left out of the scaling."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.base import clone
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

from anomaly_estimators.persistence.values import Decoder, Encoder
from anomaly_estimators.training.labelled import (
    LabelledScaler,
    are_numbers,
    distinct_labels,
    encode_labels,
)
from anomaly_estimators.training.scaling import fit_scaler

few = settings(max_examples=50, deadline=None, derandomize=True, database=None)
numbers = hnp.arrays(
    st.sampled_from([np.float64, np.float32, np.int64, np.int8]),
    st.integers(1, 30),
    elements=st.integers(-5, 5),
)
strings = st.lists(st.text(max_size=3), min_size=1, max_size=30)


@few
@given(numbers)
def test_numbers_are_found_again(labels):
    classes = distinct_labels(labels)
    assert classes.dtype == labels.dtype and set(classes) == set(labels)
    np.testing.assert_array_equal(classes[encode_labels(labels, classes)], labels)


@few
@given(strings, st.booleans())
def test_strings_are_found_again(labels, as_objects):
    array = np.array(labels, dtype=object if as_objects else None)
    classes = distinct_labels(array)
    assert classes.dtype == object and classes.tolist() == sorted(set(array.tolist()))
    assert classes[encode_labels(array, classes)].tolist() == array.tolist()


@few
@given(numbers, numbers)
def test_a_label_is_numbered_exactly_if_it_is_among_the_classes(labels, others):
    codes = encode_labels(labels, distinct_labels(others))
    np.testing.assert_array_equal(codes >= 0, np.isin(labels, others))


def test_labels_in_single_precision_are_those_in_double():
    labels = np.array([0.1, 0.2, 1 / 3, 1e10, -7.3])
    classes = np.sort(labels)
    expected = encode_labels(labels, classes)
    assert sorted(expected) == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(encode_labels(labels.astype(np.float32), classes), expected)
    np.testing.assert_array_equal(encode_labels(labels, classes.astype(np.float32)), expected)
    # In double precision a label is the same or it is not.
    assert (encode_labels(labels * (1 + 1e-12), classes) == -1).all()


def test_far_labels_and_gaps_are_no_class():
    classes = np.array([0.0, 1.0])
    labels = np.array([np.nan, np.inf, -np.inf, 1e300, 1.0])
    for dtype in (np.float64, np.float32):
        assert encode_labels(labels, classes.astype(dtype)).tolist() == [-1, -1, -1, -1, 1]


def test_labels_of_another_kind_are_no_class():
    strings, numbers = np.array(["0", "1"], dtype=object), np.array([0.0, 1.0])
    assert encode_labels(strings, numbers).tolist() == [-1, -1]
    assert encode_labels(numbers, strings).tolist() == [-1, -1]


@pytest.mark.parametrize(
    "gap", [None, np.nan, np.float32("nan"), np.datetime64("NaT").astype(object)], ids=repr
)
def test_missing_labels_are_refused(gap):
    with pytest.raises(ValueError, match="1 of 3 given labels are missing.*row 1"):
        distinct_labels(np.array(["a", gap, "b"], dtype=object))


def test_missing_labels_of_pandas_are_refused():
    pandas = pytest.importorskip("pandas")
    for gap in (pandas.NA, pandas.NaT):
        with pytest.raises(ValueError, match="missing"):
            distinct_labels(np.array(["a", gap], dtype=object))


def test_labels_that_cannot_be_compared_are_refused():
    for labels in (["a", 1], [{}, {}]):
        with pytest.raises(ValueError, match="all numbers or all strings"):
            distinct_labels(np.array(labels, dtype=object))
    with pytest.raises(ValueError, match="numbers or strings"):
        encode_labels(np.array([{}], dtype=object), np.array(["a"], dtype=object))


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([1, 2.5, True, np.float32(3)], True),
        ([1, "2"], False),
        ([None, 1], False),
    ],
    ids=str,
)
def test_numbers_among_objects(labels, expected):
    assert are_numbers(np.array(labels, dtype=object)) is expected


# The scaler


def make_rows(column, n=40):
    rng = np.random.default_rng(0)
    features, labels = rng.normal(5.0, 3.0, size=(n, 3)), rng.choice([-2.0, 0.5, 9.0], n)
    return np.insert(features, column, labels, axis=1), features, labels


@pytest.mark.parametrize("column", [0, 2, 3])
@pytest.mark.parametrize("scaler", [StandardScaler(), MinMaxScaler((-1, 1)), None], ids=str)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_features_are_scaled_and_labels_numbered(column, scaler, dtype):
    rows, features, labels = make_rows(column)
    rows, features = rows.astype(dtype), features.astype(dtype)
    whole = LabelledScaler(scaler=scaler, label_column=column, classes=np.array([-2.0, 0.5, 9.0]))
    scaled = fit_scaler(whole, rows).transform(rows)
    assert scaled.dtype == dtype
    # Fitted in float64 whatever the rows are.
    exact = features.astype(np.float64)
    expected = features if scaler is None else clone(scaler).fit(exact).transform(features)
    np.testing.assert_array_equal(scaled[:, :-1], expected)
    np.testing.assert_array_equal(scaled[:, -1], np.searchsorted([-2.0, 0.5, 9.0], labels))


@pytest.mark.parametrize("scaler", [StandardScaler(), RobustScaler(), None], ids=str)
def test_memory_maps_are_read_piece_by_piece(scaler, tmp_path, monkeypatch):
    from anomaly_estimators.training import rows as rows_module

    monkeypatch.setattr(rows_module, "_PIECE_VALUES", 20)
    rows, _, _ = make_rows(1)
    np.save(tmp_path / "X.npy", rows)
    whole = LabelledScaler(scaler=scaler, label_column=1, classes=np.array([-2.0, 0.5, 9.0]))
    mapped = fit_scaler(whole, np.load(tmp_path / "X.npy", mmap_mode="r"))
    np.testing.assert_allclose(
        mapped.transform(rows), fit_scaler(whole, rows).transform(rows), rtol=1e-10
    )


@pytest.mark.parametrize("column", [0, 3])
def test_inverse_returns_to_the_rows(column):
    rows, features, _ = make_rows(column)
    scaler = LabelledScaler(
        scaler=StandardScaler(), label_column=column, classes=np.array([-2.0, 0.5, 9.0])
    ).fit(rows)
    np.testing.assert_allclose(scaler.inverse_transform(scaler.transform(rows)), rows, rtol=1e-12)
    # Rows without a label have no class, and get one on the way back.
    bare = scaler.transform(features)
    assert (bare[:, -1] == -1).all()
    np.testing.assert_array_equal(bare[:, :-1], scaler.transform(rows)[:, :-1])
    back = scaler.inverse_transform(bare[:, :-1])
    np.testing.assert_allclose(np.delete(back, column, axis=1), features, rtol=1e-12)
    assert set(back[:, column]) == {-2.0}


def test_transformer_that_changes_the_number_of_features_is_refused():
    from sklearn.decomposition import PCA

    rows, _, _ = make_rows(3)
    scaler = LabelledScaler(scaler=PCA(2), label_column=3, classes=np.array([-2.0, 0.5, 9.0]))
    with pytest.raises(ValueError, match="makes 3 features of 4"):
        fit_scaler(scaler, rows)


@pytest.mark.parametrize("inner", [StandardScaler(), MinMaxScaler((-1, 1)), None], ids=str)
def test_it_can_be_stored(inner):
    rows, _, _ = make_rows(2)
    scaler = LabelledScaler(scaler=inner, label_column=2, classes=np.array([-2.0, 0.5, 9.0]))
    encoder = Encoder()
    encoded = encoder.encode(scaler.fit(rows), "scaler")
    other = Decoder(encoder.arrays).decode(encoded)
    np.testing.assert_array_equal(other.transform(rows), scaler.transform(rows))
    assert repr(other) == repr(scaler)
