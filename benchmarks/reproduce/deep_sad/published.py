"""The figures that the paper reports."""

import csv
from functools import cache
from pathlib import Path

__all__ = ["paper_auc"]

# Datasets, as the paper's tables call them.
_TITLES = {"mnist": "MNIST", "fashion_mnist": "F-MNIST", "cifar10": "CIFAR-10"}


@cache
def _figures() -> dict[tuple[str, str, str, str], tuple[str, str]]:
    path = Path(__file__).with_name("published.csv")
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line[0] != "#"]
    return {
        (row["table"], row["dataset"], row["setting"], row["method"]): (row["mean"], row["sd"])
        for row in csv.DictReader(lines)
    }


def paper_auc(table: int, dataset: str, setting: str, method: str) -> dict[str, str]:
    """Mean and standard deviation in the paper, as columns of a result row; none if it has none.

    A variant of a method, named after a comma, stands beside the figure of the method.

    Examples
    --------
    >>> paper_auc(6, "cardio", "", "Deep SVDD, soft-boundary 0.1")
    {'paper_roc_auc': '0.848', 'paper_sd': '0.036'}
    """
    key = (str(table), _TITLES.get(dataset, dataset), setting, method.partition(",")[0])
    if key not in _figures():
        return {}
    mean, sd = _figures()[key]
    return {"paper_roc_auc": mean, "paper_sd": sd}
