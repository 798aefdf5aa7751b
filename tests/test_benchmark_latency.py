"""The latency benchmark: what it measures, and the file that it writes."""

import sys

import numpy as np
import pytest

from benchmarks import latency
from benchmarks.reproduce.runner import ResultFile


def test_detectors_and_precisions_take_turns_and_get_one_row_of_their_own_type():
    calls = []

    def scorer(name, dtype):
        return lambda row: calls.append((name, dtype, row.shape, row.dtype.name))

    keys = [(name, dtype) for name in "ab" for dtype in latency.DTYPES]
    functions = {key: scorer(*key) for key in keys}
    times = latency.measure(functions, np.zeros((7, 3)), n_calls=8, n_warm=1)
    assert {len(found) for found in times.values()} == {8}
    assert all(shape == (1, 3) and dtype == name for _, dtype, shape, name in calls)
    turns = [call[:2] for call in calls[:: latency._TURN]]
    assert turns == keys * 3


def test_ratio_is_that_of_the_medians():
    times = {("a", "float64"): [30.0, 30.0, 900.0], ("a", "float32"): [10.0, 10.0, 10.0]}
    double, single = latency.table_of(times)
    assert (double["p50_us"], double["ratio"]) == ("30", "3.00")
    assert float(double["p99_us"]) > 800
    assert (single["p50_us"], single["p99_us"]) == ("10", "10")


@pytest.mark.usefixtures("capsys")
def test_a_run_writes_a_line_for_each_detector_and_precision(tmp_path, monkeypatch):
    names = ["LODA", "LocalOutlierFactor (scikit-learn)"]
    command = ["latency", "--detectors", *names, "--calls", "4", "--warm-up", "0"]
    monkeypatch.setattr(sys, "argv", [*command, "--results", str(tmp_path)])
    latency.main()
    rows = ResultFile("latency", latency.COLUMNS, [], tmp_path).rows()
    assert [(row["detector"], row["dtype"]) for row in rows] == [
        (name, dtype) for name in names for dtype in latency.DTYPES
    ]
    assert all(0 < float(row["p50_us"]) <= float(row["p99_us"]) for row in rows)
