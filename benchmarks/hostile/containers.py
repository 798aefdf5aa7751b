"""What a table may come as: types of its cells, and containers of the whole."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse
import torch

try:
    import polars
except ImportError:
    polars = None
try:
    import pyarrow
except ImportError:
    pyarrow = None

__all__ = [
    "CONTAINERS",
    "DTYPES",
    "FRAME_DTYPES",
    "MISSHAPEN",
    "REFUSED",
    "cast",
    "contain",
    "misshape",
]

_NUMBERS = [
    "float16",
    "float32",
    "float64",
    "longdouble",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint64",
    "bool",
]
_OTHERS = ["object", "object with strings", "strings of numbers", "complex", "datetime"]
# Types that only the columns of a frame have.
FRAME_DTYPES = [
    "Float64",
    "Float32",
    "Int64",
    "boolean",
    "Float64 with NA",
    "Int64 with NA",
    "object with None",
    "category",
    "category of strings",
    "column of dates",
    "pandas sparse",
]
DTYPES = [*_NUMBERS, *_OTHERS, *FRAME_DTYPES]


def cast(X: np.ndarray, dtype: str):
    """Cells of another type; a frame for the types that only a frame has."""
    if dtype in FRAME_DTYPES:
        return _frame_of(X, dtype)
    if dtype == "bool":
        return X > np.median(X)
    if dtype == "object":
        return X.astype(object)
    if dtype == "object with strings":
        cells = X.astype(object)
        cells[:, 0] = [f"kind {i % 3}" for i in range(len(X))]
        return cells
    if dtype == "strings of numbers":
        return X.astype(str)
    if dtype == "complex":
        return X + 1j
    if dtype == "datetime":
        return _integers(X, "int32").astype("datetime64[s]")
    if np.issubdtype(dtype, np.integer):
        return _integers(X, dtype)
    with np.errstate(over="ignore", under="ignore"):
        return X.astype(dtype)


def _integers(X: np.ndarray, dtype: str) -> np.ndarray:
    info = np.iinfo(dtype)
    # Float64 holds no bound of 64 bits exactly.
    low, high = max(info.min, -(2**62)), min(info.max, 2**62)
    with np.errstate(over="ignore"):
        cells = np.nan_to_num(np.rint(10 * X), posinf=high, neginf=low)
    return np.clip(cells, low, high).astype(dtype)


def _frame_of(X: np.ndarray, dtype: str) -> pd.DataFrame:
    frame = pd.DataFrame(X, columns=[f"x{i}" for i in range(X.shape[1])])
    name, _, gap = dtype.partition(" with ")
    if name in ("Int64", "boolean"):
        frame = pd.DataFrame(
            cast(X, "bool" if name == "boolean" else "int64"), columns=frame.columns
        )
    if name in ("Float64", "Float32", "Int64", "boolean"):
        frame = frame.astype(name)
    if name == "object":
        frame = frame.astype(object)
    if name == "category":
        return frame.astype("category")
    if name == "pandas sparse":
        return frame.astype(pd.SparseDtype(float, 0.0))
    if gap:
        frame.iloc[0, 0] = None if gap == "None" else pd.NA
    if name == "category of strings":
        frame["x0"] = pd.Categorical(["a", "b"] * (len(X) // 2) + ["c"] * (len(X) % 2))
    if name == "column of dates":
        frame["x0"] = pd.date_range("2020-01-01", periods=len(X))
    return frame


class Container(NamedTuple):
    """A container, and the types that it can hold."""

    put: Callable
    holds: Callable = lambda dtype: True


def _native(dtype: np.dtype) -> bool:
    """Numbers that other libraries know."""
    return dtype.kind in "fiub" and dtype.itemsize <= 8 and dtype != np.float16


def _of_fixed_size(dtype: np.dtype) -> bool:
    return dtype.kind != "O"


def _sized(dtype: np.dtype) -> bool:
    return dtype.kind in "fiu" and dtype.itemsize > 1


def _plain(dtype: np.dtype) -> bool:
    return dtype.kind in "fiub"


def _memmap(X, folder: Path, mode="r", order="C"):
    # A file each: what was mapped before stays as it is.
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".npy", delete=False) as file:
        np.save(file, np.asarray(X, order=order))
    return np.load(file.name, mmap_mode=mode)


def _swapped(X):
    return X.astype(X.dtype.newbyteorder(">"))


def _strided(X):
    return np.repeat(X, 2, axis=1)[:, ::2]


def _backwards(X):
    return np.ascontiguousarray(X[::-1, ::-1])[::-1, ::-1]


def _read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


def _masked(X, *cells):
    masked = np.ma.masked_array(X.copy(), mask=np.zeros(X.shape, dtype=bool))
    for cell in cells:
        masked[cell] = np.ma.masked
    return masked


def _frame(X, columns=None, index=None):
    names = columns(X.shape[1]) if columns else [f"x{i}" for i in range(X.shape[1])]
    return pd.DataFrame(X, columns=names, index=index(len(X)) if index else None)


def _mixed_frame(X):
    """Columns of several types of float and integer, as a file may give them."""
    frame = _frame(X.astype(np.float64))
    narrow = frame.columns[::2]
    with np.errstate(over="ignore"):
        return frame.astype({name: np.float32 for name in narrow})


def _tensors(X):
    return torch.utils.data.TensorDataset(torch.from_numpy(X.copy()))


# name: function of the array and of a folder for files, and the types that it holds
CONTAINERS = {
    "ndarray": Container(lambda X, folder: X),
    "Fortran order": Container(lambda X, folder: np.asfortranarray(X)),
    "strided": Container(lambda X, folder: _strided(X)),
    "negative strides": Container(lambda X, folder: _backwards(X)),
    "read-only": Container(lambda X, folder: _read_only(X)),
    "memory map": Container(_memmap, _of_fixed_size),
    "memory map, copy on write": Container(
        lambda X, folder: _memmap(X, folder, "c"), _of_fixed_size
    ),
    "memory map, Fortran order": Container(
        lambda X, folder: _memmap(X, folder, order="F"), _of_fixed_size
    ),
    "memory map, strided": Container(
        lambda X, folder: _memmap(np.repeat(X, 2, axis=0), folder)[::2],
        _of_fixed_size,
    ),
    "other byte order": Container(lambda X, folder: _swapped(X), _sized),
    "memory map, other byte order": Container(
        lambda X, folder: _memmap(_swapped(X), folder), _sized
    ),
    "array subclass": Container(lambda X, folder: X.view(type("Rows", (np.ndarray,), {}))),
    "matrix": Container(lambda X, folder: np.asmatrix(X)),
    "masked array": Container(lambda X, folder: _masked(X), _plain),
    "masked array with a gap": Container(lambda X, folder: _masked(X, (0, 0)), _plain),
    "list of lists": Container(lambda X, folder: X.tolist()),
    "list of arrays": Container(lambda X, folder: list(X)),
    "tuples": Container(lambda X, folder: tuple(map(tuple, X.tolist()))),
    "frame": Container(lambda X, folder: _frame(X)),
    "frame, numbers as names": Container(lambda X, folder: _frame(X, range)),
    "frame, names of two types": Container(
        lambda X, folder: _frame(X, lambda d: ["x", *range(1, d)])
    ),
    "frame, equal names": Container(lambda X, folder: _frame(X, lambda d: ["x"] * d)),
    "frame, names of two levels": Container(
        lambda X, folder: _frame(X, lambda d: pd.MultiIndex.from_product([["x"], range(d)]))
    ),
    "frame, odd names": Container(
        lambda X, folder: _frame(X, lambda d: ["", " ", "x\n", *(f"{i}%" for i in range(3, d))][:d])
    ),
    "frame, equal index": Container(lambda X, folder: _frame(X, index=lambda n: [7] * n)),
    "frame, index of dates": Container(
        lambda X, folder: _frame(X, index=lambda n: pd.date_range("2020-01-01", periods=n)[::-1])
    ),
    "frame, types by column": Container(
        lambda X, folder: _mixed_frame(X), lambda dtype: dtype.kind == "f"
    ),
    "sparse csr": Container(lambda X, folder: scipy.sparse.csr_array(X), _native),
    "sparse coo": Container(lambda X, folder: scipy.sparse.coo_array(X), _native),
    "tensor": Container(lambda X, folder: torch.from_numpy(X.copy()), _native),
    "tensor with gradient": Container(
        lambda X, folder: torch.from_numpy(X.copy()).requires_grad_(),
        lambda dtype: dtype in (np.float32, np.float64),
    ),
    "tensor, bfloat16": Container(
        lambda X, folder: torch.from_numpy(X.copy()).bfloat16(),
        lambda dtype: dtype in (np.float32, np.float64),
    ),
    "torch data set": Container(lambda X, folder: _tensors(X), _native),
    "torch data loader": Container(
        lambda X, folder: torch.utils.data.DataLoader(_tensors(X), batch_size=8), _native
    ),
    "generator": Container(lambda X, folder: (row for row in X)),
    "dict": Container(lambda X, folder: {f"x{i}": column for i, column in enumerate(X.T)}),
}
if polars is not None:
    CONTAINERS["polars"] = Container(
        lambda X, folder: polars.DataFrame({f"x{i}": X[:, i].copy() for i in range(X.shape[1])}),
        _native,
    )
    CONTAINERS["polars, lazy"] = Container(
        lambda X, folder: CONTAINERS["polars"].put(X, folder).lazy(), _native
    )
if pyarrow is not None:
    CONTAINERS["pyarrow"] = Container(
        lambda X, folder: pyarrow.table({f"x{i}": X[:, i].copy() for i in range(X.shape[1])}),
        _native,
    )


def contain(X: np.ndarray, container: str, folder: Path):
    """The array in another container."""
    return CONTAINERS[container].put(X, folder)


MISSHAPEN = ["1-d", "3-d", "4-d", "empty", "one row", "no columns", "scalar", "None"]


def misshape(X: np.ndarray, shape: str):
    """The array in a shape that no table has."""
    return {
        "1-d": X[:, 0],
        "3-d": X[:, :, None],
        "4-d": X[:, None, :, None],
        "empty": X[:0],
        "one row": X[:1],
        "no columns": X[:, :0],
        "scalar": X[0, 0],
        "None": None,
    }[shape]


# A fit that accepts these has read something into them that is not there.
REFUSED = {
    "object with strings",
    "complex",
    "Float64 with NA",
    "Int64 with NA",
    "object with None",
    "category of strings",
    "masked array with a gap",
    *MISSHAPEN,
}
