"""What must hold after a fit that succeeded. A name each; what breaks it is a silent failure."""

import pickle
import re
from collections.abc import Iterator

import numpy as np
import pandas as pd

import anomaly_estimators as ae
from benchmarks.hostile.verdicts import is_clear

__all__ = ["PROPERTIES", "Trial", "compare"]

# Scores of the same row may differ by rounding: in each precision a share of their spread, and one of
# their size (a threshold of 1e9 is subtracted from scores of 1e9).
_OF_THE_SPREAD = {np.dtype(np.float64): 1e-6, np.dtype(np.float32): 1e-2}
_OF_THE_SIZE = {np.dtype(np.float64): 1e-9, np.dtype(np.float32): 1e-4}
# Rows that are scored alone: those next to the threshold, and some others.
_ALONE = 3


class Trial:
    """A detector that was fitted, and what it says of the table.

    Attributes
    ----------
    relative : ndarray
        ``decision_function`` of the table, and ``labels`` by its sign.
    rows : ndarray or None
        The table as a plain array.
    """

    def __init__(self, problem, detector, warned: list[str]):
        self.problem, self.detector, self.warned = problem, detector, warned
        self.rows = problem.rows
        X = problem.X
        self.scores = detector.score_samples(X)
        self.relative = detector.decision_function(X)
        self.predicted = detector.predict(X)
        self.labels = _labels(self.relative)


def _labels(relative: np.ndarray) -> np.ndarray:
    return np.where(relative >= 0, 1, -1)


def compare(trial: Trial, relative: np.ndarray, rows=slice(None), scores: bool = True) -> list[str]:
    """What differs between the table's scores and labels and those found in another way."""
    expected, n = trial.relative[rows], len(relative)
    if len(expected) != n:
        return [f"{n} scores for {len(expected)} rows"]
    wrong = int((_labels(relative) != trial.labels[rows]).sum())
    found = [f"{wrong} of {n} labels differ"] if wrong else []
    dtype = trial.scores.dtype
    with np.errstate(over="ignore", invalid="ignore"):
        allowed = _OF_THE_SPREAD[dtype] * np.ptp(trial.relative)
        allowed = allowed + _OF_THE_SIZE[dtype] * (np.abs(expected) + abs(trial.detector.offset_))
        off = np.abs(relative - expected)
        if scores and (off > allowed).any():
            found.append(f"scores differ by {off.max():.3g} of {np.ptp(trial.relative):.3g}")
    return found


# Each takes a trial and yields what is wrong.


def finite(trial: Trial) -> Iterator[str]:
    for name in ("scores", "relative"):
        bad = int((~np.isfinite(getattr(trial, name))).sum())
        if bad:
            yield f"{bad} {name} are not finite"
    if not np.isfinite(trial.detector.offset_):
        yield f"offset_ is {trial.detector.offset_}"


def shape(trial: Trial) -> Iterator[str]:
    n = trial.problem.case.rows
    for name in ("scores", "relative", "predicted"):
        if getattr(trial, name).shape != (n,):
            yield f"{name} have shape {getattr(trial, name).shape}"


def sign(trial: Trial) -> Iterator[str]:
    if not set(np.unique(trial.predicted)) <= {-1, 1}:
        yield f"predict says {np.unique(trial.predicted)}"
    wrong = int((trial.predicted != trial.labels).sum())
    if wrong:
        yield f"predict is not the sign of decision_function in {wrong} rows"


def share(trial: Trial) -> Iterator[str]:
    if trial.problem.case.contamination == "auto":
        return
    n = len(trial.predicted)
    asked = int(np.floor(float(trial.problem.case.contamination) * n + 1e-9))
    flagged = int((trial.predicted < 0).sum())
    told = any(re.search(r"\bflag", text) and re.search(r"\d", text) for text in trial.warned)
    if flagged != asked and not told:
        tied = "" if trial.rows is None else f", {len(np.unique(trial.rows, axis=0))} distinct"
        yield f"flags {flagged} of {n} rows{tied}, {asked} asked, and does not say so"


def equal_rows(trial: Trial) -> Iterator[str]:
    if trial.rows is None:
        return
    _, group = np.unique(trial.rows, axis=0, return_inverse=True)
    _, first = np.unique(group, return_index=True)
    yield from compare(trial, trial.relative, first[group.ravel()])


def alone(trial: Trial) -> Iterator[str]:
    if trial.rows is None:
        return
    nearest = np.argsort(np.abs(trial.relative))[:_ALONE]
    rows = np.unique([*nearest, *range(0, len(trial.rows), max(1, len(trial.rows) // 2))])
    found = [trial.detector.decision_function(trial.rows[[i]])[0] for i in rows]
    yield from compare(trial, np.array(found), rows)


def permuted(trial: Trial) -> Iterator[str]:
    if trial.rows is None:
        return
    order = np.random.default_rng(0).permutation(len(trial.rows))
    yield from compare(trial, trial.detector.decision_function(trial.rows[order]), order)


def odd_batches(trial: Trial) -> Iterator[str]:
    if trial.rows is None or len(trial.rows) < 7:
        return
    parts = np.array_split(trial.rows, [1, 1 + len(trial.rows) // 3])
    found = [trial.detector.decision_function(part) for part in parts if len(part)]
    yield from compare(trial, np.concatenate(found))


def doubled(trial: Trial) -> Iterator[str]:
    if trial.rows is None:
        return
    twice = trial.detector.decision_function(np.concatenate([trial.rows, trial.rows]))
    rows = np.tile(np.arange(len(trial.rows)), 2)
    yield from compare(trial, twice, rows)


def other_precision(trial: Trial) -> Iterator[str]:
    """The same values in float32 and in float64: their labels agree."""
    if trial.rows is None:
        return
    other = np.float32 if trial.rows.dtype == np.float64 else np.float64
    with np.errstate(over="ignore", under="ignore"):
        rows = trial.rows.astype(other)
    if (rows == trial.rows).all():
        yield from compare(trial, trial.detector.decision_function(rows), scores=False)


def _same_values(put):
    """A property: the table comes as something else, with the same values."""

    def check(trial: Trial) -> Iterator[str]:
        if trial.rows is not None:
            yield from compare(trial, trial.detector.decision_function(put(trial)))

    return check


def _memory_map(trial: Trial):
    path = trial.problem.folder / "same.npy"
    np.save(path, trial.rows)
    return np.load(path, mmap_mode="r")


def pickled(trial: Trial) -> Iterator[str]:
    copy = pickle.loads(pickle.dumps(trial.detector))
    yield from compare(trial, copy.decision_function(trial.problem.X))


def saved(trial: Trial) -> Iterator[str]:
    path = trial.problem.folder / "saved"
    try:
        trial.detector.save(path)
    except (ValueError, TypeError) as error:
        # What cannot be stored is refused, which is in order.
        if not is_clear(error):
            yield f"save: {error}"
        return
    yield from compare(trial, ae.load(path).decision_function(trial.problem.X))


def failed_refit(trial: Trial) -> Iterator[str]:
    """A second fit that fails leaves the first one as it was."""
    if trial.rows is None:
        return
    broken = trial.rows.copy()
    broken[0, 0] = np.nan
    try:
        trial.detector.fit(broken)
    except ValueError:
        yield from compare(trial, trial.detector.decision_function(trial.problem.X))
    else:
        yield "rows with NaN were accepted"


def again(trial: Trial) -> Iterator[str]:
    """The same seed, the same rows: the same scores, bit by bit."""
    if not trial.problem.repeatable:
        return
    detector = trial.problem.detector().fit(trial.problem.table(), trial.problem.y)
    found = detector.decision_function(trial.problem.X)
    if not np.array_equal(found, trial.relative):
        yield f"{int((found != trial.relative).sum())} scores of a second fit differ"
        yield from compare(trial, found)


PROPERTIES = {
    "finite": finite,
    "shape": shape,
    "sign": sign,
    "share": share,
    "equal rows": equal_rows,
    "alone": alone,
    "permuted": permuted,
    "odd batches": odd_batches,
    "doubled": doubled,
    "other precision": other_precision,
    "Fortran copy": _same_values(lambda trial: np.asfortranarray(trial.rows)),
    "memory map": _same_values(_memory_map),
    "frame": _same_values(lambda trial: pd.DataFrame(trial.rows)),
    "pickle": pickled,
    "save": saved,
    "failed refit": failed_refit,
    "same seed": again,
}
