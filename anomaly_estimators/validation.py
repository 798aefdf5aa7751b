"""What a detector takes for rows, and what it says of everything else."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from scipy import sparse
from sklearn.utils import _safe_indexing, assert_all_finite
from sklearn.utils.validation import validate_data

from anomaly_estimators.row_blocks import release_pages

__all__ = ["explained", "validate_rows"]

# How the types of columns with points or lengths of time begin, in pandas, polars and Arrow.
_TEMPORAL = ("date", "time", "duration", "period", "interval")

# Values of a memory map that are checked at a time.
_CHECKED_VALUES = 2**22


def validate_rows(estimator, X, *, reset: bool) -> np.ndarray:
    """Return rows as an array that a detector can compute with.

    Parameters
    ----------
    estimator : OutlierDetector
        Its ``n_features_in_`` and ``feature_names_in_`` are set, or compared with.
    X : array-like of shape (n_samples, n_features)
    reset : bool
        Whether these are the rows of a fit.

    Returns
    -------
    ndarray of shape (n_samples, n_features)
        Finite, in C order, float32 if X is, else float64. A memory map of numbers is returned as it
        is, checked piece by piece.

    Raises
    ------
    ValueError, TypeError
        If X is not a table of finite numbers: the message names the cure.
    """
    X = _detached(X)
    mapped = isinstance(X, np.memmap)
    with explained(X):
        rows = validate_data(
            estimator,
            X,
            reset=reset,
            # A memory map is neither cast nor read as a whole.
            dtype=None if mapped else [np.float64, np.float32],
            # One layout: sums run in another order over another, and differ in the last bit.
            order=None if mapped else "C",
            ensure_all_finite=not mapped,
            ensure_min_samples=2 if reset else 1,
        )
    if not mapped:
        return rows
    _check_finite(estimator, X)
    return X


@contextmanager
def explained(X) -> Iterator[None]:
    """Say which part of X cannot be read, and the cure, when the block fails to read it.

    What would be read as something else is refused before: dates, which would be nanoseconds, and
    masked values, whose masks would be lost.

    Parameters
    ----------
    X : array-like

    Raises
    ------
    ValueError, TypeError
    """
    _refuse(X)
    try:
        yield
    except (TypeError, ValueError, OverflowError) as error:
        cure = _cure(X)
        if cure is None:
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{cure} ({error})") from error


def _detached(X):
    """Tensors as arrays, wherever they lie and whatever they are a part of."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(X, torch.Tensor) or X.layout != torch.strided:
        return X
    X = X.detach().cpu()
    # A type that NumPy does not know.
    return (X.float() if X.dtype == torch.bfloat16 else X).numpy()


def _refuse(X) -> None:
    kind = type(X).__name__
    if X is None:
        raise ValueError(
            "X is None: pass a table of numbers, of shape (n_samples, n_features). (Expected 2D array.)"
        )
    if kind == "LazyFrame":
        raise TypeError("X is a LazyFrame, which holds no rows yet: pass X.collect().")
    if _is_torch_data(X):
        raise TypeError(
            f"X is a {kind}, a data set of torch: pass its rows as one array or tensor, such as "
            "torch.stack([rows for rows, *_ in X]), flattened to shape (n_samples, n_features)."
        )
    # Some sparse matrices are dicts.
    if isinstance(X, dict | set | Iterator) and not sparse.issparse(X):
        raise TypeError(
            f"X is a {kind}: pass a table of numbers, of shape (n_samples, n_features), such as "
            "np.array(list(X)) or pd.DataFrame(X). (float() argument must be a string or a real number.)"
        )
    if isinstance(X, np.ma.MaskedArray) and np.ma.is_masked(X):
        raise ValueError(
            "X has masked values, which detectors do not take: fill them, as by X.filled(0.0), or impute "
            "them by X.filled(np.nan) and SimpleImputer in a Pipeline."
        )
    if isinstance(X, np.memmap) and X.dtype.kind not in "biuf":
        raise ValueError(
            f"X is a memory map of {X.dtype}, but must hold real numbers: write it as float32 or "
            "float64."
        )
    _refuse_columns(X)


def _refuse_columns(X) -> None:
    if isinstance(X, np.ndarray):
        if X.dtype.kind in "mM":
            raise TypeError(
                f"X holds dates or durations ({X.dtype}), which are no numbers: turn them into some "
                "that mean something to you, such as the hour of the day or the days since a start."
            )
        return
    columns = _column_types(X)
    if columns is None:
        return
    names, types = columns
    if len(set(map(str, names))) < len(names):
        twice = next(name for name in names if list(map(str, names)).count(str(name)) > 1)
        raise ValueError(f"X has two columns named {twice!r}: rename one, or pass X.to_numpy().")
    temporal = {kind for kind in set(types) if str(kind).lower().startswith(_TEMPORAL)}
    if temporal:
        name = next(n for n, kind in zip(names, types, strict=True) if kind in temporal)
        raise TypeError(
            f"Column {name!r} holds dates or durations, which are no numbers: turn it into some that "
            f"mean something to you, such as the hour of the day or the days since a start, or leave "
            "it out."
        )


def _column_types(X) -> tuple[list, list] | None:
    """Names and types of the columns of a data frame of any library; ``None`` if X is none."""
    if hasattr(X, "column_names") and hasattr(X, "schema"):
        return list(X.column_names), list(X.schema.types)
    if hasattr(X, "columns") and hasattr(X, "dtypes"):
        return list(X.columns), list(X.dtypes)
    return None


def _is_torch_data(X) -> bool:
    data = sys.modules.get("torch.utils.data")
    return data is not None and isinstance(X, data.Dataset | data.DataLoader)


def _cure(X) -> str | None:
    """Tell what keeps X from being read as numbers, if that can be found."""
    n_dimensions = getattr(X, "ndim", None)
    if n_dimensions is None and isinstance(X, list | tuple):
        try:
            n_dimensions = np.ndim(X)
        except ValueError:
            return (
                "The rows of X have different lengths: all must have the same number of features."
            )
    if n_dimensions is not None and n_dimensions > 2:
        shape = np.shape(X)
        return (
            f"X has the shape {shape}, but rows are flat: pass X.reshape(len(X), -1). Detectors of images "
            "and series fold them back where they have a parameter input_shape=(channels, height, width) "
            f"or (channels, length), here {_folded(shape)}; axes in another order are to be moved first."
        )
    kind = getattr(getattr(X, "dtype", None), "kind", None)
    if kind == "c":
        return "X holds complex numbers: pass X.real, X.imag or np.abs(X), or some of them side by side."
    if kind == "V":
        return (
            "X is a structured array: pass numpy.lib.recfunctions.structured_to_unstructured(X), or a "
            "data frame."
        )
    if sparse.issparse(X) or "sparse" in str(getattr(X, "layout", "")).lower() or _holds_sparse(X):
        return (
            "X is sparse, but detectors take dense rows: OneHotEncoder(sparse_output=False) makes such, "
            "and so do X.toarray(), X.sparse.to_dense() of a data frame and X.to_dense() of a tensor."
        )
    for name, values in _columns(X):
        found = _unreadable(values)
        if found is not None:
            what = f"Column {name!r} holds {found[0]!r:.40}, which is no number"
            if not isinstance(found[0], str | bytes):
                return f"{what}: turn the column into numbers, or leave it out."
            return (
                f"{what}: encode such columns before the detector, as by make_column_transformer("
                f'(OneHotEncoder(sparse_output=False, handle_unknown="ignore"), [{name!r}]), '
                'remainder="passthrough") in a Pipeline, or leave them out.'
            )
    return None


def _folded(shape: tuple) -> tuple:
    if len(shape) == 3:
        return (1, *map(int, shape[1:]))
    return tuple(map(int, shape[1:]))


def _holds_sparse(X) -> bool:
    columns = _column_types(X)
    return columns is not None and any("sparse" in str(kind).lower() for kind in set(columns[1]))


def _columns(X) -> Iterator[tuple[object, np.ndarray]]:
    columns = _column_types(X)
    if columns is not None:
        for number, name in enumerate(columns[0]):
            yield name, np.asarray(_safe_indexing(X, number, axis=1))
        return
    try:
        array = np.asarray(X)
    except (TypeError, ValueError, RuntimeError):
        return
    if array.ndim == 2 and array.dtype.kind in "OSU":
        yield from enumerate(array.T)


def _unreadable(values: np.ndarray) -> tuple | None:
    """The first value that is no number, in a tuple; ``None`` if all are."""
    if values.dtype.kind in "biuf":
        return None
    for value in values.ravel().tolist():
        # Not a number is one, as far as it goes: what is missing has a message of its own.
        if value is None or type(value).__name__ == "NAType":
            continue
        try:
            float(value)
        except (TypeError, ValueError, OverflowError):
            return (value,)
    return None


def _check_finite(estimator, X: np.memmap) -> None:
    step = max(1, _CHECKED_VALUES // X.shape[1])
    for start in range(0, X.shape[0], step):
        assert_all_finite(
            X[start : start + step], estimator_name=type(estimator).__name__, input_name="X"
        )
        release_pages(X)
