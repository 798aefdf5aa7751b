"""How many anomalies an expert has found with which budget."""

from collections.abc import Mapping

import numpy as np

from ..active.history import AuditHistory
from ._plotting import import_pyplot

# Curves whose names find room inside the axes.
_INSIDE = 4


class FoundCurveDisplay:
    """Anomalies found against the rows judged: figure 3 of [1]_.

    Use :meth:`from_histories`, :meth:`from_history` or :meth:`from_predictions` to create one.

    Parameters
    ----------
    curves : dict of str to list of ndarray
        For each name, the number of anomalies found after each row judged: one array a run. Several
        runs, of several seeds, are drawn as their median with a band from the least to the most, as
        far as all of them go.
    n_anomalies : int, default=None
        Number of anomalies in the table, for the line of a perfect order. None draws none.
    n_rows : int, default=None
        Number of rows in the table, for the line of a random order. None draws none.
    name : str, default=None
        Title.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the curves.
    figure_ : matplotlib Figure
        Figure that holds the axes.
    lines_ : dict of str to matplotlib Line2D
        The curves, by name.
    bands_ : dict of str to matplotlib artist
        The bands of those with several runs, by name.
    references_ : dict of str to matplotlib Line2D
        The lines of a "perfect" and of a "random" order, if they were drawn.

    See Also
    --------
    anomaly_estimators.active_search : Search with an expert.
    anomaly_estimators.AuditHistory : What a search has found.

    References
    ----------
    .. [1] Pimentel et al., "UaiNets: From Unsupervised to Active Deep Anomaly Detection", 2018.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from sklearn.ensemble import IsolationForest
    >>> from anomaly_estimators.inspection import FoundCurveDisplay
    >>> rng = np.random.default_rng(0)
    >>> X = np.r_[rng.normal(size=(190, 2)), rng.uniform(2, 4, size=(10, 2))]
    >>> y_true = np.r_[np.ones(190), -np.ones(10)]
    >>> scores = IsolationForest(random_state=0).fit(X).score_samples(X)
    >>> display = FoundCurveDisplay.from_predictions(y_true, scores, budget=50)
    >>> plt.show()  # doctest: +SKIP
    """

    def __init__(self, curves, *, n_anomalies=None, n_rows=None, name=None):
        self.curves = curves
        self.n_anomalies = n_anomalies
        self.n_rows = n_rows
        self.name = name

    def plot(self, ax=None, *, budget=None, references=True, name=None, **kwargs):
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.
        budget : int, default=None
            Number of rows up to which the curves are drawn. None draws all of them.
        references : bool, default=True
            Whether to draw what a perfect and a random order would find, if it is known.
        name : str, default=None
            Title, in place of the one given on construction.
        **kwargs : dict
            Keyword arguments for :meth:`matplotlib.axes.Axes.plot`.

        Returns
        -------
        display : FoundCurveDisplay
            This object.
        """
        plt = import_pyplot(type(self).__name__)
        runs = {key: _stack(key, curve, budget) for key, curve in self.curves.items()}
        if not runs:
            raise ValueError("There is no curve to draw: pass at least one history.")
        if ax is None:
            width = 6.4 if len(runs) <= _INSIDE else 8.0
            _, ax = plt.subplots(figsize=(width, 3.6), layout="constrained")
            ax.locator_params(integer=True)

        self.lines_, self.bands_ = {}, {}
        for key, found in runs.items():
            judged = np.arange(found.shape[1])
            style = {"linewidth": 1.6, "label": key, **kwargs}
            (line,) = ax.plot(judged, np.median(found, axis=0), **style)
            self.lines_[key] = line
            if len(found) > 1:
                self.bands_[key] = ax.fill_between(
                    judged,
                    found.min(axis=0),
                    found.max(axis=0),
                    color=line.get_color(),
                    alpha=0.2,
                    linewidth=0,
                )
        longest = max(found.shape[1] for found in runs.values())
        self.references_ = self._draw_references(ax, np.arange(longest)) if references else {}

        ax.set_xlabel("rows judged")
        ax.set_ylabel("anomalies found")
        ax.margins(x=0.01)
        ax.set_ylim(bottom=0)
        if len(self.lines_) + len(self.references_) > 1:
            # Many names would cover the curves: they stand beside the axes then.
            many = len(self.lines_) > _INSIDE
            beside = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)} if many else {}
            ax.legend(framealpha=0.85, edgecolor="none", **beside)
        name = self.name if name is None else name
        if name is not None:
            ax.set_title(name)

        self.ax_ = ax
        self.figure_ = ax.figure
        return self

    def _draw_references(self, ax, judged):
        if self.n_anomalies is None:
            return {}
        found = {"perfect": np.minimum(judged, self.n_anomalies)}
        if self.n_rows is not None:
            found["random"] = judged * (self.n_anomalies / self.n_rows)
        looks = {"perfect": "--", "random": ":"}
        return {
            key: ax.plot(
                judged,
                values,
                color="0.45",
                linestyle=looks[key],
                linewidth=1.2,
                zorder=1,
                label=key,
            )[0]
            for key, values in found.items()
        }

    @classmethod
    def from_history(
        cls, history, *, n_anomalies=None, n_rows=None, label="found", name=None, ax=None, **kwargs
    ):
        """Draw one history.

        Parameters
        ----------
        history : AuditHistory
            What was found.
        n_anomalies : int, default=None
            Number of anomalies in the table. None takes that of a history of all rows.
        n_rows : int, default=None
            Number of rows in the table. None takes that of the history.
        label : str, default="found"
            Name of the curve.
        name : str, default=None
            Title.
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.
        **kwargs : dict
            Keyword arguments for :meth:`plot`.

        Returns
        -------
        display : FoundCurveDisplay
            The display, drawn.
        """
        return cls.from_histories(
            {label: history}, n_anomalies=n_anomalies, n_rows=n_rows, name=name, ax=ax, **kwargs
        )

    @classmethod
    def from_histories(
        cls, histories, *, n_anomalies=None, n_rows=None, name=None, ax=None, **kwargs
    ):
        """Draw several histories beside one another.

        Parameters
        ----------
        histories : dict of str to AuditHistory or list of AuditHistory
            What was found, by the names of the curves; a list holds runs with several seeds.
        n_anomalies : int, default=None
            Number of anomalies in the table. None takes that of the histories of all rows, if there
            are any and they agree.
        n_rows : int, default=None
            Number of rows in the table. None takes that of the histories, if they agree.
        name : str, default=None
            Title.
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.
        **kwargs : dict
            Keyword arguments for :meth:`plot`.

        Returns
        -------
        display : FoundCurveDisplay
            The display, drawn.

        Examples
        --------
        >>> from anomaly_estimators import AuditHistory
        >>> from anomaly_estimators.inspection import FoundCurveDisplay
        >>> rounds = [1, 1, 2, 2]
        >>> histories = {
        ...     "with feedback": [
        ...         AuditHistory([3, 1, 0, 2], [-1, 1, -1, -1], rounds),
        ...         AuditHistory([1, 3, 2, 0], [1, -1, -1, -1], rounds),
        ...     ],
        ...     "without": AuditHistory([1, 3, 4, 2], [1, -1, 1, -1], rounds),
        ... }
        >>> display = FoundCurveDisplay.from_histories(histories, n_anomalies=3)
        >>> display.lines_["with feedback"].get_ydata()
        array([0. , 0.5, 1. , 2. , 3. ])
        """
        import_pyplot(cls.__name__)
        if not isinstance(histories, Mapping):
            raise TypeError(
                f"histories must be a dict of names to histories, got {type(histories).__name__}: a "
                "single one is drawn by from_history."
            )
        runs = {
            key: [value] if isinstance(value, AuditHistory) else list(value)
            for key, value in histories.items()
        }
        every = [history for values in runs.values() for history in values]
        if n_rows is None:
            n_rows = _agreed(history.n_rows for history in every)
        if n_anomalies is None:
            whole = [history for history in every if len(history) == history.n_rows]
            n_anomalies = _agreed(history.found_at(len(history)) for history in whole)
        curves = {key: [history.n_found for history in values] for key, values in runs.items()}
        display = cls(curves, n_anomalies=n_anomalies, n_rows=n_rows, name=name)
        return display.plot(ax=ax, **kwargs)

    @classmethod
    def from_predictions(cls, y_true, scores, *, label="found", name=None, ax=None, **kwargs):
        """Draw what an expert would find in the order of fixed scores.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            The truth, read by sign: -1 for anomalies, +1 for normal rows. Rows of 0 are left out.
        scores : array-like of shape (n_samples,)
            What ``score_samples`` returns: the lower, the more abnormal.
        label : str, default="found"
            Name of the curve.
        name : str, default=None
            Title.
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.
        **kwargs : dict
            Keyword arguments for :meth:`plot`.

        Returns
        -------
        display : FoundCurveDisplay
            The display, drawn.
        """
        history = AuditHistory.from_scores(scores, y_true)
        return cls.from_history(
            history,
            n_anomalies=history.found_at(len(history)),
            n_rows=len(history),
            label=label,
            name=name,
            ax=ax,
            **kwargs,
        )


def _stack(name, curves, budget):
    """Turn the runs of a curve into an array of shape (n_runs, n_judged + 1), from no row on."""
    curves = [np.asarray(curve, dtype=float) for curve in curves]
    if not curves:
        raise ValueError(f"There is no run of {name!r}: pass at least one history.")
    length = min(len(curve) for curve in curves)
    if budget is not None:
        length = min(length, budget)
    return np.stack([np.append(0.0, curve[:length]) for curve in curves])


def _agreed(values):
    """The one value that all have; None if there is none."""
    values = set(values)
    return values.pop() if len(values) == 1 else None
