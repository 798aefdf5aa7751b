import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_digits
from sklearn.naive_bayes import GaussianNB

from anomaly_estimators.datasets import (
    fetch_fashion_mnist,
    fetch_mnist,
    make_hard_rows,
    make_pca_rows,
    make_rare_classes,
)
from tests._data import require_data


@pytest.fixture(scope="module")
def digits():
    return load_digits(return_X_y=True)


def fetch(name, dtype=np.uint8):
    fetcher = {"mnist": fetch_mnist, "fashion_mnist": fetch_fashion_mnist}[name]
    files = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")
    require_data(*(f"{name}/{file}" for file in files))
    return fetcher(return_X_y=True, dtype=dtype)


# ------------------------------------------------------------------------------ rare classes


@settings(deadline=None, max_examples=50)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=2, max_size=6),
    n_rare=st.integers(1, 5),
    keep=st.floats(0.01, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_rare_classes_keep_their_share(sizes, n_rare, keep, seed):
    n_rare = min(n_rare, len(sizes) - 1)
    rng = np.random.default_rng(seed)
    classes = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    rare = rng.permutation(len(sizes))[:n_rare].tolist()
    expected = [int(np.floor(keep * sizes[value] + 0.5)) for value in rare]
    X = rng.normal(size=(len(classes), 2))
    if not sum(expected):
        with pytest.raises(ValueError, match="leaves no row"):
            make_rare_classes(X, classes, rare, keep=keep, random_state=seed)
        return
    bunch = make_rare_classes(X, classes, rare, keep=keep, random_state=seed)
    own = classes[bunch.indices]
    assert (np.diff(bunch.indices) > 0).all()
    np.testing.assert_array_equal(bunch.data, X[bunch.indices])
    np.testing.assert_array_equal(bunch.target == -1, np.isin(own, rare))
    assert [np.count_nonzero(own == value) for value in rare] == expected
    # Normal rows are all there, with their own label; no label is that of a rare class.
    assert np.count_nonzero(bunch.target == 1) == np.count_nonzero(~np.isin(classes, rare))
    np.testing.assert_array_equal(bunch.label[bunch.target == 1], own[bunch.target == 1])
    assert not np.isin(bunch.label, rare).any()


def test_given_labels_are_uniform():
    classes = np.repeat([0, 1, 2, 3, 4], [20_000, 10, 5, 1, 40])
    bunch = make_rare_classes(classes, classes, [0, 3], keep=0.5, random_state=0)
    given_labels = bunch.label[(bunch.target == -1)]
    counts = np.array([np.count_nonzero(given_labels == value) for value in (1, 2, 4)])
    assert counts.sum() == len(given_labels) == 10_001
    # Five standard deviations of a binomial count.
    assert np.abs(counts - 10_001 / 3).max() < 5 * np.sqrt(10_001 * 2 / 9)


def test_rows_and_labels_follow_the_seed(digits):
    first = make_rare_classes(*digits, [0, 1, 2], random_state=3)
    again = make_rare_classes(*digits, [2, 0, 1], random_state=np.random.RandomState(3))
    other = make_rare_classes(*digits, [0, 1, 2], random_state=4)
    np.testing.assert_array_equal(first.indices, again.indices)
    np.testing.assert_array_equal(first.label, again.label)
    assert not np.array_equal(first.indices, other.indices)


def test_names_of_classes_and_frames(digits):
    X, classes = digits
    names = np.array([f"digit {value}" for value in classes], dtype=object)
    before = names.copy()
    bunch = make_rare_classes(pd.DataFrame(X), pd.Series(names), ["digit 7"], random_state=0)
    assert isinstance(bunch.data, pd.DataFrame)
    np.testing.assert_array_equal(bunch.data, X[bunch.indices])
    assert "digit 7" not in bunch.label.tolist()
    np.testing.assert_array_equal(names, before)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "rare", "n_rows", "n_anomalies"),
    [
        ("mnist", [0], 54_679, 602),
        ("mnist", [0, 1, 2], 43_199, 1_822),
        ("fashion_mnist", [0], 54_610, 610),
        ("fashion_mnist", [0, 1, 2], 43_765, 1_765),
    ],
)
def test_rare_classes_have_about_the_counts_of_the_paper(name, rare, n_rows, n_anomalies):
    """The paper kept each row with a probability of 0.1: within three standard deviations."""
    _, classes = fetch(name)
    bunch = make_rare_classes(np.arange(len(classes)), classes, rare, random_state=0)
    tolerance = 3 * np.sqrt(0.9 * n_anomalies)
    assert abs(np.count_nonzero(bunch.target == -1) - n_anomalies) < tolerance
    assert abs(len(bunch.target) - n_rows) < tolerance
    # The normal rows are the same ones.
    assert np.count_nonzero(bunch.target == 1) == n_rows - n_anomalies


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rare_classes": [0, 10]}, "rare_classes: there is no class 10 among"),
        ({"rare_classes": "0"}, "rare_classes must be a sequence of classes, got '0'"),
        ({"rare_classes": 0}, "rare_classes must be a sequence of classes, got 0"),
        ({"rare_classes": []}, "names none of the classes"),
        ({"rare_classes": range(10)}, "names all of the classes"),
        ({"keep": 0}, "keep must be a share above 0 and at most 1, got 0"),
        ({"keep": 1.1}, "keep must be a share above 0 and at most 1, got 1.1"),
        ({"keep": 0.001}, r"keep=0.001 leaves no row of \[0\]: raise it"),
        ({"classes": [0, 1]}, "inconsistent numbers of samples"),
        ({"classes": np.full(1797, np.nan)}, "classes holds NaN"),
    ],
)
def test_bad_arguments_of_rare_classes(digits, arguments, message):
    X, classes = digits
    with pytest.raises(ValueError, match=message):
        make_rare_classes(**{"X": X, "classes": classes, "rare_classes": [0]} | arguments)


# ---------------------------------------------------------------------------------- hard rows


class FirstColumn(ClassifierMixin, BaseEstimator):
    """Says what the first column says."""

    def fit(self, X, y):
        self.fitted_ = True
        return self

    def predict(self, X):
        return X[:, 0]


def test_hard_rows_are_those_that_the_classifier_gets_wrong():
    X = np.array([[0.0], [1], [1], [0], [2]])
    classifier = FirstColumn()
    bunch = make_hard_rows(X, [0, 1, 0, 1, 2], classifier=classifier)
    assert bunch.target.tolist() == [1, 1, -1, -1, 1] and bunch.target.dtype == np.int64
    assert bunch.label.tolist() == [0, 1, 0, 1, 2]
    assert bunch.indices.tolist() == [0, 1, 2, 3, 4]
    assert bunch.data is X
    assert not hasattr(classifier, "fitted_")


def test_default_classifier_follows_the_seed_and_leaves_the_global_state(digits, recwarn):
    state = pickle.dumps(np.random.get_state())  # noqa: NPY002
    first = make_hard_rows(*digits, random_state=0)
    again = make_hard_rows(*digits, random_state=np.random.RandomState(0))
    other = make_hard_rows(*digits, random_state=1)
    np.testing.assert_array_equal(first.target, again.target)
    assert not np.array_equal(first.target, other.target)
    assert pickle.dumps(np.random.get_state()) == state  # noqa: NPY002
    assert not recwarn.list


def test_default_classifier_does_not_depend_on_the_scale(digits):
    X, classes = digits
    np.testing.assert_array_equal(
        make_hard_rows(X, classes, random_state=0).target,
        make_hard_rows(1024 * X, classes, random_state=0).target,
    )


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "least", "most"), [("mnist", 0.02, 0.05), ("fashion_mnist", 0.12, 0.18)]
)
def test_hard_rows_are_about_as_many_as_in_the_paper(name, least, most):
    """2,108 of 60,000 rows (3.5 %) and 9,656 (16.1 %) in the paper."""
    X, classes = fetch(name, np.float32)
    bunch = make_hard_rows(X, classes, random_state=0)
    assert least < np.mean(bunch.target == -1) < most


@pytest.mark.parametrize(
    ("X", "classes", "classifier", "message"),
    [
        ([[0.0], [1]], [0, 1], FirstColumn(), "every row right: give a weaker one"),
        ([[1.0], [0]], [0, 1], FirstColumn(), "no row right: give a stronger one"),
        ([[1.0], [0]], [1, 1], None, r"there is only the class \[1\]"),
        ([[1.0], [0]], [0, 1, 1], None, "inconsistent numbers of samples"),
    ],
)
def test_bad_arguments_of_hard_rows(X, classes, classifier, message):
    with pytest.raises(ValueError, match=message):
        make_hard_rows(np.array(X), classes, classifier=classifier)


def test_names_of_classes_in_hard_rows(digits):
    X, classes = digits
    names = np.array([f"digit {value}" for value in classes])
    np.testing.assert_array_equal(
        make_hard_rows(X, names, classifier=GaussianNB()).target,
        make_hard_rows(X, classes, classifier=GaussianNB()).target,
    )


# ----------------------------------------------------------------------------------- PCA rows


def plane_error(X, n_components):
    """By the singular value decomposition: what is left beyond the first directions."""
    centred = X - X.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    return ((left[:, n_components:] * values[n_components:]) ** 2).sum(axis=1)


@settings(deadline=None, max_examples=30)
@given(
    n_components=st.integers(1, 4),
    share=st.floats(0.05, 0.9),
    wide=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_pca_rows_have_the_largest_errors_of_their_class(n_components, share, wide, seed):
    rng = np.random.default_rng(seed)
    classes = rng.permutation(np.repeat(["a", "b", "c"], [21, 30, 40]))
    X = rng.normal(size=(len(classes), 50 if wide else 6)) + 10 * (classes == "b")[:, None]
    bunch = make_pca_rows(X, classes, n_components=n_components, share=share)
    assert bunch.data is X
    np.testing.assert_array_equal(bunch.label, classes)
    for value in "abc":
        rows = classes == value
        error, is_far = plane_error(X[rows], n_components), bunch.target[rows] == -1
        assert np.count_nonzero(is_far) == int(np.floor(share * rows.sum()))
        if is_far.any():
            assert error[is_far].min() >= error[~is_far].max() * (1 - 1e-9)


def test_equal_errors_count_in_the_order_of_the_rows():
    X = np.array([[0.0, 0], [1, 0], [2, 0], [3, 0]])
    bunch = make_pca_rows(X, [1] * 4, n_components=1, share=0.5)
    assert bunch.target.tolist() == [-1, -1, 1, 1]


def test_share_of_a_whole_number_of_rows_is_not_rounded_down():
    X = np.random.default_rng(0).normal(size=(100, 3))
    # 0.29 * 100 is 28.999999999999996.
    assert np.count_nonzero(make_pca_rows(X, np.zeros(100), share=0.29).target == -1) == 29


def test_bytes_are_not_subtracted_as_bytes(digits):
    X, classes = digits
    np.testing.assert_array_equal(
        make_pca_rows(X.astype(np.uint8), classes).target, make_pca_rows(X, classes).target
    )


@pytest.mark.data
@pytest.mark.parametrize(("name", "n_anomalies"), [("mnist", 2_996), ("fashion_mnist", 3_000)])
def test_pca_rows_have_the_counts_of_the_paper(name, n_anomalies):
    X, classes = fetch(name)
    # The count depends on the sizes of the classes alone, so that a few pixels are enough.
    bunch = make_pca_rows(X[:, 300:400], classes)
    assert len(bunch.target) == 60_000
    assert np.count_nonzero(bunch.target == -1) == n_anomalies


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"share": 0}, "share must be above 0 and below 1, got 0"),
        ({"share": 1}, "share must be above 0 and below 1, got 1"),
        ({"share": 0.001}, "share=0.001 rounds to no row in a class of 183 rows"),
        ({"n_components": 0}, "n_components must be an integer of at least 1 and below the 64"),
        ({"n_components": 64}, "below the 64 features, got 64"),
        ({"n_components": 2.5}, "n_components must be an integer"),
        (
            {"classes": np.r_[np.zeros(1795), 1, 1]},
            "a class has 2 rows, too few for n_components=2",
        ),
        ({"classes": [0, 1]}, "inconsistent numbers of samples"),
    ],
)
def test_bad_arguments_of_pca_rows(digits, arguments, message):
    X, classes = digits
    with pytest.raises(ValueError, match=message):
        make_pca_rows(**{"X": X, "classes": classes} | arguments)


def test_missing_values_in_pca_rows(digits):
    X = digits[0].copy()
    X[5, 5] = np.nan
    with pytest.raises(ValueError, match="X contains NaN"):
        make_pca_rows(X, digits[1])
