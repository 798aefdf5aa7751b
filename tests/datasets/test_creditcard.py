"""The loader of the credit card payments, with a made-up file in the layout of the published one."""

import dataclasses

import numpy as np
import pytest

from anomaly_estimators.datasets import _creditcard, fetch_creditcard
from anomaly_estimators.datasets._fetch import file_sha256, is_at_hand
from anomaly_estimators.datasets._registry import CREDITCARD

NAMES = ["Time", *(f"V{number}" for number in range(1, 29)), "Amount"]


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(5, 30)).round(12)
    rows[:, 0] = [0, 0, 1, 2, 2]
    rows[:, -1] = [149.62, 2.69, 0, 1e5, 3.14]
    return rows


@pytest.fixture
def path(tmp_path, monkeypatch, rows):
    """The file in the user's own folder, and its checksum in place of the published one's."""
    path = tmp_path / "creditcard" / "creditcard.csv"
    path.parent.mkdir()
    lines = [",".join(f'"{name}"' for name in (*NAMES, "Class"))]
    for row, fraud in zip(rows, (0, 0, 1, 0, 1), strict=True):
        lines.append(",".join([f"{row[0]:g}", *map(repr, row[1:].tolist()), f'"{fraud}"']))
    path.write_text("\n".join(lines) + "\n")
    file = dataclasses.replace(CREDITCARD, sha256=file_sha256(path))
    monkeypatch.setattr(_creditcard, "CREDITCARD", file)
    monkeypatch.setenv("ANOMALY_ESTIMATORS_DATA", str(tmp_path))
    return path


def test_layout(path, rows):
    bunch = fetch_creditcard()
    np.testing.assert_array_equal(bunch.data, rows)
    assert bunch.data.flags.c_contiguous
    assert bunch.target.tolist() == [1, 1, -1, 1, -1] and bunch.target.dtype == np.int64
    assert bunch.feature_names == NAMES
    assert bunch.filename == str(path)
    assert "284,807 rows, 30 features, 492 anomalies" in bunch.DESCR
    assert "Licence" in bunch.DESCR and "Cite" in bunch.DESCR


def test_return_forms_agree(path, rows):
    X, y = fetch_creditcard(return_X_y=True, dtype=np.float32)
    assert X.dtype == np.float32
    np.testing.assert_array_equal(X, rows.astype(np.float32))
    framed = fetch_creditcard(as_frame=True)
    assert framed.frame.columns.tolist() == [*NAMES, "target"]
    np.testing.assert_array_equal(framed.target, y)


def test_another_file_is_refused(path):
    path.write_text(path.read_text().replace("149.62", "149.63"))
    with pytest.raises(OSError, match="is not the published file"):
        fetch_creditcard()


def test_missing_file_says_where_to_get_it_and_where_to_put_it(monkeypatch, tmp_path):
    monkeypatch.setenv("ANOMALY_ESTIMATORS_DATA", str(tmp_path))
    with pytest.raises(OSError) as caught:
        fetch_creditcard(data_home=tmp_path / "home", download_if_missing=False)
    for part in (
        str(tmp_path / "creditcard" / "creditcard.csv"),
        CREDITCARD.addresses[0],
        CREDITCARD.sha256,
        "ANOMALY_ESTIMATORS_DATA",
        "creditcard/creditcard.csv",
    ):
        assert part in str(caught.value)


def test_bad_dtype_is_found_before_any_work(monkeypatch):
    monkeypatch.setattr(_creditcard, "locate", lambda *args, **kwargs: pytest.fail("worked"))
    with pytest.raises(ValueError, match="float32 or numpy.float64, got float16"):
        fetch_creditcard(dtype=np.float16)


def test_entry_is_that_of_the_published_file():
    assert (CREDITCARD.n_samples, CREDITCARD.n_features, CREDITCARD.n_anomalies) == (
        284_807,
        30,
        492,
    )
    assert len(NAMES) == CREDITCARD.n_features


@pytest.mark.data
def test_real_file(tmp_path):
    """Runs only where somebody has put the file: its publisher asks for a login."""
    if not is_at_hand(CREDITCARD, tmp_path):
        pytest.skip("there is no creditcard/creditcard.csv")
    bunch = fetch_creditcard(data_home=tmp_path, download_if_missing=False)
    assert bunch.data.shape == (CREDITCARD.n_samples, CREDITCARD.n_features)
    assert np.count_nonzero(bunch.target == -1) == CREDITCARD.n_anomalies
    assert bunch.feature_names == NAMES
