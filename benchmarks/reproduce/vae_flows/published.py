"""The figures that the paper reports."""

import csv
from functools import cache
from pathlib import Path

__all__ = ["paper_f1"]


@cache
def _figures() -> dict[str, tuple[str, str]]:
    path = Path(__file__).with_name("published.csv")
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line[0] != "#"]
    return {row["model"]: (row["f1"], row["sd"]) for row in csv.DictReader(lines)}


def paper_f1(model: str) -> dict[str, str]:
    """Mean F1 and its standard deviation in the paper, as columns of a result row; none if it has none.

    Examples
    --------
    >>> paper_f1("IAF 50")
    {'paper_f1': '0.911', 'paper_sd': '0.0121'}
    """
    if model not in _figures():
        return {}
    f1, sd = _figures()[model]
    return {"paper_f1": f1, "paper_sd": sd}
