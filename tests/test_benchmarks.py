"""The scripts that regenerate the papers' tables: what they keep, reuse and measure."""

import re
import shlex
import sys
from importlib import import_module

import pytest

from benchmarks.reproduce.runner import RESULTS, Job, ResultFile, run_jobs


def one_row(value):
    return [{"method": "a", "f1": value}]


def failing():
    raise ValueError("no")


@pytest.fixture
def table(tmp_path):
    return ResultFile("table", ["dataset", "method", "seed", "f1"], ["how it was made"], tmp_path)


def job(seed, function=one_row, **arguments):
    return Job("table", {"dataset": "x"}, seed, function, arguments, methods=("a",))


def test_runs_that_are_there_are_not_run_again(table):
    table.append([{"dataset": "x", "method": "a", "seed": 0, "f1": 0.5}])
    run_jobs([job(0, value=0.9), job(1, value=0.7)], {"table": table}, 0)
    assert [(row["seed"], row["f1"]) for row in table.rows()] == [("0", "0.5"), ("1", "0.7")]
    assert table.path.read_text().splitlines()[0] == "# how it was made"


def test_a_run_that_fails_does_not_take_the_others_with_it(table):
    with pytest.raises(RuntimeError, match="1 of 2 runs failed"):
        run_jobs([job(0, failing), job(1, value=0.7)], {"table": table}, 0)
    assert [row["seed"] for row in table.rows()] == ["1"]


def test_rows_of_another_command_are_told_apart(table, tmp_path):
    run_jobs([job(0, value=0.9)], {"table": table}, 0)
    other = ResultFile("table", table.columns, ["how it was made", "made in a hurry"], tmp_path)
    run_jobs([job(seed, value=0.7) for seed in range(3)], {"table": other}, 0)
    assert table.path.read_text().splitlines() == [
        "# how it was made",
        "dataset,method,seed,f1",
        "x,a,0,0.9",
        "# made in a hurry",
        "x,a,1,0.7",
        "x,a,2,0.7",
    ]
    assert [row["seed"] for row in other.rows()] == ["0", "1", "2"]


# The heads of the files


class Stop(Exception):
    """All files have their heads: nothing is to be run."""


@pytest.fixture(autouse=True)
def threads(monkeypatch):
    """Scripts take one thread, for all that comes after them too."""
    monkeypatch.setattr("torch.set_num_threads", lambda n: None)


@pytest.fixture
def heads(monkeypatch, tmp_path):
    """Call a script up to its first run; return the head of each of its files, as one text."""

    def heads_of(module, words):
        found = []

        class Recorded(ResultFile):
            def __init__(self, name, columns, comments, folder):
                super().__init__(name, columns, comments, folder)
                assert self.path.parent == tmp_path
                found.append("\n".join(comments))

            def rows(self):
                raise Stop

            append = rows

        def refused(*args, **options):
            raise Stop

        # Wherever the script and its papers have taken the name from.
        for name, imported in list(sys.modules.items()):
            if name.startswith("benchmarks.") and hasattr(imported, "ResultFile"):
                monkeypatch.setattr(imported, "ResultFile", Recorded)
        for name in ("fetch_odds", "run_jobs", "warm_up"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, refused)
        words = [*words, "--results", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", [module.__name__, *words])
        with pytest.raises(Stop):
            module.main()
        return found

    return heads_of


COMMANDS = [
    ("reproduce.__main__", "dagmm"),
    ("reproduce.__main__", "dagmm --max-iter 3 --datasets Thyroid KDDCUP --parts table2 table3"),
    ("reproduce.__main__", "dagmm --methods DAGMM 'OC-SVM, Nystroem' --runs 1 --parts table5"),
    ("reproduce.__main__", "dagmm-jumps --runs 1"),
    ("reproduce.__main__", "deep-sad --max-iter 3 --tables table3 figure5 --setups 10"),
    ("reproduce.__main__", "uainets --k 7 --budget 30 --parts figure3 --runs 2"),
    ("reproduce.__main__", "anodm --max-iter 3 --train-rows 100 --betas 0.5 1.5 --classes 2"),
    ("reproduce.__main__", "vae-flows --max-iter 3 --models base 'IAF 5'"),
    ("anodm", "--sizes 100 200 --max-all 150 --seed 3 --parts scaling"),
    ("defaults", "--max-rows 99 --datasets cardio --variant 'DAGMM: latent_dim=4' 'GMM: tol=1'"),
    ("rounds", "--rounds 2 --seed 4"),
    ("ssad", "--sizes 100 --fits 2"),
]


@pytest.mark.parametrize(("script", "command"), COMMANDS, ids=lambda value: value)
def test_heads_say_what_is_run(script, command, heads):
    module = import_module(f"benchmarks.{script}")
    words = shlex.split(command)
    found = heads(module, words)
    assert found
    program = f"python -m benchmarks.{script.removesuffix('.__main__')}"
    for head in found:
        made = re.fullmatch(r"Made by: (.*) \(version .*\)\.", head.splitlines()[-1])[1]
        assert made.startswith(program)
        assert sorted(shlex.split(made.removeprefix(program))) == sorted(words)
        # No head has another number of epochs than those that were asked for.
        if "--max-iter" in words:
            assert set(re.findall(r"'?max_iter'?[:=] ?(\d+)", head)) <= {"3"}
    if command.startswith("dagmm --max-iter"):
        assert "Thyroid" in found[0] and "Arrhythmia" not in found[0]


def test_heads_are_those_of_the_command_again(heads, monkeypatch):
    """What a head says can be pasted: it makes the same head."""
    module = import_module("benchmarks.defaults")
    said = "Made by: python -m benchmarks.defaults "
    command = (
        "--detectors DAGMM 'DSEBM, reconstruction' --variant 'GMM: tol=1' --variant 'VAE: beta=2'"
    )
    first = heads(module, shlex.split(command))[0].splitlines()[-1]
    assert first.startswith(said)
    again = shlex.split(first.removeprefix(said).partition(" (version")[0])
    assert heads(module, again)[0].splitlines()[-1] == first


def test_head_of_the_engine_says_what_is_measured(monkeypatch, tmp_path):
    module = import_module("benchmarks.engine.__main__")
    monkeypatch.setattr(module, "measure_deep_sad", lambda case, n_pairs: {"seconds": 1.0})
    case = next(iter(module.CASES))
    words = ["--pairs", "2", "--deep-sad", "--case", case]
    monkeypatch.setattr(sys, "argv", ["engine", *words, "--results", str(tmp_path)])
    module.main()
    (path,) = tmp_path.iterdir()
    made = path.read_text().splitlines()[1]
    assert made.startswith("# Made by: python -m benchmarks.engine ")
    assert all(word in shlex.split(made.partition(" (version")[0]) for word in words)


def test_trials_are_kept_out_of_the_results(monkeypatch):
    module = import_module("benchmarks.reproduce.__main__")
    for paper in ("dagmm", "deep-sad", "vae-flows"):
        monkeypatch.setattr(sys, "argv", ["", paper, "--max-iter", "3", "--results", str(RESULTS)])
        with pytest.raises(SystemExit):
            module.main()
