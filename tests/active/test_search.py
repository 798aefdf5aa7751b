import inspect
import pickle
import re
import signal
import subprocess
import sys
import textwrap
import warnings
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import make_pipeline
from sklearn.utils import check_random_state

from anomaly_estimators import (
    AAD,
    LODA,
    UAI,
    AuditHistory,
    LabelConsistency,
    active_search,
    load,
)
from anomaly_estimators.active.base import ActiveDetector
from anomaly_estimators.active.session import SessionFile

N_ROWS = 40


class Direction(ActiveDetector):
    """Scores along a direction that every round turns: its state tells the rounds it has seen."""

    _parameter_constraints = {
        **ActiveDetector._parameter_constraints,
        "random_state": ["random_state"],
    }

    def __init__(self, *, random_state=None, **inherited):
        super().__init__(**inherited)
        self.random_state = random_state

    def _start(self, X, labels):
        self.random_ = check_random_state(self.random_state)
        self.direction_ = self.random_.normal(size=X.shape[1]) - labels @ X / len(X)

    def _continue(self, X, labels, taught):
        noise = self.random_.normal(scale=0.1, size=X.shape[1])
        self.direction_ = 0.9 * self.direction_ - labels[taught] @ X[taught] / len(taught) + noise

    def _anomaly_score(self, X):
        return X @ self.direction_


@pytest.fixture(scope="module")
def table():
    """Rows, and the truth of them."""
    rng = np.random.default_rng(0)
    truth = np.where(np.arange(N_ROWS) % 5 == 0, -1, 1)
    return rng.normal(size=(N_ROWS, 3)) + 2 * (truth < 0)[:, None], truth


@pytest.fixture
def X(table):
    return table[0]


@pytest.fixture
def truth(table):
    return table[1]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "session.jsonl"


class Expert:
    """Knows the truth, and leaves after so many verdicts."""

    def __init__(self, truth, patience=np.inf, error=KeyboardInterrupt):
        self.truth = truth
        self.patience = patience
        self.error = error
        self.given = []

    def __call__(self, rows):
        for row in rows:
            if len(self.given) >= self.patience:
                raise self.error
            self.given.append(int(row))
            yield self.truth[row]


def interrupted(detector, X, expert, *args, **params):
    """The history that comes with the interruption of a search."""
    with pytest.raises(expert.error) as caught:
        active_search(detector, X, expert, *args, **params)
    return caught.value.history


def assert_same_model(a, b):
    assert_array_equal(a.direction_, b.direction_)
    assert_array_equal(a.labels_, b.labels_)
    assert a.n_rounds_ == b.n_rounds_ and a.offset_ == b.offset_


# The loop


def test_the_loop_is_that_of_the_paper(X, truth):
    detector = Direction(random_state=0)
    history = active_search(detector, X, lambda rows: truth[rows], budget=13, k=5)
    by_hand = Direction(random_state=0).fit(X)
    asked = []
    for k in (5, 5, 3):
        rows = by_hand.query(X, k)
        by_hand.teach(rows, truth[rows])
        asked.extend(rows)
    assert history.indices.tolist() == asked
    assert_array_equal(history.verdicts, truth[asked])
    assert history.rounds.tolist() == [1] * 5 + [2] * 5 + [3] * 3
    assert (history.n_rows, history.path, len(history.pending)) == (N_ROWS, None, 0)
    assert_same_model(detector, by_hand)


def test_what_is_known_is_not_asked_for(X, truth):
    y = np.where(np.arange(N_ROWS) < 30, truth, 0)
    detector = Direction(random_state=0)
    history = active_search(detector, X, lambda rows: truth[rows], budget=100, k=4, y=y)
    assert sorted(history.indices) == list(range(30, N_ROWS))
    assert history.rounds.tolist() == [1] * 4 + [2] * 4 + [3] * 2
    assert_array_equal(detector.labels_, truth)


def test_a_budget_beyond_the_table_ends_with_it(X, truth):
    history = active_search(Direction(random_state=0), X, lambda rows: truth[rows], 10**6, 7)
    assert len(history) == N_ROWS and history.found_at(N_ROWS) == np.sum(truth < 0)


@pytest.mark.parametrize(
    "answer",
    [
        lambda verdicts: verdicts.tolist(),
        lambda verdicts: tuple(verdicts.astype(float)),
        lambda verdicts: pd.Series(verdicts, index=verdicts + 5),
        iter,
        lambda verdicts: map(int, verdicts),
    ],
    ids=["list", "tuple of floats", "series", "iterator", "map"],
)
def test_verdicts_come_in_any_shape(answer, X, truth):
    expected = active_search(Direction(random_state=0), X, lambda rows: truth[rows], 12, 5)
    history = active_search(Direction(random_state=0), X, lambda rows: answer(truth[rows]), 12, 5)
    assert history == expected


def test_one_stream_may_serve_all_rounds(X):
    stream = cycle([-1, 1, 1])
    history = active_search(Direction(random_state=0), X, lambda rows: stream, 10, 4)
    assert history.verdicts.tolist() == [-1, 1, 1] * 3 + [-1]


def test_the_oracle_may_do_as_it_likes_with_the_indices(X, truth):
    def oracle(rows):
        verdicts = truth[rows]
        rows[:] = -1
        return verdicts

    expected = active_search(Direction(random_state=0), X, lambda rows: truth[rows], 12, 5)
    assert active_search(Direction(random_state=0), X, oracle, 12, 5) == expected


def test_frames_and_lists_are_tables_too(X, truth, tmp_path):
    names = [str(i) for i in range(3)]
    for i, rows in enumerate((X, X.tolist(), pd.DataFrame(X, columns=names), np.asfortranarray(X))):
        path = tmp_path / str(i)
        active_search(Direction(random_state=0), rows, lambda rows: truth[rows], 5, path=path)
        history = active_search(
            Direction(random_state=0), rows, lambda rows: truth[rows], 12, path=path
        )
        assert len(history) == 12
        # One table, whatever holds it.
        assert len(active_search(Direction(random_state=0), X, None_asked, 12, path=path)) == 12


def None_asked(rows):
    raise AssertionError("nothing was to be asked")


# Silence and progress


def test_silence_prints_nothing_and_progress_counts(X, truth, capfd):
    active_search(Direction(random_state=0), X, lambda rows: truth[rows], 12)
    assert capfd.readouterr() == ("", "")
    history = active_search(Direction(random_state=0), X, lambda rows: truth[rows], 12, verbose=1)
    out, err = capfd.readouterr()
    assert out == "" and "Direction: audit: 100%" in err and "12/12" in err
    assert f"anomalies={history.found_at(12)}" in err
    y = np.where(np.arange(N_ROWS) < 35, truth, 0)
    active_search(Direction(random_state=0), X, lambda rows: truth[rows], 12, y=y, verbose=1)
    assert "5/5" in capfd.readouterr().err


def test_progress_counts_what_was_judged_before(X, truth, path, capfd):
    history = interrupted(Direction(random_state=0), X, Expert(truth, 7), 12, 5, path=path)
    assert len(history) == 7
    active_search(Direction(random_state=0), X, Expert(truth), 12, 5, path=path, verbose=1)
    assert "12/12" in capfd.readouterr().err


# Interruptions


interruptions = st.lists(
    st.tuples(st.integers(0, 12), st.sampled_from(["replay", "keep"])), max_size=8
)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_no_interruption_loses_a_verdict_or_asks_twice(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 99), label="table"))
    X, truth = rng.normal(size=(N_ROWS, 2)), rng.choice([-1, 1, 1], size=N_ROWS)
    budget, k = (
        data.draw(st.integers(1, 50), label="budget"),
        data.draw(st.integers(1, 9), label="k"),
    )
    whole = Direction(random_state=3)
    expected = active_search(whole, X, lambda rows: truth[rows], budget, k)
    asked, detector, history = [], Direction(random_state=3), None
    with TemporaryDirectory() as folder:
        path = data.draw(st.sampled_from([None, Path(folder) / "session"]), label="path")
        for patience, resume in [*data.draw(interruptions, label="interruptions"), (100, "replay")]:
            if resume == "replay":
                # Another process knows nothing of the detector.
                detector = Direction(random_state=3)
            expert = Expert(truth, patience)
            kept = {"path": path} if path else {"history": history}
            try:
                history = active_search(detector, X, expert, budget, k, resume=resume, **kept)
            except KeyboardInterrupt as error:
                history = error.history
            asked += expert.given
            assert history.indices.tolist() == asked
            assert_array_equal(history.verdicts, truth[asked])
            if path and len(history):
                assert AuditHistory.load(path) == history
    assert history == expected
    assert asked == expected.indices.tolist()
    assert_same_model(detector, whole)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 400), max_size=4), st.integers(1, 7))
def test_a_kill_while_writing_loses_the_line_at_most(stops, k):
    rng = np.random.default_rng(0)
    X, truth = rng.normal(size=(N_ROWS, 2)), rng.choice([-1, 1], size=N_ROWS)
    expected = active_search(Direction(random_state=3), X, lambda rows: truth[rows], 20, k)
    acknowledged = []

    def oracle(rows):
        for row in rows:
            yield truth[row]
            acknowledged.append(int(row))  # the search has come back for more: it was written

    with TemporaryDirectory() as folder:
        path = Path(folder) / "session"
        for stop in stops:
            left = [stop]

            def write(file, data, path, left=left):
                file.write(data[: left[0]])
                left[0] -= len(data)
                if left[0] < 0:
                    raise SystemExit

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("anomaly_estimators.active.session._write", write)
                patch.setattr(Path, "unlink", lambda *args, **params: None)
                try:
                    active_search(Direction(random_state=3), X, oracle, 20, k, path=path)
                except SystemExit:
                    pass
        final = active_search(Direction(random_state=3), X, oracle, 20, k, path=path)
    assert final == expected
    assert len(acknowledged) == len(set(acknowledged))


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal")
def test_a_killed_process_leaves_its_verdicts(X, truth, path):
    code = f"""
        import os, signal
        import numpy as np
        from anomaly_estimators import active_search
        from test_search import Direction
        X, truth = np.array({X.tolist()}), np.array({truth.tolist()})
        def oracle(rows):
            for place, row in enumerate(rows):
                yield truth[row]
                if place == 2:
                    os.kill(os.getpid(), signal.SIGKILL)
        active_search(Direction(random_state=0), X, oracle, 12, 5, path={str(path)!r})
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=Path(__file__).parent,
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    history = AuditHistory.load(path)
    assert len(history) == 3 and len(history.pending) == 2
    expert = Expert(truth)
    final = active_search(Direction(random_state=0), X, expert, 12, 5, path=path)
    assert expert.given[:2] == history.pending.tolist() and len(expert.given) == 9
    assert final == active_search(Direction(random_state=0), X, Expert(truth), 12, 5)


class Odd(Exception):
    """Takes no history."""

    history = property()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError("tired"), StopIteration, Odd()])
def test_the_oracles_own_error_comes_through(error, X, truth, path):
    calls = []

    def oracle(rows):
        calls.append(rows)
        if len(calls) == 3:
            raise error
        return truth[rows]

    kind = error if isinstance(error, type) else type(error)
    with pytest.raises(kind) as caught:
        active_search(Direction(random_state=0), X, oracle, 20, 4, path=path)
    if not isinstance(error, type):
        assert caught.value is error
    assert len(AuditHistory.load(path)) == 8
    (note,) = caught.value.__notes__
    assert note.startswith(f"8 verdicts of the audit stay in {path}") and "this path" in note
    if kind is not Odd:
        assert caught.value.history == AuditHistory.load(path)


def test_without_a_file_the_verdicts_stay_with_the_error(X, truth):
    detector, expert = Direction(random_state=0), Expert(truth, 7)
    with pytest.raises(KeyboardInterrupt) as caught:
        active_search(detector, X, expert, 12, 5)
    (note,) = caught.value.__notes__
    assert note.startswith("7 verdicts") and "history=" in note
    history = caught.value.history
    assert history.indices.tolist() == expert.given and len(history.pending) == 3
    # The detector has learned from the round that was complete.
    assert detector.n_rounds_ == 1
    assert np.flatnonzero(detector.labels_).tolist() == sorted(expert.given[:5])


def test_an_error_of_the_detector_keeps_the_verdicts_too(X, truth):
    class Failing(Direction):
        def _continue(self, X, labels, taught):
            if np.count_nonzero(labels) > 8:
                raise MemoryError
            super()._continue(X, labels, taught)

    with pytest.raises(MemoryError) as caught:
        active_search(Failing(random_state=0), X, lambda rows: truth[rows], 12, 5)
    assert len(caught.value.history) == 10
    detector = Direction(random_state=0)
    history = active_search(
        detector, X, lambda rows: truth[rows], 12, 5, history=caught.value.history
    )
    assert history == active_search(Direction(random_state=0), X, Expert(truth), 12, 5)


def test_a_full_disk_keeps_the_verdicts_in_memory(X, truth, path, monkeypatch):
    def append(session, *records, append=SessionFile.append):
        if len(session.ledger) == 6:
            monkeypatch.setattr(
                "os.fsync", lambda number: (_ for _ in ()).throw(OSError(28, "full"))
            )
        append(session, *records)

    with monkeypatch.context() as patch:
        monkeypatch = patch
        patch.setattr(SessionFile, "append", append)
        with pytest.raises(OSError, match="could not be written") as caught:
            active_search(Direction(random_state=0), X, Expert(truth), 12, 5, path=path)
    history = caught.value.history
    assert len(history) == 7 and history.path is None
    assert "history=" in caught.value.__notes__[0]
    final = active_search(Direction(random_state=0), X, Expert(truth), 12, 5, history=history)
    assert final == active_search(Direction(random_state=0), X, Expert(truth), 12, 5)


def test_a_file_is_not_left_by_a_fit_that_fails(X, truth, path):
    with pytest.raises(ValueError, match="NaN"):
        active_search(Direction(), np.full_like(X, np.nan), Expert(truth), 5, path=path)
    with pytest.raises(ValueError, match="'contamination' parameter of Direction"):
        active_search(Direction(contamination=2), X, Expert(truth), 5, path=path)
    assert not path.exists()


# Answers that are none


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (-1, "must return a sequence"),
        (None, "must return a sequence"),
        ("-1", "must return a sequence"),
        ({3: -1, 4: 1}, "must return a sequence"),
        ({-1, 1}, "must return a sequence"),
        ([], "0 verdicts on 3 rows"),
        ([1, 1], "2 verdicts on 3 rows"),
        ([1] * 4, "4 verdicts on 3 rows"),
        ([1, 0, 1], r"row \d+ is 0, but must be -1"),
        ([1, np.nan, 1], r"row \d+ is nan"),
        ([1, None, 1], r"row \d+ is None"),
        ([1, "1", 1], r"row \d+ is '1'"),
        ([1, True, 1], r"row \d+ is True"),
        ([1, np.True_, 1], r"row \d+ is np.True_"),
        ([1, 1 + 0j, 1], r"row \d+ is \(1\+0j\)"),
        ([1, 2, 1], r"row \d+ is 2"),
        ([1, [1], 1], r"row \d+ is \[1\]"),
        (np.array([[1], [-1], [1]]), r"row \d+ is array\(\[1\]\)"),
        (pd.DataFrame({"verdict": [1, 1]}), "2 verdicts on 3 rows"),
    ],
    ids=str,
)
def test_an_answer_that_is_none_keeps_nothing_of_it(answer, message, X, truth, path):
    calls = []

    def oracle(rows):
        calls.append(rows)
        return truth[rows] if len(calls) == 1 else answer

    detector = Direction(random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=message) as caught:
            active_search(detector, X, oracle, 9, 3, path=path)
    if "row " in str(caught.value):
        assert any(f"row {row}" in str(caught.value) for row in calls[1])
    assert len(caught.value.history) == 3 and detector.n_rounds_ == 1
    expert = Expert(truth)
    final = active_search(detector, X, expert, 9, 3, path=path)
    assert expert.given[:3] == calls[1].tolist()
    assert final == active_search(Direction(random_state=0), X, Expert(truth), 9, 3)


@pytest.mark.parametrize("last", [0, None, "end"])
def test_a_stream_keeps_what_came_before(last, X, truth, path):
    def oracle(rows):
        yield from truth[rows[:2]]
        if last != "end":
            yield last

    with pytest.raises(ValueError, match=r"row \d+ is") as caught:
        active_search(Direction(random_state=0), X, oracle, 9, 3, path=path)
    history = caught.value.history
    assert len(history) == 2 and f"row {history.pending[0]} is" in str(caught.value)
    assert history == AuditHistory.load(path)


# An expert who calls anomalies 1, and normal rows 0


@pytest.fixture(scope="module")
def clear():
    """Rows of which a detector finds the anomalies at once, and the truth of them."""
    rng = np.random.default_rng(1)
    truth = np.where(np.arange(40) % 5 == 0, -1, 1)
    return rng.normal(size=(40, 3)) * np.where(truth < 0, 30, 1)[:, None], truth


def aad():
    return AAD(LODA(n_projections=10), random_state=0)


def advice(error, pattern=r"correct them by (.*\)), before going on"):
    """What an error advises to do."""
    (call,) = re.findall(pattern, str(error))
    return call


def streamed(answers):
    return lambda rows: iter(answers[rows])


def at_once(answers):
    return lambda rows: answers[rows]


@pytest.mark.parametrize("give", [at_once, streamed])
@pytest.mark.parametrize("in_file", [True, False])
@pytest.mark.parametrize("k", [1, 3, 20])
def test_answers_the_wrong_way_round_are_put_right(give, in_file, k, clear, path):
    X, truth = clear
    wrong = (truth < 0).astype(int)
    kept = {"path": path} if in_file else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match=r"is .*0.*, but must be") as caught:
            active_search(aad(), X, give(wrong), 40, k, **kept)
    error = caught.value
    stored = error.history
    assert (stored.verdicts == 1).all() and (len(stored) > 0 or (k, give) == (20, at_once))
    detector, whole = aad(), aad()
    if len(stored):
        assert str(stored.indices.tolist()) in str(error)
        names = {"AuditHistory": AuditHistory, "error": error}
        exec(advice(error), names)
        revised = names["history"]
        assert (revised.verdicts == -1).all() and not revised.notes
        kept = kept or {"history": revised}
    else:
        assert "correct them" not in str(error)
    history = active_search(detector, X, give(np.where(wrong == 1, -1, 1)), 40, k, **kept)
    expected = active_search(whole, X, at_once(truth), 40, k)
    assert_array_equal(history.labels(), truth)
    assert_array_equal(detector.labels_, truth)
    if k == 20 or (len(stored) <= k and give is at_once):
        # Nothing was chosen by a detector that had learned them: it is the audit with right answers.
        assert history == expected
        assert_array_equal(detector.score_samples(X), whole.score_samples(X))


def test_verdicts_before_the_right_ones_are_not_accused(clear, path):
    X, truth = clear
    active_search(aad(), X, Expert(truth), 15, 5, path=path)
    assert AuditHistory.load(path).found_at(15) > 0
    with pytest.raises(ValueError, match="is 0") as caught:
        active_search(aad(), X, lambda rows: [1, 1, 0, 1, 1], 20, 5, path=path)
    assert "correct them" not in str(caught.value)
    # But those of this oracle are.
    answers = iter([1, 1, 0])
    with pytest.raises(ValueError, match="is 0") as caught:
        active_search(aad(), X, lambda rows: answers, 20, 5, path=path)
    assert f"revise({caught.value.history.indices[15:].tolist()}, -1)" in str(caught.value)


@pytest.mark.parametrize("answer", [None, "cannot tell", True, np.nan, 2])
def test_other_answers_do_not_accuse_those_before(answer, clear):
    stream = iter([1, 1, answer])
    with pytest.raises(ValueError, match="but must be") as caught:
        active_search(aad(), clear[0], lambda rows: stream, 20, 5)
    assert len(caught.value.history) == 2 and "correct them" not in str(caught.value)


@pytest.mark.parametrize("make", [aad, lambda: Direction(random_state=0)])
@pytest.mark.parametrize("k", [1, 5])
def test_nothing_but_ones_is_asked_about_once(make, k, clear, path):
    X, _ = clear
    with pytest.warns(UserWarning) as caught:
        history = active_search(make(), X, lambda rows: [1] * len(rows), 10, k, path=path)
    told = [w for w in caught if "verdicts so far are +1" in str(w.message)]
    assert len(told) == 1 and told[0].filename == __file__
    assert f"All {max(k, 2)} verdicts" in str(told[0].message)
    # It stays in the history until it is put right; going on does not repeat it.
    assert "revise" in history.notes[0] and history.notes == AuditHistory.load(path).notes
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Of scores that tie.
        warnings.filterwarnings("ignore", "contamination=", UserWarning)
        history = active_search(make(), X, lambda rows: [1] * len(rows), 15, k, path=path)
        history = eval("history.revise(history.indices, -1)", {"history": history})
        assert not history.notes
        final = active_search(make(), X, lambda rows: [1] * len(rows), 20, k, path=path)
    assert final.found_at(20) == 15 and not final.notes


def test_a_round_with_an_anomaly_asks_nothing(clear):
    X, truth = clear
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        active_search(aad(), X, at_once(truth), 20, 5)
        active_search(aad(), X, at_once(truth), 1)


def test_a_kept_detector_is_put_right_too(clear, path):
    X, truth = clear
    detector = aad()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError) as caught:
            active_search(detector, X, at_once((truth < 0).astype(int)), 40, 3, path=path)
    exec(advice(caught.value), {"AuditHistory": AuditHistory})
    with pytest.raises(ValueError, match="do not agree") as caught:
        active_search(detector, X, at_once(truth), 40, 3, path=path, resume="keep")
    exec(advice(caught.value, r"(detector\.teach.*?\)) or"), {"detector": detector})
    history = active_search(detector, X, at_once(truth), 40, 3, path=path, resume="keep")
    assert_array_equal(history.labels(), truth)
    assert_array_equal(detector.labels_, truth)


# Going on


def test_a_search_goes_on_with_another_budget_and_k(X, truth, path):
    active_search(Direction(random_state=0), X, Expert(truth), 7, 5, path=path)
    expert = Expert(truth)
    history = active_search(Direction(random_state=0), X, expert, 12, 3, path=path)
    assert history.rounds.tolist() == [1] * 5 + [2] * 2 + [3] * 3 + [4] * 2
    assert len(expert.given) == 5
    detector = Direction(random_state=0)
    assert active_search(detector, X, None_asked, 4, path=path) == history
    assert_array_equal(detector.labels_, history.labels())


@pytest.mark.parametrize("budget", [8, 7, 6, 2])
def test_a_round_ends_where_the_budget_does(budget, X, truth, path):
    history = interrupted(Direction(random_state=0), X, Expert(truth, 7), 20, 5, path=path)
    expert, detector = Expert(truth), Direction(random_state=0)
    cut = active_search(detector, X, expert, budget, 5, path=path)
    assert expert.given == history.pending[: max(0, budget - 7)].tolist()
    assert len(cut) == max(7, budget) and not len(cut.pending)
    assert_array_equal(detector.labels_, cut.labels())
    assert detector.n_rounds_ == 2
    again, kept = Direction(random_state=0), detector
    final = active_search(again, X, Expert(truth), 20, 5, path=path)
    assert final.rounds[len(cut)] == 3 and len(final) == 20
    in_memory = active_search(kept, X, Expert(truth), 20, 5, history=cut.revise(*first(cut)))
    assert in_memory == final
    assert_same_model(again, kept)


def first(history):
    """A revision that changes nothing."""
    return history.indices[0], history.verdicts[0]


def test_refitting_learns_all_at_once(X, truth, path):
    y = np.where(np.arange(N_ROWS) < 4, truth, 0)
    known = {"y": y, "path": path}
    history = interrupted(Direction(random_state=0), X, Expert(truth, 13), 30, 5, **known)
    expert, detector = Expert(truth), Direction(random_state=0)
    final = active_search(detector, X, expert, 15, 5, resume="refit", **known)
    assert expert.given == history.pending.tolist() and len(final) == 15
    # Two rounds were complete; the third is taught once it is.
    labels = y.copy()
    labels[final.indices[:10]] = final.verdicts[:10]
    by_hand = Direction(random_state=0).fit(X, labels)
    assert_same_model(detector, by_hand.teach(final.indices[10:], final.verdicts[10:]))


def test_a_kept_detector_is_taught_only_what_it_does_not_know(X, truth, path):
    class Counting(Direction):
        def _start(self, X, labels):
            super()._start(X, labels)
            self.n_fits_ = getattr(self, "n_fits_", 0) + 1
            self.n_taught_ = 0

        def _continue(self, X, labels, taught):
            super()._continue(X, labels, taught)
            self.n_taught_ += 1

    detector = Counting(random_state=0)
    interrupted(detector, X, Expert(truth, 13), 30, 5, path=path)
    other = Counting(random_state=0)
    active_search(other, X, Expert(truth), 20, 5, path=path)
    # The detector of the interruption is two rounds behind by now.
    final = active_search(detector, X, None_asked, 20, 5, path=path, resume="keep")
    assert (detector.n_fits_, detector.n_taught_) == (1, 4)
    assert_same_model(detector, other)
    assert len(final) == 20
    # One that was not fitted is fitted.
    fresh = Counting(random_state=0)
    active_search(fresh, X, None_asked, 20, 5, path=path, resume="keep")
    assert_same_model(fresh, other)


def test_a_detector_from_a_pickle_can_be_kept(X, truth, path):
    detector, whole = Direction(random_state=0), Direction(random_state=0)
    active_search(detector, X, Expert(truth), 10, 5, path=path)
    pickled = pickle.dumps(detector)
    active_search(detector, X, Expert(truth), 15, 5, path=path, resume="keep")
    # It has lost the table, and is a round behind.
    loaded = pickle.loads(pickled)
    active_search(loaded, X, Expert(truth), 20, 5, path=path, resume="keep")
    active_search(whole, X, Expert(truth), 20, 5)
    assert_same_model(loaded, whole)


def test_a_kept_detector_must_know_this_table(X, truth):
    detector = Direction(random_state=0).fit(X)
    with pytest.raises(ValueError, match="not the table under audit"):
        active_search(detector, X + 1, None_asked, 5, resume="keep")


def test_a_verdict_revised_between_two_searches_holds(X, truth):
    detector = Direction(random_state=0)
    history = active_search(detector, X, lambda rows: truth[rows], 10, 5)
    row, verdict = (int(value) for value in first(history))
    detector.teach([row], [-verdict], revise=True)
    # Going on from the detector as it stands, with a history of its own.
    more = active_search(detector, X, lambda rows: truth[rows], 10, 5, resume="keep")
    assert detector.labels_[row] == -verdict and not set(more.indices) & set(history.indices)
    # Going on with the old history, which says otherwise.
    with pytest.raises(ValueError, match=rf"Row {row} was judged .* history.revise") as caught:
        active_search(detector, X, None_asked, 20, 5, history=history, resume="keep")
    assert len(caught.value.history) == 10
    revised = history.revise(row, -verdict)
    final = active_search(
        detector, X, lambda rows: truth[rows], 20, 5, history=revised, resume="keep"
    )
    assert final.verdicts[0] == -verdict and detector.labels_[row] == -verdict
    # A fit with what is known by now.
    fresh = Direction(random_state=0)
    active_search(fresh, X, lambda rows: truth[rows], 5, y=detector.labels_)
    assert fresh.labels_[row] == -verdict


def test_a_verdict_revised_in_the_file_is_learned_as_if_right_at_once(X, truth, path):
    wrong = truth.copy()
    probe = active_search(Direction(random_state=0), X, Expert(truth), 5, 5)
    row = int(probe.indices[-1])
    wrong[row] *= -1
    active_search(Direction(random_state=0), X, Expert(wrong), 5, 5, path=path).revise(
        row, truth[row]
    )
    detector, whole = Direction(random_state=0), Direction(random_state=0)
    final = active_search(detector, X, Expert(truth), 20, 5, path=path)
    assert final == active_search(whole, X, Expert(truth), 20, 5)
    assert_same_model(detector, whole)


def test_a_history_moves_into_a_file(X, truth, path):
    history = interrupted(Direction(random_state=0), X, Expert(truth, 7), 12, 5)
    moved = active_search(
        Direction(random_state=0), X, Expert(truth), 9, 5, history=history, path=path
    )
    assert moved == AuditHistory.load(path)
    # A history that has a file goes on in it, also where it has seen only a part.
    seen = AuditHistory.load(path)
    active_search(Direction(random_state=0), X, Expert(truth), 12, 5, history=seen)
    final = active_search(
        Direction(random_state=0), X, None_asked, 12, 5, history=seen, path=str(path)
    )
    assert final.path == path and len(final) == 12
    before = path.read_bytes()
    with pytest.raises(ValueError, match="holds a session already"):
        active_search(Direction(), X, None_asked, 12, history=history, path=path)
    assert path.read_bytes() == before


# What is refused before any work


def test_another_table_or_other_labels_are_refused(X, truth, path):
    y = np.where(np.arange(N_ROWS) < 3, truth, 0)
    history = active_search(Direction(random_state=0), X, Expert(truth), 5, y=y, path=path)
    before = path.read_bytes()
    detector = Direction(random_state=0)
    for rows, labels, message in (
        (X[1:], y[1:], "one of 40 rows, and X has 39"),
        (X[::-1], y, "another order"),
        (X.astype(np.float32), y, "another dtype"),
        (X, None, "other labels y"),
        (X, -y, "other labels y"),
    ):
        with pytest.raises(ValueError, match=message):
            active_search(detector, rows, None_asked, 9, y=labels, path=path)
    small = AuditHistory(history.indices[:0], [], [], n_rows=39)
    with pytest.raises(ValueError, match="a table of 39 rows, and X has 40"):
        active_search(detector, X, None_asked, 9, history=small)
    judged = AuditHistory([0], [-truth[0]], [1])
    with pytest.raises(ValueError, match="Row 0 was judged .* from y"):
        active_search(detector, X, None_asked, 9, history=judged, y=y)
    assert path.read_bytes() == before
    assert not hasattr(detector, "labels_")


def test_two_searches_do_not_share_a_file(X, truth, path):
    pytest.importorskip("fcntl")

    def oracle(rows):
        with pytest.raises(BlockingIOError, match="in use"):
            active_search(Direction(random_state=0), X, None_asked, 9, path=path)
        return truth[rows]

    assert len(active_search(Direction(random_state=0), X, oracle, 9, path=path)) == 9


@pytest.mark.parametrize(
    ("argument", "error", "message"),
    [
        ({"budget": 0}, ValueError, "'budget' parameter of active_search"),
        ({"budget": 2.0}, ValueError, "'budget' parameter of active_search"),
        ({"k": 0}, ValueError, "'k' parameter of active_search"),
        ({"resume": "again"}, ValueError, "'resume' parameter of active_search"),
        ({"verbose": "much"}, ValueError, "'verbose' parameter of active_search"),
        ({"detector": IsolationForest()}, TypeError, "fit, query and teach"),
        ({"detector": Direction}, TypeError, "fit, query and teach"),
        ({"detector": make_pipeline(Direction())}, TypeError, "transform X first"),
        ({"oracle": np.ones(3)}, TypeError, "lambda rows: truth.rows."),
        ({"history": [1, 2]}, TypeError, "AuditHistory, got list"),
    ],
    ids=str,
)
def test_impossible_arguments_are_named_before_any_work(argument, error, message, X, path):
    detector = Direction()
    sound = {"detector": detector, "X": X, "oracle": None_asked, "budget": 5, "path": path}
    with pytest.raises(error, match=message):
        active_search(**{**sound, **argument})
    assert not path.exists() and not hasattr(detector, "labels_")


def test_labels_are_read_aloud_once(X, truth):
    with pytest.warns(UserWarning) as caught:
        active_search(
            Direction(random_state=0), X, lambda rows: truth[rows], 5, y=2 * truth * (X[:, 0] > 1)
        )
    assert len([w for w in caught if "by their sign" in str(w.message)]) == 1


@pytest.mark.parametrize("rows", [[0, 0], [0, 1, 2, 3, 4, 5]])
def test_a_query_that_breaks_its_word_is_named(rows, X, truth, path):
    class Broken(Direction):
        def query(self, X, k=10):
            return np.array(rows)

    with pytest.raises(ValueError, match="of Broken returned rows"):
        active_search(Broken(), X, lambda rows: truth[rows], 20, 5, path=path)


def test_every_argument_is_documented():
    from numpydoc.docscrape import FunctionDoc

    for function in (active_search, AuditHistory.from_scores, AuditHistory.revise):
        doc = FunctionDoc(function)
        named = [p.name for p in doc["Parameters"]]
        assert named == [p for p in inspect.signature(function).parameters if p != "self"]
        assert doc["Returns"]


# With a real detector


@pytest.fixture
def uai():
    from anomaly_estimators import UAI, DenoisingAutoencoder

    base = DenoisingAutoencoder(hidden_layer_sizes=(4,), max_iter=2, device="cpu")
    return UAI(base, cold_start=1, n_steps=3, random_state=0)


def test_a_network_comes_back_bit_for_bit(uai, X, truth, path, tmp_path):
    whole = clone(uai)
    expected = active_search(whole, X, lambda rows: truth[rows], 20, 4)
    interrupted(clone(uai), X, Expert(truth, 10), 20, 4, path=path)
    replayed = clone(uai)
    assert active_search(replayed, X, Expert(truth), 20, 4, path=path) == expected
    assert_array_equal(replayed.score_samples(X), whole.score_samples(X))
    # And one that was saved in between.
    short = clone(uai)
    history = active_search(short, X, Expert(truth), 8, 4)
    short.save(tmp_path / "uai.safetensors")
    loaded = load(tmp_path / "uai.safetensors")
    final = active_search(loaded, X, Expert(truth), 20, 4, history=history, resume="keep")
    assert final == expected
    assert_array_equal(loaded.score_samples(X), whole.score_samples(X))


def test_frame_with_words_is_audited_and_gone_on_with(tmp_path):
    rng = np.random.default_rng(0)
    kind = np.where(rng.uniform(size=60) < 0.5, "low", "high")
    frame = pd.DataFrame(
        {"a": (kind == "high") + 0.1 * rng.normal(size=60), "b": rng.normal(size=60), "kind": kind}
    )
    truth = np.ones(60, dtype=int)
    truth[:4] = -1
    frame.loc[:3, "kind"] = np.where(kind[:4] == "low", "high", "low")

    def detector():
        base = LabelConsistency(label_column="kind", max_iter=2, hidden_layer_sizes=(4,))
        return UAI(base, n_steps=2, random_state=0)

    def expert(rows):
        return truth[rows]

    path = tmp_path / "audit.jsonl"
    whole = active_search(detector(), frame, expert, 12, 3)
    active_search(detector(), frame, expert, 6, 3, path=path)
    assert active_search(detector(), frame, expert, 12, 3, path=path) == whole
    other = frame.assign(kind=frame["kind"].iloc[::-1].to_numpy())
    with pytest.raises(ValueError, match="table"):
        active_search(detector(), other, expert, 12, 3, path=path)
