"""The script that regenerates the table and the figures of the VAE with flows."""

import numpy as np
import pytest
from scipy import stats

from anomaly_estimators.datasets import fetch_kddcup99
from benchmarks.reproduce.runner import headline
from benchmarks.reproduce.vae_flows import jobs as vae_flows
from benchmarks.reproduce.vae_flows import methods
from benchmarks.reproduce.vae_flows.problems import RINGS, Ring, split_attacks
from benchmarks.reproduce.vae_flows.published import paper_f1
from tests._data import require_data

# Table 1 of the paper, line by line.
TABLE_1 = """\
BASE VAE\tN/A\t0.938\t0.0008
PLANAR VAE\t5\t0.936\t0.0012
PLANAR VAE\t50\t0.937\t0.0002
IAF VAE\t5\t0.936\t0.0007
IAF VAE\t50\t0.911\t0.0121"""


@pytest.fixture
def table():
    """Two kinds of normal rows, many of them alike, and anomalies elsewhere."""
    rng = np.random.default_rng(0)
    kinds = rng.uniform(size=(40, 6)).astype(np.float32)
    normal = kinds[rng.integers(40, size=800)]
    anomalies = rng.uniform(1.5, 2.5, size=(200, 6)).astype(np.float32)
    return np.r_[normal, anomalies], np.repeat([1, -1], [800, 200])


@pytest.mark.parametrize("line", TABLE_1.splitlines())
def test_published_figures_are_those_of_table_1(line):
    flow, number, f1, sd = line.split("\t")
    names = {"BASE VAE": "base", "PLANAR VAE": f"planar {number}", "IAF VAE": f"IAF {number}"}
    assert names[flow] in methods.MODELS
    assert paper_f1(names[flow]) == {"paper_f1": f1, "paper_sd": sd}


def test_split_trains_on_normal_rows_of_four_fifths(table):
    X, y = table
    split = split_attacks(X, y)
    assert len(split.position) == len(split.truth) == 200
    assert len(split.train) == 800 - np.count_nonzero(split.truth > 0)
    # None of the anomalies is trained on: they alone lie above 1.
    assert split.train.max() <= 1.0
    test = split.different[split.position]
    np.testing.assert_array_equal(test.max(axis=1) > 1.0, split.truth < 0)
    # No row is in both parts, and none is lost: all rows, sorted, are those that there were.
    normal = np.r_[split.train, test[split.truth > 0]]
    np.testing.assert_array_equal(np.sort(normal, axis=0), np.sort(X[y > 0], axis=0))
    assert len(np.unique(split.different, axis=0)) == len(split.different) < len(test)


@pytest.mark.parametrize("noise", RINGS)
def test_entropy_of_the_ring(noise):
    ring = RINGS[noise]
    drawn = ring.log_density(ring.draw(200_000, seed=0))
    error = drawn.std() / np.sqrt(drawn.size)
    assert ring.mean_log_density() == pytest.approx(drawn.mean(), abs=4 * error)
    # On a thin ring, the circle and the noise across it are independent.
    thin = -np.log(2 * np.pi) - stats.norm(scale=float(noise)).entropy()
    assert ring.mean_log_density() == pytest.approx(thin, abs=float(noise) ** 2)


def test_density_of_the_ring_is_that_of_a_mixture_of_gaussians():
    ring = Ring(0.3, radius=0.7)
    angles = 2 * np.pi * np.arange(2_000) / 2_000
    centres = 0.7 * np.column_stack([np.cos(angles), np.sin(angles)])
    points = np.array([[0.0, 0.0], [0.7, 0.0], [-0.5, 1.0], [3.0, 2.0]])
    densities = stats.norm(scale=0.3).pdf(points[:, None] - centres).prod(axis=2).mean(axis=1)
    np.testing.assert_allclose(ring.log_density(points), np.log(densities), rtol=1e-9)


def test_no_model_has_a_density_above_that_of_the_ring():
    ring = Ring(0.1)
    points = ring.draw(5_000, seed=0)
    for model in (Ring(0.12), Ring(0.08), Ring(0.1, radius=1.05)):
        assert model.log_density(points).mean() < ring.log_density(points).mean()


@pytest.mark.parametrize("flow", [None, "planar", "iaf"])
@pytest.mark.parametrize("scaler", [None, "minmax"])
def test_what_is_measured_is_what_the_detector_scores(flow, scaler):
    X = Ring(0.1).draw(600, seed=0)
    detector = methods.Ranked(flow=flow, scaler=scaler, max_iter=2, n_draws=7, random_state=0)
    figures = methods.measured(detector.fit(X), X)
    names = ("reconstruction_probability", "elbo", "importance_weighted")
    for score, name in zip(methods.SCORES, names, strict=True):
        expected = detector.set_params(anomaly_score=name).score_samples(X)
        np.testing.assert_allclose(figures[score], expected, rtol=1e-5, atol=1e-5)
    assert (figures["importance weighted"] >= figures["ELBO"] - 1e-5).all()
    np.testing.assert_allclose(figures["KL"], figures["A(x)"] - figures["ELBO"], atol=1e-4)


def test_ranking_needs_no_threshold():
    X = Ring(0.1).draw(200, seed=0)
    plain = methods.VAE(max_iter=2, random_state=0).fit(X)
    ranked = methods.Ranked(max_iter=2, random_state=0).fit(X)
    np.testing.assert_array_equal(plain.score_samples(X), ranked.score_samples(X))
    assert not hasattr(ranked, "offset_")


def test_rows_of_every_part_fit_its_file(tmp_path, table, monkeypatch):
    monkeypatch.setattr(vae_flows, "kddcup", lambda: split_attacks(*table))
    monkeypatch.setattr(vae_flows, "_N_TRAIN", 200)
    monkeypatch.setattr(vae_flows, "_N_TEST", 20)
    monkeypatch.setitem(methods.RING, "n_flows", 2)
    monkeypatch.setitem(methods.RING, "n_draws", 5)
    listed = vae_flows.jobs(vae_flows.PARTS, ["base", "IAF 5"], 1, max_iter=1)
    files = vae_flows.result_files(tmp_path, "made by a test")
    assert {job.table for job in listed} == files.keys()
    for job in listed:
        assert not files[job.table].has(job)
        rows = job.function(**job.arguments)
        assert headline(rows[0])
        files[job.table].append([{**job.key, "seed": job.seed, **row} for row in rows])
        assert files[job.table].has(job)
    first = files["vae_flows_table1"].rows()[0]
    assert (first["score"], first["paper_f1"]) == ("A(x)", "0.938")


def test_sweep_changes_one_thing_at_a_time():
    for changes in methods.SWEEP.values():
        assert all(methods.RING.get(name) != value for name, value in changes.items())
        assert len(changes) <= 1 or "kl_schedule" in changes


def test_fifth_of_the_test_rows_is_flagged(table, monkeypatch):
    monkeypatch.setattr(vae_flows, "kddcup", lambda: split_attacks(*table))
    monkeypatch.setattr(vae_flows, "FLAGGED", 0.5)
    half = vae_flows.run_kddcup("Gaussian", "base", 0, 2)
    # All anomalies are far off and found; half of the test rows are flagged.
    truth = split_attacks(*table).truth
    n_anomalies = np.count_nonzero(truth < 0)
    expected = 2 * n_anomalies / (n_anomalies + len(truth) / 2)
    assert float(half[0]["f1"]) == pytest.approx(expected, abs=1e-4)


@pytest.mark.data
def test_split_of_kddcup():
    require_data("kddcup99/kddcup.data_10_percent.gz")
    X, y = fetch_kddcup99(return_X_y=True)
    split = split_attacks(X, y)
    n_train = int(0.8 * len(y))
    assert len(split.truth) == len(y) - n_train == 98_805
    n_anomalies = np.count_nonzero(split.truth < 0)
    # The paper's "20 %".
    assert n_anomalies / len(split.truth) == pytest.approx(0.2, abs=0.005)
    assert len(split.train) == n_train - (np.count_nonzero(y < 0) - n_anomalies)
    assert split.train.shape[1] == X.shape[1] == 120 and split.train.dtype == np.float32
