"""What the methods make of the normal rows: how well they rebuild them, and what eq 7 thinks of it."""

from benchmarks.reproduce.dagmm.jobs import ONLY_ON
from benchmarks.reproduce.dagmm.outcomes import outcome
from benchmarks.reproduce.dagmm.problems import Problem
from benchmarks.reproduce.dagmm.settings import MIXTURE
from benchmarks.reproduce.runner import ResultFile

__all__ = ["METHODS", "write_table"]

#: Those with an autoencoder of their own; in the others it is PAE's.
METHODS = ("E2E-AE", "PAE", "DCN", "DAGMM-p", "DAGMM-NVI", "DAGMM", "DAGMM, lambda2 = 0.0001")
_VARIANCES = ("code_variance", "distance_variance", "similarity_variance")


def describe(problem: Problem, method: str) -> dict[str, str]:
    """Variances of the code and of the two reconstruction features, the penalty, and the errors."""
    found, normal = outcome(problem, method), problem.y_test > 0
    *codes, distance, similarity = found.z[normal].var(axis=0, dtype=float)
    row = dict(zip(_VARIANCES, (min(codes), distance, similarity), strict=True))
    # The third term of eq 7 for one component that has all normal rows; more components are narrower.
    row["penalty"] = MIXTURE["lambda2"] * sum(1 / v for v in (*codes, distance, similarity))
    row["error_normal"] = found.errors[normal].mean()
    row["error_anomalies"] = found.errors[~normal].mean()
    return {name: f"{value:.5g}" for name, value in row.items()}


def write_table(datasets, folder, made: str, max_iter: int | None = None) -> None:
    """Write the result file, anew."""
    columns = [
        "dataset",
        "method",
        "seed",
        *_VARIANCES,
        "penalty",
        "error_normal",
        "error_anomalies",
    ]
    comments = [
        "The space of z that the methods of table 2 learn: variances over normal test rows (of the code, "
        f"the smallest), what the third term of eq 7 with lambda2 = {MIXTURE['lambda2']} is for one "
        "component that has "
        "all of them, and the mean squared reconstruction errors. One run.",
        made,
    ]
    file = ResultFile("dagmm_spaces", columns, comments, folder)
    rows = [
        {"dataset": name, "method": method, "seed": 0, **described}
        for name in datasets
        for method in METHODS
        if name in ONLY_ON.get(method, datasets)
        for described in [describe(Problem(name, 0, max_iter=max_iter), method)]
    ]
    file.path.unlink(missing_ok=True)
    file.append(rows)
