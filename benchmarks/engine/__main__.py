"""The engine against a bare torch loop, in one run: ratios of time and of peak memory.

``python -m benchmarks.engine`` prints a table and writes ``benchmarks/results/engine.csv``. Times are
paired: engine and bare loop take turns, and the ratio is the median over the pairs. Peak memory is that
of a process that does one fit. ``--deep-sad`` measures Deep SAD beside its bare loop; ``--memmap`` trains
on a memory map of 4 GB and reports the resident memory.
"""

import argparse
import csv
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.engine import bare
from benchmarks.reproduce.runner import RESULTS, made_by

# name: rows, features, widths of the encoder, batch size, epochs
CASES = {
    "20,000 x 36, [64, 32], batch 128": (20_000, 36, (64, 32), 128, 10),
    "20,000 x 36, [64, 32], batch 1024": (20_000, 36, (64, 32), 1024, 40),
    "200,000 x 120, [60, 30, 10, 1], batch 1024": (200_000, 120, (60, 30, 10, 1), 1024, 5),
}


def rows(n: int, d: int) -> np.ndarray:
    """Correlated normal rows: what they are has no part in the time."""
    generator = np.random.default_rng(0)
    mixing = (generator.normal(size=(d, d)) / np.sqrt(d)).astype(np.float32)
    X = np.empty((n, d), dtype=np.float32)
    for start in range(0, n, 1000):  # in pieces: the peak of memory is to be that of the fit
        piece = X[start : start + 1000]
        piece[:] = generator.standard_normal(piece.shape, dtype=np.float32) @ mixing
    return X


def make(cls, sizes, batch_size, max_iter, **parameters):
    """The estimator with the network of the bare loop."""
    return cls(
        hidden_layer_sizes=sizes[:-1],
        latent_dim=sizes[-1],
        batch_size=batch_size,
        max_iter=max_iter,
        learning_rate=1e-3,
        scaler=None,
        device="cpu",
        random_state=0,
        **parameters,
    )


def timed(function) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def paired(a, b, n_pairs: int) -> dict:
    """Median times of two functions that take turns, and the median of their ratios."""
    a(), b()
    pairs = [(timed(a), timed(b)) for _ in range(n_pairs)]
    ratios = [x / y for x, y in pairs]
    return {
        "seconds": statistics.median(x for x, _ in pairs),
        "bare_seconds": statistics.median(y for _, y in pairs),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
    }


def measure(case: str, n_pairs: int) -> list[dict]:
    from anomaly_estimators import DAGMM, Autoencoder

    n, d, sizes, batch_size, max_iter = CASES[case]
    X = rows(n, d)
    arguments = (sizes, batch_size, max_iter)
    detector = make(Autoencoder, *arguments).fit(X)
    network = bare.fit(X, *arguments)
    np.testing.assert_allclose(
        -detector.score_samples(X).mean(), bare.score(network, X).mean(), rtol=0.2
    )
    results = []
    for what, a, b, passes in (
        (
            "fit",
            lambda: make(Autoencoder, *arguments).fit(X),
            lambda: bare.fit(X, *arguments),
            max_iter,
        ),
        ("score", lambda: detector.score_samples(X), lambda: bare.score(network, X), 1),
        (
            "DAGMM fit / Autoencoder fit",
            lambda: make(DAGMM, *arguments).fit(X),
            lambda: make(Autoencoder, *arguments).fit(X),
            max_iter,
        ),
    ):
        figures = paired(a, b, n_pairs)
        results.append({"case": case, "what": what, **figures,
                        "rows_per_second": passes * n / figures["seconds"]})  # fmt: skip
    memory = {side: peak_memory(case, side) for side in ("engine", "bare")}
    results.append(
        {
            "case": case,
            "what": "peak memory of a fit, MB",
            "seconds": memory["engine"],
            "bare_seconds": memory["bare"],
            "ratio": memory["engine"] / memory["bare"],
        }
    )
    return results


def measure_deep_sad(case: str, n_pairs: int) -> dict:
    """Deep SAD, pre-training included, beside the same two loops in bare torch."""
    from anomaly_estimators import DeepSAD

    n, d, *arguments = CASES[case]
    X = rows(n, d)
    y = np.zeros(n, dtype=np.int8)
    y[:: n // 100] = -1  # a hundred known anomalies
    figures = paired(
        lambda: make(DeepSAD, *arguments).fit(X, y),
        lambda: bare.fit_deep_sad(X, y, *arguments),
        n_pairs,
    )
    passes = 2 * arguments[-1]
    return {"case": case, "what": "Deep SAD fit, pre-training included", **figures,
            "rows_per_second": passes * n / figures["seconds"]}  # fmt: skip


def peak_memory(case: str, side: str) -> float:
    """Peak resident memory, in MB, of a process that does one fit."""
    command = [sys.executable, "-m", "benchmarks.engine", "--memory-of", side, "--case", case]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def fit_once(case: str, side: str) -> None:
    """Fit, and print the peak. Both sides have the library loaded: the figure is that of the fit."""
    from anomaly_estimators import Autoencoder

    n, d, *arguments = CASES[case]
    X = rows(n, d)
    if side == "bare":
        bare.fit(X, *arguments)
    else:
        make(Autoencoder, *arguments).fit(X)
    print(peak_of_this_process())


def peak_of_this_process() -> float:
    """Peak resident memory in MB. (That of getrusage starts at the size of the parent process.)"""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def memmap(gigabytes: float) -> dict:
    """Resident memory of training on a read-only memory map, beyond that of the imports."""
    d = 120
    n = int(gigabytes * 2**30 / 4 / d)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.f32"
        generator = np.random.default_rng(0)
        with path.open("wb") as file:
            for _ in range(0, n, 100_000):
                file.write(generator.normal(size=(100_000, d)).astype(np.float32).tobytes())
        code = (
            "import json, time, numpy as np\n"
            "from benchmarks.engine.__main__ import peak_of_this_process as peak\n"
            "from anomaly_estimators import Autoencoder\n"
            f"X = np.memmap({str(path)!r}, dtype=np.float32, mode='r', shape=({n}, {d}))\n"
            "small = np.random.default_rng(0).normal(size=(1000, X.shape[1])).astype('f4')\n"
            "Autoencoder(max_iter=1).fit(small)\n"  # loads and warms up all there is to load
            "before, started = peak(), time.perf_counter()\n"
            "Autoencoder(hidden_layer_sizes=(60, 30, 10), latent_dim=1, max_iter=1, batch_size=1024)"
            ".fit(X)\n"
            "print(json.dumps({'seconds': time.perf_counter() - started, 'before_mb': before,"
            " 'peak_mb': peak()}))"
        )
        output = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        )
    figures = json.loads(output.stdout)
    return {
        "case": f"memory map of {gigabytes:g} GB ({n:,} x {d})",
        "what": "fit: resident memory beyond the imports, MB",
        "seconds": figures["peak_mb"] - figures["before_mb"],
        "rows_per_second": n / figures["seconds"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    parser.add_argument("--pairs", type=int, default=9, help="paired measurements (default: 9)")
    parser.add_argument("--memmap", type=float, metavar="GB", help="only the memory map, of GB")
    parser.add_argument("--deep-sad", action="store_true", help="only Deep SAD, with labels")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default: 1)")
    parser.add_argument("--results", default=RESULTS, type=Path)
    parser.add_argument("--memory-of", choices=("engine", "bare"), help=argparse.SUPPRESS)
    parser.add_argument("--case", choices=list(CASES), help="only this case")
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(arguments.threads)
    if arguments.memory_of:
        fit_once(arguments.case, arguments.memory_of)
        return
    if arguments.memmap:
        name, results = "engine_memmap", [memmap(arguments.memmap)]
    elif arguments.deep_sad:
        cases = [arguments.case] if arguments.case else CASES
        name = "engine_deep_sad"
        results = [measure_deep_sad(case, arguments.pairs) for case in cases]
    else:
        name, results = "engine", []
        for case in [arguments.case] if arguments.case else CASES:
            results += measure(case, arguments.pairs)
    write(arguments.results / f"{name}.csv", results, made_by(parser, arguments))


def write(path: Path, results: list[dict], made: str) -> None:
    columns = [
        "case",
        "what",
        "ratio",
        "ratio_min",
        "ratio_max",
        "engine",
        "bare",
        "rows_per_second",
    ]
    table = []
    for row in results:
        cells = {key: row.get(key) for key in columns}
        cells["engine"], cells["bare"] = row["seconds"], row.get("bare_seconds")
        table.append({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in cells.items()})
        print("  ".join(f"{k}={v}" for k, v in table[-1].items() if v is not None), flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(
            "# The engine beside a bare torch loop with fused Adam: seconds, medians of paired ratios.\n"
        )
        file.write(f"# {made}\n")
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)


if __name__ == "__main__":
    main()
