"""The script that regenerates the table and the figures of the UaiNets."""

import numpy as np
import pytest
import torch
from sklearn.base import clone

from benchmarks.reproduce.runner import headline
from benchmarks.reproduce.uainets import audits, methods, novelty, problems
from benchmarks.reproduce.uainets import jobs as uainets
from benchmarks.reproduce.uainets.problems import Problem, image_problem, table_problem
from benchmarks.reproduce.uainets.published import paper_f1
from tests._data import require_data


@pytest.fixture
def problem():
    """A cloud, a small dense group at its edge, and the label of another group on it."""
    rng = np.random.default_rng(0)
    X = np.r_[rng.normal(size=(280, 5)), rng.normal(2.5, 0.2, size=(20, 5))].astype(np.float32)
    label = np.r_[(X[:280, 0] > 0), np.zeros(20)].astype(int)
    return Problem(X, np.repeat([1, -1], [280, 20]), label)


@pytest.fixture(autouse=True)
def briefly(monkeypatch):
    """Pre-training of a few steps."""
    monkeypatch.setattr(methods, "_STEPS", 20)
    monkeypatch.setitem(methods._DAGMM, "max_iter", 2)


@pytest.mark.parametrize("method", methods.METHODS)
def test_every_method_audits(method, problem):
    found, seconds = audits.audit(method, problem, 0, 12, 3)
    assert len(found) == 12 and seconds > 0
    assert (np.diff(np.r_[0, found]) >= 0).all() and (np.diff(found) <= 1).all()


def test_found_rows_are_counted_by_the_truth_whatever_the_expert_says(problem):
    right, _ = audits.audit("DAE_uai", problem, 0, 20, 20)
    wrong, _ = audits.audit("DAE_uai", problem, 0, 20, 20, noise=1.0)
    # One round: the verdicts come after the choice.
    np.testing.assert_array_equal(right, wrong)


@pytest.mark.parametrize("method", ["DAE_uai", "DAE_uai, defaults", "LODA-AAD", "Tree-AAD"])
def test_every_row_costs_a_verdict_as_in_the_papers(method, problem):
    twice = Problem(np.repeat(problem.X[::30], 3, axis=0), np.repeat(problem.truth[::30], 3))
    found, _ = audits.audit(method, twice, 0, 30, 10)
    assert len(found) == 30


def test_clean_training_is_judged_by_rows_that_it_has_not_seen(problem):
    f1, seconds = audits.semi_supervised_f1("DAGMM (clean)", problem, 0)
    assert 0 <= f1 <= 1 and seconds > 0


def test_expert_errs_on_the_share_that_is_asked_for():
    truth = np.repeat([1, -1], [9_000, 1_000])
    answers = audits.noisy(truth, 0.1, 0)
    assert 0.09 < np.mean(answers != truth) < 0.11
    np.testing.assert_array_equal(answers, audits.noisy(truth, 0.1, 0))
    np.testing.assert_array_equal(audits.noisy(truth, 0.0, 0), truth)


def test_rounds_are_the_papers(problem):
    assert audits.rows_a_round(problem) == 3
    assert audits.rows_a_round(Problem(problem.X, np.repeat([1, -1], [200, 100]))) == 10


def test_larger_rounds_have_the_papers_cold_start_and_more_steps(problem):
    for method, k, cold_start, n_steps in (
        ("DAE_uai", 10, 10, 100),
        ("DAE_uai", 20, 5, 200),
        ("DAE_uai", 40, 3, 300),
        ("DAE_uai, auto", 1_000, "auto", 300),
    ):
        detector = audits.in_rounds_of(k, 10, methods.make(method, 0, problem))
        assert (detector.cold_start, detector.n_steps) == (cold_start, n_steps)


def test_networks_are_the_papers(problem):
    detector = methods.make("DAE_uai", 0, problem)
    base = detector.estimator.estimator
    assert (*base.hidden_layer_sizes, base.latent_dim) == (256, 64, 8)
    assert (detector.cold_start, detector.n_steps) == (10, 100)
    assert methods._epochs(10**6) == 1
    optimizer = base.optimizer([torch.zeros(1, requires_grad=True)], lr=0.01)
    assert type(optimizer).__name__ == "RMSprop" and optimizer.defaults["alpha"] == 0.9


def test_methods_start_from_one_training(problem):
    alone, upon = methods.make("DAE", 3, problem), methods.make("DAE_uai", 3, problem)
    assert alone.estimator is upon.estimator.estimator
    # Which is what a UAI would train itself.
    own = upon.set_params(estimator=clone(alone.estimator)).fit(problem.X)
    np.testing.assert_array_equal(own.score_samples(problem.X), alone.score_samples(problem.X))


def test_curve_has_the_found_at_every_point():
    found = np.array([0, 1, 1, 2, 3, 3])
    assert audits.audited_share(found, 6, 3) == "1:0 4:2 6:3"
    # A table that was audited to its end before the budget.
    assert audits.audited_share(found, 12, 2) == "1:0 12:3"


def test_published_figures():
    assert paper_f1("kddcup", "DAE_uai") == {"paper_f1": "0.94", "paper_sd": "0.0191"}
    assert paper_f1("mmg", "Tree-AAD")["paper_f1"] == "0.59"
    assert paper_f1("mnist_0", "Class") == {}


def test_missing_set_leaves_its_cells_open(monkeypatch, capsys):
    def missing(**kwargs):
        raise OSError("creditcard.csv is not there")

    monkeypatch.setattr(problems, "fetch_creditcard", missing)
    listed = uainets.jobs(("table1",), ("creditcard", "yeast"), ("DAE",), 2, None, 100)
    assert [job.key["dataset"] for job in listed] == ["yeast", "yeast"]
    assert "creditcard.csv is not there" in capsys.readouterr().out


def test_jobs_are_known_again(tmp_path, problem, monkeypatch):
    monkeypatch.setattr(uainets, "table_problem", lambda dataset, seed: problem)
    (job,) = uainets.jobs(("table1",), ("yeast",), ("LODA-AAD",), 1, None, 100)
    rows = job.function(**job.arguments)
    assert rows[0]["paper_f1"] == "0.31" and rows[0]["k"] == 3
    assert rows[0]["curve"].endswith(f"20:{round(float(rows[0]['f1']) * 20)}")
    file = uainets.result_files(tmp_path, "made by a test")[job.table]
    assert not file.has(job)
    file.append([{**job.key, "seed": 0, **row} for row in rows])
    assert file.has(job)


def test_progress_shows_a_figure_of_every_part(problem, monkeypatch):
    monkeypatch.setattr(uainets, "image_problem", lambda dataset, seed: problem)
    (row,) = uainets.run_images("mnist_0", "Tree-AAD", 0, 3, 6)
    assert headline(row) == f"found {row['found']}"
    shown = headline(
        novelty._row("DAE", 10, 500, 7, np.arange(4.0), np.arange(4) < 2, np.arange(4) < 1)
    )
    assert shown == "found 7"


def test_recall_is_told_apart_by_what_was_seen():
    attacks, seen = np.array([1, 1, 1, 0, 0], bool), np.array([1, 0, 0, 1, 0], bool)
    # Of the three rows with the lowest scores, one is normal.
    row = novelty._row("DAE", 10, 0, 0, np.array([0.1, 0.2, 0.9, 0.3, 0.8]), attacks, seen)
    assert (row["seen"], row["unseen"]) == ("1.0000", "0.5000")


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "file", "shape", "n_anomalies"),
    [
        ("yeast", "aad_benchmark/yeast_1.csv", (1_191, 8), 55),
        ("abalone", "aad_benchmark/abalone_1.csv", (1_920, 9), 29),
        ("ctg", "aad_benchmark/cardiotocography_1_1.csv", (1_700, 21), 45),
        ("mmg", "aad_benchmark/mammography_1.csv", (11_183, 6), 260),
        ("shuttle", "aad_benchmark/shuttle_1v23567_1.csv", (12_345, 9), 867),
        ("thyroid", "thyroid/thyroid.mat", (3_772, 6), 93),
        ("arrhythmia", "arrhythmia/arrhythmia.mat", (452, 274), 66),
        ("covtype", "cover/10_cover.npz", (286_048, 10), 2_747),
    ],
)
def test_tables_are_the_papers(name, file, shape, n_anomalies):
    require_data(file)
    problem = table_problem(name, 0)
    assert problem.X.shape == shape and problem.X.dtype == np.float32
    assert problem.n_anomalies == n_anomalies


@pytest.mark.data
def test_image_problem():
    require_data("mnist/train-images-idx3-ubyte.gz", "mnist/train-labels-idx1-ubyte.gz")
    problem = image_problem("mnist_0", 0)
    assert problem.X.min() == 0 and problem.X.max() == 1
    assert 500 < problem.n_anomalies < 700
    # The given label of an anomaly is that of another digit.
    assert 0 not in problem.label
    rows = methods.rows_of("Class", problem)
    np.testing.assert_array_equal(rows[:, -1], problem.label)


def test_rows_of_every_part_fit_its_file(tmp_path, problem, monkeypatch):
    monkeypatch.setattr(uainets, "table_problem", lambda dataset, seed: problem)
    monkeypatch.setattr(uainets, "image_problem", lambda dataset, seed: problem)
    parts = ("table1", "others", "noise", "figure3")
    listed = uainets.jobs(parts, ("thyroid", "cardio", "mnist_0"), ("Tree-AAD", "DAE"), 1, 5, 10)
    files = uainets.result_files(tmp_path, "made by a test")
    assert {job.table for job in listed} == {f"uainets_{part}" for part in parts}
    for job in listed:
        rows = job.function(**job.arguments)
        files[job.table].append([{**job.key, "seed": job.seed, **row} for row in rows])
        assert files[job.table].has(job)
