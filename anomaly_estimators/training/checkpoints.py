"""Checkpoints: a long fit that was killed goes on where it was."""

import hashlib
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.base import BaseEstimator
from skorch.callbacks import Callback
from torch import nn

__all__ = ["Checkpointer", "describe", "load_checkpoint"]

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
    if isinstance(value, BaseEstimator):
        return f"{type(value).__qualname__}{describe(value.get_params(deep=False))}"
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return type(value).__qualname__


def load_checkpoint(path: str | os.PathLike, fingerprint: str) -> dict | None:
    """Read a checkpoint; ``None`` if there is none yet.

    Raises
    ------
    ValueError
        If the file is no checkpoint, or one of another fit.
    """
    path = Path(path)
    if not path.exists():
        return None
    try:
        # Only tensors and plain values are read: a file from elsewhere can run nothing.
        state = torch.load(path, map_location="cpu", weights_only=True)
        found = state["format"], state["fingerprint"]
    except Exception as error:
        raise ValueError(
            f"{path} is not a checkpoint that can be read. Delete it or name another path."
        ) from error
    if found != (_FORMAT, fingerprint):
        raise ValueError(
            f"The checkpoint {path} belongs to another fit: the data or the parameters have changed "
            "since it was written. Delete it to start anew, or name another path."
        )
    return state


class Checkpointer(Callback):
    """Write the state of a training run to a file, in regular intervals.

    Parameters
    ----------
    path : str or path-like
    interval : float
        Seconds between two writes.
    collect : callable
        ``collect()`` -> dict with the state of the run.
    """

    def __init__(self, path: str | os.PathLike, interval: float, collect):
        self.path = Path(path)
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
                "another path; an older checkpoint at this path is untouched."
            ) from error
        self.written_ = time.monotonic()

    def discard(self) -> None:
        """Delete the file: the fit is complete."""
        self.path.unlink(missing_ok=True)
