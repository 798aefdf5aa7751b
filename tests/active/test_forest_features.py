"""Forests as features: the same leaves, the same scores, whatever the scale."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import IsolationForest

from anomaly_estimators.active import _cell_features, _forest_features
from anomaly_estimators.active._cell_features import fit_features
from anomaly_estimators.active._forest_features import (
    ForestFeatures,
    average_path_length,
    scale,
)

few = settings(max_examples=20, deadline=None, derandomize=True, database=None)
kinds = pytest.mark.parametrize("kind", ["nodes", "leaves"])


@pytest.fixture(scope="module")
def X():
    return load_breast_cancer(return_X_y=True)[0]


def features_of(forest, X, kind="nodes", seed=0):
    return fit_features(forest, X, forest_features=kind, random_state=np.random.RandomState(seed))


def depths(forest, X):
    """Sum over the trees of the path lengths, from the score of the forest."""
    n = forest.max_samples_
    return -np.log2(-forest.score_samples(X)) * (
        len(forest.estimators_) * average_path_length(np.array([n]))[0]
    )


FORESTS = [
    IsolationForest(n_estimators=20, random_state=0),
    IsolationForest(n_estimators=20, max_samples=33, max_features=0.3, random_state=1),
    IsolationForest(n_estimators=5, max_samples=1.0, bootstrap=True, random_state=2),
    IsolationForest(n_estimators=5, max_samples=2, random_state=3),
    IsolationForest(n_estimators=1, max_features=1, contamination=0.2, random_state=4),
]


@kinds
@pytest.mark.parametrize("forest", FORESTS, ids=str)
def test_equal_weights_give_the_score_of_the_forest(forest, kind, X):
    features = features_of(forest, X, kind)
    cells = features.locate_all(X)
    sums = features.score(cells, np.ones(features.n_weights))
    np.testing.assert_allclose(-sums, depths(clone(forest).fit(X), X), rtol=1e-9)


@pytest.mark.parametrize("forest", FORESTS, ids=str)
def test_leaves_are_those_of_the_forest(forest, X):
    features = features_of(forest, X)
    fitted = clone(forest).fit(X)
    for cells, tree, columns in zip(
        features.locate(X), fitted.estimators_, fitted.estimators_features_, strict=True
    ):
        leaves = tree.apply(X[:, columns])
        assert len(np.unique(leaves)) == len(set(zip(cells, leaves, strict=True)))
        assert len(np.unique(leaves)) == len(np.unique(cells))


def test_nodes_are_those_on_the_paths(X):
    forest = IsolationForest(n_estimators=3, random_state=0)
    features = features_of(forest, X)
    fitted = clone(forest).fit(X)
    cells = features.locate(X[:50]) + features.starts[:-1, None]
    passed = np.concatenate(
        [tree.decision_path(X[:50]).toarray()[:, 1:] for tree in fitted.estimators_], axis=1
    )
    z = sum(features.values.toarray()[own] for own in cells)
    np.testing.assert_array_equal(z != 0, passed.astype(bool))
    # The inner ones are -1, the leaves have the splits that are to be expected in them.
    assert (z[passed.astype(bool)] <= -1).all() and (z == -1).any() and (z < -1).any()


def test_leaves_have_one_feature_each(X):
    features = features_of(IsolationForest(n_estimators=3, random_state=0), X, "leaves")
    assert features.values.shape == (features.starts[-1],) * 2
    assert (features.values.tocoo().row == features.values.tocoo().col).all()


@kinds
def test_rows_are_sums_of_their_cells(kind, X):
    features = features_of(IsolationForest(n_estimators=7, random_state=0), X, kind)
    cells = features.locate_all(X[:40])
    weights = np.random.default_rng(0).normal(size=features.n_weights)
    rows = features.rows(cells)
    np.testing.assert_allclose(rows.dot(weights), features.score(cells, weights))
    one = rows.combine(np.eye(40)[3])
    assert one @ weights == pytest.approx(features.score(cells, weights)[3])


def test_cells_take_a_byte_each(X):
    features = features_of(IsolationForest(random_state=0), X)
    assert features.locate_all(X).dtype == np.uint8


@few
@given(exponent=st.integers(-300, 290), seed=st.integers(0, 3))
def test_scale_makes_no_difference(exponent, seed):
    rows = np.random.default_rng(seed).normal(size=(60, 3))
    forest = IsolationForest(n_estimators=5, random_state=0)
    plain = features_of(forest, rows)
    # Powers of two, which round nothing.
    scaled = np.ldexp(rows, np.array([exponent, 0, -exponent // 2]))
    features = features_of(forest, scaled)
    np.testing.assert_array_equal(features.locate(scaled), plain.locate(rows))


def test_far_rows_are_at_the_ends():
    rows = np.random.default_rng(0).normal(size=(60, 2))
    features = features_of(IsolationForest(n_estimators=5, random_state=0), rows)
    with np.errstate(all="raise"):
        far = features.locate(np.array([[1e300, -1e300], [1e30, -1e30]]))
    np.testing.assert_array_equal(far[:, 0], far[:, 1])
    assert np.isfinite(scale(np.array([[1.7e308, -1.7e308]]), np.array([-1000, -1000]))).all()


def test_a_row_has_the_same_cells_alone_and_in_pieces(X, monkeypatch):
    features = features_of(IsolationForest(n_estimators=9, random_state=0), X)
    cells = features.locate_all(X)
    monkeypatch.setattr(_cell_features, "_PIECE_VALUES", 100)
    np.testing.assert_array_equal(features.locate_all(X), cells)
    np.testing.assert_array_equal(features.locate_all(X[5:6])[:, 0], cells[:, 5])
    np.testing.assert_array_equal(features.locate_all(X.astype(np.float32)), cells)


def test_huge_tables_grow_the_forest_on_some_rows(X, monkeypatch):
    monkeypatch.setattr(_forest_features, "_MAX_VALUES", 100 * X.shape[1])
    features = features_of(IsolationForest(n_estimators=9, max_samples=1.0), X)
    assert set(features.n_rows[features._roots]) == {100}


def test_the_seed_is_the_forests_own_or_that_given(X):
    def locate(forest, seed):
        return features_of(forest, X, seed=seed).locate(X).tolist()

    own, none = (IsolationForest(n_estimators=3, random_state=s) for s in (7, None))
    assert locate(own, 0) == locate(own, 1)
    assert locate(none, 0) == locate(none, 0) != locate(none, 1)
    assert not hasattr(own, "estimators_")


@kinds
def test_state_makes_the_same_features(kind, X):
    features = features_of(IsolationForest(n_estimators=5, random_state=0), X, kind)
    data = pickle.dumps(features)
    for other in (ForestFeatures(**features.state()), pickle.loads(data)):
        np.testing.assert_array_equal(other.locate(X), features.locate(X))
        assert (other.values != features.values).nnz == 0
    # No more than the trees.
    assert len(data) < 40 * len(features.children) + 2000


@pytest.mark.parametrize(
    "name, edit",
    [
        ("kind", lambda value: "twigs"),
        ("sizes", lambda value: value + 1),
        ("sizes", lambda value: np.concatenate([value, [0]])),
        ("children", lambda value: value[::-1]),
        ("children", lambda value: np.maximum(value - 1, 0)),
        ("children", lambda value: value + 10**6),
        ("columns", lambda value: value + 100),
        ("columns", lambda value: value - 1),
        ("columns", lambda value: value[1:]),
        ("thresholds", lambda value: value * np.nan),
        ("n_rows", lambda value: value * 0),
        ("exponents", lambda value: value[:2]),
    ],
)
def test_arrays_that_are_no_trees_are_refused(name, edit, X):
    state = features_of(IsolationForest(n_estimators=3, random_state=0), X).state()
    with pytest.raises((ValueError, IndexError)):
        ForestFeatures(**{**state, name: edit(state[name])})


def test_other_detectors_make_no_features(X):
    with pytest.raises(TypeError, match="int is no ensemble"):
        features_of(3, X)
