"""The audit loop: an expert judges a few rows a round, and the detector learns from each."""

import warnings
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from numbers import Integral
from pathlib import Path

import numpy as np
from sklearn.utils import check_array
from sklearn.utils._param_validation import (
    Interval,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils.validation import _num_samples
from tqdm.auto import tqdm

from anomaly_estimators.active.history import AuditHistory
from anomaly_estimators.active.ledger import Ledger, recount
from anomaly_estimators.active.session import Session, describe_table, open_session
from anomaly_estimators.active.verdicts import check_verdicts, find_contradiction
from anomaly_estimators.fingerprint import data_fingerprint
from anomaly_estimators.labels import read_labels

__all__ = ["active_search"]


def active_search(
    detector,
    X,
    oracle,
    budget,
    k=10,
    *,
    y=None,
    path=None,
    history=None,
    resume="replay",
    verbose=0,
) -> AuditHistory:
    """Search a table for anomalies together with an expert.

    The detector is fitted; then the expert judges the ``k`` rows that it finds most suspicious, it
    learns from the verdicts, and so on until the budget is spent (algorithm 1 of [1]_).

    Parameters
    ----------
    detector : object
        An active detector: it has ``fit``, ``query`` and ``teach``. It is fitted in place, and has
        learned from all verdicts at the end.
    X : array-like of shape (n_samples, n_features)
        The table.
    oracle : callable
        The expert. ``oracle(indices)`` gets the positions of rows in the table, the most suspicious
        first, and returns a verdict on each: -1 for an anomaly, +1 for a normal row. It may return a
        sequence, or be a generator function that yields the verdicts one by one: then each is kept
        as soon as it is given. Of an iterator, as many are taken as there are rows.
    budget : int
        Number of verdicts in all, those of the session so far included. The search ends before if
        no row is left.
    k : int, default=10
        Number of rows a round; the last one is smaller if the budget asks for it.
    y : array-like of shape (n_samples,), default=None
        What is known before, for ``fit``: +1 normal, -1 anomaly, 0 not known. Rows that are known are
        not asked for, and are no part of the history.
    path : str or path-like, default=None
        Session file. Each verdict is written to it as it comes. If the file exists, the search goes
        on where it stood, see the notes.
    history : AuditHistory, default=None
        What an earlier search has found, to go on from it without a file; one that has a file goes on
        in that. With a ``path`` at which there is no session yet, it becomes the beginning of that.
    resume : {"replay", "refit", "keep"}, default="replay"
        How the detector comes to where a session stands that is gone on with, see the notes.
    verbose : int, default=0
        1 shows a progress bar with the number of rows judged and of anomalies found. 0 is silent.

    Returns
    -------
    AuditHistory
        All verdicts of the session, in their order.

    Raises
    ------
    TypeError
        If the detector is no active one, or the oracle cannot be called.
    ValueError
        If a number is impossible, or the file belongs to another table, to other labels or is
        damaged, all before any work is done; or if the oracle's answer is not a verdict on each row.
    BlockingIOError
        If another search has the session file open.
    Exception
        Whatever the oracle or the detector raises, KeyboardInterrupt included. The exception has an
        attribute ``history`` with all verdicts given so far, those of a half-judged round included, and
        a note that tells how to go on. The detector has learned from the rounds that were complete.

    See Also
    --------
    AuditHistory : What was found with which budget.
    anomaly_estimators.inspection.FoundCurveDisplay : Draw it, beside others.

    Notes
    -----
    **Going on.** Called again with the same table, labels ``y`` and path (or with ``history``), a
    search loses no verdict and asks for no row twice; of a half-judged round it asks for the rest.
    ``budget`` and ``k`` may be others than before: ``k`` holds from the next round on. If the budget does
    not suffice for the rest of a half-judged round, the round ends where the budget does. ``resume``
    says how the detector takes part:

    - ``"replay"`` fits it and teaches it the recorded rounds again, one by one. With an integer
      ``random_state`` it is the detector of a session without an interruption, bit for bit. It costs the
      training of all rounds, so it grows with their number.
    - ``"refit"`` fits it once, with all recorded verdicts in ``y``. That takes one fit however long the
      session is, and gives another model, with the same knowledge.
    - ``"keep"`` does not fit it again: it goes on from the detector as it stands, for instance after an
      interruption in the same process or loaded from a file, and is taught only the rounds that it
      does not know. Without a session it starts from a detector that is fitted already. A detector that
      is not fitted is fitted.

    **Revising.** :meth:`AuditHistory.revise` corrects a verdict, in the session file if there is one.
    Searches that go on from there learn it as if it had been right at once.

    **The file** holds positions and verdicts, no values of the table, one JSON object a line. A line
    that was torn when the machine stopped is left out. On systems that have POSIX file locks, a
    second search with the same file is refused.

    References
    ----------
    .. [1] Pimentel et al., "UaiNets: From Unsupervised to Active Deep Anomaly Detection", 2018,
       section 3.1, algorithm 1.

    Examples
    --------
    An expert who knows the truth of the breast cancer data:

    >>> import numpy as np
    >>> from sklearn.datasets import load_breast_cancer
    >>> from anomaly_estimators import UAI, DenoisingAutoencoder, active_search
    >>> X, benign = load_breast_cancer(return_X_y=True)
    >>> truth = np.where(benign == 1, 1, -1)
    >>> detector = UAI(DenoisingAutoencoder(max_iter=5), n_steps=5, random_state=0)
    >>> history = active_search(detector, X, lambda rows: truth[rows], budget=25)
    >>> history.rounds
    array([1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3])
    >>> bool(np.all(history.verdicts == truth[history.indices]))
    True

    One who is asked row by row, and may stop with Ctrl-C; the same call goes on:

    >>> def ask(rows):
    ...     for row in rows:
    ...         print(X[row])
    ...         yield -1 if input("anomaly? [y/n] ") == "y" else 1
    >>> history = active_search(detector, X, ask, 50, path="audit.jsonl")  # doctest: +SKIP
    """
    _check_arguments(detector, oracle, budget, k, history, resume, verbose)
    n_rows = _num_samples(X)
    known = _read_quietly(y, n_rows)
    with _open(path, X, known, history) as session:
        _check_past(session.ledger, known)
        total = min(budget, n_rows - np.count_nonzero(known))
        title = f"{type(detector).__name__}: audit"
        with tqdm(total=total, desc=title, unit="row", disable=not verbose) as bar:
            audit = _Audit(detector, X, oracle, session, bar)
            try:
                audit.catch_up(y, known, resume)
                audit.go_on(budget, k)
            except BaseException as error:
                _attach(error, AuditHistory._from_ledger(session.ledger, session.path))
                raise
        return AuditHistory._from_ledger(session.ledger, session.path)


class _Audit:
    """A search that is running."""

    def __init__(self, detector, X, oracle, session: Session, bar: tqdm):
        self.detector = detector
        self.X = X
        self.oracle = oracle
        self.session = session
        self.ledger = session.ledger
        self.bar = bar

    def catch_up(self, y, known: np.ndarray, resume: str) -> None:
        """Bring the detector to where the session stands."""
        rounds = list(_complete_rounds(self.ledger))
        labels = getattr(self.detector, "labels_", None)
        if resume == "keep" and labels is not None:
            # The table is compared here, and taken in again by a detector that comes from a file.
            self.detector.query(self.X, 1)
            judged = np.array(self.ledger.indices, dtype=np.int64)
            contradiction = find_contradiction(judged, self.ledger.verdicts, labels)
            if contradiction is not None:
                raise ValueError(
                    "The detector and the session do not agree, the detector being first: "
                    f"{contradiction} Say which one holds, to the detector by teach(..., revise=True) "
                    "or to the session by history.revise; or pass resume='replay'."
                )
        elif resume == "refit" and rounds:
            labels = known.copy()
            for rows, verdicts in rounds:
                labels[rows] = verdicts
            self.detector.fit(self.X, labels)
        else:
            self.detector.fit(self.X, y)
            labels = np.zeros(len(known), dtype=np.int8)
        for rows, verdicts in rounds:
            if (labels[rows] == 0).any():
                self.detector.teach(rows, verdicts)
            self.show(len(rows))
        self.show(len(self.ledger) - self.bar.n)

    def go_on(self, budget: int, k: int) -> None:
        """Ask and teach until the budget is spent."""
        if self.ledger.pending:
            self.ask(self.ledger.pending[: max(0, budget - len(self.ledger))])
        while len(self.ledger) < budget:
            rows = self.query(min(k, budget - len(self.ledger)))
            if not rows:
                break
            self.ask(rows)

    def query(self, k: int) -> list[int]:
        """Rows to ask for, checked: the session file would not take a row twice."""
        rows = np.asarray(self.detector.query(self.X, k)).tolist()
        judged = set(self.ledger.indices)
        if len(rows) > k or len(set(rows)) < len(rows) or not judged.isdisjoint(rows):
            raise ValueError(
                f"query(X, {k}) of {type(self.detector).__name__} returned rows that were judged already, "
                "a row twice or too many: mend the detector."
            )
        return rows

    def ask(self, rows: list[int]) -> None:
        """Have rows judged, and teach their round."""
        if rows != self.ledger.rest:
            self.session.append({"ask": rows})
        if rows:
            answer = self.oracle(np.array(rows, dtype=np.int64))
            for given, verdicts in _read_answer(answer, rows, self.ledger.n_rows):
                answers = zip(given, verdicts, strict=True)
                self.session.append(*({"row": row, "verdict": v} for row, v in answers))
                self.show(len(given))
        self.detector.teach(*self.ledger.last_round())

    def show(self, n: int) -> None:
        """Move the progress bar."""
        self.bar.set_postfix({"anomalies": self.ledger.n_found}, refresh=False)
        self.bar.update(n)


def _read_answer(answer, rows: list[int], n_rows: int) -> Iterator[tuple[list[int], list[int]]]:
    """Yield rows with their verdicts as they come: one by one, or all at once."""
    if isinstance(answer, str | bytes | Mapping | Set) or not np.iterable(answer):
        raise ValueError(
            f"The oracle returned {answer!r:.60} for the rows {rows!r:.60}: it must return a sequence with "
            "one verdict a row, -1 for an anomaly and +1 for a normal row, or yield them."
        )
    if hasattr(answer, "__len__"):
        if len(answer) != len(rows):
            raise ValueError(
                f"The oracle returned {len(answer)} verdicts on {len(rows)} rows, the first of them row "
                f"{rows[0]}: it must return one for each row it gets, in their order. None of these "
                "verdicts was kept."
            )
        yield rows, [_verdict(row, value, n_rows) for row, value in zip(rows, answer, strict=True)]
        return
    values = iter(answer)
    for place, row in enumerate(rows):
        try:
            value = next(values)
        except StopIteration:
            raise ValueError(
                f"The oracle gave {place} verdicts on {len(rows)} rows and ended: row {row} is the first "
                "without one. It must yield one for each row it gets, in their order."
            ) from None
        yield [row], [_verdict(row, value, n_rows)]


def _verdict(row: int, value, n_rows: int) -> int:
    try:
        if np.ndim(value) == 0:
            return int(check_verdicts([row], [value], n_rows)[1][0])
    except (TypeError, ValueError):
        pass
    raise ValueError(
        f"The oracle's verdict on row {row} is {value!r:.60}, but must be -1 for an anomaly or +1 for a "
        "normal row. Answers of 1 for an anomaly and 0 for a normal row are turned by "
        "np.where(answers == 1, -1, 1); where the expert cannot tell, +1 can be revised later."
    )


def _complete_rounds(ledger: Ledger) -> Iterator[tuple[list[int], list[int]]]:
    """Yield rows and verdicts of the rounds that were judged in full."""
    ends = np.flatnonzero(np.diff(ledger.rounds)) + 1
    if len(ledger) and not ledger.pending:
        ends = np.append(ends, len(ledger))
    for start, end in zip([0, *ends], ends, strict=False):
        yield ledger.indices[start:end], ledger.verdicts[start:end]


# Where the verdicts are kept


@contextmanager
def _open(path, X, known: np.ndarray, history: AuditHistory | None) -> Iterator[Session]:
    """Open the session, which goes on from a file or a history if there is one."""
    past = ()
    kept = None if history is None else history.path
    if kept is not None and (path is None or Path(path) == kept):
        path = kept
    elif history is not None:
        if history.n_rows not in (None, len(known)):
            raise ValueError(
                f"The history belongs to a table of {history.n_rows} rows, and X has {len(known)}: pass "
                "the table it began with, or leave out the history."
            )
        past = tuple(recount(history.indices, history.verdicts, history.rounds, history.pending))
    if path is None:
        session = Session(Ledger(len(known)))
        session.append(*past)
        yield session
        return
    labels = data_fingerprint(known, known) if known.any() else None
    header = describe_table(len(known), _fingerprint(X), labels)
    with open_session(path, header, new=bool(past)) as session:
        session.append(*past)
        yield session


def _fingerprint(X) -> str:
    if not isinstance(X, np.memmap):
        if _holds_words(X):
            # A data frame with given labels, say, which its detector knows to read.
            X = np.ascontiguousarray(np.asarray(X).astype(str)).view(np.uint8)
        X = check_array(
            X, dtype=[np.float64, np.float32, np.uint8], order="C", ensure_all_finite=False
        )
    return data_fingerprint(X, X)


def _holds_words(X) -> bool:
    X = np.asarray(X)
    if X.ndim != 2 or X.dtype.kind not in "OSU":
        return False
    try:
        X.astype(np.float64)
    except (TypeError, ValueError):
        return True
    return False


def _attach(error: BaseException, history: AuditHistory) -> None:
    """Leave the verdicts with an exception, and say how to go on."""
    kept = f"{len(history)} verdict{'' if len(history) == 1 else 's'} of the audit "
    if history.path is None:
        kept += (
            "stay in the attribute `history` of this exception (sys.last_value.history at a prompt): to "
            "go on from there, call active_search again with history=..."
        )
    else:
        kept += (
            f"stay in {history.path}: to go on from there, call active_search again with this path."
        )
    if len(history):
        error.add_note(kept)
    # Some exceptions take no attributes.
    with suppress(AttributeError, TypeError):
        error.history = history


# What is checked before any work is done


def _check_arguments(detector, oracle, budget, k, history, resume, verbose) -> None:
    needed = ("fit", "query", "teach")
    if isinstance(detector, type) or not all(
        callable(getattr(detector, name, None)) for name in needed
    ):
        raise TypeError(
            f"detector must be an active detector, an object with fit, query and teach; got "
            f"{detector!r:.80}. Of a pipeline, transform X first and pass its last step."
        )
    if not callable(oracle):
        raise TypeError(
            f"oracle must be a function of row positions that returns their verdicts, got "
            f"{type(oracle).__name__}. To take them from a vector of the truth, pass "
            "lambda rows: truth[rows]."
        )
    if history is not None and not isinstance(history, AuditHistory):
        raise TypeError(f"history must be an AuditHistory, got {type(history).__name__}.")
    validate_parameter_constraints(
        {
            "budget": [Interval(Integral, 1, None, closed="left")],
            "k": [Interval(Integral, 1, None, closed="left")],
            "resume": [StrOptions({"replay", "refit", "keep"})],
            "verbose": ["verbose"],
        },
        {"budget": budget, "k": k, "resume": resume, "verbose": verbose},
        caller_name="active_search",
    )


def _check_past(ledger: Ledger, known: np.ndarray) -> None:
    """Refuse a session that contradicts what is known."""
    contradiction = find_contradiction(np.array(ledger.indices, int), ledger.verdicts, known)
    if contradiction is not None:
        raise ValueError(
            f"{contradiction} The one is from y, the other from the session: correct y, or revise the "
            "history."
        )


def _read_quietly(y, n_rows: int) -> np.ndarray:
    """Read labels; the detector warns of odd ones once more."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read_labels(y, np.empty(n_rows))
