"""Where a detector's scores lie, by kind of row, and where it draws the line."""

import numpy as np
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples, check_array

from ._plotting import import_pyplot, last_step, split_by_label

# The axis is bent once the tails reach this many times farther than the bulk of the rows.
_HEAVY_TAIL = 15.0
# Share of the height that bars and threshold take; the legend has the rest to itself.
_LEGEND_BOTTOM = 0.72


class ScoreDistributionDisplay:
    """Histogram of anomaly scores, one for each kind of row, with the detector's threshold.

    Use :meth:`from_estimator` or :meth:`from_predictions` to create one. The height of a bar is
    the share of *its own* group, so that a handful of anomalies stays visible beside thousands of
    normal rows; the legend gives the counts.

    Parameters
    ----------
    scores : ndarray of shape (n_samples,)
        Scores of the rows: the higher, the more normal.
    y : array-like of shape (n_samples,), default=None
        +1 for normal rows, -1 for anomalies, 0 for unlabelled rows, read by sign. None draws all
        rows as one group.
    threshold : float, default=None
        Rows that score below it are flagged. None draws no line.
    score_name : str, default="score"
        Name of the horizontal axis.
    name : str, default=None
        Name of the detector, used as the title.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the histogram.
    figure_ : matplotlib Figure
        Figure that holds the axes.
    bars_ : dict of str to matplotlib BarContainer or list of artists
        What was drawn for each group of rows, by the group's name.
    line_ : matplotlib Line2D or None
        The threshold.
    bin_edges_ : ndarray of shape (bins + 1,)
        Edges of the bins, common to all groups.

    See Also
    --------
    LatentMapDisplay : The rows in the space that a detector learned.

    Examples
    --------
    >>> import numpy as np
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.ensemble import IsolationForest
    >>> from anomaly_estimators.inspection import ScoreDistributionDisplay
    >>> rng = np.random.default_rng(0)
    >>> X = np.r_[rng.normal(size=(190, 2)), rng.uniform(4, 6, size=(10, 2))]
    >>> y = np.r_[np.ones(190), -np.ones(10)]
    >>> forest = IsolationForest(random_state=0).fit(X)
    >>> display = ScoreDistributionDisplay.from_estimator(forest, X, y)
    >>> plt.show()  # doctest: +SKIP
    """

    def __init__(self, scores, *, y=None, threshold=None, score_name="score", name=None):
        self.scores = scores
        self.y = y
        self.threshold = threshold
        self.score_name = score_name
        self.name = name

    def plot(self, ax=None, *, bins=40, scale="auto", name=None, **kwargs):
        """Draw the histograms.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.
        bins : int, default=40
            Number of bins, common to all groups.
        scale : {"auto", "linear", "asinh"}, default="auto"
            Horizontal axis. Deep detectors often give a few rows a score that is a thousand times
            larger than all others. "asinh" is linear around the bulk of the rows and logarithmic
            beyond, so that both stay legible; "auto" takes it for such heavy tails only.
        name : str, default=None
            Title, in place of the one given on construction.
        **kwargs : dict
            Keyword arguments for :meth:`matplotlib.axes.Axes.hist`.

        Returns
        -------
        display : ScoreDistributionDisplay
            This object.
        """
        plt = import_pyplot(type(self).__name__)
        if scale not in ("auto", "linear", "asinh"):
            raise ValueError(f"scale must be 'auto', 'linear' or 'asinh', got {scale!r}.")
        scores = check_array(self.scores, ensure_2d=False, dtype=np.float64)
        if ax is None:
            _, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")

        shown = scores if self.threshold is None else np.append(scores, self.threshold)
        if scale == "auto":
            scale = "asinh" if _is_heavy_tailed(scores) else "linear"
        if scale == "asinh":
            width = _linear_width(scores)
            edges = width * np.sinh(_even_edges(np.arcsinh(shown / width), bins))
            ax.set_xscale("asinh", linear_width=width)
            ax.set_xticks(_asinh_ticks(edges[0], edges[-1], width))
            ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            ax.xaxis.minorticks_off()
        else:
            edges = _even_edges(shown, bins)
            ax.locator_params(axis="x", nbins=6)

        self.bars_ = {}
        for group in split_by_label(self.y, scores.size):
            style = {
                "histtype": "stepfilled",
                "facecolor": (group.color, 0.35),
                "edgecolor": group.color,
                "linewidth": 1.4,
                **kwargs,
            }
            # Sinh and its inverse round: a row at the very edge must still fall into a bin.
            values = np.clip(scores[group.rows], edges[0], edges[-1])
            _, _, self.bars_[group.name] = ax.hist(
                values,
                bins=edges,
                weights=np.full(values.size, 1.0 / values.size),
                label=f"{group.name} ({values.size:,})",
                **style,
            )

        self.line_ = None
        if self.threshold is not None:
            n_flagged = int(np.sum(scores < self.threshold))
            self.line_ = ax.axvline(
                self.threshold,
                ymax=_LEGEND_BOTTOM,
                color="0.15",
                linestyle="--",
                linewidth=1.4,
                label=f"threshold ({n_flagged:,} of {scores.size:,} flagged)",
            )

        ax.set_xlabel(f"{self.score_name} (lower is more abnormal)")
        ax.set_ylabel("share of the group")
        ax.margins(x=0.01)
        ax.set_ylim(top=ax.get_ylim()[1] / _LEGEND_BOTTOM)
        ax.legend(loc="upper left", frameon=False)
        name = self.name if name is None else name
        if name is not None:
            ax.set_title(name)

        self.bin_edges_ = edges
        self.ax_ = ax
        self.figure_ = ax.figure
        return self

    @classmethod
    def from_estimator(
        cls, estimator, X, y=None, *, response_method="score_samples", name=None, ax=None, **kwargs
    ):
        """Score the rows with a fitted detector and draw the result.

        Parameters
        ----------
        estimator : object
            Fitted outlier detector, or a pipeline that ends in one.
        X : array-like of shape (n_samples, n_features)
            Rows to score.
        y : array-like of shape (n_samples,), default=None
            +1 for normal rows, -1 for anomalies, 0 for unlabelled rows.
        response_method : {"score_samples", "decision_function"}, default="score_samples"
            The raw scores, or the scores counted from the threshold.
        name : str, default=None
            Title. None takes the name of the detector's class.
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.
        **kwargs : dict
            Keyword arguments for :meth:`plot`.

        Returns
        -------
        display : ScoreDistributionDisplay
            The display, drawn.
        """
        import_pyplot(cls.__name__)
        if response_method not in ("score_samples", "decision_function"):
            raise ValueError(
                "response_method must be 'score_samples' or 'decision_function', "
                f"got {response_method!r}."
            )
        scores = np.asarray(getattr(estimator, response_method)(X), dtype=float)
        if response_method == "decision_function":
            threshold = 0.0
        else:
            threshold = _find_threshold(estimator, X)
        return cls.from_predictions(
            scores,
            y,
            threshold=threshold,
            score_name=response_method.replace("_", " "),
            name=type(last_step(estimator)).__name__ if name is None else name,
            ax=ax,
            **kwargs,
        )

    @classmethod
    def from_predictions(
        cls, scores, y=None, *, threshold=None, score_name="score", name=None, ax=None, **kwargs
    ):
        """Draw scores that are at hand.

        Parameters
        ----------
        scores : array-like of shape (n_samples,)
            Scores of the rows: the higher, the more normal.
        y : array-like of shape (n_samples,), default=None
            +1 for normal rows, -1 for anomalies, 0 for unlabelled rows.
        threshold : float, default=None
            Rows that score below it are flagged.
        score_name : str, default="score"
            Name of the horizontal axis.
        name : str, default=None
            Title.
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.
        **kwargs : dict
            Keyword arguments for :meth:`plot`.

        Returns
        -------
        display : ScoreDistributionDisplay
            The display, drawn.
        """
        display = cls(scores, y=y, threshold=threshold, score_name=score_name, name=name)
        return display.plot(ax=ax, **kwargs)


def _find_threshold(estimator, X):
    """Return the score below which the detector flags a row.

    By the contract of outlier detectors, the two responses differ by the threshold alone. Asking
    for their difference also works through pipelines and searches, which hide `offset_`.
    """
    few = _safe_indexing(X, np.arange(min(_num_samples(X), 8)))
    scores = np.asarray(estimator.score_samples(few), dtype=float)
    offsets = scores - np.asarray(estimator.decision_function(few), dtype=float)
    # Far rows lose the threshold to rounding: the row with the smallest score keeps it best.
    return float(offsets[np.argmin(np.abs(scores))])


def _is_heavy_tailed(scores):
    low, quarter, three_quarters, high = np.quantile(scores, [0, 0.25, 0.75, 1])
    bulk = three_quarters - quarter
    return bulk > 0 and high - low > _HEAVY_TAIL * bulk


def _linear_width(scores):
    """Half-width of the linear part of the axis: it covers the bulk of the rows around zero."""
    magnitude = np.quantile(np.abs(scores), 0.75)
    return float(magnitude) if magnitude > 0 else 1.0


def _asinh_ticks(low, high, width):
    """Zero, and round numbers in the logarithmic parts of the axis."""
    decades = 10.0 ** np.arange(np.floor(np.log10(width)), np.log10(max(-low, high, width)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5)):
        sizes = np.ravel(np.outer(decades, steps))
        sizes = sizes[sizes >= width]
        sizes = sizes[:: max(1, sizes.size // 5)]
        ticks = np.r_[-sizes[::-1], 0.0, sizes]
        ticks = ticks[(low <= ticks) & (ticks <= high)]
        if ticks.size > 3:
            break
    return ticks


def _even_edges(values, bins):
    low, high = values.min(), values.max()
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, bins + 1)
