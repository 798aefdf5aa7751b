"""The dual of SSAD on some of the rows: moves of two or three weights, and Newton steps."""

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotrs

__all__ = ["Block"]

# Share of the mean diagonal value below which a curvature counts as none.
_FLAT = 1e-12
# Added to the diagonal before the Cholesky factorisation, as shares of its mean; tried in turn.
_RIDGES = (1e-12, 1e-9, 1e-6)
_NEWTON_STEPS = 40


class Block:
    """Weights of some rows, which are optimised while all others stay as they are.

    The problem is that of :mod:`anomaly_estimators.one_class._ssad_solver`: signed weights in
    boxes, a fixed sum, and a bound on the labelled mass. Every feasible direction is a sum of moves
    of two kinds: weight goes from one row to another, or the labelled mass stays the same while a
    known normal row, a known anomaly and (twice) an unlabelled row move together.

    Parameters
    ----------
    K : ndarray of shape (k, k)
        Kernel values.
    values : ndarray of shape (k,)
        <w, phi(x)> of the rows.
    weights, lower, upper : ndarray of shape (k,)
        Weights and their bounds.
    kinds : ndarray of shape (k,)
        -1, 0 and +1 in ascending order: known anomalies, unlabelled and known normal rows.
    slack : float
        By how much the labelled mass exceeds its bound.

    Attributes
    ----------
    values, weights, slack : ndarray, ndarray, float
        What has become of them.
    """

    def __init__(self, K, values, weights, lower, upper, kinds, slack):
        self.K = K
        self.values = values
        self.weights = weights
        self.lower = lower
        self.upper = upper
        self.slack = slack
        self._diagonal = K.diagonal().copy()
        self._flat = max(_FLAT * float(np.abs(self._diagonal).mean()), np.finfo(float).tiny)
        self._kinds = kinds.astype(np.float64)
        self._kind_of = kinds.tolist()
        ends = np.searchsorted(kinds, [-1, 0, 1], side="right").tolist()
        starts = [0, *ends[:2]]
        # kind, and where its rows begin and end
        self._runs = [(k, a, b) for k, a, b in zip((-1, 0, 1), starts, ends, strict=True) if b > a]
        self._end_of = dict(zip((-1, 0, 1), ends, strict=True))
        self._no_rise = np.zeros(len(weights))
        self._no_fall = np.zeros(len(weights))
        self._see_bounds(slice(None))
        self._buffers = np.empty((2, len(weights)))

    def solve(self, tol: float, max_steps: int) -> int:
        """Move weights until no move promises a slope above ``tol``; return the number of steps."""
        period = max(50, len(self.weights) // 4)
        n_steps, next_newton = 0, period
        while n_steps < max_steps:
            if n_steps >= next_newton:
                n_steps += self._newton(min(_NEWTON_STEPS, max_steps - n_steps))
                next_newton = n_steps + period
            move = self._choose(tol)
            if move is None:
                break
            self._move(*move)
            n_steps += 1
        return n_steps

    # Single moves

    def _choose(self, tol):
        """Rows and coefficients of the move with the steepest slope; None below ``tol``."""
        rising = self.values + self._no_rise
        falling = self.values + self._no_fall
        lowest, highest = {}, {}
        for kind, start, end in self._runs:
            i = start + int(rising[start:end].argmin())
            j = start + int(falling[start:end].argmax())
            lowest[kind] = rising[i], i
            highest[kind] = falling[j], j
        steepest, riser, triple = tol, None, None
        for a, (low, i) in lowest.items():
            for b, (high, _) in highest.items():
                # Mass that goes from b to a must not lower the labelled mass below its bound.
                if high - low > steepest and (a >= b or self.slack > 0):
                    steepest, riser = high - low, i
        if len(self._runs) == 3 and self.slack <= 0:
            for sign, outer, middle in ((1, lowest, highest), (-1, highest, lowest)):
                slope = sign * (middle[0][0] - 0.5 * (outer[1][0] + outer[-1][0]))
                if slope > steepest:
                    steepest = slope
                    triple = (outer[1][1], outer[-1][1], middle[0][1]), (sign, sign, -2 * sign)
        if triple is not None:
            return triple
        if riser is None:
            return None
        return (riser, self._partner(riser, falling)), (1, -1)

    def _partner(self, i, falling):
        """Row from which to take weight for row i: the largest decrease, bounds aside."""
        end = len(falling) if self.slack > 0 else self._end_of[self._kind_of[i]]
        slope, curvature = self._buffers[:, :end]
        np.subtract(falling[:end], self.values[i], out=slope)
        np.maximum(slope, 0, out=slope)
        np.multiply(self.K[i, :end], -2, out=curvature)
        curvature += self._diagonal[:end]
        curvature += self._diagonal[i]
        np.maximum(curvature, self._flat, out=curvature)
        slope *= slope
        slope /= curvature
        return int(slope.argmax())

    def _move(self, rows, coefficients):
        """Exact line search along a direction, cut at the first bound."""
        slope = sum(c * self.values[i] for i, c in zip(rows, coefficients, strict=True))
        curvature = sum(
            c * d * self.K[i, j]
            for i, c in zip(rows, coefficients, strict=True)
            for j, d in zip(rows, coefficients, strict=True)
        )
        rooms = [
            (self.upper[i] - self.weights[i] if c > 0 else self.weights[i] - self.lower[i]) / abs(c)
            for i, c in zip(rows, coefficients, strict=True)
        ]
        mass = sum(c * self._kind_of[i] for i, c in zip(rows, coefficients, strict=True))
        step = min(-slope / max(curvature, self._flat), *rooms)
        if mass < 0 and step * -mass >= self.slack:
            step, self.slack = self.slack / -mass, 0.0
        else:
            self.slack += step * mass
        for i, c, room in zip(rows, coefficients, rooms, strict=True):
            if step >= room:
                self.weights[i] = self.upper[i] if c > 0 else self.lower[i]
            else:
                self.weights[i] += step * c
            self.values += (step * c) * self.K[i]
            self._see_bounds(i)

    def _see_bounds(self, rows):
        weights = self.weights[rows]
        self._no_rise[rows] = np.where(weights < self.upper[rows], 0.0, np.inf)
        self._no_fall[rows] = np.where(weights > self.lower[rows], 0.0, -np.inf)

    # Newton steps

    def _newton(self, max_steps):
        """Minimise over the weights between their bounds; return the number of steps.

        The direction leads to the minimum without bounds. A weight that reaches its bound on the way
        stays there, as one more constraint on the direction, and the rest goes on with the same
        factorisation. If the objective has not fallen, by rounding or because the kernel is
        indefinite, nothing is changed.
        """
        free = np.flatnonzero((self.weights > self.lower) & (self.weights < self.upper))
        factor = self._factorise(free) if len(free) > 1 else None
        if factor is None:
            return 0
        lower, upper, kinds = self.lower[free], self.upper[free], self._kinds[free]
        weights, slack = self.weights[free], self.slack
        fixed = np.ones((1, len(free)))
        if slack <= 0 and kinds[0] != kinds[-1]:
            fixed = np.vstack([fixed, kinds])
        constraints, solved = fixed, _solve(factor, fixed)
        downhill = -_solve(factor, self.values[free])
        bounded = np.zeros(len(free), dtype=bool)
        n_steps, step = 0, 0.0
        while n_steps < max_steps and step < 1.0:
            n_steps += 1
            direction = downhill - solved.T @ _least_squares(
                constraints @ solved.T, constraints @ downhill
            )
            # Rounding must not leave the constraints.
            within = fixed * ~bounded
            direction -= within.T @ _least_squares(within @ within.T, within @ direction)
            direction[bounded] = 0.0
            ends = np.where(direction > 0, upper, lower)
            with np.errstate(divide="ignore", invalid="ignore"):
                rooms = np.where(direction != 0, (ends - weights) / direction, np.inf)
            step = min(1.0, float(rooms.min()))
            mass = float(kinds @ direction)
            added = []
            if slack > 0 and slack + step * mass <= 0:
                step, slack = slack / -mass, 0.0
                fixed = np.vstack([fixed, kinds])
                added.append(kinds[None])
            elif slack > 0:
                slack += step * mass
            reached = np.flatnonzero(rooms <= step)
            weights = np.clip(weights + step * direction, lower, upper)
            weights[reached] = ends[reached]
            downhill -= step * direction
            bounded[reached] = True
            added.append(np.zeros((len(reached), len(free))))
            added[-1][np.arange(len(reached)), reached] = 1.0
            added = np.vstack(added)
            constraints = np.vstack([constraints, added])
            solved = np.vstack([solved, _solve(factor, added)])
        change = np.zeros(len(self.weights))
        change[free] = weights - self.weights[free]
        values = self.values + change @ self.K
        if change @ (self.values + values) < 0:
            self.weights[free] = weights
            self.values = values
            self.slack = slack
            self._see_bounds(slice(None))
        return n_steps

    def _factorise(self, free):
        """Cholesky factor of the kernel matrix of some rows; None if it is indefinite."""
        mean = max(float(self._diagonal[free].mean()), self._flat)
        for ridge in _RIDGES:
            factor = self.K[np.ix_(free, free)]
            factor[np.diag_indices_from(factor)] += ridge * mean
            # The transpose of a symmetric matrix: a view in the order that LAPACK works in.
            factor, failed = dpotrf(factor.T, lower=1, clean=0, overwrite_a=1)
            if not failed:
                return factor
        return None


def _solve(factor, rows):
    """Solve the factored system for each row."""
    return dpotrs(factor, rows.T, lower=1)[0].T


def _least_squares(matrix, right):
    if not np.isfinite(matrix).all():  # LAPACK would raise an error
        return np.full_like(right, np.nan)
    return np.linalg.lstsq(matrix, right, rcond=None)[0]
