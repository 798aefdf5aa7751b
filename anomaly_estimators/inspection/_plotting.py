"""What the Display classes share: matplotlib on demand, and the look of each kind of row."""

from typing import NamedTuple

import numpy as np

from ..labels import read_labels


class Group(NamedTuple):
    """One kind of row: its name, its colour and which rows belong to it."""

    name: str
    color: str
    rows: np.ndarray


def import_pyplot(caller):
    """Return ``matplotlib.pyplot``, or say which extra brings it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f"{caller} needs matplotlib, which the extra `plots` brings: "
            "pip install 'anomaly-estimators[plots]'"
        ) from error
    return plt


def last_step(estimator):
    """Return the estimator itself, or the one at the end of a pipeline."""
    steps = getattr(estimator, "steps", None)
    return steps[-1][1] if steps else estimator


def split_by_label(y, n_samples):
    """Split the rows by the sign of their label.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or None
        +1 for known normal rows, -1 for known anomalies, 0 for unlabelled rows. None means that
        nothing is known.
    n_samples : int
        Number of rows that `y` has to describe.

    Returns
    -------
    groups : list of Group
        The groups that have members. Anomalies come last, so that they are drawn on top.
    """
    if y is None:
        return [Group("all rows", "#4a4e69", np.arange(n_samples))]
    sign = read_labels(y, np.empty(n_samples))
    # Blue and orange stay apart for colour-blind readers, and in grey print.
    looks = [(0, "unlabelled", "#8d99ae"), (1, "normal", "#2f6fb0"), (-1, "anomaly", "#e4572e")]
    groups = [Group(name, color, np.flatnonzero(sign == s)) for s, name, color in looks]
    return [group for group in groups if group.rows.size]
