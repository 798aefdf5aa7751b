"""A label is a function of the model and the row: however it is asked for, it is the same."""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from _public import epochs, known, labels, public_detectors, small, suited

from anomaly_estimators import Autoencoder, OutlierDetector

detectors = pytest.mark.parametrize("cls", public_detectors(), ids=lambda cls: cls.__name__)


def tied(seed=0):
    """Rows of which a fifth are one and the same, far off; all of them exact in float16."""
    rng = np.random.default_rng(seed)
    distinct = rng.integers(-64, 64, size=(40, 4)) / 16
    return np.vstack([distinct, np.tile([6.0, -5.5, 7.25, 5.0], (10, 1))])


def one_hot(seed=0):
    """Log data: three symbols a row, many rows alike."""
    rng = np.random.default_rng(seed)
    codes = rng.choice(3, size=(60, 3), p=[0.7, 0.2, 0.1])
    return np.eye(3)[codes].reshape(60, 9)


TABLES = {"tied": tied, "one-hot": one_hot}
tables = pytest.mark.parametrize("table", TABLES)


def fit(cls, X, **params):
    with warnings.catch_warnings():
        # Of a share that ties do not allow, of collapse, and of labels.
        warnings.simplefilter("ignore")
        return small(cls, **known(cls, batch_size=16), **epochs(cls, 3), **params).fit(
            X, labels(cls, len(X))
        )


def ways(X, mapped):
    """The same rows as everything that hands rows over."""
    names = [f"c{i}" for i in range(X.shape[1])]
    strided = np.repeat(X, 2, axis=1)[:, ::2]
    for dtype in (np.float16, np.float32, np.float64):
        yield f"array of {dtype.__name__}", X.astype(dtype)
        yield f"map of {dtype.__name__}", mapped(X.astype(dtype))
    yield "long doubles", X.astype(np.longdouble)
    yield "map of long doubles", mapped(X.astype(np.longdouble))
    yield "other byte order", X.astype(X.dtype.newbyteorder())
    yield "map of other byte order", mapped(X.astype(np.dtype(np.float32).newbyteorder()))
    yield "columns first", np.asfortranarray(X)
    yield "every second column", strided
    yield "reversed twice", X[::-1].copy()[::-1]
    yield "objects", X.astype(object)
    yield "lists", X.tolist()
    yield "tensor", torch.tensor(X, requires_grad=True)
    yield "tensor of float32", torch.tensor(X, dtype=torch.float32)
    yield "pandas", pd.DataFrame(X, columns=names)
    yield "pandas, float32", pd.DataFrame(X.astype(np.float32), columns=names)
    yield "pandas, nullable", pd.DataFrame(X, columns=names).convert_dtypes()
    yield "polars", pl.DataFrame(X, schema=names)
    yield "polars, float32", pl.DataFrame(X.astype(np.float32), schema=names)


@pytest.fixture
def mapped(tmp_path):
    def make(X):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.npy"
        np.save(path, X)
        return np.load(path, mmap_mode="r")

    return make


@detectors
@tables
def test_labels_are_the_same_alone_in_batches_permuted_and_in_either_precision(cls, table):
    X = suited(cls, TABLES[table]())
    detector = fit(cls, X)
    expected = detector.predict(X)
    # The rows that rounding could move most easily.
    near = np.abs(detector.decision_function(X)).argsort()[:4]
    for rows in (X, X.astype(np.float32)):
        alone = np.concatenate([detector.predict(rows[[i]]) for i in near])
        np.testing.assert_array_equal(alone, expected[near], f"alone, {rows.dtype}")
    parts = [detector.predict(X[i : i + 13]) for i in range(0, len(X), 13)]
    np.testing.assert_array_equal(np.concatenate(parts), expected, "in batches")
    order = np.random.default_rng(1).permutation(len(X))
    np.testing.assert_array_equal(detector.predict(X[order]), expected[order], "permuted")
    twice = detector.predict(np.vstack([X, X[::-1]]))
    np.testing.assert_array_equal(twice, np.r_[expected, expected[::-1]], "among others")
    np.testing.assert_array_equal(detector.predict(X.astype(np.float32)), expected, "float32")
    _, group = np.unique(X, axis=0, return_inverse=True)
    for number in range(group.max() + 1):
        assert len(set(expected[group.ravel() == number])) == 1, "equal rows, equal labels"


@detectors
def test_labels_and_scores_are_the_same_from_every_container(cls, mapped):
    X = suited(cls, tied()[::2])
    detector = fit(cls, X)
    expected, scores = detector.predict(X), detector.score_samples(X)
    spread = np.ptp(scores)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # names of columns that fit did not see
        for way, rows in ways(X, mapped):
            np.testing.assert_array_equal(detector.predict(rows), expected, way)
            again = detector.score_samples(rows)
            # scikit-learn reads the frames of polars in float64.
            single = "float32" in way and "polars" not in way
            assert again.dtype == (np.float32 if single else np.float64), way
            tolerance = 1e-3 * spread if single else 1e-9 * spread
            np.testing.assert_allclose(again, scores, rtol=1e-4 if single else 1e-9, atol=tolerance)


@detectors
def test_fits_are_the_same_from_a_map_of_any_type_and_the_array(cls, mapped):
    X = suited(cls, 1000.0 + tied())
    probe = X[::3]
    for dtype in (np.float16, np.float32, np.float64):
        array = X.astype(dtype)
        a, b = fit(cls, array), fit(cls, mapped(array))
        np.testing.assert_allclose(
            a.score_samples(probe), b.score_samples(probe), rtol=1e-5, err_msg=str(dtype)
        )
        np.testing.assert_array_equal(a.predict(mapped(array)), a.predict(array))


@detectors
def test_huge_values_of_a_small_type_do_not_overflow(cls, mapped):
    X = suited(cls, np.random.default_rng(0).uniform(-6e4, 6e4, size=(60, 3)))
    rows = X.astype(np.float16)
    detector = fit(cls, rows.astype(np.float64))
    scores = detector.score_samples(mapped(rows))
    assert (scores > np.finfo(np.float32).min).all()
    np.testing.assert_allclose(scores, detector.score_samples(rows.astype(np.float64)), rtol=1e-9)
    assert (detector.predict(mapped(rows)) == detector.predict(rows)).all()


def test_scores_that_are_what_is_left_of_large_terms_are_parted_by_what_rounding_leaves():
    """Differences of 1e-7 are below the rounding of this score, large beside itself."""

    class Difference(OutlierDetector):
        def _fit(self, X, labels):
            pass

        def _anomaly_score(self, X):
            # What a sum in another order leaves of terms of 1e9, for a row that comes alone.
            rest = 1e-7 * np.sin(1e3 * X[:, 0]) if len(X) == 1 else 0.0
            return X[:, 1] + rest

    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=200), 1e-7 * rng.random(200)])
    X[:20, 1] += 200.0
    with pytest.warns(UserWarning, match="asks for 60 of 200 training rows, but 20 are flagged"):
        detector = Difference(contamination=0.3).fit(X)
    expected = detector.predict(X)
    alone = np.concatenate([detector.predict(X[[i]]) for i in range(len(X))])
    np.testing.assert_array_equal(alone, expected)


@detectors
def test_a_threshold_that_rounding_cannot_move(cls):
    """The lowest of the rows is flagged alone exactly if it is flagged among the others."""
    X = suited(cls, np.random.default_rng(3).normal(size=(60, 3)))
    for contamination in (0.001, 0.02, 0.1):
        detector = fit(cls, X, contamination=contamination)
        lowest = detector.score_samples(X).argmin()
        assert detector.predict(X)[lowest] == detector.predict(X[[lowest]])[0]
        decision = detector.decision_function(X)
        margin = 1e-10 * np.abs(detector.score_samples(X)).max()
        assert (np.abs(decision) > min(margin, 1e300)).all()


@pytest.mark.parametrize(
    "cls",
    # One label in all rows is refused.
    [cls for cls in public_detectors() if not known(cls, label_column=-1)],
    ids=lambda cls: cls.__name__,
)
def test_a_table_of_equal_rows_is_pointed_out(cls):
    X = np.full((30, 3), 2.0)
    with pytest.warns(UserWarning, match="0 are flagged.*nothing can be learned"):
        detector = small(cls).fit(X, labels(cls, len(X)))
    scores = detector.score_samples(X)
    assert not np.signbit(scores[scores == 0]).any()


def test_tied_anomalies_are_flagged_together_and_counted():
    rng = np.random.default_rng(0)
    X = np.vstack([rng.normal(size=(880, 5)), np.tile(rng.normal(size=5) * 3 + 8, (120, 1))])
    with pytest.warns(UserWarning, match="asks for 100 of 1000 training rows, but 120 are flagged"):
        detector = Autoencoder(max_iter=5, random_state=0).fit(X)
    flagged = detector.predict(X) == -1
    assert flagged[880:].all() and not flagged[:880].any()
    assert detector.predict(X[-1:]) == [-1]
