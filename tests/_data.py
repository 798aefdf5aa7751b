"""The real data files for the tests that read them."""

import os
from pathlib import Path

import pytest

VARIABLE = "ANOMALY_ESTIMATORS_DATA"


def require_data(*paths: str) -> Path:
    """Folder of the data; skips the test where none is named, fails it where a file is missing.

    Parameters
    ----------
    *paths : str
        Files that the test reads, as ``<set>/<file>``.
    """
    folder = os.environ.get(VARIABLE)
    if not folder:
        pytest.skip(f"{VARIABLE} is not set: it must name the folder of the benchmark data")
    missing = [path for path in paths if not (Path(folder) / path).is_file()]
    if missing:
        pytest.fail(f"{VARIABLE} is {folder}, which has no {', '.join(missing)}")
    return Path(folder)
