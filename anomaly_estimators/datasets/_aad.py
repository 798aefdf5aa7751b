"""The benchmark sets of active anomaly discovery."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray
from sklearn.utils import Bunch

from ._bunch import as_bunch, check_dtype, check_frame_support
from ._fetch import locate
from ._images import check_choice
from ._registry import AAD

_FILES = {pair[0].filename.removesuffix("_1.csv"): pair for pair in AAD}
_ANOMALY = "anomaly"  # the other label is "nominal"


def fetch_aad(
    name: str,
    *,
    data_home: str | os.PathLike | None = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    dtype: DTypeLike = np.float64,
) -> Bunch | tuple:
    """Load one of the benchmark sets of active anomaly discovery (anomaly detection).

    Classified sets of which a few large classes are the normal rows and a few small ones the
    anomalies. They were made for [1]_ and serve in [2]_ and [3]_. The values are as published:
    nothing is scaled, and symbolic columns come as indicators already.

    ==================  ======  ========  =========  ==================  ==================
    name                  rows  features  anomalies  classes, normal     classes, anomalies
    ==================  ======  ========  =========  ==================  ==================
    abalone              1,920         9         29  8, 9, 10            3, 21
    ann_thyroid_1v3      3,251        21         73  3                   1
    cardiotocography_1   1,700        21         45  1                   3
    mammography         11,183         6        260  -1                  +1
    shuttle_1v23567     12,345         9        867  1                   2, 3, 5, 6, 7
    yeast                1,191         8         55  CYT, MIT, NUC       ERL, POX, VAC
    ==================  ======  ========  =========  ==================  ==================

    Files in the folder that the environment variable ``ANOMALY_ESTIMATORS_DATA`` names are used
    first, then the cached ones; else they are downloaded. Every file is checked against its
    SHA-256.

    Parameters
    ----------
    name : {"abalone", "ann_thyroid_1v3", "cardiotocography_1", "mammography", \
"shuttle_1v23567", "yeast"}
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
            The features, in C order; rows are in the file's order.
        target : ndarray of shape (n_samples,) and dtype int64, or Series
            +1 for normal rows, -1 for anomalies.
        frame : DataFrame of shape (n_samples, n_features + 1), or None
            Features and target, if ``as_frame=True``.
        feature_names : list of str
            As in the file: ``v1`` and the like.
        target_names : ndarray of shape (2,)
            ``"anomaly"`` and ``"normal"``: the meaning of the sorted target values.
        classes : ndarray of shape (n_samples,) and dtype str
            The class of each row in the set that this one was made from.
        DESCR : str
            What the set is, its licence and what to cite.
        filenames : list of str
            Paths of the two files that were read.

    (data, target) : tuple
        If ``return_X_y=True``.

    Raises
    ------
    ValueError
        If there is no set of this name, or the dtype is neither float32 nor float64.
    OSError
        If a file is missing and cannot be downloaded, or the user's own file is corrupt. The
        message says which file to download from where to where.
    ImportError
        If pooch (to download) or pandas (for ``as_frame=True``) is needed and not installed.

    See Also
    --------
    fetch_odds : Other sets made from the same sources.
    data_files : Addresses, checksums and sizes of all sets.

    Notes
    -----
    Five of the sets have the sizes of table 1 of [3]_: yeast, abalone, cardiotocography_1 ("CTG"),
    mammography ("MMG") and shuttle_1v23567 ("Shuttle"). That table's "Thyroid" is
    :func:`fetch_thyroid`, its "Covtype" has the rows of :func:`fetch_cover`.

    References
    ----------
    .. [1] S. Das, W.-K. Wong, T. Dietterich, A. Fern and A. Emmott, "Incorporating Expert Feedback
           into Active Anomaly Discovery", ICDM 2016.
    .. [2] S. Das, W.-K. Wong, A. Fern, T. G. Dietterich and M. A. Siddiqui, "Incorporating Feedback
           into Tree-based Anomaly Detection", KDD Workshop on Interactive Data Exploration and
           Analytics, 2017.
    .. [3] Pimentel et al., "UaiNets: From Unsupervised to Active Deep Anomaly Detection", 2018,
           table 1.

    Examples
    --------
    >>> from anomaly_estimators.datasets import fetch_aad
    >>> yeast = fetch_aad("yeast")  # doctest: +SKIP
    >>> yeast.data.shape, int((yeast.target == -1).sum())  # doctest: +SKIP
    ((1191, 8), 55)
    >>> np.unique(yeast.classes[yeast.target == -1]).tolist()  # doctest: +SKIP
    ['ERL', 'POX', 'VAC']
    """
    check_choice("name", name, tuple(_FILES))
    dtype = check_dtype(dtype)
    check_frame_support(as_frame)
    paths = [
        locate(file, data_home=data_home, download_if_missing=download_if_missing)
        for file in _FILES[name]
    ]
    (_, *feature_names), rows = _read(paths[0])
    _, class_rows = _read(paths[1])
    return as_bunch(
        rows[:, 1:].astype(np.float64).astype(dtype, copy=False),
        np.where(rows[:, 0] == _ANOMALY, -1, 1).astype(np.int64, copy=False),
        name=f"aad_{name}",
        feature_names=feature_names,
        return_X_y=return_X_y,
        as_frame=as_frame,
        classes=class_rows[:, 1],
        filenames=[str(path) for path in paths],
    )


def _read(path: Path) -> tuple[list[str], NDArray[np.str_]]:
    """Column names and cells of a file with a header row, both as text."""
    header, *rows = np.loadtxt(path, delimiter=",", dtype=str, comments=None)
    return header.tolist(), np.array(rows)
