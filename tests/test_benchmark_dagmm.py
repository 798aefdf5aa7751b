"""The script of DAGMM's tables: which runs there are, what they fit, and what they write."""

import numpy as np
import pytest
from _data import require_data

from anomaly_estimators import DAGMM
from benchmarks.reproduce.dagmm import jobs, jumps, outcomes, spaces, who_finds
from benchmarks.reproduce.dagmm.methods import METHODS, Untrained, dagmm_settings
from benchmarks.reproduce.dagmm.problems import Problem
from benchmarks.reproduce.dagmm.published import TABLE_2, TABLE_3, TABLE_4
from benchmarks.reproduce.dagmm.settings import DATASETS

SETS = list(DATASETS)


def listed(tables, **options):
    options = {"datasets": SETS, "methods": jobs.METHOD_NAMES, "n_runs": 2, **options}
    return jobs.stages(tables, **options)


def rows_of(job):
    return [(*job.key.values(), name) for name in job.methods]


def test_table_2_has_every_method_of_the_paper_on_every_set_and_seed():
    found = [
        (*row, job.seed) for stage in listed(["table2"]) for job in stage for row in rows_of(job)
    ]
    assert len(found) == len(set(found))
    expected = {(name, row, seed) for name in SETS for row in TABLE_2 for seed in (0, 1)}
    assert expected <= set(found)


def test_table_3_has_the_methods_of_the_paper_and_an_approximation():
    found = {row for stage in listed(["table3"]) for job in stage for row in rows_of(job)}
    expected = {(f"{percent} %", row) for row in TABLE_3 for percent in TABLE_3[row]}
    assert expected <= found
    assert ("5 %", "OC-SVM, Nystroem") in found and ("5 %", "PAE") not in found


def test_what_starts_from_the_autoencoder_comes_after_it():
    first, second = listed(["table2"], n_runs=1)
    started = {job.arguments["method"] for job in second}
    assert started == {"DCN", "PAE-GMM-EM", "PAE-GMM", "DAGMM-p"}
    assert "PAE" in {job.arguments["method"] for job in first}


def test_published_figures_agree_with_each_other():
    """They were typed: F1 lies between precision and recall, in the mean over runs too."""
    figures = [f for table in (TABLE_2, TABLE_3) for row in table.values() for f in row.values()]
    assert len(figures) == 48 + 20
    assert all(min(f[:2]) - 0.003 <= f[2] <= max(f[:2]) + 0.003 for f in figures)
    # "In the testing data of this run, there are 48,889 anomalies in total."
    assert sum(TABLE_4.values()) == 48_889


def test_base_1_of_table_5_is_table_2(tmp_path):
    files = jobs.result_files(tmp_path, "made by a test")
    row = {"dataset": "KDDCUP", "method": "DAGMM", "seed": 0, "f1": 0.9, "paper_f1": 0.9369}
    files["dagmm_table2"].append([row, {**row, "dataset": "Thyroid"}, {**row, "method": "PAE"}])
    for _ in range(2):  # a second call copies nothing
        jobs.share_runs(files)
    (copy,) = files["dagmm_table5"].rows()
    assert (copy["base"], copy["f1"], copy["paper_f1"]) == ("1", "0.9", "0.9371")


def test_base_multiplies_both_weights():
    one, three = (dagmm_settings(Problem("KDDCUP", 0, base=base)) for base in (1, 3))
    assert (one["lambda1"], one["lambda2"]) == (0.1, 0.005)
    assert three["lambda1"] == pytest.approx(0.3) and three["lambda2"] == pytest.approx(0.015)


def test_jump_is_the_mean_change_over_the_second_half():
    points = [{"f1": f1, "roc_auc": 0.5} for f1 in (0.1, 0.9, 0.5, 0.7)]
    summary = jumps.summarise(points)
    assert (summary["f1"], summary["f1_lowest"], summary["jump"]) == ("0.7000", "0.5000", "0.2000")


@pytest.fixture
def no_cache(monkeypatch, tmp_path):
    """Keep the runs of the tests out of the folder that the figures are drawn from."""
    import joblib

    from benchmarks.reproduce.dagmm import methods

    memory = joblib.Memory(tmp_path, verbose=0)
    monkeypatch.setattr(outcomes, "CACHE", memory)
    monkeypatch.setattr(methods, "_autoencoder", memory.cache(methods._autoencoder.func))


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"OC-SVM, Nystroem", "OC-SVM, all rows"}))
def test_rows_of_a_real_set(method, no_cache):
    require_data("thyroid/thyroid.mat")
    problem = Problem("Thyroid", 0, max_iter=3)
    published = {name: figures["Thyroid"] for name, figures in TABLE_2.items()}
    found = outcomes.rows(problem, method, published)
    names = [name for name, _ in METHODS[method].rows]
    assert [row["method"] for row in found][: len(names)] == names
    for row in found:
        assert all(0 <= float(row[m]) <= 1 for m in (*outcomes.MEASURES, "roc_auc"))
        assert ("paper_f1" in row) == (row["method"] in TABLE_2)
        has_decoder = method not in ("OC-SVM", "DSEBM", "PAE-GMM-EM")
        assert ("reconstruction_error" in row) == has_decoder


def test_the_untrained_control_differs_from_the_trained_one(no_cache):
    require_data("thyroid/thyroid.mat")
    problem = Problem("Thyroid", 0, max_iter=30)
    trained, untrained = (
        outcomes.outcome(problem, name).scores[name] for name in ("DAGMM", "DAGMM, untrained")
    )
    assert issubclass(Untrained, DAGMM) and not np.allclose(trained, untrained)


def test_each_anomaly_is_found_by_both_one_or_none(no_cache, tmp_path):
    require_data("thyroid/thyroid.mat")
    problem = Problem("Thyroid", 0, max_iter=3)
    groups = who_finds.found_by(problem)
    np.testing.assert_array_equal(sum(groups.values()), problem.y_test < 0)
    for name, only in zip(who_finds.PAIR, ("DAGMM only", "PAE-GMM only"), strict=True):
        scores = outcomes.outcome(problem, name).scores[name]
        cut = np.sort(scores)[round(problem.ratio * len(scores)) - 1]
        found = groups["both"] | groups[only]
        np.testing.assert_array_equal(found, (scores <= cut) & (problem.y_test < 0))
    who_finds.write_table(problem, tmp_path, "made by a test")
    text = (tmp_path / "dagmm_table4.csv").read_text()
    assert text.count("\nThyroid,0,") == 4


def test_own_threshold_and_known_share_of_oc_svm(no_cache):
    require_data("thyroid/thyroid.mat")
    own, ranked = outcomes.rows(Problem("Thyroid", 0), "OC-SVM", {})
    assert (own["method"], ranked["method"]) == ("OC-SVM", "OC-SVM, known ratio")
    assert own["roc_auc"] == ranked["roc_auc"] and own["f1"] != ranked["f1"]
    found = outcomes.outcome(Problem("Thyroid", 0), "OC-SVM").flagged["OC-SVM"]
    # nu bounds the share of the training rows outside; the test half has anomalies beside.
    assert 0.01 < found.mean() < 0.1


def test_spaces_tell_the_penalty_of_the_normal_rows(no_cache, tmp_path):
    require_data("thyroid/thyroid.mat")
    spaces.write_table(["Thyroid"], tmp_path, "made by a test", max_iter=2)
    lines = (tmp_path / "dagmm_spaces.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines if line.startswith("Thyroid")]
    # The weaker penalty is for KDDCUP.
    assert [row[1] for row in rows] == list(spaces.METHODS[:-1])
    for row in rows:
        *variances, penalty, normal, anomalies = map(float, row[3:])
        assert penalty == pytest.approx(0.005 * sum(1 / v for v in variances), rel=1e-3)
        assert normal > 0 and anomalies > 0
    problem = Problem("Thyroid", 0, max_iter=2)
    errors = outcomes.outcome(problem, "PAE").errors
    assert float(rows[1][-2]) == pytest.approx(errors[problem.y_test > 0].mean(), rel=1e-3)


def test_merged_rows_make_the_same_machine(no_cache):
    """OC-SVM on distinct rows with weights, against libsvm on all of them."""
    require_data("thyroid/thyroid.mat")
    problem = Problem("Thyroid", 0)
    # Each row once to four times.
    repeated = np.repeat(problem.X_train[::8], 1 + np.arange(len(problem.X_train[::8])) % 4, axis=0)
    vars(problem)["_split"] = (repeated, *problem._split[1:])
    exact, weighted = (METHODS[name].fit(problem) for name in ("OC-SVM", "OC-SVM, all rows"))
    assert len(weighted[-1].support_) < len(exact[-1].support_)
    found, expected = (fit.decision_function(problem.X_test) for fit in (weighted, exact))
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.ptp(expected))
