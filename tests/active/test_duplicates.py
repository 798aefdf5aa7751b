"""Identical rows: one question to the expert, whose verdict holds for all of them."""

import json
import warnings

import numpy as np
import pytest
from _public import active_detectors, learned, small
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_array_equal
from test_search import Direction, Expert, assert_same_model, interrupted

import anomaly_estimators as ae
from anomaly_estimators import AuditHistory, active_search
from anomaly_estimators.active.duplicates import IdenticalRows

detectors = pytest.mark.parametrize("cls", active_detectors(), ids=lambda cls: cls.__name__)
N_KINDS = 10
KINDS = np.random.default_rng(0).normal(size=(N_KINDS, 3))
# Three rows of each kind, mixed.
KIND = np.random.default_rng(1).permutation(np.repeat(np.arange(N_KINDS), 3))
X = KINDS[KIND]
TRUTH = np.where(KIND % 5 == 2, -1, 1)
FIRSTS = np.array([np.flatnonzero(KIND == kind)[0] for kind in KIND])


def expert(rows):
    return TRUTH[rows]


# The groups


@settings(max_examples=60, deadline=None)
@given(
    arrays(
        st.sampled_from([np.float32, np.float64]),
        st.tuples(st.integers(1, 20), st.integers(1, 3)),
        elements=st.sampled_from([0.0, -0.0, 1.0, np.float32(0.1), -1e-30, 1e30]),
    )
)
def test_rows_are_identical_if_all_their_values_are(rows):
    same = (rows[:, None] == rows).all(axis=2)
    assert_array_equal(IdenticalRows.of(rows).firsts, same.argmax(axis=1))


def test_the_last_bit_makes_another_row():
    rows = np.array([[1.0, 0.1], [1.0, np.nextafter(0.1, 1.0)], [2.0**24, 0.0], [2.0**24 + 1, 0.0]])
    assert len(set(IdenticalRows.of(rows).firsts)) == 4
    assert len(set(IdenticalRows.of(rows.astype(np.float32)).firsts)) == 2


LABELS = st.lists(st.tuples(st.integers(0, 4), st.sampled_from([-1, 0, 1])), min_size=1)


@given(LABELS)
def test_labels_are_shared_and_learned_once(given_):
    kinds, labels = (np.array(values) for values in zip(*given_, strict=True))
    identical = IdenticalRows.of(kinds[:, None].astype(float))
    shared, torn = identical.shared(labels)
    one, left = identical.one_of_each(labels), identical.untouched(labels)
    for kind in set(kinds):
        rows = np.flatnonzero(kinds == kind)
        known = set(labels[rows]) - {0}
        assert len(np.intersect1d(rows, one)) == len(known)
        assert np.intersect1d(rows, left).tolist() == ([] if known else [rows[0]])
        assert (rows[0] in torn) == (len(known) == 2)
        expected = known.pop() if len(known) == 1 else 0
        assert_array_equal(shared[rows], np.where(labels[rows] == 0, expected, labels[rows]))
        for row in rows:
            assert_array_equal(identical.others(row), rows[rows != row])
    apart = IdenticalRows.none(len(kinds))
    assert_array_equal(apart.shared(labels)[0], labels)
    assert_array_equal(apart.one_of_each(labels), np.flatnonzero(labels))
    assert_array_equal(apart.untouched(labels), np.flatnonzero(labels == 0))


# The detectors


@detectors
def test_each_kind_of_row_is_asked_for_once(cls):
    detector = small(cls).fit(X)
    asked = []
    while len(rows := detector.query(X, k=4)):
        asked += rows.tolist()
        detector.teach(rows, expert(rows))
    assert sorted(KIND[asked]) == list(range(N_KINDS))
    assert_array_equal(detector.labels_, TRUTH)
    assert detector.n_rounds_ == 3


@detectors
def test_every_row_is_asked_for_where_each_has_its_own_verdict(cls):
    detector = small(cls, duplicates="each").fit(X)
    asked = []
    while len(rows := detector.query(X, k=10)):
        asked += rows.tolist()
        detector.teach(rows, expert(rows))
    assert sorted(asked) == list(range(30))
    # Contradictions are the expert's business then.
    first, second, _ = np.flatnonzero(KIND == 0)
    detector = small(cls, duplicates="each").fit(X).teach([first, second], [1, -1])
    assert detector.labels_[[first, second]].tolist() == [1, -1]


@detectors
@pytest.mark.parametrize("duplicates", ["once", "each"])
def test_without_identical_rows_there_is_no_difference(cls, duplicates):
    rows = np.random.default_rng(5).normal(size=(30, 3))
    y = np.where(np.arange(30) < 3, TRUTH, 0)
    detector, other = small(cls).fit(rows, y), small(cls, duplicates=duplicates).fit(rows, y)
    for _ in range(2):
        asked = detector.query(rows, 4)
        assert_array_equal(other.query(rows, 4), asked)
        detector.teach(asked, expert(asked))
        other.teach(asked, expert(asked))
    assert_array_equal(detector.score_samples(rows), other.score_samples(rows))


@detectors
def test_a_verdict_is_learned_once_whichever_row_has_it(cls):
    """And however many rows are identical to it: it does not drown the others."""
    rows = np.r_[np.repeat(KINDS[:1], 5000, axis=0), np.random.default_rng(2).normal(size=(20, 3))]
    one = small(cls).fit(rows).teach([0, 5001, 5002], [1, -1, 1])
    all_of_them = small(cls).fit(rows)
    all_of_them.teach([*range(5003)], [*[1] * 5000, 1, -1, 1])
    assert (one.labels_[:5000] == 1).all()
    if cls is ae.AAD:
        assert len(one._problem(one.labels_).signs) == 3
        other = small(cls).fit(rows).teach([4321, 5001, 5002], [1, -1, 1])
        assert_array_equal(one.weights_, other.weights_)
    else:
        audited = one._place(rows, one.labels_, 1).audited
        assert audited.tolist() == [0, 5001, 5002]


@detectors
def test_labels_of_a_fit_hold_for_identical_rows(cls):
    y = np.zeros(30)
    y[[np.flatnonzero(KIND == 2)[1], np.flatnonzero(KIND == 4)[2]]] = -1, 1
    detector = small(cls).fit(X, y)
    shared = np.select([KIND == 2, KIND == 4], [-1, 1])
    assert_array_equal(detector.labels_, shared)
    assert not set(KIND[detector.query(X, 30)]) & {2, 4}
    assert learned(small(cls).fit(X, shared).score_samples(X)) == learned(detector.score_samples(X))
    detector.partial_fit(X, -y)
    assert_array_equal(detector.labels_, -shared)


@detectors
def test_a_table_of_one_row_many_times_may_have_a_label(cls):
    rows, y = np.full((12, 3), 2.5), np.zeros(12)
    y[3] = -1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for detector in (small(cls).fit(rows, y), small(cls).fit(rows).partial_fit(rows, y)):
            assert (detector.labels_ == -1).all() and not len(detector.query(rows))
            assert np.isfinite(detector.partial_fit(rows).score_samples(rows)).all()


@detectors
@pytest.mark.parametrize("call", ["fit", "partial_fit"])
def test_labels_that_contradict_one_another_are_kept_with_a_warning(cls, call):
    first, second, third = np.flatnonzero(KIND == 0)
    y = np.zeros(30)
    y[[first, second]] = 1, -1
    detector = small(cls).fit(X)
    with pytest.warns(UserWarning, match=f"rows {first}, {second} for one.*duplicates='each'"):
        getattr(detector, call)(X, y)
    assert_array_equal(detector.labels_, y)
    assert 0 not in KIND[detector.query(X, 30)]
    detector.teach([third], [1])
    assert detector.labels_[[first, second, third]].tolist() == [1, -1, 1]
    detector.teach([second], [1], revise=True)
    assert detector.labels_[[first, second, third]].tolist() == [1, 1, 1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small(cls, duplicates="each").fit(X, y)


@detectors
def test_verdicts_that_contradict_one_another_are_refused(cls):
    first, second, third = np.flatnonzero(KIND == 0)
    detector, other = (small(cls).fit(X).teach([first], [1]) for _ in range(2))
    with pytest.raises(ValueError, match=rf"Row {third} was judged \+1.*revise=True.*'each'"):
        detector.teach([third], [-1])
    a, b, _ = np.flatnonzero(KIND == 1)
    for revise in (False, True):
        with pytest.raises(ValueError, match=rf"Rows {a}, {b} are identical.*'each'"):
            detector.teach([a, b], [1, -1], revise=revise)
    assert learned(detector) == learned(other)
    # A correction holds for all of them, and is learned once.
    detector.teach([third], [-1], revise=True)
    assert detector.labels_[[first, second, third]].tolist() == [-1] * 3
    if cls is ae.AAD:
        assert detector._taught.tolist() == [third]


@detectors
def test_the_table_is_searched_once_for_identical_rows(cls, monkeypatch):
    calls = []

    def of(table, find=IdenticalRows.of):
        calls.append(table)
        return find(table)

    monkeypatch.setattr(IdenticalRows, "of", of)
    detector = small(cls).fit(X)
    for _ in range(3):
        rows = detector.query(X, 2)
        detector.teach(rows, expert(rows))
    assert len(calls) == 1
    monkeypatch.undo()
    # One that has changed in its place is searched anew.
    table = X.copy()
    detector = small(cls).fit(table)
    table[:] = np.random.default_rng(3).normal(size=X.shape)
    assert len(detector.partial_fit(table, np.zeros(30)).query(table, 30)) == 30


@detectors
def test_memory_maps_have_identical_rows_too(cls, tmp_path):
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    detector = small(cls).fit(mapped)
    rows = detector.query(mapped, 30)
    assert_array_equal(rows, small(cls).fit(X).query(X, 30))
    assert sorted(KIND[rows]) == list(range(N_KINDS))


# The search


def test_a_search_asks_for_each_kind_once_and_says_so(capfd):
    detector = Direction(random_state=0)
    history = active_search(detector, X, expert, 30, 4, verbose=1)
    assert "10/10" in capfd.readouterr().err
    # What the expert saw, and what is known of the table.
    assert len(history) == N_KINDS and sorted(KIND[history.indices]) == list(range(N_KINDS))
    assert history.rounds.tolist() == [1] * 4 + [2] * 4 + [3] * 2
    assert history.n_found[-1] == 2 and history.n_labelled.tolist() == list(range(3, 31, 3))
    assert_array_equal(history.labels(), TRUTH)
    assert_array_equal(detector.labels_, TRUTH)
    assert history.precision() == 0.2 and history.recall(6) == 1.0
    assert history.notes[-1].startswith("20 rows more have a verdict, being identical")


def test_a_search_with_a_verdict_for_each_row_asks_for_all():
    detector = Direction(random_state=0, duplicates="each")
    history = active_search(detector, X, expert, 30, 4)
    assert sorted(history.indices) == list(range(30)) and not len(history.copies)
    assert not history.notes


def test_known_rows_are_no_part_of_the_history():
    y = np.where(np.isin(np.arange(30), FIRSTS[:3]), TRUTH, 0)
    history = active_search(Direction(random_state=0), X, expert, 30, 4, y=y)
    assert not set(KIND[FIRSTS[:3]]) & set(KIND[history.indices])
    assert set(history.labels()[np.isin(KIND, KIND[FIRSTS[:3]])]) == {0}


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 6), max_size=4), st.booleans(), st.sampled_from(["replay", "keep"]))
def test_no_interruption_makes_a_difference(tmp_path_factory, stops, in_file, resume):
    whole = Direction(random_state=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = active_search(whole, X, expert, 8, 3)
        path = tmp_path_factory.mktemp("audit") / "session" if in_file else None
        detector, history = Direction(random_state=3), None
        for patience in [*stops, 100]:
            kept = {"path": path} if path else {"history": history}
            try:
                history = active_search(
                    detector, X, Expert(TRUTH, patience), 8, 3, resume=resume, **kept
                )
            except KeyboardInterrupt as error:
                history = error.history
            assert path is None or not len(history) or AuditHistory.load(path) == history
    assert history == expected
    assert_same_model(detector, whole)


def test_networks_come_back_bit_for_bit(tmp_path):
    whole, replayed = small(ae.UAI), small(ae.UAI)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = active_search(whole, X, expert, 9, 3)
        interrupted(small(ae.UAI), X, Expert(TRUTH, 5), 9, 3, path=tmp_path / "s")
        history = active_search(replayed, X, Expert(TRUTH), 9, 3, path=tmp_path / "s")
    assert history == expected
    assert_array_equal(replayed.score_samples(X), whole.score_samples(X))
    assert_array_equal(replayed.labels_, whole.labels_)


def test_a_session_of_single_rows_goes_on_with_shared_verdicts(tmp_path):
    path = tmp_path / "session"
    active_search(Direction(random_state=0, duplicates="each"), X, expert, 12, 4, path=path)
    detector = Direction(random_state=0)
    history = active_search(detector, X, expert, 30, 4, path=path)
    assert_array_equal(history.labels(), TRUTH)
    assert_array_equal(detector.labels_, TRUTH)
    assert len(set(history.indices)) == len(history) < 30
    # And the other way round: what was a copy may have a verdict of its own.
    path = tmp_path / "other"
    active_search(Direction(random_state=0), X, expert, 4, 4, path=path)
    history = active_search(
        Direction(random_state=0, duplicates="each"), X, expert, 30, 4, path=path
    )
    assert sorted(history.indices) == list(range(30)) and not len(history.copies)


def test_contradictions_of_single_rows_are_named_when_verdicts_are_shared(tmp_path):
    path = tmp_path / "session"
    first, second, _ = np.flatnonzero(KIND == 0)
    answers = TRUTH.copy()
    answers[second] = -answers[first]
    active_search(
        Direction(random_state=0, duplicates="each"), X, lambda rows: answers[rows], 30, path=path
    )
    with pytest.raises(ValueError, match=r"identical.*'each'|was judged.*'each'"):
        active_search(Direction(random_state=0), X, expert, 30, path=path)
    AuditHistory.load(path).revise(second, TRUTH[second])
    active_search(Direction(random_state=0), X, expert, 30, path=path)


def test_the_file_names_the_copies(tmp_path):
    active_search(Direction(random_state=0), X, expert, 1, path=tmp_path / "session")
    _, ask, answer, copies = map(json.loads, (tmp_path / "session").read_text().splitlines())
    (row,) = ask["ask"]
    assert answer["row"] == copies["of"] == row
    assert copies["copies"] == [
        other for other in np.flatnonzero(KIND == KIND[row]) if other != row
    ]


def test_another_active_detector_need_not_know_of_identical_rows():
    class Plain:
        """Fit, query and teach, and no more."""

        def fit(self, X, y=None):
            self.labels = np.zeros(len(X))
            return self

        def query(self, X, k=10):
            return np.flatnonzero(self.labels == 0)[:k]

        def teach(self, indices, verdicts):
            self.labels[indices] = verdicts

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        history = active_search(Plain(), X, expert, 30)
    assert history.indices.tolist() == list(range(30))
