"""The weights of AAD, against general solvers and the conditions of optimality."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import LinearConstraint, minimize
from scipy.sparse import csr_array

from anomaly_estimators.active import _aad_solver
from anomaly_estimators.active._aad_solver import (
    DenseRows,
    FactoredRows,
    Problem,
    objective,
    solve,
)

few = settings(max_examples=40, deadline=None, derandomize=True, database=None)


def make_problem(rows, n_weights, rng, *, margin=0.1, influence=0.05, reference=None):
    n = rows.dot(np.zeros(n_weights)).shape[0]
    signs = np.where(rng.uniform(size=n) < 0.4, 1.0, -1.0)
    reference = rng.normal(size=n_weights) if reference is None else reference
    prior = np.full(n_weights, n_weights**-0.5)
    return Problem(
        rows=rows,
        signs=signs,
        quantile=float(reference @ prior),
        reference=reference,
        margin=margin,
        prior=prior,
        quantile_costs=rng.uniform(0.01, 1, size=n) / n,
        reference_costs=rng.uniform(0.01, 1, size=n) / n,
        influence=influence,
    )


def dense_problem(n=12, n_weights=4, seed=0, **parameters):
    rng = np.random.default_rng(seed)
    return make_problem(DenseRows(rng.normal(size=(n, n_weights))), n_weights, rng, **parameters)


def factored_rows(n=30, n_members=5, n_cells=4, n_weights=11, seed=0):
    """Rows in cells, and what they are when it is all written out."""
    rng = np.random.default_rng(seed)
    cells = rng.integers(n_cells, size=(n_members, n)) + n_cells * np.arange(n_members)[:, None]
    values = rng.normal(size=(n_members * n_cells, n_weights))
    values[rng.uniform(size=values.shape) < 0.5] = 0
    return FactoredRows(cells, csr_array(values)), values[cells].sum(axis=0)


def by_paper(problem, z, weights):
    """The objective, term by term."""
    total = 0.0
    for row, sign, c, d in zip(
        z, problem.signs, problem.quantile_costs, problem.reference_costs, strict=True
    ):
        score, at_reference = row @ weights, problem.reference @ weights
        if sign > 0:
            total += c * max(0.0, problem.margin + problem.quantile - score)
            total += d * max(0.0, problem.margin + at_reference - score)
        else:
            total += c * max(0.0, problem.margin + score - problem.quantile)
            total += d * max(0.0, problem.margin + score - at_reference)
    return total + problem.influence * np.sum((weights - problem.prior) ** 2)


def by_slacks(problem, z):
    """Minimum by a general solver, with a slack for each loss and their inequalities."""
    n, m = z.shape
    signs = problem.signs[:, None]
    costs = np.concatenate([problem.quantile_costs, problem.reference_costs])

    def value(x):
        change = x[:m] - problem.prior
        return costs @ x[m:] + problem.influence * change @ change

    def gradient(x):
        return np.concatenate([2 * problem.influence * (x[:m] - problem.prior), costs])

    # slack + s z w >= margin + s q, and slack + s (z - z_tau) w >= margin
    products = np.vstack([signs * z, signs * (z - problem.reference)])
    lower = problem.margin + np.concatenate([problem.signs * problem.quantile, np.zeros(n)])
    start = np.concatenate([problem.prior, np.maximum(lower - products @ problem.prior, 0) + 1])
    found = minimize(
        value,
        start,
        jac=gradient,
        method="SLSQP",
        bounds=[(None, None)] * m + [(0, None)] * (2 * n),
        constraints=LinearConstraint(np.hstack([products, np.eye(2 * n)]), lower, np.inf),
        options={"maxiter": 1000, "ftol": 1e-12},
    )
    assert found.success, found.message
    return found.x[:m], found.fun


# Rows


def test_factored_rows_are_the_sums_of_their_cells():
    rows, z = factored_rows()
    rng = np.random.default_rng(1)
    weights, coefficients = rng.normal(size=11), rng.normal(size=30)
    np.testing.assert_allclose(rows.dot(weights), z @ weights)
    np.testing.assert_allclose(rows.combine(coefficients), z.T @ coefficients)
    dense = DenseRows(z)
    np.testing.assert_allclose(dense.dot(weights), z @ weights)
    np.testing.assert_allclose(dense.combine(coefficients), z.T @ coefficients)


# The objective


@few
@given(seed=st.integers(0, 1000), margin=st.sampled_from([0.0, 0.3, 2.0]))
def test_objective_is_that_of_the_paper(seed, margin):
    problem = dense_problem(seed=seed, margin=margin)
    weights = np.random.default_rng(seed + 1).normal(size=4)
    assert objective(problem, weights) == pytest.approx(
        by_paper(problem, problem.rows.values, weights)
    )


# The solution


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("margin", [0.0, 0.5])
@pytest.mark.parametrize("influence", [0.01, 1.0])
def test_weights_are_those_of_a_general_solver(seed, margin, influence):
    problem = dense_problem(seed=seed, margin=margin, influence=influence)
    weights, value = by_slacks(problem, problem.rows.values)
    solution = solve(problem, tol=1e-8)
    assert solution.converged
    assert solution.objective == pytest.approx(value, rel=1e-5)
    np.testing.assert_allclose(solution.weights, weights, atol=2e-3)


@pytest.mark.parametrize("seed", range(5))
def test_rows_of_many_features_are_solved_as_well(seed):
    rows, z = factored_rows(seed=seed)
    problem = make_problem(rows, 11, np.random.default_rng(seed))
    solution = solve(problem, tol=1e-6)
    dense = solve(problem._replace(rows=DenseRows(z)), tol=1e-9)
    _, value = by_slacks(problem, z)
    assert solution.converged and dense.converged
    assert solution.objective == pytest.approx(value, rel=1e-5)
    np.testing.assert_allclose(solution.weights, dense.weights, atol=2e-3)


@few
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 60),
    n_weights=st.integers(1, 8),
    influence=st.sampled_from([1e-4, 1e-2, 1.0, 100.0]),
    factored=st.booleans(),
)
def test_gap_is_an_upper_bound_and_no_weights_near_are_better(
    seed, n, n_weights, influence, factored
):
    rng = np.random.default_rng(seed)
    if factored:
        rows, _ = factored_rows(n=n, n_weights=n_weights, seed=seed)
    else:
        rows = DenseRows(rng.normal(size=(n, n_weights)))
    problem = make_problem(rows, n_weights, rng, influence=influence)
    solution = solve(problem, tol=1e-6)
    assert solution.converged
    assert solution.gap >= -1e-9 * max(1, solution.objective)
    assert solution.objective <= objective(problem, problem.prior) + 1e-12
    for size in (1e-3, 1e-1, 1.0):
        near = solution.weights + size * rng.normal(size=n_weights)
        assert objective(problem, near) >= solution.objective - max(solution.gap, 0) - 1e-12


def test_one_violated_row_moves_the_weights_towards_it():
    # By hand: the first row's cost is enough to lift it to the quantile and no more.
    problem = Problem(
        rows=DenseRows(np.array([[1.0, 0.0], [0.0, 1.0]])),
        signs=np.array([1.0, -1.0]),
        quantile=1.5,
        reference=np.zeros(2),
        margin=0.0,
        prior=np.array([1.0, -1.0]),
        quantile_costs=np.array([10.0, 10.0]),
        reference_costs=np.zeros(2),
        influence=1.0,
    )
    np.testing.assert_allclose(solve(problem, 1e-10).weights, [1.5, -1.0], atol=1e-6)
    # And where it is not, the pull of the loss is balanced by that of the prior.
    cheap = problem._replace(quantile_costs=np.array([0.2, 10.0]))
    np.testing.assert_allclose(solve(cheap, 1e-10).weights, [1.1, -1.0], atol=1e-6)


def test_where_nothing_is_violated_the_prior_stays():
    problem = dense_problem()
    scores = problem.rows.dot(problem.prior)
    fine = problem._replace(signs=np.where(scores > problem.quantile, 1.0, -1.0), margin=0.0)
    solution = solve(fine, 1e-6)
    assert solution.converged
    np.testing.assert_allclose(solution.weights, problem.prior, atol=1e-5)


def test_no_rows_leave_the_prior():
    problem = dense_problem()
    empty = problem._replace(
        rows=DenseRows(np.empty((0, 4))),
        signs=np.empty(0),
        quantile_costs=np.empty(0),
        reference_costs=np.empty(0),
    )
    solution = solve(empty, 1e-6)
    assert solution.converged
    np.testing.assert_array_equal(solution.weights, problem.prior)


def test_without_costs_the_prior_stays():
    problem = dense_problem()
    free = problem._replace(quantile_costs=np.zeros(12), reference_costs=np.zeros(12))
    np.testing.assert_array_equal(solve(free, 1e-6).weights, problem.prior)


def test_a_stronger_prior_keeps_the_weights_nearer():
    far = [
        np.linalg.norm(solution.weights - 0.5)
        for influence in (1e-3, 1e-2, 0.1, 1.0, 10.0)
        for solution in [solve(dense_problem(influence=influence), 1e-8)]
    ]
    assert (np.diff(far) < 0).all()


def test_contradictions_are_solved():
    """The same row as an anomaly and as a normal row."""
    rows, z = factored_rows(n=2, seed=3)
    z = np.repeat(z[:1], 2, axis=0) * 20
    problem = make_problem(DenseRows(z), 11, np.random.default_rng(0))
    problem = problem._replace(signs=np.array([1.0, -1.0]))
    _, value = by_slacks(problem, z)
    assert solve(problem, 1e-8).objective == pytest.approx(value, rel=1e-5)


def test_scale_of_the_rows_makes_no_difference():
    for make in (lambda: DenseRows(factored_rows()[1]), lambda: factored_rows()[0]):
        problem = make_problem(make(), 11, np.random.default_rng(0))
        expected = solve(problem, 1e-8).weights
        for scale in (1e-6, 1e6):
            # Scores grow, and so do the losses; the prior grows with them.
            _, z = factored_rows()
            scaled = problem._replace(
                rows=DenseRows(scale * z) if isinstance(problem.rows, DenseRows) else _times(scale),
                quantile=scale * problem.quantile,
                reference=scale * problem.reference,
                margin=scale * problem.margin,
                influence=scale * problem.influence,
            )
            np.testing.assert_allclose(solve(scaled, 1e-8).weights, expected, atol=1e-3)


def _times(scale):
    rng = np.random.default_rng(0)
    cells = rng.integers(4, size=(5, 30)) + 4 * np.arange(5)[:, None]
    values = rng.normal(size=(20, 11))
    values[rng.uniform(size=values.shape) < 0.5] = 0
    return FactoredRows(cells, csr_array(scale * values))


def test_what_is_not_finished_says_so(monkeypatch):
    monkeypatch.setattr(_aad_solver, "_MAX_STEPS", 2)
    monkeypatch.setattr(_aad_solver, "_MAX_ITERATIONS", 2)
    for rows in (DenseRows(factored_rows()[1]), factored_rows()[0]):
        solution = solve(make_problem(rows, 11, np.random.default_rng(0), influence=1e-4), 1e-6)
        assert not solution.converged and solution.n_iter <= 2
        assert solution.gap > 0 and np.isfinite(solution.weights).all()
