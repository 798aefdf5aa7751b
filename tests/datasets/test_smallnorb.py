"""Small NORB, with made-up files in the publisher's format."""

import dataclasses
import gzip
import inspect
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly_estimators.datasets import _smallnorb, fetch_mnist, fetch_smallnorb
from anomaly_estimators.datasets._fetch import file_sha256, is_at_hand
from anomaly_estimators.datasets._registry import SMALLNORB
from anomaly_estimators.datasets._smallnorb import read_matrix, shrink

BYTES, INTEGERS, SHORTS = 0x1E3D4C55, 0x1E3D4C54, 0x1E3D4C56
N_ROWS = 7
PARTS = {"train": SMALLNORB[:3], "test": SMALLNORB[3:]}


def matrix_bytes(values, kind):
    """An array in the publisher's format: at least three sizes, the ones that it lacks being 1."""
    sizes = [*values.shape, 1, 1, 1][: max(3, values.ndim)]
    return struct.pack(f"<{2 + len(sizes)}i", kind, values.ndim, *sizes) + (
        values.astype({BYTES: "u1", INTEGERS: "<i4", SHORTS: "<i2"}[kind]).tobytes()
    )


# The format


@given(
    shape=st.lists(st.integers(0, 4), min_size=1, max_size=5),
    kind=st.sampled_from([BYTES, INTEGERS]),
    suffix=st.sampled_from([".mat", ".mat.gz"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_matrix_round_trip(tmp_path_factory, shape, kind, suffix, seed):
    low, high = (0, 256) if kind == BYTES else (-(2**31), 2**31)
    values = np.random.default_rng(seed).integers(low, high, shape)
    path = tmp_path_factory.getbasetemp() / f"matrix{suffix}"
    content = matrix_bytes(values, kind)
    path.write_bytes(gzip.compress(content) if suffix == ".mat.gz" else content)
    read = read_matrix(path)
    assert read.shape == tuple(shape) and read.dtype == (np.uint8 if kind == BYTES else np.int32)
    np.testing.assert_array_equal(read, values)


SMALL = matrix_bytes(np.zeros((2, 2)), INTEGERS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a binary matrix of bytes or integers: it begins with the bytes ''"),
        (SMALL[:4], "begins with the bytes '54 4c 3d 1e'"),
        (matrix_bytes(np.zeros(3), SHORTS), "begins with the bytes '56 4c 3d 1e"),
        (SMALL[:4][::-1] + SMALL[4:], "is not a binary matrix"),
        (struct.pack("<2i", BYTES, -1), "is not a binary matrix"),
        (SMALL[:-1], "promises 2 x 2 elements, 16 bytes, and 15 follow"),
        (SMALL + b"\0", "promises 2 x 2 elements, 16 bytes, and 17 follow"),
        (SMALL[:16], "promises 2 x 2 elements, 16 bytes, and 0 follow"),
        (SMALL[:12], "is damaged: its header promises 2 elements"),
        (struct.pack("<5i", BYTES, 2, -1, -1, 1) + b"\0", "is damaged"),
        (struct.pack("<5i", BYTES, 3, *[2**31 - 1] * 3), "promises 2147483647 x 2147483647"),
        (struct.pack("<2i", BYTES, 2**30), "is damaged"),
    ],
)
def test_what_is_not_the_promised_matrix_is_refused(tmp_path, content, message):
    path = tmp_path / "x.mat"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_matrix(path)


# The sizes


def test_shrink_means_blocks_and_takes_the_centre():
    images = np.random.default_rng(0).integers(0, 256, (3, 2, 96, 96), dtype=np.uint8)
    assert shrink(images, 96) is images
    half, centre = shrink(images, 48), shrink(images, 32)
    assert half.shape == (3, 2, 48, 48) and centre.shape == (3, 2, 32, 32)
    assert half.dtype == centre.dtype == np.uint8
    for row, column in ((0, 0), (17, 30), (47, 47)):
        block = images[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        expected = np.floor(block.reshape(3, 2, 4).mean(axis=2) + 0.5)
        np.testing.assert_array_equal(half[:, :, row, column], expected)
    np.testing.assert_array_equal(centre, half[:, :, 8:40, 8:40])
    np.testing.assert_array_equal(shrink(np.full((1, 96, 96), 255, np.uint8), 48), 255)


# The set, made up


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The user's own folder, with an empty one for the set."""
    monkeypatch.setenv("ANOMALY_ESTIMATORS_DATA", str(tmp_path / "local"))
    path = tmp_path / "local" / "smallnorb"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def arrays():
    """Images, classes and details of either part."""
    rng = np.random.default_rng(0)
    return {
        part: (
            rng.integers(0, 256, (N_ROWS, 2, 96, 96)),
            rng.permutation(np.arange(N_ROWS) % 5),
            rng.integers(0, [10, 9, 35, 6], (N_ROWS, 4)),
        )
        for part in PARTS
    }


def put(folder, monkeypatch, arrays, packed=True):
    """Write the files by their published names, and list them so in the registry."""
    entries = []
    for part, files in PARTS.items():
        kinds = (BYTES, INTEGERS, INTEGERS)
        for file, values, kind in zip(files, arrays[part], kinds, strict=True):
            content = matrix_bytes(values, kind)
            path = folder / file.filename
            path.write_bytes(gzip.compress(content, 1))
            entries.append(dataclasses.replace(file, sha256=file_sha256(path), n_samples=N_ROWS))
            if not packed:
                path.unlink()
                (folder / file.filename.removesuffix(".gz")).write_bytes(content)
    monkeypatch.setattr(_smallnorb, "SMALLNORB", tuple(entries))


@pytest.fixture
def made_up(folder, monkeypatch, arrays):
    put(folder, monkeypatch, arrays)
    return arrays


def test_files_have_the_published_names():
    assert [file.filename for file in SMALLNORB] == [
        f"smallnorb-5x{part}-{kind}.mat.gz"
        for part in ("46789x9x18x6x2x96x96-training", "01235x9x18x6x2x96x96-testing")
        for kind in ("dat", "cat", "info")
    ]
    assert {file.n_samples for file in SMALLNORB} == {24_300} and 24_300 == 5 * 5 * 9 * 18 * 6


@pytest.mark.parametrize(("subset", "parts"), [("train", 1), ("test", 1), ("all", 2)])
@pytest.mark.parametrize("packed", [True, False])
def test_subsets_are_rows_of_pixels_and_classes(folder, monkeypatch, arrays, subset, parts, packed):
    put(folder, monkeypatch, arrays, packed)
    names = list(PARTS) if subset == "all" else [subset]
    images, classes, details = (
        np.concatenate([arrays[name][i] for name in names]) for i in range(3)
    )
    bunch = fetch_smallnorb(subset=subset)
    assert bunch.data.dtype == np.float32 and bunch.data.flags.c_contiguous
    assert bunch.data.flags.writeable and bunch.image_shape == (1, 96, 96)
    np.testing.assert_array_equal(bunch.data.reshape(-1, *bunch.image_shape)[:, 0], images[:, 0])
    np.testing.assert_array_equal(bunch.target, classes)
    assert bunch.target_names.tolist() == ["animal", "human", "plane", "truck", "car"]
    for column, name in enumerate(("instance", "elevation", "azimuth", "lighting")):
        np.testing.assert_array_equal(bunch[name], details[:, column])
        assert bunch[name].dtype == np.int64
    first = N_ROWS if subset == "test" else 0
    assert bunch.indices.tolist() == list(range(first, first + parts * N_ROWS))
    assert len(bunch.filenames) == 3 * parts
    assert all(path.endswith(".mat.gz" if packed else ".mat") for path in bunch.filenames)
    assert "24,300 training and 24,300 test" in bunch.DESCR and "Cite" in bunch.DESCR


@pytest.mark.parametrize("size", [96, 48, 32])
@pytest.mark.parametrize("camera", [0, 1, None])
def test_sizes_and_cameras(made_up, size, camera):
    images = made_up["test"][0].astype(np.uint8)
    bunch = fetch_smallnorb(subset="test", size=size, camera=camera, dtype=np.uint8)
    chosen = images if camera is None else images[:, [camera]]
    assert bunch.image_shape == (chosen.shape[1], size, size)
    assert bunch.data.dtype == np.uint8
    expected = shrink(chosen, size)
    np.testing.assert_array_equal(bunch.data.reshape(-1, *bunch.image_shape), expected)
    names = bunch.feature_names
    assert len(names) == len(set(names)) == bunch.data.shape[1] == np.prod(bunch.image_shape)
    last, prefixes = size - 1, ("camera0", "camera1") if camera is None else ("pixel",)
    for channel, prefix in enumerate(prefixes):
        column = names.index(f"{prefix}_{last}_5")
        np.testing.assert_array_equal(bunch.data[:, column], expected[:, channel, last, 5])


def test_return_forms_agree(made_up):
    bunch = fetch_smallnorb(size=32)
    X, y = fetch_smallnorb(size=32, return_X_y=True, dtype=np.float64)
    assert X.dtype == np.float64
    np.testing.assert_array_equal(X, bunch.data)
    np.testing.assert_array_equal(y, bunch.target)
    pytest.importorskip("pandas")
    framed = fetch_smallnorb(size=32, as_frame=True)
    np.testing.assert_array_equal(framed.frame["pixel_3_17"], bunch.data[:, 3 * 32 + 17])


def test_missing_file_says_where_to_get_it_and_where_to_put_it(folder, tmp_path):
    with pytest.raises(OSError) as caught:
        fetch_smallnorb(data_home=tmp_path / "home", download_if_missing=False)
    name = "smallnorb-5x46789x9x18x6x2x96x96-training-dat.mat.gz"
    for part in (
        f"https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/{name}",
        str(tmp_path / "home" / "anomaly_estimators" / "smallnorb" / name),
        SMALLNORB[0].sha256,
        f"ANOMALY_ESTIMATORS_DATA name a folder that holds smallnorb/{name}",
    ):
        assert part in str(caught.value)


def test_only_the_files_of_the_subset_are_needed(made_up, folder, tmp_path):
    (folder / SMALLNORB[2].filename).unlink()
    assert len(fetch_smallnorb(subset="test").data) == N_ROWS
    with pytest.raises(OSError, match="training-info.mat.gz"):
        fetch_smallnorb(subset="all", data_home=tmp_path / "home", download_if_missing=False)


def test_packed_file_goes_first_and_is_verified(made_up, folder):
    name = SMALLNORB[1].filename
    (folder / name.removesuffix(".gz")).write_bytes(b"nobody reads this")
    assert len(fetch_smallnorb().data) == N_ROWS
    (folder / name).write_bytes(gzip.compress(b"another"))
    with pytest.raises(OSError, match="training-cat.mat.gz is not the published file"):
        fetch_smallnorb()


@pytest.mark.parametrize(
    ("number", "values", "message"),
    [
        (0, np.zeros((N_ROWS, 96, 96)), "it holds 7 x 96 x 96 elements, not 7 x 2 x 96 x 96"),
        (0, np.zeros((N_ROWS - 1, 2, 96, 96)), "it holds 6 x 2 x 96 x 96 elements"),
        (1, np.zeros((N_ROWS, 1)), "it holds 7 x 1 elements, not 7. Take smallnorb.*-cat.mat.gz"),
        (
            2,
            np.zeros((N_ROWS, 3)),
            "it holds 7 x 3 elements, not 7 x 4. Take .* from https://cs.ny",
        ),
        (1, np.full(N_ROWS, 5), "a class that is none of 0 to 4"),
        (1, np.full(N_ROWS, -1), "a class that is none of 0 to 4"),
    ],
)
def test_unpacked_file_of_another_form_is_refused(
    folder, monkeypatch, arrays, number, values, message
):
    changed = [*arrays["train"]]
    changed[number] = values
    put(folder, monkeypatch, {**arrays, "train": changed}, packed=False)
    with pytest.raises(ValueError, match=message):
        fetch_smallnorb()
    assert len(fetch_smallnorb(subset="test").data) == N_ROWS


# Arguments


def test_arguments_are_those_of_the_other_fetchers():
    own, others = (inspect.signature(f).parameters for f in (fetch_smallnorb, fetch_mnist))
    assert list(own) == ["subset", "size", "camera", *(n for n in others if n != "subset")]
    for name in others:
        assert own[name] == others[name]
    for name in own:
        assert f"\n    {name} : " in fetch_smallnorb.__doc__


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"subset": "extra"}, "subset must be one of 'train', 'test', 'all', got 'extra'"),
        ({"size": 64}, "size must be one of 96, 48, 32, got 64"),
        ({"camera": 2}, "camera must be one of 0, 1, None, got 2"),
        ({"dtype": np.float16}, "dtype must be numpy.uint8, numpy.float32 or numpy.float64"),
    ],
)
def test_bad_arguments_are_found_before_any_work(arguments, message, monkeypatch):
    monkeypatch.setattr(_smallnorb, "locate", lambda *args, **kwargs: pytest.fail("worked"))
    with pytest.raises(ValueError, match=message):
        fetch_smallnorb(**arguments)


@pytest.mark.data
@pytest.mark.parametrize("part", list(PARTS))
def test_real_files(part, tmp_path):
    """Runs only where somebody has put the files."""
    if not all(is_at_hand(file, tmp_path) for file in PARTS[part]):
        pytest.skip(f"there is no {PARTS[part][0].path}")
    bunch = fetch_smallnorb(subset=part, size=32, dtype=np.uint8, download_if_missing=False)
    assert bunch.data.shape == (24_300, 1_024)
    assert np.bincount(bunch.target).tolist() == [4_860] * 5
    toys = {"train": {4, 6, 7, 8, 9}, "test": {0, 1, 2, 3, 5}}[part]
    assert set(bunch.instance.tolist()) == toys
    assert set(bunch.elevation.tolist()) == set(range(9))
    assert set(bunch.azimuth.tolist()) == set(range(0, 36, 2))
    assert set(bunch.lighting.tolist()) == set(range(6))
