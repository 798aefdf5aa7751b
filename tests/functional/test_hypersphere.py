"""Deep SVDD's and Deep SAD's equations by the papers' own arithmetic."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import minimize_scalar

from anomaly_estimators.functional.hypersphere import (
    ANOMALY_EPS,
    CENTER_MARGIN,
    hypersphere_center,
    mean_squared_distance,
    one_class_loss,
    optimal_radius,
    semi_supervised_loss,
    soft_boundary_loss,
    squared_distance,
)

quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)
sizes = st.integers(1, 40)
shares = st.one_of(st.floats(0.01, 1.0), st.sampled_from([0.1, 0.25, 0.5, 1 / 3, 0.29, 1.0]))


def codes(n, d=3, seed=0):
    """Codes, a centre and labels of all three kinds."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(size=d), rng.integers(-1, 2, size=n)


def squared_norms(Z, c):
    return np.array([sum((z - centre) ** 2 for z, centre in zip(row, c, strict=True)) for row in Z])


# Distances, eq 3 and eq 4


@quick
@given(sizes, st.integers(1, 6), st.integers(0, 99))
def test_distance_and_one_class_objective_are_equations_4_and_3(n, d, seed):
    Z, c, _ = codes(n, d, seed)
    distances = squared_distance(torch.from_numpy(Z), torch.from_numpy(c))
    expected = squared_norms(Z, c)
    np.testing.assert_allclose(distances, expected, rtol=1e-12)
    np.testing.assert_allclose(distances.sqrt(), np.linalg.norm(Z - c, axis=1), rtol=1e-12)
    assert one_class_loss(distances).item() == pytest.approx(expected.sum() / n, rel=1e-12)


# Eq 8


@quick
@given(sizes, st.integers(0, 99), st.floats(1e-3, 1e3))
def test_semi_supervised_objective_is_equation_8(n, seed, eta):
    Z, c, y = codes(n, seed=seed)
    unlabelled, labelled = Z[y == 0], [*zip(Z[y != 0], y[y != 0], strict=True)]
    expected = sum(np.sum((z - c) ** 2) for z in unlabelled) / n
    for z, sign in labelled:
        distance = np.sum((z - c) ** 2)
        expected += eta / n * (1.0 / (distance + 1e-6) if sign == -1 else distance)
    distances = squared_distance(torch.from_numpy(Z), torch.from_numpy(c))
    for labels in (torch.from_numpy(y), torch.from_numpy(y.astype(np.int8))):
        loss = semi_supervised_loss(distances, labels, eta)
        assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_epsilon_is_the_papers_and_can_be_another():
    assert ANOMALY_EPS == 1e-6
    distances, labels = torch.tensor([0.5]), torch.tensor([-1])
    assert semi_supervised_loss(distances, labels, 3.0, eps=0.0).item() == 6.0
    assert semi_supervised_loss(distances, labels, 3.0, eps=1.0).item() == 2.0


def test_weight_moves_the_labelled_part_alone():
    Z, c, y = codes(30)
    distances = squared_distance(torch.from_numpy(Z), torch.from_numpy(c))
    labels = torch.from_numpy(y)
    one, two, five = (semi_supervised_loss(distances, labels, eta) for eta in (1.0, 2.0, 5.0))
    unlabelled = distances[labels == 0].sum() / 30
    torch.testing.assert_close(five - one, 4 * (two - one))
    torch.testing.assert_close(2 * one - two, unlabelled)


def test_gradients_are_those_of_the_formula():
    Z, c, y = codes(20)
    Z, c, y = torch.from_numpy(Z).requires_grad_(), torch.from_numpy(c), torch.from_numpy(y)
    eta = 2.5
    semi_supervised_loss(squared_distance(Z, c), y, eta).backward()
    difference = (Z - c).detach()
    distance = difference.square().sum(1, keepdim=True)
    factor = torch.where(y == 0, 1.0, torch.where(y > 0, eta, 0.0)).unsqueeze(1)
    expected = 2 * factor * difference / 20
    away = -2 * eta * difference / (distance + 1e-6) ** 2 / 20
    expected = torch.where((y < 0).unsqueeze(1), away, expected)
    torch.testing.assert_close(Z.grad, expected)


@quick
@given(
    hnp.arrays(np.float32, st.tuples(sizes, st.just(2)), elements=st.floats(-1e3, 1e3, width=32)),
    st.floats(1e-3, 1e3),
)
def test_without_labels_it_is_the_one_class_objective_to_the_bit(Z, eta):
    # Some rows are at the centre itself.
    Z[::3] = 0.5
    results = []
    for loss in (one_class_loss, lambda d: semi_supervised_loss(d, torch.zeros(len(d)), eta)):
        rows = torch.from_numpy(Z.copy()).requires_grad_()
        value = loss(squared_distance(rows, torch.full((2,), 0.5)))
        value.backward()
        results.append((value.detach(), rows.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_at_the_centre_have_finite_losses_and_gradients(dtype):
    Z = torch.zeros(3, 2, dtype=dtype, requires_grad=True)
    distances = squared_distance(Z, torch.zeros(2, dtype=dtype))
    for loss in (
        semi_supervised_loss(distances, torch.tensor([0, 1, -1]), 1.0),
        soft_boundary_loss(distances, 0.5),
    ):
        assert loss.isfinite()
        Z.grad = None
        loss.backward(retain_graph=True)
        assert Z.grad.isfinite().all()
    anomaly = semi_supervised_loss(distances, torch.tensor([-1, -1, -1]), 1.0)
    assert anomaly.item() == pytest.approx(1e6), "bounded by 1 / eps"


def test_anomaly_loss_falls_with_the_distance_and_is_bounded_below():
    distances = torch.logspace(-8, 8, 50, dtype=torch.float64)
    losses = torch.stack(
        [semi_supervised_loss(d[None], torch.tensor([-1]), 1.0) for d in distances]
    )
    assert (losses.diff() < 0).all() and (losses > 0).all()


# Soft boundary


def soft_boundary(distances, radius, nu):
    return radius + np.maximum(0.0, distances - radius).sum() / (nu * len(distances))


def least(distances, nu):
    """Least value over the squared radius: a piecewise linear function has it at a corner."""
    return min(soft_boundary(distances, radius, nu) for radius in [0.0, *distances])


def drawn(n, seed):
    return np.random.default_rng(seed).gamma(1.0, size=n)


@quick
@given(sizes, shares, st.integers(0, 99))
def test_radius_solves_the_soft_boundary_objective(n, nu, seed):
    distances = drawn(n, seed)
    radius = optimal_radius(torch.from_numpy(distances), nu).item()
    value = soft_boundary_loss(torch.from_numpy(distances), nu).item()
    assert value == pytest.approx(soft_boundary(distances, radius, nu), rel=1e-12)
    found = minimize_scalar(
        lambda r: soft_boundary(distances, r, nu),
        bounds=(0.0, distances.max() + 1e-9),
        method="bounded",
        options={"xatol": 1e-10},
    )
    assert value == pytest.approx(least(distances, nu), rel=1e-12)
    assert value <= found.fun * (1 + 1e-12)
    assert value == pytest.approx(found.fun, rel=1e-3)
    # No more than the share is outside, and no smaller sphere does that.
    assert (distances > radius).sum() <= nu * n + 1e-9
    assert (distances >= radius).sum() >= nu * n - 1e-9


@quick
@given(sizes, shares, st.integers(0, 99))
def test_gradient_is_that_of_the_least_objective(n, nu, seed):
    """Of its least value over the radius, which moves with the distances."""
    distances = drawn(n, seed)
    leaf = torch.from_numpy(distances).requires_grad_()
    soft_boundary_loss(leaf, nu).backward()
    gaps = np.diff(np.sort(np.r_[0.0, distances]))
    step = min(1e-6, 0.1 * gaps.min())
    for i in range(n):
        up, down = distances.copy(), distances.copy()
        up[i] += step
        down[i] -= step
        slope = (least(up, nu) - least(down, nu)) / (2 * step)
        assert leaf.grad[i].item() == pytest.approx(slope, abs=1e-4)
    # All distances grown by one amount: the sphere grows by it.
    assert leaf.grad.sum().item() == pytest.approx(1.0)


def test_batch_with_few_rows_has_a_gradient():
    """Also where less than one row may lie outside."""
    distances = torch.tensor([1.0, 4.0, 2.0], requires_grad=True)
    soft_boundary_loss(distances, nu=0.1).backward()
    assert distances.grad.tolist() == [0.0, 1.0, 0.0]


def test_equal_distances_are_their_own_radius():
    distances = torch.full((7,), 3.0)
    for nu in (0.01, 0.5, 1.0):
        assert optimal_radius(distances, nu) == 3.0
        assert soft_boundary_loss(distances, nu) == 3.0


# Centre


def test_centre_is_the_mean_of_all_but_the_known_anomalies():
    Z, _, y = codes(50, d=6)
    Z += 3.0
    center = hypersphere_center([(torch.from_numpy(Z), torch.from_numpy(y))])
    np.testing.assert_allclose(center, Z[y >= 0].mean(axis=0), rtol=1e-12)
    assert not np.allclose(center, Z.mean(axis=0), rtol=1e-3)


@pytest.mark.parametrize("size", [1, 7, 50])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_centre_does_not_depend_on_the_batches(size, dtype):
    Z, _, y = codes(50)
    Z, y = torch.from_numpy(Z).to(dtype), torch.from_numpy(y)
    whole = hypersphere_center([(Z, y)])
    pieces = hypersphere_center(zip(Z.split(size), y.split(size), strict=True))
    assert whole.dtype == pieces.dtype == torch.float64
    torch.testing.assert_close(pieces, whole, rtol=1e-12, atol=1e-12)


@quick
@given(hnp.arrays(np.float64, 5, elements=st.floats(-0.3, 0.3)), st.floats(0.01, 0.2))
def test_coordinates_near_0_are_moved_to_the_margin_on_their_side(mean, margin):
    center = hypersphere_center([(torch.from_numpy(mean[None]), torch.zeros(1))], margin).numpy()
    kept = np.abs(mean) >= margin
    np.testing.assert_array_equal(center[kept], mean[kept])
    moved = np.where(mean[~kept] < 0, -margin, margin)
    np.testing.assert_allclose(center[~kept], moved, rtol=1e-6)


def test_margin_is_the_published_one():
    assert CENTER_MARGIN == 0.1
    center = hypersphere_center([(torch.tensor([[0.0, -0.0, 0.05, -0.05, 2.0]]), torch.zeros(1))])
    assert center.tolist() == pytest.approx([0.1, 0.1, 0.1, -0.1, 2.0])


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("label", [-1, 0, 1])
def test_codes_that_are_not_finite_do_not_move_the_centre(bad, label):
    Z = torch.tensor([[1.0, 2.0], [3.0, 4.0], [bad, 1.0]])
    center = hypersphere_center([(Z, torch.tensor([0, 1, label]))])
    assert center.tolist() == [2.0, 3.0]
    assert hypersphere_center([(Z[2:], torch.tensor([label]))]).isfinite().all()


# The unit of the distances


@pytest.mark.parametrize("size", [1, 7, 50])
def test_unit_is_the_mean_squared_distance_of_all_but_the_known_anomalies(size):
    Z, c, y = codes(50)
    distances = squared_norms(Z, c)
    pieces = zip(
        torch.from_numpy(distances).split(size), torch.from_numpy(y).split(size), strict=True
    )
    unit = mean_squared_distance(pieces)
    assert unit.dtype == torch.float64
    assert unit.item() == pytest.approx(distances[y >= 0].mean(), rel=1e-12)
    assert unit.item() != pytest.approx(distances.mean(), rel=1e-3)


@pytest.mark.parametrize("distance", [0.0, math.inf, math.nan])
def test_unit_that_could_not_be_divided_by_is_1(distance):
    distances = torch.full((3,), distance)
    assert mean_squared_distance([(distances, torch.zeros(3))]) == 1.0
    # That of a known anomaly does not count.
    distances[0] = 2.0
    assert mean_squared_distance([(distances, torch.tensor([0, -1, -1]))]) == 2.0
