"""Labels are read by their sign, and said to be."""

import warnings

import numpy as np
import pandas as pd
import pytest

from anomaly_estimators.labels import read_labels


@pytest.mark.parametrize(
    "y",
    [
        [1, 0, -1],
        (1.0, 0.0, -1.0),
        np.array([1, 0, -1], dtype=np.int8),
        np.array([[1], [0], [-1]]),
        np.array([1, 0, -1], dtype=object),
        pd.Series([1, 0, -1], index=[7, 8, 9]),
    ],
    ids=lambda y: type(y).__name__,
)
def test_signs_are_kept_without_a_word(y):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        labels = read_labels(y, np.zeros((3, 2)))
    assert labels.tolist() == [1, 0, -1] and labels.dtype == np.int8


def test_no_labels_are_unlabelled_rows():
    assert read_labels(None, np.zeros((3, 2))).tolist() == [0, 0, 0]


@pytest.mark.parametrize("y", [[1, 1, 1], [0, 0], [-1, 1], [-1, 0], [-1]])
def test_usual_labels_are_not_warned_of(y):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_labels(y).tolist() == y


@pytest.mark.parametrize(
    ("y", "signs", "message"),
    [
        ([0, 1, 1], [0, 1, 1], "2 rows above 0 as known normal, 1 rows of 0 as unlabelled"),
        ([2, -3, 0], [1, -1, 0], "1 rows below 0 as known anomalies"),
        ([0.5, 0.0], [1, 0], "read by their sign"),
        ([True, False], [1, 0], "np.where"),
    ],
)
def test_other_values_are_warned_of_with_how_they_were_read(y, signs, message):
    with pytest.warns(UserWarning, match=message):
        assert read_labels(y).tolist() == signs


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([1, np.nan, -1], "without gaps"),
        (["normal", "anomaly", "normal"], "numbers"),
        ([1, 0], "inconsistent"),
        (np.ones((3, 2)), "1d array"),
    ],
)
def test_what_cannot_be_read_is_refused(y, message):
    with pytest.raises(ValueError, match=message):
        read_labels(y, np.zeros((3, 2)))
