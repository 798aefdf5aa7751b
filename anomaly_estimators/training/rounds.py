"""Rounds of an audit: a fixed number of steps on random rows, with audited rows beside them."""

from collections.abc import Iterator

import torch
from torch import Tensor

from anomaly_estimators.training.batches import ResidentRows, StreamedRows, make_batches

__all__ = ["AuditedRows", "RoundOfBatches"]


class RoundOfBatches:
    """Iterator over the batches of one round.

    Each holds ``batch_size`` rows of the table, the whole of which passes before a row comes again,
    and ``n_audited`` rows at its end that are drawn from the audited ones: a round costs the same
    whether ten rows were audited or ten thousand.

    Parameters
    ----------
    dataset : AuditedRows
    batch_size : int
    generator : torch.Generator
    """

    def __init__(self, dataset: "AuditedRows", batch_size: int, generator: torch.Generator):
        self.dataset = dataset
        self.batch_size = batch_size
        self.generator = generator

    def __len__(self) -> int:
        return self.dataset.n_steps

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        ordinary = self._endless()
        for _ in range(self.dataset.n_steps):
            X, y = next(ordinary)
            X_audited, verdicts = self.dataset.draw(self.generator)
            yield torch.cat([X, X_audited]), torch.cat([y, verdicts])

    def _endless(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from make_batches(self.dataset.rows, self.batch_size, self.generator)


class AuditedRows(torch.utils.data.Dataset):
    """A table of which some rows were audited.

    Parameters
    ----------
    rows : ResidentRows or StreamedRows
        The table, with the labels that the base detector is to see.
    audited : Tensor of int64 of shape (m,)
        Positions of the audited rows.
    verdicts : Tensor of int8 of shape (m,)
        -1 for anomalies, +1 for normal rows.
    n_steps : int
        Steps in a round.
    n_audited : int
        Audited rows in a batch.
    """

    batches = RoundOfBatches

    def __init__(
        self,
        rows: ResidentRows | StreamedRows,
        audited: Tensor,
        verdicts: Tensor,
        n_steps: int,
        n_audited: int,
    ):
        self.rows = rows
        self.audited = audited
        self.verdicts = verdicts
        self.n_steps = n_steps
        self.n_audited = n_audited

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]

    def draw(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw audited rows and their verdicts, with replacement."""
        drawn = torch.randint(len(self.audited), (self.n_audited,), generator=generator)
        return self.rows.take(self.audited[drawn], self.verdicts[drawn])
