"""Table 4: the anomalies that DAGMM finds and PAE-GMM does not, and the other way round."""

import numpy as np

from benchmarks.reproduce.dagmm.outcomes import outcome
from benchmarks.reproduce.dagmm.problems import Problem
from benchmarks.reproduce.dagmm.published import TABLE_4
from benchmarks.reproduce.runner import ResultFile

__all__ = ["PAIR", "found_by", "write_table"]

#: Trained jointly, and in two steps.
PAIR = ("DAGMM", "PAE-GMM")


def flag(scores: np.ndarray, ratio: float) -> np.ndarray:
    """Flag the share of the rows with the lowest scores; of equal ones the first."""
    flagged = np.zeros(len(scores), dtype=bool)
    flagged[np.argsort(scores, kind="stable")[: round(ratio * len(scores))]] = True
    return flagged


def found_by(problem: Problem) -> dict[str, np.ndarray]:
    """Tell, for each test row, whether it is an anomaly that both, one or none of the two find.

    Returns
    -------
    dict of str to ndarray of bool of shape (n_test,)
    """
    anomalies = problem.y_test < 0
    first, second = (
        flag(outcome(problem, name).scores[name], problem.ratio) & anomalies for name in PAIR
    )
    return {
        "both": first & second,
        f"{PAIR[0]} only": first & ~second,
        f"{PAIR[1]} only": second & ~first,
        "neither": anomalies & ~first & ~second,
    }


def write_table(problem: Problem, folder, made: str) -> None:
    """Write the result file, anew."""
    groups = found_by(problem)
    n_found, n_published = sum(map(np.sum, groups.values())), sum(TABLE_4.values())
    file = ResultFile(
        "dagmm_table4",
        ["dataset", "seed", "found_by", "anomalies", "share", "paper_share"],
        [
            "Zong et al. (2018), table 4: who finds which anomalies, one run; shares of all anomalies.",
            made,
        ],
        folder,
    )
    file.path.unlink(missing_ok=True)
    file.append(
        {
            "dataset": problem.dataset,
            "seed": problem.seed,
            "found_by": name,
            "anomalies": int(group.sum()),
            "share": f"{group.sum() / n_found:.4f}",
            "paper_share": f"{TABLE_4[name] / n_published:.4f}",
        }
        for name, group in groups.items()
    )
