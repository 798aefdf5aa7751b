"""The IDX format of MNIST: a magic number, the sizes of the dimensions, then bytes."""

import gzip
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_UNSIGNED_BYTE = 0x08


def read_idx(path: Path, n_dimensions: int) -> NDArray[np.uint8]:
    """Read a gzipped IDX file of unsigned bytes.

    Parameters
    ----------
    path : Path
    n_dimensions : int
        Number of dimensions that the file has to have: 3 for images, 1 for labels.

    Returns
    -------
    ndarray of dtype uint8
        Read-only, in C order.

    Raises
    ------
    ValueError
        If the magic number is another one, or the file is shorter or longer than its header says.
    """
    with gzip.open(path, "rb") as stream:
        content = stream.read()
    magic = bytes((0, 0, _UNSIGNED_BYTE, n_dimensions))
    n_header = len(magic) + 4 * n_dimensions
    if content[: len(magic)] != magic or len(content) < n_header:
        raise ValueError(
            f"{path} is not an IDX file of unsigned bytes in {n_dimensions} dimensions: it begins "
            f"with the bytes {content[:n_header].hex(' ')!r}, not with {magic.hex(' ')!r} and "
            f"{n_dimensions} sizes of four bytes. Fetch the published file again"
        )
    # Sizes are big-endian. Python's integers, since a product of sizes may exceed 64 bits.
    shape = np.frombuffer(content, ">u4", count=n_dimensions, offset=len(magic)).tolist()
    values = np.frombuffer(content, np.uint8, offset=n_header)
    if values.size != math.prod(shape):
        raise ValueError(
            f"{path} is damaged: its header promises {' x '.join(map(str, shape))} bytes, and "
            f"{values.size} follow. Fetch the published file again"
        )
    return values.reshape(shape)
