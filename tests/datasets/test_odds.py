import inspect
import pickle

import numpy as np
import pytest

from anomaly_estimators import datasets
from anomaly_estimators.datasets import fetch_odds
from anomaly_estimators.datasets._registry import ODDS
from tests._data import require_data


def named_fetcher(file):
    return getattr(datasets, f"fetch_{file.name.replace('-', '')}")


@pytest.mark.data
@pytest.mark.parametrize("file", ODDS, ids=lambda file: file.name)
def test_named_fetcher_returns_what_the_registry_says(file, tmp_path):
    require_data(file.path)
    bunch = named_fetcher(file)(data_home=tmp_path / "home", download_if_missing=False)
    assert bunch.data.shape == (file.n_samples, file.n_features)
    assert bunch.data.dtype == np.float64 and bunch.data.flags.c_contiguous
    assert np.isfinite(bunch.data).all()
    assert bunch.target.dtype == np.int64 and bunch.target.shape == (file.n_samples,)
    assert np.unique(bunch.target).tolist() == [-1, 1]
    assert np.count_nonzero(bunch.target == -1) == file.n_anomalies
    assert len(bunch.feature_names) == file.n_features
    assert bunch.target_names.tolist() == ["anomaly", "normal"]
    assert f"{file.n_samples:,} rows" in bunch.DESCR and f"{file.n_anomalies:,} ano" in bunch.DESCR
    assert "Licence" in bunch.DESCR and "Cite" in bunch.DESCR
    assert bunch.frame is None
    # Nothing needs to be cached where the user's own folder has the file.
    assert not (tmp_path / "home").exists()


@pytest.mark.data
def test_return_forms_agree():
    require_data("cardio/cardio.mat")
    bunch = fetch_odds("cardio")
    X, y = fetch_odds("cardio", return_X_y=True, dtype=np.float32)
    assert X.dtype == np.float32
    np.testing.assert_array_equal(X, bunch.data.astype(np.float32))
    np.testing.assert_array_equal(y, bunch.target)

    framed = fetch_odds("cardio", as_frame=True)
    assert framed.frame.columns.tolist() == [*bunch.feature_names, "target"]
    assert framed.data.columns.tolist() == bunch.feature_names
    np.testing.assert_array_equal(framed.data, bunch.data)
    np.testing.assert_array_equal(framed.frame["target"], bunch.target)
    X, y = fetch_odds("cardio", as_frame=True, return_X_y=True)
    assert X.equals(framed.data) and y.equals(framed.target)


@pytest.mark.parametrize("file", ODDS, ids=lambda file: file.name)
def test_named_fetchers_are_ordinary_functions(file):
    fetcher = named_fetcher(file)
    assert pickle.loads(pickle.dumps(fetcher)) is fetcher
    for count in (f"{file.n_samples:,}", str(file.n_features), f"{file.n_anomalies:,}"):
        assert count in fetcher.__doc__
    assert list(inspect.signature(fetcher).parameters) == [
        *list(inspect.signature(fetch_odds).parameters)[1:]
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "thyroids"}, "no set 'thyroids'; choose one of 'thyroid', 'arrhythmia'"),
        ({"name": "cover", "dtype": np.float16}, "float32 or numpy.float64, got float16"),
        ({"name": "cover", "dtype": int}, "float32 or numpy.float64, got int"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        fetch_odds(**arguments)
