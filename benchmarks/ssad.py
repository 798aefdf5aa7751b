"""Time and memory of SSAD as the rows double, beside libsvm's one-class machine.

``python -m benchmarks.ssad`` fits standardised rows of the shuttle set, one per cent of them labelled as
anomalies, and writes ``benchmarks/results/ssad_scaling.csv``. Each figure comes from a process of its own.
The time is that of the processor, so that other work on the machine has little part in it. A run that was
stopped goes on where it was.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from anomaly_estimators.datasets import fetch_shuttle
from anomaly_estimators.one_class.ssad import SSAD
from benchmarks.reproduce.runner import RESULTS, ResultFile, made_by

SIZES = [1000 * 2**i for i in range(6)]
NU = 0.3
# name: detector, and whether it gets the labels
METHODS = {
    "OneClassSVM": (OneClassSVM(nu=NU), False),
    "SSAD without labels": (SSAD(nu=NU), False),
    "SSAD": (SSAD(nu=NU), True),
    "SSAD, hard margin": (SSAD(eta_u=1.0), True),
}
COLUMNS = ["rows", "method", "seconds", "ratio", "fit_mb", "support_vectors"]


def rows_and_labels(n: int):
    """Rows of the set, of which one per cent are labelled anomalies; a few more are not labelled."""
    X, y = fetch_shuttle(return_X_y=True)
    drawn = np.random.default_rng(0).choice(len(X), n, replace=False)
    X, y = StandardScaler().fit_transform(X[drawn]), y[drawn]
    labels = np.zeros(n)
    labels[np.flatnonzero(y < 0)[: n // 100]] = -1
    return X, labels


def measure(method: str, n: int, n_fits: int) -> dict:
    """Median time of some fits, and the memory that the first takes beyond what was there."""
    X, labels = rows_and_labels(n)
    detector, with_labels = METHODS[method]
    y = labels if with_labels else None
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    seconds = []
    for _ in range(n_fits):
        started = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            detector.fit(X, y)
        seconds.append(time.process_time() - started)
        if len(seconds) == 1:
            fit_mb = memory("VmHWM") - before
    return {
        "seconds": statistics.median(seconds),
        "fit_mb": fit_mb,
        "support_vectors": len(detector.support_),
    }


def memory(entry: str) -> float:
    """Resident memory of this process in MB: its peak (VmHWM) or what it is now (VmRSS)."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{entry}:\s+(\d+) kB", status)[1]) / 1024


def in_a_new_process(method: str, n: int, n_fits: int) -> dict:
    command = [sys.executable, "-m", "benchmarks.ssad", "--method", method]
    command += ["--sizes", str(n), "--fits", str(n_fits)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ssad", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of rows")
    parser.add_argument("--fits", type=int, default=3, help="of which the median counts")
    parser.add_argument("--results", default=RESULTS, type=Path)
    parser.add_argument("--method", choices=list(METHODS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.method:
        print(json.dumps(measure(arguments.method, arguments.sizes[0], arguments.fits)))
        return
    file = ResultFile(
        "ssad_scaling",
        COLUMNS,
        [
            "Fits on standardised rows of the shuttle set, one per cent of them labelled as anomalies "
            "where the method uses labels.",
            f"Processor seconds of one thread, medians of {arguments.fits} fits, and their ratio to "
            "OneClassSVM on the same rows;",
            "the resident memory of a fit in MB beyond the rows and the imports; the number of "
            "support vectors.",
            f"nu = {NU:g}; the hard margin is eta_u = 1. The fit of SSAD includes the scores of the "
            "training rows, for the threshold.",
            made_by(parser, arguments),
        ],
        arguments.results,
    )
    seconds = {(int(row["rows"]), row["method"]): float(row["seconds"]) for row in file.rows()}
    for n in arguments.sizes:
        for method in METHODS:
            if (n, method) in seconds:
                continue
            figures = in_a_new_process(method, n, arguments.fits)
            seconds[n, method] = figures["seconds"]
            row = {
                "rows": n,
                "method": method,
                "seconds": f"{figures['seconds']:.4f}",
                "ratio": f"{figures['seconds'] / seconds[n, 'OneClassSVM']:.3g}",
                "fit_mb": f"{figures['fit_mb']:.0f}",
                "support_vectors": figures["support_vectors"],
            }
            print("  ".join(f"{k}={v}" for k, v in row.items()), flush=True)
            file.append([row])


if __name__ == "__main__":
    main()
