"""What the fetchers of images share: arguments, rows of pixels, names of columns."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from ._bunch import as_bunch

PARTS = ("train", "test")
_CHANNELS = {1: ("pixel",), 3: ("red", "green", "blue")}


class Images(NamedTuple):
    """One part of a set, as stored: bytes."""

    pixels: NDArray[np.uint8]  # (n_samples, ...): any shape whose rows unfold to the features
    classes: NDArray[np.uint8]  # (n_samples,)
    indices: NDArray[np.integer]  # (n_samples,): rows of the published set


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise unless the value is one of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def parts_of(subset: str) -> tuple[str, ...]:
    """The parts that make up a subset."""
    return PARTS if subset == "all" else (subset,)


def image_bunch(
    parts: Sequence[Images],
    *,
    image_shape: tuple[int, int, int],
    class_names: tuple[str, ...],
    dtype: np.dtype,
    return_X_y: bool,
    as_frame: bool,
    **details,
) -> Bunch | tuple:
    """Join the parts to rows of pixels; each byte is converted once, into its place."""
    n_features = int(np.prod(image_shape))
    for part in parts:
        if len(part.pixels) != len(part.classes):
            raise ValueError(
                f"the set is damaged: {len(part.pixels)} images and {len(part.classes)} labels"
            )
        if part.classes.size and part.classes.max() >= len(class_names):
            raise ValueError(f"the set is damaged: there is a label {part.classes.max()}")
    data = np.concatenate([part.pixels.reshape(-1, n_features) for part in parts], dtype=dtype)
    return as_bunch(
        data,
        np.concatenate([part.classes for part in parts], dtype=np.int64),
        feature_names=pixel_names(image_shape),
        target_names=class_names,
        return_X_y=return_X_y,
        as_frame=as_frame,
        image_shape=image_shape,
        indices=np.concatenate([part.indices for part in parts], dtype=np.int64),
        **details,
    )


def pixel_names(image_shape: tuple[int, int, int]) -> list[str]:
    """Names of the columns, such as ``pixel_0_27`` or ``red_31_0``: channel, row, column."""
    channels, height, width = image_shape
    return [
        f"{channel}_{row}_{column}"
        for channel in _CHANNELS[channels]
        for row in range(height)
        for column in range(width)
    ]
