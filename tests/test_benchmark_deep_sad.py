"""The script that regenerates the tables of Deep SAD."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from anomaly_estimators.model_selection import ScenarioSetup
from benchmarks.reproduce.deep_sad import jobs as deep_sad
from benchmarks.reproduce.deep_sad.methods import (
    METHODS,
    Experiment,
    evaluate,
    fit_autoencoder,
)
from benchmarks.reproduce.deep_sad.problems import (
    NETWORKS,
    Problem,
    image_problem,
    tabular_problem,
)
from benchmarks.reproduce.deep_sad.published import paper_auc
from tests._data import require_data


@pytest.fixture
def problem():
    """Two clouds in the place of cardio, with its network."""
    rng = np.random.default_rng(0)
    normal, anomalies = rng.normal(size=(80, 21)), rng.normal(3, 1, size=(40, 21))
    return Problem(
        "cardio",
        np.r_[normal[:50], anomalies[:4]],
        np.repeat([0, -1], [50, 4]),
        np.r_[normal[50:], anomalies[4:]],
        np.repeat([1, -1], [30, 36]),
        np.arange(0, 66, 6),
    )


@pytest.mark.parametrize("method", METHODS)
def test_every_method_ranks_the_test_rows(method, problem):
    experiment = Experiment(problem, 0, 2, lambda: fit_autoencoder(problem, 0, 2))
    assert 0 <= evaluate(experiment, method) <= 1


def test_deep_methods_start_from_one_autoencoder(problem):
    calls = []

    def make():
        calls.append(1)
        return fit_autoencoder(problem, 0, 1)

    experiment = Experiment(problem, 0, 1, make)
    for method in ("CAE", "Deep SVDD, one-class", "Deep SAD", "IF Hybrid"):
        evaluate(experiment, method)
    assert calls == [1]


def test_the_papers_autoencoder(problem):
    network = problem.autoencoder_network()(21)
    assert [m.out_features for m in network.encoder if hasattr(m, "out_features")] == [32, 16, 8]
    assert not [name for name, _ in network.named_parameters() if "bias" in name]
    for parameter in network.parameters():
        bound = np.sqrt(6 / sum(parameter.shape))
        assert 0.8 * bound < float(parameter.detach().abs().max()) <= bound


def test_published_figures():
    assert paper_auc(6, "cardio", "", "Deep SAD, defaults") == {
        "paper_roc_auc": "0.950",
        "paper_sd": "0.016",
    }
    assert paper_auc(3, "fashion_mnist", ".05", "SSAD Raw")["paper_roc_auc"] == "0.883"
    assert paper_auc(6, "cardio", "", "IF Raw") == {}


def test_methods_of_a_cell_are_those_that_the_cell_tells_apart():
    arguments = {"n_runs": 1, "n_setups": 2, "methods": ("Deep SAD", "CAE")}
    of = {}
    for job in deep_sad.jobs(("table3", "table4", "table5"), ("mnist",), **arguments):
        of.setdefault(job.table[-6:], {})[list(job.key.values())[1]] = job.methods
    assert of["table3"][".00"] == of["table5"]["0"] == ("CAE",)
    assert of["table3"][".05"] == of["table5"]["3"] == ("Deep SAD",)
    assert of["table4"][".10"] == ("CAE", "Deep SAD")


def test_fraction_of_the_setups_has_every_class_as_often():
    jobs = deep_sad.jobs(("table3",), ("mnist",), 1, 10, ("Deep SAD",))
    at_five_percent = [job for job in jobs if job.key["gamma_l"] == ".05"]
    assert sorted(job.key["normal_class"] for job in at_five_percent) == list("0123456789")


@pytest.mark.data
def test_tabular_protocol():
    require_data("cardio/cardio.mat")
    problem = tabular_problem("cardio", 0)
    n_labelled = int((problem.y == -1).sum())
    assert n_labelled == round(0.01 * len(problem.y))
    assert (problem.y[:-n_labelled] == 0).all()
    assert len(problem.truth_test) == 1831 - int(0.6 * 1831)
    assert len(problem.selected) == len(problem.truth_test) // 10
    np.testing.assert_allclose(problem.X.mean(axis=0), 0, atol=1e-10)
    again = tabular_problem("cardio", 1)
    assert not np.array_equal(problem.X_test, again.X_test)


@pytest.mark.data
def test_image_protocol():
    for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        require_data(f"mnist/{part}-ubyte.gz")
    setup = ScenarioSetup(4, (9,), 0)
    problem = image_problem("mnist", setup, labelled_ratio=0.05, pollution=0.1)
    n_unlabelled, n_labelled = (problem.y == 0).sum(), (problem.y == -1).sum()
    assert n_labelled == round(0.05 / 0.95 * n_unlabelled)
    assert n_unlabelled == round(5842 / 0.9)  # 5,842 fours
    assert problem.X.min() == 0 and problem.X.max() == 1
    assert (problem.truth_test == 1).sum() == 982 and len(problem.truth_test) == 10_000
    clean = image_problem("mnist", ScenarioSetup(4, (), 4), labelled_ratio=0.05, pollution=0.0)
    assert (clean.y == 0).all() and len(clean.y) == 5842


@pytest.mark.data
def test_a_row_of_table_6(tmp_path):
    require_data("thyroid/thyroid.mat")
    rows = deep_sad.run_tabular("thyroid", 0, ("SSAD Raw", "Deep SAD, 10 x rate"), max_iter=2)
    assert [row["paper_roc_auc"] for row in rows] == ["0.979", "0.986"]
    assert all(float(row["roc_auc"]) > 0.5 for row in rows)
    file = deep_sad.result_files(tmp_path, "made by a test")["deep_sad_table6"]
    file.append([{"dataset": "thyroid", "seed": 0, **row} for row in rows])
    (job,) = deep_sad.jobs(("table6",), ("thyroid",), 1, 0, [row["method"] for row in rows])
    assert file.has(job)


def test_scores_are_higher_for_normal_rows(problem):
    experiment = Experiment(problem, 0, 30, lambda: fit_autoencoder(problem, 0, 30))
    assert evaluate(experiment, "IF Raw") > 0.9
    assert evaluate(experiment, "Deep SAD, normalised, 10 x rate") > 0.8
    distance = -np.linalg.norm(problem.X_test, axis=1)
    assert roc_auc_score(problem.truth_test, distance) > 0.9


def test_every_data_set_has_a_network():
    assert set(NETWORKS) == set(deep_sad.DATASETS)
