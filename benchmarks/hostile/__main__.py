"""Hostile input against every public detector, and what must hold after each fit.

``python -m benchmarks.hostile`` draws cases from a seed: a detector in small, a table of odd values in an
odd container, labels, parameters, and what happens around the fit, such as threads, forks and kills. It
fits, and checks what must hold: no NaN, the same labels however the rows come, nothing changed that was
not the fit's to change, and so on, or else an error that says what is wrong. Cases run in a process with a
limit of time, so that one that crashes or hangs is a finding like others.

Each case is a line of ``benchmarks/.cache/hostile_<seed>.csv``, from which a campaign that was stopped
goes on, or is made longer by ``--cases``: delete it when the code has changed. At the end the counts are
written to ``benchmarks/results/hostile.csv``.
``--review`` lists what was found, and ``--case 1234`` runs one case again and shows it.
"""

import argparse
import os
import platform
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import sklearn
import torch

import anomaly_estimators as ae
from benchmarks.hostile.cases import AXES, draw
from benchmarks.hostile.summary import COLUMNS, counts, kinds
from benchmarks.hostile.trials import OUTCOMES
from benchmarks.hostile.workers import Worker
from benchmarks.reproduce.runner import RESULTS, ResultFile

CACHE = RESULTS.parent / ".cache"
LOG_COLUMNS = ["number", "outcome", *AXES, "refused", "broken", "message", "warned", "seconds"]


def campaign(numbers, log: ResultFile, seed: int, limit: float, n_jobs: int) -> None:
    """Run cases, ``n_jobs`` at a time, and append a line for each."""
    started, lock, done = time.perf_counter(), threading.Lock(), 0
    numbers = iter(list(numbers))

    def work():
        nonlocal done
        worker = Worker(seed, limit)
        try:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                row = asdict(draw(seed, number)) | worker.run(number)
                with lock:
                    log.append([row])
                    done += 1
                    if done % 100 == 0:
                        minutes = (time.perf_counter() - started) / 60
                        print(f"{done} cases in {minutes:.1f} minutes", flush=True)
        finally:
            worker.stop()

    with ThreadPoolExecutor(n_jobs) as pool:
        for future in [pool.submit(work) for _ in range(n_jobs)]:
            future.result()


def review(rows: list[dict], n_examples: int) -> None:
    """Print what was found, by kind, with the numbers of some cases."""
    for outcome in OUTCOMES[1:]:
        for text, cases in kinds(rows, outcome):
            detectors = Counter(row["detector"] for row in cases)
            print(f"\n{outcome}, {len(cases)} cases: {text}")
            print("  " + ", ".join(f"{name} {n}" for name, n in detectors.most_common()))
            for row in cases[: 1 if outcome == "clear error" else n_examples]:
                given = ", ".join(f"{axis} {row[axis]}" for axis in AXES[1:])
                said = [it for it in row["message"].split("; ") if it.startswith(f"{text}:")]
                print(f"  --case {row['number']}: {row['detector']}, {given}")
                print(f"      {'; '.join(said) or row['message']}"[:250])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile", description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000, help="how many (default: 10000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time (default: 1)")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds a case may take")
    parser.add_argument("--case", type=int, nargs="+", help="run these again, and show them")
    parser.add_argument("--review", action="store_true", help="list what was found so far")
    parser.add_argument("--examples", type=int, default=3, help="cases of a kind in the review")
    parser.add_argument("--log", type=Path, help="the file with a line a case")
    parser.add_argument("--results", default=RESULTS, type=Path)
    arguments = parser.parse_args()
    # Of the processes that run the cases.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if arguments.case:
        worker = Worker(arguments.seed, arguments.limit, show=True)
        for number in arguments.case:
            for name, value in worker.run(number).items():
                print(f"{name:14}{value}", flush=True)
        worker.stop()
        return
    path = arguments.log or CACHE / f"hostile_{arguments.seed}.csv"
    log = ResultFile(
        path.stem, LOG_COLUMNS, [f"A case a line, seed {arguments.seed}."], path.parent
    )
    there = {int(row["number"]) for row in log.rows()}
    if not arguments.review:
        todo = [number for number in range(arguments.cases) if number not in there]
        print(f"{arguments.cases} cases, of which {len(there)} are there already.", flush=True)
        campaign(todo, log, arguments.seed, arguments.limit, arguments.jobs)
    rows = log.rows()
    if arguments.review:
        review(rows, arguments.examples)
    else:
        write_summary(rows, arguments)
    print(*(f"{name}={value}" for name, value in counts(rows)[0].items() if value), sep="  ")


def write_summary(rows: list[dict], arguments) -> None:
    """Write the counts in the place of those of an earlier campaign."""
    file = ResultFile(
        "hostile",
        COLUMNS,
        [
            f"Hostile input: {len(rows):,} fits of small detectors on cases drawn at random, and what "
            "must hold after each.",
            "succeeded: all that must hold does. clear_errors: refused, by an error that says what is "
            "wrong. silent_failures: fitted, but something does not hold. unclear_errors: an error that "
            "was not meant. The first line counts all fits, the others those with one value of an axis.",
            f"Python {platform.python_version()}, numpy {np.__version__}, scikit-learn "
            f"{sklearn.__version__}, torch {torch.__version__}.",
            f"Made by: python -m benchmarks.hostile --cases {arguments.cases} --seed {arguments.seed} "
            f"(version {ae.__version__}).",
        ],
        arguments.results,
    )
    file.path.unlink(missing_ok=True)
    file.append(counts(rows))


if __name__ == "__main__":
    main()
