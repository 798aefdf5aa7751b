import copy
import json
import pickle
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import f1_score, precision_score, recall_score

from anomaly_estimators import AuditHistory
from anomaly_estimators.active.ledger import Ledger
from anomaly_estimators.active.session import describe_table, open_session, read_session

HEADER = describe_table(9, "digest", None)


@pytest.fixture
def history():
    return AuditHistory([7, 2, 5, 0], [-1, 1, -1, -1], [1, 1, 2, 2], n_rows=9)


@st.composite
def histories(draw, n_rows=30):
    """A history of a small table, and whether a round of it is open."""
    rows = draw(st.permutations(range(n_rows)))
    sizes = draw(st.lists(st.integers(1, 4), max_size=6))
    rounds = np.repeat(np.arange(len(sizes)) + 1, sizes)
    n = len(rounds)
    verdicts = draw(st.lists(st.sampled_from([-1, 1]), min_size=n, max_size=n))
    asked = n + draw(st.integers(0, 3)) if n else 0
    last = asked + draw(st.integers(0, 4)) if n else 0
    copies = [(copy, draw(st.sampled_from(rows[:n]))) for copy in rows[asked:last]]
    return AuditHistory(
        rows[:n], verdicts, rounds, pending=rows[n:asked], copies=copies, n_rows=n_rows
    )


# The history


def labelled(history, budget):
    """Rows that have a verdict by then, and those of them that are anomalies."""
    verdicts = dict(zip(history.indices[:budget].tolist(), history.verdicts, strict=False))
    verdicts |= {copy: verdicts[row] for copy, row in history.copies.tolist() if row in verdicts}
    return list(verdicts), [row for row, verdict in verdicts.items() if verdict < 0]


@given(histories(), st.data())
def test_measures_are_those_of_flagging_what_has_a_verdict(history, data):
    truth = np.ones(30, dtype=int)
    everything, anomalies = labelled(history, len(history))
    truth[anomalies] = -1
    truth[np.setdiff1d(np.arange(30), everything)[: data.draw(st.integers(1, 3))]] = -1
    budget = data.draw(st.integers(0, len(history)))
    flagged = np.ones(30, dtype=int)
    flagged[labelled(history, budget)[0]] = -1
    n_anomalies = int((truth < 0).sum())

    seen = history.indices[:budget]
    assert history.found_at(budget) == np.sum(truth[seen] < 0)
    scores = {"pos_label": -1, "zero_division": 0}
    assert history.f1(n_anomalies, budget) == pytest.approx(f1_score(truth, flagged, **scores))
    recall = recall_score(truth, flagged, **scores)
    assert history.recall(n_anomalies, budget) == pytest.approx(recall)
    if budget:
        precision = precision_score(truth, flagged, **scores)
        assert history.precision(budget) == pytest.approx(precision)


@given(histories())
def test_found_counts_up_and_labels_hold_the_verdicts(history):
    found = history.found_at(np.arange(len(history) + 1))
    assert_array_equal(found[1:], history.n_found)
    assert_array_equal(np.diff(found), history.verdicts < 0)
    labels = history.labels()
    assert labels.dtype == np.int8 and len(labels) == 30
    assert_array_equal(labels[history.indices], history.verdicts)
    everything, anomalies = labelled(history, len(history))
    assert sorted(np.flatnonzero(labels)) == sorted(everything)
    assert sorted(np.flatnonzero(labels < 0)) == sorted(anomalies)
    expected = [len(labelled(history, n + 1)[0]) for n in range(len(history))]
    assert history.n_labelled.tolist() == expected
    assert any("identical" in note for note in history.notes) == bool(len(history.copies))


def test_precision_of_nothing_is_zero_with_a_warning(history):
    with pytest.warns(UndefinedMetricWarning, match="No row"):
        assert history.precision(0) == 0
    assert history.f1(3, 0) == history.recall(3, 0) == 0


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_a_ranking_is_audited_in_its_order(n, k, seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 5, size=n) / 2
    truth = rng.choice([-1, 0, 1], size=n)
    budget = rng.choice([None, n // 2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a draw that holds 0 and 1 alone
        history = AuditHistory.from_scores(scores, truth, k, budget=budget)
    order = sorted((score, row) for row, score in enumerate(scores) if truth[row])
    assert history.indices.tolist() == [row for _, row in order[:budget]]
    assert_array_equal(history.verdicts, truth[history.indices])
    assert_array_equal(history.rounds, [place // k + 1 for place in range(len(history))])
    assert history.n_rows == n


def test_rankings_that_cannot_be_audited_are_refused():
    with pytest.raises(ValueError, match="scores contains NaN"):
        AuditHistory.from_scores([1.0, np.nan], [1, -1])
    with pytest.raises(ValueError, match="inconsistent numbers"):
        AuditHistory.from_scores([1.0, 2.0], [1, -1, 1])
    with pytest.raises(ValueError, match="1d"):
        AuditHistory.from_scores(np.ones((2, 2)), [1, -1])
    with pytest.raises(ValueError, match="'k' parameter of from_scores"):
        AuditHistory.from_scores([1.0, 2.0], [1, -1], k=0)


def test_a_history_cannot_be_changed(history):
    given = np.array([7, 2])
    small = AuditHistory(given, [-1, 1], [1, 1])
    given[0] = 3
    assert small.indices[0] == 7
    for name in ("indices", "verdicts", "rounds", "pending", "copies"):
        with pytest.raises(AttributeError):
            setattr(history, name, ())
        for kept in (history, pickle.loads(pickle.dumps(history)), copy.deepcopy(history)):
            with pytest.raises(ValueError, match="read-only"):
                getattr(kept, name)[...] = 0


@given(histories(), histories())
def test_equality_is_that_of_the_contents(a, b):
    def contents(history):
        names = ("indices", "verdicts", "rounds", "pending", "copies")
        return [getattr(history, name).tolist() for name in names]

    assert (a == b) == (contents(a) == contents(b))
    twin = pickle.loads(pickle.dumps(a))
    assert twin == a and hash(twin) == hash(a) and twin is not a
    assert a != contents(a)


def test_what_it_shows_of_itself(history):
    assert repr(history) == "AuditHistory(4 rows in 2 rounds, 3 anomalies)"
    one = AuditHistory([3], [-1], [1], pending=[5, 6])
    assert repr(one) == "AuditHistory(1 row in 1 round, 1 anomaly, 2 rows pending)"
    assert repr(AuditHistory([], [], [])) == "AuditHistory(0 rows in 0 rounds, 0 anomalies)"


def test_a_frame_has_a_line_for_each_verdict(history):
    frame = replace(history, copies=[(3, 2), (8, 2)]).to_frame()
    assert frame.columns.tolist() == ["index", "verdict", "round", "n_found", "n_labelled"]
    assert frame.to_numpy().tolist() == [
        [7, -1, 1, 1, 1],
        [2, 1, 1, 1, 4],
        [5, -1, 2, 2, 5],
        [0, -1, 2, 3, 6],
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 1], [1, 1], [1, 1]), "Row 1 comes 2 times"),
        (([1, 2], [1, 0], [1, 1]), "row 2 is 0"),
        (([1, 2], [1], [1, 1]), "1 verdicts on 2 rows"),
        (([1, -2], [1, 1], [1, 1]), "no row -2"),
        (([1.5, 2], [1, 1], [1, 1]), "whole numbers"),
        (([1, 2], [1, 1], [1]), "rounds"),
        (([1, 2], [1, 1], [0, 1]), "rounds"),
        (([1, 2], [1, 1], [1, 3]), "rounds"),
        (([1, 2], [1, 1], [2, 1]), "rounds"),
    ],
)
def test_what_is_no_history_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        AuditHistory(*arguments)


@pytest.mark.parametrize(
    "copies", [[(7, 2)], [(3, 4)], [(3, 2), (3, 7)], [(9, 2)], [3, 2], [[3.0, 2.0]]]
)
def test_copies_are_other_rows_than_those_judged(history, copies):
    with pytest.raises(ValueError, match=r"Row \d comes|copies must|no row 9"):
        replace(history, copies=copies)


def test_pending_rows_belong_to_a_round_that_has_begun():
    with pytest.raises(ValueError, match="Row 1 comes 2 times"):
        AuditHistory([1], [1], [1], pending=[1])
    with pytest.raises(ValueError, match="pending"):
        AuditHistory([], [], [], pending=[1])
    with pytest.raises(ValueError, match="no row 9"):
        AuditHistory([1], [1], [1], pending=[9], n_rows=9)


def test_measures_that_make_no_sense_are_refused(history):
    for budget in (5, -1, [2, 5]):
        with pytest.raises(ValueError, match="between 0 and 4"):
            history.found_at(budget)
    with pytest.raises(ValueError, match="whole number"):
        history.found_at(1.5)
    for measure in (history.f1, history.recall):
        with pytest.raises(ValueError, match="of which 3 were found; got 2"):
            measure(2)
    with pytest.raises(ValueError, match="pass n_rows"):
        AuditHistory([1], [1], [1]).labels()
    with pytest.raises(ValueError, match="row 7, of 7 rows"):
        history.labels(7)


def test_a_revision_makes_a_new_history(history):
    revised = history.revise(7, 1)
    assert history.verdicts.tolist() == [-1, 1, -1, -1]
    assert revised.verdicts.tolist() == [1, 1, -1, -1]
    assert revised.n_found.tolist() == [0, 0, 1, 2]
    assert revised.revise(7, -1) == history and revised.n_rows == 9
    with pytest.raises(ValueError, match="Row 8 has no verdict"):
        history.revise(8, 1)
    with pytest.raises(ValueError, match="row 7 is 0"):
        history.revise(7, 0)
    assert history.revise(history.indices, -1).verdicts.tolist() == [-1] * 4
    assert history.revise([2, 7], [-1, 1]).verdicts.tolist() == [1, -1, -1, -1]


def test_a_revision_holds_for_all_that_are_identical(history, path):
    copied = replace(history, copies=[(3, 2), (8, 2)])
    assert copied.labels().tolist() == [-1, 0, 1, 1, 0, -1, 0, -1, 1]
    for index in (2, 8, [3, 8]):
        assert copied.revise(index, -1).labels().tolist() == [-1, 0, -1, -1, 0, -1, 0, -1, -1]
    with pytest.raises(ValueError, match="Row 8 has the verdict of row 2"):
        copied.revise([2, 8], [1, -1])
    with open_session(path) as session:
        session.append({"copies": [7, 8], "of": 2})
    AuditHistory.load(path).revise(8, -1)
    assert AuditHistory.load(path).labels().tolist() == [0, 0, -1, 0, -1, 1, 0, -1, -1]


def test_verdicts_in_doubt_are_noted():
    doubtful = AuditHistory([7, 2, 5], [1, 1, 1], [1, 1, 1])
    (note,) = doubtful.notes
    assert "All 3 verdicts so far are +1" in note
    assert repr(doubtful) == "AuditHistory(3 rows in 1 round, 0 anomalies; see notes)"
    assert not eval("history.revise(history.indices, -1)", {"history": doubtful}).notes
    assert not doubtful.revise(2, -1).notes
    assert not AuditHistory([7], [1], [1]).notes and not AuditHistory([], [], []).notes


# The ledger


@given(histories())
def test_the_records_of_a_history_lead_back_to_it(history):
    ledger = Ledger(30)
    for record in history._records():
        ledger.add(json.loads(json.dumps(record)))
    assert AuditHistory._from_ledger(ledger, None) == history
    assert ledger.n_found == history.found_at(len(history))


def test_a_round_may_be_cut_short():
    ledger = Ledger(9)
    ledger.add({"ask": [1, 2, 3]})
    assert ledger.pending == []  # nobody has answered: it may be asked otherwise
    ledger.add({"row": 1, "verdict": 1})
    assert ledger.pending == [2, 3]
    ledger.add({"ask": []})
    ledger.add({"ask": [3]})
    ledger.add({"row": 3, "verdict": -1})
    assert ledger.rounds == [1, 2] and ledger.last_round() == ([3], [-1])


@given(histories(), st.data())
def test_the_ledger_counts_what_was_found(history, data):
    ledger = Ledger(30)
    for record in history._records():
        ledger.add(record)
    for row in data.draw(st.lists(st.sampled_from(history.indices.tolist() or [0]), max_size=5)):
        if len(history):
            ledger.add({"revise": row, "verdict": data.draw(st.sampled_from([-1, 1]))})
    assert ledger.n_found == ledger.verdicts.count(-1)


@pytest.mark.parametrize(
    "record",
    [
        {"ask": [9]},
        {"ask": [-1]},
        {"ask": [True]},
        {"ask": [2.0]},
        {"ask": [1]},
        {"ask": [4, 4]},
        {"ask": "12"},
        {"row": 3, "verdict": 1},
        {"row": 2, "verdict": 0},
        {"row": 2, "verdict": True},
        {"row": 2, "verdict": 1.0},
        {"row": 2},
        {"revise": 2, "verdict": 1},
        {"revise": [1], "verdict": 1},
        {"copies": [4], "of": 2},
        {"copies": [1], "of": 1},
        {"copies": [9], "of": 1},
        {"copies": [4, 2.0], "of": 1},
        {"copies": 4, "of": 1},
        {},
    ],
)
def test_records_that_do_not_go_together_change_nothing(record):
    ledger = Ledger(9)
    for sound in ({"ask": [1, 2, 3]}, {"row": 1, "verdict": 1}):
        ledger.add(sound)
    before = copy.deepcopy(vars(ledger))
    with pytest.raises(ValueError):
        ledger.add(record)
    assert vars(ledger) == before


# The file


@pytest.fixture
def path(tmp_path):
    """A session of three verdicts and a revision."""
    path = tmp_path / "session.jsonl"
    with open_session(path, HEADER) as session:
        session.append({"ask": [4, 2]})
        session.append({"row": 4, "verdict": -1}, {"row": 2, "verdict": -1})
        session.append({"ask": [5, 6]}, {"row": 5, "verdict": 1})
        session.append({"revise": 2, "verdict": 1})
    return path


def test_a_history_is_read_from_its_file(path):
    history = AuditHistory.load(path)
    assert history == AuditHistory([4, 2, 5], [-1, 1, 1], [1, 1, 2], pending=[6])
    assert history.path == path and history.n_rows == 9
    assert all(isinstance(json.loads(line), dict) for line in path.read_text().splitlines())


def test_a_revision_is_noted_in_the_file(path):
    history = AuditHistory.load(path)
    lines = path.read_text().splitlines()
    revised = history.revise(4, 1)
    assert (
        revised
        == AuditHistory.load(path)
        == AuditHistory([4, 2, 5], [1, 1, 1], [1, 1, 2], pending=[6])
    )
    assert path.read_text().splitlines()[:-1] == lines
    with open_session(path, HEADER) as session:
        session.append({"row": 6, "verdict": 1})
    # The whole of the file, of which this history has seen a part.
    assert history.revise(4, -1).indices.tolist() == [4, 2, 5, 6]
    with pytest.raises(ValueError, match="Row 7 has no verdict"):
        history.revise(7, 1)
    assert AuditHistory.load(path).verdicts.tolist() == [-1, 1, 1, 1]


def test_a_file_torn_anywhere_keeps_the_lines_before(path):
    data = path.read_bytes()
    first = data.index(b"\n") + 1
    for size in range(first, len(data)):
        path.write_bytes(data[:size])
        # The line is whole once its last brace is there.
        whole = (
            data[:size] if data[size : size + 1] == b"\n" else data[: data.rindex(b"\n", 0, size)]
        )
        expected = Ledger(9)
        for line in whole.splitlines()[1:]:
            expected.add(json.loads(line))
        assert vars(read_session(path)) == vars(expected)
        with open_session(path, HEADER) as session:
            assert vars(session.ledger) == vars(expected)
            session.append({"ask": [8]})
        assert read_session(path).rest == [8]
        assert path.read_bytes().endswith(b'\n{"ask": [8]}\n')


def test_a_header_that_was_torn_begins_anew(path):
    header = path.read_bytes().split(b"\n")[0] + b"\n"
    for size in range(len(header) + 1):
        path.write_bytes(header[:size])
        with open_session(path, HEADER) as session:
            session.append({"ask": [3]}, {"row": 3, "verdict": 1})
        assert read_session(path).indices == [3]


@pytest.mark.parametrize(
    ("line", "found", "message"),
    [
        (3, b"}{", "line 3: it cannot be read"),
        (3, b"[1]", "line 3"),
        (3, b"\xff\xfe", "line 3"),
        (4, b'{"row": 4, "verdict": 1}', "line 4: it has a verdict on row 4, which was not asked"),
        (5, b'{"ask": [4]}', "line 5: it asks for row 4, which has its verdict already"),
        (5, b'{"ask": [99]}', "line 5: it asks for row 99, of 9 rows"),
        (7, b'{"revise": 8, "verdict": 1}', "line 7: it revises row 8"),
        (1, b'{"format": "anomaly_estimators.audit", "version": 1}', "line 1"),
        (1, b'{"format": "anomaly_estimators.audit", "version": 2}', "version 2"),
        (1, b'{"format": "else"}', "not a session file"),
        (1, b"date,amount", "not a session file"),
    ],
)
def test_a_damaged_file_is_refused_and_left_alone(path, line, found, message):
    lines = path.read_bytes().split(b"\n")
    lines[line - 1] = found
    path.write_bytes(b"\n".join(lines))
    before = path.read_bytes()
    for reader in (AuditHistory.load, lambda path: open_session(path, HEADER).__enter__()):
        with pytest.raises(ValueError, match=message):
            reader(path)
        assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (describe_table(8, "digest", None), "one of 9 rows, and X has 8"),
        (describe_table(9, "another", None), "other values"),
        (describe_table(9, "digest", "some"), "other labels y"),
    ],
)
def test_a_file_of_another_table_is_refused_and_left_alone(path, header, message):
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message), open_session(path, header):
        pass
    assert path.read_bytes() == before


def test_blank_lines_and_foreign_line_ends_are_no_damage(path):
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n\n")
    assert len(AuditHistory.load(path)) == 3
    with open_session(path, HEADER) as session:
        session.append({"row": 6, "verdict": 1})
    assert len(AuditHistory.load(path)) == 4


def test_no_file_is_made_without_a_table(tmp_path):
    with pytest.raises(FileNotFoundError), open_session(tmp_path / "none.jsonl"):
        pass
    with pytest.raises(FileNotFoundError):
        AuditHistory.load(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(ValueError, match="not a session file"):
        AuditHistory.load(tmp_path / "empty.jsonl")


def test_a_new_file_without_a_verdict_goes_with_its_failure(tmp_path):
    path = tmp_path / "new.jsonl"
    for n_verdicts in (0, 1):
        with pytest.raises(KeyboardInterrupt), open_session(path, HEADER) as session:
            session.append({"ask": [3]})
            if n_verdicts:
                session.append({"row": 3, "verdict": 1})
            raise KeyboardInterrupt
        assert path.exists() == bool(n_verdicts)


def test_a_file_is_written_by_one_at_a_time(path):
    pytest.importorskip("fcntl")
    history = AuditHistory.load(path)
    with open_session(path, HEADER):
        with pytest.raises(BlockingIOError, match="in use by another search"):
            history.revise(4, 1)
        assert AuditHistory.load(path) == history
    assert history.revise(4, 1) != history


def test_what_cannot_be_written_stays_in_the_ledger(path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    with open_session(path, HEADER) as session:
        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="could not be written .No space left"):
            session.append({"row": 6, "verdict": -1})
        assert session.ledger.indices[-1] == 6 and session.path is None
