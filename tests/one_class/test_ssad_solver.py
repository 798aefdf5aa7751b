"""The solver of SSAD against a general one, and its cache of kernel rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize
from sklearn.metrics.pairwise import pairwise_kernels

from anomaly_estimators.one_class import _kernel_cache, _ssad_block, _ssad_solver
from anomaly_estimators.one_class._kernel_cache import Kernel, KernelRows, weighted_sums
from anomaly_estimators.one_class._ssad_solver import (
    Problem,
    best_levels,
    check_feasible,
    solve,
    start,
)

several = settings(max_examples=60, deadline=None, derandomize=True, database=None)


@st.composite
def problems(draw, max_rows=12):
    """Rows and a problem, feasible or not, over all mixes of labels."""
    n = draw(st.integers(2, max_rows))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    X = rng.normal(size=(n, draw(st.integers(1, 3))))
    if draw(st.booleans()):
        X = X.round()  # duplicated rows
    kinds = np.array(draw(st.lists(st.sampled_from([-1, 0, 1]), min_size=n, max_size=n)))
    return X, Problem(
        kinds=kinds,
        eta_u=draw(st.sampled_from([0.2, 0.5, 1.0, 3.0])),
        eta_l=draw(st.sampled_from([0.3, 1.0, 2.0])),
        kappa=draw(st.sampled_from([0.0, 0.3, 1.0, 2.0])),
    )


class Reference:
    """The problem in the unsigned weights of the paper."""

    def __init__(self, problem):
        self.y = np.where(problem.kinds < 0, -1.0, 1.0)
        self.labelled = (problem.kinds != 0).astype(float)
        self.bounds = np.where(problem.kinds == 0, problem.eta_u, problem.eta_l)
        self.kappa = problem.kappa if self.labelled.any() else 0.0

    def feasible_point(self):
        """Some feasible weights; None if there are none."""
        found = linprog(
            np.zeros(len(self.y)),
            A_ub=-self.labelled[None],
            b_ub=[-self.kappa],
            A_eq=self.y[None],
            b_eq=[1.0],
            bounds=[(0, bound) for bound in self.bounds],
        )
        return found.x if found.status == 0 else None

    def minimum(self, K):
        """Smallest objective, by a general solver."""
        Q = K * np.outer(self.y, self.y)
        return minimize(
            lambda a: 0.5 * a @ Q @ a,
            self.feasible_point(),
            jac=lambda a: Q @ a,
            bounds=[(0, bound) for bound in self.bounds],
            constraints=[
                {"type": "eq", "fun": lambda a: self.y @ a - 1, "jac": lambda a: self.y},
                {
                    "type": "ineq",
                    "fun": lambda a: self.labelled @ a - self.kappa,
                    "jac": lambda a: self.labelled,
                },
            ],
            method="SLSQP",
            options={"maxiter": 500, "ftol": 1e-14},
        ).fun

    def assert_feasible(self, weights):
        a = self.y * weights
        assert (a >= 0).all() and (a <= self.bounds).all()
        assert self.y @ a == pytest.approx(1, abs=1e-10)
        assert self.labelled @ a >= self.kappa - 1e-8
        return a

    def primal(self, K, solution):
        """Objective of the primal at the hyperplane and the margin found."""
        w_phi = K @ solution.weights
        sign = self.y * self.labelled
        # y f(x) >= y rho + margin - slack for labelled rows, f(x) >= rho - slack for the others
        level = np.where(
            self.labelled > 0,
            self.y * solution.rho + solution.margin,
            solution.rho,
        )
        slack = np.maximum(0, level - np.where(self.labelled > 0, sign * w_phi, w_phi))
        return (
            0.5 * solution.weights @ w_phi
            - solution.rho
            - self.kappa * solution.margin
            + self.bounds @ slack
        )


def kernel_rows(X, kernel=None, cache_size=10):
    return KernelRows(X, kernel or Kernel("rbf", gamma=0.5), cache_size)


def matrix(X, kernel):
    return kernel(kernel.prepare(X), kernel.prepare(X))


@several
@given(problems())
def test_feasible_problems_are_told_from_others(case):
    _, problem = case
    if Reference(problem).feasible_point() is None:
        with pytest.raises(ValueError, match="[Rr]aise|lower"):
            check_feasible(problem)
    else:
        check_feasible(problem)


@several
@given(problems(), st.sampled_from(["rbf", "linear", "poly"]))
def test_minimum_is_that_of_a_general_solver(case, kernel):
    X, problem = case
    reference = Reference(problem)
    if reference.feasible_point() is None:
        return
    kernel = Kernel(kernel, gamma=0.5, coef0=1.0, degree=2)
    K = matrix(X, kernel)
    solution = solve(problem, kernel_rows(X, kernel), tol=1e-9, max_iter=100_000)
    assert solution.converged
    reference.assert_feasible(solution.weights)
    objective = 0.5 * solution.weights @ K @ solution.weights
    assert objective <= reference.minimum(K) + 1e-7
    # Equal primal and dual prove the optimum by themselves, and the offset and the margin with it.
    assert reference.primal(K, solution) + objective == pytest.approx(0, abs=1e-6)
    assert solution.margin >= 0
    np.testing.assert_allclose(solution.values, K @ solution.weights, atol=1e-9)


@several
@given(problems(max_rows=40), st.sampled_from([0.1, 1.0, 10.0]))
def test_conditions_of_optimality(case, gamma):
    X, problem = case
    reference = Reference(problem)
    if reference.feasible_point() is None:
        return
    kernel = Kernel("rbf", gamma=gamma)
    solution = solve(problem, kernel_rows(X, kernel), tol=1e-7, max_iter=100_000)
    a = reference.assert_feasible(solution.weights)
    f = matrix(X, kernel) @ solution.weights
    gradient = reference.y * (f - solution.rho) - reference.labelled * solution.margin
    assert (gradient[a == 0] >= -1e-6).all()
    assert (gradient[a == reference.bounds] <= 1e-6).all()
    between = (a > 0) & (a < reference.bounds)
    np.testing.assert_allclose(gradient[between], 0, atol=1e-6)
    assert solution.margin * (reference.labelled @ a - reference.kappa) == pytest.approx(
        0, abs=1e-6
    )


@several
@given(problems())
def test_start_is_feasible(case):
    X, problem = case
    reference = Reference(problem)
    if reference.feasible_point() is not None:
        reference.assert_feasible(start(problem, kernel_rows(X)))


def test_start_needs_few_kernel_rows():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1000, 3))
    unlabelled = Problem(np.zeros(1000, dtype=int), eta_u=1 / 100, eta_l=1.0, kappa=1.0)
    assert np.count_nonzero(start(unlabelled, kernel_rows(X))) == 100
    kinds = rng.permutation(np.repeat([-1, 0, 1], [50, 900, 50]))
    labelled = Problem(kinds, eta_u=1 / 100, eta_l=1.0, kappa=1.0)
    assert np.count_nonzero(start(labelled, kernel_rows(X))) == 1


levels = st.dictionaries(
    st.sampled_from([-1, 0, 1]), st.tuples(st.floats(-5, 5), st.just(0)), min_size=1
)


@several
@given(levels, levels, st.sampled_from([0.0, 1.0]))
def test_levels_violate_the_conditions_least(lowest, highest, slack):
    rho, margin, violation = best_levels(lowest, highest, slack)
    assert margin >= 0 and (slack == 0 or margin == 0)
    worst = max(
        [high - (rho + kind * margin) for kind, (high, _) in highest.items()]
        + [rho + kind * margin - low for kind, (low, _) in lowest.items()]
    )
    # Variables rho, margin and the largest distance.
    rows = [[-1, -kind, -1] for kind in highest] + [[1, kind, -1] for kind in lowest]
    right = [-high for high, _ in highest.values()] + [low for low, _ in lowest.values()]
    best = linprog(
        [0, 0, 1],
        A_ub=rows,
        b_ub=right,
        bounds=[(None, None), (0, 0 if slack else None), (0, None)],
    ).fun
    assert max(worst, 0) == pytest.approx(best, abs=1e-7)
    assert max(violation, 0) / 2 == pytest.approx(best, abs=1e-7)


def larger_problem(n=300, gamma=2.0, eta_u=1.0, seed=0):
    rng = np.random.default_rng(seed)
    kinds = rng.permutation(np.repeat([-1, 0, 1], [n // 10, n - 2 * (n // 10), n // 10]))
    X = rng.normal(size=(n, 3)) + 0.7 * (kinds < 0)[:, None]
    return X, Kernel("rbf", gamma=gamma), Problem(kinds, eta_u=eta_u, eta_l=1.0, kappa=1.0)


@pytest.mark.parametrize("eta_u", [0.02, 1.0])
@pytest.mark.parametrize("gamma", [0.05, 2.0])
def test_blocks_lead_to_the_minimum_of_the_whole(gamma, eta_u, monkeypatch):
    X, kernel, problem = larger_problem(gamma=gamma, eta_u=eta_u)
    whole = solve(problem, kernel_rows(X, kernel), tol=1e-6, max_iter=100_000)
    monkeypatch.setattr(_ssad_solver, "_SMALLEST_BLOCK", 20)
    monkeypatch.setattr(_ssad_solver, "_LARGEST_BLOCK", 40)
    rows = kernel_rows(X, kernel, cache_size=8 * 300 * 25 / 2**20)  # 25 rows
    parts = solve(problem, rows, tol=1e-6, max_iter=100_000)
    assert whole.converged and parts.converged
    np.testing.assert_allclose(parts.values, whole.values, atol=1e-4)
    assert parts.weights @ parts.values == pytest.approx(whole.weights @ whole.values, rel=1e-5)


def test_newton_steps_save_most_of_the_others(monkeypatch):
    X, kernel, problem = larger_problem(gamma=0.3)
    fast = solve(problem, kernel_rows(X, kernel), tol=1e-8, max_iter=100_000)
    monkeypatch.setattr(_ssad_block.Block, "_newton", lambda self, max_steps: 0)
    slow = solve(problem, kernel_rows(X, kernel), tol=1e-8, max_iter=100_000)
    np.testing.assert_allclose(fast.values, slow.values, atol=1e-6)
    assert fast.n_iter < slow.n_iter / 3


def random_block(seed, kappa=0.5):
    """Twelve rows with weights between their bounds and twice kappa as labelled mass."""
    rng = np.random.default_rng(seed)
    kinds = np.repeat([-1, 0, 1], 4)
    X = rng.normal(size=(12, 3))
    K = matrix(X, Kernel("rbf", gamma=1.0))
    weights = np.repeat([-kappa / 4, 1 / 4, kappa / 4], 4)
    lower, upper = np.repeat([-1.0, 0.0, 0.0], 4), np.repeat([0.0, 1.0, 1.0], 4)
    return _ssad_block.Block(K, K @ weights, weights, lower, upper, kinds, slack=kappa)


def assert_consistent(block, kappa=0.5):
    assert block.weights.sum() == pytest.approx(1)
    assert (block.weights >= block.lower).all() and (block.weights <= block.upper).all()
    np.testing.assert_allclose(block.values, block.K @ block.weights, atol=1e-12)
    mass = np.abs(block.weights)[np.r_[:4, 8:12]].sum()
    assert block.slack == pytest.approx(mass - kappa, abs=1e-12)
    assert block.slack >= 0


def test_newton_steps_keep_the_constraints():
    at_bound, no_slack = 0, set()
    for seed in range(60):
        block = random_block(seed)
        before = block.weights @ block.values
        assert block._newton(40) >= 1
        assert_consistent(block)
        assert block.weights @ block.values < before
        at_bound += np.count_nonzero(
            (block.weights == block.lower) | (block.weights == block.upper)
        )
        no_slack.add(block.slack == 0)
    # Weights have reached their bounds, and in some blocks the labelled mass has reached its own.
    assert at_bound > 0
    assert no_slack == {True, False}


def test_newton_steps_that_do_not_help_are_not_taken(monkeypatch):
    def too_small(self, free):
        return 1e-4 * np.eye(len(free), order="F")

    monkeypatch.setattr(_ssad_block.Block, "_factorise", too_small)
    refused = 0
    for seed in range(60):
        block = random_block(seed)
        weights, objective = block.weights.copy(), block.weights @ block.values
        block._newton(40)
        assert_consistent(block)
        assert block.weights @ block.values <= objective
        refused += np.array_equal(block.weights, weights)
    assert refused > 0


@pytest.mark.parametrize("seed", range(5))
def test_moves_keep_the_constraints(seed):
    block = random_block(seed)
    objective = block.weights @ block.values
    for _ in range(30):
        if block.solve(1e-9, 1) == 0:
            break
        assert_consistent(block)
        assert block.weights @ block.values <= objective
        objective = block.weights @ block.values


def test_a_problem_solved_has_no_steps_left():
    """All weights are at their bounds, where they must be: n times eta_u is 1."""
    X = np.random.default_rng(0).normal(size=(50, 2))
    problem = Problem(np.zeros(50, dtype=int), eta_u=1 / 50, eta_l=1.0, kappa=1.0)
    solution = solve(problem, kernel_rows(X), tol=1e-4, max_iter=10)
    assert solution.converged and solution.n_iter == 0
    np.testing.assert_allclose(solution.weights, 1 / 50)


def test_limit_on_the_steps_is_kept():
    X, kernel, problem = larger_problem()
    for max_iter in (1, 7, 100):
        solution = solve(problem, kernel_rows(X, kernel), tol=1e-9, max_iter=max_iter)
        assert not solution.converged
        assert solution.n_iter == max_iter
        Reference(problem).assert_feasible(solution.weights)


def test_more_steps_never_raise_the_objective():
    X, kernel, problem = larger_problem(n=100)
    K = matrix(X, kernel)
    objectives = []
    for max_iter in range(1, 400, 7):
        weights = solve(problem, kernel_rows(X, kernel), tol=1e-9, max_iter=max_iter).weights
        objectives.append(weights @ K @ weights)
    assert (np.diff(objectives) <= 1e-12).all()
    assert objectives[-1] < 0.9 * objectives[0]


@pytest.mark.parametrize("eta_u", [0.05, 1.0])
def test_indefinite_kernel_comes_to_an_end(eta_u):
    X, _, problem = larger_problem(n=120, eta_u=eta_u)
    kernel = Kernel("sigmoid", gamma=2.0, coef0=-1.0)
    assert np.linalg.eigvalsh(matrix(X, kernel))[0] < -1
    solution = solve(problem, kernel_rows(X, kernel), tol=1e-4, max_iter=20_000)
    assert solution.converged
    Reference(problem).assert_feasible(solution.weights)


def test_kernel_that_overflows_is_refused():
    X = 1e200 * np.random.default_rng(0).normal(size=(20, 2))
    problem = Problem(np.zeros(20, dtype=int), eta_u=1.0, eta_l=1.0, kappa=1.0)
    with pytest.raises(ValueError, match="scale the rows"), np.errstate(all="ignore"):
        solve(problem, kernel_rows(X, Kernel("linear")), tol=1e-4, max_iter=10)


# Kernels


@pytest.mark.parametrize("name", ["rbf", "linear", "poly", "sigmoid"])
def test_kernels_are_those_of_scikit_learn(name):
    rng = np.random.default_rng(0)
    A, B = rng.normal(size=(7, 3)), rng.normal(size=(5, 3))
    params = {"gamma": 0.3, "degree": 2, "coef0": 0.5}
    kernel = Kernel(name, origin=np.array([1.0, 2.0, 3.0]), **params)
    expected = pairwise_kernels(A, B, metric=name, filter_params=True, **params)
    np.testing.assert_allclose(kernel(kernel.prepare(A), kernel.prepare(B)), expected, rtol=1e-12)


def test_rbf_kernel_keeps_its_digits_far_from_zero():
    rows = np.random.default_rng(0).normal(size=(20, 3))
    kernel = Kernel("rbf", gamma=0.5)
    far = Kernel("rbf", gamma=0.5, origin=np.full(3, 2.0**26))
    np.testing.assert_allclose(matrix(rows + 2.0**26, far), matrix(rows, kernel), rtol=1e-6)


def test_rbf_kernel_of_rows_at_any_distance():
    kernel = Kernel("rbf", gamma=0.5)
    rows = np.array([[0.0, 0.0], [1e200, -1e308], [1e8, 0.0]])
    values = kernel(kernel.prepare(rows), kernel.prepare(np.zeros((1, 2))))
    np.testing.assert_array_equal(values[:, 0], [1.0, 0.0, 0.0])
    values = matrix(rows, kernel)
    assert ((values >= 0) & (values <= 1)).all()


def test_sums_in_tiles_are_sums_at_once(monkeypatch):
    rng = np.random.default_rng(0)
    A, B, weights = rng.normal(size=(33, 3)), rng.normal(size=(1100, 3)), rng.normal(size=1100)
    kernel = Kernel("linear")
    monkeypatch.setattr(_kernel_cache, "_TILE_VALUES", 4096)
    np.testing.assert_allclose(weighted_sums(kernel, A, B, weights), A @ B.T @ weights)


# Cache


class CountingKernel(Kernel):
    """Linear kernel that knows the largest tile it was asked for."""

    def __init__(self):
        super().__init__("linear")
        self.largest, self.total = 0, 0

    def __call__(self, A, B):
        self.largest = max(self.largest, len(A) * len(B))
        self.total += len(A) * len(B)
        return super().__call__(A, B)


@several
@given(
    slots=st.integers(0, 12),
    calls=st.lists(st.lists(st.integers(0, 9), unique=True, max_size=10), max_size=8),
)
def test_products_do_not_depend_on_what_is_kept(slots, calls):
    X = np.random.default_rng(0).normal(size=(10, 2))
    rows = KernelRows(X, Kernel("linear"), cache_size=slots * 10 * 8 / 2**20)
    sums, expected = np.zeros(10), np.zeros(10)
    for call in calls:
        call = np.array(call, dtype=np.intp)
        weights = np.arange(1.0, len(call) + 1)
        rows.add_product(call, weights, sums)
        expected += weights @ (X[call] @ X.T)
        np.testing.assert_allclose(sums, expected, atol=1e-12)
        np.testing.assert_allclose(rows.block(call), X[call] @ X[call].T, atol=1e-12)


def test_kept_rows_are_not_computed_again_and_the_oldest_goes_first():
    X = np.random.default_rng(0).normal(size=(50, 2))
    kernel = CountingKernel()
    rows = KernelRows(X, kernel, cache_size=3 * 50 * 8 / 2**20)

    def computed(*numbers):
        before = kernel.total
        rows.add_product(np.array(numbers), np.ones(len(numbers)), np.zeros(50))
        return (kernel.total - before) // 50

    assert computed(0, 1, 2) == 3
    assert computed(2, 0) == 0
    assert computed(3) == 1  # takes the place of 1
    assert computed(0, 2, 3) == 0
    assert computed(1) == 1
    assert rows.n_evaluations == kernel.total


def test_memory_of_the_solver_is_bounded(monkeypatch):
    """Neither the cache nor a tile nor a block comes near the matrix of all rows."""
    monkeypatch.setattr(_ssad_solver, "_SMALLEST_BLOCK", 64)
    monkeypatch.setattr(_ssad_solver, "_LARGEST_BLOCK", 64)
    monkeypatch.setattr(_ssad_solver, "_PROBES", 16)
    monkeypatch.setattr(_kernel_cache, "_TILE_VALUES", 2**14)
    n = 4000
    X = np.random.default_rng(0).normal(size=(n, 3)) + 3
    kernel = CountingKernel()
    rows = KernelRows(X, kernel, cache_size=1)
    problem = Problem(np.zeros(n, dtype=int), eta_u=1 / 200, eta_l=1.0, kappa=1.0)
    solution = solve(problem, rows, tol=1e-4, max_iter=10_000)
    assert solution.converged
    assert rows._kept.nbytes <= 2**20
    assert kernel.largest <= 2**15
    # The rows with a weight are needed, and few others: a small part of the n rows.
    assert kernel.total < 0.25 * n**2
