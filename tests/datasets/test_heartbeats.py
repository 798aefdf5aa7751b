"""The heartbeats: the bundled files with real data, the Kaggle files with made-up ones."""

import dataclasses
import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly_estimators.datasets import (
    _heartbeats,
    fetch_creditcard,
    fetch_ecg5000,
    fetch_heartbeats,
)
from anomaly_estimators.datasets._fetch import file_sha256
from anomaly_estimators.datasets._heartbeats import stratified_test_rows
from anomaly_estimators.datasets._registry import ECG5000, MITBIH_HEARTBEAT
from tests._data import require_data

COUNTS = {"train": (6, 2, 1, 3, 2), "test": (2, 1, 1, 2, 1)}
# Of the published files, as their users report them.
KAGGLE_ROWS = {"train": 87_554, "test": 21_892}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The user's own folder, with an empty one for the heartbeats."""
    monkeypatch.setenv("ANOMALY_ESTIMATORS_DATA", str(tmp_path / "local"))
    path = tmp_path / "local" / "mitbih_heartbeat"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def tables():
    """Two tables in the layout of the Kaggle files: 187 values, then the class."""
    rng = np.random.default_rng(0)
    tables = {}
    for part, counts in COUNTS.items():
        classes = np.repeat(np.arange(5.0), counts)
        values = rng.random((len(classes), 187)).astype(np.float32)
        tables[part] = np.column_stack([values, classes])
    return tables


@pytest.fixture
def kaggle(folder, tables, monkeypatch):
    monkeypatch.setattr(_heartbeats, "_KAGGLE_COUNTS", COUNTS)
    for part, table in tables.items():
        # As in the published files; they circulate with both kinds of line ends.
        ends = "\r\n" if part == "train" else "\n"
        np.savetxt(folder / f"mitbih_{part}.csv", table, delimiter=",", newline=ends)
    return folder


@pytest.fixture
def derived(folder, monkeypatch):
    """A small file in the layout of the reconstruction, and its entry in place of the real one."""
    rng = np.random.default_rng(1)
    classes = rng.permutation(np.repeat(np.arange(5, dtype=np.uint8), (23, 12, 5, 8, 2)))
    arrays = {
        "X": rng.random((len(classes), 187)).astype(np.float16),
        "y": classes,
        "record": rng.integers(100, 110, len(classes)).astype(np.int16),
        "symbol": rng.choice(["N", "L", "/"], len(classes)),
        "sample": np.arange(len(classes), dtype=np.int32) * 77,
    }
    path = folder / MITBIH_HEARTBEAT.filename
    np.savez_compressed(path, **arrays)
    entry = dataclasses.replace(MITBIH_HEARTBEAT, sha256=file_sha256(path))
    monkeypatch.setattr(_heartbeats, "MITBIH_HEARTBEAT", entry)
    return arrays


# The reconstruction


def test_layout_of_the_reconstruction(derived):
    bunch = fetch_heartbeats()
    np.testing.assert_array_equal(bunch.data, derived["X"])
    assert bunch.data.dtype == np.float32 and bunch.data.flags.c_contiguous
    np.testing.assert_array_equal(bunch.target, derived["y"])
    assert bunch.target.dtype == bunch.record.dtype == bunch.sample.dtype == np.int64
    for name in ("record", "symbol", "sample"):
        np.testing.assert_array_equal(bunch[name], derived[name])
    assert bunch.target_names.tolist() == ["N", "S", "V", "F", "Q"]
    assert bunch.feature_names[0] == "t0" and bunch.feature_names[-1] == "t186"
    assert bunch.frame is None
    assert bunch.indices.tolist() == list(range(50))
    for words in ("Licence", "Cite", "reconstruction", "are not figures on the Kaggle set"):
        assert words in " ".join(bunch.DESCR.split())


def test_parts_of_the_reconstruction_make_up_the_whole(derived):
    train, test = (fetch_heartbeats(subset=subset) for subset in ("train", "test"))
    assert sorted([*train.indices, *test.indices]) == list(range(50))
    # A fifth of each class: 23, 12, 5, 8, 2.
    assert np.bincount(test.target, minlength=5).tolist() == [5, 2, 1, 2, 0]
    for part in (train, test):
        assert (np.diff(part.indices) > 0).all()
        np.testing.assert_array_equal(part.data, derived["X"][part.indices])
        np.testing.assert_array_equal(part.target, derived["y"][part.indices])
        for name in ("record", "symbol", "sample"):
            np.testing.assert_array_equal(part[name], derived[name][part.indices])


@given(classes=st.lists(st.integers(0, 4), max_size=60))
def test_draw_is_a_fifth_of_each_class_and_always_the_same(classes):
    classes = np.array(classes, dtype=np.int64)
    is_test = stratified_test_rows(classes)
    np.testing.assert_array_equal(is_test, stratified_test_rows(classes.copy()))
    for value in range(5):
        n_rows = np.count_nonzero(classes == value)
        assert abs(np.count_nonzero(is_test[classes == value]) - n_rows / 5) <= 0.5


def test_draw_is_the_documented_one():
    # Written down once: rows that a published figure depends on must not change by a new release.
    is_test = stratified_test_rows(np.array([0] * 20 + [1] * 10))
    assert np.flatnonzero(is_test).tolist() == [1, 8, 18, 19, 22, 25]


def test_return_forms_agree(derived):
    bunch = fetch_heartbeats()
    X, y = fetch_heartbeats(return_X_y=True, dtype=np.float64)
    assert X.dtype == np.float64 and y.dtype == np.int64
    np.testing.assert_array_equal(X, bunch.data)
    pytest.importorskip("pandas")
    framed = fetch_heartbeats(as_frame=True)
    assert framed.frame.columns.tolist() == [*bunch.feature_names, "target"]
    np.testing.assert_array_equal(framed.frame["t3"], bunch.data[:, 3])


def test_corrupt_reconstruction_is_refused(derived, folder):
    (folder / MITBIH_HEARTBEAT.filename).write_bytes(b"torn")
    with pytest.raises(OSError, match="is not the published file"):
        fetch_heartbeats()


def test_missing_reconstruction_names_the_set_that_is_published(folder, tmp_path):
    with pytest.raises(OSError) as caught:
        fetch_heartbeats(data_home=tmp_path / "home")
    for part in (
        "mitbih_heartbeats_derived.npz is not published: copy it to",
        MITBIH_HEARTBEAT.sha256,
        "https://www.kaggle.com/datasets/shayanfazeli/heartbeat",
        'variant="kaggle"',
    ):
        assert part in str(caught.value)


# The Kaggle files


def test_kaggle_files_are_read_as_they_are(kaggle, tables):
    expected = {**tables, "all": np.concatenate([tables["train"], tables["test"]])}
    for subset, table in expected.items():
        bunch = fetch_heartbeats(subset=subset, variant="kaggle")
        assert bunch.data.dtype == np.float32 and bunch.data.flags.c_contiguous
        np.testing.assert_array_equal(bunch.data, table[:, :187])
        np.testing.assert_array_equal(bunch.target, table[:, 187])
        assert bunch.target.dtype == np.int64
        assert bunch.record is bunch.symbol is bunch.sample is None
        assert len(bunch.filenames) == (2 if subset == "all" else 1)
        first = 14 if subset == "test" else 0
        assert bunch.indices.tolist() == list(range(first, first + len(table)))
    assert bunch.filenames == [str(kaggle / f"mitbih_{part}.csv") for part in tables]


def test_kaggle_files_need_no_reconstruction_and_may_lie_in_the_cache(kaggle, tmp_path):
    cached = tmp_path / "home" / "anomaly_estimators" / "mitbih_heartbeat"
    cached.mkdir(parents=True)
    (kaggle / "mitbih_test.csv").rename(cached / "mitbih_test.csv")
    bunch = fetch_heartbeats(subset="test", variant="kaggle", data_home=tmp_path / "home")
    assert bunch.filenames == [str(cached / "mitbih_test.csv")]


@pytest.mark.parametrize("named", [True, False])
def test_missing_kaggle_file_says_where_to_get_it_and_where_to_put_it(
    folder, tmp_path, monkeypatch, named
):
    if not named:
        monkeypatch.delenv("ANOMALY_ESTIMATORS_DATA")
    with pytest.raises(OSError) as caught:
        fetch_heartbeats(subset="test", variant="kaggle", data_home=tmp_path / "home")
    cached = tmp_path / "home" / "anomaly_estimators" / "mitbih_heartbeat" / "mitbih_test.csv"
    for part in (
        f"to {cached}",
        "https://www.kaggle.com/datasets/shayanfazeli/heartbeat",
        "ANOMALY_ESTIMATORS_DATA name a folder that holds mitbih_heartbeat/mitbih_test.csv",
    ):
        assert part in str(caught.value)
    assert (str(folder / "mitbih_test.csv") in str(caught.value)) == named


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda table: table[:-1], r"has 6 beats, \(2, 1, 1, 2, 0\) of the classes 0 to 4, not"),
        (lambda table: table[:, ::-1], "of the classes 0 to 4"),
        (lambda table: np.where(np.arange(188) == 187, 7, table), "of the classes 0 to 4"),
        (lambda table: table[:, 1:], "has 187 columns, not the 188"),
    ],
)
def test_another_table_is_refused(kaggle, tables, damage, message):
    np.savetxt(kaggle / "mitbih_test.csv", damage(tables["test"]), delimiter=",")
    with pytest.raises(ValueError, match=message) as caught:
        fetch_heartbeats(subset="test", variant="kaggle")
    assert "Download it again from https://www.kaggle.com" in str(caught.value)


def test_file_with_a_header_is_refused(kaggle):
    path = kaggle / "mitbih_test.csv"
    path.write_text(",".join(f"c{i}" for i in range(188)) + "\n" + path.read_text())
    with pytest.raises(ValueError, match="is not a table of numbers.*Download it again"):
        fetch_heartbeats(subset="test", variant="kaggle")


def test_counts_are_those_of_the_published_files():
    counts = {part: sum(counts) for part, counts in _heartbeats._KAGGLE_COUNTS.items()}
    assert counts == KAGGLE_ROWS
    row = next(line for line in fetch_heartbeats.__doc__.split("\n") if "kaggle   109" in line)
    classes = np.sum(list(_heartbeats._KAGGLE_COUNTS.values()), axis=0)
    assert row.split() == ["kaggle", f"{classes.sum():,}", *(f"{count:,}" for count in classes)]


# Arguments


@pytest.mark.parametrize("fetcher", [fetch_heartbeats, fetch_ecg5000], ids=lambda f: f.__name__)
def test_arguments_are_those_of_the_other_fetchers(fetcher):
    own = inspect.signature(fetcher).parameters
    others = inspect.signature(fetch_creditcard).parameters
    # Nothing can be downloaded.
    shared = [name for name in others if name != "download_if_missing"]
    assert list(own)[-len(shared) :] == shared
    for name, parameter in own.items():
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert f"\n    {name} : " in fetcher.__doc__


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"subset": "tests"}, "subset must be one of 'all', 'train', 'test', got 'tests'"),
        ({"variant": "Kaggle"}, "variant must be one of 'derived', 'kaggle', got 'Kaggle'"),
        ({"dtype": np.float16}, "float32 or numpy.float64, got float16"),
    ],
)
def test_bad_arguments_are_found_before_any_work(arguments, message, monkeypatch):
    monkeypatch.setattr(_heartbeats, "locate", lambda *args, **kwargs: pytest.fail("worked"))
    with pytest.raises(ValueError, match=message):
        fetch_heartbeats(**arguments)


# ECG5000


def test_missing_ecg5000_says_where_to_put_it(folder, tmp_path):
    with pytest.raises(OSError) as caught:
        fetch_ecg5000(data_home=tmp_path / "home")
    for part in ("ecg5000_all_recovered.npz is not published: copy it to", ECG5000.sha256):
        assert part in str(caught.value)
    with pytest.raises(ValueError, match="got int"):
        fetch_ecg5000(dtype=int)


@pytest.fixture(scope="module")
def ecg5000():
    require_data(ECG5000.path)
    return fetch_ecg5000()


@pytest.mark.data
def test_real_ecg5000_is_what_the_registry_says(ecg5000):
    assert ecg5000.data.shape == (ECG5000.n_samples, ECG5000.n_features) == (5_000, 140)
    assert ecg5000.data.dtype == np.float32 and ecg5000.data.flags.c_contiguous
    assert ecg5000.target.dtype == np.int64
    assert np.unique(ecg5000.target, return_counts=True)[1].tolist() == [2_081, 2_919]
    assert ecg5000.target_names.tolist() == ["anomaly", "normal"]
    assert "5,000 rows, 140 features, 2,081 anomalies" in ecg5000.DESCR
    np.testing.assert_allclose(ecg5000.data.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(ecg5000.data.std(axis=1, ddof=1), 1, rtol=1e-5)
    assert (ecg5000.target[:2_335] == 1).all() and ecg5000.target[2_335:].min() == -1
    X, y = fetch_ecg5000(return_X_y=True, dtype=np.float64)
    assert X.dtype == np.float64
    np.testing.assert_array_equal(X, ecg5000.data)
    np.testing.assert_array_equal(y, ecg5000.target)


@pytest.mark.data
def test_real_ecg5000_holds_the_rows_of_the_archive(ecg5000):
    """Against the one file of the archive itself that is at hand: 500 rows and their classes."""
    path = require_data("ecg5000/ECG5000_TRAIN.txt") / "ecg5000" / "ECG5000_TRAIN.txt"
    table = np.loadtxt(path)
    squares = (ecg5000.data**2).sum(axis=1) - 2 * table[:, 1:] @ ecg5000.data.T
    nearest = squares.argmin(axis=1)
    assert len(set(nearest)) == len(table) == 500
    np.testing.assert_allclose(ecg5000.data[nearest], table[:, 1:], atol=1e-6)
    np.testing.assert_array_equal(ecg5000.target[nearest] == 1, table[:, 0] == 1)


# The real reconstruction


@pytest.fixture(scope="module")
def beats():
    require_data(MITBIH_HEARTBEAT.path)
    return fetch_heartbeats()


@pytest.mark.data
def test_real_reconstruction_is_what_it_says(beats, tmp_path):
    assert beats.data.shape == (MITBIH_HEARTBEAT.n_samples, MITBIH_HEARTBEAT.n_features)
    assert beats.data.dtype == np.float32
    counts = np.bincount(beats.target).tolist()
    assert counts == [90_583, 2_780, 7_236, 803, 8_039]
    for count in counts:
        assert f"{count:,}" in beats.DESCR and f"{count:,}" in fetch_heartbeats.__doc__
    # Beat by beat from 0 to 1, but for the rounding to half precision.
    assert (beats.data.min(axis=1) == 0).all() and (beats.data.max(axis=1) == 1).all()
    assert len(set(beats.record)) == 48 and {100, 234} <= set(beats.record)
    # The beats of a record in the order of time, and the published classes of the symbols.
    same = np.diff(beats.record) == 0
    assert (np.diff(beats.sample)[same] > 0).all()
    aami = {"N": "NLRej", "S": "AaJS", "V": "VE", "F": "F", "Q": "/fQ"}
    for number, name in enumerate(beats.target_names):
        assert set(beats.symbol[beats.target == number]) == set(aami[name])


@pytest.mark.data
def test_real_parts_of_the_reconstruction(beats):
    train, test = (fetch_heartbeats(subset=subset) for subset in ("train", "test"))
    assert (len(train.data), len(test.data)) == (87_552, 21_889)
    assert "87,552\n        beats to train and 21,889 to test" in fetch_heartbeats.__doc__
    assert np.bincount(test.target).tolist() == [18_117, 556, 1_447, 161, 1_608]
    rows = np.concatenate([train.indices, test.indices])
    np.testing.assert_array_equal(np.sort(rows), np.arange(len(beats.data)))


@pytest.mark.data
@pytest.mark.parametrize("part", ["train", "test"])
def test_real_kaggle_files(part):
    """Runs only where somebody has put the files: their publisher asks for a login."""
    if not (require_data() / "mitbih_heartbeat" / f"mitbih_{part}.csv").is_file():
        pytest.skip(f"there is no mitbih_heartbeat/mitbih_{part}.csv")
    bunch = fetch_heartbeats(subset=part, variant="kaggle")
    assert bunch.data.shape == (KAGGLE_ROWS[part], 187)
    assert (bunch.data.min(), bunch.data.max()) == (0, 1)
