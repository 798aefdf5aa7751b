"""Checkpoints: a long fit that was killed goes on where it was."""

import hashlib
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain, count
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from sklearn.base import BaseEstimator
from skorch.callbacks import Callback
from torch import nn

__all__ = ["Checkpointer", "claim_file", "describe", "load_checkpoint"]

_FORMAT = 1


def describe(value) -> str:
    """Text of a parameter that is the same in every process, and another for another value.

    Examples
    --------
    >>> describe({"sizes": (64, 32), "feature": describe})
    '{sizes: (64, 32), feature: anomaly_estimators.training.checkpoints.describe}'
    """
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {describe(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "(" + ", ".join(map(describe, value)) + ")"
    if isinstance(value, str | bool | int | float | np.generic | np.ndarray | None):
        return repr(value)
    if isinstance(value, nn.Module):
        digest = hashlib.blake2b(digest_size=16)
        for tensor in value.state_dict().values():
            digest.update(tensor.detach().cpu().contiguous().view(-1).numpy().tobytes())
        return f"{value!r} {digest.hexdigest()}"
    if isinstance(value, np.random.RandomState):
        return describe(value.get_state(legacy=False))
    if isinstance(value, BaseEstimator):
        return f"{type(value).__qualname__}{describe(value.get_params(deep=False))}"
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return type(value).__qualname__


@contextmanager
def claim_file(checkpoint: str | os.PathLike, fingerprint: str) -> Iterator[Path]:
    """Lend a fit a file that no other fit has, for the time of a block.

    The parameter ``checkpoint`` names a family: ``run.pt`` that of ``run-<fingerprint>.pt``. Of equal
    fits at the same time, which have the same fingerprint, the second has ``run-<fingerprint>-1.pt``,
    and so on. A lock beside the file, which goes with the process, tells that it is taken.

    Parameters
    ----------
    checkpoint : str or path-like
    fingerprint : str
        Of the data and the parameters of the fit.

    Yields
    ------
    Path
        A file with the state of such a fit that was killed, if there is one; else one that does not
        exist.

    Raises
    ------
    OSError
        If the folder cannot be written to.

    Examples
    --------
    >>> folder = tempfile.TemporaryDirectory()
    >>> with claim_file(f"{folder.name}/run.pt", "c0ffee") as first:
    ...     with claim_file(f"{folder.name}/run.pt", "c0ffee") as second:
    ...         print(first.name, second.name)
    run-c0ffee.pt run-c0ffee-1.pt
    >>> folder.cleanup()
    """
    path = Path(checkpoint)
    for file in _files_of(path.with_name(f"{path.stem}-{fingerprint}{path.suffix}")):
        lock = FileLock(f"{file}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            continue
        except OSError as error:
            raise OSError(
                f"The checkpoint {file} could not be written ({error}). Name another path."
            ) from error
        try:
            yield file
        finally:
            # While it is held: one that is deleted later may be another fit's by then.
            with suppress(OSError):
                os.unlink(lock.lock_file)
            lock.release()
        return


def _files_of(first: Path) -> Iterator[Path]:
    """Files that a fit may take, those with a state before those that do not exist."""
    name = re.compile(f"{re.escape(first.stem)}(-[0-9]+)?{re.escape(first.suffix)}")
    left = sorted(path for path in first.parent.iterdir() if name.fullmatch(path.name))
    numbered = (first.with_name(f"{first.stem}-{n}{first.suffix}") for n in count(1))
    return chain(left, [first], numbered)


def load_checkpoint(path: Path, fingerprint: str) -> dict | None:
    """Read a checkpoint; ``None`` if there is none yet.

    Raises
    ------
    ValueError
        If the file is no checkpoint of this fit.
    """
    if not path.exists():
        return None
    try:
        # Only tensors and plain values are read: a file from elsewhere can run nothing.
        state = torch.load(path, map_location="cpu", weights_only=True)
        if (state["format"], state["fingerprint"]) != (_FORMAT, fingerprint):
            raise ValueError("it was written by another fit, or another version")
    except Exception as error:
        raise ValueError(
            f"{path} is not a checkpoint that can be read. Delete it, and the fit starts anew."
        ) from error
    return state


class Checkpointer(Callback):
    """Write the state of a training run to a file, in regular intervals.

    Parameters
    ----------
    path : Path
    interval : float
        Seconds between two writes.
    collect : callable
        ``collect()`` -> dict with the state of the run.
    """

    def __init__(self, path: Path, interval: float, collect):
        self.path = path
        self.interval = interval
        self.collect = collect
        self.written_ = time.monotonic()

    def on_epoch_end(self, net, **kwargs):
        if time.monotonic() - self.written_ >= self.interval:
            self.write()

    def write(self) -> None:
        """Write the state; a reader sees the old file or the new one, never half of one."""
        state = {"format": _FORMAT, **self.collect()}
        temporary = None
        try:
            with tempfile.NamedTemporaryFile(
                dir=self.path.parent, prefix=self.path.name, suffix=".part", delete=False
            ) as file:
                temporary = file.name
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)
            raise OSError(
                f"The checkpoint {self.path} could not be written ({error}). Free some space or name "
                "another path; an older checkpoint in this file is untouched."
            ) from error
        self.written_ = time.monotonic()

    def discard(self) -> None:
        """Delete the file: the fit is complete."""
        self.path.unlink(missing_ok=True)
