"""Where the rows of a fit lie while it lasts, and which of them are held out."""

import numpy as np
import torch

from anomaly_estimators.training.batches import ResidentRows, StreamedRows
from anomaly_estimators.training.rows import RowSource

__all__ = ["hold_out", "place_rows"]

# Arrays that take more than this share of a CUDA device's free memory are streamed to it.
_DEVICE_SHARE = 0.5
# Memory maps larger than this (bytes in float32) are streamed from their file.
_STREAM_BYTES = 256 * 2**20


def place_rows(
    source: RowSource,
    labels: np.ndarray | None,
    device: torch.device,
    parts: tuple[np.ndarray, np.ndarray] | None = None,
):
    """Make data sets of rows: on the device as a whole if they fit there, else read batch by batch.

    Parameters
    ----------
    source : RowSource
    labels : ndarray of shape (n_samples,) or None
    device : torch.device
    parts : tuple of ndarray of int, default=None
        Numbers of the rows to train on and of those to hold out; ``None`` trains on all.

    Returns
    -------
    train, valid : torch data sets
        The second is ``None`` if no rows are held out.
    """
    y = torch.from_numpy(np.zeros(source.n_rows, dtype=np.int8) if labels is None else labels)
    if _streamed(source, device):
        train, valid = (np.arange(source.n_rows), None) if parts is None else parts
        return tuple(
            None if rows is None else StreamedRows(source, y, rows, device)
            for rows in (train, valid)
        )
    X, y = source.load().to(device), y.to(device)
    if parts is None:
        return ResidentRows(X, y), None
    return tuple(ResidentRows(X[rows], y[rows]) for rows in map(torch.from_numpy, parts))


def _streamed(source: RowSource, device: torch.device) -> bool:
    if isinstance(source.X, np.memmap) and source.n_bytes > _STREAM_BYTES:
        return True
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return source.n_bytes > _DEVICE_SHARE * free


def hold_out(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split rows for early stopping, each kind of label in the same proportion.

    A kind of which there are two rows or more is on both sides.

    Parameters
    ----------
    labels : ndarray of shape (n_samples,)
    fraction : float
        Share of the rows to hold out.
    seed : int

    Returns
    -------
    train, valid : ndarray of int
        Sorted numbers of the rows.

    Raises
    ------
    ValueError
        If there are not two rows of a kind.

    Examples
    --------
    >>> train, valid = hold_out(np.array([0] * 8 + [-1] * 2), 0.25, seed=0)
    >>> len(train), len(valid)
    (7, 3)
    """
    kinds, counts = np.unique(labels, return_counts=True)
    kinds = kinds[counts >= 2]
    if not len(kinds):
        raise ValueError(
            "early_stopping=True needs two rows of a kind, one to train on and one to hold out: set "
            "early_stopping=False."
        )
    order = np.random.default_rng(seed).permutation(len(labels))
    valid = []
    for kind in kinds:
        rows = order[labels[order] == kind]
        n_valid = int(np.clip(round(fraction * len(rows)), 1, len(rows) - 1))
        valid.append(rows[:n_valid])
    valid = np.sort(np.concatenate(valid))
    return np.setdiff1d(np.arange(len(labels)), valid), valid
