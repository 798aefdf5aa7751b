"""Alpha and beta without a look at the labels of the class that is scored."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from benchmarks.reproduce.runner import ResultFile

__all__ = ["choices", "write_choices"]

_SETTING = ("dataset", "encoder", "epochs", "train_rows", "method", "seed")


def choices(rows: Iterable[Mapping[str, str]]) -> list[dict]:
    """For each class, the alpha and beta that are best on average over the other classes.

    Parameters
    ----------
    rows : iterable of dict
        Those of ``anodm_tables.csv``.

    Returns
    -------
    list of dict
        One a class of each setting with three classes or more: the area under the ROC curve with that
        choice, and with the best one by the labels of the class itself.

    Examples
    --------
    >>> setting = {"dataset": "mnist", "encoder": "conv", "epochs": "20", "train_rows": "all",
    ...            "method": "AnoDM, means", "seed": "0", "beta": "0.01"}
    >>> curves = {"0": "0:0.8 1:0.9", "1": "0:0.6 1:0.9", "2": "0:1.0 1:0.7"}
    >>> rows = [{**setting, "class": c, "curve": curve} for c, curve in curves.items()]
    >>> [(row["class"], row["alpha"], row["roc_auc"], row["best_roc_auc"]) for row in choices(rows)]
    [('0', '0', '0.8000', '0.9000'), ('1', '0', '0.6000', '0.9000'), ('2', '1', '0.7000', '1.0000')]
    """
    areas = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if row["curve"]:
            setting = tuple(row[name] for name in _SETTING)
            for pair in row["curve"].split():
                alpha, area = pair.split(":")
                areas[setting][row["class"]][row["beta"], alpha] = float(area)
    chosen = []
    for setting, by_class in areas.items():
        # A choice must have been tried on every class.
        common = set.intersection(*(set(tried) for tried in by_class.values()))
        if len(by_class) < 3 or not common:
            continue
        for anomaly, own in by_class.items():
            others = [tried for name, tried in by_class.items() if name != anomaly]
            candidates = sorted(common, key=lambda pair: tuple(map(float, pair)))
            best = max(candidates, key=lambda pair: sum(tried[pair] for tried in others))
            chosen.append(
                {
                    **dict(zip(_SETTING, setting, strict=True)),
                    "class": anomaly,
                    "beta": best[0],
                    "alpha": best[1],
                    "roc_auc": f"{own[best]:.4f}",
                    "best_roc_auc": f"{max(own[pair] for pair in common):.4f}",
                }
            )
    return chosen


def write_choices(tables: ResultFile, file: ResultFile) -> None:
    """Make the file anew from what the tables hold."""
    file.path.unlink(missing_ok=True)
    found = choices(tables.rows())
    if found:
        file.append(found)
