"""Heartbeats: those of the MIT-BIH records in five classes, and ECG5000."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray
from sklearn.utils import Bunch

from ._bunch import as_bunch, check_dtype, check_frame_support
from ._fetch import DATA_VARIABLE, cache_folder, local_file, locate
from ._images import PARTS, check_choice, parts_of
from ._registry import ECG5000, MITBIH_HEARTBEAT

_CLASS_NAMES = ("N", "S", "V", "F", "Q")
_VARIANTS = ("derived", "kaggle")
_KAGGLE_PAGE = "https://www.kaggle.com/datasets/shayanfazeli/heartbeat"
# The beats of each class. The files circulate with two kinds of line ends, so no checksum is theirs.
_KAGGLE_COUNTS = {
    "train": (72_471, 2_223, 5_788, 641, 6_431),
    "test": (18_118, 556, 1_448, 162, 1_608),
}


def fetch_heartbeats(
    *,
    subset: str = "all",
    variant: str = "derived",
    data_home: str | os.PathLike | None = None,
    return_X_y: bool = False,
    as_frame: bool = False,
    dtype: DTypeLike = np.float32,
) -> Bunch | tuple:
    """Load the heartbeats of the MIT-BIH Arrhythmia Database (series with classes).

    Single beats of the electrocardiograms of [1]_ in the layout of [2]_: 187 values at 125 Hz, from
    one beat to a little after the next, scaled to between 0 and 1 beat by beat, with zeros after
    the end. The classes are N (normal and bundle branch block), S (supraventricular ectopic), V
    (ventricular ectopic), F (fusion) and Q (paced or unknown).

    The target is the class of each row, not a label for a detector: which classes are normal,
    which rows are labelled and which are hidden among the unlabelled ones is for a scenario to
    say, such as :func:`~anomaly_estimators.model_selection.make_semi_supervised_scenario`.

    =======  =======  ======  =====  =====  ===  =====
    variant     rows       N      S      V    F      Q
    =======  =======  ======  =====  =====  ===  =====
    derived  109,441  90,583  2,780  7,236  803  8,039
    kaggle   109,446  90,589  2,779  7,236  803  8,039
    =======  =======  ======  =====  =====  ===  =====

    Nothing is downloaded. The files are taken from the folder ``mitbih_heartbeat`` of the one that
    the environment variable ``ANOMALY_ESTIMATORS_DATA`` names, then from the cache.

    Parameters
    ----------
    subset : {"all", "train", "test"}, default="all"
        All beats, or one of two parts. With ``variant="kaggle"`` the parts are the published files.
        The reconstruction has no published parts: a fifth of the beats of each class, rounded to
        the nearest, is the test part, the same in every call, in the order of the file (87,552
        beats to train and 21,889 to test). In both variants the two parts share patients. For a
        test on other patients split by ``record``, for instance with
        :class:`sklearn.model_selection.GroupShuffleSplit`.
    variant : {"derived", "kaggle"}, default="derived"
        - "derived": a reconstruction of the set of [2]_ from the records of [1]_,
          ``mitbih_heartbeats_derived.npz``. Its beats are not those of the Kaggle files, and
          figures from it are not figures on that set. The file is not published; it is checked
          against its SHA-256. It stores half precision.
        - "kaggle": the set itself, ``mitbih_train.csv`` and ``mitbih_test.csv`` from
          https://www.kaggle.com/datasets/shayanfazeli/heartbeat, which asks for a login: put the
          two files into the folder by hand. They are checked by their number of beats of each
          class.
    data_home : path-like, default=None
        Cache folder in place of scikit-learn's ``~/scikit_learn_data``.
    return_X_y : bool, default=False
        If True, return ``(data, target)`` in place of a Bunch.
    as_frame : bool, default=False
        If True, data is a pandas DataFrame and target a pandas Series.
    dtype : {numpy.float32, numpy.float64}, default=numpy.float32
        Type of the values. All beats take 82 MB in float32, 164 MB in float64.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        With the attributes

        data : ndarray of shape (n_samples, 187), or DataFrame
            The beats, in C order.
        target : ndarray of shape (n_samples,) and dtype int64, or Series
            The class, 0 to 4.
        frame : DataFrame of shape (n_samples, 188), or None
            Beats and target, if ``as_frame=True``.
        feature_names : list of str
            ``t0`` to ``t186``.
        target_names : ndarray of shape (5,)
            ``"N"``, ``"S"``, ``"V"``, ``"F"`` and ``"Q"``.
        record : ndarray of shape (n_samples,) and dtype int64, or None
            Number of the record in the database, such as 100. Records 201 and 202 are of one
            patient. None in the Kaggle files, as the next two are.
        symbol : ndarray of shape (n_samples,) and dtype str, or None
            The database's own symbol for the kind of beat, such as ``"L"``.
        sample : ndarray of shape (n_samples,) and dtype int64, or None
            Where the beat is in the record, in samples at 360 Hz.
        indices : ndarray of shape (n_samples,) and dtype int64
            The rows of the file; of the two Kaggle files the training rows are counted first.
        DESCR : str
            What the set is, its licence and what to cite.
        filenames : list of str
            Paths of the files that were read.

    (data, target) : tuple
        If ``return_X_y=True``.

    Raises
    ------
    ValueError
        If the subset or the variant is unknown, the dtype is neither float32 nor float64, or a
        Kaggle file has not the published rows.
    OSError
        If a file is missing, or the reconstruction is corrupt. The message says which file to put
        where.
    ImportError
        If pandas (for ``as_frame=True``) is needed and not installed.

    See Also
    --------
    fetch_ecg5000 : A smaller set of heartbeats, with labels of +1 and -1.
    anomaly_estimators.model_selection.make_semi_supervised_scenario : Normal class, labelled
        anomalies and pollution, from classes.

    References
    ----------
    .. [1] G. B. Moody and R. G. Mark, "The Impact of the MIT-BIH Arrhythmia Database", IEEE
           Engineering in Medicine and Biology 20(3), 2001.
    .. [2] M. Kachuee, S. Fazeli and M. Sarrafzadeh, "ECG Heartbeat Classification: A Deep
           Transferable Representation", arXiv:1805.00794, 2018.

    Examples
    --------
    >>> from anomaly_estimators.datasets import fetch_heartbeats
    >>> beats = fetch_heartbeats()  # doctest: +SKIP
    >>> beats.data.shape, beats.target_names.tolist()  # doctest: +SKIP
    ((109441, 187), ['N', 'S', 'V', 'F', 'Q'])
    """
    check_choice("subset", subset, ("all", *PARTS))
    check_choice("variant", variant, _VARIANTS)
    dtype = check_dtype(dtype)
    check_frame_support(as_frame)
    read = _read_kaggle if variant == "kaggle" else _read_derived
    return as_bunch(
        **read(subset, data_home, dtype),
        name=MITBIH_HEARTBEAT.name,
        feature_names=[f"t{step}" for step in range(MITBIH_HEARTBEAT.n_features)],
        target_names=_CLASS_NAMES,
        return_X_y=return_X_y,
        as_frame=as_frame,
    )


def fetch_ecg5000(
    *,
    data_home: str | os.PathLike | None = None,
    return_X_y: bool = False,
    as_frame: bool = False,
    dtype: DTypeLike = np.float32,
) -> Bunch | tuple:
    """Load the heartbeats of ECG5000 (anomaly detection).

    Single beats of one patient with congestive heart failure, from the UCR archive of time series
    [1]_: 140 values each, with mean 0 and standard deviation 1 in each beat. The beats of class 1
    are normal; those of the four other classes together are the anomalies.

    =========  ============
    rows       5,000
    features   140
    anomalies  2,081 (41.6 %)
    =========  ============

    The file is recovered from a public copy of which each column had been scaled: the scaling was
    undone with the help of the 500 rows of the archive's own training file. The values agree with
    the archive's to within rounding, but the order of the rows is that of the copy (2,335 normal
    ones first), so that the archive's two parts cannot be told, and of the classes only normal or
    not is known.

    Nothing is downloaded, and the file is not published. ``ecg5000/ecg5000_all_recovered.npz`` in
    the folder that the environment variable ``ANOMALY_ESTIMATORS_DATA`` names is used first, then
    the cached one. The file is checked against its SHA-256.

    Parameters
    ----------
    data_home : path-like, default=None
        Cache folder in place of scikit-learn's ``~/scikit_learn_data``.
    return_X_y : bool, default=False
        If True, return ``(data, target)`` in place of a Bunch.
    as_frame : bool, default=False
        If True, data is a pandas DataFrame and target a pandas Series.
    dtype : {numpy.float32, numpy.float64}, default=numpy.float32
        Type of the values; the file stores float32.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        With the attributes

        data : ndarray of shape (5000, 140), or DataFrame
            The beats, in C order; rows are in the file's order.
        target : ndarray of shape (5000,) and dtype int64, or Series
            +1 for normal beats, -1 for anomalies.
        frame : DataFrame of shape (5000, 141), or None
            Beats and target, if ``as_frame=True``.
        feature_names : list of str
            ``t0`` to ``t139``.
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
        If the file is missing or corrupt. The message says where to put it.
    ImportError
        If pandas (for ``as_frame=True``) is needed and not installed.

    See Also
    --------
    fetch_heartbeats : More beats, of 47 patients, with their classes.
    one_class_split : Split a set for training on normal rows.

    References
    ----------
    .. [1] H. A. Dau et al., "The UCR Time Series Classification Archive", 2018.
           https://www.cs.ucr.edu/~eamonn/time_series_data_2018

    Examples
    --------
    >>> from anomaly_estimators.datasets import fetch_ecg5000
    >>> X, y = fetch_ecg5000(return_X_y=True)  # doctest: +SKIP
    >>> X.shape, int((y == -1).sum())  # doctest: +SKIP
    ((5000, 140), 2081)
    """
    dtype = check_dtype(dtype)
    check_frame_support(as_frame)
    path = locate(ECG5000, data_home=data_home)
    with np.load(path, allow_pickle=False) as content:
        data, is_anomaly = content["X"], content["y"]
    return as_bunch(
        np.ascontiguousarray(data, dtype=dtype),
        np.where(is_anomaly == 1, -1, 1).astype(np.int64, copy=False),
        name=ECG5000.name,
        feature_names=[f"t{step}" for step in range(data.shape[1])],
        return_X_y=return_X_y,
        as_frame=as_frame,
        filename=str(path),
    )


def stratified_test_rows(classes: NDArray) -> NDArray[np.bool_]:
    """Which rows make up the test part: a fifth of each class, always the same ones.

    Parameters
    ----------
    classes : ndarray of shape (n_samples,)

    Returns
    -------
    ndarray of shape (n_samples,) and dtype bool
    """
    # The older generator, since NumPy promises that its numbers never change.
    rng = np.random.RandomState(0)
    is_test = np.zeros(len(classes), dtype=bool)
    for value in np.unique(classes):
        rows = rng.permutation(np.flatnonzero(classes == value))
        is_test[rows[: round(len(rows) / 5)]] = True
    return is_test


def _read_derived(subset: str, data_home: str | os.PathLike | None, dtype: np.dtype) -> dict:
    """The reconstruction: arrays of the rows of a subset, by the names that the bunch gives them."""
    try:
        path = locate(MITBIH_HEARTBEAT, data_home=data_home)
    except OSError as error:
        raise OSError(
            f"{error} Or take the set itself from {_KAGGLE_PAGE}, and ask for it with "
            'variant="kaggle"'
        ) from None
    with np.load(path, allow_pickle=False) as content:
        target = content["y"].astype(np.int64)
        rows = np.arange(len(target))
        if subset != "all":
            rows = np.flatnonzero(stratified_test_rows(target) == (subset == "test"))
        return {
            "data": content["X"][rows].astype(dtype),
            "target": target[rows],
            "record": content["record"][rows].astype(np.int64),
            "symbol": content["symbol"][rows],
            "sample": content["sample"][rows].astype(np.int64),
            "indices": rows,
            "filenames": [str(path)],
        }


def _read_kaggle(subset: str, data_home: str | os.PathLike | None, dtype: np.dtype) -> dict:
    """The Kaggle files: as `_read_derived`, but for what they do not tell."""
    parts = parts_of(subset)
    paths = [_find_kaggle(part, data_home) for part in parts]
    tables = [
        _read_csv(path, _KAGGLE_COUNTS[part], dtype)
        for part, path in zip(parts, paths, strict=True)
    ]
    first_row = sum(_KAGGLE_COUNTS["train"]) if subset == "test" else 0
    data = np.concatenate([table[:, :-1] for table in tables])
    return {
        "data": data,
        "target": np.concatenate([table[:, -1] for table in tables]).astype(np.int64),
        "record": None,
        "symbol": None,
        "sample": None,
        "indices": first_row + np.arange(len(data)),
        "filenames": [str(path) for path in paths],
    }


def _find_kaggle(part: str, data_home: str | os.PathLike | None) -> Path:
    """Path of a file that the user has put into the own folder or the cache."""
    file = replace(MITBIH_HEARTBEAT, filename=f"mitbih_{part}.csv")
    local = local_file(file)
    if local is not None and local.is_file():
        return local
    cached = cache_folder(data_home, file.name) / file.filename
    if cached.is_file():
        return cached
    missing = f"{cached}" if local is None else f"{local} and no {cached}"
    raise OSError(
        f"there is no {missing}. Download {file.filename} from {_KAGGLE_PAGE} (it asks for a login) "
        f"to {cached}, or let the environment variable {DATA_VARIABLE} name a folder that holds "
        f"{file.path}"
    )


def _read_csv(path: Path, counts: tuple[int, ...], dtype: np.dtype) -> NDArray:
    """Beats with the class in the last column, of which there are so many of each class."""
    cure = f"Download it again from {_KAGGLE_PAGE}"
    n_columns = MITBIH_HEARTBEAT.n_features + 1
    try:
        table = np.loadtxt(path, delimiter=",", dtype=dtype, ndmin=2)
    except ValueError as error:
        raise ValueError(f"{path} is not a table of numbers ({error}). {cure}") from error
    if table.shape[1] != n_columns:
        raise ValueError(
            f"{path} has {table.shape[1]} columns, not the {n_columns} of the published file: 187 "
            f"values and the class. {cure}"
        )
    found = tuple(int(np.count_nonzero(table[:, -1] == value)) for value in range(len(counts)))
    if found != counts or len(table) != sum(counts):
        raise ValueError(
            f"{path} is not the published file: it has {len(table)} beats, {found} of the classes 0 "
            f"to 4, not {counts}. {cure}"
        )
    return table
