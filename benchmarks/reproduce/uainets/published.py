"""The figures that the paper reports."""

import csv
from functools import cache
from pathlib import Path

__all__ = ["paper_f1"]


@cache
def _figures() -> dict[tuple[str, str], tuple[str, str]]:
    path = Path(__file__).with_name("published.csv")
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line[0] != "#"]
    return {
        (row["dataset"], row["method"]): (row["f1"], row["sd"]) for row in csv.DictReader(lines)
    }


def paper_f1(dataset: str, method: str) -> dict[str, str]:
    """Mean F1 and its standard deviation in the paper, as columns of a result row; none if it has none.

    A variant of a method, named after a comma, stands beside the figure of the method.

    Examples
    --------
    >>> paper_f1("thyroid", "DAE_uai, defaults")
    {'paper_f1': '0.57', 'paper_sd': '0.0582'}
    """
    key = (dataset, method.partition(",")[0])
    if key not in _figures():
        return {}
    f1, sd = _figures()[key]
    return {"paper_f1": f1, "paper_sd": sd}
