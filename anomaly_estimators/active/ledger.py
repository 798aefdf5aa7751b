"""What was asked and answered in an audit, event by event."""

from collections.abc import Iterable, Iterator, Mapping

__all__ = ["Ledger", "recount"]


class Ledger:
    """State of an audit, built up from its records.

    A record is a dict that JSON can express:

    - ``{"ask": rows}`` hands rows to the expert. It opens a round, unless the one before is not yet
      answered in full: then it replaces what is left of that one.
    - ``{"row": row, "verdict": verdict}`` is the answer on the next of these rows.
    - ``{"copies": rows, "of": row}`` says to which rows else an answer applies, because they are
      identical. One that is asked for later all the same has an answer of its own from then on.
    - ``{"revise": row, "verdict": verdict}`` corrects an earlier answer.

    Parameters
    ----------
    n_rows : int
        Number of rows in the table.

    Attributes
    ----------
    indices, verdicts, rounds : list of int
        The rows in the order of their verdicts, with the round of each, counted from 1.
    rest : list of int
        Rows of the last round that are asked and not answered.
    copies : dict of int to int
        Rows that were not asked for, each with the identical one whose answer applies.
    n_found : int
        Number of anomalies.

    Examples
    --------
    >>> ledger = Ledger(n_rows=9)
    >>> for record in {"ask": [4, 2]}, {"row": 4, "verdict": -1}:
    ...     ledger.add(record)
    >>> ledger.indices, ledger.verdicts, ledger.pending
    ([4], [-1], [2])
    """

    def __init__(self, n_rows: int):
        self.n_rows = n_rows
        self.indices: list[int] = []
        self.verdicts: list[int] = []
        self.rounds: list[int] = []
        self.rest: list[int] = []
        self.copies: dict[int, int] = {}
        self.n_found = 0
        self._place: dict[int, int] = {}
        self._round = 1
        self._answered = 0

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def pending(self) -> list[int]:
        """What is left of a round that is answered in part."""
        return self.rest if self._answered else []

    def has_verdict(self, row: int) -> bool:
        """Whether a row was judged itself."""
        return row in self._place

    def last_round(self) -> tuple[list[int], list[int]]:
        """Rows and verdicts of the last round."""
        start = len(self) - self._answered
        return self.indices[start:], self.verdicts[start:]

    def add(self, record: dict) -> None:
        """Take in a record.

        Raises
        ------
        ValueError
            If it does not go together with the records before. Nothing has changed then.
        """
        match record:
            case {"ask": list(rows)}:
                self._ask(rows)
            case {"row": row, "verdict": verdict}:
                self._answer(row, _checked(verdict))
            case {"copies": list(rows), "of": row}:
                self._copy(rows, row)
            case {"revise": row, "verdict": verdict}:
                self._revise(row, _checked(verdict))
            case _:
                raise ValueError("it is no record of an audit")

    def _ask(self, rows: list) -> None:
        for row in rows:
            if type(row) is not int or not 0 <= row < self.n_rows:
                raise ValueError(f"it asks for row {row!r:.40}, of {self.n_rows} rows")
            if row in self._place:
                raise ValueError(f"it asks for row {row}, which has its verdict already")
        if len(set(rows)) < len(rows):
            raise ValueError("it asks for a row twice")
        if self._answered and not self.rest:
            self._round += 1
            self._answered = 0
        self.rest = list(rows)

    def _answer(self, row, verdict: int) -> None:
        if type(row) is not int or not self.rest or row != self.rest[0]:
            raise ValueError(f"it has a verdict on row {row!r:.40}, which was not asked for")
        self.copies.pop(row, None)
        self._place[row] = len(self.indices)
        self.indices.append(row)
        self.verdicts.append(verdict)
        self.rounds.append(self._round)
        self.n_found += verdict < 0
        self._answered += 1
        self.rest = self.rest[1:]

    def _copy(self, rows: list, row) -> None:
        if type(row) is not int or row not in self._place:
            raise ValueError(f"it copies row {row!r:.40}, which has no verdict")
        for copy in rows:
            if type(copy) is not int or not 0 <= copy < self.n_rows or copy in self._place:
                raise ValueError(f"it takes row {copy!r:.40} for a copy")
        self.copies.update(dict.fromkeys(rows, row))

    def _revise(self, row, verdict: int) -> None:
        if type(row) is not int or row not in self._place:
            raise ValueError(f"it revises row {row!r:.40}, which has no verdict")
        place = self._place[row]
        self.n_found += (verdict < 0) - (self.verdicts[place] < 0)
        self.verdicts[place] = verdict


def recount(
    indices: Iterable[int],
    verdicts: Iterable[int],
    rounds: Iterable[int],
    pending: Iterable[int],
    copies: Mapping[int, int],
) -> Iterator[dict]:
    """Records of an audit of which the outcome is known.

    Examples
    --------
    >>> for record in recount([4, 2], [-1, 1], [1, 2], pending=[7], copies={5: 2}):
    ...     print(record)
    {'ask': [4]}
    {'row': 4, 'verdict': -1}
    {'ask': [2, 7]}
    {'row': 2, 'verdict': 1}
    {'copies': [5], 'of': 2}
    """
    copied: dict[int, list] = {}
    for copy, row in copies.items():
        copied.setdefault(row, []).append(copy)
    by_round: dict[int, list] = {}
    for index, verdict, number in zip(indices, verdicts, rounds, strict=True):
        by_round.setdefault(int(number), []).append((int(index), int(verdict)))
    last = max(by_round, default=0)
    for number, given in by_round.items():
        rest = [int(row) for row in pending] if number == last else []
        yield {"ask": [row for row, _ in given] + rest}
        for row, verdict in given:
            yield {"row": row, "verdict": verdict}
            if row in copied:
                yield {"copies": copied[row], "of": row}


def _checked(verdict) -> int:
    if type(verdict) is not int or verdict not in (-1, 1):
        raise ValueError(f"its verdict is {verdict!r:.40}, which is neither -1 nor 1")
    return verdict
