"""The runs behind table 1 and the figures, and the files that they fill."""

from collections.abc import Sequence

from benchmarks.reproduce.runner import Job, ResultFile
from benchmarks.reproduce.uainets.audits import (
    audit,
    audited_share,
    rows_a_round,
    semi_supervised_f1,
)
from benchmarks.reproduce.uainets.methods import TABULAR
from benchmarks.reproduce.uainets.novelty import recall_by_budget
from benchmarks.reproduce.uainets.problems import (
    IMAGES,
    OTHERS,
    TABLES,
    image_problem,
    is_there,
    table_problem,
)
from benchmarks.reproduce.uainets.published import paper_f1

__all__ = ["DATASETS", "PARTS", "jobs", "result_files"]

DATASETS = (*TABLES, *OTHERS, *IMAGES)
PARTS = ("table1", "others", "noise", "figure3", "figure4")
_NOISES = (0.0, 0.05, 0.1, 0.2)
# Methods that bear an expert's errors, and the order in which the figures show them.
_ACTIVE = ("DAE_uai", "DAE_uai, auto", "DAE_uai, defaults", "LODA-AAD", "Tree-AAD")
_ON_IMAGES = ("DAE", "DAE_uai", "Class", "Class_uai")
_NOVELTY = ("DAE", "DAE_uai", "LODA-AAD")
_POINTS = 50


def run_table(
    dataset: str, method: str, seed: int, k: int | None, noise: float | None = None
) -> list[dict]:
    """Table 1: an audit whose budget is the number of anomalies."""
    problem = table_problem(dataset, seed)
    row = {"method": method, "k": "", "curve": ""}
    if noise is None:
        row |= paper_f1(dataset, method)
    if method == "DAGMM (clean)":
        f1, seconds = semi_supervised_f1(method, problem, seed)
    else:
        budget = problem.n_anomalies
        k = rows_a_round(problem) if k is None else k
        found, seconds = audit(method, problem, seed, budget, k, noise or 0.0)
        # As many rows are audited as there are anomalies: precision, recall and F1 are one.
        f1 = found[-1] / budget
        row |= {"k": k, "curve": audited_share(found, budget, _POINTS)}
    return [{**row, "f1": f"{f1:.4f}", "seconds": f"{seconds:.1f}"}]


def run_images(dataset: str, method: str, seed: int, k: int, budget: int) -> list[dict]:
    """Figures 3 and 7: the found-curve."""
    problem = image_problem(dataset, seed)
    found, seconds = audit(method, problem, seed, budget, k)
    return [
        {
            "method": method,
            "k": k,
            "n_anomalies": problem.n_anomalies,
            "found": int(found[-1]),
            "curve": audited_share(found, budget, _POINTS),
            "seconds": f"{seconds:.1f}",
        }
    ]


def jobs(
    parts: Sequence[str],
    datasets: Sequence[str],
    methods: Sequence[str],
    n_runs: int,
    k: int | None,
    budget: int,
) -> list[Job]:
    """All runs, seed by seed, so that every cell has some early."""
    listed = []
    tables = [name for name in TABLES if name in datasets and is_there(name)]
    images = [name for name in IMAGES if name in datasets]
    for seed in range(n_runs):
        for dataset in tables if "table1" in parts else ():
            for method in TABULAR:
                arguments = {"dataset": dataset, "k": k}
                listed.append(
                    _job("table1", {"dataset": dataset}, method, seed, run_table, arguments)
                )
        for dataset in OTHERS if "others" in parts else ():
            for method in ("DAE", *_ACTIVE) if dataset in datasets else ():
                arguments = {"dataset": dataset, "k": k}
                listed.append(
                    _job("others", {"dataset": dataset}, method, seed, run_table, arguments)
                )
        for dataset in tables if "noise" in parts else ():
            for noise in _NOISES:
                for method in _ACTIVE:
                    key = {"dataset": dataset, "noise": f"{noise:g}"}
                    arguments = {"dataset": dataset, "k": k, "noise": noise}
                    listed.append(_job("noise", key, method, seed, run_table, arguments))
        for dataset in images if "figure3" in parts else ():
            for method in _ON_IMAGES:
                key = {"dataset": dataset, "budget": str(budget)}
                arguments = {"dataset": dataset, "k": k or 10, "budget": budget}
                listed.append(_job("figure3", key, method, seed, run_images, arguments))
        if "figure4" in parts and "kddcup_rev" in datasets:
            for method in _NOVELTY:
                key = {"dataset": "kddcup_rev"}
                listed.append(_job("figure4", key, method, seed, recall_by_budget, {"k": k or 10}))
    return [job for job in listed if job.methods[0] in methods]


def _job(table: str, key: dict, method: str, seed: int, function, arguments: dict) -> Job:
    return Job(
        table=f"uainets_{table}",
        key=key,
        seed=seed,
        function=function,
        arguments={**arguments, "method": method, "seed": seed},
        methods=(method,),
    )


def result_files(folder, made: str) -> dict[str, ResultFile]:
    """Return the files, with their headings."""
    paper = "UaiNets (Pimentel et al. 2018), {}."
    rounds = (
        "k: rows in a round; the paper's are 10, or 3 below 100 anomalies. With more, as the large sets "
        "need here, the cold start takes the paper's number of rows, and a round has up to three "
        "times its steps."
    )
    curve = "curve: anomalies found after so many audited rows, as rows:found."
    gaps = (
        "covtype has 10 features in the place of 54 (the ODDS copy). Where the publisher's file of "
        "creditcard is missing, its cells are."
    )
    variants = (
        "After a comma: auto is cold_start='auto', defaults is UAI() as it comes, margin 0 the papers' "
        "objective. DAE is one setting, where the paper shows the best of several by the test labels. "
        "seconds: without the first training of the networks that DAE and DAE_uai share."
    )
    figures = ["f1", "paper_f1", "paper_sd", "seconds", "curve"]
    described = {
        "table1": (
            ["dataset", "method", "k", "seed", *figures],
            "table 1",
            [rounds, gaps, variants],
        ),
        "others": (
            ["dataset", "method", "k", "seed", "f1", "seconds", "curve"],
            "the experiment of table 1 on tables that the paper has not",
            [variants],
        ),
        "noise": (
            ["dataset", "noise", "method", "k", "seed", "f1", "seconds", "curve"],
            "table 1 with an expert who errs on a share of the rows",
            [rounds, variants],
        ),
        "figure3": (
            [
                "dataset",
                "method",
                "k",
                "budget",
                "seed",
                "n_anomalies",
                "found",
                "seconds",
                "curve",
            ],
            "figures 3 and 7",
            [variants],
        ),
        "figure4": (
            ["dataset", "method", "k", "seed", "budget", "found", "seen", "unseen"],
            "figure 4: recall on KDDCUP-Rev's test set of attacks of types seen in training, and unseen",
            [],
        ),
    }
    return {
        f"uainets_{part}": ResultFile(
            f"uainets_{part}",
            columns,
            [paper.format(title), *comments, *([curve] if "curve" in columns else []),
             made],
            folder,
        )
        for part, (columns, title, comments) in described.items()
    }  # fmt: skip
