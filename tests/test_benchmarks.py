"""The scripts that regenerate the papers' tables: what they keep, reuse and measure."""

import pytest

from benchmarks.reproduce import dagmm, dagmm_jumps
from benchmarks.reproduce.runner import Job, ResultFile, run_jobs
from tests._data import require_data


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


def test_base_1_of_table_5_is_table_2(tmp_path):
    files = dagmm.result_files(tmp_path)
    row = {"dataset": "KDDCUP", "method": "DAGMM", "seed": 0, "f1": 0.9, "paper_f1": 0.9369}
    files["dagmm_table2"].append([row, {**row, "dataset": "Thyroid"}])
    for _ in range(2):  # a second call copies nothing
        dagmm.share_runs(files)
    (copy,) = files["dagmm_table5"].rows()
    assert (copy["base"], copy["f1"], copy["paper_f1"]) == ("1", "0.9", "0.9371")


def test_jump_is_the_mean_change_over_the_second_half():
    points = [{"f1": f1, "roc_auc": 0.5} for f1 in (0.1, 0.9, 0.5, 0.7)]
    summary = dagmm_jumps.summarise(points)
    assert (summary["f1"], summary["f1_lowest"], summary["jump"]) == ("0.7000", "0.5000", "0.2000")


def test_trained_and_untrained_rows_of_a_real_set():
    require_data("thyroid/thyroid.mat")
    trained, untrained = dagmm.run("Thyroid", 0, max_iter=30)
    assert (trained["method"], untrained["method"]) == ("DAGMM", "DAGMM, untrained")
    assert trained["f1"] != untrained["f1"]
    assert all(0 <= float(row["roc_auc"]) <= 1 for row in (trained, untrained))
