"""KDD Cup 1999, in the two variants of the deep anomaly detection literature."""

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
from ._images import PARTS, check_choice
from ._registry import KDDCUP99, KDDCUP99_TEST, DataFile

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
# Of the reversed variant's test part: see the notes of `fetch_kddcup99`.
_TEST_ROWS_PER_ATTACK = 486
_TEST_LEFT_OUT = "httptunnel."
_VARIANTS = ("standard", "reversed")
_CACHED = {KDDCUP99: "kddcup99_10_percent.npz", KDDCUP99_TEST: "kddcup99_corrected.npz"}
_CACHE_FORMAT = 1  # raise it whenever what `_write_cache` stores changes


class _Table(NamedTuple):
    """The file's content, with strings as codes: a third of the size of the one-hot array."""

    continuous: NDArray[np.float64]  # (n_samples, 34)
    codes: NDArray[np.uint8]  # (n_samples, 8): the symbolic columns, then the label
    categories: tuple[NDArray[np.str_], ...]  # the sorted strings behind each column of codes


def fetch_kddcup99(
    *,
    variant: str = "standard",
    subset: str = "train",
    data_home: str | os.PathLike | None = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    random_state: int | np.random.RandomState | None = None,
    dtype: DTypeLike = np.float32,
) -> Bunch | tuple:
    """Load KDD Cup 1999 (10 %), or its labelled test part, as an anomaly detection set.

    Network connections with 34 continuous and 7 symbolic columns. Each symbolic column becomes
    one indicator column a value, in its place and in the order of the sorted values, save
    ``is_host_login``, which has a single value: 120 features in all. Nothing is scaled. The test
    part has the same columns; a value that the training part lacks sets no indicator.

    A file in the folder that the environment variable ``ANOMALY_ESTIMATORS_DATA`` names is used
    first, then the cached one; else it is downloaded. The file is checked against its SHA-256, and
    the parsed table is cached (about 140 MB, the test part 90 MB), so that only the first call is
    slow.

    Parameters
    ----------
    variant : {"standard", "reversed"}, default="standard"
        - "standard": all 494,021 rows. Connections labelled ``normal.`` are the minority (19.7 %)
          and therefore the anomalies; attacks are the normal class. KDDCUP of [1]_.
        - "reversed": all 97,278 ``normal.`` connections as the normal class, and one attack to four
          of them, drawn without replacement, as the anomalies: 121,597 rows. KDDCUP-Rev of [1]_.

        The counts are those of the training part.
    subset : {"train", "test"}, default="train"
        - "train": the 10 % file, which most work uses alone.
        - "test": the publisher's test file with corrected labels. It has 37 types of attacks, of
          which 17 are not in the 10 % file. "standard" gives all 311,029 rows, 60,593 of them
          ``normal.`` and therefore anomalies; "reversed" gives 67,908 rows, 7,315 of them attacks,
          as many as in figure 4 of [3]_ (see the notes). Both files are needed, since the columns
          are those of the training part.
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
        anew for every run, so give every run a seed of its own. The two parts draw independently
        of each other.
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
            The file's own labels, such as ``"normal."`` and ``"smurf."``. They tell the types of
            attacks that a training set has from those that are new:
            ``np.isin(test.attack_type, train.attack_type)``.
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
        If the variant or the subset is unknown, or the dtype is neither float32 nor float64.
    OSError
        If the file is missing and cannot be downloaded, or the user's own file is corrupt. The
        message says which file to download from where to where.
    ImportError
        If pooch (to download) or pandas (for ``as_frame=True``) is needed and not installed.

    See Also
    --------
    one_class_split : The train and test sets of [1]_.
    data_files : Addresses, checksums and sizes of all sets.

    Notes
    -----
    [3]_ tests a detector that was trained on the reversed variant on 67,908 rows: all normal rows of
    the test file and 7,315 attacks of 36 types, of which 20 types with 3,498 rows are not in its
    training set, and 16 types with 3,817 rows are. It does not say how the attacks were chosen. A
    uniform draw would hold about 550 rows of the 17 types that the 10 % file lacks, far fewer.

    The rule of the reversed test part is our reading of these figures: at most 486 rows of each
    type of attack, drawn without replacement, and ``httptunnel.`` left out. It gives 7,315 attacks
    of 36 types, exactly. 3,831 of them are of types in the 10 % file and 3,484 are not; a training
    draw that happens to lack ``land.``, ``imap.`` and two of ``loadmodule.``, ``perl.`` and
    ``phf.`` turns this into the paper's 16 and 20 types and 3,817 and 3,498 rows. So which types
    are new depends on the draw of the training set.

    References
    ----------
    .. [1] B. Zong, Q. Song, M. R. Min, W. Cheng, C. Lumezanu, D. Cho and H. Chen, "Deep
           Autoencoding Gaussian Mixture Model for Unsupervised Anomaly Detection", ICLR 2018.
    .. [2] S. Stolfo, W. Fan, W. Lee, A. Prodromidis and P. Chan, "KDD Cup 1999 Data", UCI Machine
           Learning Repository, 1999. https://doi.org/10.24432/C51C7N
    .. [3] Pimentel et al., "UaiNets: From Unsupervised to Active Deep Anomaly Detection", 2018,
           section 4.3.

    Examples
    --------
    >>> from anomaly_estimators.datasets import fetch_kddcup99
    >>> X, y = fetch_kddcup99(return_X_y=True)  # doctest: +SKIP
    >>> X.shape, int((y == -1).sum())  # doctest: +SKIP
    ((494021, 120), 97278)
    >>> kdd = fetch_kddcup99(variant="reversed", random_state=0)  # doctest: +SKIP
    >>> kdd.data.shape, int((kdd.target == -1).sum())  # doctest: +SKIP
    ((121597, 120), 24319)
    >>> test = fetch_kddcup99(variant="reversed", subset="test", random_state=0)  # doctest: +SKIP
    >>> test.data.shape, int((test.target == -1).sum())  # doctest: +SKIP
    ((67908, 120), 7315)
    """
    check_choice("variant", variant, _VARIANTS)
    check_choice("subset", subset, PARTS)
    dtype = check_dtype(dtype)
    check_frame_support(as_frame)
    random_state = check_random_state(random_state)
    path = locate(KDDCUP99, data_home=data_home, download_if_missing=download_if_missing)
    table = _cached_table(path, data_home, KDDCUP99)
    if subset == "test":
        path = locate(KDDCUP99_TEST, data_home=data_home, download_if_missing=download_if_missing)
        table = _recode(_cached_table(path, data_home, KDDCUP99_TEST), table.categories)

    label_codes, labels = table.codes[:, -1], table.categories[-1]
    is_normal = label_codes == np.searchsorted(labels, _NORMAL)
    if variant == "standard":
        rows = np.arange(len(is_normal))
        target = np.where(is_normal, -1, 1)
    else:
        if subset == "train":
            rows = _reversed_rows(is_normal, random_state)
        else:
            rows = _reversed_test_rows(label_codes, labels, random_state)
        target = np.where(is_normal[rows], 1, -1)
    return as_bunch(
        _one_hot(table, rows, dtype),
        target.astype(np.int64, copy=False),
        name=KDDCUP99.name,
        feature_names=_feature_names(table.categories),
        return_X_y=return_X_y,
        as_frame=as_frame,
        # An object array shares the few strings among all rows.
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


def _reversed_test_rows(
    label_codes: NDArray[np.uint8],
    labels: NDArray[np.str_],
    random_state: np.random.RandomState,
) -> NDArray:
    """All normal rows and a limited number of each type of attack, in the file's order."""
    taken = []
    for code, label in enumerate(labels):
        rows = np.flatnonzero(label_codes == code)
        if label == _TEST_LEFT_OUT:
            continue
        if label != _NORMAL:
            n_rows = min(len(rows), _TEST_ROWS_PER_ATTACK)
            rows = random_state.choice(rows, size=n_rows, replace=False)
        taken.append(rows)
    return np.sort(np.concatenate(taken))


def _recode(table: _Table, categories: tuple[NDArray[np.str_], ...]) -> _Table:
    """The table with another table's codes of the symbolic columns; it keeps its own labels.

    A value that the other table lacks gets the number of its values as the code.
    """
    codes = table.codes.copy()
    for index in range(len(_SYMBOLIC)):
        own, other = table.categories[index], categories[index]
        new_codes = np.where(np.isin(own, other), np.searchsorted(other, own), len(other))
        codes[:, index] = new_codes[table.codes[:, index]]
    return _Table(table.continuous, codes, (*categories[:-1], table.categories[-1]))


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
            codes = table.codes[rows, index].astype(np.intp)
            known = codes < len(kept)
            data[everywhere[known], first + codes[known]] = 1
    return data


def _cached_table(path: Path, data_home: str | os.PathLike | None, file: DataFile) -> _Table:
    """The parsed file, from the cache where it belongs to exactly this file."""
    try:
        cached = cache_folder(data_home, file.name) / _CACHED[file]
    except OSError as error:
        _warn_no_cache(error)
        return _parse(path)
    table = _read_cache(cached, file)
    if table is None:
        table = _parse(path)
        try:
            _write_cache(cached, table, file)
        except OSError as error:
            _warn_no_cache(error)
    return table


def _warn_no_cache(error: OSError) -> None:
    warnings.warn(
        f"the parsed table cannot be cached, so every call parses the file again ({error}); let "
        "data_home name a folder that can be written to",
        stacklevel=4,
    )


def _read_cache(cached: Path, file: DataFile) -> _Table | None:
    """The cached table, or None where there is none, a stale one or a damaged one."""
    try:
        # Opened here, since np.load leaves a damaged file open.
        with open(cached, "rb") as stream, np.load(stream, allow_pickle=False) as content:
            if content["source"] != file.sha256 or content["format"] != _CACHE_FORMAT:
                return None
            return _Table(
                content["continuous"],
                content["codes"],
                tuple(content[f"categories_{column}"] for column in _CODED),
            )
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        return None


def _write_cache(cached: Path, table: _Table, file: DataFile) -> None:
    """Store the table; another process sees either nothing or the whole of it."""
    cached.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cached.parent) as folder:
        unfinished = Path(folder) / cached.name
        # Not compressed: reading it back then costs less than a second.
        np.savez(
            unfinished,
            source=file.sha256,
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
