import csv
import dataclasses

import numpy as np
import pytest

from anomaly_estimators.datasets import _aad, fetch_aad
from anomaly_estimators.datasets._aad import _FILES
from anomaly_estimators.datasets._fetch import file_sha256
from tests._data import require_data

# The classes of the anomalies.
ANOMALIES = {
    "abalone": {"3", "21"},
    "ann_thyroid_1v3": {"1"},
    "cardiotocography_1": {"3"},
    "mammography": {"+1"},
    "shuttle_1v23567": {"2", "3", "5", "6", "7"},
    "yeast": {"ERL", "POX", "VAC"},
}


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """A made-up set in the layout of the published files, under the name of one of them."""
    folder = tmp_path / "aad_benchmark"
    folder.mkdir()
    texts = (
        "ground.truth,v1,v2\nnominal,1,0.25\nanomaly,-2,1e-3\nnominal,0.1,3\n",
        "ground.truth,label\nnominal,CYT\nanomaly,ERL\nnominal,#x\n",
    )
    files = []
    for file, text in zip(_FILES["yeast"], texts, strict=True):
        path = folder / file.filename
        path.write_text(text)
        files.append(dataclasses.replace(file, sha256=file_sha256(path)))
    monkeypatch.setitem(_aad._FILES, "yeast", tuple(files))
    monkeypatch.setenv("ANOMALY_ESTIMATORS_DATA", str(tmp_path))


def test_every_set_is_named():
    assert _FILES.keys() == ANOMALIES.keys()
    for name, (rows, classes) in _FILES.items():
        assert f"    {name} " in fetch_aad.__doc__ and f'"{name}"' in fetch_aad.__doc__
        assert f"{rows.n_samples:,}" in fetch_aad.__doc__
        assert rows.n_samples == classes.n_samples and classes.n_features is None


@pytest.mark.data
@pytest.mark.parametrize("name", _FILES)
def test_set_is_what_the_registry_says(name, tmp_path):
    rows, classes = _FILES[name]
    folder = require_data(rows.path, classes.path)
    bunch = fetch_aad(name, data_home=tmp_path / "home", download_if_missing=False)
    assert bunch.data.shape == (rows.n_samples, rows.n_features)
    assert bunch.data.dtype == np.float64 and bunch.data.flags.c_contiguous
    assert np.isfinite(bunch.data).all()
    assert bunch.target.dtype == np.int64
    assert np.count_nonzero(bunch.target == -1) == rows.n_anomalies
    assert set(bunch.classes[bunch.target == -1]) == ANOMALIES[name]
    assert not set(bunch.classes[bunch.target == 1]) & ANOMALIES[name]
    assert f"{rows.n_samples:,} rows" in bunch.DESCR
    assert f"{rows.n_anomalies} anomalies" in bunch.DESCR
    assert "Licence" in bunch.DESCR and "Cite" in bunch.DESCR
    assert not (tmp_path / "home").exists()

    with open(folder / rows.path, newline="") as stream:
        header, *lines = csv.reader(stream)
    assert bunch.feature_names == header[1:]
    for row in (0, 1, len(lines) // 2, len(lines) - 1):
        assert bunch.data[row].tolist() == [float(cell) for cell in lines[row][1:]]
        assert bunch.target[row] == {"nominal": 1, "anomaly": -1}[lines[row][0]]


def test_layout(tiny):
    bunch = fetch_aad("yeast")
    assert bunch.data.tolist() == [[1, 0.25], [-2, 1e-3], [0.1, 3]]
    assert bunch.target.tolist() == [1, -1, 1]
    assert bunch.classes.tolist() == ["CYT", "ERL", "#x"]
    assert bunch.feature_names == ["v1", "v2"]
    assert [path.rsplit("/", 1)[1] for path in bunch.filenames] == [
        "yeast_1.csv",
        "yeast_1_orig_labels.csv",
    ]


def test_return_forms_agree(tiny):
    bunch = fetch_aad("yeast")
    X, y = fetch_aad("yeast", return_X_y=True, dtype=np.float32)
    assert X.dtype == np.float32
    np.testing.assert_array_equal(X, bunch.data.astype(np.float32))
    np.testing.assert_array_equal(y, bunch.target)
    framed = fetch_aad("yeast", as_frame=True)
    assert framed.frame.columns.tolist() == ["v1", "v2", "target"]
    np.testing.assert_array_equal(framed.data, bunch.data)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "yeasts"}, "name must be one of 'abalone', 'ann_thyroid_1v3'.*got 'yeasts'"),
        ({"name": "yeast", "dtype": np.float16}, "float32 or numpy.float64, got float16"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        fetch_aad(**arguments)
