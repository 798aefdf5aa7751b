"""Command line: ``python -m benchmarks.reproduce dagmm --runs 5 --jobs 2``."""

import argparse

from benchmarks.reproduce.anodm import jobs as anodm
from benchmarks.reproduce.anodm.choice import write_choices
from benchmarks.reproduce.anodm.problems import DATASETS as IMAGES_AND_BEATS
from benchmarks.reproduce.dagmm import figures as dagmm_figures
from benchmarks.reproduce.dagmm import jobs as dagmm
from benchmarks.reproduce.dagmm import jumps as dagmm_jumps
from benchmarks.reproduce.dagmm import spaces, who_finds
from benchmarks.reproduce.dagmm.problems import Problem
from benchmarks.reproduce.dagmm.settings import DATASETS as DAGMM_SETS
from benchmarks.reproduce.deep_sad import jobs as deep_sad
from benchmarks.reproduce.deep_sad.methods import METHODS
from benchmarks.reproduce.runner import RESULTS, made_by, run_jobs
from benchmarks.reproduce.uainets import jobs as uainets
from benchmarks.reproduce.uainets.methods import METHODS as AUDITORS
from benchmarks.reproduce.vae_flows import jobs as vae_flows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reproduce", description=__doc__)
    papers = parser.add_subparsers(dest="paper", required=True)
    command = papers.add_parser("dagmm", help="tables 2 to 5 and figures 3 to 6 of DAGMM")
    command.add_argument(
        "--all", action="store_true", help="everything, which is also what no other option means"
    )
    command.add_argument(
        "--parts", "--tables", nargs="+", choices=dagmm.PARTS, default=list(dagmm.PARTS)
    )
    command.add_argument(
        "--datasets", nargs="+", choices=list(DAGMM_SETS), default=list(DAGMM_SETS)
    )
    command.add_argument(
        "--methods", nargs="+", choices=dagmm.METHOD_NAMES, default=list(dagmm.METHOD_NAMES)
    )
    command.add_argument("--runs", type=int, default=20, help="seeds 0 to RUNS - 1 (default: 20)")
    command.add_argument("--jobs", type=int, default=1, help="processes at a time (default: 1)")
    command.add_argument(
        "--max-iter", type=int, help="fewer epochs than the paper's, to try it out"
    )
    command.add_argument("--results", default=RESULTS, help="folder of the CSV files")
    command.set_defaults(run=tables, command=command)
    command = papers.add_parser("dagmm-jumps", help="why DAGMM's F1 on KDDCUP jumps")
    command.add_argument("--runs", type=int, default=2, help="seeds 0 to RUNS - 1 (default: 2)")
    command.add_argument("--jobs", type=int, default=1, help="processes at a time (default: 1)")
    command.add_argument("--results", default=RESULTS, help="folder of the CSV files")
    command.set_defaults(run=jumps, command=command)
    command = papers.add_parser("deep-sad", help="tables 3 to 6 and figure 5 of Deep SAD")
    command.add_argument(
        "--tables", nargs="+", choices=deep_sad.TABLES, default=list(deep_sad.TABLES)
    )
    command.add_argument(
        "--datasets", nargs="+", choices=deep_sad.DATASETS, default=list(deep_sad.DATASETS)
    )
    command.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    command.add_argument("--runs", type=int, default=10, help="seeds of table 6 (default: 10)")
    command.add_argument(
        "--setups",
        type=int,
        default=100,
        help="how many of the 90 or 100 experiments of a scenario, evenly spread (default: all)",
    )
    command.add_argument("--jobs", type=int, default=1, help="processes at a time (default: 1)")
    command.add_argument(
        "--max-iter", type=int, help="fewer epochs than the paper's, to try it out"
    )
    command.add_argument("--results", default=RESULTS, help="folder of the CSV files")
    command.set_defaults(run=deep_sad_tables, command=command)
    command = papers.add_parser("uainets", help="table 1 and figures 3, 4 and 7 of UaiNets")
    command.add_argument("--parts", nargs="+", choices=uainets.PARTS, default=list(uainets.PARTS))
    command.add_argument(
        "--datasets", nargs="+", choices=uainets.DATASETS, default=list(uainets.DATASETS)
    )
    command.add_argument("--methods", nargs="+", choices=list(AUDITORS), default=list(AUDITORS))
    command.add_argument("--runs", type=int, default=5, help="seeds 0 to RUNS - 1 (default: 5)")
    command.add_argument("--k", type=int, help="rows in a round (default: the paper's)")
    command.add_argument(
        "--budget", type=int, default=5_000, help="audited rows of figure 3 (default: 5000)"
    )
    command.add_argument("--jobs", type=int, default=1, help="processes at a time (default: 1)")
    command.add_argument("--results", default=RESULTS, help="folder of the CSV files")
    command.set_defaults(run=audits, command=command)
    command = papers.add_parser("anodm", help="tables 1 and 2 and figures 2, 4 and 5 of AnoDM")
    command.add_argument("--parts", nargs="+", choices=anodm.PARTS, default=list(anodm.PARTS))
    command.add_argument(
        "--datasets", nargs="+", choices=list(IMAGES_AND_BEATS), default=list(IMAGES_AND_BEATS)
    )
    command.add_argument(
        "--classes", nargs="+", type=int, default=list(range(10)), help="those to leave out"
    )
    command.add_argument("--betas", nargs="+", type=float, default=[0.01, 0.05, 0.4])
    command.add_argument("--runs", type=int, default=1, help="seeds 0 to RUNS - 1 (default: 1)")
    command.add_argument("--jobs", type=int, default=1, help="processes at a time (default: 1)")
    command.add_argument("--max-iter", type=int, help="epochs (default: the paper's)")
    command.add_argument("--train-rows", type=int, help="training rows at most (default: all)")
    command.add_argument("--results", default=RESULTS, help="folder of the CSV files")
    command.set_defaults(run=one_class_out, command=command)
    command = papers.add_parser("vae-flows", help="table 1 and the ring of the VAE with flows")
    command.add_argument(
        "--parts", nargs="+", choices=vae_flows.PARTS, default=list(vae_flows.PARTS)
    )
    command.add_argument(
        "--models",
        nargs="+",
        choices=vae_flows.MODEL_NAMES,
        default=list(vae_flows.MODEL_NAMES),
        help="of table 1",
    )
    command.add_argument("--runs", type=int, default=5, help="seeds 0 to RUNS - 1 (default: 5)")
    command.add_argument("--jobs", type=int, default=1, help="processes at a time (default: 1)")
    command.add_argument("--max-iter", type=int, help="fewer epochs, to try it out")
    command.add_argument("--results", default=RESULTS, help="folder of the CSV files")
    command.set_defaults(run=flows, command=command)
    arguments = parser.parse_args()
    arguments.run(arguments.command, arguments)


def refuse_trials(parser, arguments) -> None:
    """Keep runs with other settings than the paper's out of the results."""
    if arguments.max_iter is not None and str(arguments.results) == str(RESULTS):
        parser.error("--max-iter is for trying out: name another folder by --results")


def tables(parser, arguments) -> None:
    """DAGMM's tables and figures."""
    refuse_trials(parser, arguments)
    narrower = {"parts": dagmm.PARTS, "datasets": DAGMM_SETS, "methods": dagmm.METHOD_NAMES}
    if arguments.all and any(len(getattr(arguments, k)) < len(v) for k, v in narrower.items()):
        parser.error("--all is everything: leave out --parts, --datasets and --methods")
    made = made_by(parser, arguments)
    files = dagmm.result_files(arguments.results, made, arguments.datasets, arguments.max_iter)
    staged = dagmm.stages(
        arguments.parts, arguments.datasets, arguments.methods, arguments.runs, arguments.max_iter
    )
    for stage in staged:
        run_jobs(stage, files, arguments.jobs)
    if {"table2", "table5"} <= set(arguments.parts):
        dagmm.share_runs(files)
    if "table4" in arguments.parts:
        problem = Problem("KDDCUP", 0, max_iter=arguments.max_iter)
        who_finds.write_table(problem, arguments.results, made)
    if "spaces" in arguments.parts:
        spaces.write_table(arguments.datasets, arguments.results, made, arguments.max_iter)
    if "figures" in arguments.parts:
        dagmm_figures.draw(arguments.results, arguments.max_iter)


def deep_sad_tables(parser, arguments) -> None:
    """Deep SAD's tables."""
    refuse_trials(parser, arguments)
    shorter = {} if arguments.max_iter is None else {"max_iter": arguments.max_iter}
    listed = deep_sad.jobs(
        arguments.tables,
        arguments.datasets,
        arguments.runs,
        arguments.setups,
        arguments.methods,
        **shorter,
    )
    files = deep_sad.result_files(arguments.results, made_by(parser, arguments))
    run_jobs(listed, files, arguments.jobs)


def audits(parser, arguments) -> None:
    """UaiNets' table and figures."""
    listed = uainets.jobs(
        arguments.parts,
        arguments.datasets,
        arguments.methods,
        arguments.runs,
        arguments.k,
        arguments.budget,
    )
    files = uainets.result_files(arguments.results, made_by(parser, arguments))
    run_jobs(listed, files, arguments.jobs)


def one_class_out(parser, arguments) -> None:
    """AnoDM's tables and figures."""
    listed = anodm.jobs(
        arguments.parts,
        arguments.datasets,
        arguments.classes,
        arguments.betas,
        arguments.runs,
        arguments.max_iter,
        arguments.train_rows,
    )
    files = anodm.result_files(arguments.results, made_by(parser, arguments))
    run_jobs(listed, files, arguments.jobs)
    write_choices(files["anodm_tables"], files["anodm_choice"])


def flows(parser, arguments) -> None:
    """The table and the rings of the VAE with flows."""
    refuse_trials(parser, arguments)
    listed = vae_flows.jobs(
        arguments.parts,
        arguments.models,
        arguments.runs,
        arguments.max_iter,
    )
    made = made_by(parser, arguments)
    files = vae_flows.result_files(arguments.results, made, arguments.max_iter)
    run_jobs(listed, files, arguments.jobs)


def jumps(parser, arguments) -> None:
    """The study of the jumps."""
    made = made_by(parser, arguments)
    files = {"dagmm_jumps": dagmm_jumps.result_file(arguments.results, made)}
    run_jobs(dagmm_jumps.jobs(arguments.runs), files, arguments.jobs)


if __name__ == "__main__":
    main()
