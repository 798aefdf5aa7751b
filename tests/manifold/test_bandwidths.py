"""Widths of the rows of a map, against scipy's entropy and brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse, stats
from scipy.spatial.distance import cdist

from anomaly_estimators.manifold.bandwidths import Bandwidths

few = settings(max_examples=25, deadline=None, derandomize=True, database=None)


def make_rows(n=60, n_features=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, n_features))


def own_distances(rows, k):
    """To the k nearest others, row by row."""
    distances = cdist(rows, rows)
    np.fill_diagonal(distances, np.inf)
    return np.sort(distances, axis=1)[:, :k]


def nearest(new, rows, k):
    distances = cdist(new, rows)
    neighbors = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return neighbors, np.take_along_axis(distances, neighbors, axis=1)


def conditional(distances, precision):
    weights = np.exp(-precision[:, None] * (distances**2 - distances[:, :1] ** 2))
    return weights / weights.sum(axis=1, keepdims=True)


@few
@given(
    n=st.integers(8, 60),
    seed=st.integers(0, 100),
    scale=st.sampled_from([1e-6, 1.0, 1e5]),
    share=st.floats(0.2, 0.9),
)
def test_entropy_is_that_of_the_perplexity(n, seed, scale, share):
    rows = scale * make_rows(n, seed=seed)
    k = n - 1 if seed % 2 else n // 2
    perplexity = max(1.05, share * k)
    widths = Bandwidths.of(rows, k, perplexity)
    assert widths.precision.shape == widths.log_mass.shape == (n,)
    found = stats.entropy(conditional(own_distances(rows, k), widths.precision), axis=1)
    np.testing.assert_allclose(found, np.log(perplexity), rtol=1e-6, atol=1e-8)


def test_mass_is_that_of_the_gaussians():
    rows = make_rows()
    widths = Bandwidths.of(rows, 12, 5.0)
    distances = own_distances(rows, 12)
    mass = np.exp(-widths.precision[:, None] * distances**2).sum(axis=1)
    np.testing.assert_allclose(np.exp(widths.log_mass), mass, rtol=1e-9)


def test_dense_rows_have_narrow_gaussians():
    rows = np.concatenate([make_rows(40), 10.0 * make_rows(40, seed=1) + 500.0])
    precision = Bandwidths.of(rows, 15, 5.0).precision
    ratio = np.median(precision[:40]) / np.median(precision[40:])
    assert 50 < ratio < 200


def test_mutual_is_the_share_that_a_new_row_takes():
    """Brute force: the new row joins the neighbours of each row of the map."""
    rows, new = make_rows(), make_rows(9, seed=3)
    k = 12
    widths = Bandwidths.of(rows, k, 5.0)
    neighbors, distances = nearest(new, rows, k)
    found = widths.mutual(neighbors, distances)
    own = own_distances(rows, k)
    for i in range(len(new)):
        for place, j in enumerate(neighbors[i]):
            joined = np.append(own[j], np.linalg.norm(new[i] - rows[j]))
            weights = np.exp(-widths.precision[j] * joined**2)
            assert found[i, place] == pytest.approx(weights[-1] / weights.sum(), rel=1e-9)
    assert ((found > 0) & (found < 1)).all()


def test_rows_of_symmetric_affinities_sum_to_a_half_and_what_comes_back():
    rows = make_rows()
    k = 10
    widths = Bandwidths.of(rows, k, 4.0)
    new = np.concatenate([make_rows(8, seed=3), rows[:2] + 1e-6, [[1e4, 0.0, 0.0]]])
    neighbors, distances = nearest(new, rows, k)
    shares = np.random.default_rng(0).dirichlet(np.ones(k), size=len(new))
    dense = np.zeros((len(new), len(rows)))
    np.put_along_axis(dense, neighbors, shares, axis=1)
    both = widths.symmetric(sparse.csr_matrix(dense), neighbors, distances)
    expected = 0.5 * dense
    mutual = widths.mutual(neighbors, distances)
    for i in range(len(new)):
        for place, j in enumerate(neighbors[i]):
            expected[i, j] += 0.5 * mutual[i, place]
    np.testing.assert_allclose(both.toarray(), expected, rtol=1e-12)
    assert both.shape == (len(new), len(rows)) and both.has_sorted_indices
    sums = both.toarray().sum(axis=1)
    np.testing.assert_allclose(sums, 0.5 + 0.5 * mutual.sum(axis=1), rtol=1e-12)
    # None has the far row for its neighbour, and a row among the others is drawn more.
    assert sums[-1] == pytest.approx(0.5, rel=1e-12)
    assert (sums[:-1] > 0.5).all() and sums[8:10].min() > 0.9


def test_far_rows_are_less_and_less_drawn():
    rows = make_rows()
    widths = Bandwidths.of(rows, 10, 4.0)
    sums = []
    for distance in (0.0, 3.0, 10.0, 1e3, 1e8, 1e150):
        neighbors, distances = nearest(np.array([[distance, 0.0, 0.0]]), rows, 10)
        with np.errstate(all="raise", under="ignore"):
            sums.append(widths.mutual(neighbors, distances).sum())
    assert sums == sorted(sums, reverse=True)
    assert sums[0] > 0.5 and sums[1] > sums[2] and sums[-3:] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("rows", "k"),
    [
        (np.zeros((10, 2)), 5),
        (np.repeat(make_rows(5), 4, axis=0), 6),
        (np.array([[0.0], [1.0]]), 1),
        (5.0 + 1e-12 * np.arange(12.0)[:, None], 4),
        (np.concatenate([np.zeros((11, 2)), [[1.0, 1.0]]]), 5),
    ],
    ids=["identical", "duplicates", "two rows", "nearly identical", "one apart"],
)
@pytest.mark.filterwarnings("error")
def test_edges_have_finite_widths(rows, k):
    widths = Bandwidths.of(rows, k, max(1.0, k / 3))
    assert np.isfinite(widths.log_mass).all()
    assert (np.isfinite(widths.precision) & (widths.precision >= 0)).all()
    neighbors, distances = nearest(np.concatenate([rows, rows + 1.0]), rows, k)
    mutual = widths.mutual(neighbors, distances)
    assert ((mutual >= 0) & (mutual <= 1)).all()


def test_widths_do_not_depend_on_the_place_or_the_scale():
    rows = np.round(make_rows() * 64) / 64
    widths = Bandwidths.of(rows, 10, 4.0)
    moved = Bandwidths.of(rows + 1024.0, 10, 4.0)
    np.testing.assert_allclose(moved.precision, widths.precision, rtol=1e-9)
    scaled = Bandwidths.of(8.0 * rows, 10, 4.0)
    np.testing.assert_allclose(64.0 * scaled.precision, widths.precision, rtol=1e-9)
    np.testing.assert_allclose(scaled.log_mass, widths.log_mass, rtol=1e-9, atol=1e-12)
