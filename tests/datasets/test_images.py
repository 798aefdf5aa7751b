"""MNIST, Fashion-MNIST and CIFAR-10: the formats with made-up files, the counts with real ones."""

import dataclasses
import gzip
import inspect
import io
import pickle
import struct
import sys
import tarfile
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly_estimators import datasets
from anomaly_estimators.datasets import (
    _cifar10,
    _mnist,
    fetch_cifar10,
    fetch_fashion_mnist,
    fetch_kddcup99,
    fetch_mnist,
)
from anomaly_estimators.datasets._fetch import file_sha256
from anomaly_estimators.datasets._idx import read_idx
from anomaly_estimators.datasets._registry import (
    CIFAR10,
    CIFAR10_REDUCED,
    FASHION_MNIST,
    MNIST,
    DataFile,
)
from tests._data import require_data

FETCHERS = (fetch_mnist, fetch_fashion_mnist, fetch_cifar10)
TEN = tuple("abcdefghij")


def idx_bytes(values):
    """An array of bytes in the IDX format, by its published description."""
    return (
        struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
        + values.astype(np.uint8).tobytes()
    )


def write_gzip(path, content):
    with gzip.open(path, "wb") as stream:
        stream.write(content)
    return path


# The IDX format


@given(
    shape=st.lists(st.integers(0, 5), min_size=1, max_size=4),
    seed=st.integers(0, 2**32 - 1),
)
def test_idx_round_trip(tmp_path_factory, shape, seed):
    values = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    path = write_gzip(tmp_path_factory.getbasetemp() / "idx.gz", idx_bytes(values))
    read = read_idx(path, len(shape))
    assert read.dtype == np.uint8 and read.shape == tuple(shape)
    np.testing.assert_array_equal(read, values)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an IDX file of unsigned bytes in 3 dimensions"),
        (b"\0\0\x08\x03\0\0\0\x01", "not an IDX file"),
        (b"\0\0\x0d\x03" + b"\0" * 12, "begins with the bytes '00 00 0d 03"),
        (idx_bytes(np.zeros(3)), "not an IDX file of unsigned bytes in 3 dimensions"),
        (idx_bytes(np.zeros((2, 2, 2)))[:-1], "promises 2 x 2 x 2 bytes, and 7 follow"),
        (idx_bytes(np.zeros((2, 2, 2))) + b"\0", "promises 2 x 2 x 2 bytes, and 9 follow"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "promises 4294967295 x 4294967295"),
    ],
)
def test_what_is_not_the_promised_idx_file_is_refused(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        read_idx(write_gzip(tmp_path / "x.gz", content), 3)


# The sets in the layout of MNIST, made up


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The user's own folder, empty."""
    monkeypatch.setenv("ANOMALY_ESTIMATORS_DATA", str(tmp_path / "local"))
    return tmp_path / "local"


@pytest.fixture
def made_up(folder):
    """Four files with 30 training and 20 test images, listed as in the registry; and the arrays."""
    (folder / "mnist").mkdir(parents=True)
    rng = np.random.default_rng(0)
    arrays, files = [], []
    for part, n_samples in (("train", 30), ("test", 20)):
        arrays.append(rng.integers(0, 256, (n_samples, 28, 28), dtype=np.uint8))
        arrays.append(rng.integers(0, 10, n_samples, dtype=np.uint8))
        for kind, values in zip(("images", "labels"), arrays[-2:], strict=True):
            path = write_gzip(folder / "mnist" / f"{part}-{kind}.gz", idx_bytes(values))
            files.append(DataFile("mnist", path.name, (), file_sha256(path), n_samples, 784))
    return tuple(files), arrays


def fetch_made_up(files, **arguments):
    defaults = {
        "subset": "train",
        "data_home": None,
        "download_if_missing": False,
        "return_X_y": False,
        "as_frame": False,
        "dtype": np.float32,
    }
    return _mnist._fetch(files, TEN, **{**defaults, **arguments})


def test_subsets_are_rows_of_pixels_and_classes(made_up):
    files, (train, train_classes, test, test_classes) = made_up
    expected = {
        "train": (train, train_classes, range(30)),
        "test": (test, test_classes, range(30, 50)),
        "all": (
            np.concatenate([train, test]),
            np.concatenate([train_classes, test_classes]),
            range(50),
        ),
    }
    for subset, (images, classes, indices) in expected.items():
        bunch = fetch_made_up(files, subset=subset)
        assert bunch.data.dtype == np.float32 and bunch.target.dtype == np.int64
        assert bunch.data.flags.c_contiguous and bunch.data.flags.writeable
        np.testing.assert_array_equal(bunch.data.reshape(-1, *bunch.image_shape)[:, 0], images)
        np.testing.assert_array_equal(bunch.target, classes)
        assert bunch.indices.tolist() == list(indices)
        assert bunch.target_names.tolist() == list(TEN)
        assert len(bunch.filenames) == (4 if subset == "all" else 2)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_every_dtype_holds_the_published_values(made_up, dtype):
    files, (train, *_) = made_up
    X, y = fetch_made_up(files, dtype=dtype, return_X_y=True)
    assert X.dtype == dtype and y.dtype == np.int64
    np.testing.assert_array_equal(X, train.reshape(30, 784))
    X[0] = 0  # The caller's own array, not a view of the file.


def test_columns_are_named_by_row_and_column(made_up):
    pytest.importorskip("pandas")
    files, (train, classes, *_) = made_up
    bunch = fetch_made_up(files, as_frame=True)
    assert bunch.feature_names[:2] == ["pixel_0_0", "pixel_0_1"]
    np.testing.assert_array_equal(bunch.frame["pixel_3_17"], train[:, 3, 17])
    np.testing.assert_array_equal(bunch.frame["target"], classes)
    X, y = fetch_made_up(files, as_frame=True, return_X_y=True)
    assert X.equals(bunch.data) and y.equals(bunch.target)


@pytest.mark.parametrize(
    ("labels", "message"),
    [(np.zeros(29), "30 images and 29 labels"), (np.full(30, 10), "a label 10")],
)
def test_labels_that_do_not_fit_the_images_are_refused(made_up, folder, labels, message):
    files, _ = made_up
    path = write_gzip(folder / files[1].path, idx_bytes(labels))
    files = (files[0], dataclasses.replace(files[1], sha256=file_sha256(path)), *files[2:])
    with pytest.raises(ValueError, match=message):
        fetch_made_up(files)


def test_only_the_files_of_the_subset_are_needed(made_up, folder, tmp_path):
    files, _ = made_up
    (folder / files[0].path).unlink()
    assert len(fetch_made_up(files, subset="test").data) == 20
    with pytest.raises(OSError, match="train-images.gz is not published: copy it to"):
        fetch_made_up(files, subset="all", data_home=tmp_path / "home")


# CIFAR-10, made up


def archive_bytes(batches):
    """A gzipped archive as the publisher's: a folder, some text, and the batches out of order."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        root = tarfile.TarInfo("cifar-10-batches-bin")
        root.type = tarfile.DIRTYPE
        archive.addfile(root)
        for name, content in {"readme.html": b"text", **batches}.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def records(n_samples, seed):
    """Classes, images, and the bytes of a batch: the class, then red, green and blue."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 10, n_samples, dtype=np.uint8)
    images = rng.integers(0, 256, (n_samples, 3, 32, 32), dtype=np.uint8)
    content = b"".join(
        bytes([c]) + image[0].tobytes() + image[1].tobytes() + image[2].tobytes()
        for c, image in zip(classes, images, strict=True)
    )
    return classes, images, content


@pytest.fixture
def batches():
    names = ["data_batch_4", "test_batch", *(f"data_batch_{i}" for i in (2, 1, 5, 3))]
    return {f"{name}.bin": records(n + 2, seed=n) for n, name in enumerate(names)}


def put_archive(folder, monkeypatch, batches):
    content = archive_bytes({name: record[2] for name, record in batches.items()})
    path = folder / "cifar10" / CIFAR10.filename
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    entry = dataclasses.replace(CIFAR10, sha256=file_sha256(path))
    monkeypatch.setattr(_cifar10, "CIFAR10", entry)
    return path


@pytest.fixture
def archive(folder, monkeypatch, batches):
    return put_archive(folder, monkeypatch, batches)


@pytest.fixture
def reduced(folder, monkeypatch):
    """A reduced file with 6 training, 4 test and 5 extra images."""
    path = folder / "cifar10" / CIFAR10_REDUCED.filename
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for part, n_samples in (("train", 6), ("test", 4), ("extra", 5)):
        arrays[f"y_{part}"], arrays[f"X_{part}"], _ = records(n_samples, seed=n_samples)
    arrays["train_index"] = np.arange(6, dtype=np.int32) * 7
    arrays["extra_index"] = np.arange(5, dtype=np.int32) + 100
    np.savez(path, **arrays)
    entry = dataclasses.replace(CIFAR10_REDUCED, sha256=file_sha256(path))
    monkeypatch.setattr(_cifar10, "CIFAR10_REDUCED", entry)
    return arrays


def test_archive_is_read_in_the_published_order(archive, batches, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("unpickled, or unpacked on disk")

    monkeypatch.setattr(pickle, "load", refuse)
    monkeypatch.setattr(pickle, "loads", refuse)
    monkeypatch.setattr(tarfile.TarFile, "extract", refuse)
    monkeypatch.setattr(tarfile.TarFile, "extractall", refuse)
    train = [batches[f"data_batch_{number}.bin"] for number in range(1, 6)]
    test = [batches["test_batch.bin"]]
    for subset, expected in (("train", train), ("test", test), ("all", train + test)):
        bunch = fetch_cifar10(subset=subset)
        images = np.concatenate([images for _, images, _ in expected])
        np.testing.assert_array_equal(bunch.data.reshape(-1, *bunch.image_shape), images)
        np.testing.assert_array_equal(
            bunch.target, np.concatenate([classes for classes, _, _ in expected])
        )
        assert bunch.data.dtype == np.float32 and bunch.data.flags.c_contiguous
        assert bunch.is_subset is False and bunch.filenames == [str(archive)]
    assert bunch.indices[len(bunch.indices) - len(test[0][0])] == 50_000


def test_colours_come_one_after_the_other(archive, batches):
    bunch = fetch_cifar10(subset="test", dtype=np.uint8)
    _, images, _ = batches["test_batch.bin"]
    names = bunch.feature_names
    assert len(names) == len(set(names)) == 3_072 and bunch.data.dtype == np.uint8
    for channel, colour in enumerate(("red", "green", "blue")):
        column = names.index(f"{colour}_31_5")
        np.testing.assert_array_equal(bunch.data[:, column], images[:, channel, 31, 5])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda batches: batches.pop("data_batch_3.bin"), "has no .*data_batch_3.bin"),
        (
            lambda batches: batches.update({"data_batch_3.bin": (0, 0, b"\0" * 3_074)}),
            "data_batch_3.bin is damaged: its 3074 bytes are not records of 3073",
        ),
    ],
)
def test_incomplete_archive_is_refused(folder, monkeypatch, batches, damage, message):
    damage(batches)
    put_archive(folder, monkeypatch, batches)
    assert len(fetch_cifar10(subset="test").data)
    with pytest.raises(ValueError, match=message):
        fetch_cifar10()


def test_reduced_file_serves_with_a_warning_where_it_is_all_there_is(reduced, tmp_path):
    home = tmp_path / "home"
    with pytest.warns(UserWarning, match='only a part of CIFAR-10.*variant="full"') as caught:
        bunch = fetch_cifar10(data_home=home)
    assert caught[0].filename == __file__
    assert bunch.is_subset is True
    np.testing.assert_array_equal(bunch.data, reduced["X_train"].reshape(6, -1))
    np.testing.assert_array_equal(bunch.target, reduced["y_train"])
    assert bunch.indices.tolist() == [0, 7, 14, 21, 28, 35]
    with pytest.warns(UserWarning, match="only a part"):
        fetch_cifar10(data_home=home, return_X_y=True)


@pytest.mark.parametrize(
    ("subset", "parts", "indices"),
    [
        ("test", ["test"], [50_000, 50_001, 50_002, 50_003]),
        ("extra", ["extra"], [100, 101, 102, 103, 104]),
        ("all", ["train", "test"], [0, 7, 14, 21, 28, 35, 50_000, 50_001, 50_002, 50_003]),
    ],
)
def test_reduced_file_by_name_needs_no_warning(reduced, archive, subset, parts, indices):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bunch = fetch_cifar10(subset=subset, variant="reduced")
    assert bunch.is_subset is True
    np.testing.assert_array_equal(
        bunch.data.reshape(-1, 3, 32, 32), np.concatenate([reduced[f"X_{p}"] for p in parts])
    )
    np.testing.assert_array_equal(
        bunch.target, np.concatenate([reduced[f"y_{part}"] for part in parts])
    )
    assert bunch.indices.tolist() == indices


def test_whole_set_goes_before_the_reduced_one(reduced, archive, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fetch_cifar10(subset="test").is_subset is False
        cached = tmp_path / "home" / "anomaly_estimators" / "cifar10"
        cached.mkdir(parents=True)
        archive.rename(cached / archive.name)
        assert fetch_cifar10(subset="test", data_home=tmp_path / "home").is_subset is False


def test_corrupt_archive_is_an_error_although_there_is_a_reduced_file(reduced, archive):
    archive.write_bytes(b"torn")
    with pytest.raises(OSError, match="cifar-10-binary.tar.gz is not the published file"):
        fetch_cifar10()


def test_whole_set_by_name_is_never_the_reduced_one(reduced, tmp_path):
    with pytest.raises(OSError, match="https://www.cs.toronto.edu.*cifar-10-binary.tar.gz"):
        fetch_cifar10(variant="full", data_home=tmp_path, download_if_missing=False)


def test_reduced_file_serves_although_no_cache_can_be_made(reduced, tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("where the cache folder should be")
    with pytest.warns(UserWarning, match="only a part"):
        assert fetch_cifar10(data_home=blocker / "home").is_subset


def test_missing_reduced_file_says_that_nobody_publishes_it(folder, tmp_path, monkeypatch):
    # Nothing can be downloaded, so nothing is needed for it.
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(OSError) as caught:
        fetch_cifar10(variant="reduced", data_home=tmp_path)
    message = str(caught.value)
    assert "cifar10_subset.npz is not published: copy it to" in message
    assert "ANOMALY_ESTIMATORS_DATA" in message and "Download" not in message


def test_corrupt_reduced_file_says_where_to_get_another(reduced, folder):
    path = folder / "cifar10" / CIFAR10_REDUCED.filename
    path.write_bytes(b"torn")
    with pytest.raises(OSError, match="file from which it was copied, or unset") as caught:
        fetch_cifar10()
    assert "download" not in str(caught.value)


# What the three fetchers have in common


@pytest.mark.parametrize("fetcher", FETCHERS, ids=lambda f: f.__name__)
def test_arguments_are_those_of_the_other_fetchers(fetcher):
    assert pickle.loads(pickle.dumps(fetcher)) is fetcher
    assert getattr(datasets, fetcher.__name__) is fetcher
    own = inspect.signature(fetcher).parameters
    others = inspect.signature(fetch_kddcup99).parameters
    assert list(own) == [
        "subset",
        *(["variant"] if fetcher is fetch_cifar10 else []),
        *(shared := [name for name in others if name not in ("variant", "subset", "random_state")]),
    ]
    for name in shared:
        assert own[name] == others[name]
    for name in own:
        assert f"\n    {name} : " in fetcher.__doc__


@pytest.mark.parametrize("fetcher", FETCHERS, ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"subset": "tests"}, "subset must be one of 'train', 'test', 'all'.*, got 'tests'"),
        ({"dtype": np.float16}, "dtype must be numpy.uint8, numpy.float32 or numpy.float64"),
        ({"dtype": np.int8}, "got int8"),
    ],
)
def test_bad_arguments_are_found_before_any_work(fetcher, arguments, message, monkeypatch):
    for module in (_mnist, _cifar10):
        monkeypatch.setattr(module, "locate", lambda *args, **kwargs: pytest.fail("worked"))
    with pytest.raises(ValueError, match=message):
        fetcher(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": "half"}, "variant must be one of 'auto', 'full', 'reduced', got 'half'"),
        ({"subset": "extra"}, 'ask for it with variant="reduced"'),
        ({"subset": "extra", "variant": "full"}, 'ask for it with variant="reduced"'),
    ],
)
def test_bad_arguments_of_cifar10(arguments, message, monkeypatch):
    monkeypatch.setattr(_cifar10, "locate", lambda *args, **kwargs: pytest.fail("worked"))
    with pytest.raises(ValueError, match=message):
        fetch_cifar10(**arguments)


# The real files

PUBLISHED = [
    # The first classes, the number of images of each class, mean and deviation of pixels / 255.
    (fetch_mnist, "train", "5 0 4 1 9", (5421, 6742), (0.1307, 0.3081), MNIST),
    (fetch_mnist, "test", "7 2 1 0 4", (892, 1135), None, MNIST),
    (fetch_fashion_mnist, "train", "9 0 0 3 0", (6000, 6000), (0.2860, 0.3530), FASHION_MNIST),
    (fetch_fashion_mnist, "test", "9 2 1 1 6", (1000, 1000), None, FASHION_MNIST),
]

# The classes of the first images.
CIFAR10_FIRST = {
    "train": [6, 9, 9, 4, 1, 1, 2, 7, 8, 3],
    "test": [3, 8, 8, 0, 6, 6, 1, 6, 3, 1],
}


@pytest.mark.data
@pytest.mark.parametrize(
    ("fetcher", "subset", "first", "extremes", "moments", "files"),
    PUBLISHED,
    ids=[f"{case[0].__name__}-{case[1]}" for case in PUBLISHED],
)
def test_real_images_are_as_published(fetcher, subset, first, extremes, moments, files, tmp_path):
    require_data(*(file.path for file in files))
    home = tmp_path / "home"
    bunch = fetcher(subset=subset, dtype=np.uint8, data_home=home, download_if_missing=False)
    assert bunch.data.shape == ({"train": 60_000, "test": 10_000}[subset], 784)
    assert bunch.image_shape == (1, 28, 28)
    assert (bunch.data.min(), bunch.data.max()) == (0, 255)
    assert bunch.target[:5].tolist() == [int(c) for c in first.split()]
    counts = np.bincount(bunch.target)
    assert len(counts) == len(bunch.target_names) == 10
    assert (counts.min(), counts.max()) == extremes
    assert f"{len(bunch.data):,}" in bunch.DESCR
    assert "Licence" in bunch.DESCR and "Cite" in bunch.DESCR
    if moments:
        pixels = bunch.data.ravel()
        assert (pixels.mean() / 255, pixels.std() / 255) == pytest.approx(moments, abs=5e-5)
    # Nothing needs to be cached where the user's own folder has the files.
    assert not home.exists()


@pytest.mark.data
def test_real_reduced_cifar10_is_what_it_says(tmp_path):
    folder = require_data()
    if not (folder / CIFAR10.path).is_file():
        require_data(CIFAR10_REDUCED.path)
        with pytest.warns(UserWarning, match="only a part of CIFAR-10"):
            assert fetch_cifar10(subset="test", data_home=tmp_path).is_subset
    elif not (folder / CIFAR10_REDUCED.path).is_file():
        pytest.skip("the whole of CIFAR-10 is at hand, so the reduced file need not be")
    train, test, extra = (
        fetch_cifar10(subset=subset, variant="reduced", dtype=np.uint8)
        for subset in ("train", "test", "extra")
    )
    assert [len(part.data) for part in (train, test, extra)] == [10_000, 1_000, 4_000]
    assert train.data.shape[1] == 3_072 and train.image_shape == (3, 32, 32)
    assert np.bincount(train.target).tolist() == [1_000] * 10
    assert np.bincount(extra.target).tolist() == [400] * 10
    assert (np.bincount(test.target).min(), np.bincount(test.target).max()) == (86, 112)
    np.testing.assert_array_equal(train.indices[:10], np.arange(10))
    assert train.target[:10].tolist() == CIFAR10_FIRST["train"]
    assert test.target[:10].tolist() == CIFAR10_FIRST["test"]
    assert not set(train.indices) & set(extra.indices)
    assert max(train.indices.max(), extra.indices.max()) < 50_000 <= test.indices.min()
    assert "reduced file" in train.DESCR


@pytest.mark.data
@pytest.mark.parametrize(("subset", "n_samples"), [("train", 50_000), ("test", 10_000)])
def test_real_cifar10_is_as_published(subset, n_samples):
    if not (require_data() / CIFAR10.path).is_file():
        pytest.skip(f"the folder of the data has no {CIFAR10.path}")
    bunch = fetch_cifar10(subset=subset, dtype=np.uint8)
    assert bunch.data.shape == (n_samples, 3_072) and bunch.is_subset is False
    assert np.bincount(bunch.target).tolist() == [n_samples // 10] * 10
    assert bunch.target[:10].tolist() == CIFAR10_FIRST[subset]
