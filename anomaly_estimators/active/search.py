"""The audit loop: an expert judges a few rows a round, and the detector learns from each."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager, nullcontext, suppress
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

from anomaly_estimators.active.duplicates import IdenticalRows
from anomaly_estimators.active.history import AuditHistory
from anomaly_estimators.active.ledger import Ledger
from anomaly_estimators.active.session import Session, describe_table, open_session
from anomaly_estimators.active.verdicts import (
    DOUBT,
    check_verdicts,
    find_contradiction,
    is_in_doubt,
    is_zero,
    misread,
    say_doubt,
)
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
        no row is left. Of identical rows one is asked for, see the notes.
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

    Warns
    -----
    UserWarning
        If all verdicts of the first round are +1, though its rows are the most suspicious ones, once:
        where 1 stands for an anomaly, they are the wrong way round. :attr:`AuditHistory.notes` says so,
        too, as long as it holds.

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

    **Revising.** :meth:`AuditHistory.revise` corrects verdicts, in the session file if there is one.
    Searches that go on from there learn them as if they had been right at once.

    **Identical rows** have one verdict: the expert is asked for one of them, the budget counts it once,
    the detector learns it once, and it holds for all. :attr:`AuditHistory.copies` names the others. Rows
    are identical if they are equal in every value. To ask for each row, as the experiments of the
    paper did, make the detector with ``duplicates="each"``.

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
        title = f"{type(detector).__name__}: audit"
        with tqdm(total=budget, desc=title, unit="row", disable=not verbose) as bar:
            audit = _Audit(detector, X, oracle, known, session, bar)
            try:
                audit.catch_up(y, resume)
                audit.go_on(budget, k)
            except BaseException as error:
                _attach(error, AuditHistory._from_ledger(session.ledger, session.path))
                raise
        return AuditHistory._from_ledger(session.ledger, session.path)


class _Audit:
    """A search that is running."""

    def __init__(self, detector, X, oracle, known: np.ndarray, session: Session, bar: tqdm):
        self.detector = detector
        self.X = X
        self.oracle = oracle
        self.known = known
        self.session = session
        self.ledger = session.ledger
        self.bar = bar
        self.n_before = len(self.ledger)

    def catch_up(self, y, resume: str) -> None:
        """Bring the detector to where the session stands."""
        rounds = list(_complete_rounds(self.ledger))
        labels = getattr(self.detector, "labels_", None)
        if resume == "keep" and labels is not None:
            # The table is compared here, and taken in again by a detector that comes from a file.
            self.detector.query(self.X, 1)
            judged = np.array(self.ledger.indices, dtype=np.int64)
            verdicts = np.array(self.ledger.verdicts, dtype=np.int64)
            contradiction = find_contradiction(judged, verdicts, labels)
            if contradiction is not None:
                wrong = (labels[judged] != 0) & (labels[judged] != verdicts)
                rows, right = judged[wrong].tolist(), verdicts[wrong].tolist()
                raise ValueError(
                    "The detector and the session do not agree, the detector being first: "
                    f"{contradiction} Say which one holds, to the detector by detector.teach({rows}, "
                    f"{right}, revise=True) or to the session by history.revise({rows}, "
                    f"{[-verdict for verdict in right]}); or pass resume='replay'."
                )
        elif resume == "refit" and rounds:
            labels = self.known.copy()
            for rows, verdicts in rounds:
                labels[rows] = verdicts
            self.detector.fit(self.X, labels)
        else:
            self.detector.fit(self.X, y)
            labels = np.zeros_like(self.known)
        for rows, verdicts in rounds:
            if (labels[rows] == 0).any():
                self.teach(rows, verdicts)
            self.show(len(rows))
        self.identical = self.identical_rows()
        # Of verdicts that were given when each row had its own.
        missing = [record for row in self.ledger.indices for record in self.copies_of(row)]
        if missing:
            self.session.append(*missing)
        judged = self.known.copy()
        judged[self.ledger.indices] = self.ledger.verdicts
        left = len(self.identical.untouched(judged))
        self.bar.total = min(self.bar.total, len(self.ledger) + left)
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
            for given, verdicts in _read_answer(answer, rows, self.explain):
                records = []
                for row, verdict in zip(given, verdicts, strict=True):
                    records += {"row": row, "verdict": verdict}, *self.copies_of(row)
                self.session.append(*records)
                self.show(len(given))
        rows, verdicts = self.ledger.last_round()
        if is_in_doubt(self.ledger.verdicts, len(self.ledger) - len(rows)):
            cure = "history.revise(history.indices, -1), before going on"
            warnings.warn(say_doubt(len(self.ledger), cure), UserWarning, stacklevel=4)
        self.teach(rows, verdicts)

    def teach(self, rows: list[int], verdicts: list[int]) -> None:
        """Teach a round; doubts of the detector are told by the search, with its own cure."""
        with _muted(DOUBT) if min(verdicts) > 0 else nullcontext():
            self.detector.teach(rows, verdicts)

    def explain(self, row: int, value) -> str:
        """Say what is wrong with an answer, and with those before it."""
        message = (
            f"The oracle's verdict on row {row} is {value!r:.60}, but must be -1 for an anomaly or +1 for "
            "a normal row. Where the expert cannot tell, +1 can be revised later. Answers of 1 for an "
            "anomaly and 0 for a normal row are turned by np.where(answers == 1, -1, 1)."
        )
        # All that was ever answered, or else by this oracle.
        start = self.n_before if self.ledger.n_found else 0
        if not is_zero(value) or min(self.ledger.verdicts[start:], default=-1) < 0:
            return message
        path = self.session.path
        kept = "error.history" if path is None else f"AuditHistory.load({str(path)!r})"
        rows = self.ledger.indices[start:]
        return message + misread(rows, f"history = {kept}.revise({rows}, -1), before going on")

    def identical_rows(self) -> IdenticalRows:
        """Rows that have one verdict, if the detector knows of any."""
        find = getattr(self.detector, "_identical", None)
        if find is None:
            return IdenticalRows.none(self.ledger.n_rows)
        return find(self.detector._pool.rows)

    def copies_of(self, row: int) -> list[dict]:
        """Record of the rows for which the verdict on one holds, too; none if there are none."""
        ledger, others = self.ledger, self.identical.others(row)
        copies = [
            other
            for other in others[self.known[others] == 0].tolist()
            if not ledger.has_verdict(other) and other not in ledger.copies
        ]
        return [{"copies": copies, "of": row}] if copies else []

    def show(self, n: int) -> None:
        """Move the progress bar."""
        self.bar.set_postfix({"anomalies": self.ledger.n_found}, refresh=False)
        self.bar.update(n)


def _read_answer(
    answer, rows: list[int], explain: Callable[[int, object], str]
) -> Iterator[tuple[list[int], list[int]]]:
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
        yield rows, [_verdict(row, value, explain) for row, value in zip(rows, answer, strict=True)]
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
        yield [row], [_verdict(row, value, explain)]


def _verdict(row: int, value, explain: Callable[[int, object], str]) -> int:
    try:
        if np.ndim(value) == 0:
            return int(check_verdicts([row], [value], row + 1)[1][0])
    except (TypeError, ValueError):
        pass
    raise ValueError(explain(row, value))


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
        past = tuple(history._records())
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
    with _muted(""):
        return read_labels(y, np.empty(n_rows))


@contextmanager
def _muted(message: str) -> Iterator[None]:
    """Leave out the warnings that begin with a message."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message)
        yield
