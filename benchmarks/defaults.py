"""Detectors at their defaults, over many real data sets at once.

``python -m benchmarks.defaults`` fits every detector on all rows of a set, anomalies among them and no
label used, and ranks the same rows (protocol "contaminated"); on the normal rows of one half, to rank
the other half ("clean"); and on three fifths of the rows, of whose anomalies a tenth are labelled, to rank
the other rows ("labelled"): those that learn from labels see these. Rows are standardised for the detectors
that do not do so themselves. It writes ``benchmarks/results/defaults.csv``, one row a run, goes on where it
was stopped, and prints the mean over the sets. ``--variant "DAGMM: latent_dim=4, max_iter=200"`` adds a
detector with other parameters.
"""

import argparse
import ast
import re
import time
import warnings
from collections import defaultdict
from functools import cache, partial
from pathlib import Path
from statistics import mean

import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import train_test_split
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM
from sklearn.utils import check_random_state

from anomaly_estimators import (
    DAGMM,
    DCN,
    DSEBM,
    GMM,
    KDE,
    LODA,
    SSAD,
    SSDGM,
    VAE,
    AnoDM,
    Autoencoder,
    DeepClassifier,
    DeepSAD,
    DeepSVDD,
    DenoisingAutoencoder,
)
from anomaly_estimators.datasets import fetch_kddcup99, fetch_odds
from anomaly_estimators.datasets.protocols import one_class_split
from benchmarks.reproduce.runner import RESULTS, Job, ResultFile, made_by, run_jobs


def breast_cancer(random_state: int):
    """The benign rows of scikit-learn's set with a tenth of malignant ones."""
    X, y = load_breast_cancer(return_X_y=True)
    benign, malignant = np.flatnonzero(y == 1), np.flatnonzero(y == 0)
    drawn = check_random_state(random_state).choice(malignant, len(benign) // 9, replace=False)
    rows = np.concatenate([benign, drawn])
    return X[rows], np.where(y[rows] == 1, 1, -1)


def odds(random_state: int, name: str):
    return fetch_odds(name, return_X_y=True)


DATASETS = {
    "breast_cancer": breast_cancer,
    **{
        name: partial(odds, name=name)
        for name in (
            "arrhythmia",
            "cardio",
            "cover",
            "mammography",
            "satellite",
            "satimage-2",
            "shuttle",
            "thyroid",
        )
    },
    "kddcup99-rev": lambda random_state: fetch_kddcup99(
        variant="reversed", return_X_y=True, random_state=random_state
    ),
}
DETECTORS = {
    "DAGMM": DAGMM(),
    "Autoencoder": Autoencoder(),
    "DenoisingAutoencoder": DenoisingAutoencoder(),
    "DCN": DCN(),
    "DSEBM": DSEBM(),
    "DSEBM, reconstruction": DSEBM(anomaly_score="reconstruction"),
    "DeepSVDD": DeepSVDD(),
    "DeepSAD": DeepSAD(),
    "SSAD": make_pipeline(StandardScaler(), SSAD()),
    "SSDGM": SSDGM(),
    "VAE": VAE(),
    "VAE, elbo": VAE(anomaly_score="elbo"),
    "AnoDM": AnoDM(),
    "DeepClassifier": DeepClassifier(),
    "KDE": KDE(),
    "GMM": GMM(),
    "LODA": LODA(),
    "IsolationForest": IsolationForest(),
    "OneClassSVM": make_pipeline(StandardScaler(), OneClassSVM()),
    "LocalOutlierFactor": make_pipeline(StandardScaler(), LocalOutlierFactor(novelty=True)),
    "GaussianMixture": make_pipeline(StandardScaler(), GaussianMixture(4, reg_covar=1e-3)),
}
# Without labels they have nothing to learn, or are another detector's equal.
NEED_LABELS = ("DeepSAD", "SSDGM", "DeepClassifier")
PROTOCOLS = ("contaminated", "clean", "labelled")


def split(X, y, protocol: str, seed: int):
    """Training rows, what is revealed of them, and test rows with the truth."""
    if protocol == "contaminated":
        return X, np.zeros(len(y)), X, y
    if protocol == "clean":
        X_train, X_test, _, y_test = one_class_split(X, y, random_state=seed)
        return X_train, np.zeros(len(X_train)), X_test, y_test
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, train_size=0.6, stratify=y, random_state=seed
    )
    anomalies = np.flatnonzero(y_train < 0)
    revealed = np.zeros(len(y_train))
    revealed[anomalies[: max(2, len(anomalies) // 10)]] = -1
    return X_train, revealed, X_test, y_test


@cache
def load(name: str, seed: int, max_rows: int):
    """A set, thinned to what the slowest detector bears: OC-SVM and LOF are quadratic."""
    X, y = DATASETS[name](random_state=seed)
    if len(X) > max_rows:
        rows = np.random.default_rng(seed).choice(len(X), max_rows, replace=False)
        X, y = X[rows], y[rows]
    return np.asarray(X, dtype=np.float64), y


def run(detector, method, dataset, protocol, seed, max_rows) -> list[dict]:
    """Fit once and rank."""
    import torch

    torch.set_num_threads(1)
    X, y = load(dataset, seed, max_rows)
    X_train, revealed, X_test, y_test = split(X, y, protocol, seed)
    detector = clone(detector)
    seeds = {k: seed for k in detector.get_params() if k.split("__")[-1] == "random_state"}
    detector.set_params(**seeds)
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = detector.fit(X_train, revealed).score_samples(X_test)
    figures = {
        "roc_auc": roc_auc_score(y_test, scores),
        "average_precision": average_precision_score(y_test < 0, -scores),
        "fit_seconds": time.perf_counter() - started,
    }
    return [{"method": method, **{k: f"{v:.4f}" for k, v in figures.items()}}]


def variant(text: str) -> tuple[str, object]:
    """Read ``"DAGMM: latent_dim=4, max_iter=200"``."""
    name, _, settings = text.partition(":")
    parameters = {
        match[1]: ast.literal_eval(match[2])
        for match in re.finditer(r"(\w+)=(\([^)]*\)|[^,]+)", settings)
    }
    return text, clone(DETECTORS[name.strip()]).set_params(**parameters)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.defaults", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--datasets", nargs="+", default=list(DATASETS), choices=list(DATASETS))
    parser.add_argument("--detectors", nargs="*", default=list(DETECTORS), choices=list(DETECTORS))
    parser.add_argument("--protocols", nargs="+", default=list(PROTOCOLS), choices=PROTOCOLS)
    parser.add_argument("--variant", nargs="+", action="extend", default=[])
    parser.add_argument("--max-rows", type=int, default=20_000, help="of a set, drawn at random")
    parser.add_argument("--results", default=RESULTS, type=Path)
    arguments = parser.parse_args()
    if arguments.variant and arguments.results == RESULTS:
        parser.error("--variant is for trying out: name another folder by --results")
    columns = [
        "protocol",
        "dataset",
        "method",
        "seed",
        "roc_auc",
        "average_precision",
        "fit_seconds",
    ]
    file = ResultFile(
        "defaults",
        columns,
        [
            "Detectors at their defaults on real data sets. Under the protocol labelled, a tenth of the "
            "anomalies in training are labelled; under the others none.",
            f"At most {arguments.max_rows} rows of a set, drawn by the seed.",
            made_by(parser, arguments),
        ],
        arguments.results,
    )
    detectors = {name: DETECTORS[name] for name in arguments.detectors}
    detectors |= dict(map(variant, arguments.variant))
    jobs = [
        Job(
            table="defaults",
            key={"protocol": protocol, "dataset": dataset},
            seed=seed,
            function=run,
            arguments={
                "detector": detector,
                "method": method,
                "dataset": dataset,
                "protocol": protocol,
                "seed": seed,
                "max_rows": arguments.max_rows,
            },
            methods=(method,),
        )
        for seed in range(arguments.runs)
        for method, detector in detectors.items()
        for protocol in arguments.protocols
        if protocol == "labelled" or method.partition(":")[0] not in NEED_LABELS
        for dataset in arguments.datasets
    ]
    run_jobs(jobs, {"defaults": file}, arguments.jobs)
    summary = defaultdict(lambda: defaultdict(list))
    for row in file.rows():
        for measure in ("roc_auc", "average_precision", "fit_seconds"):
            summary[row["protocol"], row["method"]][measure].append(float(row[measure]))
    print(
        f"{'protocol':14}{'ROC AUC':>9}{'AP':>8}{'seconds':>9}  detector, mean over sets and seeds"
    )
    for (protocol, method), figures in sorted(
        summary.items(), key=lambda item: (item[0][0], -mean(item[1]["roc_auc"]))
    ):
        auc, ap, seconds = (mean(values) for values in figures.values())
        print(f"{protocol:14}{auc:9.4f}{ap:8.4f}{seconds:9.2f}  {method}")


if __name__ == "__main__":
    main()
