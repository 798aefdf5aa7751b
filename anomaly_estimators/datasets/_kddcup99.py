"""KDD Cup 1999 (10 %), in the two variants of the deep anomaly detection literature."""

import gzip
import os
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray
from sklearn.utils import Bunch, check_random_state

from ._bunch import as_bunch, check_dtype, check_frame_support
from ._fetch import cache_folder, locate
from ._registry import KDDCUP99

# The 41 columns, in the file's order (which has no header row); the label follows them.
_COLUMNS = (
    "duration protocol_type service flag src_bytes dst_bytes land wrong_fragment urgent hot "
    "num_failed_logins logged_in num_compromised root_shell su_attempted num_root "
    "num_file_creations num_shells num_access_files num_outbound_cmds is_host_login "
    "is_guest_login count srv_count serror_rate srv_serror_rate rerror_rate srv_rerror_rate "
    "same_srv_rate diff_srv_rate srv_diff_host_rate dst_host_count dst_host_srv_count "
    "dst_host_same_srv_rate dst_host_diff_srv_rate dst_host_same_src_port_rate "
    "dst_host_srv_diff_host_rate dst_host_serror_rate dst_host_srv_serror_rate "
    "dst_host_rerror_rate dst_host_srv_rerror_rate"
).split()
_LABEL = "attack_type"
_SYMBOLIC = (
    "protocol_type",
    "service",
    "flag",
    "land",
    "logged_in",
    "is_host_login",
    "is_guest_login",
)
_CONTINUOUS = tuple(column for column in _COLUMNS if column not in _SYMBOLIC)
_CODED = (*_SYMBOLIC, _LABEL)

_NORMAL = "normal."
_NORMAL_PER_ATTACK = 4  # of the reversed variant
_VARIANTS = ("standard", "reversed")
_CACHE_FORMAT = 1  # raise it whenever what `_write_cache` stores changes


class _Table(NamedTuple):
    """The file's content, with strings as codes: a third of the size of the one-hot array."""

    continuous: NDArray[np.float64]  # (n_samples, 34)
    codes: NDArray[np.uint8]  # (n_samples, 8): the symbolic columns, then the label
    categories: tuple[NDArray[np.str_], ...]  # the sorted strings behind each column of codes


def fetch_kddcup99(
    *,
    variant: str = "standard",
    data_home: str | os.PathLike | None = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    random_state: int | np.random.RandomState | None = None,
    dtype: DTypeLike = np.float32,
) -> Bunch | tuple:
    """Load KDD Cup 1999 (10 %) as an anomaly detection set.

    Network connections with 34 continuous and 7 symbolic columns. Each symbolic column becomes
    one indicator column a value, in its place and in the order of the sorted values, save
    ``is_host_login``, which has a single value: 120 features in all. Nothing is scaled.

    A file in the folder that the environment variable ``ANOMALY_ESTIMATORS_DATA`` names is used
    first, then the cached one; else it is downloaded. The file is checked against its SHA-256, and
    the parsed table is cached (about 140 MB), so that only the first call is slow.

    Parameters
    ----------
    variant : {"standard", "reversed"}, default="standard"
        - "standard": all 494,021 rows. Connections labelled ``normal.`` are the minority (19.7 %)
          and therefore the anomalies; attacks are the normal class. KDDCUP of [1]_.
        - "reversed": all 97,278 ``normal.`` connections as the normal class, and one attack to four
          of them, drawn without replacement, as the anomalies: 121,597 rows. KDDCUP-Rev of [1]_.
    data_home : path-like, default=None
        Cache folder in place of scikit-learn's ``~/scikit_learn_data``.
    download_if_missing : bool, default=True
        If False, raise an OSError where there is no local copy, in place of a download.
    return_X_y : bool, default=False
        If True, return ``(data, target)`` in place of a Bunch.
    as_frame : bool, default=False
        If True, data is a pandas DataFrame and target a pandas Series.
    random_state : int, RandomState instance or None, default=None
        Draws the attacks of the reversed variant; the standard variant does not use it. [1]_ draws
        anew for every run, so give every run a seed of its own.
    dtype : {numpy.float32, numpy.float64}, default=numpy.float32
        Type of the features. float32 halves the memory (237 MB) and rounds byte counts above
        16,777,216.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        With the attributes

        data : ndarray of shape (n_samples, 120), or DataFrame
            The features; rows are in the file's order.
        target : ndarray of shape (n_samples,) and dtype int64, or Series
            +1 for normal rows, -1 for anomalies, in the sense of the variant.
        frame : DataFrame of shape (n_samples, 121), or None
            Features and target, if ``as_frame=True``.
        feature_names : list of str
            Such as ``duration`` and ``service=http``.
        target_names : ndarray of shape (2,)
            ``"anomaly"`` and ``"normal"``: the meaning of the sorted target values.
        attack_type : ndarray of shape (n_samples,) and dtype object
            The file's own labels, such as ``"normal."`` and ``"smurf."``.
        indices : ndarray of shape (n_samples,) and dtype int64
            The rows of the file that were taken.
        DESCR : str
            What the set is, its licence and what to cite.
        filename : str
            Path of the file that was read.

    (data, target) : tuple
        If ``return_X_y=True``.

    Raises
    ------
    ValueError
        If the variant is unknown, or the dtype is neither float32 nor float64.
    OSError
        If the file is missing and cannot be downloaded, or the user's own file is corrupt. The
        message says which file to download from where to where.
    ImportError
        If pooch (to download) or pandas (for ``as_frame=True``) is needed and not installed.

    See Also
    --------
    one_class_split : The train and test sets of [1]_.
    data_files : Addresses, checksums and sizes of all sets.

    References
    ----------
    .. [1] B. Zong, Q. Song, M. R. Min, W. Cheng, C. Lumezanu, D. Cho and H. Chen, "Deep
           Autoencoding Gaussian Mixture Model for Unsupervised Anomaly Detection", ICLR 2018.
    .. [2] S. Stolfo, W. Fan, W. Lee, A. Prodromidis and P. Chan, "KDD Cup 1999 Data", UCI Machine
           Learning Repository, 1999. https://doi.org/10.24432/C51C7N

    Examples
    --------
    >>> from anomaly_estimators.datasets import fetch_kddcup99
    >>> X, y = fetch_kddcup99(return_X_y=True)  # doctest: +SKIP
    >>> X.shape, int((y == -1).sum())  # doctest: +SKIP
    ((494021, 120), 97278)
    >>> kdd = fetch_kddcup99(variant="reversed", random_state=0)  # doctest: +SKIP
    >>> kdd.data.shape, int((kdd.target == -1).sum())  # doctest: +SKIP
    ((121597, 120), 24319)
    """
    if variant not in _VARIANTS:
        raise ValueError(
            f"variant must be one of {', '.join(map(repr, _VARIANTS))}, got {variant!r}"
        )
    dtype = check_dtype(dtype)
    check_frame_support(as_frame)
    random_state = check_random_state(random_state)
    path = locate(KDDCUP99, data_home=data_home, download_if_missing=download_if_missing)
    table = _cached_table(path, data_home)

    label_codes, labels = table.codes[:, -1], table.categories[-1]
    is_normal = label_codes == np.searchsorted(labels, _NORMAL)
    if variant == "standard":
        rows = np.arange(len(is_normal))
        target = np.where(is_normal, -1, 1)
    else:
        rows = _reversed_rows(is_normal, random_state)
        target = np.where(is_normal[rows], 1, -1)
    return as_bunch(
        _one_hot(table, rows, dtype),
        target.astype(np.int64, copy=False),
        name=KDDCUP99.name,
        feature_names=_feature_names(table.categories),
        return_X_y=return_X_y,
        as_frame=as_frame,
        # An object array shares the 23 strings among all rows.
        attack_type=labels.astype(object)[label_codes[rows]],
        indices=rows,
        filename=str(path),
    )


def _reversed_rows(is_normal: NDArray[np.bool_], random_state: np.random.RandomState) -> NDArray:
    """All normal rows and a quarter as many attacks, in the file's order."""
    attacks = np.flatnonzero(~is_normal)
    # Rounded down: 97,278 // 4 = 24,319 attacks make the 121,597 rows that the paper counts.
    n_attacks = np.count_nonzero(is_normal) // _NORMAL_PER_ATTACK
    drawn = random_state.choice(attacks, size=n_attacks, replace=False)
    return np.sort(np.concatenate([np.flatnonzero(is_normal), drawn]))


def _kept_categories(categories: NDArray[np.str_]) -> NDArray[np.str_]:
    """The values that get an indicator column: none where a column has only one value."""
    return categories if len(categories) > 1 else categories[:0]


def _feature_names(categories: tuple[NDArray[np.str_], ...]) -> list[str]:
    """The columns of the one-hot array, symbolic columns expanded in place."""
    values = dict(zip(_CODED, categories, strict=True))
    names = []
    for column in _COLUMNS:
        if column in values:
            names += [f"{column}={value}" for value in _kept_categories(values[column])]
        else:
            names.append(column)
    return names


def _one_hot(table: _Table, rows: NDArray, dtype: np.dtype) -> NDArray:
    """Some rows of the table as one numeric array, columns as in `_feature_names`."""
    column_of = {name: index for index, name in enumerate(_feature_names(table.categories))}
    data = np.zeros((len(rows), len(column_of)), dtype=dtype)
    for index, column in enumerate(_CONTINUOUS):
        data[:, column_of[column]] = table.continuous[rows, index]
    everywhere = np.arange(len(rows))
    for index, column in enumerate(_SYMBOLIC):
        kept = _kept_categories(table.categories[index])
        if len(kept):
            first = column_of[f"{column}={kept[0]}"]
            data[everywhere, first + table.codes[rows, index].astype(np.intp)] = 1
    return data


def _cached_table(path: Path, data_home: str | os.PathLike | None) -> _Table:
    """The parsed file, from the cache where it belongs to exactly this file."""
    try:
        cached = cache_folder(data_home, KDDCUP99.name) / "kddcup99_10_percent.npz"
    except OSError as error:
        _warn_no_cache(error)
        return _parse(path)
    table = _read_cache(cached)
    if table is None:
        table = _parse(path)
        try:
            _write_cache(cached, table)
        except OSError as error:
            _warn_no_cache(error)
    return table


def _warn_no_cache(error: OSError) -> None:
    warnings.warn(
        f"the parsed table cannot be cached, so every call parses the file again ({error}); let "
        "data_home name a folder that can be written to",
        stacklevel=4,
    )


def _read_cache(cached: Path) -> _Table | None:
    """The cached table, or None where there is none, a stale one or a damaged one."""
    try:
        # Opened here, since np.load leaves a damaged file open.
        with open(cached, "rb") as stream, np.load(stream, allow_pickle=False) as content:
            if content["source"] != KDDCUP99.sha256 or content["format"] != _CACHE_FORMAT:
                return None
            return _Table(
                content["continuous"],
                content["codes"],
                tuple(content[f"categories_{column}"] for column in _CODED),
            )
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        return None


def _write_cache(cached: Path, table: _Table) -> None:
    """Store the table; another process sees either nothing or the whole of it."""
    cached.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cached.parent) as folder:
        unfinished = Path(folder) / cached.name
        # Not compressed: reading it back then costs less than a second.
        np.savez(
            unfinished,
            source=KDDCUP99.sha256,
            format=_CACHE_FORMAT,
            continuous=table.continuous,
            codes=table.codes,
            **{
                f"categories_{column}": categories
                for column, categories in zip(_CODED, table.categories, strict=True)
            },
        )
        os.replace(unfinished, cached)


def _parse(path: Path) -> _Table:
    """Read the published file."""
    # No string of the file is longer than 16 characters.
    kinds = [(column, "S24" if column in _CODED else "f8") for column in (*_COLUMNS, _LABEL)]
    with gzip.open(path, "rt", encoding="ascii") as stream:
        records = np.loadtxt(stream, delimiter=",", dtype=kinds, comments=None)
    continuous = np.stack([records[column] for column in _CONTINUOUS], axis=1)
    codes = np.empty((len(records), len(_CODED)), dtype=np.uint8)
    categories = []
    for index, column in enumerate(_CODED):
        values, codes[:, index] = np.unique(records[column], return_inverse=True)
        categories.append(values.astype(str))
    return _Table(continuous, codes, tuple(categories))
