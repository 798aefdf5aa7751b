"""The script that regenerates the tables of AnoDM."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from benchmarks.reproduce.anodm import jobs as anodm_jobs
from benchmarks.reproduce.anodm import measures, problems
from benchmarks.reproduce.anodm.measures import ALPHAS, measure, sweep
from benchmarks.reproduce.anodm.methods import EPOCHS, NETWORKS, anodm
from benchmarks.reproduce.anodm.problems import DATASETS, problem
from benchmarks.reproduce.anodm.published import _figures, paper_figures
from tests._data import require_data

# What the paper's tables print, row by row: mean-based and z-based, each with beta and alpha.
TABLE_2 = {
    ("mnist", 0): ("0.984 0.01 0.8", "0.985 0.8 0.1"),
    ("mnist", 2): ("0.990 0.4 0.9", "0.991 0.2 0.9"),
    ("mnist", 9): ("0.928 0.4 0.8", "0.925 0.05 0.8"),
    ("fashion_mnist", 1): ("0.977 0.01 0.8", "0.978 0.01 0.8"),
    ("fashion_mnist", 4): ("0.760 0.1 0.0", "0.763 0.3 0.0"),
    ("cifar10", 2): ("0.589 1.0 0.0", "0.558 0.7 0.0"),
    ("cifar10", 8): ("0.642 0.3 0.0", "0.624 1.2 0.0"),
    ("smallnorb", 0): ("0.512 0.1 0.0", "0.520 7.0 0.0"),
    ("smallnorb", 2): ("0.771 0.05 1.0", "0.771 0.05 1.0"),
    ("heartbeats", 0): ("0.911 0.05 0.95", "0.906 0.01 0.95"),
    ("heartbeats", 4): ("0.991 0.01 0.99", "0.991 0.01 0.99"),
}
# CapsNet twice, AnoGAN, ADGAN, beta-VAE, AnoDM.
TABLE_1 = {
    ("mnist", 0): "0.998 0.947 0.990 0.999 0.890 0.985",
    ("mnist", 9): "0.990 0.871 0.958 0.965 0.794 0.928",
    ("mnist", "avg"): "0.977 0.925 0.937 0.968 0.913 0.975",
    ("fashion_mnist", 5): "0.691 0.982 - - 0.985 0.990",
    ("fashion_mnist", "avg"): "0.765 0.679 - - 0.683 0.883",
    ("cifar10", 4): "0.683 0.388 0.670 0.794 0.387 0.564",
    ("cifar10", "avg"): "0.612 0.531 0.612 0.634 0.532 0.640",
}
COLUMNS = ("CapsNet PP", "CapsNet RE", "AnoGAN", "ADGAN", "beta-VAE", "AnoDM")
N_CLASSES = {"mnist": 10, "fashion_mnist": 10, "cifar10": 10, "smallnorb": 5, "heartbeats": 5}


# Published figures


@pytest.mark.parametrize("key", TABLE_2, ids=str)
def test_published_figures_of_table_2(key):
    for method, line in zip(("AnoDM, means", "AnoDM, draws"), TABLE_2[key], strict=True):
        expected = dict(zip(("roc_auc", "beta", "alpha"), line.split(), strict=True))
        assert paper_figures(*key, method) == expected


@pytest.mark.parametrize("key", TABLE_1, ids=str)
def test_published_figures_of_table_1(key):
    for method, printed in zip(COLUMNS, TABLE_1[key].split(), strict=True):
        expected = {} if printed == "-" else {"roc_auc": printed, "beta": "", "alpha": ""}
        assert paper_figures(*key, method) == expected


def test_published_means_are_those_of_the_classes():
    """A slip in any class would show, but for the third digit."""
    checked = 0
    for (dataset, anomaly, method), row in _figures().items():
        if anomaly != "avg":
            continue
        areas = [
            float(paper_figures(dataset, c, method)["roc_auc"]) for c in range(N_CLASSES[dataset])
        ]
        assert np.mean(areas) == pytest.approx(float(row["roc_auc"]), abs=0.00151), (
            dataset,
            method,
        )
        checked += 1
    assert checked == 6 + 4 + 6 + 2 * 5


def test_table_1_has_the_better_of_the_two_ways_of_table_2():
    for dataset in ("mnist", "fashion_mnist", "cifar10"):
        for anomaly in range(10):
            ways = [
                float(paper_figures(dataset, anomaly, method)["roc_auc"])
                for method in ("AnoDM, means", "AnoDM, draws")
            ]
            assert float(paper_figures(dataset, anomaly, "AnoDM")["roc_auc"]) == max(ways)


def test_published_values_are_of_the_papers_grids():
    for row in _figures().values():
        assert 0 < float(row["roc_auc"]) <= 1 and len(row["roc_auc"]) == 5
        if row["alpha"]:
            assert float(row["alpha"]) in ALPHAS
    assert paper_figures("smallnorb", 0, "AnoDM") == {}
    assert paper_figures("mnist", 10, "AnoDM") == {}


# The sweep


def test_sweep_is_that_of_the_scores():
    rng = np.random.default_rng(0)
    anomalous = np.arange(60) % 4 == 0
    terms = rng.random((60, 2)) + np.outer(anomalous, [0.3, 0.1])
    found = sweep(terms, anomalous)
    assert len(found) == len(ALPHAS) == 16 and list(ALPHAS) == sorted(ALPHAS)
    assert ALPHAS[0] == 0 and ALPHAS[-1] == 1
    for alpha, area in zip(ALPHAS, found, strict=True):
        score = alpha * terms[:, 0] + (1 - alpha) * terms[:, 1]
        # Pairs of an anomaly and a normal row in the right order.
        right = (score[anomalous][:, None] > score[~anomalous]).mean()
        assert area == pytest.approx(right, abs=1e-12)
    assert found[-1] == roc_auc_score(anomalous, terms[:, 0])
    assert found[0] == roc_auc_score(anomalous, terms[:, 1])


# The networks of table 3


def dense(n_in, n_out):
    return n_in * n_out + n_out


def conv(n_in, n_out, area):
    return n_in * n_out * area + n_out


DIGITS = {
    "encoder": conv(1, 32, 9) + conv(32, 32, 9) + dense(32 * 7 * 7, 128) + dense(128, 128),
    "decoder": dense(128, 1568) + conv(32, 32, 9) + conv(32, 1, 9),
}
_DECONVOLUTIONS = (
    conv(128, 64, 3) + conv(64, 64, 3) * 2 + conv(64, 32, 3) + conv(32, 32, 3) + conv(32, 1, 3)
)
_TCN = conv(1, 64, 4) + 11 * conv(64, 64, 4) + conv(1, 64, 1)
BEATS_DECODER = dense(256, 384) + _DECONVOLUTIONS
COUNTS = {
    ("mnist", "conv"): DIGITS,
    ("fashion_mnist", "conv"): DIGITS,
    ("cifar10", "conv"): {
        "encoder": conv(3, 64, 9)
        + conv(64, 128, 25)
        + conv(128, 128, 25)
        + dense(2048, 256)
        + dense(256, 256),
        "decoder": dense(256, 256)
        + dense(256, 2048)
        + conv(128, 128, 25)
        + conv(128, 64, 25)
        + conv(64, 3, 9),
    },
    ("smallnorb", "conv"): {
        "encoder": conv(1, 32, 9)
        + conv(32, 64, 9)
        + conv(64, 128, 9)
        + dense(2048, 256)
        + dense(256, 256),
        "decoder": dense(256, 256)
        + dense(256, 2048)
        + conv(128, 64, 9)
        + conv(64, 32, 9)
        + conv(32, 1, 9),
    },
    ("heartbeats", "tcn"): {"encoder": _TCN + dense(64, 256), "decoder": BEATS_DECODER},
    ("heartbeats", "lstm"): {
        "encoder": 4 * (64 * 1 + 64 * 64 + 2 * 64) + dense(64, 256),
        "decoder": BEATS_DECODER,
    },
    ("heartbeats", "conv"): {
        "encoder": conv(1, 32, 3)
        + conv(32, 32, 3)
        + conv(32, 64, 3)
        + 2 * conv(64, 64, 3)
        + conv(64, 128, 3)
        + dense(384, 256),
        "decoder": BEATS_DECODER,
    },
}
WIDTHS = {
    "mnist": (784, 128),
    "fashion_mnist": (784, 128),
    "cifar10": (3072, 256),
    "smallnorb": (1024, 256),
    "heartbeats": (187, 256),
}


def test_every_data_set_has_a_network_and_epochs():
    assert set(NETWORKS) == set(COUNTS)
    assert {dataset for dataset, _ in NETWORKS} == set(DATASETS) == set(EPOCHS)
    assert EPOCHS["mnist"] == EPOCHS["fashion_mnist"] == 20
    assert EPOCHS["cifar10"] == EPOCHS["smallnorb"] == EPOCHS["heartbeats"] == 50


@pytest.mark.parametrize("key", COUNTS, ids=str)
def test_networks_are_those_of_table_3(key):
    n_features, width = WIDTHS[key[0]]
    network = NETWORKS[key](n_features).eval()
    with torch.no_grad():
        code, reconstruction = network(torch.rand(2, n_features))
    assert code.shape == (2, width) and reconstruction.shape == (2, n_features)
    for part, expected in COUNTS[key].items():
        assert sum(p.numel() for p in getattr(network, part).parameters()) == expected, part
    norms = [m for m in network.modules() if "BatchNorm" in type(m).__name__]
    dropouts = {m.p for m in network.modules() if "Dropout" in type(m).__name__}
    # Three convolutions, a dense layer; two dense layers, two deconvolutions.
    assert len(norms) == (8 if key[0] in ("cifar10", "smallnorb") else 0)
    expected = {"cifar10": {0.1}, "smallnorb": {0.3}, "heartbeats": {0.05}}.get(key[0], set())
    assert dropouts == (expected if key[1] != "lstm" and key != ("heartbeats", "conv") else set())


def test_settings_are_those_of_section_4():
    detector = anodm("mnist", "conv", 0.4, 20, 3)
    detector._validate_params()
    assert (detector.beta, detector.max_iter, detector.random_state) == (0.4, 20, 3)
    assert detector.n_neighbors == 1 and detector.perplexity == 30
    assert detector.embedding_max_iter == 1_000 and detector.batch_size == 100
    assert detector.learning_rate == 1e-3 and detector.optimizer == "adam"
    assert not detector.scale_terms and detector.n_landmarks == 5_000
    # Eq 1 without a capacity is the plain beta-VAE's.
    assert detector.kl_schedule == "capacity" and detector.capacity == 0.0
    assert not detector.batch_norm and anodm("cifar10", "conv", 1.0, 1, 0).batch_norm


# Problems and runs


@pytest.fixture
def tiny(monkeypatch):
    """Five classes of noise in the place of the heartbeats."""
    rng = np.random.default_rng(0)
    centres = rng.random((5, 187))

    def load(name):
        y, y_test = np.arange(300) % 5, np.arange(150) % 5
        noise = rng.random((450, 187)) / 4
        X = ((centres[np.concatenate([y, y_test])] + noise) / 1.25).astype(np.float32)
        return X[:300], y, X[300:], y_test

    loaded = load("heartbeats")
    monkeypatch.setattr(problems, "_load", lambda name: loaded)
    return loaded


def test_the_class_is_left_out_of_the_training_rows(tiny):
    X, y, X_test, y_test = tiny
    for anomaly in range(5):
        parts = problem("heartbeats", anomaly, 0)
        np.testing.assert_array_equal(parts.X, X[y != anomaly])
        np.testing.assert_array_equal(parts.X_test, X_test)
        np.testing.assert_array_equal(parts.anomalous, y_test == anomaly)
    few = problem("heartbeats", 2, 0, n_train=50, n_test=40)
    assert len(few.X) == 50 and len(few.X_test) == len(few.anomalous) == 40
    of = {row.tobytes(): kind for row, kind in zip(X, y, strict=True)}
    assert 2 not in {of[row.tobytes()] for row in few.X} and len(np.unique(few.X, axis=0)) == 50
    again = problem("heartbeats", 2, 0, n_train=50, n_test=40)
    np.testing.assert_array_equal(again.X, few.X)
    assert not np.array_equal(problem("heartbeats", 2, 1, n_train=50).X, few.X)


def test_a_run_has_a_row_for_every_method(tiny, monkeypatch, tmp_path):
    monkeypatch.setattr(measures, "TSNEMap", lambda **p: _Map(**{**p, "max_iter": 20}))
    original = measures.anodm

    def small(*arguments):
        return original(*arguments).set_params(embedding_max_iter=20, n_landmarks=60)

    monkeypatch.setattr(measures, "anodm", small)
    rows = measure("heartbeats", 4, "conv", 0.01, 0, 1, 100)
    (job,) = [
        job
        for job in anodm_jobs.jobs(("tables",), ("heartbeats",), (4,), (0.01,), 1, 1, 100)
        if job.key["class"] == "4"
    ]
    assert tuple(row["method"] for row in rows) == job.methods
    by_method = {row["method"]: row for row in rows}
    for row in rows:
        assert 0 <= float(row["roc_auc"]) <= 1
    assert by_method["AnoDM, means"]["paper_roc_auc"] == "0.991"
    assert by_method["map"]["paper_roc_auc"] == ""
    for method in ("AnoDM, means", "AnoDM, draws", "AnoDM, placed"):
        curve = dict(point.split(":") for point in by_method[method]["curve"].split())
        assert [float(alpha) for alpha in curve] == list(ALPHAS)
        best = max(curve.values(), key=float)
        assert by_method[method]["roc_auc"] == best
        assert curve[f"{by_method[method]['alpha']:g}"] == best
    # The ends of the sweep are the terms alone.
    curve = dict(point.split(":") for point in by_method["AnoDM, means"]["curve"].split())
    assert curve["1"] == by_method["beta-VAE"]["roc_auc"]
    assert curve["0"] == by_method["map"]["roc_auc"]
    file = anodm_jobs.result_files(tmp_path, "made by a test")["anodm_tables"]
    file.append([{**job.key, "seed": 0, **row} for row in rows])
    assert file.has(job)


def _Map(**params):
    from anomaly_estimators.manifold import TSNEMap

    return TSNEMap(**params)


def test_jobs_are_those_of_the_parts(monkeypatch):
    monkeypatch.setattr(anodm_jobs, "is_there", lambda name: name != "smallnorb")
    names = list(DATASETS)
    listed = anodm_jobs.jobs(("tables",), names, range(10), (0.01, 1.0), 2)
    # Ten classes of three sets, five of the heartbeats.
    assert len(listed) == 2 * 2 * (3 * 10 + 5)
    assert {job.key["encoder"] for job in listed if job.key["dataset"] == "heartbeats"} == {"tcn"}
    assert {job.key["epochs"] for job in listed if job.key["dataset"] == "mnist"} == {"20"}
    listed = anodm_jobs.jobs(("figure5",), names, range(10), (0.01,), 1)
    assert {(job.key["dataset"], job.key["encoder"]) for job in listed} == {
        ("heartbeats", "tcn"),
        ("heartbeats", "lstm"),
        ("heartbeats", "conv"),
    }
    assert len(listed) == 15
    listed = anodm_jobs.jobs(("figure2",), names, (), (), 1)
    assert len(listed) == 4 * len(anodm_jobs.BETAS)
    assert len({str(job.key) for job in listed}) == len(listed)


# Real data


@pytest.mark.data
def test_digits_with_a_class_left_out():
    for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        require_data(f"mnist/{part}-ubyte.gz")
    parts = problem("mnist", 9, 0)
    # 60,000 less 5,949 nines; half the test set, of which about a tenth are nines.
    assert parts.X.shape == (54_051, 784) and parts.X.dtype == np.float32
    assert parts.X.min() == 0.0 and parts.X.max() == 1.0
    assert parts.X_test.shape == (5_000, 784)
    assert 450 < parts.anomalous.sum() < 560
    few = problem("mnist", 9, 0, n_train=100)
    assert len(few.X) == 100 and len(few.X_test) == 5_000
    other = problem("mnist", 9, 1, n_train=100)
    assert not np.array_equal(other.X, few.X) and not np.array_equal(other.X_test, few.X_test)
