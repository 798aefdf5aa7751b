"""The map: it is the same whenever it is made, and new rows join it without changing it."""

import pickle
import warnings

import joblib
import numpy as np
import pytest
from openTSNE import TSNEEmbedding
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.manifold import trustworthiness
from sklearn.metrics import pairwise_distances, silhouette_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state, shuffle

from anomaly_estimators.manifold import TSNEMap, tsne_map
from anomaly_estimators.manifold.tsne_map import initial_positions


def make(**params):
    return TSNEMap(**{"max_iter": 120, "random_state": 0, **params})


def blobs(n=90, n_features=4, seed=0):
    """Three clusters, far apart, and which one a row is of."""
    rng = np.random.default_rng(seed)
    which = np.arange(n) % 3
    centres = 30.0 * np.eye(3, n_features) if n_features >= 3 else 30.0 * np.arange(3)[:, None]
    return centres[which] + rng.normal(size=(n, n_features)), which


@pytest.fixture(scope="module")
def X():
    return blobs()[0]


@pytest.fixture(scope="module")
def new():
    return blobs(30, seed=1)[0]


@pytest.fixture(scope="module")
def fitted(X):
    return make().fit(X)


# The same map


def test_same_seed_same_map(X, new, fitted):
    again = make().fit(X)
    np.testing.assert_array_equal(again.embedding_, fitted.embedding_)
    np.testing.assert_array_equal(again.transform(new), fitted.transform(new))


def test_map_is_the_same_for_any_number_of_threads(X):
    # Briefly: threads that wait for one another are slow where others work on the same cores.
    one, two = (make(n_jobs=n_jobs, max_iter=6).fit(X) for n_jobs in (1, 2))
    np.testing.assert_array_equal(two.embedding_, one.embedding_)


def test_another_seed_is_another_map(X, fitted):
    assert not np.allclose(make(random_state=1).fit(X).embedding_, fitted.embedding_)
    generators = [make(random_state=np.random.RandomState(7)).fit(X).embedding_ for _ in range(2)]
    np.testing.assert_array_equal(*generators)


def test_global_generator_is_left_alone(X, new):
    generator = check_random_state(None)
    before = generator.get_state(legacy=False)["state"]
    make(max_iter=2).fit(X).transform(new)
    after = generator.get_state(legacy=False)["state"]
    assert after["pos"] == before["pos"]
    np.testing.assert_array_equal(after["key"], before["key"])


def test_fit_transform_is_the_map(X, fitted):
    np.testing.assert_array_equal(make().fit_transform(X), fitted.embedding_)
    assert fitted.embedding_.shape == (90, 2) and fitted.embedding_.dtype == np.float64
    middle = fitted.embedding_.max(axis=0) + fitted.embedding_.min(axis=0)
    np.testing.assert_allclose(middle, 0.0, atol=1e-12)


def test_every_row_is_placed_by_itself(new, fitted):
    placed = fitted.transform(new)
    single = np.concatenate([fitted.transform(new[i : i + 1]) for i in range(len(new))])
    np.testing.assert_array_equal(single, placed)
    order = np.random.default_rng(0).permutation(len(new))
    np.testing.assert_array_equal(fitted.transform(new[order]), placed[order])
    with_far_ones = np.concatenate([new, 1e3 * new])
    np.testing.assert_array_equal(fitted.transform(with_far_ones)[:30], placed)
    twice = fitted.transform(np.repeat(new[:1], 5, axis=0))
    np.testing.assert_array_equal(twice, np.repeat(placed[:1], 5, axis=0))


def test_new_rows_are_moved_from_where_they_start(new, fitted, monkeypatch):
    placed = fitted.transform(new)
    monkeypatch.setitem(tsne_map._PLACEMENT, "n_iter", 1)
    assert np.abs(fitted.transform(new) - placed).max() > 0.01


def test_placing_rows_changes_nothing(X, new):
    fitted = make().fit(X)
    before = {name: np.copy(value) for name, value in vars(fitted).items() if name.endswith("_")}
    reference = np.array(fitted._reference)
    first = fitted.transform(new)
    fitted.transform(1e6 * new)
    np.testing.assert_array_equal(fitted.transform(new), first)
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(fitted, name), value, err_msg=name)
    np.testing.assert_array_equal(np.array(fitted._reference), reference)
    np.testing.assert_array_equal(reference, fitted.embedding_)


def test_map_does_not_look_at_the_callers_array_again(new):
    rows = blobs()[0]
    fitted = make().fit(rows)
    placed = fitted.transform(new)
    rows[:] = 0.0
    fitted.embedding_ = fitted.embedding_.copy()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).transform(new), placed)
    given = fitted.fit_transform(blobs()[0])
    np.testing.assert_array_equal(given, make().fit(blobs()[0]).embedding_)


@pytest.mark.parametrize("how", ["pickle", "clone of a copy", "joblib", "mapped"])
def test_reloaded_map_places_rows_the_same(how, X, new, fitted, tmp_path):
    path = tmp_path / "map.joblib"
    if how == "pickle":
        stored = pickle.dumps(fitted)
        assert b"openTSNE" not in stored  # whose objects cannot work with read-only arrays
        loaded = pickle.loads(stored)
    elif how == "clone of a copy":
        loaded = clone(pickle.loads(pickle.dumps(fitted))).fit(X)
    else:
        joblib.dump(fitted, path)
        loaded = joblib.load(path, mmap_mode="r" if how == "mapped" else None)
    if how == "mapped":
        assert isinstance(loaded.embedding_, np.memmap) and not loaded.embedding_.flags.writeable
    np.testing.assert_array_equal(loaded.transform(new), fitted.transform(new))
    np.testing.assert_array_equal(loaded.embedding_, fitted.embedding_)
    np.testing.assert_array_equal(loaded.transform(new[:1]), fitted.transform(new)[:1])


def test_map_before_fit_can_be_stored_and_is_said_to_be_none(new):
    loaded = pickle.loads(pickle.dumps(make(perplexity=7)))
    assert loaded.get_params() == make(perplexity=7).get_params()
    with pytest.raises(NotFittedError):
        loaded.transform(new)


def test_float32_rows_and_integers_are_taken(X):
    single = make().fit(X.astype(np.float32))
    np.testing.assert_array_equal(
        single.embedding_, make().fit(X.astype(np.float32).astype(np.float64)).embedding_
    )
    assert single.transform(X.astype(np.float32)).dtype == np.float64
    whole = np.round(X).astype(int)
    np.testing.assert_array_equal(
        make().fit(whole).embedding_, make().fit(whole.astype(float)).embedding_
    )
    np.testing.assert_array_equal(
        make().fit(np.asfortranarray(X)).embedding_, make().fit(X).embedding_
    )


# What the map shows


def test_clusters_stay_apart_and_new_rows_join_theirs():
    (X, which), (new, which_new) = blobs(150), blobs(60, seed=1)
    fitted = make(max_iter=500).fit(X)
    assert silhouette_score(fitted.embedding_, which) > 0.6
    placed = fitted.transform(new)
    nearest = pairwise_distances(placed, fitted.embedding_).argsort(axis=1)[:, :5]
    np.testing.assert_array_equal(which[nearest], np.repeat(which_new[:, None], 5, axis=1))
    # In the midst of their cluster, not merely nearer to it than to others.
    middles = np.array([fitted.embedding_[which == k].mean(axis=0) for k in range(3)])
    sizes = [np.ptp(fitted.embedding_[which == k], axis=0).max() / 2 for k in range(3)]
    off = np.linalg.norm(placed - middles[which_new], axis=1) / np.array(sizes)[which_new]
    assert np.median(off) < 1.0


def test_neighbours_in_the_map_are_neighbours_of_the_rows():
    X = load_digits().data[:300]
    components = PCA(2).fit_transform(X)
    fitted = make(max_iter=400).fit(X)
    found = trustworthiness(X, fitted.embedding_, n_neighbors=7)
    # Above that of its start by half of what there is to win.
    assert 1.0 - found < 0.5 * (1.0 - trustworthiness(X, components, n_neighbors=7))
    # Of rows that were in the fit, the places are near their own.
    again = np.linalg.norm(fitted.transform(X) - fitted.embedding_, axis=1)
    size = np.abs(fitted.embedding_).max()
    assert np.median(again) < 0.1 * size


def test_perplexity_and_learning_rate_and_length_have_their_part(X, fitted):
    for params in ({"perplexity": 5}, {"learning_rate": 20.0}, {"max_iter": 121}):
        assert not np.allclose(make(**params).fit(X).embedding_, fitted.embedding_), params
    explicit = make(learning_rate=200.0).fit(X)  # of few rows, what "auto" is
    np.testing.assert_array_equal(explicit.embedding_, fitted.embedding_)
    # No more neighbours than there are: a third of the other rows at most.
    np.testing.assert_array_equal(
        make(perplexity=1e9).fit(X).embedding_, make(perplexity=89 / 3).fit(X).embedding_
    )


@pytest.mark.parametrize("shift", [-8.0, 1024.0])
def test_shifted_rows_have_the_same_map(shift):
    """Shifts that are exact: the positions are those before, to rounding that optimisation grows."""
    X, _ = blobs()
    X = np.round(X * 64) / 64
    new = np.round(blobs(30, seed=1)[0] * 64) / 64
    fitted, shifted = make(max_iter=60).fit(X), make(max_iter=60).fit(X + shift)
    np.testing.assert_allclose(shifted.embedding_, fitted.embedding_, atol=1e-4)
    np.testing.assert_allclose(shifted.transform(new + shift), fitted.transform(new), atol=1e-3)


# Starts


def test_start_is_the_two_principal_components():
    X = np.random.default_rng(0).normal(size=(200, 5)) * np.array([5.0, 3.0, 1.0, 0.5, 0.1]) + 7.0
    found = initial_positions(X, np.random.RandomState(0))
    centred = X - X.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    components = centred @ directions[:2].T
    expected = 1e-4 * components / components[:, 0].std()
    for k in range(2):
        assert abs(np.corrcoef(found[:, k], expected[:, k])[0, 1]) > 0.999
        # The coordinate that is largest in size is positive.
        assert found[np.abs(found[:, k]).argmax(), k] > 0
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=6e-6)
    assert (found[:, 0].std(), found[:, 1].std()) == pytest.approx((1e-4, 0.6e-4), rel=0.2)


@pytest.mark.parametrize("scale", [1e-200, 1e-9, 1.0, 1e9, 1e200])
def test_start_does_not_depend_on_the_size_of_rows(scale):
    X = np.random.default_rng(0).normal(size=(50, 3))
    expected = initial_positions(X, np.random.RandomState(0))
    found = initial_positions(scale * X, np.random.RandomState(0))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)


def test_start_of_identical_rows_is_a_trace_of_noise():
    found = initial_positions(np.full((40, 3), 5.0), np.random.RandomState(0))
    assert np.isfinite(found).all()
    assert 1e-7 < found.std() < 1e-5
    assert len(np.unique(found, axis=0)) == 40


# Edges


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e30, 1e200])
def test_size_of_rows_is_of_no_consequence(scale, X, new):
    # By a power of two nothing is rounded.
    scale = 2.0 ** np.round(np.log2(scale))
    fitted, scaled = make().fit(X), make().fit(scale * X)
    np.testing.assert_array_equal(scaled.embedding_, fitted.embedding_)
    np.testing.assert_array_equal(scaled.transform(scale * new), fitted.transform(new))


EDGES = {
    "two rows": np.array([[0.0, 1.0], [1.0, 3.0]]),
    "three rows": np.array([[0.0, 1.0], [1.0, 3.0], [5.0, 5.0]]),
    "two rows alike": np.ones((2, 3)),
    "zeros": np.zeros((10, 3)),
    "identical": np.full((10, 3), 5.0),
    "nearly identical": 5.0 + 1e-12 * np.arange(30.0)[:, None],
    "one feature": np.random.default_rng(0).normal(size=(40, 1)),
    "constant features": np.random.default_rng(0).normal(size=(40, 3)) * [1.0, 0.0, 0.0] + 5.0,
    "duplicates": np.repeat(np.random.default_rng(0).normal(size=(10, 3)), 5, axis=0),
    "one apart": np.concatenate([np.zeros((30, 2)), [[1.0, 1.0]]]),
    "one far apart": np.concatenate([np.random.default_rng(0).normal(size=(30, 2)), [[1e9, 0.0]]]),
}


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.filterwarnings("error")
def test_edges_have_finite_positions(edge):
    X = EDGES[edge]
    fitted = make(max_iter=60).fit(X)
    assert fitted.embedding_.shape == (len(X), 2)
    assert np.isfinite(fitted.embedding_).all()
    new = np.concatenate([X[:2], X[:2] + 1.0, X[:1] + 1e6])
    placed = fitted.transform(new)
    assert np.isfinite(placed).all()
    np.testing.assert_array_equal(fitted.transform(new[3:4])[0], placed[3])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).transform(new), placed)


@pytest.mark.parametrize("size", [1e3, 1e6, 1e12, 1e80, 1e160, 1e300])
@pytest.mark.parametrize("scale", [1.0, 1e-200])
def test_rows_far_off_have_positions_or_none(size, scale, X, new):
    """NaN where distances are no numbers, and no error: the rows that come with them are placed."""
    fitted = make(max_iter=60).fit(scale * X)
    near = fitted.transform(scale * new)
    rows = np.concatenate([scale * new, [[size, -size, 0.0, size]]])
    with warnings.catch_warnings():
        warnings.simplefilter("error" if size / scale < 1e9 else "ignore")
        placed = fitted.transform(rows)
    np.testing.assert_array_equal(placed[:-1], near)
    assert np.isfinite(placed[-1]).all() or np.isnan(placed[-1]).all()
    assert np.isfinite(placed[-1]).all() or size / scale > 1e15
    np.testing.assert_array_equal(fitted.transform(scale * new), near)


def test_duplicates_lie_together():
    rng = np.random.default_rng(0)
    X = np.repeat(rng.normal(size=(40, 3)), 3, axis=0)
    fitted = make(max_iter=300).fit(X)
    positions = fitted.embedding_.reshape(40, 3, 2)
    within = np.ptp(positions, axis=1).max(axis=1)
    assert np.median(within) < 0.05 * np.ptp(fitted.embedding_)
    placed = fitted.transform(X)
    np.testing.assert_array_equal(placed[0::3], placed[1::3])


# Errors, and scikit-learn


@pytest.mark.parametrize(
    "params",
    [
        {"perplexity": 0.5},
        {"perplexity": "auto"},
        {"max_iter": 0},
        {"max_iter": 2.5},
        {"learning_rate": 0},
        {"learning_rate": "fast"},
        {"n_jobs": "all"},
        {"random_state": "seed"},
    ],
    ids=str,
)
def test_impossible_parameters_are_refused(params, X):
    with pytest.raises(ValueError, match=f"The '{next(iter(params))}' parameter of TSNEMap"):
        make(**params).fit(X)


def test_impossible_rows_are_refused(X, new, fitted):
    for value in (np.nan, np.inf):
        spoilt = X.copy()
        spoilt[3, 1] = value
        with pytest.raises(ValueError, match="NaN|infinity"):
            make().fit(spoilt)
        with pytest.raises(ValueError, match="NaN|infinity"):
            fitted.transform(spoilt)
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        make().fit(X[:1])
    with pytest.raises(ValueError, match="3 features.*expecting 4"):
        fitted.transform(new[:, :3])
    with pytest.raises(ValueError, match="0 sample"):
        fitted.transform(new[:0])
    with pytest.raises(NotFittedError):
        make().transform(new)


def test_parameters_are_not_changed_by_a_fit(X, fitted):
    assert fitted.get_params() == make().get_params()
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params() and not hasattr(copy, "embedding_")


def test_second_fit_forgets_the_first(X, new, fitted):
    again = make().fit(shuffle(X[:50], random_state=0)).fit(X)
    np.testing.assert_array_equal(again.transform(new), fitted.transform(new))
    assert again.fit(X[:, :2]).n_features_in_ == 2


def test_frames_and_pipelines(X, new, fitted):
    pandas = pytest.importorskip("pandas")
    names = ["a", "b", "c", "d"]
    frame = pandas.DataFrame(X, columns=names)
    framed = make().set_output(transform="pandas").fit(frame)
    assert framed.feature_names_in_.tolist() == names
    assert framed.get_feature_names_out().tolist() == ["tsnemap0", "tsnemap1"]
    placed = framed.transform(pandas.DataFrame(new, columns=names))
    assert placed.columns.tolist() == ["tsnemap0", "tsnemap1"]
    np.testing.assert_array_equal(placed, fitted.transform(new))
    np.testing.assert_array_equal(
        make().set_output(transform="pandas").fit_transform(frame), fitted.embedding_
    )
    line = make_pipeline(StandardScaler(), make(max_iter=50)).fit(X)
    scaler = StandardScaler().fit(X)
    expected = make(max_iter=50).fit(scaler.transform(X)).transform(scaler.transform(new))
    np.testing.assert_array_equal(line.transform(new), expected)


def test_a_third_of_the_iterations_exaggerates(X, monkeypatch):
    stretches = []
    optimize = TSNEEmbedding.optimize

    def noted(self, **options):
        stretches.append((options["n_iter"], options["exaggeration"]))
        return optimize(self, **options)

    monkeypatch.setattr(TSNEEmbedding, "optimize", noted)
    make(max_iter=30).fit(X)
    assert stretches == [(10, 12.0), (20, 1.0)]
