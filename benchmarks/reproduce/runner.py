"""Runs jobs in parallel and keeps their results, so that a run that was killed goes on where it was."""

import csv
import os
import shlex
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from anomaly_estimators import __version__

__all__ = ["RESULTS", "Job", "ResultFile", "made_by", "run_jobs"]

RESULTS = Path(__file__).resolve().parents[1] / "results"
# Options that have no part in what the files hold.
_ASIDE = ("results", "jobs")


@dataclass(frozen=True)
class Job:
    """One training run, which fills one or more rows of a table.

    Parameters
    ----------
    table : str
        Name of the result file, without its ending.
    key : dict
        What was run, as columns of the table.
    seed : int
    function : callable
        ``function(**arguments)`` -> list of dict, the rows: each with what differs from ``key``.
    arguments : dict
    methods : tuple of str
        Values of the column ``method`` that the job fills.
    """

    table: str
    key: Mapping[str, str]
    seed: int
    function: Callable[..., list[dict]]
    arguments: Mapping[str, object] = field(default_factory=dict)
    methods: tuple[str, ...] = ("",)


class ResultFile:
    """A CSV file with a row a run, below comments that say how it was made.

    Parameters
    ----------
    name : str
    columns : sequence of str
    comments : sequence of str
        Those that the file does not hold yet are written before the next rows: what is added to a file
        with other options is told apart.
    folder : path-like
    """

    def __init__(self, name: str, columns: Sequence[str], comments: Sequence[str], folder=RESULTS):
        self.path = Path(folder) / f"{name}.csv"
        self.columns = list(columns)
        self.comments = list(comments)

    def rows(self) -> list[dict[str, str]]:
        """Return the rows written so far."""
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8").splitlines()
        return list(csv.DictReader(line for line in lines if line and not line.startswith("#")))

    def append(self, rows: Iterable[Mapping]) -> None:
        """Add rows, each one whole on the disk before the call returns."""
        new = not self.path.exists()
        there = set() if new else set(self.path.read_text(encoding="utf-8").splitlines())
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8", newline="") as file:
            heads = [f"# {comment}" for comment in self.comments]
            file.writelines(f"{head}\n" for head in heads if head not in there)
            writer = csv.DictWriter(file, self.columns, lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerows(rows)
            file.flush()
            os.fsync(file.fileno())

    def has(self, job: Job) -> bool:
        """Whether all rows of a job are there."""
        wanted = {**{k: str(v) for k, v in job.key.items()}, "seed": str(job.seed)}
        found = {
            row["method"]
            for row in self.rows()
            if all(row.get(column) == value for column, value in wanted.items())
        }
        return found.issuperset(job.methods)


def made_by(parser: ArgumentParser, arguments: Namespace) -> str:
    """Say by which command a file is made: all that was asked for, as it can be asked for again.

    Parameters
    ----------
    parser : ArgumentParser
        That of the command, with an option for everything.
    arguments : Namespace
        What it made of the command line.

    Returns
    -------
    str

    Examples
    --------
    >>> parser = ArgumentParser(prog="python -m benchmarks.try")
    >>> _ = parser.add_argument("--max-iter", type=int), parser.add_argument("--all", action="store_true")
    >>> made_by(parser, parser.parse_args(["--all", "--max-iter", "200"]))
    'Made by: python -m benchmarks.try --max-iter 200 --all (version ...).'
    """
    words = parser.prog.split()
    for option in parser._actions:
        value = getattr(arguments, option.dest, option.default)
        if value == option.default or option.dest in _ASIDE:
            continue
        words.append(option.option_strings[0])
        if value is not True:
            words += map(str, value if isinstance(value, list | tuple) else [value])
    return f"Made by: {shlex.join(words)} (version {__version__})."


def run_jobs(jobs: Sequence[Job], files: Mapping[str, ResultFile], n_jobs: int) -> None:
    """Run the jobs whose rows are missing, ``n_jobs`` processes at a time, one thread each.

    Parameters
    ----------
    jobs : sequence of Job
        In the order in which they are to be run.
    files : dict of str to ResultFile
        By table.
    n_jobs : int
        0 runs them in this process, in a thread beside the one that writes.
    """
    todo = [job for job in jobs if not files[job.table].has(job)]
    print(f"{len(jobs)} runs, of which {len(jobs) - len(todo)} are there already.", flush=True)
    if not todo:
        return
    started = time.perf_counter()
    failures: list[BaseException] = []
    # Spawned, because a forked process inherits the thread pools of its parent in an unknown state.
    make_pool = partial(ProcessPoolExecutor, n_jobs, get_context("spawn"), _one_thread)
    with make_pool() if n_jobs else ThreadPoolExecutor(1) as pool:
        futures = {pool.submit(job.function, **job.arguments): job for job in todo}
        for done, future in enumerate(as_completed(futures), start=1):
            job = futures[future]
            if error := future.exception():
                # The others go on: hours of work do not hang on one run.
                failures.append(error)
                print(f"[{done}/{len(todo)}] {job.table} {dict(job.key)} seed {job.seed}: {error!r}",
                      flush=True)  # fmt: skip
                continue
            rows = [{**job.key, "seed": job.seed, **row} for row in future.result()]
            files[job.table].append(rows)
            minutes = (time.perf_counter() - started) / 60
            print(
                f"[{done}/{len(todo)}, {minutes:.1f} min] {job.table} {dict(job.key)} seed {job.seed}: "
                + ", ".join(f"{row['method']} {headline(row)}" for row in rows),
                flush=True,
            )
    if failures:
        raise RuntimeError(f"{len(failures)} of {len(todo)} runs failed.") from failures[0]


def headline(row: Mapping) -> str:
    """The figure of a row that the progress shows."""
    measure = next(name for name in ("f1", "roc_auc", "found") if name in row)
    return f"{measure} {row[measure]}"


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
