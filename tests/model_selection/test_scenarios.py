"""Scenarios: shares, disjointness and nesting, counted anew from what is returned."""

import dataclasses
import warnings
from collections import Counter
from itertools import islice

import numpy as np
import pytest
import scipy.sparse
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import binom

from anomaly_estimators.model_selection import (
    Scenario,
    ScenarioSetup,
    iter_setups,
    make_semi_supervised_scenario,
    semi_supervised_split,
)
from tests._data import require_data

# The scenarios of the Deep SAD paper.
LABELLED = (0.0, 0.01, 0.05, 0.1, 0.2)
POLLUTION = (0.0, 0.01, 0.05, 0.1, 0.2)
KNOWN = (0, 1, 2, 3, 5)

shares = st.one_of(st.sampled_from(LABELLED), st.floats(0, 0.3))
seeds = st.integers(0, 2**32 - 1)
quiet = pytest.mark.filterwarnings("ignore:.*rounds to no row")


def ten_classes(n_samples=2_000, seed=0):
    return np.random.default_rng(seed).integers(0, 10, n_samples)


def draw(classes, **arguments):
    """A scenario over row numbers; what must hold for every scenario is checked on the way."""
    arguments = {"normal_class": 3, "random_state": 0, **arguments}
    scenario = make_semi_supervised_scenario(np.arange(len(classes)), classes, **arguments)
    rows = scenario.indices
    np.testing.assert_array_equal(scenario.X, rows)
    assert len(rows) == len(set(rows)) == len(scenario.y) == len(scenario.truth)
    assert all(part.dtype == np.int64 for part in (rows, scenario.y, scenario.truth))
    is_normal = classes[rows] == arguments["normal_class"]
    np.testing.assert_array_equal(scenario.truth, np.where(is_normal, 1, -1))
    # No normal row is lost, and no label is wrong.
    assert set(np.flatnonzero(classes == arguments["normal_class"])) <= set(rows)
    assert (scenario.y * scenario.truth >= 0).all()
    assert set(classes[rows[scenario.y == -1]]) <= set(scenario.known_classes)
    return scenario


def part(scenario, revealed, truth):
    """Rows of one kind, as a set."""
    return set(scenario.indices[(scenario.y == revealed) & (scenario.truth == truth)].tolist())


@quiet
@given(
    labelled_ratio=shares,
    pollution=shares,
    labelled_normal_ratio=shares,
    n_known=st.integers(1, 9),
    normal_class=st.integers(0, 9),
    seed=seeds,
)
def test_shares_are_met_to_within_half_a_row(
    labelled_ratio, pollution, labelled_normal_ratio, n_known, normal_class, seed
):
    # Classes of 400 rows are enough for every share that is asked for.
    classes = np.repeat(np.arange(10), 400)
    scenario = draw(
        classes,
        normal_class=normal_class,
        labelled_ratio=labelled_ratio,
        pollution=pollution,
        labelled_normal_ratio=labelled_normal_ratio,
        n_known_classes=n_known,
        random_state=seed,
    )
    n_unlabelled = np.count_nonzero(scenario.y == 0)
    m_anomalies = np.count_nonzero(scenario.y == -1)
    n_polluting = len(part(scenario, 0, -1))
    assert abs(m_anomalies - labelled_ratio * (n_unlabelled + m_anomalies)) <= 0.5 + 1e-9
    assert abs(n_polluting - pollution * n_unlabelled) <= 0.5 + 1e-9
    assert abs(np.count_nonzero(scenario.y == 1) - labelled_normal_ratio * 400) <= 0.5 + 1e-9
    assert len(scenario.known_classes) == len(set(scenario.known_classes)) == n_known
    assert normal_class not in scenario.known_classes


@quiet
@given(seed=seeds, ratios=st.tuples(shares, shares).map(sorted), pollution=shares)
def test_larger_labelled_ratio_only_adds_labelled_rows(seed, ratios, pollution):
    classes = np.repeat(np.arange(10), 300)
    few, many = (
        draw(classes, labelled_ratio=ratio, pollution=pollution, random_state=seed)
        for ratio in ratios
    )
    for revealed, truth in ((0, 1), (0, -1), (1, 1)):
        assert part(few, revealed, truth) == part(many, revealed, truth)
    assert part(few, -1, -1) <= part(many, -1, -1)
    assert few.known_classes == many.known_classes
    # What both have is in the same order.
    shared = np.isin(many.indices, few.indices)
    np.testing.assert_array_equal(many.indices[shared], few.indices)


@quiet
@given(seed=seeds, ratios=st.tuples(shares, shares).map(sorted))
def test_larger_pollution_contains_the_smaller(seed, ratios):
    classes = np.repeat(np.arange(10), 300)
    clean, dirty = (draw(classes, pollution=ratio, random_state=seed) for ratio in ratios)
    assert part(clean, 0, -1) <= part(dirty, 0, -1)
    # There are more unlabelled rows then, and so more labelled ones.
    assert part(clean, -1, -1) <= part(dirty, -1, -1)


@quiet
@given(seed=seeds, numbers=st.tuples(st.integers(0, 9), st.integers(0, 9)).map(sorted))
def test_more_known_classes_contain_the_fewer(seed, numbers):
    few, many = (draw(ten_classes(), n_known_classes=n, random_state=seed) for n in numbers)
    assert many.known_classes[: numbers[0]] == few.known_classes
    for truth in (1, -1):
        assert part(few, 0, truth) == part(many, 0, truth)


@given(seed=seeds, n_known=st.integers(1, 5))
def test_named_classes_are_like_drawn_ones(seed, n_known):
    drawn = draw(ten_classes(), n_known_classes=n_known, random_state=seed)
    named = draw(ten_classes(), known_classes=drawn.known_classes, random_state=seed)
    for field in dataclasses.fields(Scenario):
        np.testing.assert_array_equal(getattr(drawn, field.name), getattr(named, field.name))


def test_seed_decides():
    first, again, other = (draw(ten_classes(), random_state=seed) for seed in (7, 7, 8))
    generator = draw(ten_classes(), random_state=np.random.RandomState(7))
    for same in (again, generator):
        np.testing.assert_array_equal(first.indices, same.indices)
        np.testing.assert_array_equal(first.y, same.y)
    assert part(first, 0, 1) == part(other, 0, 1)
    assert part(first, 0, -1) != part(other, 0, -1)
    assert not np.array_equal(first.indices[: len(other.indices)], other.indices)


def test_pollution_is_drawn_from_all_anomaly_classes_alike():
    """A binomial test of each class, and of each row: nothing is drawn more often than by chance."""
    classes = np.repeat(np.arange(5), 40)
    polluting, labelled, known = Counter(), Counter(), Counter()
    for seed in range(300):
        scenario = draw(
            classes, normal_class=0, pollution=0.3, labelled_ratio=0.1, random_state=seed
        )
        polluting.update(part(scenario, 0, -1))
        labelled.update(part(scenario, -1, -1))
        known.update(scenario.known_classes)
    for counts, n_possible in ((polluting, 160), (labelled, 160), (known, 4)):
        total = sum(counts.values())
        assert len(counts) == n_possible
        low, high = binom.interval(1 - 1e-4 / n_possible, total, 1 / n_possible)
        assert low <= min(counts.values()) and max(counts.values()) <= high


def test_polluting_and_labelled_rows_are_mixed_in():
    """The place of a row tells nothing of its kind."""
    scenario = draw(ten_classes(20_000), pollution=0.2, labelled_ratio=0.2)
    places = np.arange(len(scenario.y)) / len(scenario.y)
    for revealed, truth in ((0, 1), (0, -1), (-1, -1)):
        of_kind = places[(scenario.y == revealed) & (scenario.truth == truth)]
        # Twelve times the variance of a uniform draw is 1: a mean is that near to one half.
        assert abs(of_kind.mean() - 0.5) < 4 / np.sqrt(12 * len(of_kind))


@pytest.mark.parametrize(("pollution", "labelled_ratio"), [(0.0, 0.2), (0.2, 0.0), (0.0, 0.0)])
def test_zero_is_none(pollution, labelled_ratio):
    scenario = draw(ten_classes(), pollution=pollution, labelled_ratio=labelled_ratio)
    assert bool(part(scenario, 0, -1)) == (pollution > 0)
    assert bool(part(scenario, -1, -1)) == (labelled_ratio > 0)
    assert not part(scenario, 1, 1)


def test_no_known_class_means_no_labels():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scenario = draw(ten_classes(), n_known_classes=0, labelled_ratio=0.2)
    assert scenario.known_classes == () and (scenario.y == 0).all()
    also = draw(ten_classes(), known_classes=(), labelled_ratio=0.2)
    np.testing.assert_array_equal(scenario.indices, also.indices)


def test_last_anomaly_can_be_used():
    """100 normal rows, 25 polluting and 31 labelled ones: 56 anomalies are enough, 55 are not."""
    arguments = {"normal_class": 1, "pollution": 0.2, "labelled_ratio": 31 / 156}
    scenario = draw(np.repeat([1, -1], [100, 56]), **arguments)
    assert len(scenario.indices) == 156
    with pytest.raises(ValueError, match="takes 31 labelled anomalies beside the 125 unlabelled"):
        draw(np.repeat([1, -1], [100, 55]), **arguments)


@pytest.mark.parametrize(
    "values",
    [["trouser", "bag", "coat"], [0.5, 1.5, 2.5], [True, False], np.array([3, 1, 2], np.uint8)],
    ids=["strings", "floats", "booleans", "bytes"],
)
def test_classes_of_any_type(values):
    classes = np.repeat(values, 50)
    scenario = draw(classes, normal_class=values[0], pollution=0.1)
    assert scenario.normal_class == values[0]
    assert len(part(scenario, 0, 1)) == 50 and part(scenario, -1, -1)
    assert not isinstance(scenario.known_classes[0], np.generic)


def test_container_types_are_kept():
    pd = pytest.importorskip("pandas")
    classes = ten_classes(300)
    X = np.random.default_rng(0).normal(size=(300, 4))
    arguments = {"normal_class": 1, "random_state": 0}
    expected = make_semi_supervised_scenario(X, classes, **arguments)
    np.testing.assert_array_equal(expected.X, X[expected.indices])

    frame = pd.DataFrame(X, index=np.arange(300) + 1_000)
    framed = make_semi_supervised_scenario(
        frame, pd.Series(classes, index=frame.index, dtype="category"), **arguments
    )
    assert isinstance(framed.X, pd.DataFrame)
    np.testing.assert_array_equal(framed.X.index, expected.indices + 1_000)
    np.testing.assert_array_equal(framed.y, expected.y)

    sparse = make_semi_supervised_scenario(scipy.sparse.csr_array(X), classes, **arguments)
    np.testing.assert_array_equal(sparse.X.toarray(), expected.X)


def test_scenario_is_immutable_and_leaves_its_input_alone():
    classes = ten_classes()
    before = classes.copy()
    classes.flags.writeable = False
    scenario = draw(classes)
    np.testing.assert_array_equal(classes, before)
    with pytest.raises(dataclasses.FrozenInstanceError):
        scenario.y = scenario.truth


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"labelled_ratio": 0.001, "pollution": 0}, "labelled_ratio"),
        ({"labelled_ratio": 0, "pollution": 0.001}, "pollution"),
        ({"labelled_normal_ratio": 0.001}, "labelled_normal_ratio"),
    ],
)
def test_rounding_to_nothing_warns(arguments, name):
    with pytest.warns(UserWarning, match=f"^{name} rounds to no row at all") as caught:
        make_semi_supervised_scenario(
            np.arange(200), np.arange(200) % 10, normal_class=0, random_state=0, **arguments
        )
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"normal_class": 10}, r"normal_class: there is no class 10 among \[0, 1"),
        ({"normal_class": "3"}, "normal_class: there is no class '3'"),
        ({"labelled_ratio": 1}, "labelled_ratio must be a share of at least 0 and below 1, got 1"),
        ({"labelled_ratio": float("nan")}, "labelled_ratio must be a share"),
        ({"pollution": -0.1}, "pollution must be a share"),
        ({"pollution": "10%"}, "pollution must be a share"),
        ({"labelled_normal_ratio": 1.0}, "labelled_normal_ratio must be a share"),
        ({"labelled_normal_ratio": 0.999}, "none of the 20 normal rows is left unlabelled"),
        ({"n_known_classes": 10}, "integer from 0 to the number of anomaly classes, 9, got 10"),
        ({"n_known_classes": -1}, "n_known_classes must be an integer"),
        ({"n_known_classes": 1.5}, "n_known_classes must be an integer"),
        ({"known_classes": (3,)}, "known_classes: there is no class 3"),
        ({"known_classes": (1, 1)}, "names a class twice"),
        ({"known_classes": "12"}, "must be a sequence of classes, got '12'"),
        ({"known_classes": 1}, "must be a sequence of classes, got 1"),
        ({"known_classes": (1, 2), "n_known_classes": 1}, "contradicts"),
        ({"pollution": 0.95}, "takes 380 anomalies beside the 20 unlabelled.* there are 180"),
        (
            {"labelled_ratio": 0.6, "pollution": 0},
            "takes 30 labelled anomalies beside the 20 .* 20 are left .* name more known classes",
        ),
    ],
)
def test_bad_input_names_the_cure(arguments, message):
    with pytest.raises(ValueError, match=message):
        draw(np.arange(200) % 10, **arguments)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (np.arange(199) % 10, "inconsistent numbers of samples"),
        (np.zeros((200, 2)), "1d"),
        (np.r_[np.nan, np.arange(199) % 10], "classes holds NaN"),
        (np.array([None, *"3" * 199], dtype=object), "not a mixture"),
        (np.full(200, 3), "integer from 0 to the number of anomaly classes, 0, got 1"),
    ],
)
def test_bad_classes(classes, message):
    with pytest.raises(ValueError, match=message):
        make_semi_supervised_scenario(np.arange(200), classes, normal_class=3)


# The split of appendix B


def split(y, **arguments):
    """The split of row numbers; what must hold for every split is checked on the way."""
    X_train, y_train, truth_train, X_test, truth_test = semi_supervised_split(
        np.arange(len(y)), y, **{"random_state": 0, **arguments}
    )
    np.testing.assert_array_equal(truth_train, np.sign(np.asarray(y))[X_train])
    np.testing.assert_array_equal(truth_test, np.sign(np.asarray(y))[X_test])
    assert len({*X_train, *X_test}) == len(X_train) + len(X_test)
    assert (y_train * truth_train >= 0).all()
    return X_train, y_train, X_test, truth_test


@quiet
@given(
    n_normal=st.integers(40, 400),
    n_anomalies=st.integers(30, 200),
    train_size=st.floats(0.3, 0.7),
    labelled_ratio=st.floats(0, 0.03),
    pollution=st.floats(0, 0.03),
    seed=seeds,
)
def test_split_is_stratified_and_meets_the_shares(
    n_normal, n_anomalies, train_size, labelled_ratio, pollution, seed
):
    y = np.random.default_rng(seed).permutation(np.repeat([1, -1], [n_normal, n_anomalies]))
    assume(0.1 * n_normal * train_size < n_anomalies * train_size - 2)
    X_train, y_train, X_test, truth_test = split(
        y,
        train_size=train_size,
        labelled_ratio=labelled_ratio,
        pollution=pollution,
        random_state=seed,
    )
    n_test = len(y) - int(train_size * len(y))
    assert len(X_test) == n_test
    assert abs(np.count_nonzero(truth_test == -1) - n_test * n_anomalies / len(y)) <= 1
    # Every normal row is on one side.
    assert set(np.flatnonzero(y == 1)) <= {*X_train, *X_test}
    n, m = np.count_nonzero(y_train == 0), np.count_nonzero(y_train == -1)
    assert abs(m - labelled_ratio * (n + m)) <= 0.5 + 1e-9
    assert abs(np.count_nonzero(y[X_train[y_train == 0]] == -1) - pollution * n) <= 0.5 + 1e-9


def test_split_keeps_its_test_set_and_nests_its_training_rows():
    y = np.repeat([1, -1], [900, 100])
    few, many, dirty = (
        split(y, labelled_ratio=ratio, pollution=pollution)
        for ratio, pollution in ((0.01, 0.0), (0.05, 0.0), (0.01, 0.05))
    )
    for other in (many, dirty):
        np.testing.assert_array_equal(few[2], other[2])
    assert set(few[0]) < set(many[0]) and set(few[0]) < set(dirty[0])
    assert not np.array_equal(few[2], split(y, random_state=1)[2])


def test_split_reads_labels_by_sign_and_keeps_containers():
    pd = pytest.importorskip("pandas")
    y = np.repeat([2.0, -0.5], [80, 40])
    frame = pd.DataFrame({"a": np.arange(120)}, index=np.arange(120) + 500)
    X_train, y_train, _, X_test, truth_test = semi_supervised_split(
        frame, pd.Series(y, index=frame.index), labelled_ratio=0.1, random_state=0
    )
    rows, revealed, rest, truth = split(y, labelled_ratio=0.1)
    np.testing.assert_array_equal(X_train["a"], rows)
    np.testing.assert_array_equal(X_test.index, rest + 500)
    np.testing.assert_array_equal(y_train, revealed)
    np.testing.assert_array_equal(truth_test, truth)


@pytest.mark.parametrize(
    ("y", "arguments", "message"),
    [
        ([1, -1, 0, 1] * 5, {}, r"leave unlabelled rows \(0\) out"),
        ([1, 0, 0, 1] * 5, {}, r"np.where\(y == 1, -1, 1\)"),
        (
            [1] * 20,
            {},
            r"normal rows \(\+1\) and anomalies \(-1\).*above 0 as known normal, 0 rows of 0",
        ),
        (["a", "b"] * 10, {}, "y must hold numbers"),
        ([1, -1] * 10, {"train_size": 1.0}, "train_size must be a share above 0 and below 1"),
        ([1, -1] * 10, {"train_size": "60%"}, "train_size must be a share"),
        ([1, -1] * 10, {"labelled_ratio": -1}, "labelled_ratio must be a share"),
        ([1, -1] * 10, {"labelled_ratio": 0.9}, "takes 54 labelled anomalies"),
        ([1, -1] * 9, {}, "inconsistent"),
    ],
)
def test_bad_input_of_the_split(y, arguments, message):
    with pytest.raises(ValueError, match=message):
        semi_supervised_split(np.arange(20), y, random_state=0, **arguments)


# The series of experiments


@pytest.mark.parametrize("scenario", ["i", "ii"])
def test_pairs_are_all_pairs(scenario):
    setups = list(iter_setups(np.arange(10).repeat(3), scenario=scenario))
    pairs = [(s.normal_class, *s.known_classes) for s in setups]
    assert set(pairs) == {(a, b) for a in range(10) for b in range(10) if a != b}
    assert len(pairs) == 90
    assert [s.random_state for s in setups] == list(range(90))


@pytest.mark.parametrize("values", [range(2), range(3), range(10), "abcdefg"])
def test_any_beginning_is_spread_evenly(values):
    values = list(values)
    for scenario in ("i", "iii"):
        series = list(iter_setups(values, scenario=scenario))
        for end in range(1, len(series) + 1):
            counts = Counter(s.normal_class for s in series[:end])
            assert max(counts.values()) - min(counts[v] for v in values) <= 1
            if scenario == "i":
                known = Counter(c for s in series[:end] for c in s.known_classes)
                assert max(known.values()) - min(known[v] for v in values) <= 1


@pytest.mark.parametrize("n_known", KNOWN)
def test_draws_of_scenario_iii(n_known):
    setups = list(iter_setups(range(10), scenario="iii", n_known_classes=n_known))
    assert len(setups) == 100
    assert Counter(s.normal_class for s in setups) == dict.fromkeys(range(10), 10)
    assert len({s.random_state for s in setups}) == 100
    for setup in setups:
        assert len({setup.normal_class, *setup.known_classes}) == n_known + 1
    drawn = Counter(c for s in setups for c in s.known_classes)
    if n_known:
        low, high = binom.interval(1 - 1e-5, 100, n_known / 10)
        assert low <= min(drawn[c] for c in range(10)) and max(drawn.values()) <= high


def test_draws_are_those_that_the_seed_makes():
    classes = ten_classes()
    for setup in islice(iter_setups(classes, scenario="iii", n_known_classes=3), 20):
        named = draw(classes, **vars(setup))
        drawn = draw(
            classes,
            normal_class=setup.normal_class,
            n_known_classes=3,
            random_state=setup.random_state,
        )
        assert named.known_classes == drawn.known_classes == setup.known_classes
        np.testing.assert_array_equal(named.indices, drawn.indices)


def test_larger_series_begins_with_the_smaller():
    short = list(iter_setups(range(4), scenario="iii", n_seeds=2, n_known_classes=2))
    long = list(iter_setups(range(4), scenario="iii", n_seeds=5, n_known_classes=2))
    assert len(short) == 8 and long[:8] == short
    shifted = list(iter_setups(range(4), first_seed=100))
    assert [s.random_state for s in shifted] == list(range(100, 112))
    assert shifted[0] == ScenarioSetup(0, (1,), 100)


@pytest.mark.parametrize(
    ("classes", "arguments", "message"),
    [
        (range(10), {"scenario": "iv"}, "scenario must be one of 'i', 'ii', 'iii', got 'iv'"),
        (range(10), {"scenario": "iii", "n_known_classes": 10}, "anomaly classes, 9, got 10"),
        (range(10), {"n_known_classes": 2}, 'one known class by definition.*scenario="iii"'),
        (range(10), {"n_seeds": 0}, "n_seeds must be an integer of at least 1"),
        (range(10), {"first_seed": -1}, "first_seed must be an integer of at least 0"),
        ([3, 3], {}, r"only the class \[3\]"),
    ],
)
def test_bad_input_of_the_series_is_found_at_once(classes, arguments, message):
    with pytest.raises(ValueError, match=message):
        iter_setups(classes, **arguments)


# The real sets, as the paper uses them


@pytest.mark.data
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_every_experiment_of_the_paper_can_be_drawn(name):
    from anomaly_estimators import datasets

    require_data(f"{name}/train-labels-idx1-ubyte.gz", f"{name}/train-images-idx3-ubyte.gz")
    _, classes = getattr(datasets, f"fetch_{name}")(return_X_y=True, dtype=np.uint8)
    n_rows = np.bincount(classes)
    for setup in iter_setups(classes):
        scenario = make_semi_supervised_scenario(
            np.arange(60_000), classes, labelled_ratio=0.2, pollution=0.2, **vars(setup)
        )
        n = np.count_nonzero(scenario.y == 0)
        assert abs(n - n_rows[setup.normal_class] / 0.8) <= 0.5
        assert abs(np.count_nonzero(scenario.y == -1) - n / 4) <= 0.5


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "n_test", "n_test_anomalies"),
    # 40 % of the rows and of the outliers in table 1 of the paper.
    [
        ("arrhythmia", 181, 26),
        ("cardio", 733, 70),
        ("satellite", 2574, 814),
        ("satimage-2", 2322, 28),
        ("shuttle", 19639, 1404),
        ("thyroid", 1509, 37),
    ],
)
def test_tables_of_appendix_b(name, n_test, n_test_anomalies):
    from anomaly_estimators.datasets import fetch_odds

    require_data(f"{name}/{name}.mat")
    X, y = fetch_odds(name, return_X_y=True)
    for seed in range(10):
        _, y_train, truth_train, X_test, truth_test = semi_supervised_split(X, y, random_state=seed)
        assert len(X_test) == len(truth_test) == n_test
        assert np.count_nonzero(truth_test == -1) == n_test_anomalies
        assert 0.005 <= (y_train == -1).mean() <= 0.015
        assert (truth_train[y_train == 0] == 1).all()
