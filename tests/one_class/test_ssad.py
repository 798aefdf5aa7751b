"""SSAD as an estimator."""

import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import laplacian_kernel, rbf_kernel
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM
from sklearn.utils.estimator_checks import check_param_validation, parametrize_with_checks

import anomaly_estimators as ae
from anomaly_estimators.one_class import _kernel_cache
from anomaly_estimators.one_class import ssad as ssad_module
from anomaly_estimators.one_class.ssad import SSAD

several = settings(max_examples=30, deadline=None, derandomize=True, database=None)


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).normal(size=(200, 4))


@pytest.fixture(scope="module")
def y():
    return np.random.default_rng(1).permutation(np.repeat([-1, 0, 1], [20, 160, 20]))


@parametrize_with_checks(
    [
        SSAD(),
        SSAD(eta_u=1.0, gamma=0.05, cache_size=0.001),
        SSAD(kernel="linear", contamination="auto"),
    ]
)
def test_scikit_learn_estimator(estimator, check):
    check(estimator)


def test_parameters_are_validated():
    check_param_validation("SSAD", SSAD())


# Without labels it is the one-class SVM


@several
@given(
    kernel=st.sampled_from(["rbf", "poly", "linear"]),
    nu=st.floats(0.02, 0.9),
    gamma=st.sampled_from(["scale", "auto", 0.05, 2.0]),
    seed=st.integers(0, 1000),
)
def test_without_labels_it_is_the_one_class_svm(kernel, nu, gamma, seed):
    # Off the origin, around which a linear kernel has nothing to find.
    X = np.random.default_rng(seed).normal(size=(60, 3)) + 5
    params = {"kernel": kernel, "nu": nu, "gamma": gamma, "degree": 2, "coef0": 1.0}
    detector = SSAD(tol=1e-9, **params).fit(X)
    with warnings.catch_warnings():
        # It has a limit here, because it may run for ever.
        warnings.simplefilter("ignore", ConvergenceWarning)
        reference = OneClassSVM(tol=1e-9, max_iter=100_000, **params).fit(X)
    # libsvm's weights sum up to nu * n.
    expected = reference.score_samples(X) / (nu * 60)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(detector.score_samples(X), expected, atol=1e-5 * scale)
    new = X[:10] + 0.5
    np.testing.assert_allclose(
        detector.score_samples(new), reference.score_samples(new) / (nu * 60), atol=1e-5 * scale
    )


def test_offset_of_the_one_class_svm_is_rho(X):
    detector = SSAD(nu=0.25, tol=1e-9).fit(X)
    reference = OneClassSVM(nu=0.25, tol=1e-9).fit(X)
    assert detector.rho_ * 0.25 * 200 == pytest.approx(reference.offset_[0], rel=1e-5)
    assert detector.margin_ == 0
    assert detector.gamma_ == pytest.approx(1 / (4 * X.var()))
    np.testing.assert_array_equal(detector.support_, reference.support_)


def test_nu_bounds_the_share_outside(X):
    for nu in (0.1, 0.3, 0.6):
        detector = SSAD(nu=nu).fit(X)
        assert detector.eta_u_ == pytest.approx(1 / (nu * 200))
        outside = np.mean(detector.score_samples(X) < 0.999 * detector.rho_)
        assert 0 < outside <= nu <= len(detector.support_) / 200
        explicit = SSAD(eta_u=1 / (nu * 200), nu=0.9).fit(X)
        np.testing.assert_array_equal(explicit.score_samples(X), detector.score_samples(X))


def test_n_of_nu_counts_the_unlabelled_rows(X, y):
    assert SSAD(nu=0.25).fit(X, y).eta_u_ == pytest.approx(1 / (0.25 * 160))


# What labels do


def test_scores_fall_around_known_anomalies_and_rise_around_known_normal_rows(X):
    spot = np.array([1.5, 1.5, 0.0, 0.0])
    rows = np.vstack([X, spot])
    around = spot + 0.1 * np.random.default_rng(2).normal(size=(20, 4))
    scores = {}
    for label in (-1, 0, 1):
        labels = np.zeros(201)
        labels[-1] = label
        labels[0] = -1  # in all three, so that none is taken for a vector of truth
        detector = SSAD().fit(rows, labels)
        # relative to the others, because the weights are shared out anew
        scores[label] = detector.score_samples(around) - np.median(detector.score_samples(X))
    assert (scores[-1] < scores[0] - 0.05).all()
    assert (scores[1] > scores[0] + 0.05).all()


def test_margin_separates_labelled_rows():
    rng = np.random.default_rng(0)
    X = np.vstack([rng.normal(size=(60, 2)), rng.normal(size=(6, 2)) + 4])
    y = np.repeat([0, 1, -1], [50, 10, 6])
    # At this kappa the labelled mass is at its bound, so that there is a margin.
    detector = SSAD(kappa=3.0, tol=1e-8).fit(X, y)
    scores = detector.score_samples(X)
    assert detector.margin_ > 0.1
    unbounded = np.zeros(66, dtype=bool)
    unbounded[detector.support_[np.abs(detector.dual_coef_) < 1]] = True
    tolerance = 1e-6
    assert (scores[(y > 0) & unbounded] >= detector.rho_ + detector.margin_ - tolerance).all()
    assert (scores[(y < 0) & unbounded] <= detector.rho_ - detector.margin_ + tolerance).all()
    assert np.abs(detector.dual_coef_[np.isin(detector.support_, np.flatnonzero(y))]).sum() >= 3


@pytest.mark.parametrize("params", [{}, {"kappa": 1.0, "eta_u": 1.0, "eta_l": 1.0, "gamma": 0.05}])
def test_labels_help_on_real_rows(params):
    """The default, and the setting of the papers."""
    X, benign = load_breast_cancer(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    y = np.zeros(len(X))
    y[np.flatnonzero(benign == 0)[:20]] = -1
    held_out = y == 0
    with_labels, without = (
        roc_auc_score(benign[held_out], SSAD(**params).fit(X, labels).score_samples(X)[held_out])
        for labels in (y, None)
    )
    assert with_labels > max(0.75, without + 0.1)


def test_default_bears_anomalies_among_the_training_rows():
    """Where the hard margin of the papers does not."""
    X, benign = load_breast_cancer(return_X_y=True)
    rows = np.r_[np.flatnonzero(benign == 1), np.flatnonzero(benign == 0)[:40]]
    X, truth = StandardScaler().fit_transform(X[rows]), benign[rows]
    soft, hard = (
        roc_auc_score(truth, detector.fit(X).score_samples(X))
        for detector in (SSAD(), SSAD(eta_u=1.0))
    )
    assert soft > 0.85
    assert soft > hard + 0.03


def test_mixes_of_labels(X):
    for labels in (
        np.ones(200),
        np.r_[np.ones(100), -1, np.zeros(99)],
        np.r_[-np.ones(5), np.ones(195)],
        np.r_[-np.ones(199), 0],
        np.r_[-np.ones(199), 1],
    ):
        detector = SSAD().fit(X, labels)
        assert np.isfinite(detector.score_samples(X)).all()
        signs = np.sign(detector.dual_coef_)
        np.testing.assert_array_equal(signs, np.where(labels[detector.support_] < 0, -1, 1))
        assert detector.dual_coef_.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("params", "labels", "cure"),
    [
        ({}, [-1] * 10, "add unlabelled rows"),
        ({"eta_u": 0.05}, [0] * 10, "Raise eta_u"),
        ({"eta_l": 0.05}, [1] * 10, "or eta_l"),
        ({"kappa": 2.0}, [1] * 10, "lower kappa to at most 1"),
        ({"eta_l": 0.5}, [-1] + [0] * 9, "raise eta_l"),
        ({"nu": 0.8}, [-1] * 5 + [0] * 5, "lower nu"),
    ],
)
def test_impossible_weights_are_refused_before_any_work(params, labels, cure):
    def kernel(A, B):
        raise AssertionError("no work")

    detector = SSAD(kernel=kernel, **params)
    with pytest.raises(ValueError, match=cure):
        detector.fit(np.random.default_rng(0).normal(size=(10, 2)), labels)
    assert not hasattr(detector, "rho_")


# Rows


@pytest.mark.parametrize("params", [{}, {"eta_u": 1.0}, {"kernel": "poly", "coef0": 1.0}])
def test_order_of_the_rows_has_no_part(X, y, params):
    order = np.random.default_rng(3).permutation(200)
    detector = SSAD(tol=1e-7, **params).fit(X, y)
    other = SSAD(tol=1e-7, **params).fit(X[order], y[order])
    scores = detector.score_samples(X)
    np.testing.assert_allclose(other.score_samples(X), scores, atol=1e-5 * np.abs(scores).max())


def test_row_scores_the_same_alone_in_a_batch_and_permuted(X, y):
    detector = SSAD().fit(X, y)
    scores = detector.score_samples(X)
    order = np.random.default_rng(0).permutation(200)
    np.testing.assert_allclose(detector.score_samples(X[order]), scores[order], rtol=1e-9)
    alone = [detector.score_samples(X[i : i + 1])[0] for i in range(200)]
    np.testing.assert_allclose(alone, scores, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision_follows_the_rows(X, y, dtype):
    detector = SSAD().fit(X.astype(dtype), y)
    assert detector.score_samples(X.astype(dtype)).dtype == dtype
    assert detector.support_vectors_.dtype == dtype
    assert detector.dual_coef_.dtype == np.float64
    np.testing.assert_allclose(
        detector.score_samples(X), SSAD().fit(X, y).score_samples(X), atol=1e-3
    )


@pytest.mark.parametrize("kernel", ["rbf", "linear", "poly", "sigmoid"])
@pytest.mark.parametrize("eta_u", ["auto", 1.0])
@pytest.mark.parametrize(
    "rows",
    [
        np.ones((40, 2)),
        np.zeros((40, 2)),
        np.repeat(np.random.default_rng(0).normal(size=(4, 2)), 10, axis=0),
        np.random.default_rng(0).normal(size=(40, 1)),
        np.random.default_rng(0).normal(size=(40, 3)) * [1.0, 1e4, 0.0],
        np.random.default_rng(0).standard_t(1, size=(40, 2)),
    ],
    ids=["constant", "zero", "duplicated", "one feature", "scales", "heavy tails"],
)
def test_odd_rows_come_to_an_end(rows, kernel, eta_u):
    labels = np.tile([0, 0, -1, 1], 10)
    for y in (None, labels):
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            detector = SSAD(kernel=kernel, eta_u=eta_u, max_iter=20_000).fit(rows, y)
        assert np.isfinite(detector.score_samples(rows)).all()


def test_kernel_can_be_a_function(X, y):
    own = SSAD(kernel=lambda A, B: rbf_kernel(A, B, gamma=0.2)).fit(X, y)
    named = SSAD(gamma=0.2).fit(X, y)
    np.testing.assert_allclose(own.score_samples(X), named.score_samples(X), atol=1e-8)
    other = SSAD(kernel=laplacian_kernel).fit(X, y)
    assert np.abs(other.score_samples(X) - own.score_samples(X)).max() > 0.01
    with pytest.raises(ValueError, match="one value for each pair"):
        SSAD(kernel=lambda A, B: np.ones(len(A))).fit(X)
    with pytest.raises(ValueError, match="not finite"):
        SSAD(kernel=lambda A, B: np.full((len(A), len(B)), np.nan)).fit(X)


def test_scoring_in_pieces_is_scoring_at_once(X, y, monkeypatch, tmp_path):
    detector = SSAD().fit(X, y)
    scores = detector.score_samples(X)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    tiles = []
    call = _kernel_cache.Kernel.__call__

    def counted(self, A, B):
        tiles.append(len(A) * len(B))
        return call(self, A, B)

    monkeypatch.setattr(_kernel_cache.Kernel, "__call__", counted)
    monkeypatch.setattr(_kernel_cache, "_TILE_VALUES", 128)
    monkeypatch.setattr(ssad_module, "_PIECE_VALUES", 28)
    for rows in (X, mapped):
        np.testing.assert_allclose(detector.score_samples(rows), scores, rtol=1e-9, atol=1e-12)
    assert max(tiles) <= 7 * 512
    assert sum(tiles) == 2 * 200 * len(detector.support_)


def test_fit_on_a_memory_map(X, y, tmp_path):
    np.save(tmp_path / "X.npy", X.astype(np.float32))
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    detector = SSAD().fit(mapped, y)
    expected = SSAD().fit(X.astype(np.float32), y)
    np.testing.assert_array_equal(detector.score_samples(mapped), expected.score_samples(mapped))
    assert type(detector.support_vectors_) is np.ndarray


# The fitted estimator


def test_attributes_make_up_the_score(X, y):
    detector = SSAD(tol=1e-8).fit(X, y)
    np.testing.assert_array_equal(detector.support_vectors_, X[detector.support_])
    K = rbf_kernel(X, detector.support_vectors_, gamma=detector.gamma_)
    np.testing.assert_allclose(detector.score_samples(X), K @ detector.dual_coef_, atol=1e-12)
    assert detector.dual_coef_.sum() == pytest.approx(1)
    assert 1 <= detector.n_iter_ <= 1_000_000


@pytest.mark.parametrize("params", [{}, {"kernel": "poly", "gamma": 0.1, "eta_u": 1.0}])
def test_saved_and_loaded_it_is_the_same(X, y, params, tmp_path):
    detector = SSAD(**params).fit(X, y)
    ae.save(detector, tmp_path / "ssad.safetensors")
    loaded = ae.load(tmp_path / "ssad.safetensors")
    assert loaded.get_params() == detector.get_params()
    for rows in (X, X.astype(np.float32)):
        expected = detector.score_samples(rows)
        np.testing.assert_array_equal(loaded.score_samples(rows), expected)
        np.testing.assert_array_equal(loaded.predict(rows), detector.predict(rows))
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(detector)).score_samples(X), detector.score_samples(X)
    )
    for name, value in vars(detector).items():
        np.testing.assert_array_equal(getattr(loaded, name), value)


def test_own_kernel_is_not_saved(X, tmp_path):
    detector = SSAD(kernel=rbf_kernel).fit(X)
    with pytest.raises(ValueError, match="kernel"):
        ae.save(detector, tmp_path / "ssad.safetensors")


def test_too_few_steps_give_a_warning_with_its_cure(X, y):
    with pytest.warns(ConvergenceWarning, match=r"raise max_iter \(5\)") as record:
        detector = SSAD(max_iter=5).fit(X, y)
    assert record[0].filename == __file__  # it points to the caller
    assert detector.n_iter_ == 5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SSAD().fit(X, y)


def test_small_cache_gives_the_same(X, y):
    small, large = (
        SSAD(tol=1e-8, cache_size=size).fit(X, y).score_samples(X) for size in (1e-6, 100)
    )
    np.testing.assert_allclose(small, large, atol=1e-9)


def test_rows_are_not_changed(X, y):
    for rows in (X.copy(), X.astype(np.float32)):
        before = rows.copy()
        for kernel in ("rbf", "linear"):
            SSAD(kernel=kernel).fit(rows, y).predict(rows)
        np.testing.assert_array_equal(rows, before)


def test_sweep_of_the_paper():
    X, benign = load_breast_cancer(return_X_y=True)
    y = np.where(benign == 1, 1, -1)
    pipeline = make_pipeline(StandardScaler(), SSAD(eta_u=1.0, kappa=1.0, eta_l=1.0))
    grid = {"ssad__gamma": [2.0**-7, 2.0**-4, 2.0**2]}
    search = GridSearchCV(pipeline, grid, scoring="roc_auc", cv=2).fit(X, y)
    assert search.best_score_ > 0.95
    assert clone(search.best_estimator_).get_params()["ssad__gamma"] in grid["ssad__gamma"]
