"""The contract of every active detector: query, teach, partial_fit."""

import copy
import inspect
import pickle
import random
import warnings
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from _public import active_detectors, learned, small
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import anomaly_estimators as ae
from anomaly_estimators import UAI, load
from anomaly_estimators.base import threshold

N_ROWS = 40
detectors = pytest.mark.parametrize("cls", active_detectors(), ids=lambda cls: cls.__name__)


def make_table(n_rows=N_ROWS, seed=0):
    """Rows, and the truth of them: every fifth is an anomaly."""
    rng = np.random.default_rng(seed)
    truth = np.where(np.arange(n_rows) % 5 == 2, -1, 1)
    return rng.normal(size=(n_rows, 3)) + 2.0 * (truth < 0)[:, None], truth


X, TRUTH = make_table()
# What is known before the first round.
Y = np.zeros(N_ROWS)
Y[[1, 12, 30]] = 1, -1, 1


def audit(detector, X=X, truth=TRUTH, rounds=2, k=4):
    for _ in range(rounds):
        rows = detector.query(X, k=k)
        detector.teach(rows, truth[rows])
    return detector


@cache
def halfway(cls):
    """A detector in the middle of an audit, pickled."""
    return pickle.dumps(audit(small(cls).fit(X)))


@pytest.fixture
def twins(cls):
    """Two detectors in the middle of the same audit."""
    twins = [pickle.loads(halfway(cls)) for _ in range(2)]
    for detector in twins:
        detector.query(X)
    return twins


def assert_same(one, other):
    assert learned(one) == learned(other)


def assert_goes_on_the_same(one, other, X=X, truth=TRUTH):
    """What is seen of two detectors is the same, and stays so."""
    for _ in range(2):
        rows = one.query(X, k=3)
        assert_array_equal(other.query(X, k=3), rows)
        one.teach(rows, truth[rows])
        other.teach(rows, truth[rows])
        assert_array_equal(one.score_samples(X), other.score_samples(X))
        assert_array_equal(one.predict(X), other.predict(X))
    assert_same(one, other)


def test_there_are_active_detectors():
    assert UAI in active_detectors()
    assert not hasattr(ae, "AAD") or ae.AAD in active_detectors()


# Query


@detectors
@pytest.mark.parametrize("rounds", [0, 3])
def test_query_gives_the_most_suspicious_rows_that_are_left(cls, rounds):
    detector = audit(small(cls, **({"cold_start": 1} if cls is UAI else {})).fit(X), rounds=rounds)
    scores = detector.score_samples(X)
    left = [row for row in range(N_ROWS) if detector.labels_[row] == 0]
    for k in (1, 7, np.int64(3), len(left), 1000):
        rows = detector.query(X, k=k)
        assert rows.dtype == np.int64 and rows.ndim == 1
        # sorted is stable, too.
        assert rows.tolist() == sorted(left, key=lambda row: scores[row])[:k]
    assert_array_equal(detector.query(X), detector.query(X, k=10))


@detectors
def test_rows_with_equal_scores_come_in_their_order(cls):
    twice = np.repeat(X, 2, axis=0)
    detector = small(cls, duplicates="each").fit(twice)
    rows = detector.query(twice, k=2 * N_ROWS)
    assert_array_equal(rows[::2] + 1, rows[1::2])
    assert (rows[::2] % 2 == 0).all()


@detectors
def test_query_changes_nothing(cls, twins):
    asked, other = twins
    before = vars(asked).copy()
    for k in (1, 5, 100):
        asked.query(X, k=k)
        asked.query(X.tolist(), k=k)
    assert all(vars(asked)[name] is value for name, value in before.items())
    assert_goes_on_the_same(asked, other)


@detectors
def test_impossible_numbers_of_rows_are_refused(cls, twins):
    for k in (0, -1, 1.5, "all", None, np.nan, [3]):
        with pytest.raises(ValueError, match="'k'"):
            twins[0].query(X, k=k)
    assert_same(*twins)


@detectors
def test_unfitted_detectors_can_neither_be_asked_nor_taught(cls):
    detector = small(cls)
    with pytest.raises(NotFittedError):
        detector.query(X)
    with pytest.raises(NotFittedError):
        detector.teach([0], [1])
    with pytest.raises(NotFittedError):
        detector.teach([], [])


@detectors
def test_an_audit_ends_when_all_rows_are_known(cls):
    detector = small(cls).fit(X)
    seen = []
    while len(rows := detector.query(X, k=7)):
        seen.extend(rows)
        detector.teach(rows, TRUTH[rows])
    assert sorted(seen) == list(range(N_ROWS))
    assert_array_equal(detector.labels_, TRUTH)
    assert detector.n_rounds_ == 6
    rows = detector.query(X, k=3)
    assert rows.shape == (0,) and rows.dtype == np.int64
    detector.teach(rows, [])
    assert detector.n_rounds_ == 6
    detector.teach([0], [-1], revise=True)
    assert detector.labels_[0] == -1 and detector.n_rounds_ == 7


@detectors
def test_two_rows_make_an_audit(cls):
    pair = X[1:3]
    # Two rows that cannot be told from one another after so short a training are no failure.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector = small(cls).fit(pair)
        assert sorted(detector.query(pair)) == [0, 1]
        detector.teach([0], [1]).teach([1], [-1])
    assert len(detector.query(pair)) == 0
    with pytest.raises(ValueError, match="1 sample"):
        small(cls).fit(X[:1])


# Which table


def forms(X):
    wide = np.zeros((2 * N_ROWS, 5))
    wide[::2, ::2] = X
    return {
        "copy": X.copy(),
        "list": X.tolist(),
        "frame": pd.DataFrame(X),
        "columns": np.asfortranarray(X),
        "strided": wide[::2, ::2],
        "big endian": X.astype(">f8"),
        "read-only": np.frombuffer(X.tobytes()).reshape(X.shape),
    }


@detectors
@pytest.mark.parametrize("form", sorted(forms(X)))
def test_an_equal_table_is_the_same_table(cls, form, twins):
    other, detector = twins
    table = forms(X)[form]
    assert_array_equal(detector.query(table, k=5), other.query(X, k=5))
    assert_same(detector, other)
    from_the_start = audit(small(cls).fit(table), table)
    assert_same(from_the_start, other)
    assert_goes_on_the_same(from_the_start, other)


@detectors
def test_tables_that_change_after_a_fit_on_a_copy_do_not_matter(cls, twins):
    changing = X.tolist()
    detector = audit(small(cls).fit(changing), changing)
    changing[0][0] = 1e6
    rows = twins[0].query(X, k=3)
    detector.teach(rows, TRUTH[rows])
    twins[0].teach(rows, TRUTH[rows])
    assert_same(detector, twins[0])


@detectors
def test_another_table_is_refused(cls, twins):
    detector, other = twins
    changed = X.copy()
    changed[-1, -1] = np.nextafter(changed[-1, -1], np.inf)
    tables = [X[:-1], X[::-1], X + 1.0, changed, np.vstack([X, X[:1]]), X[:, ::-1]]
    for table in tables:
        with pytest.raises(ValueError, match=r"not the table under audit.*partial_fit"):
            detector.query(table)
    with pytest.raises(ValueError, match="features"):
        detector.query(X[:, :2])
    assert_same(detector, other)
    assert_goes_on_the_same(detector, other)


@pytest.fixture(scope="module", params=active_detectors(), ids=lambda cls: cls.__name__)
def started(request):
    return small(request.param).fit(X)


@settings(max_examples=40, deadline=None)
@given(
    row=st.integers(0, N_ROWS - 1),
    column=st.integers(0, 2),
    value=st.floats(-1e6, 1e6, allow_nan=False),
)
def test_any_changed_value_makes_another_table(started, row, column, value):
    table = X.copy()
    table[row, column] = value
    if table.tobytes() == X.tobytes():
        assert len(started.query(table)) == 10
        return
    with pytest.raises(ValueError, match="not the table under audit"):
        started.query(table)


# Teach


@detectors
def test_verdicts_are_remembered(cls):
    detector = small(cls).fit(X)
    assert detector.labels_.dtype == np.int8 and not detector.labels_.any()
    assert detector.n_rounds_ == 0
    expected = np.zeros(N_ROWS)
    for number, (row, verdict) in enumerate([(3, 1), (2, -1), (39, 1), (0, 1)], start=1):
        expected[row] = verdict
        assert detector.teach([row], [verdict]) is detector
        assert_array_equal(detector.labels_, expected)
        assert detector.labels_.dtype == np.int8 and detector.n_rounds_ == number
        assert row not in detector.query(X, k=N_ROWS)


@detectors
def test_a_round_changes_the_scores(cls):
    detector = small(cls, **({"cold_start": 0} if cls is UAI else {})).fit(X)
    for _ in range(3):
        before = detector.score_samples(X)
        audit(detector, rounds=1)
        assert (detector.score_samples(X) != before).any()


@detectors
def test_the_threshold_follows_the_scores(cls):
    detector = small(cls, contamination=0.2).fit(X)
    for rounds in (0, 1, 1):
        audit(detector, rounds=rounds)
        assert detector.offset_ == threshold(detector.score_samples(X), 0.2)
        assert (detector.predict(X) == -1).sum() == 8


@detectors
@pytest.mark.parametrize(
    ("indices", "verdicts"),
    [
        (np.array([2, 3], dtype=np.uint8), np.array([-1.0, 1.0], dtype=np.float32)),
        ((2, 3), (np.int8(-1), 1.0)),
        (pd.Series([2, 3]), pd.Series([-1, 1], index=["a", "b"])),
        (np.array([2, 3]), np.array([-1, 1], dtype=object)),
        (range(2, 4), {-1: "a", 1: "b"}.keys()),
        (torch.tensor([2, 3]), torch.tensor([-1, 1])),
    ],
)
def test_verdicts_may_come_in_any_form(cls, indices, verdicts, twins):
    usual, detector = twins
    usual.teach([2, 3], [-1, 1], revise=True)
    detector.teach(indices, verdicts, revise=True)
    assert_same(usual, detector)


NO_ROWS = [
    [40],
    [-1],
    [0, 99],
    [2**62],
    [1.0],
    ["a"],
    [True],
    [None],
    3,
    [[1]],
    None,
    "1",
    [np.nan],
]
NO_VERDICTS = [
    0,
    2,
    -2,
    0.5,
    np.nan,
    np.inf,
    None,
    True,
    False,
    np.True_,
    "yes",
    "-1",
    b"1",
    pd.NA,
    pd.NaT,
    [1],
    np.array([1]),
    1j,
    {},
    object(),
]


@detectors
def test_what_is_no_row_or_no_verdict_changes_nothing(cls, twins):
    detector, other = twins
    before = vars(detector).copy()
    left = detector.query(X, k=6)
    known = np.flatnonzero(detector.labels_)
    for indices in NO_ROWS:
        n = len(indices) if isinstance(indices, list) else 1
        with pytest.raises(ValueError, match=r"row|indices"):
            detector.teach(indices, [1] * n)
    for verdict in NO_VERDICTS:
        # Wherever it is among the others, which are fine.
        for place in (0, 1):
            verdicts = [1, 1]
            verdicts[place] = verdict
            with pytest.raises(ValueError, match=rf"row {left[place]} .*-1 for an anomaly"):
                detector.teach(left[:2], verdicts)
    for verdicts in ([], [1], [1, 1, 1], 1, "ab", None, [[1, 1]], np.ones((1, 2))):
        with pytest.raises(ValueError, match=r"verdicts? on"):
            detector.teach(left[:2], verdicts)
    for verdicts in ([1, 1], [1, -1]):
        with pytest.raises(ValueError, match=rf"Row {left[0]} comes 2 times"):
            detector.teach([left[0], left[0]], verdicts)
        with pytest.raises(ValueError, match="times"):
            detector.teach([known[0], known[0]], verdicts, revise=True)
    wrong = [left[0], known[3], known[0]]
    with pytest.raises(ValueError, match=rf"Row {known[3]} was judged.*revise=True"):
        detector.teach(wrong, [1, -TRUTH[known[3]], -TRUTH[known[0]]])
    assert vars(detector).keys() == before.keys()
    assert all(vars(detector)[name] is value for name, value in before.items())
    assert_same(detector, other)
    assert_goes_on_the_same(detector, other)


@detectors
def test_column_of_verdicts_is_refused_or_read(cls, twins):
    """As numpy gives it: never a crash half-way, and never the wrong verdicts."""
    detector, other = twins
    rows = detector.query(X, k=3)
    with pytest.raises(ValueError, match="verdict"):
        detector.teach(rows, TRUTH[rows][:, None])
    assert_same(detector, other)


@detectors
def test_the_same_verdict_again_contradicts_nothing(cls, twins):
    known = np.flatnonzero(twins[0].labels_)
    labels = twins[0].labels_
    twins[0].teach(known, labels[known])
    assert_array_equal(twins[0].labels_, labels)


@detectors
def test_revised_verdicts_replace_the_earlier_ones(cls):
    mistaken = small(cls).fit(X).teach([0, 2, 5], [1, 1, -1])
    mistaken.teach([5, 2, 8], [1, -1, 1], revise=True)
    assert mistaken.labels_[[0, 2, 5, 8]].tolist() == [1, -1, 1, 1]
    with pytest.raises(ValueError, match="Row 2 was judged -1"):
        mistaken.teach([2], [1])


@detectors
def test_rows_that_were_never_queried_can_be_taught(cls):
    detector = small(cls).fit(X)
    last = detector.query(X, k=N_ROWS)[-5:]
    detector.teach(last, TRUTH[last])
    assert_array_equal(np.sort(np.flatnonzero(detector.labels_)), np.sort(last))


@detectors
@pytest.mark.parametrize("empty", [[], (), np.empty(0, dtype=int), np.empty(0)], ids=repr)
def test_no_verdicts_are_no_round(cls, empty, twins):
    detector, other = twins
    assert detector.teach(empty, []) is detector
    assert detector.n_rounds_ == 2
    assert_same(detector, other)


@detectors
def test_verdicts_that_make_all_rows_anomalies_change_nothing(cls):
    detector = small(cls).fit(X).teach([2, 7], [-1, -1])
    before = learned(detector)
    others = np.flatnonzero(detector.labels_ == 0)
    with pytest.raises(ValueError, match="known anomalies"):
        detector.teach(others, -np.ones(len(others)))
    assert learned(detector) == before


# Verdicts that may be the wrong way round


@detectors
def test_a_first_round_of_nothing_but_ones_asks_once(cls):
    detector = small(cls).fit(X)
    rows = detector.query(X, k=5)
    with pytest.warns(UserWarning, match=r"All 5 verdicts so far are \+1.*np\.where") as caught:
        detector.teach(rows, [1] * 5)
    assert len(caught) == 1 and caught[0].filename == __file__
    cure = f"detector.teach({rows.tolist()}, [-1, -1, -1, -1, -1], revise=True)"
    assert cure in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        more = detector.query(X, k=5)
        detector.teach(more, [1] * 5)
        exec(cure, {"detector": detector})  # what the warning advises
        detector.teach(rows, [1] * 5, revise=True)
    assert (detector.labels_[[*rows, *more]] == 1).all()


@detectors
def test_one_verdict_tells_nothing_and_an_anomaly_all(cls):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small(cls).fit(X).teach([3], [1]).teach([2], [-1]).teach([4, 5], [1, 1])
    with pytest.warns(UserWarning, match="All 2 verdicts"):
        small(cls).fit(X, Y).teach([3], [1]).teach([4], [1])


@detectors
@pytest.mark.parametrize("zero", [0, 0.0, False, np.False_], ids=repr)
def test_a_zero_names_the_verdicts_before_it_and_their_cure(cls, zero):
    """One who calls anomalies 1, and follows the advice, keeps no wrong verdict."""
    detector = small(cls).fit(X, Y)
    rows, more = [2, 7], [3, 8]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector.teach(rows, [1, 1])
    with pytest.raises(ValueError, match=r"np\.where\(.*misread as normal") as caught:
        detector.teach(more, [zero, 1])
    cure = "detector.teach([2, 7], [-1, -1], revise=True)"
    assert cure in str(caught.value)
    exec(cure, {"detector": detector})
    detector.teach(more, np.where(np.asarray([zero, 1]) == 1, -1, 1))
    expected = Y.copy()
    expected[[*rows, *more]] = -1, -1, 1, -1
    assert_array_equal(detector.labels_, expected)
    # With an anomaly among the verdicts, they were the right way round.
    with pytest.raises(ValueError) as caught:
        detector.teach([9], [zero])
    assert "misread" not in str(caught.value)


@detectors
def test_other_answers_put_nothing_in_doubt(cls, twins):
    detector = small(cls).fit(X).teach([2], [1])
    for answer in (None, "cannot tell", "0", np.nan, True, 2):
        with pytest.raises(ValueError) as caught:
            detector.teach([3], [answer])
        assert "misread" not in str(caught.value)


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
@detectors
def test_any_audit_keeps_its_books(cls, data):
    """No row comes twice, and what is known is what was taught, whatever the order of the calls."""
    detector = small(cls).fit(X, Y)
    known = {row: int(Y[row]) for row in np.flatnonzero(Y)}
    n_rounds = 0
    steps = st.sampled_from(["answer", "answer", "leave some", "any", "revise", "go on", "pickle"])
    for step in data.draw(st.lists(steps, min_size=2, max_size=7)):
        rows = detector.query(X, k=data.draw(st.integers(1, 12)))
        assert len(set(rows)) == len(rows) and not known.keys() & set(rows.tolist())
        if step == "leave some":
            rows = rows[data.draw(st.integers(0, 2)) :]
        elif step == "any":
            left = sorted(set(range(N_ROWS)) - known.keys())
            rows = data.draw(st.lists(st.sampled_from(left), unique=True, max_size=4))
        elif step == "revise":
            rows = data.draw(st.lists(st.sampled_from(sorted(known)), unique=True, max_size=3))
        if step == "pickle":
            detector = pickle.loads(pickle.dumps(detector))
        elif step == "go on":
            detector.partial_fit(X)
            n_rounds += 1
        else:
            verdicts = data.draw(
                st.lists(st.sampled_from([-1, 1]), min_size=len(rows), max_size=len(rows))
            )
            detector.teach(rows, verdicts, revise=step == "revise")
            known |= dict(zip(map(int, rows), verdicts, strict=True))
            n_rounds += len(rows) > 0
        expected = [known.get(row, 0) for row in range(N_ROWS)]
        assert detector.labels_.tolist() == expected and detector.n_rounds_ == n_rounds
    assert np.isfinite(detector.score_samples(X)).all()


# Labels that are known at the start


@detectors
def test_known_labels_are_read_by_sign_and_never_asked(cls):
    detector = small(cls).fit(X, Y)
    assert_array_equal(detector.labels_, Y)
    assert detector.n_rounds_ == 0
    assert not set(np.flatnonzero(Y)) & set(detector.query(X, k=N_ROWS))
    with pytest.raises(ValueError, match="Row 12 was judged -1"):
        detector.teach([12], [1])


@detectors
def test_known_labels_change_the_scores(cls):
    # Where the audit stands at its end, not how it came there.
    scores = [
        small(cls, **({"cold_start": 0} if cls is UAI else {})).fit(X, y).score_samples(X)
        for y in (None, Y, -Y)
    ]
    assert (scores[0] != scores[1]).any() and (scores[1] != scores[2]).any()


@detectors
@pytest.mark.parametrize("y", [-np.ones(N_ROWS), np.ones(3), np.full(N_ROWS, np.nan)], ids=len)
def test_labels_that_cannot_be_leave_the_detector_as_it_was(cls, y, twins):
    detector, other = twins
    for learn in (detector.fit, detector.partial_fit):
        with pytest.raises(ValueError):
            learn(X, y)
    assert_same(detector, other)
    assert_goes_on_the_same(detector, other)


# partial_fit


@detectors
def test_partial_fit_of_an_unfitted_detector_is_a_fit(cls):
    assert_same(small(cls).partial_fit(X, Y), small(cls).fit(X, Y))
    detector = small(cls).partial_fit(X)
    assert detector.n_rounds_ == 0
    assert_goes_on_the_same(detector, small(cls).fit(X))


@detectors
@pytest.mark.parametrize("table", [X, X.copy(), X.tolist()], ids=["same", "copy", "list"])
def test_partial_fit_without_labels_goes_on_with_those_of_the_table(cls, table, twins):
    detector, other = twins
    scores = detector.score_samples(X)
    assert detector.partial_fit(table) is detector
    assert_array_equal(detector.labels_, other.labels_)
    assert detector.n_rounds_ == 3 and (detector.score_samples(X) != scores).any()
    # A round that taught nothing new.
    other.partial_fit(X)
    assert_goes_on_the_same(detector, other, table)


@detectors
def test_partial_fit_of_another_table_forgets_the_labels(cls, twins):
    detector = twins[0]
    table, truth = make_table(25, seed=3)
    detector.partial_fit(table)
    assert detector.labels_.shape == (25,) and not detector.labels_.any()
    assert detector.n_rounds_ == 3
    with pytest.raises(ValueError, match="not the table under audit"):
        detector.query(X)
    assert sorted(detector.query(table, k=99)) == list(range(25))
    with pytest.raises(ValueError, match="rows 0 to 24"):
        detector.teach([30], [1])
    audit(detector, table, truth)
    assert (detector.predict(table) == -1).sum() == 2
    assert detector.offset_ == threshold(detector.score_samples(table), 0.1)


@detectors
def test_another_table_of_as_many_rows_is_another_table(cls, twins):
    assert twins[0].labels_.any()
    twins[0].partial_fit(X[::-1])
    assert not twins[0].labels_.any()


@detectors
def test_partial_fit_replaces_what_is_known(cls, twins):
    detector = twins[0]
    detector.partial_fit(X, Y)
    assert_array_equal(detector.labels_, Y)
    detector.partial_fit(X, np.zeros(N_ROWS))
    assert not detector.labels_.any() and detector.n_rounds_ == 4
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector.partial_fit(X, -3 * Y)
    assert_array_equal(detector.labels_, -Y)


@detectors
def test_partial_fit_after_a_pickle_needs_no_query(cls, twins):
    detector, other = twins
    restored = pickle.loads(pickle.dumps(detector))
    restored.partial_fit(X)
    other.partial_fit(X)
    assert_goes_on_the_same(restored, other)


@detectors
def test_a_table_that_changed_in_its_place_is_read_again(cls):
    """As a copy with the same changes is."""
    labels = np.where(np.isin(np.arange(N_ROWS), [2, 3, 4]), TRUTH, 0)
    table, fixed = X.copy(), X.copy()
    in_place, copied = (audit(small(cls).fit(table), table) for table in (table, fixed))
    assert_same(in_place, copied)
    table[: N_ROWS // 2] *= -3.0
    moved = table.copy()
    in_place.partial_fit(table, labels)
    copied.partial_fit(moved, labels)
    assert_array_equal(in_place.score_samples(moved), copied.score_samples(moved))
    assert_same(in_place, copied)
    restored = pickle.loads(pickle.dumps(in_place))
    assert_array_equal(restored.query(moved), in_place.query(table))


@detectors
def test_partial_fit_of_other_columns_changes_nothing(cls, twins):
    detector, other = twins
    for table in (X[:, :2], np.full((N_ROWS, 3), np.nan), X[:0], "table"):
        with pytest.raises(ValueError):
            detector.partial_fit(table)
    assert_same(detector, other)
    assert_goes_on_the_same(detector, other)


@detectors
def test_partial_fit_checks_the_parameters(cls, twins):
    detector, other = twins
    before = learned({k: v for k, v in vars(detector).items() if k != "contamination"})
    with pytest.raises(ValueError, match="contamination"):
        detector.set_params(contamination=3).partial_fit(X)
    assert learned({k: v for k, v in vars(detector).items() if k != "contamination"}) == before


# A fit starts anew


@detectors
def test_another_fit_forgets_the_audit(cls):
    detector = audit(small(cls).fit(X)).fit(X)
    fresh = small(cls).fit(X)
    assert_same(detector, fresh)
    assert_goes_on_the_same(detector, fresh)


@detectors
def test_another_fit_after_a_change_in_place_forgets_the_table(cls):
    table = X.copy()
    detector = audit(small(cls).fit(table), table)
    table *= np.linspace(-4.0, 4.0, N_ROWS)[:, None]
    fresh = small(cls).fit(table.copy())
    detector.fit(table)
    assert_same(detector, fresh)
    assert_goes_on_the_same(detector, fresh, table)
    restored = pickle.loads(pickle.dumps(detector))
    assert_array_equal(restored.query(table), detector.query(table))


@detectors
def test_replay_gives_the_same_model(cls):
    usual = audit(small(cls).fit(X))
    assert_same(usual, audit(small(cls).fit(X)))
    detector = clone(usual).fit(X)
    for rows in ([3, 4], [2], [38, 17, 22]):
        detector.teach(rows, TRUTH[rows])
    replayed = clone(usual).fit(X)
    for rows in ([3, 4], [2], [38, 17, 22]):
        # Queries in between, or other calls, have no part in it.
        replayed.query(X, k=2)
        replayed.predict(X[:3])
        replayed.teach(rows, TRUTH[rows])
    assert_same(detector, replayed)


# Files, pickles and copies


def by_file(detector, folder):
    detector.save(folder / "model")
    return load(folder / "model")


WAYS = {
    "pickle": lambda detector, folder: pickle.loads(pickle.dumps(detector)),
    "deepcopy": lambda detector, folder: copy.deepcopy(detector),
    "copy": lambda detector, folder: copy.copy(detector),
    "file": by_file,
}


@detectors
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("rounds", [0, 2])
def test_an_audit_goes_on_elsewhere(cls, way, rounds, tmp_path):
    detector = audit(small(cls).fit(X), rounds=rounds)
    other = WAYS[way](detector, tmp_path)
    assert_same(detector, other)
    before = learned(other)
    for indices in ([0], []):
        with pytest.raises(ValueError, match=r"query\(X\) or partial_fit\(X, y\)"):
            other.teach(indices, [1] * len(indices))
    with pytest.raises(ValueError, match="not the table under audit"):
        other.query(X[::-1])
    assert learned(other) == before
    other.query(X.copy(), k=1)
    assert_goes_on_the_same(detector, other)


@detectors
def test_no_file_holds_the_table(cls):
    """Nor anything that is computed of each of its rows, but for what is known of them."""
    table = np.random.default_rng(0).normal(size=(12_000, 3))
    sizes = []
    for rows in (table[:2_000], table):
        detector = small(cls).fit(rows)
        detector.teach(detector.query(rows), 10 * [1])
        sizes.append(len(pickle.dumps(detector)))
    assert sizes[1] - sizes[0] < 4 * 10_000


@detectors
def test_a_copy_is_independent(cls, twins):
    detector, other = twins
    copied = copy.deepcopy(detector)
    audit(copied)
    assert_same(detector, other)
    audit(detector, rounds=1)
    assert copied.n_rounds_ == 4 and detector.n_rounds_ == 3


# Rounds that fail


class Trouble(Exception):
    pass


@detectors
@pytest.mark.parametrize(
    ("place", "error"),
    [("_continue", Trouble), ("_calibrate", KeyboardInterrupt), ("_check_scores", Trouble)],
)
@pytest.mark.parametrize("call", ["teach", "partial_fit", "other table"])
def test_a_round_that_fails_leaves_all_as_it_was(cls, error, place, call, twins, monkeypatch):
    detector, other = twins
    before = vars(detector).copy()
    whole = getattr(cls, place)

    def fail(self, *args):
        if self is not detector:
            return whole(self, *args)
        whole(self, *args)
        raise error

    rows = detector.query(X, k=3)
    with monkeypatch.context() as patch:
        patch.setattr(cls, place, fail)
        with pytest.raises(error):
            if call == "teach":
                detector.teach(rows, TRUTH[rows])
            elif call == "partial_fit":
                detector.partial_fit(X.copy(), Y)
            else:
                detector.partial_fit(X[::-1] * 2.0)
    assert vars(detector).keys() == before.keys()
    assert all(vars(detector)[name] is value for name, value in before.items())
    assert_same(detector, other)
    assert_goes_on_the_same(detector, other)


@detectors
def test_an_untaught_round_that_fails_leaves_all_as_it_was(cls, monkeypatch):
    detector, other = small(cls).fit(X), small(cls).fit(X)

    def fail(self, *args):
        raise Trouble

    with monkeypatch.context() as patch:
        patch.setattr(cls, "_check_scores", fail)
        with pytest.raises(Trouble):
            detector.partial_fit(X[::-1] * 2.0)
    assert_same(detector, other)
    assert_goes_on_the_same(detector, other)


@detectors
def test_a_fit_that_fails_leaves_the_audit_as_it_was(cls, twins, monkeypatch):
    detector, other = twins

    def fail(self, *args):
        raise Trouble

    with monkeypatch.context() as patch:
        patch.setattr(cls, "_check_scores", fail)
        with pytest.raises(Trouble):
            detector.fit(X[:20] + 1.0)
    assert_same(detector, other)
    assert_goes_on_the_same(detector, other)


# Precision, memory maps, batches, surroundings


@detectors
def test_scores_do_not_depend_on_the_batch(cls, twins):
    scores = twins[0].score_samples(X)
    one_by_one = np.concatenate([twins[0].score_samples(X[i : i + 1]) for i in range(N_ROWS)])
    np.testing.assert_allclose(one_by_one, scores, rtol=1e-7, atol=1e-9)
    assert_array_equal(twins[0].score_samples(X[::-1])[::-1], scores)


@detectors
def test_single_precision_is_kept(cls):
    detector = audit(small(cls).fit(X.astype(np.float32)), X.astype(np.float32))
    scores = detector.score_samples(X.astype(np.float32))
    assert scores.dtype == np.float32 and np.isfinite(scores).all()
    double = detector.score_samples(X.astype(np.float32).astype(np.float64))
    assert double.dtype == np.float64
    np.testing.assert_allclose(scores, double, rtol=1e-3, atol=1e-4)


@detectors
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_memory_maps_are_audited_as_arrays_are(cls, dtype, tmp_path):
    table = X.astype(dtype)
    np.save(tmp_path / "X.npy", table)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    detector, usual = audit(small(cls).fit(mapped), mapped), audit(small(cls).fit(table), table)
    assert_same(detector, usual)
    # Another map of the same file, and the rows in memory.
    again = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert_array_equal(detector.query(again), usual.query(table))
    assert_array_equal(detector.query(table), usual.query(again))
    restored = pickle.loads(pickle.dumps(detector))
    assert_goes_on_the_same(restored, usual, again)


@detectors
def test_rounds_leave_the_surroundings_alone(cls, twins):
    detector = twins[0]
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    torch.manual_seed(3)

    def surroundings():
        return (
            random.getstate(),
            learned(np.random.mtrand._rand),
            learned(torch.get_rng_state()),
            torch.get_num_threads(),
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            torch.are_deterministic_algorithms_enabled(),
            np.geterr(),
        )

    before = surroundings()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        audit(detector)
        detector.partial_fit(X)
        detector.query(X.copy())
        pickle.loads(pickle.dumps(detector)).query(X)
    assert surroundings() == before


@detectors
def test_rounds_do_not_depend_on_the_surroundings(cls, twins):
    one, other = twins
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            audit(one)
    finally:
        torch.set_default_dtype(torch.float32)
    np.random.seed(6)  # noqa: NPY002
    torch.manual_seed(6)
    audit(other)
    assert_same(one, other)


@detectors
def test_given_arrays_are_left_alone(cls):
    table, y = X.copy(), Y.copy()
    table.flags.writeable = y.flags.writeable = False
    detector = small(cls).fit(table, y)
    rows, verdicts = np.array([3, 2]), np.array([1, -1])
    rows.flags.writeable = verdicts.flags.writeable = False
    detector.teach(rows, verdicts)
    detector.partial_fit(table, y)
    # And what is handed out is the caller's own.
    queried = detector.query(table, k=5)
    expected = queried.copy()
    queried[:] = 0
    assert_array_equal(detector.query(table, k=5), expected)


@detectors
def test_signatures_are_those_of_the_contract(cls):
    query, teach = (inspect.signature(getattr(cls, name)) for name in ("query", "teach"))
    assert str(query).split(" ->")[0] == "(self, X, k=10)"
    assert list(teach.parameters) == ["self", "indices", "verdicts", "revise"]
    assert teach.parameters["revise"].kind.name == "KEYWORD_ONLY"
