"""Deep clustering network: the equations by the paper's own arithmetic, row by row."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from anomaly_estimators.functional.clustering import (
    center_distance,
    clustering_loss,
    initial_centers,
    nearest_center,
    updated_centers,
)

quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)
sizes = st.integers(1, 30)
clusters = st.integers(1, 7)
widths = st.integers(1, 5)
seeds = st.integers(0, 99)


def draw(n, k, d, seed):
    """Codes and centres in float64, as NumPy arrays."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(size=(k, d))


def nearest(z, centers):
    return min(range(len(centers)), key=lambda k: sum((z - centers[k]) ** 2))


def tensors(*arrays):
    return tuple(torch.from_numpy(array) for array in arrays)


# Assignments and distances


@quick
@given(sizes, clusters, widths, seeds)
def test_code_belongs_to_the_nearest_centre(n, k, d, seed):
    Z, M = draw(n, k, d, seed)
    own = [nearest(z, M) for z in Z]
    assigned = nearest_center(*tensors(Z, M))
    assert assigned.dtype == torch.int64
    assert assigned.tolist() == own
    expected = [np.sqrt(sum((z - M[s]) ** 2)) for z, s in zip(Z, own, strict=True)]
    np.testing.assert_allclose(center_distance(*tensors(Z, M)), expected, rtol=1e-12)


@quick
@given(st.integers(2, 200), clusters, widths, seeds)
def test_code_alone_belongs_where_it_does_among_others(n, k, d, seed):
    # Far from 0 and close together: by way of inner products the distances would be rounding.
    Z, M = (1e6 + 1e-3 * array for array in draw(n, k, d, seed))
    own = [nearest(z, M) for z in Z]
    Z, M = tensors(Z, M)
    whole = nearest_center(Z, M)
    assert whole.tolist() == own
    alone = torch.cat([nearest_center(z[None], M) for z in Z])
    assert torch.equal(whole, alone)
    torch.testing.assert_close(
        center_distance(Z, M), torch.cat([center_distance(z[None], M) for z in Z]), rtol=0, atol=0
    )


def test_first_of_equally_near_centres_is_taken():
    M = torch.tensor([[1.0], [1.0], [-1.0]])
    assert nearest_center(torch.tensor([[1.0], [0.0], [-1.0]]), M).tolist() == [0, 0, 2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_distance_has_the_type_of_the_codes(dtype):
    Z, M = torch.ones(3, 2, dtype=dtype), torch.zeros(2, 2, dtype=dtype)
    assert center_distance(Z, M).dtype == dtype


# Loss


@quick
@given(sizes, clusters, widths, seeds, st.floats(0, 100))
def test_loss_is_error_and_half_the_weighted_squared_distance(n, k, d, seed, weight):
    Z, M = draw(n, k, d, seed)
    rng = np.random.default_rng(seed + 1)
    X, decoded = rng.normal(size=(n, 4)), rng.normal(size=(n, 4))
    total = 0.0
    for x, rebuilt, z in zip(X, decoded, Z, strict=True):
        own = M[nearest(z, M)]
        total += np.linalg.norm(x - rebuilt) ** 2 + weight / 2 * np.linalg.norm(z - own) ** 2
    loss = clustering_loss(*tensors(Z, decoded, X, M), weight)
    assert loss.item() == pytest.approx(total / n, rel=1e-10)


def test_gradient_reaches_codes_and_reconstruction_but_no_centre():
    Z, M = tensors(*draw(6, 3, 2, 0))
    X, decoded = tensors(*draw(6, 6, 4, 1))
    for tensor in (Z, M, decoded):
        tensor.requires_grad_()
    clustering_loss(Z, decoded, X, M, 0.7).backward()
    assert M.grad is None
    own = M.detach()[nearest_center(Z, M)]
    torch.testing.assert_close(Z.grad, 0.7 * (Z - own).detach() / 6)
    torch.testing.assert_close(decoded.grad, 2 * (decoded - X).detach() / 6)


# Centres


def row_by_row(M, counts, Z):
    """The paper's update: the assignments as they were at first, then one code after the other."""
    own = [nearest(z, M) for z in Z]
    M, counts = M.copy(), counts.copy()
    for z, k in zip(Z, own, strict=True):
        counts[k] += 1
        M[k] = M[k] - (M[k] - z) / counts[k]
    return M, counts


@quick
@given(sizes, clusters, widths, seeds, st.integers(0, 1000))
def test_update_of_a_batch_is_that_of_its_rows(n, k, d, seed, most):
    Z, M = draw(n, k, d, seed)
    counts = np.random.default_rng(seed).integers(0, most + 1, size=k)
    expected, expected_counts = row_by_row(M, counts, Z)
    centers, new_counts = updated_centers(*tensors(M, counts, Z))
    np.testing.assert_allclose(centers, expected, rtol=1e-10, atol=1e-12)
    assert new_counts.dtype == torch.int64
    assert new_counts.tolist() == expected_counts.tolist()
    assert new_counts.sum() == counts.sum() + n


@quick
@given(st.lists(sizes, min_size=1, max_size=6), widths, seeds)
def test_centre_is_the_mean_of_all_codes_ever_assigned(batches, d, seed):
    rng = np.random.default_rng(seed)
    M, counts = torch.from_numpy(rng.normal(size=(3, d))), torch.zeros(3, dtype=torch.int64)
    members = [[], [], []]
    for n in batches:
        Z = torch.from_numpy(rng.normal(size=(n, d)))
        for z, k in zip(Z, nearest_center(Z, M), strict=True):
            members[k].append(z)
        before = M
        M, counts = updated_centers(M, counts, Z)
    assert counts.tolist() == [len(codes) for codes in members]
    for k, codes in enumerate(members):
        if codes:
            torch.testing.assert_close(M[k], torch.stack(codes).mean(dim=0))
        else:
            assert torch.equal(M[k], before[k])


def test_update_leaves_its_arguments_alone_and_centres_without_codes_where_they_are():
    M, counts = torch.tensor([[0.0], [5.0]]), torch.tensor([0, 0])
    centers, new_counts = updated_centers(M, counts, torch.tensor([[1.0], [2.0]]))
    assert centers.tolist() == [[1.5], [5.0]] and new_counts.tolist() == [2, 0]
    assert M.tolist() == [[0.0], [5.0]] and counts.tolist() == [0, 0]
    assert centers.dtype == torch.float32


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_codes_that_are_not_finite_move_no_centre(bad):
    M, counts = torch.tensor([[0.0, 0.0], [5.0, 5.0]]), torch.tensor([1, 1])
    Z = torch.tensor([[1.0, 1.0], [bad, 0.0], [0.0, bad]])
    centers, new_counts = updated_centers(M, counts, Z)
    assert centers.tolist() == [[0.5, 0.5], [5.0, 5.0]] and new_counts.tolist() == [2, 1]
    centers, new_counts = updated_centers(M, counts, Z[1:])
    assert torch.equal(centers, M) and torch.equal(new_counts, counts)


def test_large_counts_lose_nothing_in_single_precision():
    M, counts = torch.full((1, 1), 1000.0), torch.tensor([10**6])
    for _ in range(10):
        M, counts = updated_centers(M, counts, torch.full((1000, 1), 2000.0))
    expected = (1e6 * 1000 + 1e4 * 2000) / (1e6 + 1e4)
    assert M.item() == pytest.approx(expected, rel=1e-6)


# The start


def blobs(n=60, seed=0):
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % 3
    return torch.from_numpy(10.0 * np.eye(3)[truth] + rng.normal(size=(n, 3))), truth


def test_start_is_that_of_k_means():
    Z, truth = blobs()
    centers, counts = initial_centers(Z, 3, n_init=3, seed=5)
    kmeans = KMeans(3, n_init=3, random_state=5).fit(Z.numpy())
    np.testing.assert_allclose(centers, kmeans.cluster_centers_, rtol=1e-10)
    assert counts.tolist() == np.bincount(kmeans.labels_).tolist()
    assert adjusted_rand_score(nearest_center(Z, centers), truth) == 1.0


def test_start_is_the_means_of_its_clusters():
    # So many that k-means ends by its tolerance, a little before its centres are means.
    Z = torch.from_numpy(np.random.default_rng(0).random((3000, 2)))
    centers, counts = initial_centers(Z, 9, n_init=1, seed=0)
    sums = (centers * counts[:, None]).sum(dim=0)
    torch.testing.assert_close(sums, Z.sum(dim=0), rtol=1e-10, atol=0)
    assert counts.sum() == 3000 and centers.dtype == torch.float64


def test_more_runs_find_a_start_that_is_no_worse():
    Z = torch.from_numpy(np.random.default_rng(0).normal(size=(80, 2)))
    spread = [
        center_distance(Z, initial_centers(Z, 9, n_init=n, seed=0)[0]).square().sum()
        for n in (1, 20)
    ]
    assert spread[1] < spread[0]


def test_filters_of_warnings_which_all_threads_share_are_not_touched(monkeypatch):
    seen = []

    class Watched(KMeans):
        def fit(self, *args, **kwargs):
            seen.append(list(warnings.filters))
            return super().fit(*args, **kwargs)

    monkeypatch.setattr("anomaly_estimators.functional.clustering.KMeans", Watched)
    initial_centers(torch.zeros(4, 2), 3, n_init=1, seed=0)
    assert seen == [list(warnings.filters)]


@pytest.mark.parametrize("distinct", [1, 2, 3])
def test_fewer_distinct_codes_than_clusters(distinct):
    Z = torch.arange(12.0)[:, None] % distinct
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        centers, counts = initial_centers(Z, 5, n_init=2, seed=0)
    assert centers.shape == (5, 1) and centers.isfinite().all()
    assert counts.sum() == 12 and (counts > 0).sum() == distinct
    assert set(centers.ravel().tolist()) == set(range(distinct))
    moved, _ = updated_centers(centers, counts, Z.double())
    torch.testing.assert_close(moved, centers)


def test_codes_that_are_not_finite_are_left_out_of_the_start():
    Z = torch.tensor([[1.0], [torch.nan], [3.0], [torch.inf]])
    centers, counts = initial_centers(Z, 2, n_init=1, seed=0)
    assert sorted(centers.ravel().tolist()) == [1.0, 3.0] and counts.tolist() == [1, 1]
    # Fewer than clusters, and none.
    centers, counts = initial_centers(Z[:2], 3, n_init=1, seed=0)
    assert centers.ravel().tolist() == [1.0] * 3 and counts.tolist() == [1, 0, 0]
    centers, counts = initial_centers(Z[1:2], 3, n_init=1, seed=0)
    assert centers.ravel().tolist() == [0.0] * 3 and counts.tolist() == [0, 0, 0]
