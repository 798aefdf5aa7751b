"""What is no table of numbers is refused with the cure, before any work is done."""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from _public import known, public_detectors, small, suited
from scipy import sparse

from anomaly_estimators import DAGMM, GMM, AnoDM, Autoencoder

detectors = pytest.mark.parametrize("cls", public_detectors(), ids=lambda cls: cls.__name__)

N = 6
VALUES = np.arange(float(N))
DAYS = pd.date_range("2026-01-01", periods=N)
WORDS = list("abcdef")
ROWS = torch.ones(N, 2)

# What is handed over, and what the message must name: the place, and the cure.
REFUSED = {
    "words": (pd.DataFrame({"a": VALUES, "city": WORDS}), r"'city' holds 'a'.*OneHotEncoder"),
    "categories": (
        pd.DataFrame({"a": VALUES, "city": pd.Categorical(WORDS)}),
        r"'city' holds 'a'.*OneHotEncoder",
    ),
    "words of polars": (pl.DataFrame({"a": VALUES, "city": WORDS}), r"'city' holds.*OneHotEncoder"),
    "words in an array": (np.array([[1.5, "a"]] * N, dtype=object), r"Column 1 holds 'a'"),
    "words in a list": ([["a", 1.0]] * N, r"Column 0 holds 'a'.*OneHotEncoder"),
    "dates": (pd.DataFrame({"a": VALUES, "when": DAYS}), r"'when' holds dates.*hour of the day"),
    "dates alone": (pd.DataFrame({"when": DAYS}), r"'when' holds dates"),
    "dates of a zone": (pd.DataFrame({"when": DAYS.tz_localize("UTC")}), r"'when' holds dates"),
    "durations": (pd.DataFrame({"for": DAYS - DAYS[0]}), r"'for' holds dates or durations"),
    "periods": (pd.DataFrame({"when": DAYS.to_period("D")}), r"'when' holds dates"),
    "dates of polars": (pl.DataFrame({"when": list(DAYS)}), r"'when' holds dates"),
    "dates in an array": (DAYS.to_numpy()[:, None], r"X holds dates"),
    "lists": (pd.DataFrame({"a": VALUES, "b": [[1, 2]] * N}), r"'b' holds \[1, 2\]"),
    "huge integers": (np.array([[10**400, 1]] * N, dtype=object), r"Column 0 holds 1000"),
    "columns of one name": (
        pd.DataFrame(np.ones((N, 2)), columns=["a", "a"]),
        r"two columns .*'a'",
    ),
    "complex": (np.full((N, 2), 1j), r"complex.*np\.abs"),
    "named fields": (np.zeros(N, dtype=[("a", float)]), r"structured_to_unstructured"),
    "lazy frame": (pl.DataFrame({"a": VALUES}).lazy(), r"X\.collect\(\)"),
    "torch data set": (torch.utils.data.TensorDataset(ROWS), r"TensorDataset.*torch\.stack"),
    "torch loader": (
        torch.utils.data.DataLoader(torch.utils.data.TensorDataset(ROWS)),
        r"DataLoader.*torch\.stack",
    ),
    "sparse": (sparse.csr_array(np.eye(N)), r"sparse_output=False.*toarray"),
    "sparse frame": (pd.DataFrame({"a": pd.arrays.SparseArray(VALUES)}), r"to_dense\(\) of a data"),
    "sparse tensor": (torch.eye(N).to_sparse(), r"X\.to_dense\(\) of a tensor"),
    "images": (np.zeros((N, 1, 3, 4)), r"X\.reshape\(len\(X\), -1\).*input_shape.*\(1, 3, 4\)"),
    "windows": (np.zeros((N, 3, 4)), r"X\.reshape\(len\(X\), -1\).*input_shape"),
    "image tensor": (torch.zeros(N, 1, 3, 4), r"X\.reshape\(len\(X\), -1\)"),
    "list of images": ([np.zeros((3, 4))] * N, r"X\.reshape\(len\(X\), -1\)"),
    "masked": (np.ma.masked_array(np.eye(N), np.eye(N) > 0), r"X\.filled"),
    "ragged": ([[1.0], [1.0, 2.0]], r"different lengths"),
    "a generator": (([x] for x in VALUES), r"generator.*np\.array"),
    "a dict": ({"a": VALUES}, r"dict.*DataFrame"),
    "nothing": (None, r"X is None"),
    "one dimension": (VALUES, r"Expected 2D array.*reshape"),
    "no rows": (np.zeros((0, 3)), r"0 sample"),
    "no columns": (np.zeros((N, 0)), r"0 feature"),
    "gaps": (pd.DataFrame({"a": pd.array([1, 2, None, 4, 5, 6], dtype="Int64")}), r"contains NaN"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_is_refused_by_name_and_with_the_cure(what):
    X, message = REFUSED[what]
    detector = GMM(n_components=1)
    with pytest.raises((TypeError, ValueError), match=f"(?s){message}"):
        detector.fit(X)
    assert set(vars(detector)) == set(detector.get_params())


@detectors
def test_every_detector_refuses_before_any_work(cls):
    rows = suited(cls, np.random.default_rng(0).normal(size=(30, 3)))
    fitted = small(cls)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        fitted.fit(rows)
    frame = pd.DataFrame(rows, columns=list("abcd")[: rows.shape[1]])
    for X, message in (
        (frame.assign(b="x"), "'b' holds 'x'.*OneHotEncoder"),
        (frame.assign(a=pd.Timestamp("2026-01-01")), "'a' holds dates"),
        (rows[:, None], "flat"),
        (sparse.csr_array(rows), "sparse_output"),
    ):
        detector = small(cls)
        with pytest.raises((TypeError, ValueError), match=message):
            detector.fit(X)
        assert set(vars(detector)) == set(detector.get_params(deep=False))
        with pytest.raises((TypeError, ValueError), match=message):
            fitted.score_samples(X)


@pytest.mark.parametrize(
    "X",
    [
        torch.randn(40, 3, requires_grad=True),
        torch.randn(40, 3).bfloat16(),
        pd.DataFrame({"a": np.arange(40) > 3, "b": np.arange(40.0)}),
        pd.DataFrame({"a": pd.array(range(40), dtype="Int64")}),
        pl.DataFrame({"a": np.arange(40.0), "b": np.arange(40)}),
        np.ma.masked_array(np.random.default_rng(0).normal(size=(40, 2)), mask=False),
        np.array([["1.5", "2"], ["3", "4"]] * 20),
    ],
    ids=lambda X: type(X).__name__,
)
def test_what_can_be_read_is_read(X):
    assert np.isfinite(GMM(n_components=1).fit(X).score_samples(X)).all()


# Shapes of images and series


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((8, 8), r"series of 8 channels and length 8.*\(1, 8, 8\)"),
        ((16, 4), r"series of 16 channels and length 4"),
        ((8, 8, 1), r"images of 8 channels.*\(1, 8, 8\).*transpose\(0, 3, 1, 2\)"),
        ((1, 8, 8), None),
        ((3, 20), None),
        ((1, 64), None),
    ],
)
@pytest.mark.parametrize("cls", [Autoencoder, AnoDM])
def test_axes_that_look_exchanged_are_pointed_out(cls, shape, message):
    detector = small(cls, input_shape=shape)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        detector._check_parameters()
    messages = [str(w.message) for w in caught]
    if message is None:
        assert not messages
    else:
        assert len(messages) == 1
        with pytest.raises(ValueError, match=message):
            raise ValueError(messages[0])


# Arguments


@detectors
def test_an_argument_that_is_not_known_names_the_class_and_the_nearest(cls):
    name = "max_iter" if known(cls, max_iter=1) else "contamination"
    with pytest.raises(TypeError, match=f"{cls.__name__} has no parameter '{name[:-1]}'.*{name!r}"):
        cls(**{name[:-1]: 3})
    with pytest.raises(TypeError, match=rf"{cls.__name__} has no parameter 'zzz'. It has .*conta"):
        cls(zzz=1)


def test_a_class_that_takes_any_argument_is_left_alone():
    class Own(DAGMM):
        def __init__(self, *, lambda1=0.3, **inherited):
            super().__init__(lambda1=lambda1, **inherited)

    assert Own(max_iter=3).max_iter == 3
    with pytest.raises(TypeError, match="Own has no parameter 'max_itr'. Did you mean 'max_iter'"):
        Own(max_itr=3)
