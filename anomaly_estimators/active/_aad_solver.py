"""The weights of AAD: a convex problem, solved through its dual."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize
from scipy.sparse import csr_array

__all__ = ["DenseRows", "FactoredRows", "Problem", "Rows", "Solution", "objective", "solve"]

# Of the interior-point method; it needs about twenty for hundreds of rows.
_MAX_STEPS = 200
# Of the quasi-Newton method; it needs about a hundred for hundreds of rows.
_MAX_ITERATIONS = 1000
# Corrections that the quasi-Newton method keeps: they cost little beside a product.
_MEMORY = 20
# Shares of the bounds between which the interior-point method starts.
_START = (1e-2, 0.5)
# How much of the way to the nearest bound an interior-point step may go.
_DAMPING = 0.995


class Rows(ABC):
    """Features z of the labelled rows, of which only products are needed."""

    @abstractmethod
    def dot(self, weights: np.ndarray) -> np.ndarray:
        """Score the rows: the product of each with the weights."""

    @abstractmethod
    def combine(self, coefficients: np.ndarray) -> np.ndarray:
        """Sum of the rows, each times its coefficient."""


class DenseRows(Rows):
    """Rows of few features."""

    def __init__(self, values: np.ndarray):
        self.values = values

    def dot(self, weights):
        return self.values @ weights

    def combine(self, coefficients):
        return self.values.T @ coefficients


class FactoredRows(Rows):
    """Rows that lie in a cell of each member of an ensemble, where the cells have many features."""

    def __init__(self, cells: np.ndarray, values: csr_array):
        n_members, n_rows = cells.shape
        ends = np.arange(0, n_members * n_rows + 1, n_members)
        lies_in = csr_array(
            (np.ones(cells.size), cells.T.ravel(), ends), shape=(n_rows, values.shape[0])
        )
        self._lies_in, self._values = lies_in, values
        # Made once: each costs as much as a product.
        self._holds, self._features = lies_in.T, values.T

    def dot(self, weights):
        return self._lies_in @ (self._values @ weights)

    def combine(self, coefficients):
        return self._features @ (self._holds @ coefficients)


class Problem(NamedTuple):
    r"""Hinge losses around a quantile, and a prior.

    .. math::

        \min_w \; \sum_i c_i \max(0, m + s_i (q - \langle w, z_i \rangle))
        + \sum_i d_i \max(0, m + s_i \langle w, z_\tau - z_i \rangle)
        + \lambda \lVert w - w_0 \rVert^2

    with :math:`s_i = 1` for anomalies, which are to score above the quantile, and :math:`-1` for normal
    rows.
    """

    rows: Rows
    signs: np.ndarray  # (n,), s
    quantile: float  # q
    reference: np.ndarray  # (n_weights,), z_tau
    margin: float  # m
    prior: np.ndarray  # (n_weights,), w_0
    quantile_costs: np.ndarray  # (n,), c
    reference_costs: np.ndarray  # (n,), d
    influence: float  # lambda


class Solution(NamedTuple):
    """Weights, and how good they are."""

    weights: np.ndarray
    objective: float
    gap: float  # the objective is at most so far above the lowest one
    n_iter: int
    converged: bool


def objective(problem: Problem, weights: np.ndarray) -> float:
    """Value of what is to be minimised."""
    over, beside = _violations(problem, weights)
    change = weights - problem.prior
    return float(
        problem.quantile_costs @ np.maximum(over, 0)
        + problem.reference_costs @ np.maximum(beside, 0)
        + problem.influence * (change @ change)
    )


def solve(problem: Problem, tol: float) -> Solution:
    r"""Solve the problem through its dual, a quadratic programme with bounds alone.

    With multipliers :math:`0 \le a_i \le c_i` and :math:`0 \le b_i \le d_i` of the two losses, the
    weights are :math:`w = w_0 + v / 2 \lambda`, where
    :math:`v = \sum_i s_i (a_i + b_i) z_i - \sum_i s_i b_i z_\tau`, and the dual is

    .. math::

        \max_{a, b} \; m \sum_i (a_i + b_i) + q \sum_i s_i a_i - \langle w_0, v \rangle
        - \lVert v \rVert^2 / 4 \lambda.

    Rows of few features take an interior-point method, whose steps need a system of as many
    equations as there are features; others the quasi-Newton method of SciPy.

    Parameters
    ----------
    problem : Problem
    tol : float
        Largest gap between the objective and the dual, relative to the objective. It is enough, too,
        if the gap tells that the weights are right to ten times as much of their length.

    Returns
    -------
    Solution

    Examples
    --------
    An anomaly with too low a score moves the weights just as far as it needs.

    >>> problem = Problem(
    ...     rows=DenseRows(np.array([[1.0, 0.0]])), signs=np.array([1.0]), quantile=2.0,
    ...     reference=np.array([0.0, 1.0]), margin=0.0, prior=np.array([1.0, 1.0]),
    ...     quantile_costs=np.array([100.0]), reference_costs=np.array([1.0]), influence=1.0)
    >>> solve(problem, tol=1e-9).weights
    array([2., 1.])
    """
    if not problem.quantile_costs.any() and not problem.reference_costs.any():
        return Solution(problem.prior, 0.0, 0.0, 0, True)
    method = _interior_point if isinstance(problem.rows, DenseRows) else _quasi_newton
    weights, dual, n_iter = method(problem, tol)
    value = objective(problem, weights)
    largest = _largest_gap(value, problem.influence * (weights @ weights), tol)
    return Solution(weights, value, value - dual, n_iter, value - dual <= largest)


def _largest_gap(value: float, square: float, tol: float) -> float:
    """Gap at which a solution is good enough, from the objective and that of the prior at zero."""
    return max(tol * value, (10 * tol) ** 2 * square)


def _violations(problem: Problem, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By how much each row misses the margin to the quantile, and to the row of that rank."""
    scores, signs = problem.rows.dot(weights), problem.signs
    at_reference = problem.reference @ weights
    return (
        problem.margin + signs * (problem.quantile - scores),
        problem.margin + signs * (at_reference - scores),
    )


class _Dual:
    """The dual in units of 2 lambda, in which its quadratic part is half the square of v.

    Its variables are (a, b) / 2 lambda, its value the objective's over 2 lambda.
    """

    def __init__(self, problem: Problem):
        self.problem = problem
        costs = np.concatenate([problem.quantile_costs, problem.reference_costs])
        self.unit = 2 * problem.influence
        self.upper = costs / self.unit
        self.linear = np.concatenate(_violations(problem, problem.prior))

    def direction(self, x: np.ndarray) -> np.ndarray:
        """Return v, by which the weights differ from the prior."""
        (a, b), signs = np.split(x, 2), self.problem.signs
        return self.problem.rows.combine(signs * (a + b)) - (signs @ b) * self.problem.reference

    def products(self, v: np.ndarray) -> np.ndarray:
        """Return the derivative of the product of v and ``direction(x)`` by x."""
        scores = self.problem.rows.dot(v)
        signs = self.problem.signs
        return np.concatenate([signs * scores, signs * (scores - self.problem.reference @ v)])

    def values(self, x: np.ndarray, v: np.ndarray, violations: np.ndarray) -> tuple[float, float]:
        """Return the objective and the dual."""
        square = 0.5 * (v @ v)
        return self.upper @ np.maximum(violations, 0) + square, self.linear @ x - square

    def largest_gap(self, primal: float, v: np.ndarray, tol: float) -> float:
        weights = self.problem.prior + v
        return _largest_gap(primal, 0.5 * (weights @ weights), tol)


def _quasi_newton(problem: Problem, tol: float) -> tuple[np.ndarray, float, int]:
    dual = _Dual(problem)
    # In units in which the curvature is about one: the rows are about as long as the reference.
    length = max(float(np.linalg.norm(problem.reference)), np.finfo(float).tiny)
    upper = dual.upper * length
    best = [np.inf, problem.prior]  # the objective falls in leaps, not at every step
    largest = 0.0

    def negative_and_gradient(x):
        nonlocal largest
        v = dual.direction(x / length)
        violations = dual.linear - dual.products(v)
        primal, value = dual.values(x / length, v, violations)
        if primal < best[0]:
            best[:] = primal, problem.prior + v
            largest = dual.largest_gap(primal, v, tol)
        return -value, -violations / length

    def is_close(negative):
        return best[0] + negative <= largest

    def stop_when_close(intermediate_result):
        if is_close(intermediate_result.fun):
            raise StopIteration

    x, value, n_iter = np.zeros(len(upper)), np.inf, 0
    # SciPy's method gives up where a line search fails; from there, a new start finds its way.
    while n_iter < _MAX_ITERATIONS:
        result = minimize(
            negative_and_gradient,
            x,
            jac=True,
            method="L-BFGS-B",
            bounds=np.stack([np.zeros(len(upper)), upper], axis=1),
            callback=stop_when_close,
            options={
                "maxcor": _MEMORY,
                "maxiter": _MAX_ITERATIONS - n_iter,
                "maxfun": 2 * _MAX_ITERATIONS,
                "ftol": 0.0,
                "gtol": 0.0,
            },
        )
        n_iter += max(result.nit, 1)
        stuck = result.fun >= value
        x, value = result.x, min(value, result.fun)
        if stuck or is_close(value):
            break
    return best[1], -value * dual.unit, n_iter


class _Point(NamedTuple):
    """Where the interior-point method stands: inside of all bounds."""

    x: np.ndarray
    room: np.ndarray  # to the upper bound
    low: np.ndarray  # multipliers of the lower bounds
    high: np.ndarray  # multipliers of the upper bounds
    v: np.ndarray
    gradient: np.ndarray


def _interior_point(problem: Problem, tol: float) -> tuple[np.ndarray, float, int]:
    """Mehrotra's predictor and corrector, for bounds on both sides."""
    dual = _Dual(problem)
    # A loss without a cost has no multiplier, but the inside of its bounds must not be empty.
    upper = np.maximum(dual.upper, 1e-12 * dual.upper.max())

    def place(x, low, high):
        v = dual.direction(x)
        return _Point(x, upper - x, low, high, v, dual.products(v) - dual.linear)

    # Along the diagonal of the bounds, as far as the dual rises: at its middle v can be enormous.
    v = dual.direction(upper)
    share = np.clip(dual.linear @ upper / max(v @ v, np.finfo(float).tiny), *_START)
    x, gradient = share * upper, share * dual.products(v) - dual.linear
    product = np.mean(np.abs(gradient) * x) + np.finfo(float).tiny
    low, high = (np.maximum(g, 0) + product / z for g, z in ((gradient, x), (-gradient, upper - x)))
    at = place(x, low, high)
    for n_steps in range(_MAX_STEPS + 1):
        primal, value = dual.values(at.x, at.v, -at.gradient)
        if primal - value <= dual.largest_gap(primal, at.v, tol) or n_steps == _MAX_STEPS:
            break
        step = _NewtonSystem(dual, at)
        dx, d_low, d_high = step.solve(-at.x * at.low, -at.room * at.high)
        far, far_dual = _reaches(at, dx, d_low, d_high)
        before = at.x @ at.low + at.room @ at.high
        after = (at.x + far * dx) @ (at.low + far_dual * d_low)
        after += (at.room - far * dx) @ (at.high + far_dual * d_high)
        centre = (after / before) ** 3 * before / (2 * len(upper))
        dx, d_low, d_high = step.solve(
            centre - at.x * at.low - dx * d_low, centre - at.room * at.high + dx * d_high
        )
        # The same for both: the multipliers depend on the values.
        far = _DAMPING * min(_reaches(at, dx, d_low, d_high))
        at = place(at.x + far * dx, at.low + far * d_low, at.high + far * d_high)
    return problem.prior + at.v, value * dual.unit, n_steps


class _NewtonSystem:
    """The linear system of a step, factorised by the formula of Woodbury."""

    def __init__(self, dual: _Dual, at: _Point):
        self.dual, self.at = dual, at
        self.diagonal = at.low / at.x + at.high / at.room
        z, reference = dual.problem.rows.values, dual.problem.reference
        a, b = np.split(1 / self.diagonal, 2)
        weighted = z * np.sqrt(a + b)[:, None]
        mixed = np.outer(z.T @ b, reference)
        system = weighted.T @ weighted + b.sum() * np.outer(reference, reference) - mixed - mixed.T
        system[np.diag_indices(len(system))] += 1
        self.factor = cho_factor(system, overwrite_a=True, check_finite=False)

    def solve(self, x_low, room_high):
        """Step that changes the products of the values and their multipliers by so much."""
        at = self.at
        residual = at.gradient - at.low + at.high
        scaled = (x_low / at.x - room_high / at.room - residual) / self.diagonal
        inner = cho_solve(self.factor, self.dual.direction(scaled), check_finite=False)
        dx = scaled - self.dual.products(inner) / self.diagonal
        return dx, (x_low - at.low * dx) / at.x, (room_high + at.high * dx) / at.room


def _reaches(at: _Point, dx, d_low, d_high) -> tuple[float, float]:
    """Shares of a step, at most 1, at which the first value and the first multiplier get to zero."""
    return (
        min(_reach(at.x, dx), _reach(at.room, -dx)),
        min(_reach(at.low, d_low), _reach(at.high, d_high)),
    )


def _reach(values: np.ndarray, steps: np.ndarray) -> float:
    """Share of the step, at most 1, at which the first value gets to zero."""
    down = steps < 0
    return float(min(1.0, np.min(-values[down] / steps[down], initial=1.0)))
