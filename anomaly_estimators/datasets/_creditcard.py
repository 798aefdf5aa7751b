"""Card payments with frauds."""

import os

import numpy as np
from numpy.typing import DTypeLike
from sklearn.utils import Bunch

from ._bunch import as_bunch, check_dtype, check_frame_support
from ._fetch import locate
from ._registry import CREDITCARD


def fetch_creditcard(
    *,
    data_home: str | os.PathLike | None = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    dtype: DTypeLike = np.float64,
) -> Bunch | tuple:
    """Load the credit card payments with frauds of [1]_ (anomaly detection).

    Payments of two days in September 2013. The features ``V1`` to ``V28`` are principal components
    of what was recorded, ``Time`` counts seconds from the first payment, and ``Amount`` is the sum
    paid. The frauds are the anomalies. The values are as published: nothing is scaled.

    =========  ============
    rows       284,807
    features   30
    anomalies  492 (0.17 %)
    =========  ============

    The publisher's page, https://www.kaggle.com/datasets/mlg-ulb/creditcardfraud, asks for a login.
    A file ``creditcard/creditcard.csv`` in the folder that the environment variable
    ``ANOMALY_ESTIMATORS_DATA`` names is used first, then the cached one; else a public copy is
    downloaded (151 MB). The file is checked against its SHA-256.

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
    dtype : {numpy.float64, numpy.float32}, default=numpy.float64
        Type of the features.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        With the attributes

        data : ndarray of shape (284807, 30), or DataFrame
            The features, in C order; rows are in the file's order.
        target : ndarray of shape (284807,) and dtype int64, or Series
            +1 for payments in order, -1 for frauds.
        frame : DataFrame of shape (284807, 31), or None
            Features and target, if ``as_frame=True``.
        feature_names : list of str
            ``Time``, ``V1`` to ``V28``, ``Amount``.
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
        If the dtype is neither float32 nor float64.
    OSError
        If the file is missing and cannot be downloaded, or the user's own file is corrupt. The
        message says which file to download from where to where.
    ImportError
        If pooch (to download) or pandas (for ``as_frame=True``) is needed and not installed.

    See Also
    --------
    data_files : Addresses, checksums and sizes of all sets.

    References
    ----------
    .. [1] A. Dal Pozzolo, O. Caelen, R. A. Johnson and G. Bontempi, "Calibrating Probability with
           Undersampling for Unbalanced Classification", IEEE Symposium on Computational
           Intelligence and Data Mining, 2015.

    Examples
    --------
    >>> from anomaly_estimators.datasets import fetch_creditcard
    >>> X, y = fetch_creditcard(return_X_y=True)  # doctest: +SKIP
    >>> X.shape, int((y == -1).sum())  # doctest: +SKIP
    ((284807, 30), 492)
    """
    dtype = check_dtype(dtype)
    check_frame_support(as_frame)
    path = locate(CREDITCARD, data_home=data_home, download_if_missing=download_if_missing)
    with open(path, encoding="ascii") as stream:
        *feature_names, _ = (name.strip('"') for name in stream.readline().strip().split(","))
        # The file quotes its last column, the flag of a fraud.
        rows = np.loadtxt(stream, delimiter=",", quotechar='"')
    return as_bunch(
        np.ascontiguousarray(rows[:, :-1], dtype=dtype),
        np.where(rows[:, -1] == 1, -1, 1).astype(np.int64, copy=False),
        name=CREDITCARD.name,
        feature_names=feature_names,
        return_X_y=return_X_y,
        as_frame=as_frame,
        filename=str(path),
    )
