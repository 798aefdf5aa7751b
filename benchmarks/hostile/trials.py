"""One case from the fit to the verdict."""

import contextlib
import io
import re
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import numpy as np

from benchmarks.hostile import situations
from benchmarks.hostile.cases import Problem, draw
from benchmarks.hostile.detectors import make
from benchmarks.hostile.properties import PROPERTIES, Trial
from benchmarks.hostile.surroundings import changes, contents, global_state
from benchmarks.hostile.verdicts import is_clear, where

__all__ = ["OUTCOMES", "load_everything", "run"]

OUTCOMES = ["sound", "clear error", "silent failure", "unclear error", "crash", "hang"]


def run(seed: int, number: int, show: bool = False) -> dict:
    """Run a case and judge it.

    Parameters
    ----------
    seed, number : int
        Of the campaign, and of the case.
    show : bool, default=False
        Whether to print the case, and where its errors come from.

    Returns
    -------
    dict
        ``outcome``, one of ``OUTCOMES``; ``refused``, whether it had to be an error; ``broken``,
        names of the properties that do not hold; ``message``; ``warned``, the categories of warnings;
        ``seconds``.
    """
    started = time.perf_counter()
    case = draw(seed, number)
    with tempfile.TemporaryDirectory(prefix="hostile") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        problem = Problem(case, seed, Path(folder))
        if show:
            print(problem.describe(), flush=True)
        judged = _judge(problem, show)
    return {**judged, "seconds": f"{time.perf_counter() - started:.3f}"}


def _judge(problem: Problem, show: bool) -> dict:
    case = problem.case
    broken, notes, late = [], [], []

    def note(name, texts):
        """Keep what breaks a property, or the error in the place of an answer."""
        try:
            found = list(texts)
        except Exception as error:
            late.append(name)
            found = [f"{type(error).__name__} ({where(error)}): {error}"]
            if show:
                traceback.print_exc()
        if found:
            broken.append(name)
            notes.extend(f"{name}: {text}" for text in found)

    detector = problem.detector()
    note("failed fit before", situations.before(problem, detector))
    given = contents(problem.X), contents(problem.y)
    attributes = dict(vars(detector))
    printed, error = io.StringIO(), None
    with warnings.catch_warnings(record=True) as caught, situations.around(case.situation):
        warnings.simplefilter("always")
        state = global_state(case.random_state != "None")
        try:
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
                detector.fit(problem.X, problem.y)
        except Exception as raised:
            error = raised
        moved = changes(state, global_state(case.random_state != "None"))
    note("global state", (f"fit changed {name}" for name in moved))
    if contents(problem.X) != given[0] or contents(problem.y) != given[1]:
        note("input", ["fit changed its input"])
    if printed.getvalue():
        note("silence", [f"fit printed {printed.getvalue()[:80]!r}"])
    warned = sorted({item.category.__name__ for item in caught})
    if error is not None:
        if show:
            traceback.print_exception(error)
        note("failed fit", _after_failure(problem, detector, attributes))
        clear = is_clear(error)
        outcome = "clear error" if clear else "unclear error"
        notes.insert(0, f"{type(error).__name__} ({where(error)}): {error}")
    else:
        outcome = "sound"
        if problem.refused:
            note("refusal", ["accepted what it cannot have understood"])
        texts = [str(item.message) for item in caught]
        note("scoring", _properties(problem, detector, texts, note))
    if broken:
        outcome = "silent failure" if set(broken) - set(late) else "unclear error"
    if error is not None and not is_clear(error):
        outcome = "unclear error"
    return {
        "outcome": outcome,
        "refused": problem.refused,
        "broken": "; ".join(broken),
        "message": _one_line("; ".join(notes)),
        "warned": "; ".join(warned),
    }


def _properties(problem: Problem, detector, warned: list[str], note):
    """Note what does not hold; yields nothing itself."""
    state = global_state()
    trial = Trial(problem, detector, warned)
    for name, check in PROPERTIES.items():
        note(name, check(trial))
        if name == "failed refit":
            note("global state", (f"scoring changed {x}" for x in changes(state, global_state())))
    if after := situations.AFTER.get(problem.case.situation):
        note(problem.case.situation, after(trial))
    yield from ()


def _after_failure(problem: Problem, detector, attributes: dict):
    """A failed fit leaves no trace, and a fit of sound rows works after it."""
    traces = vars(detector).keys() ^ attributes.keys()
    if traces:
        yield f"left {sorted(traces)}"
    if not problem.parameters_are_possible:
        return
    sound = np.random.default_rng(0).normal(size=(20, 4))
    sound[:, -1] = np.arange(20) % 2
    y = np.zeros(20)
    y[::10], y[5::10] = -1, 1
    try:
        detector.fit(sound, y).predict(sound)
    except Exception as error:
        # Settings that suit no table are refused again, in clear words.
        if not is_clear(error):
            yield f"a fit of sound rows after it: {type(error).__name__} ({where(error)}): {error}"


def _one_line(text: str, length: int = 1500) -> str:
    return re.sub(r"\s+", " ", text)[:length]


def load_everything() -> None:
    """Load what is loaded when first used, so that no case pays for it or is blamed for it."""
    X = np.random.default_rng(0).normal(size=(12, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("AnoDM", "AAD", "GMM", "KDE"):
            make(name).fit(X).score_samples(X)
