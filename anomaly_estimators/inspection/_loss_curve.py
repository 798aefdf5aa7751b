"""How the training loss, and each of its terms, fell over the epochs."""

from collections.abc import Mapping
from numbers import Real

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ._plotting import import_pyplot, last_step

# A curve that falls by more than this factor is flat on a linear axis for most of its length.
_WIDE_RANGE = 20.0


class LossCurveDisplay:
    """Training loss over the epochs.

    Use :meth:`from_estimator` or :meth:`from_predictions` to create one.

    Parameters
    ----------
    curves : dict of str to array-like of shape (n_epochs,)
        Loss after each epoch, one curve for each name.
    name : str, default=None
        Name of the detector, used as the title.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the curves.
    figure_ : matplotlib Figure
        Figure that holds the axes.
    lines_ : dict of str to matplotlib Line2D
        The curves, by name.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from anomaly_estimators.inspection import LossCurveDisplay
    >>> display = LossCurveDisplay.from_predictions({"loss": [9.0, 4.0, 2.5, 2.1]})
    >>> display.lines_["loss"].get_xdata()
    array([1, 2, 3, 4])
    >>> plt.show()  # doctest: +SKIP
    """

    def __init__(self, curves, *, name=None):
        self.curves = curves
        self.name = name

    def plot(self, ax=None, *, scale="auto", name=None, **kwargs):
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.
        scale : {"auto", "linear", "log"}, default="auto"
            Vertical axis. "auto" is logarithmic where all values are positive and spread over
            more than a factor of twenty.
        name : str, default=None
            Title, in place of the one given on construction.
        **kwargs : dict
            Keyword arguments for :meth:`matplotlib.axes.Axes.plot`.

        Returns
        -------
        display : LossCurveDisplay
            This object.
        """
        plt = import_pyplot(type(self).__name__)
        if scale not in ("auto", "linear", "log"):
            raise ValueError(f"scale must be 'auto', 'linear' or 'log', got {scale!r}.")
        curves = {key: np.asarray(values, dtype=float) for key, values in self.curves.items()}
        if not curves:
            raise ValueError("There is no curve to draw.")
        if ax is None:
            _, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")

        self.lines_ = {}
        for key, values in curves.items():
            epochs = np.arange(1, values.size + 1)
            style = {"linewidth": 1.6, "label": key, **kwargs}
            if values.size == 1:
                style.setdefault("marker", "o")  # a line through one point is invisible
            (self.lines_[key],) = ax.plot(epochs, values, **style)

        if scale == "auto":
            scale = "log" if _spans_decades(np.concatenate(list(curves.values()))) else "linear"
        ax.set_yscale(scale)
        ax.set_xlabel("epoch")
        ax.set_ylabel("loss")
        if len(curves) > 1:
            ax.legend(frameon=False)
        name = self.name if name is None else name
        if name is not None:
            ax.set_title(name)

        self.ax_ = ax
        self.figure_ = ax.figure
        return self

    @classmethod
    def from_estimator(cls, estimator, *, terms=None, name=None, ax=None, **kwargs):
        """Draw what a fitted estimator noted while it was trained.

        Parameters
        ----------
        estimator : object
            Fitted estimator with `history_` (the terms of the loss, epoch by epoch) or
            `loss_curve_` (the loss alone, as scikit-learn's own networks have it), or a pipeline
            that ends in one.
        terms : list of str, default=None
            Names of the curves to draw, such as ``["train_loss", "valid_loss"]`` after early
            stopping. None draws the training loss alone.
        name : str, default=None
            Title. None takes the name of the estimator's class.
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.
        **kwargs : dict
            Keyword arguments for :meth:`plot`.

        Returns
        -------
        display : LossCurveDisplay
            The display, drawn.
        """
        import_pyplot(cls.__name__)
        estimator = last_step(estimator)
        check_is_fitted(estimator)
        curves = _read_curves(estimator, terms)
        name = type(estimator).__name__ if name is None else name
        return cls.from_predictions(curves, name=name, ax=ax, **kwargs)

    @classmethod
    def from_predictions(cls, curves, *, name=None, ax=None, **kwargs):
        """Draw curves that are at hand.

        Parameters
        ----------
        curves : dict of str to array-like of shape (n_epochs,)
            Loss after each epoch, one curve for each name.
        name : str, default=None
            Title.
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.
        **kwargs : dict
            Keyword arguments for :meth:`plot`.

        Returns
        -------
        display : LossCurveDisplay
            The display, drawn.
        """
        return cls(curves, name=name).plot(ax=ax, **kwargs)


def _read_curves(estimator, terms):
    if terms is None and hasattr(estimator, "loss_curve_"):
        return {"loss": estimator.loss_curve_}
    if not hasattr(estimator, "history_"):
        raise AttributeError(
            f"{type(estimator).__name__} has neither `history_` nor `loss_curve_`: "
            "it keeps no record of its training."
        )
    curves = _columns(estimator.history_)
    if terms is None:
        return curves
    missing = [term for term in terms if term not in curves]
    if missing:
        raise ValueError(f"No curve is called {missing}; there are {sorted(curves)}.")
    return {term: curves[term] for term in terms}


def _columns(history):
    """Turn a record, by column or one mapping an epoch, into named curves of numbers.

    Phases need not note the same things: an epoch without an entry becomes a gap in the curve.
    """
    if not isinstance(history, Mapping):
        keys = dict.fromkeys(key for epoch in history for key in epoch)
        history = {key: [epoch.get(key, np.nan) for epoch in history] for key in keys}
    return {key: values for key, values in history.items() if _is_curve(values)}


def _is_curve(values):
    return all(isinstance(value, Real) and not isinstance(value, bool) for value in values)


def _spans_decades(values):
    values = values[np.isfinite(values)]
    return values.size > 0 and values.min() > 0 and values.max() > _WIDE_RANGE * values.min()
