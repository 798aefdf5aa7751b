"""The dual of convex SSAD, solved in blocks of rows without the kernel matrix as a whole.

With the signed weights ``b_i = y_i a_i`` of the dual, and ``values_i = sum_j b_j k(x_i, x_j)``, the
problem is

    minimise    sum_ij b_i b_j k(x_i, x_j) / 2
    subject to  sum_i b_i = 1,    lower_i <= b_i <= upper_i,    sum_i kind_i b_i >= kappa,

where kind is +1 for known normal rows, 0 for unlabelled rows and -1 for known anomalies, whose weights
are negative. A solution has a level for each kind, ``rho + kind * margin`` with ``margin >= 0``, so that
the value of a row is at least its level where its weight could rise, and at most its level where
its weight could fall. The margin is 0 where the labelled mass exceeds kappa.
"""

from dataclasses import dataclass

import numpy as np

from anomaly_estimators.one_class._kernel_cache import KernelRows
from anomaly_estimators.one_class._ssad_block import Block

__all__ = ["Problem", "Solution", "best_levels", "check_feasible", "solve"]

# Rows in a block at least, if there are as many, and at most.
_SMALLEST_BLOCK = 512
_LARGEST_BLOCK = 2048
# Each block is solved to this share of the violation that it was chosen for.
_BLOCK_ACCURACY = 0.1
# Violation that rounding may leave, as a share of the kernel values.
_PRECISION = 1e-12
# Sums of weights are equal if they differ by less, relative to them.
_ROUNDING = 1e-9
# Rows by which the start tells dense from sparse regions.
_PROBES = 256


@dataclass(frozen=True)
class Problem:
    """Bounds and labels of the dual.

    Parameters
    ----------
    kinds : ndarray of shape (n_samples,)
        +1 known normal, 0 unlabelled, -1 known anomaly.
    eta_u, eta_l : float
        Largest weight of an unlabelled and of a labelled row.
    kappa : float
        Least labelled mass, where anything is labelled.
    """

    kinds: np.ndarray
    eta_u: float
    eta_l: float
    kappa: float

    @property
    def lower(self) -> np.ndarray:
        return np.where(self.kinds < 0, -self.eta_l, 0.0)

    @property
    def upper(self) -> np.ndarray:
        return np.where(self.kinds < 0, 0.0, np.where(self.kinds > 0, self.eta_l, self.eta_u))

    def capacity(self, kind: int) -> float:
        """Largest mass that the rows of one kind can carry together."""
        return np.count_nonzero(self.kinds == kind) * (self.eta_l if kind else self.eta_u)

    @property
    def labelled(self) -> bool:
        return bool(self.kinds.any())


@dataclass(frozen=True)
class Solution:
    """What :func:`solve` returns.

    Attributes
    ----------
    weights : ndarray of shape (n_samples,)
        Signed weights.
    values : ndarray of shape (n_samples,)
        <w, phi(x)> of each row.
    rho, margin : float
        Level of the unlabelled rows, and how far the labelled ones are from it.
    violation : float
        By how much a row's value is on the wrong side of its level, twice the largest.
    n_iter : int
        Number of steps.
    converged : bool
    """

    weights: np.ndarray
    values: np.ndarray
    rho: float
    margin: float
    violation: float
    n_iter: int
    converged: bool


def check_feasible(problem: Problem) -> None:
    """Raise a ValueError that names the cure if no weights satisfy the constraints."""
    n_normal, n_unlabelled, n_anomalies = (
        np.count_nonzero(problem.kinds == kind) for kind in (1, 0, -1)
    )
    eta_u, eta_l, kappa = problem.eta_u, problem.eta_l, problem.kappa
    positive = problem.capacity(0) + problem.capacity(1)
    if positive < 1 - _ROUNDING:
        raise ValueError(
            f"eta_u={eta_u:g} and eta_l={eta_l:g} are too small for {n_unlabelled} unlabelled and "
            f"{n_normal} known normal rows: eta_u * {n_unlabelled} + eta_l * {n_normal} must be at "
            "least 1. Raise eta_u (lower nu, if it is 'auto') or eta_l."
        )
    if not problem.labelled:
        return
    largest = sum(_labelled_masses(problem))
    if largest < kappa * (1 - _ROUNDING):
        cures = [f"lower kappa to at most {largest:g}"]
        if min(eta_l, eta_l * n_anomalies) < kappa:
            cures.append("raise eta_l")
        if n_anomalies and n_unlabelled:
            cures.append("raise eta_u (lower nu, if it is 'auto')")
        raise ValueError(
            f"kappa={kappa:g} asks for more labelled mass than eta_u={eta_u:g}, eta_l={eta_l:g} and "
            f"the labels ({n_normal} known normal, {n_anomalies} known anomalies) allow: "
            f"{', or '.join(cures)}."
        )


def _labelled_masses(problem: Problem) -> tuple[float, float]:
    """Masses of known normal rows and of known anomalies whose sum is the largest possible."""
    normal, unlabelled, anomalous = (problem.capacity(kind) for kind in (1, 0, -1))
    anomalous = max(0.0, min(anomalous, unlabelled + normal - 1))
    return min(normal, 1 + anomalous), anomalous


def _start_masses(problem: Problem) -> dict[int, float]:
    """Feasible mass of each kind, with few unlabelled rows where there is a choice."""
    if not problem.labelled:
        return {0: 1.0}
    capacity = {kind: problem.capacity(kind) for kind in (1, 0, -1)}
    # With the least labelled mass: normal + anomalous = kappa, unlabelled = 1 + anomalous - normal.
    least = max(0.0, problem.kappa - capacity[-1], (1 + problem.kappa - capacity[0]) / 2)
    most = min(problem.kappa, capacity[1], (1 + problem.kappa) / 2)
    if least <= most:
        normal, anomalous = most, problem.kappa - most
    elif problem.kappa + capacity[0] < 1:
        normal, anomalous = 1 - capacity[0], 0.0  # more than kappa is needed for the sum
    else:
        normal, anomalous = _labelled_masses(problem)  # equal to kappa but for rounding
    unlabelled = min(max(1 + anomalous - normal, 0.0), capacity[0])
    return {1: normal, 0: unlabelled, -1: anomalous}


def _probes(problem: Problem) -> np.ndarray:
    return np.unique(np.linspace(0, len(problem.kinds) - 1, _PROBES).astype(np.intp))


def start(problem: Problem, rows: KernelRows) -> np.ndarray:
    """Feasible signed weights, on as few rows as the bounds allow.

    They are the rows in sparse regions, for known anomalies in dense ones: most of these stay at
    their bounds.
    """
    density = _finite(rows.mean_over(_probes(problem)))
    weights = np.zeros(len(density))
    for kind, mass in _start_masses(problem).items():
        members = np.flatnonzero(problem.kinds == kind)
        bound = problem.eta_l if kind else problem.eta_u
        n_full = min(int(mass / bound * (1 + _ROUNDING)), len(members))
        ranked = members[np.argsort(density[members] * (kind or 1), kind="stable")]
        sign = kind or 1
        weights[ranked[:n_full]] = sign * bound
        if n_full < len(members):
            weights[ranked[n_full]] = sign * max(0.0, mass - n_full * bound)
    return weights


def _finite(values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all():
        raise ValueError(
            "The kernel has values that are not finite: scale the rows, with StandardScaler for instance, "
            "or choose another kernel."
        )
    return values


def _extremes(values, can_rise, can_fall, kinds):
    """Rows of each kind that bound its level: lowest value that could rise, highest that could fall."""
    lowest, highest = {}, {}
    for kind in (1, 0, -1):
        of_kind = kinds == kind
        for can_move, sign, found in ((can_rise, 1, lowest), (can_fall, -1, highest)):
            candidates = np.where(can_move & of_kind, sign * values, np.inf)
            i = int(candidates.argmin())
            if candidates[i] < np.inf:
                found[kind] = float(values[i]), i
    return lowest, highest


def best_levels(lowest: dict, highest: dict, slack: float) -> tuple[float, float, float]:
    """Levels that violate the conditions of optimality least.

    Parameters
    ----------
    lowest, highest : dict of int to tuple
        By kind, the lowest value of a row whose weight could rise and the highest of one whose
        weight could fall; first of a tuple.
    slack : float
        By how much the labelled mass exceeds its bound: if it does, the margin is 0.

    Returns
    -------
    rho, margin : float
    violation : float
        Twice the largest distance to the wrong side of a level; below 0 if there is none.

    Examples
    --------
    >>> best_levels({0: (1.0, 0)}, {0: (3.0, 1)}, 0.0)
    (2.0, 0.0, 2.0)
    """
    # The violation is the largest of some lines in the margin, one for each difference of kinds.
    lines = {}
    for a, (low, _) in lowest.items():
        for b, (high, _) in highest.items():
            lines[a - b] = max(lines.get(a - b, -np.inf), high - low)

    def violation(margin):
        return max((height + slope * margin for slope, height in lines.items()), default=0.0)

    margins = [0.0]
    if slack <= 0:
        falling = [(slope, height) for slope, height in lines.items() if slope < 0]
        rising = [(slope, height) for slope, height in lines.items() if slope > 0]
        if rising:
            margins += [(h - g) / (s - r) for r, h in falling for s, g in rising]
        else:  # no largest margin: take the least that will do
            margins += [height / -slope for slope, height in falling]
    margin = min((m for m in margins if m >= 0), key=lambda m: (violation(m), m))
    floor = max((high - b * margin for b, (high, _) in highest.items()), default=None)
    ceiling = min((low - a * margin for a, (low, _) in lowest.items()), default=floor)
    floor = ceiling if floor is None else floor
    return 0.5 * (floor + ceiling), margin, violation(margin)


def solve(problem: Problem, rows: KernelRows, *, tol: float, max_iter: int) -> Solution:
    """Minimise the dual.

    Parameters
    ----------
    problem : Problem
        Feasible.
    rows : KernelRows
    tol : float
        The violation allowed, as a share of the mean absolute value.
    max_iter : int
        Largest number of steps.

    Returns
    -------
    Solution
    """
    kinds, lower, upper = problem.kinds, problem.lower, problem.upper
    weights = start(problem, rows)
    values = np.zeros(len(weights))
    used = np.flatnonzero(weights)
    rows.add_product(used, weights[used], values)
    slack = _slack(problem, weights)
    block = np.empty(0, dtype=np.intp)
    magnitude = float(np.abs(rows.block(_probes(problem)).diagonal()).mean())
    n_iter, stuck = 0, False
    while True:
        accuracy = max(
            tol * float(np.abs(_finite(values)).mean()),
            _PRECISION * magnitude * float(np.abs(weights).sum()),
        )
        can_rise, can_fall = weights < upper, weights > lower
        lowest, highest = _extremes(values, can_rise, can_fall, kinds)
        rho, margin, violation = best_levels(lowest, highest, slack)
        converged = violation <= accuracy
        if converged or stuck or n_iter >= max_iter:
            break
        excess = values - (rho + margin * kinds)
        extremes = [i for _, i in (*lowest.values(), *highest.values())]
        block = _choose_block(excess, can_rise, can_fall, extremes, block)
        block = block[np.argsort(kinds[block], kind="stable")]
        of_block = (array[block] for array in (values, weights, lower, upper, kinds))
        part = Block(_finite(rows.block(block)), *of_block, slack)
        n_steps = part.solve(max(_BLOCK_ACCURACY * violation, 0.5 * accuracy), max_iter - n_iter)
        change = part.weights - weights[block]
        moved = np.flatnonzero(change)
        rows.add_product(block[moved], change[moved], values)
        weights[block] = part.weights
        slack = part.slack
        n_iter += n_steps
        stuck = n_steps == 0
    return Solution(
        weights=weights,
        values=values,
        rho=rho,
        margin=margin,
        violation=max(violation, 0.0),
        n_iter=n_iter,
        converged=converged,
    )


def _slack(problem: Problem, weights: np.ndarray) -> float:
    if not problem.labelled:
        return 0.0
    slack = float(np.abs(weights[problem.kinds != 0]).sum()) - problem.kappa
    return slack if slack > _ROUNDING * max(problem.kappa, 1.0) else 0.0


def _choose_block(excess, can_rise, can_fall, extremes, previous) -> np.ndarray:
    """Rows to optimise next: those that violate their level most, and those of the last block.

    Of the last block, up to half of the new one stay, the rows between their bounds first.
    """
    n = len(excess)
    free = can_rise & can_fall
    size = int(np.clip(2 * np.count_nonzero(free), _SMALLEST_BLOCK, _LARGEST_BLOCK))
    if size >= n:
        return np.arange(n)
    order = np.lexsort((np.abs(excess[previous]), ~free[previous]))
    kept = previous[order[: size // 2]]
    n_each = (size - len(kept)) // 2
    # The extremes are there even if many rows violate their level as much as they do.
    chosen = [np.asarray(extremes, dtype=np.intp), kept]
    for could_move, violation in ((can_rise, -excess), (can_fall, excess)):
        violation = np.where(could_move, violation, -np.inf)
        chosen.append(np.argpartition(-violation, n_each - 1)[:n_each])
    return np.unique(np.concatenate(chosen))
