"""Counts of the outcomes, by detector and by axis."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable

from benchmarks.hostile.cases import AXES
from benchmarks.hostile.trials import OUTCOMES

__all__ = ["COLUMNS", "counts", "kinds"]

# name of a count: the outcomes that it is of
COUNTS = {
    "succeeded": ("sound",),
    "clear_errors": ("clear error",),
    "silent_failures": ("silent failure",),
    "unclear_errors": ("unclear error",),
    "crashes_and_hangs": ("crash", "hang"),
}
COLUMNS = ["axis", "value", "fits", *COUNTS]


def counts(rows: Iterable[dict]) -> list[dict]:
    """Count the outcomes of all cases, and of those with each value of each axis.

    Parameters
    ----------
    rows : iterable of dict
        A case each, with its axes and its outcome.

    Examples
    --------
    >>> case = dict.fromkeys(AXES, "x") | {"outcome": "sound"}
    >>> counts([case, case | {"outcome": "hang"}])[0]["crashes_and_hangs"]
    1
    """
    rows = list(rows)
    found = defaultdict(Counter)
    for row in rows:
        found["all", ""][row["outcome"]] += 1
        for axis in AXES:
            found[axis, row[axis]][row["outcome"]] += 1
    order = {"all": -1, **{axis: i for i, axis in enumerate(AXES)}}
    table = []
    for (axis, value), outcomes in sorted(
        found.items(), key=lambda it: (order[it[0][0]], _natural(it[0][1]))
    ):
        assert outcomes.keys() <= set(OUTCOMES), outcomes
        named = {name: sum(outcomes[o] for o in of) for name, of in COUNTS.items()}
        table.append({"axis": axis, "value": value, "fits": outcomes.total(), **named})
    return table


def kinds(rows: Iterable[dict], outcome: str) -> list[tuple[str, list[dict]]]:
    """Group the cases of an outcome by what is said of them, the largest group first.

    A silent failure is in the group of each property that does not hold. Clear errors are left out
    where no sense can be made of the case.
    """
    groups = defaultdict(list)
    for row in rows:
        if row["outcome"] != outcome or (outcome == "clear error" and row["refused"] == "True"):
            continue
        if outcome == "silent failure":
            names = row["broken"].split("; ")
        else:
            # Figures, quoted values and names of detectors make no kind of their own.
            text = row["message"].replace(row["detector"].partition(",")[0], "_")
            names = [re.sub(r"(?<![:\w])-?\d[\d.e+-]*|'[^']*'", "_", text)[:160]]
        for name in dict.fromkeys(names):
            groups[name].append(row)
    return sorted(groups.items(), key=lambda item: -len(item[1]))


def _natural(text: str) -> tuple:
    """Numbers by their size, before words."""
    try:
        return 0, float(text), ""
    except ValueError:
        return 1, 0.0, text
