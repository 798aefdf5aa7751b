import dataclasses
import re

import pytest

from anomaly_estimators.datasets import data_files
from anomaly_estimators.datasets._fetch import file_sha256
from tests._data import require_data

FILES = data_files()


def test_entries_are_complete_and_distinct():
    assert len({file.path for file in FILES}) == len({file.sha256 for file in FILES}) == len(FILES)
    for file in FILES:
        assert re.fullmatch("[0-9a-f]{64}", file.sha256)
        assert file.addresses and all(a.startswith("https://") for a in file.addresses)
        assert 0 < file.n_anomalies < file.n_samples


def test_registry_is_immutable():
    assert isinstance(FILES, tuple)
    with pytest.raises(dataclasses.FrozenInstanceError):
        FILES[0].sha256 = "0" * 64


@pytest.mark.data
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_checksum_is_that_of_the_file(file):
    assert file_sha256(require_data(file.path) / file.path) == file.sha256
