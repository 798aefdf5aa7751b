"""What every fetcher does with its arguments and with the arrays that it has read."""

from importlib.resources import files

import numpy as np
from numpy.typing import DTypeLike, NDArray
from sklearn.utils import Bunch

from ._fetch import import_optional


def check_dtype(dtype: DTypeLike, *, pixels: bool = False) -> np.dtype:
    """The dtype as NumPy's own, or an error that names the ones that can hold the data."""
    dtype = np.dtype(dtype)
    # Half precision overflows: byte counts and clinical values exceed 65504. Bytes hold pixels only.
    allowed = (*((np.uint8,) if pixels else ()), np.float32, np.float64)
    if dtype not in allowed:
        *others, last = (f"numpy.{kind.__name__}" for kind in allowed)
        raise ValueError(f"dtype must be {', '.join(others)} or {last}, got {dtype}")
    return dtype


def check_frame_support(as_frame: bool) -> None:
    """Raise at once, before any download, if a frame is asked for and pandas is missing."""
    if as_frame:
        import_optional("pandas", "as_frame=True")


def as_bunch(
    data: NDArray,
    target: NDArray,
    *,
    name: str,
    feature_names: list[str],
    target_names: tuple[str, ...] = ("anomaly", "normal"),
    return_X_y: bool,
    as_frame: bool,
    **details,
) -> Bunch | tuple:
    """Give arrays the form that the caller asked for; frames share the arrays' memory."""
    frame = None
    if as_frame:
        import pandas as pd

        data = pd.DataFrame(data, columns=feature_names, copy=False)
        target = pd.Series(target, name="target", copy=False)
        frame = data.copy(deep=False)
        frame["target"] = target
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        frame=frame,
        feature_names=feature_names,
        target_names=np.array(target_names),
        DESCR=(files(__package__) / "descr" / f"{name}.rst").read_text(encoding="utf-8"),
        **details,
    )
