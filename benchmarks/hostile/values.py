"""Tables of hostile values, in float64."""

from functools import partial

import numpy as np

__all__ = ["REFUSED", "VALUES", "table"]


def _normal(rng, n, d):
    return rng.normal(size=(n, d))


def _scaled(rng, n, d, scale):
    return _normal(rng, n, d) * scale


def _mixed_scales(rng, n, d):
    return _normal(rng, n, d) * 10.0 ** rng.choice([-300, -100, -10, 0, 3, 10, 100, 300], size=d)


def _denormal(rng, n, d, smallest):
    return rng.integers(-50, 50, size=(n, d)) * float(smallest)


def _offset(rng, n, d, offset, spread):
    return offset + spread * _normal(rng, n, d)


def _exact(rng, n, d):
    return np.rint(_normal(rng, n, d) * 256) / 256


def _small_integers(rng, n, d):
    return rng.integers(0, 6, size=(n, d)).astype(np.float64)


def _few_distinct(rng, n, d):
    return _normal(rng, 3, d)[rng.integers(0, 3, size=n)]


def _two_distinct(rng, n, d):
    X = np.zeros((n, d))
    X[rng.permutation(n)[: max(1, n // 10)]] = 1.0
    return X


def _one_hot(rng, n, d):
    return np.eye(d)[rng.choice(d, size=n, p=rng.dirichlet(np.full(d, 0.5)))]


def _duplicates(rng, n, d):
    X = _normal(rng, n, d)
    return X[rng.integers(0, max(1, n // 4), size=n)]


def _one_row_repeated(rng, n, d):
    X = _normal(rng, n, d)
    X[rng.permutation(n)[: int(np.ceil(0.12 * n))]] = X[0] + rng.choice([0.0, 4.0])
    return X


def _constant_columns(rng, n, d):
    X = _normal(rng, n, d)
    X[:, rng.random(d) < 0.6] = rng.choice([0.0, 5.0, -1e6, 0.1])
    return X


def _all_equal(rng, n, d):
    return np.full((n, d), rng.choice([0.0, 1.0, 0.1, -1e10, 1e-200]))


def _equal_rows(rng, n, d):
    return np.repeat(_normal(rng, 1, d), n, axis=0)


def _duplicated_columns(rng, n, d):
    return np.repeat(_normal(rng, n, 1), d, axis=1) * rng.choice([1.0, -1.0, 2.0], size=d)


def _nearly_tied(rng, n, d):
    return 1.0 + rng.integers(0, 3, size=(n, d)) * np.finfo(np.float64).eps


def _far_row(rng, n, d, far):
    X = _normal(rng, n, d)
    X[rng.integers(n)] = far
    return X


def _heavy_tails(rng, n, d):
    return rng.standard_cauchy(size=(n, d)) ** 3


def _counts(rng, n, d):
    return rng.poisson(0.2, size=(n, d)).astype(np.float64)


def _with_cell(rng, n, d, cell):
    X = _normal(rng, n, d)
    X[rng.integers(n), rng.integers(d)] = cell
    return X


# name: function of a generator and a shape
VALUES = {
    "normal": _normal,
    **{
        f"scale {scale:g}": partial(_scaled, scale=scale)
        for scale in (1e-300, 1e-150, 1e-38, 1e-30, 1e-8, 1e8, 1e30, 1e38, 1e150, 1e300)
    },
    "scales by column": _mixed_scales,
    "denormal": partial(_denormal, smallest=5e-324),
    "denormal in float32": partial(_denormal, smallest=np.finfo(np.float32).smallest_subnormal),
    "offset 1e6, spread 1e-3": partial(_offset, offset=1e6, spread=1e-3),
    "offset 1e9, spread 1": partial(_offset, offset=1e9, spread=1.0),
    "offset 1e15, spread 10": partial(_offset, offset=1e15, spread=10.0),
    "exact in float32": _exact,
    "small integers": _small_integers,
    "three distinct rows": _few_distinct,
    "two distinct rows": _two_distinct,
    "one-hot": _one_hot,
    "heavy duplicates": _duplicates,
    "one row for 12 %": _one_row_repeated,
    "constant columns": _constant_columns,
    "all cells equal": _all_equal,
    "all rows equal": _equal_rows,
    "duplicated columns": _duplicated_columns,
    "nearly tied": _nearly_tied,
    "far row 1e6": partial(_far_row, far=1e6),
    "far row 1e308": partial(_far_row, far=1e308),
    "heavy tails": _heavy_tails,
    "counts": _counts,
    "nan": partial(_with_cell, cell=np.nan),
    "inf": partial(_with_cell, cell=np.inf),
    "-inf": partial(_with_cell, cell=-np.inf),
}
# A fit that accepts these has read something into them that is not there.
REFUSED = {"nan", "inf", "-inf"}


def table(kind: str, n_rows: int, n_columns: int, rng: np.random.Generator) -> np.ndarray:
    """A table of the kind, of shape (n_rows, n_columns)."""
    with np.errstate(over="ignore"):
        return VALUES[kind](rng, n_rows, n_columns)
