"""What an audit has found, and in which order."""

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from numbers import Integral
from pathlib import Path

import numpy as np
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils._param_validation import Interval, validate_parameter_constraints
from sklearn.utils.validation import check_array

from anomaly_estimators.active.ledger import Ledger, recount
from anomaly_estimators.active.session import open_session, read_session
from anomaly_estimators.active.verdicts import check_verdicts, is_in_doubt, say_doubt
from anomaly_estimators.labels import read_labels

__all__ = ["AuditHistory"]

_ARRAYS = ("indices", "verdicts", "rounds", "pending", "copies")


@dataclass(frozen=True, eq=False, repr=False)
class AuditHistory:
    """The rows that an expert has judged, in their order.

    :func:`active_search` returns one. :meth:`from_scores` makes one of a ranking that learns from
    nobody, to compare with; :meth:`load` reads a session file. A history does not change.

    Parameters
    ----------
    indices : array-like of int of shape (n,)
        Rows in the order in which they were judged, none of them twice.
    verdicts : array-like of shape (n,)
        -1 for anomalies, +1 for normal rows.
    rounds : array-like of int of shape (n,)
        Number of the round of each, counted from 1 without a gap.
    pending : array-like of int, default=()
        Rows of the last round that the expert was asked for and has not judged. There are some only
        after an interruption in the middle of a round.
    copies : array-like of int of shape (m, 2), default=()
        Rows that have a verdict although the expert has not seen them, each with the identical row
        that was judged.
    n_rows : int, default=None
        Number of rows in the table. None if it is not known.
    path : str or path-like, default=None
        The session file that keeps the verdicts.

    Attributes
    ----------
    indices : ndarray of shape (n,), dtype int64
        Rows in the order in which they were judged.
    verdicts : ndarray of shape (n,), dtype int8
        -1 for anomalies, +1 for normal rows.
    rounds : ndarray of shape (n,), dtype int64
        Number of the round of each.
    pending : ndarray, dtype int64
        Rows asked for and not judged.
    copies : ndarray of shape (m, 2), dtype int64
        Rows that were not judged, each with the identical one that was.
    n_rows : int or None
        Number of rows in the table.
    path : pathlib.Path or None
        The session file.
    n_found : ndarray of shape (n,), dtype int64
        Number of anomalies among the first rows that were judged, up to each.
    n_labelled : ndarray of shape (n,), dtype int64
        Number of rows of the table that have a verdict by then: those judged, and their copies.
    notes : tuple of str
        What to know before trusting the history: whether all verdicts are +1, and how many rows were
        not judged themselves.

    See Also
    --------
    active_search : Make one.
    anomaly_estimators.inspection.FoundCurveDisplay : Draw it.

    Notes
    -----
    Two histories are equal if they hold the same rows, verdicts, rounds, pending rows and copies.

    A budget counts the rows that the expert has judged, and so do :attr:`n_found` and
    :meth:`found_at`. What is said of the table counts the copies, too: :meth:`labels`,
    :meth:`precision`, :meth:`recall` and :meth:`f1`.

    References
    ----------
    .. [1] Pimentel et al., "UaiNets: From Unsupervised to Active Deep Anomaly Detection", 2018,
       section 4. The measures of its experiments are :meth:`found_at` and :meth:`f1`.

    Examples
    --------
    >>> from anomaly_estimators import AuditHistory
    >>> history = AuditHistory([7, 2, 5, 0], [-1, 1, -1, -1], [1, 1, 2, 2], n_rows=9)
    >>> history
    AuditHistory(4 rows in 2 rounds, 3 anomalies)
    >>> history.n_found
    array([1, 1, 2, 3])
    >>> history.found_at(3), history.f1(n_anomalies=4)
    (2, 0.75)
    >>> history.labels()
    array([-1,  0,  1,  0,  0, -1,  0, -1,  0], dtype=int8)
    """

    indices: np.ndarray
    verdicts: np.ndarray
    rounds: np.ndarray
    pending: np.ndarray = field(default=(), kw_only=True)
    copies: np.ndarray = field(default=(), kw_only=True)
    n_rows: int | None = field(default=None, kw_only=True)
    path: Path | None = field(default=None, kw_only=True)

    def __post_init__(self):
        n_rows = np.iinfo(np.int64).max if self.n_rows is None else int(self.n_rows)
        indices, verdicts = check_verdicts(_array(self.indices), self.verdicts, n_rows)
        rounds, pending = _array(self.rounds), _array(self.pending)
        _check_rounds(rounds, len(indices))
        check_verdicts(np.r_[indices, pending], np.ones(len(indices) + len(pending)), n_rows)
        if len(pending) and not len(indices):
            raise ValueError("Rows are pending only in a round that has verdicts: leave them out.")
        copies = _pairs(self.copies)
        check_verdicts(np.r_[indices, copies[:, 0]], np.ones(len(indices) + len(copies)), n_rows)
        if not np.isin(copies[:, 1], indices).all():
            raise ValueError("copies must name a row that was judged beside each.")
        # In one order, however they were noted.
        copies = copies[np.lexsort((copies[:, 0], _places(indices, copies[:, 1])))]
        kept = (indices, verdicts, rounds, pending, copies)
        for name, values in zip(_ARRAYS, kept, strict=True):
            # A copy, which nobody else can change either.
            values = np.array(values)
            values.flags.writeable = False
            object.__setattr__(self, name, values)
        if self.n_rows is not None:
            object.__setattr__(self, "n_rows", n_rows)
        if self.path is not None:
            object.__setattr__(self, "path", Path(self.path))

    @classmethod
    def from_scores(cls, scores, y_true, k=10, *, budget=None) -> "AuditHistory":
        """Audit in the order of fixed scores, without feedback.

        Parameters
        ----------
        scores : array-like of shape (n_samples,)
            What ``score_samples`` returns: the lower, the more abnormal. Rows with equal scores come in
            the order of the table.
        y_true : array-like of shape (n_samples,)
            The truth, read by sign: -1 for anomalies, +1 for normal rows. Rows of 0 are left out.
        k : int, default=10
            Number of rows a round.
        budget : int, default=None
            Number of rows to audit. None takes all.

        Returns
        -------
        AuditHistory

        Raises
        ------
        ValueError
            If the lengths differ or a score is missing.

        Examples
        --------
        >>> from anomaly_estimators import AuditHistory
        >>> AuditHistory.from_scores([-1.0, -5.0, -3.0], [1, -1, 1]).indices
        array([1, 2, 0])
        """
        validate_parameter_constraints(
            {
                "k": [Interval(Integral, 1, None, closed="left")],
                "budget": [Interval(Integral, 0, None, closed="left"), None],
            },
            {"k": k, "budget": budget},
            caller_name="from_scores",
        )
        scores = check_array(
            scores, ensure_2d=False, dtype=[np.float64, np.float32], input_name="scores"
        )
        if scores.ndim != 1:
            raise ValueError(f"scores must be 1d, got an array of shape {scores.shape}.")
        truth = read_labels(y_true, scores)
        order = np.argsort(scores, kind="stable")
        order = order[truth[order] != 0][:budget]
        rounds = np.arange(len(order)) // k + 1
        return cls(order, truth[order], rounds, n_rows=len(scores))

    @classmethod
    def load(cls, path) -> "AuditHistory":
        """Read a session file, which a running search may be writing at the time.

        Parameters
        ----------
        path : str or path-like
            What was passed to :func:`active_search`.

        Returns
        -------
        AuditHistory

        Raises
        ------
        ValueError
            If the file is no session file, or is damaged.
        """
        return cls._from_ledger(read_session(path), path)

    @classmethod
    def _from_ledger(cls, ledger: Ledger, path: str | os.PathLike | None) -> "AuditHistory":
        return cls(
            ledger.indices,
            ledger.verdicts,
            ledger.rounds,
            pending=ledger.pending,
            copies=list(ledger.copies.items()),
            n_rows=ledger.n_rows,
            path=path,
        )

    def revise(self, index, verdict) -> "AuditHistory":
        """Correct one verdict, or several.

        A search that goes on from the corrected history learns the verdicts as if they had been right
        at once. A detector that was taught the wrong ones is not changed: tell it by
        ``detector.teach(index, verdict, revise=True)``.

        Parameters
        ----------
        index : int or array-like of int of shape (n,)
            Rows that were judged, or that have the verdict of an identical one. The correction holds for
            all that are identical.
        verdict : int or array-like of shape (n,)
            -1 for an anomaly, +1 for a normal row; one number is for all of the rows.

        Returns
        -------
        AuditHistory
            The corrected one; this one stays as it is. If there is a session file, the correction is
            noted there, and what is returned is the whole of the file.

        Raises
        ------
        ValueError
            If a row has no verdict, or a verdict is neither -1 nor +1. Nothing has changed then.
        BlockingIOError
            If a search has the session file open.

        Examples
        --------
        >>> from anomaly_estimators import AuditHistory
        >>> history = AuditHistory([7, 2, 5], [1, 1, -1], [1, 1, 1])
        >>> history.revise([7, 2], -1).verdicts
        array([-1, -1, -1], dtype=int8)
        """
        indices = np.atleast_1d(index)
        verdicts = [verdict] * len(indices) if np.ndim(verdict) == 0 else verdict
        indices, verdicts = check_verdicts(indices, verdicts, np.iinfo(np.int64).max)
        if self.path is not None:
            with open_session(self.path) as session:
                session.append(*_revisions(indices, verdicts, session.ledger))
                return self._from_ledger(session.ledger, self.path)
        ledger = Ledger(np.iinfo(np.int64).max)
        for record in self._records():
            ledger.add(record)
        for record in _revisions(indices, verdicts, ledger):
            ledger.add(record)
        return replace(self, verdicts=ledger.verdicts)

    def _records(self) -> Iterator[dict]:
        """Records of a session that has come to this."""
        copies = dict(self.copies.tolist())
        return recount(self.indices, self.verdicts, self.rounds, self.pending, copies)

    # What it says

    @property
    def n_found(self) -> np.ndarray:
        """Number of anomalies among the first rows that were judged, up to each."""
        return np.cumsum(self.verdicts < 0)

    @property
    def n_labelled(self) -> np.ndarray:
        """Number of rows of the table that have a verdict by then."""
        return np.cumsum(self._sizes)

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know before trusting the history."""
        notes = []
        if is_in_doubt(self.verdicts):
            notes.append(say_doubt(len(self), "history.revise(history.indices, -1)"))
        if len(self.copies):
            notes.append(
                f"{_count(len(self.copies), 'row')} more {'has' if len(self.copies) == 1 else 'have'} a "
                "verdict, being identical to one that was judged."
            )
        return tuple(notes)

    @property
    def _sizes(self) -> np.ndarray:
        """Number of rows of the table for which each verdict stands."""
        return 1 + np.bincount(_places(self.indices, self.copies[:, 1]), minlength=len(self))

    def _flagged_at(self, budget) -> tuple[int, int]:
        """Rows that have a verdict by a budget, and the anomalies among them."""
        self.found_at(budget)
        sizes = self._sizes[:budget]
        return int(sizes.sum()), int(sizes[self.verdicts[:budget] < 0].sum())

    def found_at(self, budget):
        """Number of anomalies that a smaller budget would have found.

        Parameters
        ----------
        budget : int or array-like of int
            Number of rows judged, from 0 to all of this history.

        Returns
        -------
        int or ndarray of int

        Raises
        ------
        ValueError
            If the history does not go that far.
        """
        budgets = np.asarray(budget)
        if budgets.dtype.kind not in "iu":
            raise ValueError(f"budget must be a whole number of rows, got {budget!r:.60}.")
        if budgets.size and not 0 <= budgets.min() <= budgets.max() <= len(self):
            raise ValueError(
                f"budget must lie between 0 and {len(self)}, the number of rows judged; got {budget!r:.60}."
            )
        found = np.append(0, self.n_found)[budgets]
        return found if budgets.ndim else int(found)

    def precision(self, budget=None) -> float:
        """Share of anomalies among the rows that have a verdict.

        Parameters
        ----------
        budget : int, default=None
            Number of rows judged, counted from the first. None takes all.

        Returns
        -------
        float
            Between 0 and 1; 0 with a warning if no row was judged.
        """
        flagged, found = self._flagged_at(len(self) if budget is None else budget)
        if not flagged:
            warnings.warn(
                "No row was judged: the precision is reported as 0.",
                UndefinedMetricWarning,
                stacklevel=2,
            )
            return 0.0
        return found / flagged

    def recall(self, n_anomalies, budget=None) -> float:
        """Share of all anomalies that was found.

        Parameters
        ----------
        n_anomalies : int
            Number of anomalies in the table.
        budget : int, default=None
            Number of rows judged, counted from the first. None takes all.

        Returns
        -------
        float
            Between 0 and 1.
        """
        self._check_total(n_anomalies)
        return self._flagged_at(len(self) if budget is None else budget)[1] / n_anomalies

    def f1(self, n_anomalies, budget=None) -> float:
        """F1 where the rows that have a verdict are taken as flagged.

        With a budget of ``n_anomalies`` and no copies, as in table 1 of [1]_, precision, recall and F1
        are equal.

        Parameters
        ----------
        n_anomalies : int
            Number of anomalies in the table.
        budget : int, default=None
            Number of rows judged, counted from the first. None takes all.

        Returns
        -------
        float
            Between 0 and 1.

        References
        ----------
        .. [1] Pimentel et al., "UaiNets: From Unsupervised to Active Deep Anomaly Detection", 2018.
        """
        self._check_total(n_anomalies)
        flagged, found = self._flagged_at(len(self) if budget is None else budget)
        return 2 * found / (flagged + n_anomalies)

    def labels(self, n_rows=None) -> np.ndarray:
        """Verdicts as the ``y`` of ``fit``.

        Parameters
        ----------
        n_rows : int, default=None
            Number of rows in the table. None takes that of the history.

        Returns
        -------
        ndarray of shape (n_rows,), dtype int8
            +1 normal, -1 anomaly, 0 without a verdict.

        Raises
        ------
        ValueError
            If the number is not known, or too small.
        """
        n_rows = self.n_rows if n_rows is None else n_rows
        if n_rows is None:
            raise ValueError("The number of rows in the table is not known: pass n_rows.")
        last = max(self.indices.max(initial=-1), self.copies[:, 0].max(initial=-1))
        if n_rows <= last:
            raise ValueError(f"There is a verdict on row {last}, of {n_rows} rows.")
        labels = np.zeros(n_rows, dtype=np.int8)
        labels[self.indices] = self.verdicts
        labels[self.copies[:, 0]] = labels[self.copies[:, 1]]
        return labels

    def to_frame(self):
        """Return the history as a pandas data frame.

        Returns
        -------
        pandas.DataFrame
            One line a verdict, with the columns ``index``, ``verdict``, ``round``, ``n_found`` and
            ``n_labelled``.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("to_frame needs pandas: pip install pandas") from error
        return pd.DataFrame(
            {
                "index": self.indices,
                "verdict": self.verdicts,
                "round": self.rounds,
                "n_found": self.n_found,
                "n_labelled": self.n_labelled,
            }
        )

    def __len__(self) -> int:
        return len(self.indices)

    def __repr__(self) -> str:
        n_rounds = int(self.rounds[-1]) if len(self) else 0
        pending = f", {len(self.pending)} rows pending" if len(self.pending) else ""
        notes = "; see notes" if self.notes else ""
        counts = (
            _count(len(self), "row"),
            _count(n_rounds, "round"),
            _count(int((self.verdicts < 0).sum()), "anomaly", "anomalies"),
        )
        return f"AuditHistory({counts[0]} in {counts[1]}, {counts[2]}{pending}{notes})"

    def _value(self) -> tuple:
        return tuple(getattr(self, name).tobytes() for name in _ARRAYS)

    def __eq__(self, other):
        return (
            self._value() == other._value() if isinstance(other, AuditHistory) else NotImplemented
        )

    def __hash__(self) -> int:
        return hash(self._value())

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        for name in _ARRAYS:
            getattr(self, name).flags.writeable = False

    def _check_total(self, n_anomalies) -> None:
        found = self._flagged_at(len(self))[1]
        if n_anomalies < max(1, found):
            raise ValueError(
                f"n_anomalies must be the number of anomalies in the table, of which {found} were found; "
                f"got {n_anomalies!r:.40}."
            )


def _array(values) -> np.ndarray:
    values = np.asarray(values)
    if values.size == 0:
        return np.empty(0, dtype=np.int64)
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise ValueError(f"Rows and rounds must be sequences of whole numbers, got {values!r:.60}.")
    return values.astype(np.int64)


def _check_rounds(rounds: np.ndarray, n: int) -> None:
    steps = np.diff(rounds, prepend=0)
    if len(rounds) != n or not np.isin(steps, (0, 1)).all() or (n and steps[0] != 1):
        raise ValueError(
            "rounds must give the number of the round of each verdict, counted from 1 without a gap."
        )


def _pairs(copies) -> np.ndarray:
    copies = np.asarray(copies)
    if copies.size == 0:
        return np.empty((0, 2), dtype=np.int64)
    if copies.ndim != 2 or copies.shape[1] != 2 or copies.dtype.kind not in "iu":
        raise ValueError(f"copies must be pairs of rows, got {copies!r:.60}.")
    return copies.astype(np.int64)


def _places(indices: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Where each of some rows comes among those judged."""
    order = np.argsort(indices)
    return order[np.searchsorted(indices, rows, sorter=order)]


def _revisions(indices: np.ndarray, verdicts: np.ndarray, ledger: Ledger) -> list[dict]:
    """Records that correct verdicts, each on the row that was judged."""
    judged, corrected = set(ledger.indices), {}
    for index, verdict in zip(indices.tolist(), verdicts.tolist(), strict=True):
        row = ledger.copies.get(index, index)
        if row not in judged:
            raise ValueError(f"Row {index} has no verdict that could be revised.")
        if corrected.setdefault(row, verdict) != verdict:
            raise ValueError(f"Row {index} has the verdict of row {row}: give them the same.")
    return [{"revise": row, "verdict": verdict} for row, verdict in corrected.items()]


def _count(n: int, one: str, many: str | None = None) -> str:
    return f"{n} {one}" if n == 1 else f"{n} {many or one + 's'}"
