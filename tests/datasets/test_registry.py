import dataclasses
import re

import pytest

from anomaly_estimators.datasets import DataFile, data_files
from anomaly_estimators.datasets._fetch import file_sha256
from anomaly_estimators.datasets._registry import (
    AAD,
    CIFAR10,
    CIFAR10_REDUCED,
    CREDITCARD,
    ECG5000,
    FASHION_MNIST,
    KDDCUP99_TEST,
    MITBIH_HEARTBEAT,
    MNIST,
    SMALLNORB,
)
from tests._data import require_data

FILES = data_files()
# A folder may hold either of these two.
EITHER = (CIFAR10, CIFAR10_REDUCED)
# Files that a folder of benchmark data need not have.
OPTIONAL = (CREDITCARD, *SMALLNORB)
# Files that nobody publishes; they serve only where a user has them.
UNPUBLISHED = (CIFAR10_REDUCED, MITBIH_HEARTBEAT, ECG5000)


def test_entries_are_complete_and_distinct():
    assert len({file.path for file in FILES}) == len({file.sha256 for file in FILES}) == len(FILES)
    for file in FILES:
        assert re.fullmatch("[0-9a-f]{64}", file.sha256)
        assert all(a.startswith("https://") for a in file.addresses)
        assert bool(file.addresses) == (file not in UNPUBLISHED)
        if file.n_anomalies is not None:
            assert 0 < file.n_anomalies < file.n_samples


def test_address_ends_in_the_file_that_it_gives():
    tables = (KDDCUP99_TEST, CREDITCARD, *(file for pair in AAD for file in pair))
    for file in (*MNIST, *FASHION_MNIST, CIFAR10, *SMALLNORB, *tables):
        assert all(address.endswith(f"/{file.filename}") for address in file.addresses)


@pytest.mark.parametrize("files", [MNIST, FASHION_MNIST], ids=["mnist", "fashion_mnist"])
def test_sets_of_four_files(files):
    assert [(file.filename, file.n_samples, file.n_features) for file in files] == [
        ("train-images-idx3-ubyte.gz", 60_000, 784),
        ("train-labels-idx1-ubyte.gz", 60_000, None),
        ("t10k-images-idx3-ubyte.gz", 10_000, 784),
        ("t10k-labels-idx1-ubyte.gz", 10_000, None),
    ]
    assert len({file.name for file in files}) == 1
    assert {file.n_anomalies for file in files} == {None}


def test_registry_is_immutable():
    assert isinstance(FILES, tuple) and all(isinstance(file, DataFile) for file in FILES)
    with pytest.raises(dataclasses.FrozenInstanceError):
        FILES[0].sha256 = "0" * 64


@pytest.mark.data
@pytest.mark.parametrize(
    "file", [f for f in FILES if f not in (*EITHER, *OPTIONAL)], ids=lambda file: file.path
)
def test_checksum_is_that_of_the_file(file):
    assert file_sha256(require_data(file.path) / file.path) == file.sha256


@pytest.mark.data
def test_checksum_of_cifar10_is_that_of_the_file():
    folder = require_data()
    found = [file for file in EITHER if (folder / file.path).is_file()]
    assert found, f"{folder} has neither {CIFAR10.path} nor {CIFAR10_REDUCED.path}"
    for file in found:
        assert file_sha256(folder / file.path) == file.sha256
