"""The labelled test part of KDD Cup 1999, and the codes that it takes over from the training part."""

import gzip
from collections import Counter

import numpy as np
import pytest

from anomaly_estimators.datasets import _kddcup99, fetch_kddcup99
from tests._data import require_data

LEFT_OUT = "httptunnel."


@pytest.fixture(scope="module")
def lines():
    folder = require_data("kddcup99/corrected.gz")
    with gzip.open(folder / "kddcup99" / "corrected.gz", "rt") as stream:
        return stream.read().splitlines()


@pytest.fixture(scope="module")
def kdd_test(kdd, kdd_home, lines):
    return fetch_kddcup99(subset="test", data_home=kdd_home)


@pytest.fixture
def reversed_test(kdd, kdd_home, lines):
    return lambda seed: fetch_kddcup99(
        variant="reversed", subset="test", data_home=kdd_home, random_state=seed
    )


@pytest.mark.data
def test_standard_counts(kdd, kdd_test):
    assert kdd_test.data.shape == (311_029, 120)
    assert np.count_nonzero(kdd_test.target == -1) == 60_593
    np.testing.assert_array_equal(kdd_test.target == -1, kdd_test.attack_type == "normal.")
    assert kdd_test.feature_names == kdd.feature_names
    new = set(kdd_test.attack_type) - set(kdd.attack_type)
    assert len(new) == 17 and len(set(kdd_test.attack_type)) == 38
    assert kdd_test.filename.endswith("corrected.gz")
    assert "311,029 rows, 60,593 of them normal" in kdd_test.DESCR


@pytest.mark.data
def test_rows_are_those_of_the_file(kdd_test, lines):
    """An independent decoding of some rows; values that have no column are passed over."""
    column_of = {name: i for i, name in enumerate(kdd_test.feature_names)}
    unknown = [
        i for i, line in enumerate(lines) if f"service={line.split(',')[2]}" not in column_of
    ]
    assert unknown
    rows = [*range(0, len(lines), 9973), *kdd_test.data.argmax(axis=0), *unknown]
    for row in rows:
        *values, label = lines[row].split(",")
        expected = np.zeros(120, dtype=np.float32)
        for column, value in zip(_kddcup99._COLUMNS, values, strict=True):
            if column in column_of:
                expected[column_of[column]] = float(value)
            elif f"{column}={value}" in column_of:
                expected[column_of[f"{column}={value}"]] = 1
        np.testing.assert_array_equal(kdd_test.data[row], expected)
        assert kdd_test.attack_type[row] == label


@pytest.mark.data
def test_reversed_counts(kdd, kdd_test, reversed_test, lines):
    drawn = reversed_test(0)
    assert drawn.data.shape == (67_908, 120)
    np.testing.assert_array_equal(drawn.target == 1, drawn.attack_type == "normal.")
    np.testing.assert_array_equal(drawn.data, kdd_test.data[drawn.indices])
    assert (np.diff(drawn.indices) > 0).all()

    in_file = Counter(line.rsplit(",", 1)[1] for line in lines)
    counts = Counter(drawn.attack_type.tolist())
    assert counts.pop("normal.") == in_file.pop("normal.") == 60_593
    del in_file[LEFT_OUT]
    assert counts == {label: min(count, 486) for label, count in in_file.items()}
    assert counts.total() == 7_315 and len(counts) == 36


@pytest.mark.data
def test_reversed_counts_agree_with_the_paper(kdd, reversed_test):
    """The types that the paper's training draw must have lacked, by the documented reading."""
    attacks = reversed_test(0).attack_type
    attacks = attacks[attacks != "normal."]
    known = set(kdd.attack_type) - {"normal.", "land.", "imap.", "perl.", "phf."}
    is_seen = np.isin(attacks, list(known))
    assert (np.count_nonzero(is_seen), np.count_nonzero(~is_seen)) == (3_817, 3_498)
    assert (len(set(attacks[is_seen])), len(set(attacks[~is_seen]))) == (16, 20)


@pytest.mark.data
def test_reversed_draw_follows_the_seed(reversed_test):
    first = reversed_test(0).indices
    np.testing.assert_array_equal(first, reversed_test(np.random.RandomState(0)).indices)
    other = reversed_test(1).indices
    assert len(other) == len(first) and not np.array_equal(first, other)


def test_codes_of_another_table():
    def table(*symbolic):
        strings = (*(np.array(values) for values in symbolic), np.array(["a.", "normal."]))
        return _kddcup99._Table(np.ones((3, 34)), np.zeros((3, 8), dtype=np.uint8), strings)

    one = (["0", "1"],) * 6
    theirs = table(["b", "d"], *one)
    ours = table(["a", "b", "c", "d", "e"], *one)
    ours.codes[:, 0] = [1, 2, 3]  # b, c, d
    ours.codes[:, -1] = [0, 1, 1]
    recoded = _kddcup99._recode(ours, theirs.categories)
    assert recoded.codes[:, 0].tolist() == [0, 2, 1]
    assert recoded.codes[:, -1].tolist() == [0, 1, 1]
    assert recoded.categories[0].tolist() == ["b", "d"]
    assert ours.codes[:, 0].tolist() == [1, 2, 3]

    rows = np.arange(3)
    data = _kddcup99._one_hot(recoded, rows, np.dtype(np.float64))
    names = _kddcup99._feature_names(recoded.categories)
    indicators = data[:, [names.index("protocol_type=b"), names.index("protocol_type=d")]]
    assert indicators.tolist() == [[1, 0], [0, 0], [0, 1]]
