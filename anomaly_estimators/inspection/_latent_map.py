"""The rows in the low-dimensional space that a detector learned."""

from itertools import combinations

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array

from ._plotting import Group, import_pyplot, last_step, split_by_label

# More columns make more panels than a page can hold; `features` chooses others.
_MAX_PANEL_FEATURES = 4


class LatentMapDisplay:
    """Scatter plot of rows in a learned space, coloured by kind of row.

    For :class:`~anomaly_estimators.DAGMM` the space holds the code and the reconstruction
    features, as in figure 3 of its paper. Use :meth:`from_estimator` or :meth:`from_predictions`
    to create a display.

    Parameters
    ----------
    Z : ndarray of shape (n_samples, n_dimensions)
        Rows in the learned space.
    y : array-like of shape (n_samples,), default=None
        +1 for normal rows, -1 for anomalies, 0 for unlabelled rows, read by sign. None draws all
        rows as one group.
    feature_names : list of str, default=None
        Names of the columns of `Z`.
    name : str, default=None
        Name of the detector, used as the title.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the map: the first panel where there are several.
    axes_ : list of matplotlib Axes
        All panels.
    figure_ : matplotlib Figure
        Figure that holds the panels.
    points_ : dict of str to list of matplotlib collections
        The points of each group, one collection a panel, by the group's name.

    See Also
    --------
    ScoreDistributionDisplay : Scores by kind of row, with the threshold.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from anomaly_estimators.inspection import LatentMapDisplay
    >>> rng = np.random.default_rng(0)
    >>> Z = np.r_[rng.normal(size=(95, 3)), rng.normal(loc=4, size=(5, 3))]
    >>> y = np.r_[np.ones(95), -np.ones(5)]
    >>> display = LatentMapDisplay.from_predictions(Z, y, kind="pairs")
    >>> len(display.axes_)
    3
    >>> plt.show()  # doctest: +SKIP
    """

    def __init__(self, Z, *, y=None, feature_names=None, name=None):
        self.Z = Z
        self.y = y
        self.feature_names = feature_names
        self.name = name

    def plot(
        self,
        ax=None,
        *,
        kind="pairs",
        features=None,
        max_points=5000,
        random_state=0,
        name=None,
        **kwargs,
    ):
        """Draw the map.

        Parameters
        ----------
        ax : matplotlib Axes or list of Axes, default=None
            Where to draw: an axes with a 3-D projection for ``kind="3d"``, and one axes for each
            pair of columns for ``kind="pairs"``. A single axes is divided into as many panels as
            there are pairs. None makes a new figure.
        kind : {"pairs", "3d"}, default="pairs"
            One flat panel for each pair of columns, or a single picture of three columns.
        features : list of str or int, default=None
            Columns to draw, by name or position. None takes the first four for "pairs", and the
            first three for "3d".
        max_points : int, default=5000
            Largest number of points to draw; rows are drawn at random from each group where there
            are more. Each group keeps its share, and a rare one at least a tenth of the points or
            all of its rows.
        random_state : int, RandomState instance or None, default=0
            Decides which rows are drawn.
        name : str, default=None
            Title, in place of the one given on construction.
        **kwargs : dict
            Keyword arguments for :meth:`matplotlib.axes.Axes.scatter`.

        Returns
        -------
        display : LatentMapDisplay
            This object.
        """
        plt = import_pyplot(type(self).__name__)
        if kind not in ("pairs", "3d"):
            raise ValueError(f"kind must be 'pairs' or '3d', got {kind!r}.")
        Z = check_array(self.Z, dtype=np.float64, ensure_min_features=2)
        names = _check_names(self.feature_names, Z.shape[1])
        columns = _choose_columns(features, names, kind)
        groups = split_by_label(self.y, len(Z))
        shown = _thin_out(groups, max_points, check_random_state(random_state))

        if kind == "3d":
            panels = [tuple(columns)]
            axes = [_axes_3d(plt, ax)]
        else:
            panels = list(combinations(columns, 2))
            axes = _axes_pairs(plt, ax, len(panels))

        self.points_ = {group.name: [] for group in groups}
        for order, (whole, group) in enumerate(zip(groups, shown, strict=True)):
            style = {
                "s": 12 if group.name == "anomaly" else 8,
                "color": group.color,
                "alpha": 0.8 if group.name == "anomaly" else 0.35,
                "linewidths": 0,
                "zorder": 2 + order,
                "label": _count(group, whole),
                **kwargs,
            }
            for panel, axis in zip(panels, axes, strict=True):
                points = axis.scatter(*(Z[group.rows, column] for column in panel), **style)
                self.points_[group.name].append(points)
        for panel, axis in zip(panels, axes, strict=True):
            for letter, column in zip("xyz", panel, strict=False):
                getattr(axis, f"set_{letter}label")(names[column])

        legend = axes[0].legend(framealpha=0.85, edgecolor="none", markerscale=1.8)
        for handle in legend.legend_handles:
            handle.set_alpha(1.0)
        name = self.name if name is None else name
        if name is not None:
            axes[0].set_title(name)

        self.axes_ = axes
        self.ax_ = axes[0]
        self.figure_ = axes[0].figure
        return self

    @classmethod
    def from_estimator(
        cls, estimator, X, y=None, *, feature_names=None, name=None, ax=None, **kwargs
    ):
        """Map the rows with a fitted estimator and draw the result.

        Parameters
        ----------
        estimator : object
            Fitted estimator with `transform`, or a pipeline of such.
        X : array-like of shape (n_samples, n_features)
            Rows to map.
        y : array-like of shape (n_samples,), default=None
            +1 for normal rows, -1 for anomalies, 0 for unlabelled rows.
        feature_names : list of str, default=None
            Names of the axes. None takes those of ``get_feature_names_out``.
        name : str, default=None
            Title. None takes the name of the estimator's class.
        ax : matplotlib Axes or list of Axes, default=None
            Where to draw, see :meth:`plot`.
        **kwargs : dict
            Keyword arguments for :meth:`plot`.

        Returns
        -------
        display : LatentMapDisplay
            The display, drawn.
        """
        import_pyplot(cls.__name__)
        Z = np.asarray(estimator.transform(X))
        if feature_names is None and hasattr(estimator, "get_feature_names_out"):
            feature_names = list(estimator.get_feature_names_out())
        name = type(last_step(estimator)).__name__ if name is None else name
        return cls.from_predictions(Z, y, feature_names=feature_names, name=name, ax=ax, **kwargs)

    @classmethod
    def from_predictions(cls, Z, y=None, *, feature_names=None, name=None, ax=None, **kwargs):
        """Draw rows that are mapped already.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_dimensions)
            Rows in the learned space.
        y : array-like of shape (n_samples,), default=None
            +1 for normal rows, -1 for anomalies, 0 for unlabelled rows.
        feature_names : list of str, default=None
            Names of the columns of `Z`.
        name : str, default=None
            Title.
        ax : matplotlib Axes or list of Axes, default=None
            Where to draw, see :meth:`plot`.
        **kwargs : dict
            Keyword arguments for :meth:`plot`.

        Returns
        -------
        display : LatentMapDisplay
            The display, drawn.
        """
        return cls(Z, y=y, feature_names=feature_names, name=name).plot(ax=ax, **kwargs)


def _check_names(names, n_dimensions):
    if names is None:
        return [f"z{i}" for i in range(n_dimensions)]
    if len(names) != n_dimensions:
        raise ValueError(f"{len(names)} feature_names for {n_dimensions} columns.")
    return [str(name) for name in names]


def _choose_columns(features, names, kind):
    if features is None:
        columns = list(range(len(names)))[: 3 if kind == "3d" else _MAX_PANEL_FEATURES]
    else:
        unknown = [f for f in features if isinstance(f, str) and f not in names]
        if unknown:
            raise ValueError(f"No column is called {unknown}; there are {names}.")
        columns = [names.index(f) if isinstance(f, str) else range(len(names))[f] for f in features]
    if kind == "3d" and len(columns) != 3:
        raise ValueError(f"kind='3d' draws three columns, got {len(columns)}.")
    if len(columns) < 2:
        raise ValueError(f"kind='pairs' draws two columns or more, got {len(columns)}.")
    return columns


def _thin_out(groups, max_points, rng):
    """Draw rows from each group where there are more than can be shown."""
    n_samples = sum(group.rows.size for group in groups)
    if n_samples <= max_points:
        return groups
    thinned = []
    for group in groups:
        share = max(round(max_points * group.rows.size / n_samples), max_points // 10, 1)
        rows = rng.choice(group.rows, size=min(share, group.rows.size), replace=False)
        thinned.append(Group(group.name, group.color, np.sort(rows)))
    # The floor for rare groups is paid for by the largest one.
    largest = max(range(len(thinned)), key=lambda i: thinned[i].rows.size)
    excess = sum(group.rows.size for group in thinned) - max_points
    if excess > 0:
        group = thinned[largest]
        rows = rng.choice(group.rows, size=max(group.rows.size - excess, 1), replace=False)
        thinned[largest] = Group(group.name, group.color, np.sort(rows))
    return thinned


def _count(shown, whole):
    if shown.rows.size == whole.rows.size:
        return f"{whole.name} ({whole.rows.size:,})"
    return f"{whole.name} ({shown.rows.size:,} of {whole.rows.size:,})"


def _axes_3d(plt, ax):
    if ax is None:
        figure = plt.figure(figsize=(6, 5.4), layout="constrained")
        ax = figure.add_subplot(projection="3d")
        ax.set_box_aspect(None, zoom=0.82)  # no layout engine leaves room for the vertical label
        ax.computed_zorder = False  # else depth decides, and rare rows drown in the cloud
        return ax
    if getattr(ax, "name", None) != "3d":
        raise ValueError("kind='3d' needs an axes made with projection='3d'.")
    return ax


def _axes_pairs(plt, ax, n_panels):
    if ax is None:
        n_columns = min(n_panels, 3)
        n_rows = -(-n_panels // n_columns)
        figure, axes = plt.subplots(
            n_rows,
            n_columns,
            figsize=(3.8 * n_columns, 3.4 * n_rows),
            squeeze=False,
            layout="constrained",
        )
        axes = list(axes.flat)
        for spare in axes[n_panels:]:
            figure.delaxes(spare)
        return axes[:n_panels]
    if hasattr(ax, "scatter"):
        if n_panels == 1:
            return [ax]
        # One axes for several panels: they take its place, as scikit-learn's own displays do.
        ax.set_axis_off()
        grid = ax.get_subplotspec().subgridspec(1, n_panels)
        return [ax.figure.add_subplot(grid[0, i]) for i in range(n_panels)]
    axes = list(np.ravel(ax))
    if len(axes) != n_panels:
        raise ValueError(f"{n_panels} pairs of columns need as many axes, got {len(axes)}.")
    return axes
