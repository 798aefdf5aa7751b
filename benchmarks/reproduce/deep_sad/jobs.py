"""The runs behind the tables, and the files that they fill."""

import time
from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import joblib

from anomaly_estimators.model_selection import ScenarioSetup, iter_setups
from benchmarks.reproduce.deep_sad.methods import (
    SEMI_SUPERVISED,
    TRAINING,
    UNSUPERVISED,
    Experiment,
    evaluate,
    evaluate_etas,
    fit_autoencoder,
)
from benchmarks.reproduce.deep_sad.problems import IMAGES, TABULAR, image_problem, tabular_problem
from benchmarks.reproduce.deep_sad.published import paper_auc
from benchmarks.reproduce.runner import Job, ResultFile

__all__ = ["DATASETS", "TABLES", "jobs", "result_files"]

DATASETS = (*TABULAR, *IMAGES)
ETAS = (0.01, 0.1, 1.0, 10.0, 100.0)
# What the scenarios vary, as the paper's tables write it, and what it is called there.
_SETTINGS = {
    "table3": ("gamma_l", (".05", ".00", ".01", ".10", ".20")),
    "table4": ("gamma_p", (".10", ".00", ".01", ".05", ".20")),
    "table5": ("k_l", ("1", "0", "2", "3", "5")),
}
# Autoencoders, which many runs share; to be deleted when the code that trains them changes.
_cache = joblib.Memory(Path(__file__).parents[2] / ".cache" / "deep_sad", verbose=0)
TABLES = ("table6", *_SETTINGS, "figure5")


def _scenario(table: str, setting: str) -> dict:
    """What a setting of a table asks of the scenario (section 4.2; 4.3 for figure 5)."""
    if table == "table3":
        return {"labelled_ratio": float(setting), "pollution": 0.0}
    if table == "table4":
        return {"labelled_ratio": 0.05, "pollution": float(setting)}
    return {"labelled_ratio": 0.05, "pollution": 0.1}


def run_tabular(dataset: str, seed: int, methods: Sequence[str], max_iter: int) -> list[dict]:
    """Table 6: one split of one data set."""
    experiment = Experiment(
        tabular_problem(dataset, seed),
        seed,
        max_iter,
        partial(_tabular_autoencoder, dataset, seed, max_iter),
    )
    return _rows(experiment, methods, (6, dataset, ""))


def run_images(
    table: str,
    dataset: str,
    setting: str,
    setup: ScenarioSetup,
    methods: Sequence[str],
    max_iter: int,
) -> list[dict]:
    """Tables 3 to 5: one setup of one scenario."""
    experiment = _image_experiment(dataset, setup, _scenario(table, setting), max_iter)
    return _rows(experiment, methods, (int(table[-1]), dataset, setting))


def run_etas(
    dataset: str, setup: ScenarioSetup, methods: Sequence[str], max_iter: int
) -> list[dict]:
    """Figure 5: Deep SAD over eta, from one autoencoder."""
    experiment = _image_experiment(dataset, setup, _scenario("figure5", ""), max_iter)
    return [
        {"eta": eta, "method": f"Deep SAD, eta {eta:g}", "roc_auc": f"{auc:.4f}"}
        for eta, auc in evaluate_etas(experiment, ETAS)
    ]


def _image_experiment(dataset: str, setup: ScenarioSetup, scenario: dict, max_iter: int):
    # Without pollution all setups of a normal class have the same unlabelled rows.
    seed = setup.random_state if scenario["pollution"] else setup.normal_class
    unlabelled = ScenarioSetup(setup.normal_class, (), seed)
    return Experiment(
        image_problem(dataset, setup, **scenario),
        setup.random_state,
        max_iter,
        partial(_image_autoencoder, dataset, unlabelled, scenario["pollution"], max_iter),
    )


@_cache.cache
def _tabular_autoencoder(dataset: str, seed: int, max_iter: int):
    return fit_autoencoder(tabular_problem(dataset, seed), seed, max_iter)


@_cache.cache
def _image_autoencoder(dataset: str, setup: ScenarioSetup, pollution: float, max_iter: int):
    problem = image_problem(dataset, setup, labelled_ratio=0.0, pollution=pollution)
    return fit_autoencoder(problem, setup.random_state, max_iter)


def _rows(experiment: Experiment, methods: Sequence[str], cell: tuple) -> list[dict]:
    rows = []
    for method in methods:
        started = time.perf_counter()
        auc = evaluate(experiment, method)
        rows.append(
            {
                "method": method,
                "roc_auc": f"{auc:.4f}",
                "seconds": f"{time.perf_counter() - started:.1f}",
                **paper_auc(*cell, method),
            }
        )
    return rows


def jobs(
    tables: Sequence[str],
    datasets: Sequence[str],
    n_runs: int,
    n_setups: int,
    methods: Sequence[str],
    max_iter: int = TRAINING["max_iter"],
) -> list[Job]:
    """All runs of the tables: seed by seed and setup by setup, so that every cell has some early."""
    listed = []
    tabular = [name for name in TABULAR if name in datasets]
    images = [name for name in IMAGES if name in datasets]
    unsupervised = tuple(name for name in UNSUPERVISED if name in methods)
    semi_supervised = tuple(name for name in SEMI_SUPERVISED if name in methods)
    if "table6" in tables:
        for seed in range(n_runs):
            for dataset in tabular:
                # In two jobs, so that little is lost with one that is killed.
                for group in (unsupervised, semi_supervised):
                    arguments = {"dataset": dataset, "seed": seed, "methods": group}
                    key = {"dataset": dataset}
                    listed.append(_job("table6", key, seed, run_tabular, arguments, max_iter))
    for table, (name, settings) in _SETTINGS.items():
        for setting in settings if table in tables else ():
            for dataset in images:
                for setup in islice(_setups(table, setting), n_setups):
                    group = _told_apart(table, setting, unsupervised, semi_supervised)
                    key = {"dataset": dataset, name: setting, **_classes(setup)}
                    arguments = {"table": table, "dataset": dataset, "setting": setting,
                                 "setup": setup, "methods": group}  # fmt: skip
                    seed = setup.random_state
                    listed.append(_job(table, key, seed, run_images, arguments, max_iter))
    if "figure5" in tables:
        for dataset in images:
            for setup in islice(_setups("figure5", ""), n_setups):
                arguments = {"dataset": dataset, "setup": setup,
                             "methods": tuple(f"Deep SAD, eta {eta:g}" for eta in ETAS)}  # fmt: skip
                key = {"dataset": dataset, **_classes(setup)}
                seed = setup.random_state
                listed.append(_job("figure5", key, seed, run_etas, arguments, max_iter))
    return [job for job in listed if job.methods]


def _setups(table: str, setting: str):
    if table == "table5":
        return iter_setups(range(10), scenario="iii", n_known_classes=int(setting))
    return iter_setups(range(10))


def _told_apart(table, setting, unsupervised, semi_supervised) -> tuple[str, ...]:
    """Methods whose figures differ from those of another cell of the table.

    Without labels the semi-supervised methods are their unsupervised counterparts; and what is
    varied beside the labels does not touch the unsupervised ones.
    """
    if table == "table4":
        return (*unsupervised, *semi_supervised)
    return unsupervised if float(setting) == 0 else semi_supervised


def _classes(setup: ScenarioSetup) -> dict:
    return {
        "normal_class": str(setup.normal_class),
        "known_classes": " ".join(map(str, setup.known_classes)),
    }


def _job(table, key, seed, function, arguments, max_iter) -> Job:
    return Job(
        table=f"deep_sad_{table}",
        key=key,
        seed=seed,
        function=function,
        arguments={**arguments, "max_iter": max_iter},
        methods=arguments["methods"],
    )


def result_files(folder, made: str) -> dict[str, ResultFile]:
    """Return the files of the tables, with their headings."""
    search = (
        "As in the paper, the kernel methods' parameters are those with the best AUC on a tenth of the "
        "test rows, an advantage that no other method has. They are compared after training on at "
        "most 2,000 unlabelled rows, and the best ones fitted on all; KDE keeps 2,000 rows."
    )
    cifar = (
        "cifar10 is a subset wherever the folder of data sets holds no more: 1,000 training images of "
        "a class, and the first 1,000 test images. Its figures are not those of full CIFAR-10."
    )
    variants = (
        "The paper reports the better variant of Deep SVDD and of SS-DGM, which are apart here."
    )
    results = ["seed", "roc_auc", "paper_roc_auc", "paper_sd", "seconds"]
    classes = ["normal_class", "known_classes"]
    described = {
        "table6": (
            ["dataset", "method", *results],
            [
                "Ruff et al. (2020), table 6: 60:40 splits, 1 % labelled anomalies, standardised.",
                search,
                variants,
            ],
        ),
        **{
            table: (
                ["dataset", name, "method", *classes, *results],
                [
                    f"Ruff et al. (2020), {table[:-1]} {table[-1]}: the scenario that varies {name}.",
                    search,
                    cifar,
                    variants,
                ],
            )
            for table, (name, _) in _SETTINGS.items()
        },
        "figure5": (
            ["dataset", "eta", "method", *classes, "seed", "roc_auc"],
            [
                "Ruff et al. (2020), figure 5: Deep SAD over eta, gamma_l = .05, gamma_p = .1, k_l = 1.",
                cifar,
            ],
        ),
    }
    return {
        f"deep_sad_{table}": ResultFile(f"deep_sad_{table}", columns, [*comments, made], folder)
        for table, (columns, comments) in described.items()
    }
