"""Batches of rows, cut from where the rows lie."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from anomaly_estimators.training.rows import RowSource

__all__ = [
    "ResidentBatches",
    "StreamedBatches",
    "automatic_batch_size",
    "automatic_max_iter",
    "balanced_order",
    "batch_bounds",
    "make_batches",
]

# Bytes that the shuffle buffer of a streamed data set may take.
_BUFFER_BYTES = 32 * 2**20
# Bytes of the blocks in which a streamed data set is read: large enough for a disk, small enough to
# mix.
_BLOCK_BYTES = 2**19


def automatic_batch_size(n_rows: int) -> int:
    """Return a fiftieth of the rows, within 32 and 1024.

    Examples
    --------
    >>> automatic_batch_size(100), automatic_batch_size(5_000), automatic_batch_size(10**6)
    (32, 100, 1024)
    """
    return int(np.clip(n_rows // 50, 32, 1024))


def automatic_max_iter(n_rows: int, batch_size: int) -> int:
    """Return as many epochs as make 2,000 steps, within 20 and 200.

    What trains a network is the number of its steps: a fixed number of epochs leaves it untrained
    on a small table, and runs on for nothing on a large one.

    Examples
    --------
    >>> automatic_max_iter(450, 32), automatic_max_iter(5_000, 100), automatic_max_iter(10**6, 1024)
    (134, 40, 20)
    """
    steps = len(batch_bounds(n_rows, batch_size)) - 1
    return int(np.clip(-(-2_000 // steps), 20, 200))


def batch_bounds(n_rows: int, batch_size: int) -> list[int]:
    """Ends of the batches; a last batch of one row joins the one before, which BatchNorm needs.

    Examples
    --------
    >>> batch_bounds(9, 4)
    [0, 4, 9]
    """
    bounds = [*range(0, n_rows, batch_size), n_rows]
    if len(bounds) > 2 and bounds[-1] - bounds[-2] == 1:
        del bounds[-2]
    return bounds


def balanced_order(labels: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return a random order in which every kind of label is spread evenly.

    Any stretch of it, and so any batch, has the kinds in the proportion that they have in the
    whole, up to a row or two: a loss that averages over a batch then is that of the whole set with
    little noise, although labelled rows are few. Rows of one kind are merely shuffled.

    Parameters
    ----------
    labels : Tensor of shape (n,)
        On the CPU.
    generator : torch.Generator or None
        ``None`` keeps the order as it is.

    Examples
    --------
    >>> labels = torch.tensor([0, 0, 0, 0, 0, 0, -1, -1])
    >>> order = balanced_order(labels, torch.Generator().manual_seed(0))
    >>> labels[order[:4]].sum(), labels[order[4:]].sum()
    (tensor(-1), tensor(-1))
    """
    if generator is None:
        return torch.arange(len(labels))
    order = torch.randperm(len(labels), generator=generator)
    if len(labels) == 0 or bool((labels == labels[0]).all()):
        return order
    shuffled = labels[order]
    place = torch.empty(len(labels), dtype=torch.float64)
    for kind in shuffled.unique():
        rows = torch.nonzero(shuffled == kind).squeeze(1)
        # Every row has its own stretch of [0, 1), and its place in it is the same for all of a kind.
        jitter = torch.rand((), generator=generator, dtype=torch.float64)
        place[rows] = (torch.arange(len(rows), dtype=torch.float64) + jitter) / len(rows)
    return order[place.argsort(stable=True)]


class ResidentBatches:
    """Iterator over a data set that lies on the device as a whole.

    Parameters
    ----------
    dataset : tuple of Tensor
        Rows and labels.
    batch_size : int
    generator : torch.Generator or None
        Shuffles the rows anew in every pass, see :func:`balanced_order`; ``None`` keeps their order.
    """

    def __init__(self, dataset, batch_size: int, generator: torch.Generator | None = None):
        self.X, self.y = dataset.tensors
        self.batch_size = batch_size
        self.generator = generator
        self.bounds = batch_bounds(len(self.X), batch_size)
        self.labels = self.y.cpu() if generator is not None else None

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        bounds = list(zip(self.bounds, self.bounds[1:], strict=False))
        if self.generator is None:
            for start, stop in bounds:
                yield self.X[start:stop], self.y[start:stop]
            return
        order = balanced_order(self.labels, self.generator).to(self.X.device)
        for start, stop in bounds:
            rows = order[start:stop]
            yield self.X.index_select(0, rows), self.y.index_select(0, rows)


class StreamedBatches:
    """Iterator over a data set that is larger than memory.

    Blocks of neighbouring rows are read in random order into a buffer, and the rows of the buffer
    are shuffled: reading stays sequential, and memory bounded.

    Parameters
    ----------
    dataset : StreamedRows
    batch_size : int
    generator : torch.Generator or None
        ``None`` reads the rows in their order.
    """

    def __init__(self, dataset, batch_size: int, generator: torch.Generator | None = None):
        self.dataset = dataset
        self.batch_size = batch_size
        self.generator = generator
        row_bytes = 4 * dataset.source.n_columns
        self.block = max(1, _BLOCK_BYTES // row_bytes)
        self.buffer = max(batch_size, _BUFFER_BYTES // row_bytes)

    def __len__(self) -> int:
        return max(1, -(-len(self.dataset) // self.batch_size))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        rows = self.dataset.rows
        starts = range(0, len(rows), self.block)
        order = (
            torch.randperm(len(starts), generator=self.generator).tolist()
            if self.generator is not None
            else range(len(starts))
        )
        waiting: list[np.ndarray] = []
        n_waiting = 0
        for i, block in enumerate(order):
            waiting.append(rows[starts[block] : starts[block] + self.block])
            n_waiting += len(waiting[-1])
            last = i == len(starts) - 1
            if n_waiting >= self.buffer or last:
                left = yield from self._empty_buffer(waiting, last)
                waiting, n_waiting = ([left], len(left)) if len(left) else ([], 0)

    def _empty_buffer(self, waiting: list[np.ndarray], last: bool):
        """Yield whole batches; return the rows that are left over for the next buffer."""
        n_rows = sum(map(len, waiting))
        n_whole = n_rows if last else n_rows - n_rows % self.batch_size
        if not last and n_rows - n_whole == 1 and n_whole > self.batch_size:
            n_whole -= self.batch_size  # never leave one row alone
        rows = np.concatenate(waiting)
        X, y = self.dataset.read(rows)
        permutation = balanced_order(y, self.generator)
        bounds = batch_bounds(n_whole, self.batch_size)
        for start, stop in zip(bounds, bounds[1:], strict=False):
            take = permutation[start:stop]
            yield self.dataset.place(X.index_select(0, take), y.index_select(0, take))
        return rows[permutation[n_whole:].numpy()]


class ResidentRows(torch.utils.data.TensorDataset):
    """Rows and labels that lie on the device."""

    batches = ResidentBatches

    def take(self, rows: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Rows by their numbers, and labels for them, on the device."""
        X, y = self.tensors
        return X.index_select(0, rows.to(X.device)), labels.to(y.device)

    def relabelled(self, labels: Tensor) -> "ResidentRows":
        """Return the same rows with other labels."""
        X, y = self.tensors
        return ResidentRows(X, labels.to(y.device))


class StreamedRows(torch.utils.data.Dataset):
    """Rows that stay where they are and are read when a batch needs them.

    Parameters
    ----------
    source : RowSource
    labels : Tensor of shape (n_samples,)
    rows : ndarray of int
        Sorted indices of the rows that belong to this data set.
    device : torch.device
    """

    batches = StreamedBatches

    def __init__(self, source: RowSource, labels: Tensor, rows: np.ndarray, device: torch.device):
        self.source = source
        self.labels = labels
        self.rows = rows
        self.device = device

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i):
        X, y = self.read(self.rows[i : i + 1])
        return X[0], y[0]

    def read(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Read rows by their numbers, on the CPU."""
        return self.source.take(rows), self.labels[torch.from_numpy(rows)]

    def take(self, rows: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Rows by their numbers, and labels for them, on the device."""
        return self.place(self.source.take(rows.numpy()), labels)

    def relabelled(self, labels: Tensor) -> "StreamedRows":
        """Return the same rows with other labels."""
        return StreamedRows(self.source, labels, self.rows, self.device)

    def place(self, X: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Move a batch to the device."""
        return X.to(self.device), y.to(self.device)


def make_batches(dataset, batch_size: int, generator: torch.Generator | None = None):
    """Iterate over a data set in the way that suits it; the ``iterator_train`` of the net."""
    return dataset.batches(dataset, batch_size, generator)
