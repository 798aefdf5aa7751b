"""The figures that the paper reports."""

import csv
from functools import cache
from pathlib import Path

__all__ = ["paper_figures"]


@cache
def _figures() -> dict[tuple[str, str, str], dict[str, str]]:
    path = Path(__file__).with_name("published.csv")
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line[0] != "#"]
    return {(row["dataset"], row["class"], row["method"]): row for row in csv.DictReader(lines)}


def paper_figures(dataset: str, anomaly: int | str, method: str) -> dict[str, str]:
    """What the paper reports: its area under the ROC curve, and its best beta and alpha if it has them.

    Parameters
    ----------
    dataset : str
    anomaly : int or "avg"
        The class that is the anomaly.
    method : str

    Returns
    -------
    dict
        Empty where the paper has no such figure.

    Examples
    --------
    >>> paper_figures("mnist", 9, "AnoDM, means")
    {'roc_auc': '0.928', 'beta': '0.4', 'alpha': '0.8'}
    """
    row = _figures().get((dataset, str(anomaly), method))
    return {} if row is None else {name: row[name] for name in ("roc_auc", "beta", "alpha")}
