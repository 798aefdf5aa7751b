"""The hostile campaign: its cases, the properties that it checks, and what it calls a clear error."""

import random
import sys
from collections import Counter
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
import torch
from _public import public_detectors

from anomaly_estimators import LODA
from benchmarks.hostile import __main__ as hostile
from benchmarks.hostile import cases, properties, situations, surroundings, trials
from benchmarks.hostile.containers import CONTAINERS, DTYPES, MISSHAPEN
from benchmarks.hostile.detectors import DETECTORS, make
from benchmarks.hostile.summary import counts, kinds
from benchmarks.hostile.values import VALUES
from benchmarks.hostile.verdicts import is_clear
from benchmarks.reproduce.runner import ResultFile


def test_every_public_detector_is_under_attack():
    assert {cls.__name__ for cls in public_detectors()} <= set(DETECTORS)


def test_a_case_is_the_same_whenever_it_is_drawn_and_all_values_come_up():
    drawn = [cases.draw(0, number) for number in range(1_500)]
    assert drawn[1_234] == cases.draw(0, 1_234) != cases.draw(1, 1_234)
    seen = {axis: {asdict(case)[axis] for case in drawn} for axis in cases.AXES}
    assert seen["detector"] == set(DETECTORS)
    assert seen["values"] == set(VALUES)
    assert seen["dtype"] == set(DTYPES)
    assert seen["container"] == set(CONTAINERS)
    assert seen["shape"] == {"2-d", *MISSHAPEN}
    assert seen["labels"] == set(cases.LABELS)
    assert seen["situation"] == set(cases.SITUATIONS)


@pytest.fixture
def problem(tmp_path):
    """An easy case: 12 rows of float64, all distinct but the last two."""
    case = cases.Case(
        number=0,
        detector="LODA",
        values="exact in float32",
        rows=12,
        columns=3,
        dtype="float64",
        container="ndarray",
        shape="2-d",
        labels="None",
        contamination="0.25",
        random_state="int",
        setting="none",
        situation="plain",
    )
    problem = cases.Problem(case, 0, tmp_path)
    problem.X[-1] = problem.rows[-1] = problem.X[-2]
    return problem


def broken(problem, cls) -> set[str]:
    """Names of the properties that a detector of this class does not have."""
    detector = cls(contamination=0.25, random_state=0).fit(problem.X)
    trial = properties.Trial(problem, detector, [])
    return {name for name, check in properties.PROPERTIES.items() if list(check(trial))}


class Batchwise(LODA):
    """Its scores depend on the other rows of a call."""

    def decision_function(self, X):
        return super().decision_function(X) + 0.01 * (len(X) - 12)


class Blind(LODA):
    """It flags nothing, and does not say so."""

    def decision_function(self, X):
        return super().decision_function(X) + 1e6


class Undecided(LODA):
    """Its predict is not the sign of decision_function, and its scores may be NaN."""

    def predict(self, X):
        return -super().predict(X)

    def score_samples(self, X):
        return np.where(np.arange(len(X)) == 3, np.nan, super().score_samples(X))


class Rough(LODA):
    """It flags other rows at float32."""

    def decision_function(self, X):
        relative = super().decision_function(X)
        return -relative if getattr(X, "dtype", None) == np.float32 else relative


class Positional(LODA):
    """Its scores depend on where in a call a row stands."""

    def decision_function(self, X):
        return super().decision_function(X) - np.arange(len(X))


def test_a_sound_detector_has_all_properties(problem):
    assert broken(problem, LODA) - {"same seed"} <= {"share"}


@pytest.mark.parametrize(
    ("cls", "names"),
    [
        (Batchwise, {"alone", "odd batches", "doubled"}),
        (Blind, {"share"}),
        (Undecided, {"finite", "sign"}),
        (Rough, {"other precision"}),
        (Positional, {"equal rows", "alone", "permuted", "doubled"}),
    ],
)
def test_a_faulty_detector_is_found_out(problem, cls, names):
    assert broken(problem, cls) >= names


def test_a_fit_that_touches_what_is_not_its_own_is_found_out():
    before = surroundings.global_state()
    assert surroundings.changes(before, surroundings.global_state()) == []
    state = torch.random.get_rng_state(), random.getstate()
    torch.rand(1)
    random.random()
    found = surroundings.changes(before, surroundings.global_state())
    torch.random.set_rng_state(state[0])
    random.setstate(state[1])
    assert found == ["torch's generator", "Python's generator"]


@pytest.mark.parametrize(
    "X",
    [np.zeros((2, 2)), pd.DataFrame(np.zeros((2, 2))), torch.zeros(2, 2), [[0.0], [0.0]]],
    ids=["array", "frame", "tensor", "list"],
)
def test_a_change_of_the_input_is_found_out(X):
    before = surroundings.contents(X)
    assert surroundings.contents(X) == before
    if isinstance(X, pd.DataFrame):
        X.iloc[1, 0] = 1.0
    else:
        X[1][0] = 1.0
    assert surroundings.contents(X) != before


def test_a_fit_that_is_killed_goes_on_and_a_clone_fits_to_the_same(problem):
    given = {"random_state": 0, "contamination": 0.25}
    problem.detector = lambda **more: make("Autoencoder", **given, **more)
    trial = properties.Trial(problem, problem.detector().fit(problem.X), [])
    assert list(situations.kill(trial)) == []
    assert list(situations.cloned(trial)) == []


def test_a_clear_error_was_meant():
    def error_of(function):
        with pytest.raises(Exception) as caught:
            function()
        return caught.value

    X = np.zeros((4, 2))
    assert is_clear(error_of(lambda: LODA(n_projections=0).fit(X)))
    assert is_clear(error_of(lambda: LODA().fit(np.full((4, 2), np.nan))))
    assert not is_clear(error_of(lambda: np.asarray(torch.zeros(4, 2, requires_grad=True))))
    # Raised by numpy within this very file, and by a statement in it: neither by the library.
    assert not is_clear(error_of(lambda: X @ np.zeros(3)))
    assert not is_clear(error_of(lambda: (_ for _ in ()).throw(ValueError("no"))))


def test_counts_and_kinds():
    case = {**dict.fromkeys(cases.AXES, "x"), "refused": "False", "message": "", "broken": ""}
    rows = [
        case | {"outcome": "sound"},
        case | {"outcome": "silent failure", "broken": "share; alone", "detector": "y"},
        case | {"outcome": "silent failure", "broken": "share"},
        case | {"outcome": "clear error", "message": "n=3", "refused": "True"},
        case | {"outcome": "clear error", "message": "n=4"},
        case | {"outcome": "clear error", "message": "n=5"},
    ]
    table = counts(rows)
    assert (table[0]["fits"], table[0]["silent_failures"], table[0]["clear_errors"]) == (6, 2, 3)
    assert [row["fits"] for row in table if row["axis"] == "detector"] == [5, 1]
    assert [(name, len(group)) for name, group in kinds(rows, "silent failure")] == [
        ("share", 2),
        ("alone", 1),
    ]
    assert [(name, len(group)) for name, group in kinds(rows, "clear error")] == [("n=_", 2)]


def test_a_case_from_the_fit_to_the_verdict():
    outcomes = Counter(trials.run(0, number)["outcome"] for number in (6, 9, 17))
    assert outcomes == {"clear error": 3}


def test_a_campaign_goes_on_where_it_was_and_sums_up(tmp_path, monkeypatch):
    ran = []

    class Quick:
        def __init__(self, *arguments):
            pass

        def run(self, number):
            ran.append(number)
            return {"outcome": "sound", "refused": False, "broken": "", "message": ""}

        def stop(self):
            pass

    monkeypatch.setattr(hostile, "Worker", Quick)
    log = tmp_path / "log.csv"
    for n in (3, 5):
        command = ["hostile", "--cases", str(n), "--log", str(log), "--results", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", command)
        hostile.main()
    assert ran == [0, 1, 2, 3, 4]
    first = ResultFile("hostile", [], [], tmp_path).rows()[0]
    assert (first["fits"], first["succeeded"]) == ("5", "5")
    assert "--cases 5" in (tmp_path / "hostile.csv").read_text()
