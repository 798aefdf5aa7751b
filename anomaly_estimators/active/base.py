"""The contract of every active detector: query, teach, and go on."""

import warnings
from numbers import Integral
from typing import NamedTuple

import numpy as np
from sklearn.utils._param_validation import (
    Interval,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils.validation import check_is_fitted

from anomaly_estimators.active.duplicates import IdenticalRows
from anomaly_estimators.active.verdicts import (
    check_verdicts,
    find_contradiction,
    is_in_doubt,
    say_doubt,
)
from anomaly_estimators.base import OutlierDetector, _unchanged_on_failure
from anomaly_estimators.fingerprint import data_fingerprint
from anomaly_estimators.labels import read_labels
from anomaly_estimators.settings import settings_of

__all__ = ["ActiveDetector"]


class Pool(NamedTuple):
    """The table under audit."""

    source: object  # what the user passed
    rows: np.ndarray  # (n, n_features), validated
    scores: np.ndarray  # (n,)


class ActiveDetector(OutlierDetector):
    """Base class of the detectors that learn from an expert, a few rows a round.

    ``fit`` takes the table to be audited, ``query`` hands over the rows to look at, ``teach`` learns
    from the verdicts. A subclass defines

    - ``_start(X, labels)``: the fit before the first round, with the labels that are known already;
    - ``_continue(X, labels, taught)``: learning from all labels known by now, of which the rows
      ``taught`` are news, at a cost that does not depend on the rounds before. What it changes it must
      replace, never alter in place: a round that fails is undone by putting the attributes back;
    - ``_anomaly_score(X)``, as every detector.

    Identical rows share what is known of them in ``labels``. Where each verdict is to count once, however
    many rows have it, ``_identical(X).one_of_each(labels)`` are the rows to learn from.

    Parameters
    ----------
    duplicates : {"once", "each"}, default="once"
        How identical rows are audited. "once" asks for one of them, whose verdict is learned once and
        holds for all. "each" takes every row on its own, as the experiments of the papers do; identical
        rows may have different verdicts then.

    Attributes
    ----------
    labels_ : ndarray of shape (n_samples,), dtype int8
        What is known of the rows of the table: +1 normal, -1 anomaly, 0 not audited yet. With
        ``duplicates="once"``, rows that are identical to a known one are known, too.
    n_rounds_ : int
        Number of rounds of teaching since ``fit``.
    """

    _parameter_constraints: dict = {
        **OutlierDetector._parameter_constraints,
        "duplicates": [StrOptions({"once", "each"})],
    }
    _uses_labels = True
    # Attributes that hold the table, or what is computed of it: they are in no pickle and no file.
    _table_attributes = frozenset({"_pool", "_identical_rows"})

    def __init__(self, *, duplicates="once", **inherited):
        super().__init__(**inherited)
        self.duplicates = duplicates

    def fit(self, X, y=None):
        """Fit the table that is to be audited.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The table, at least two rows.
        y : array-like of shape (n_samples,), default=None
            What is known already, read by sign: +1 normal, -1 anomaly, 0 not audited. ``None`` if
            nothing is. Where identical rows have different labels, both are kept, with a warning.

        Returns
        -------
        self : object
            The fitted estimator. If the fit fails, the estimator is left as it was.

        Raises
        ------
        ValueError
            If a parameter is impossible, if X has missing or infinite values or too few rows, or if
            all rows are labelled as anomalies.
        """
        with _unchanged_on_failure(self):
            self._forget_table()
            super().fit(X, y)
            self._pool = self._pool._replace(source=X)
        return self

    def partial_fit(self, X, y=None):
        """Go on learning from where the detector stands, by one round.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The table, which may have changed since ``fit``: from now on it is the one to be audited.
        y : array-like of shape (n_samples,), default=None
            All that is known of its rows by now, as in :meth:`fit`; it replaces what was known
            before. ``None`` keeps what is known of the same table, and nothing of another.

        Returns
        -------
        self : object
            If it was not fitted yet, as by :meth:`fit`. If learning fails, the estimator is left as it
            was.

        Raises
        ------
        ValueError
            As by :meth:`fit`, or if X has another number of features.
        """
        if "labels_" not in vars(self):
            return self.fit(X, y)
        with _unchanged_on_failure(self):
            self._validate_params()
            self._check_parameters()
            rows = self._validate_rows(X, reset=False)
            goes_on = y is None and self._is_audited(X, rows)
            # It may have changed in its place.
            self._forget_table()
            if goes_on:
                labels, taught = self.labels_, np.empty(0, dtype=np.intp)
            else:
                labels = read_labels(y, rows)
                self._check_labels(labels)
                labels = self._shared(rows, labels)
                taught = self._identical(rows).one_of_each(labels)
                self._answered = np.empty(0, dtype=np.int64)
            self._learn(X, rows, labels, taught)
        return self

    def query(self, X, k=10) -> np.ndarray:
        """Choose the rows to audit next: the most suspicious of those not audited yet.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The table of ``fit``, or of the last ``partial_fit``.
        k : int, default=10
            Number of rows.

        Returns
        -------
        ndarray of shape (at most k,), dtype int64
            Positions of rows in the table, the most suspicious first. Fewer than ``k`` if fewer are
            left, none once all rows are audited. No row comes again after its verdict was taught, and
            with ``duplicates="once"`` none that is identical to it, or to another of these.

        Raises
        ------
        ValueError
            If X is another table than the one under audit, or k is no positive number.
        """
        check_is_fitted(self)
        _check_k(k)
        pool = self._attach(X)
        candidates = self._identical(pool.rows).untouched(self.labels_)
        # Stable: rows with equal scores come in their order.
        return candidates[np.argsort(pool.scores[candidates], kind="stable")[:k]]

    def teach(self, indices, verdicts, *, revise=False):
        """Learn from the verdicts on some rows, by one round.

        Parameters
        ----------
        indices : array-like of int of shape (n,)
            Positions of rows in the table, which need not have been queried.
        verdicts : array-like of shape (n,)
            -1 for an anomaly, +1 for a normal row. With ``duplicates="once"`` they hold for all identical
            rows, and are learned as of one.
        revise : bool, default=False
            Whether these verdicts replace those that were given on the same rows before. Otherwise a
            verdict that contradicts an earlier one is an error.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If an index is none of the table's, an index comes twice, there are not as many verdicts
            as indices, a verdict is neither -1 nor +1, or a verdict contradicts an earlier one and
            ``revise`` is False, or one on an identical row. Nothing has changed then.

        Warns
        -----
        UserWarning
            If all verdicts of the first round are +1, once: where 1 stands for an anomaly, they are the
            wrong way round.
        """
        check_is_fitted(self)
        before = self._answered
        misread = before if (self.labels_[before] > 0).all() else ()
        indices, verdicts = check_verdicts(indices, verdicts, len(self.labels_), misread)
        if not revise:
            contradiction = find_contradiction(indices, verdicts, self.labels_)
            if contradiction is not None:
                hint = "" if np.isin(indices, before).all() else self._hint
                raise ValueError(f"{contradiction} To correct a verdict, pass revise=True.{hint}")
        pool = vars(self).get("_pool")
        if pool is None:
            raise ValueError(
                "The table under audit is not kept in files, pickles and copies: call query(X) or "
                "partial_fit(X, y) with it first."
            )
        if not len(indices):
            return self
        identical = self._identical(pool.rows)
        given = np.zeros_like(self.labels_)
        given[indices] = verdicts
        given, torn = identical.shared(given)
        if len(torn):
            rows = indices[identical.firsts[indices] == torn[0]]
            raise ValueError(
                f"Rows {_listed(rows)} are identical, and have different verdicts: give them the same."
                f"{self._hint}"
            )
        labels = np.where((given != 0) & (revise | (self.labels_ == 0)), given, self.labels_)
        self._check_labels(labels)
        answered = np.concatenate([before[~np.isin(before, indices)], indices])
        if is_in_doubt(labels[answered], len(before)):
            rows = answered.tolist()
            cure = f"detector.teach({rows}, {[-1] * len(rows)}, revise=True)"
            warnings.warn(say_doubt(len(rows), cure), UserWarning, stacklevel=2)
        with _unchanged_on_failure(self):
            self._answered = answered
            _, once = np.unique(identical.firsts[indices], return_index=True)
            self._learn(pool.source, pool.rows, labels, indices[np.sort(once)])
        return self

    # What a subclass defines

    def _start(self, X: np.ndarray, labels: np.ndarray) -> None:
        raise NotImplementedError

    def _continue(self, X: np.ndarray, labels: np.ndarray, taught: np.ndarray) -> None:
        raise NotImplementedError

    # What is shared

    def _forget_table(self) -> None:
        for name in self._table_attributes:
            vars(self).pop(name, None)

    def _identical(self, X: np.ndarray) -> IdenticalRows:
        """Rows that share their verdicts; found once for a table."""
        if self.duplicates == "each":
            return IdenticalRows.none(len(X))
        held = vars(self).get("_identical_rows")
        if held is None or held[0] is not X:
            held = self._identical_rows = (X, IdenticalRows.of(X))
        return held[1]

    def _shared(self, X: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Labels that were given, shared by identical rows."""
        identical = self._identical(X)
        labels, torn = identical.shared(labels)
        if len(torn):
            rows = np.flatnonzero((identical.firsts == torn[0]) & (labels != 0))
            warnings.warn(
                f"Identical rows have different labels in y, the rows {_listed(rows)} for one. They cannot "
                "be told apart: both labels are learned, and no row identical to these is asked for."
                f"{self._hint}",
                UserWarning,
                stacklevel=6,
            )
        return labels

    @property
    def _hint(self) -> str:
        if self.duplicates == "each":
            return ""
        return " Identical rows have one verdict; with duplicates='each' each has its own."

    def _fit(self, X: np.ndarray, labels: np.ndarray) -> None:
        self.n_rounds_ = 0
        # Rows that were taught, in their order.
        self._answered = np.empty(0, dtype=np.int64)
        labels = self._shared(X, labels)
        self._start(X, labels)
        self.labels_ = labels

    def _learn(self, source, X: np.ndarray, labels: np.ndarray, taught: np.ndarray) -> None:
        self._continue(X, labels, taught)
        self.labels_ = labels
        self.n_rounds_ = self.n_rounds_ + 1
        self._calibrate(X)
        self._pool = self._pool._replace(source=source)

    def _set_threshold(self, scores: np.ndarray, X: np.ndarray) -> None:
        super()._set_threshold(scores, X)
        self._settings = settings_of(self)
        before = vars(self).get("_pool")
        if before is None or before.rows is not X:
            self._fingerprint = data_fingerprint(X, X)
        # Kept, so that a round scores the table once.
        self._pool = Pool(None, X, scores)

    def _is_audited(self, X, rows: np.ndarray) -> bool:
        """Whether a table is the one under audit."""
        pool = vars(self).get("_pool")
        if pool is not None and (X is pool.source or rows is pool.rows):
            return True
        return len(rows) == len(self.labels_) and self._fingerprint == data_fingerprint(rows, rows)

    def _attach(self, X) -> Pool:
        """Return the pool, taken from X again where it was lost with a file."""
        pool = vars(self).get("_pool")
        if pool is not None and X is pool.source:
            return pool
        rows = self._validate_rows(X, reset=False)
        if not self._is_audited(X, rows):
            raise ValueError(
                "X is not the table under audit. Pass the table of fit; to go on with another one, call "
                "partial_fit(X, y) first, with y holding what is known of its rows (0 where nothing is)."
            )
        if pool is None:
            pool = Pool(X, rows, self._exact_scores(rows))
            self._pool = pool
        return pool

    def _set_fitted_state(self, state: dict) -> None:
        super()._set_fitted_state(state)
        labels, answered = self.labels_, self._answered
        if not (
            isinstance(labels, np.ndarray)
            and labels.dtype == np.int8
            and labels.ndim == 1
            and np.isin(labels, (-1, 0, 1)).all()
            and isinstance(answered, np.ndarray)
            and answered.dtype == np.int64
            and answered.ndim == 1
            and ((answered >= 0) & (answered < len(labels))).all()
            and isinstance(self.n_rounds_, int)
            and isinstance(self._fingerprint, str)
        ):
            raise ValueError("the audit in it is none")

    def __getstate__(self):
        state = super().__getstate__()
        return {name: value for name, value in state.items() if name not in self._table_attributes}

    def _get_fitted_state(self) -> dict:
        state = super()._get_fitted_state()
        return {name: value for name, value in state.items() if name not in self._table_attributes}


def _listed(rows: np.ndarray) -> str:
    """A few rows, for a message."""
    shown = ", ".join(map(str, rows[:5]))
    return f"{shown} and {len(rows) - 5} more" if len(rows) > 5 else shown


def _check_k(k) -> None:
    """Refuse what is no number of rows."""
    validate_parameter_constraints(
        {"k": [Interval(Integral, 1, None, closed="left")]}, {"k": k}, caller_name="query"
    )
