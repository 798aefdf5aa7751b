import gzip
import subprocess
import sys

import numpy as np
import pytest

from anomaly_estimators.datasets import _kddcup99, fetch_kddcup99
from anomaly_estimators.datasets._registry import KDDCUP99, KDDCUP99_TEST
from tests._data import require_data

SYMBOLIC = ("protocol_type", "service", "flag", "land", "logged_in", "is_guest_login")


@pytest.fixture
def reversed_kdd(kdd, kdd_home):
    return lambda **arguments: fetch_kddcup99(variant="reversed", data_home=kdd_home, **arguments)


@pytest.fixture(scope="session")
def lines():
    folder = require_data("kddcup99/kddcup.data_10_percent.gz")
    with gzip.open(folder / "kddcup99" / "kddcup.data_10_percent.gz", "rt") as stream:
        return stream.read().splitlines()


@pytest.mark.data
def test_standard_counts(kdd):
    assert kdd.data.shape == (494_021, 120)
    assert kdd.data.dtype == np.float32
    assert kdd.target.dtype == np.int64
    assert np.count_nonzero(kdd.target == -1) == 97_278
    assert np.count_nonzero(kdd.target == 1) == 396_743
    np.testing.assert_array_equal(kdd.target == -1, kdd.attack_type == "normal.")
    assert len(np.unique(kdd.attack_type)) == 23
    np.testing.assert_array_equal(kdd.indices, np.arange(494_021))
    assert "494,021 rows, 120 features, 97,278 anomalies" in kdd.DESCR


@pytest.mark.data
def test_columns(kdd):
    names = kdd.feature_names
    assert len(names) == len(set(names)) == 120
    assert names[:4] == ["duration", "protocol_type=icmp", "protocol_type=tcp", "protocol_type=udp"]
    assert not any(name.startswith("is_host_login") for name in names)
    assert "num_outbound_cmds" in names
    counts = {"protocol_type": 3, "service": 66, "flag": 11}
    for column in SYMBOLIC:
        indicators = [i for i, name in enumerate(names) if name.startswith(column + "=")]
        assert len(indicators) == counts.get(column, 2)
        assert [names[i] for i in indicators] == sorted(names[i] for i in indicators)
        np.testing.assert_array_equal(kdd.data[:, indicators].sum(axis=1), 1)


@pytest.mark.data
def test_rows_are_those_of_the_file(kdd, lines):
    """An independent decoding of some rows, the longest duration and byte counts among them."""
    column_of = {name: i for i, name in enumerate(kdd.feature_names)}
    rows = [*range(0, len(lines), 9973), *kdd.data.argmax(axis=0)]
    assert len(lines) == len(kdd.data)
    for row in rows:
        *values, label = lines[row].split(",")
        expected = np.zeros(120, dtype=np.float32)
        for column, value in zip(_kddcup99._COLUMNS, values, strict=True):
            if column in SYMBOLIC:
                expected[column_of[f"{column}={value}"]] = 1
            elif column != "is_host_login":
                expected[column_of[column]] = float(value)
        np.testing.assert_array_equal(kdd.data[row], expected)
        assert kdd.attack_type[row] == label


@pytest.mark.data
def test_reversed_draw(kdd, reversed_kdd):
    first = reversed_kdd(random_state=0)
    assert first.data.shape == (121_597, 120)
    assert np.count_nonzero(first.target == 1) == 97_278
    assert np.count_nonzero(first.target == -1) == 24_319
    np.testing.assert_array_equal(first.target == 1, first.attack_type == "normal.")
    np.testing.assert_array_equal(first.data, kdd.data[first.indices])
    assert (np.diff(first.indices) > 0).all()
    assert first.feature_names == kdd.feature_names


@pytest.mark.data
def test_reversed_draw_follows_the_seed(reversed_kdd):
    def draw(random_state):
        return reversed_kdd(random_state=random_state).indices

    np.testing.assert_array_equal(draw(0), draw(0))
    np.testing.assert_array_equal(draw(0), draw(np.random.RandomState(0)))
    assert not np.array_equal(draw(0), draw(1))


@pytest.mark.data
def test_float64_is_exact(kdd, reversed_kdd):
    X, _ = reversed_kdd(random_state=0, dtype=np.float64, return_X_y=True)
    assert X.dtype == np.float64
    src_bytes = X[:, kdd.feature_names.index("src_bytes")]
    np.testing.assert_array_equal(src_bytes, np.round(src_bytes))
    rates = X[:, kdd.feature_names.index("serror_rate")]
    np.testing.assert_array_equal(rates, np.round(rates, 2))


@pytest.mark.data
def test_frame(kdd, reversed_kdd):
    bunch = reversed_kdd(random_state=0, as_frame=True)
    assert bunch.frame.columns.tolist() == [*kdd.feature_names, "target"]
    # The two frames must share the features: they take half a gigabyte otherwise.
    assert np.shares_memory(bunch.frame["duration"].to_numpy(), bunch.data["duration"].to_numpy())


@pytest.mark.data
def test_second_call_reads_the_cache(kdd, reversed_kdd, kdd_home, monkeypatch):
    folder = kdd_home / "anomaly_estimators" / "kddcup99"
    assert folder / "kddcup99_10_percent.npz" in folder.iterdir()
    # The test part may have been cached there as well; nothing unfinished is left behind.
    assert {path.suffix for path in kdd_home.rglob("*") if path.is_file()} == {".npz"}

    def refuse(path):
        raise AssertionError("parsed again")

    monkeypatch.setattr(_kddcup99, "_parse", refuse)
    reversed_kdd(random_state=0)


def small_table():
    strings = tuple(np.array(["0", "1"]) for _ in range(8))
    return _kddcup99._Table(np.ones((2, 34)), np.zeros((2, 8), dtype=np.uint8), strings)


def test_cache_round_trip(tmp_path):
    path = tmp_path / "folder" / "table.npz"
    table = small_table()
    _kddcup99._write_cache(path, table, KDDCUP99)
    read = _kddcup99._read_cache(path, KDDCUP99)
    np.testing.assert_array_equal(read.continuous, table.continuous)
    np.testing.assert_array_equal(read.codes, table.codes)
    assert [c.tolist() for c in read.categories] == [c.tolist() for c in table.categories]
    assert list(path.parent.iterdir()) == [path]


def test_cache_of_another_file_is_not_used(tmp_path):
    path = tmp_path / "table.npz"
    _kddcup99._write_cache(path, small_table(), KDDCUP99_TEST)
    assert _kddcup99._read_cache(path, KDDCUP99) is None


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_damaged_cache_is_not_used(tmp_path, share):
    path = tmp_path / "table.npz"
    _kddcup99._write_cache(path, small_table(), KDDCUP99)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert _kddcup99._read_cache(path, KDDCUP99) is None


def test_table_is_used_although_it_cannot_be_cached(tmp_path, monkeypatch):
    monkeypatch.setattr(_kddcup99, "_parse", lambda path: small_table())
    blocker = tmp_path / "anomaly_estimators"
    blocker.write_text("a file where the cache folder should be")
    with pytest.warns(UserWarning, match="data_home"):
        table = _kddcup99._cached_table(tmp_path / "any", tmp_path, KDDCUP99)
    assert table.continuous.shape == (2, 34)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": "rev"}, "variant must be one of 'standard', 'reversed', got 'rev'"),
        ({"subset": "tests"}, "subset must be one of 'train', 'test', got 'tests'"),
        ({"dtype": np.float16}, "float32 or numpy.float64, got float16"),
        ({"random_state": "seed"}, "seed"),
    ],
)
def test_bad_arguments_are_found_before_any_work(arguments, message, monkeypatch):
    monkeypatch.setattr(_kddcup99, "locate", lambda *args, **kwargs: pytest.fail("worked"))
    with pytest.raises(ValueError, match=message):
        fetch_kddcup99(**arguments)


@pytest.mark.data
def test_optional_packages_are_not_needed(kdd, kdd_home):
    code = (
        "import sys\n"
        "for name in ('pandas', 'pooch', 'tqdm'): sys.modules[name] = None\n"
        "from anomaly_estimators.datasets import fetch_kddcup99\n"
        f"print(fetch_kddcup99(data_home={str(kdd_home)!r}, return_X_y=True)[0].shape)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "(494021, 120)", result.stderr
