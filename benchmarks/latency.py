"""Latency of scoring one row, at float64 and at float32, beside scikit-learn's detectors.

``python -m benchmarks.latency`` fits detectors at their default networks on the breast cancer set, a few
epochs each, and times ``score_samples`` of one row after the other. Detectors and precisions take turns, a
few calls each, over many rounds: what else the machine does meets all alike. It prints a table and writes
``benchmarks/results/latency.csv``.
"""

import argparse
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor

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
    Autoencoder,
    DeepSAD,
    DeepSVDD,
    DenoisingAutoencoder,
    __version__,
)
from benchmarks.reproduce.runner import RESULTS, ResultFile

# Training has no part in the latency.
BRIEF = {"max_iter": 2, "device": "cpu", "random_state": 0}
DETECTORS = {
    "Autoencoder": Autoencoder(**BRIEF),
    "Autoencoder, 2048 wide": Autoencoder(hidden_layer_sizes=(2048, 2048), **BRIEF),
    "DenoisingAutoencoder": DenoisingAutoencoder(**BRIEF),
    "DCN": DCN(**BRIEF),
    "DSEBM": DSEBM(**BRIEF),
    "DSEBM, reconstruction": DSEBM(anomaly_score="reconstruction", **BRIEF),
    "DAGMM": DAGMM(**BRIEF),
    "DeepSVDD": DeepSVDD(pretrain_max_iter=2, **BRIEF),
    "DeepSAD": DeepSAD(pretrain_max_iter=2, **BRIEF),
    "VAE": VAE(**BRIEF),
    "SSDGM": SSDGM(**BRIEF),
    "SSAD": SSAD(),
    "KDE": KDE(random_state=0),
    "GMM": GMM(random_state=0),
    "LODA": LODA(random_state=0),
    "IsolationForest (scikit-learn)": IsolationForest(random_state=0),
    "LocalOutlierFactor (scikit-learn)": LocalOutlierFactor(novelty=True),
}
DTYPES = ("float64", "float32")
COLUMNS = ["detector", "dtype", "p50_us", "p99_us", "ratio"]
# Calls of one detector in a turn, the first of which meets another's data in the caches and is not
# counted.
_TURN = 5


def scorers(X: np.ndarray, names) -> dict[tuple[str, str], Callable]:
    """Fit the detectors in each precision; what is to be timed, by detector and precision."""
    labels = np.zeros(len(X))
    labels[::20] = -1
    found = {}
    for name in names:
        for dtype in DTYPES:
            rows = X.astype(dtype)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found[name, dtype] = clone(DETECTORS[name]).fit(rows, labels).score_samples
    return found


def measure(functions: dict[tuple[str, str], Callable], X: np.ndarray, n_calls: int, n_warm: int):
    """Microseconds of each call, by detector and precision."""
    rows = {dtype: X.astype(dtype) for dtype in DTYPES}
    microseconds = defaultdict(list)
    n_rounds = -(-n_calls // (_TURN - 1))
    for turn in range(-n_warm, n_rounds):
        for key, score in functions.items():
            table = rows[key[1]]
            for call in range(_TURN):
                i = (turn * _TURN + call) % len(table)
                row = table[i : i + 1]
                started = time.perf_counter_ns()
                score(row)
                passed = time.perf_counter_ns() - started
                if turn >= 0 and call:
                    microseconds[key].append(passed / 1e3)
    return microseconds


def table_of(microseconds) -> list[dict]:
    """Percentiles, and the ratio of the medians: float64 over float32."""
    medians = {key: np.median(times) for key, times in microseconds.items()}
    return [
        {
            "detector": name,
            "dtype": dtype,
            "p50_us": f"{medians[name, dtype]:.0f}",
            "p99_us": f"{np.percentile(times, 99):.0f}",
            "ratio": f"{medians[name, 'float64'] / medians[name, 'float32']:.2f}",
        }
        for (name, dtype), times in microseconds.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__)
    parser.add_argument("--calls", type=int, default=1_000, help="of each (default: 1000)")
    parser.add_argument("--warm-up", type=int, default=20, help="rounds that are not counted")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default: 1)")
    parser.add_argument("--detectors", nargs="+", default=list(DETECTORS), choices=list(DETECTORS))
    parser.add_argument("--results", default=RESULTS, type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    X, _ = load_breast_cancer(return_X_y=True)
    functions = scorers(X, arguments.detectors)
    results = table_of(measure(functions, X, arguments.calls, arguments.warm_up))
    for row in results:
        print(
            "  ".join(
                f"{value:>{width}}"
                for value, width in zip(row.values(), (34, 8, 7, 7, 6), strict=True)
            )
        )
    file = ResultFile(
        "latency",
        COLUMNS,
        [
            f"Microseconds of score_samples of one row of breast cancer ({X.shape[1]} features): the "
            f"median and the 99th percentile of {arguments.calls:,} calls, {arguments.threads} thread(s).",
            "Detectors at their defaults, fitted briefly on rows of the same type; they and the types take "
            "turns. ratio: the median at float64 over that at float32.",
            f"Made by: python -m benchmarks.latency --calls {arguments.calls} "
            f"--threads {arguments.threads} (version {__version__}).",
        ],
        arguments.results,
    )
    # Times of one run only are compared.
    file.path.unlink(missing_ok=True)
    file.append(results)


if __name__ == "__main__":
    main()
