"""The tabular sets of the ODDS library (two of them as ADBench's copies)."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray
from sklearn.utils import Bunch

from ._bunch import as_bunch, check_dtype, check_frame_support
from ._fetch import locate
from ._registry import ODDS

_FILES = {file.name: file for file in ODDS}


def fetch_odds(
    name: str,
    *,
    data_home: str | os.PathLike | None = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    dtype: DTypeLike = np.float64,
) -> Bunch | tuple:
    """Load one of the tabular sets of the ODDS library (anomaly detection).

    The values are as published: nothing is scaled, dropped or put in another order. A file in the
    folder that the environment variable ``ANOMALY_ESTIMATORS_DATA`` names is used first, then the
    cached one; else it is downloaded. Every file is checked against its SHA-256.

    Parameters
    ----------
    name : {"thyroid", "arrhythmia", "cardio", "satellite", "satimage-2", "shuttle", \
"mammography", "cover"}
        The set.
    data_home : path-like, default=None
        Cache folder in place of scikit-learn's ``~/scikit_learn_data``.
    download_if_missing : bool, default=True
        If False, raise an OSError where there is no local copy, in place of a download.
    return_X_y : bool, default=False
        If True, return ``(data, target)`` in place of a Bunch.
    as_frame : bool, default=False
        If True, data is a pandas DataFrame and target a pandas Series.
    dtype : {numpy.float64, numpy.float32}, default=numpy.float64
        Type of the features.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        With the attributes

        data : ndarray of shape (n_samples, n_features), or DataFrame
            The features, in C order.
        target : ndarray of shape (n_samples,) and dtype int64, or Series
            +1 for normal rows, -1 for anomalies.
        frame : DataFrame of shape (n_samples, n_features + 1), or None
            Features and target, if ``as_frame=True``.
        feature_names : list of str
            ``x0``, ``x1`` and so on: the files carry no names.
        target_names : ndarray of shape (2,)
            ``"anomaly"`` and ``"normal"``: the meaning of the sorted target values.
        DESCR : str
            What the set is, its licence and what to cite.
        filename : str
            Path of the file that was read.

    (data, target) : tuple
        If ``return_X_y=True``.

    Raises
    ------
    ValueError
        If there is no set of this name, or the dtype is neither float32 nor float64.
    OSError
        If the file is missing and cannot be downloaded, or the user's own file is corrupt. The
        message says which file to download from where to where.
    ImportError
        If pooch (to download) or pandas (for ``as_frame=True``) is needed and not installed.

    See Also
    --------
    data_files : Addresses, checksums and sizes of all sets.
    one_class_split : Split a set for training on normal rows.

    References
    ----------
    .. [1] S. Rayana, "ODDS Library", Stony Brook University, 2016.
           http://odds.cs.stonybrook.edu
    .. [2] S. Han, X. Hu, H. Huang, M. Jiang and Y. Zhao, "ADBench: Anomaly Detection Benchmark",
           NeurIPS 2022.

    Examples
    --------
    >>> from anomaly_estimators.datasets import fetch_odds
    >>> thyroid = fetch_odds("thyroid")  # doctest: +SKIP
    >>> thyroid.data.shape, int((thyroid.target == -1).sum())  # doctest: +SKIP
    ((3772, 6), 93)
    """
    if name not in _FILES:
        raise ValueError(f"there is no set {name!r}; choose one of {', '.join(map(repr, _FILES))}")
    dtype = check_dtype(dtype)
    check_frame_support(as_frame)
    path = locate(_FILES[name], data_home=data_home, download_if_missing=download_if_missing)
    data, outlier = _read(path)
    return as_bunch(
        np.ascontiguousarray(data, dtype=dtype),
        np.where(np.ravel(outlier) == 1, -1, 1).astype(np.int64, copy=False),
        name=name,
        feature_names=[f"x{column}" for column in range(data.shape[1])],
        return_X_y=return_X_y,
        as_frame=as_frame,
        filename=str(path),
    )


def _read(path: Path) -> tuple[NDArray, NDArray]:
    """Features and outlier flags (1 = outlier), of whatever type the file stores."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as content:
            return content["X"], content["y"]
    from scipy.io import loadmat

    content = loadmat(path, variable_names=["X", "y"])
    return content["X"], content["y"]


def _named_fetcher(name: str, about: str) -> Callable[..., Bunch | tuple]:
    """Make ``fetch_<name>``: `fetch_odds` for one set, with a docstring of its own."""

    def fetch(
        *,
        data_home: str | os.PathLike | None = None,
        download_if_missing: bool = True,
        return_X_y: bool = False,
        as_frame: bool = False,
        dtype: DTypeLike = np.float64,
    ) -> Bunch | tuple:
        return fetch_odds(
            name,
            data_home=data_home,
            download_if_missing=download_if_missing,
            return_X_y=return_X_y,
            as_frame=as_frame,
            dtype=dtype,
        )

    file = _FILES[name]
    # These two are what makes the function picklable and its page link back to this file.
    fetch.__name__ = fetch.__qualname__ = f"fetch_{name.replace('-', '')}"
    fetch.__doc__ = f"""Load the {name} set of the ODDS library (anomaly detection).

    {about}

    =========  {"=" * 9}
    rows       {file.n_samples:,}
    features   {file.n_features}
    anomalies  {file.n_anomalies:,} ({file.n_anomalies / file.n_samples:.1%})
    =========  {"=" * 9}

    Parameters
    ----------
    data_home : path-like, default=None
        Cache folder in place of scikit-learn's ``~/scikit_learn_data``.
    download_if_missing : bool, default=True
        If False, raise an OSError where there is no local copy, in place of a download.
    return_X_y : bool, default=False
        If True, return ``(data, target)`` in place of a Bunch.
    as_frame : bool, default=False
        If True, data is a pandas DataFrame and target a pandas Series.
    dtype : {{numpy.float64, numpy.float32}}, default=numpy.float64
        Type of the features.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        With ``data`` of shape ({file.n_samples}, {file.n_features}), ``target`` of shape
        ({file.n_samples},) and dtype int64 (+1 normal, -1 anomaly), and the other attributes that
        `fetch_odds` lists.
    (data, target) : tuple
        If ``return_X_y=True``.

    Raises
    ------
    ValueError
        If the dtype is neither float32 nor float64.
    OSError
        If the file is missing and cannot be downloaded, or the user's own file is corrupt.
    ImportError
        If pooch (to download) or pandas (for ``as_frame=True``) is needed and not installed.

    See Also
    --------
    fetch_odds : The same for any set of the library, with the references.
    one_class_split : Split a set for training on normal rows.

    Examples
    --------
    >>> from anomaly_estimators.datasets import {fetch.__name__}
    >>> X, y = {fetch.__name__}(return_X_y=True)  # doctest: +SKIP
    >>> X.shape, int((y == -1).sum())  # doctest: +SKIP
    (({file.n_samples}, {file.n_features}), {file.n_anomalies})
    """
    return fetch


fetch_thyroid = _named_fetcher(
    "thyroid",
    """Hormone measurements of patients. The anomalies are the hyperfunctioning cases; normal and
    subnormal cases together are the normal class.""",
)
fetch_arrhythmia = _named_fetcher(
    "arrhythmia",
    """Personal data and electrocardiogram measurements of patients. The eight rarest of the
    diagnoses together are the anomalies, all others the normal class.""",
)
fetch_cardio = _named_fetcher(
    "cardio",
    """Cardiotocograms (heart rate and contractions) of unborn children. The pathologic ones are
    the anomalies; the suspect ones are left out.""",
)
fetch_satellite = _named_fetcher(
    "satellite",
    """Neighbourhoods of 3 x 3 pixels in four spectral bands of a Landsat image. The three smallest
    of the soil classes together are the anomalies.""",
)
fetch_satimage2 = _named_fetcher(
    "satimage-2",
    """Neighbourhoods of 3 x 3 pixels in four spectral bands of a Landsat image. The anomalies are
    a small random sample of one soil class; the other classes are the normal rows.""",
)
fetch_shuttle = _named_fetcher(
    "shuttle",
    """Sensor readings of the space shuttle's radiator subsystem. Class 1 is normal; classes 2, 3,
    5, 6 and 7 together are the anomalies, and class 4 is left out.""",
)
fetch_mammography = _named_fetcher(
    "mammography",
    """Shape and brightness of candidate spots in digitised mammograms. The anomalies are the
    microcalcifications. The file is the copy of the ADBench benchmark.""",
)
fetch_cover = _named_fetcher(
    "cover",
    """Ten cartographic measurements of forest cells. Cover type 2 (lodgepole pine) is normal, cover
    type 4 (cottonwood and willow) the anomaly. The file is the copy of the ADBench benchmark.""",
)
