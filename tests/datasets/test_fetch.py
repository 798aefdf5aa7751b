"""Locating, downloading, caching and verifying, with a made-up file and a local server."""

import dataclasses
import shutil
import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import get_data_home

from anomaly_estimators.datasets import _odds, fetch_odds
from anomaly_estimators.datasets._fetch import cache_folder, file_sha256, locate

pytestmark = pytest.mark.usefixtures("no_local_folder")


@pytest.fixture
def local(monkeypatch, tmp_path, published):
    """The user's own folder, with the file in it."""
    folder = tmp_path / "local"
    (folder / "tiny").mkdir(parents=True)
    path = shutil.copy(published, folder / "tiny" / published.name)
    monkeypatch.setenv("ANOMALY_ESTIMATORS_DATA", str(folder))
    return path


def test_download_is_verified_and_cached(served, tmp_path):
    file, requests = served
    home = tmp_path / "home"
    path = locate(file, data_home=home)
    assert path == home / "anomaly_estimators" / "tiny" / "tiny.npz"
    assert file_sha256(path) == file.sha256
    assert locate(file, data_home=home, download_if_missing=False) == path
    assert len(requests) == 1
    assert [entry.name for entry in path.parent.iterdir()] == ["tiny.npz"]


def test_corrupt_cached_file_is_downloaded_again(served, tmp_path):
    file, requests = served
    path = locate(file, data_home=tmp_path)
    path.write_bytes(b"torn")
    with pytest.raises(OSError, match="is corrupt.*download_if_missing=False"):
        locate(file, data_home=tmp_path, download_if_missing=False)
    assert file_sha256(locate(file, data_home=tmp_path)) == file.sha256
    assert len(requests) == 2


def test_download_with_another_content_is_refused(served, published, tmp_path):
    file, _ = served
    published.write_bytes(b"something else")
    with pytest.raises(OSError, match="tiny.npz failed.*hash"):
        locate(file, data_home=tmp_path)
    assert not (cache_folder(tmp_path, "tiny") / "tiny.npz").exists()


def test_next_address_is_tried_when_one_fails(served, tmp_path):
    file, requests = served
    base = file.addresses[0].removesuffix("tiny.npz")
    file = dataclasses.replace(file, addresses=(base + "gone.npz", *file.addresses))
    assert file_sha256(locate(file, data_home=tmp_path)) == file.sha256
    assert "/tiny.npz" in requests[-1]


def test_no_network_names_file_address_path_and_checksum(tiny, tmp_path):
    # Nothing listens on the discard port of this machine.
    with pytest.raises(OSError) as caught:
        locate(tiny, data_home=tmp_path)
    path = str(cache_folder(tmp_path, "tiny") / "tiny.npz")
    for part in (tiny.addresses[0], path, tiny.sha256, "ANOMALY_ESTIMATORS_DATA"):
        assert part in str(caught.value)


def test_without_permission_to_download_nothing_is_requested(served, tmp_path):
    file, requests = served
    with pytest.raises(OSError, match="download_if_missing=False.*Download http"):
        locate(file, data_home=tmp_path, download_if_missing=False)
    assert requests == []


def test_local_file_is_used_first_and_never_written(local, tiny, tmp_path):
    local.chmod(0o444)
    local.parent.chmod(0o555)
    before = {path: path.stat().st_mtime_ns for path in local.parent.parent.rglob("*")}
    try:
        assert locate(tiny, data_home=tmp_path / "home", download_if_missing=False) == local
        after = {path: path.stat().st_mtime_ns for path in local.parent.parent.rglob("*")}
    finally:
        local.parent.chmod(0o755)
    assert before == after
    assert not (tmp_path / "home").exists()


def test_corrupt_local_file_is_an_error_that_names_both_checksums(local, tiny, tmp_path):
    local.write_bytes(b"torn")
    with pytest.raises(OSError, match="is not the published file") as caught:
        locate(tiny, data_home=tmp_path)
    for part in (str(local), file_sha256(local), tiny.sha256, tiny.addresses[0]):
        assert part in str(caught.value)
    assert local.read_bytes() == b"torn"


def test_file_missing_from_the_local_folder(local, served, tmp_path):
    file, requests = served
    local.unlink()
    with pytest.raises(OSError) as caught:
        locate(file, data_home=tmp_path, download_if_missing=False)
    assert f"ANOMALY_ESTIMATORS_DATA is set, but there is no {local}" in str(caught.value)
    assert requests == []
    path = locate(file, data_home=tmp_path)
    assert path == cache_folder(tmp_path, "tiny") / "tiny.npz"
    # The cached copy is a local one, so that it now serves without a download as well.
    assert locate(file, data_home=tmp_path, download_if_missing=False) == path
    assert not local.exists()


def test_cache_folder_follows_scikit_learn(monkeypatch, tmp_path):
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "elsewhere"))
    expected = tmp_path / "elsewhere" / "anomaly_estimators" / "tiny"
    assert cache_folder(None, "tiny") == expected
    assert str(expected).startswith(get_data_home(None))


@pytest.mark.parametrize(("module", "arguments"), [("pooch", {}), ("pandas", {"as_frame": True})])
def test_missing_package_names_the_extra(monkeypatch, tmp_path, module, arguments):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"pip install anomaly-estimators\[datasets\]"):
        fetch_odds("thyroid", data_home=tmp_path, **arguments)


def test_without_tqdm_there_is_no_progress_bar(served, tmp_path, monkeypatch, capfd):
    file, _ = served
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    locate(file, data_home=tmp_path)
    assert "%" not in capfd.readouterr().err


def test_fetcher_reads_what_was_downloaded(served, monkeypatch, tmp_path):
    file, _ = served
    monkeypatch.setitem(_odds._FILES, "thyroid", file)
    X, y = fetch_odds("thyroid", data_home=tmp_path, return_X_y=True)
    np.testing.assert_array_equal(X, np.arange(12).reshape(4, 3))
    assert y.tolist() == [1, 1, -1, 1]


def test_import_loads_no_optional_package():
    code = (
        "import sys, sklearn.utils; before = set(sys.modules); import anomaly_estimators.datasets;"
        "print(*sorted({'pandas', 'pooch', 'tqdm', 'torch', 'scipy.io', 'sklearn.datasets'}"
        " & (set(sys.modules) - before)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stdout.strip()) == (0, ""), result.stderr
