"""The scripts that regenerate the papers' tables: what they keep, reuse and measure."""

import pytest

from benchmarks.reproduce.runner import Job, ResultFile, run_jobs


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
