"""The file: a safetensors file whose metadata hold one JSON document with a digest of the whole."""

import hashlib
import json
import math
import os
import secrets
from pathlib import Path

import numpy as np
import safetensors.numpy

from anomaly_estimators.persistence.errors import LoadError

__all__ = ["FORMAT", "VERSION", "pack", "read_bytes", "unpack", "write_bytes"]

FORMAT = "anomaly_estimators"
VERSION = 1
# Stands for the digest while the digest is computed.
_NO_DIGEST = "0" * 64
# The limit of the safetensors format, so that a forged length reserves no memory.
_MAX_HEADER_BYTES = 100_000_000


def pack(document: dict, arrays: dict[str, np.ndarray]) -> bytes:
    """Return the bytes of a file.

    Parameters
    ----------
    document : dict
        What JSON can express.
    arrays : dict of str to ndarray

    Returns
    -------
    bytes

    Examples
    --------
    >>> document, arrays = unpack(pack({"a": 1}, {"x": np.eye(2)}))
    >>> document["a"], arrays["x"].shape
    (1, (2, 2))
    """
    document = {"format": FORMAT, "format_version": VERSION, "digest": _NO_DIGEST, **document}
    text = json.dumps(document, allow_nan=False)
    native = {
        name: np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
        for name, array in arrays.items()
    }
    data = safetensors.numpy.save(native, metadata={FORMAT: text})
    return data.replace(_NO_DIGEST.encode(), hashlib.sha256(data).hexdigest().encode(), 1)


def unpack(data: bytes) -> tuple[dict, dict[str, np.ndarray]]:
    """Return the document and the arrays of a file.

    Raises
    ------
    LoadError
        If the bytes are not those of a file that :func:`pack` has made.
    """
    try:
        size = _header_size(data[:8], len(data))
        document = _document(data[8 : 8 + size])
        digest = document.get("digest")
        if not isinstance(digest, str) or len(digest) != len(_NO_DIGEST):
            raise LoadError("its digest is missing")
        blank = data.replace(digest.encode(), _NO_DIGEST.encode(), 1)
        if hashlib.sha256(blank).hexdigest() != digest:
            raise LoadError("its contents do not match its digest: the file is damaged")
        # Copies, which can be written to.
        arrays = {name: array.copy() for name, array in safetensors.numpy.load(data).items()}
    except LoadError:
        raise
    except Exception as error:
        raise LoadError(f"it cannot be read ({type(error).__name__}: {error!s:.200})") from error
    return document, arrays


def read_bytes(path: str | os.PathLike) -> bytes:
    """Read a file whose length is what its header declares.

    Raises
    ------
    LoadError
        If the header and the length of the file do not agree.
    """
    with open(path, "rb") as file:
        length = os.fstat(file.fileno()).st_size
        start = file.read(8)
        header = file.read(_header_size(start, length))
        try:
            entries = json.loads(header)
            ends = [e["data_offsets"][1] for name, e in entries.items() if name != "__metadata__"]
            declared = 8 + len(header) + max(ends, default=0)
        except Exception as error:
            raise LoadError(f"its header cannot be read ({type(error).__name__})") from error
        if declared != length:
            raise LoadError("its length is not what its header declares: the file is damaged")
        return start + header + file.read(length)


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Write a file as a whole or not at all; what was there stays until the new one is complete.

    Raises
    ------
    OSError
    """
    target = Path(os.path.realpath(path))
    part = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
    try:
        with open(part, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        # With the number of the error, OSError turns into the subclass that belongs to it.
        raise OSError(
            error.errno,
            f"{target} could not be written ({error.strerror or error}); a file that was there "
            "before is untouched",
        ) from error


def _header_size(start: bytes, length: int) -> int:
    size = int.from_bytes(start, "little")
    if len(start) < 8 or size > min(_MAX_HEADER_BYTES, length - 8):
        raise LoadError("it is not in the format of this library, or it is cut off")
    return size


def _document(header: bytes) -> dict:
    metadata = json.loads(header).get("__metadata__", {})
    if FORMAT not in metadata:
        raise LoadError("it is a safetensors file, but not one of this library")
    document = json.loads(metadata[FORMAT], parse_float=_finite, parse_constant=_finite)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise LoadError("it does not name the format of this library")
    version = document.get("format_version")
    if type(version) is not int or version != VERSION:
        raise LoadError(
            f"it has version {version!r:.40} of the format, and this version of the library reads "
            f"only version {VERSION}"
        )
    return document


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise LoadError("it holds a number that is not finite")
    return value
