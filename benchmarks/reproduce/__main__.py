"""Command line: ``python -m benchmarks.reproduce dagmm --runs 5 --jobs 2``."""

import argparse

from benchmarks.reproduce import dagmm, dagmm_jumps
from benchmarks.reproduce.runner import RESULTS, run_jobs


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reproduce", description=__doc__)
    papers = parser.add_subparsers(dest="paper", required=True)
    command = papers.add_parser("dagmm", help="tables 2, 3 and 5 of DAGMM")
    command.add_argument("--tables", nargs="+", choices=dagmm.TABLES, default=list(dagmm.TABLES))
    command.add_argument(
        "--datasets", nargs="+", choices=list(dagmm.DATASETS), default=list(dagmm.DATASETS)
    )
    command.add_argument("--runs", type=int, default=20, help="seeds 0 to RUNS - 1 (default: 20)")
    command.add_argument("--jobs", type=int, default=1, help="processes at a time (default: 1)")
    command.add_argument(
        "--max-iter", type=int, help="fewer epochs than the paper's, to try it out"
    )
    command.add_argument("--results", default=RESULTS, help="folder of the CSV files")
    command.set_defaults(run=tables)
    command = papers.add_parser("dagmm-jumps", help="why DAGMM's F1 on KDDCUP jumps")
    command.add_argument("--runs", type=int, default=2, help="seeds 0 to RUNS - 1 (default: 2)")
    command.add_argument("--jobs", type=int, default=1, help="processes at a time (default: 1)")
    command.add_argument("--results", default=RESULTS, help="folder of the CSV files")
    command.set_defaults(run=jumps)
    arguments = parser.parse_args()
    arguments.run(parser, arguments)


def tables(parser, arguments) -> None:
    """The paper's tables."""
    if arguments.max_iter is not None and str(arguments.results) == str(RESULTS):
        parser.error("--max-iter is for trying out: name another folder by --results")
    listed = dagmm.jobs(arguments.tables, arguments.datasets, arguments.runs, arguments.max_iter)
    files = dagmm.result_files(arguments.results)
    run_jobs(listed, files, arguments.jobs)
    if {"table2", "table5"} <= set(arguments.tables):
        dagmm.share_runs(files)


def jumps(parser, arguments) -> None:
    """The study of the jumps."""
    files = {"dagmm_jumps": dagmm_jumps.result_file(arguments.results)}
    run_jobs(dagmm_jumps.jobs(arguments.runs), files, arguments.jobs)


if __name__ == "__main__":
    main()
