"""Data at the edges: no NaN ever leaves a detector."""

import warnings

import numpy as np
import pandas as pd
import pytest
from _public import deep_detectors, epochs, known, labels, public_detectors, small, suited
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.exceptions import ConvergenceWarning

few = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
detectors = pytest.mark.parametrize("cls", public_detectors(), ids=lambda cls: cls.__name__)


scaled = pytest.mark.parametrize(
    ("cls", "params"),
    [
        pytest.param(cls, params, id=f"{cls.__name__}-{next(iter(params.values()), '')}")
        for cls in public_detectors()
        for params in (
            [{"scaler": scaler} for scaler in ("standard", "minmax", "robust", None)]
            if known(cls, scaler=None)
            else [{}]
        )
    ],
)


def assert_sound(detector, X):
    """Fit, score and predict; warnings of a training that failed are in order, NaN is not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        detector.fit(X, labels(type(detector), len(X)))
    n = X.shape[0]
    scores = detector.score_samples(X)
    assert scores.shape == (n,)
    assert np.isfinite(scores).all()
    assert np.isfinite(detector.offset_)
    assert not np.isnan(detector.decision_function(X)).any()
    predicted = detector.predict(X)
    assert set(predicted) <= {-1, 1}
    assert (predicted == -1).sum() <= n // 2
    if type(detector) in deep_detectors():
        assert all(p.isfinite().all() for p in detector.module_.parameters())
    return scores


def normal(n=12, d=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


@detectors
@few
@given(
    exponent=st.integers(-30, 30),
    scaler=st.sampled_from(["standard", "minmax", "robust", None]),
    dtype=st.sampled_from([np.float32, np.float64]),
    shift=st.sampled_from([0.0, 1.0, -1e3]),
)
def test_any_scale(cls, exponent, scaler, dtype, shift):
    X = ((normal() + shift) * 10.0**exponent).astype(dtype)
    assert_sound(small(cls, **known(cls, scaler=scaler), **epochs(cls, 1)), X)


@scaled
@pytest.mark.parametrize("scale", [1e-30, 1e30, 1e-300, 1e300])
@pytest.mark.filterwarnings("ignore:(overflow|invalid value):RuntimeWarning")
def test_extreme_scales(cls, params, scale):
    assert_sound(small(cls, **params), scale * normal())


@detectors
@few
@given(
    X=hnp.arrays(
        np.float64,
        st.tuples(st.integers(2, 9), st.integers(1, 4)),
        elements=st.floats(-1e6, 1e6, allow_nan=False),
    )
)
def test_any_rows(cls, X):
    assert_sound(small(cls, **epochs(cls, 1)), suited(cls, X))


@detectors
@few
@given(n=st.integers(2, 7), d=st.integers(1, 5), batch_size=st.integers(1, 5))
def test_any_small_shape(cls, n, d, batch_size):
    X = suited(cls, normal(n, d))
    assert_sound(small(cls, **known(cls, batch_size=batch_size), **epochs(cls, 1)), X)


@detectors
@few
@given(
    column=st.integers(0, 2),
    kind=st.sampled_from(["constant", "duplicated", "zero", "huge", "integer"]),
)
def test_odd_columns(cls, column, kind):
    X = normal()
    X[:, column] = {
        "constant": 5.0,
        "duplicated": X[:, column - 1],
        "zero": 0.0,
        "huge": 1e20,
        "integer": np.arange(12),
    }[kind]
    assert_sound(small(cls), suited(cls, X))


@scaled
def test_rows_of_zeros_and_equal_rows(cls, params):
    for X in (np.zeros((6, 3)), np.ones((6, 3)), np.r_[np.zeros((3, 3)), normal()]):
        scores = assert_sound(small(cls, **params), suited(cls, X))
        np.testing.assert_allclose(scores[0], scores[1], rtol=1e-10)


@detectors
def test_far_row_has_a_finite_score(cls):
    detector = small(cls).fit(normal(50), labels(cls, 50))
    far = np.array([[1e6, -1e6, 1e6], [1e200, 1e200, 1e200], [-1e308, 1e308, 0.0]])
    with np.errstate(all="ignore"):
        scores = detector.score_samples(far)
        single = detector.score_samples(np.full((1, 3), 3e38, dtype=np.float32))
        assert set(detector.predict(far)) <= {-1, 1}
    assert np.isfinite(scores).all() and np.isfinite(single).all()
    assert single.dtype == np.float32


@detectors
@pytest.mark.parametrize(
    "convert",
    [
        lambda X: X.astype(object),
        lambda X: (10 * X).astype(np.int16),
        lambda X: X > 0,
        lambda X: X.astype(np.float16),
        lambda X: X.astype(np.longdouble),
        lambda X: X.tolist(),
        lambda X: np.asfortranarray(X),
        lambda X: X.repeat(2, axis=1)[:, ::2],
        lambda X: X[::-1],
        lambda X: np.ma.masked_array(X),
        lambda X: X.astype(">f8"),
        lambda X: pd.DataFrame(X),
        lambda X: pd.DataFrame(X).convert_dtypes(),
        lambda X: type("Frame", (pd.DataFrame,), {})(X, columns=list("abc")),
        lambda X: X.view(type("Rows", (np.ndarray,), {})),
    ],
    ids=[
        "object",
        "int16",
        "bool",
        "float16",
        "longdouble",
        "list",
        "fortran",
        "strided",
        "reversed",
        "masked",
        "big endian",
        "frame",
        "nullable frame",
        "subclass frame",
        "subclass array",
    ],
)
def test_any_container(cls, convert):
    X = convert(normal())
    detector = small(cls)
    if isinstance(X, list):
        X = np.array(X)
    assert_sound(detector, X)
    plain = np.asarray(X, dtype=np.float64)
    expected = small(cls).fit(plain, labels(cls, len(plain))).score_samples(plain)
    np.testing.assert_allclose(detector.score_samples(X), expected, rtol=1e-9)


@scaled
def test_read_only_memory(cls, params, tmp_path):
    X = normal()
    np.save(tmp_path / "X.npy", X)
    X.flags.writeable = False
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        a = assert_sound(small(cls, **params), X)
        b = assert_sound(small(cls, **params), mapped)
    np.testing.assert_allclose(a, b, rtol=1e-6)


@detectors
def test_sparse_rows_are_refused(cls):
    from scipy.sparse import csr_array

    with pytest.raises((TypeError, ValueError), match="[Ss]parse"):
        small(cls).fit(csr_array(normal()))


@detectors
def test_gaps_are_refused(cls):
    X = normal()
    X[3, 1] = np.nan
    for rows in (X, pd.DataFrame(X), pd.DataFrame(X).convert_dtypes()):
        with pytest.raises(ValueError, match="NaN"):
            small(cls).fit(rows)
