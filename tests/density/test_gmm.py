"""GMM against scikit-learn's mixture, SciPy's normal densities and integrals."""

import inspect
import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp, softmax
from scipy.stats import multivariate_normal
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler
from sklearn.utils.estimator_checks import check_param_validation, parametrize_with_checks

from anomaly_estimators import GMM, KDE, Autoencoder, load, save
from anomaly_estimators.density import gaussian_mixture as gmm_module

COVARIANCES = ["full", "tied", "diag", "spherical"]
SCALERS = {"standard": StandardScaler, "minmax": MinMaxScaler, "robust": RobustScaler}
# The mixture that scikit-learn's defaults give.
PLAIN = {
    "n_components": 3,
    "covariance_type": "full",
    "reg_covar": 1e-6,
    "n_init": 1,
    "random_state": 0,
}

covariances = pytest.mark.parametrize("covariance_type", COVARIANCES)


@pytest.fixture(scope="module")
def X():
    """Three blobs of unlike size and form in three features of different units."""
    rng = np.random.default_rng(0)
    blob = np.repeat([0, 1, 2], [150, 90, 60])
    rows = rng.normal(size=(300, 3)) * np.array([1.0, 0.5, 0.7])[blob][:, None]
    rows[:, 1] += 0.6 * rows[:, 0]
    rows += np.array([[0, 0, 0], [6, 6, 0], [-6, 4, 5]])[blob]
    return rng.permutation(rows) * [1.0, 100.0, 0.01] + [0.0, 5e3, -1.0]


@pytest.fixture(scope="module")
def new(X):
    """Rows that were not in the training."""
    return X[:40] + np.random.default_rng(1).normal(size=(40, 3)) * X.std(axis=0)


def matrices(detector, d):
    """Covariance matrix of each component, whatever their form."""
    K, covariances = detector.n_components_, detector.covariances_
    return {
        "full": lambda: covariances,
        "tied": lambda: np.broadcast_to(covariances, (K, d, d)),
        "diag": lambda: np.stack([np.diag(c) for c in covariances]),
        "spherical": lambda: covariances[:, None, None] * np.eye(d),
    }[detector.covariance_type]()


def weighted_logs(detector, rows):
    """Log densities of the components times their weights, by SciPy."""
    logs = [
        multivariate_normal(mean, covariance).logpdf(rows)
        for mean, covariance in zip(detector.means_, matrices(detector, rows.shape[1]), strict=True)
    ]
    return np.stack(logs, axis=1) + np.log(detector.weights_)


@parametrize_with_checks(
    [
        GMM(n_components=1),
        GMM(covariance_type="diag", contamination="auto"),
        GMM(n_components=2, covariance_type="tied", scaler=None, init_params="random"),
        GMM(covariance_type="spherical", scaler="robust", n_init=2, candidates=(1, 3)),
    ]
)
def test_scikit_learn_estimator(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        check(estimator)


def test_parameters_are_validated():
    check_param_validation("GMM", GMM())


# Against scikit-learn


@covariances
@pytest.mark.parametrize("n_components", [1, 3])
def test_unscaled_it_is_scikit_learns(X, new, covariance_type, n_components):
    # One unit, so that reg_covar and one variance for all features mean something.
    X, new = (StandardScaler().fit(X).transform(rows) + 1.0 for rows in (X, new))
    params = {**PLAIN, "covariance_type": covariance_type, "n_components": n_components}
    detector, reference = GMM(**params, scaler=None).fit(X), GaussianMixture(**params).fit(X)
    np.testing.assert_allclose(
        detector.score_samples(new), reference.score_samples(new), rtol=1e-6, atol=1e-6
    )
    np.testing.assert_allclose(
        detector.predict_component_proba(new), reference.predict_proba(new), atol=1e-6
    )
    np.testing.assert_array_equal(detector.predict_component(new), reference.predict(new))
    for name in ("weights_", "means_", "covariances_", "precisions_cholesky_"):
        np.testing.assert_allclose(
            getattr(detector, name), getattr(reference, name), rtol=1e-6, atol=1e-6, err_msg=name
        )
    assert detector.n_iter_ == reference.n_iter_
    assert detector.converged_ is reference.converged_ is True
    assert detector.reg_covar_ == 1e-6
    assert detector.bic_.tolist() == pytest.approx([reference.bic(X)], rel=1e-9)


@covariances
@pytest.mark.parametrize("scaler", SCALERS)
def test_scaled_it_is_scikit_learns_on_scaled_rows(X, new, scaler, covariance_type):
    params = {**PLAIN, "covariance_type": covariance_type}
    detector = GMM(**params, scaler=scaler).fit(X)
    outside = SCALERS[scaler]().fit(X)
    reference = GaussianMixture(**params).fit(outside.transform(X))
    factor = outside.scale_ if scaler == "minmax" else 1 / outside.scale_
    np.testing.assert_allclose(
        detector.score_samples(new),
        reference.score_samples(outside.transform(new)) + np.log(factor).sum(),
        rtol=1e-6,
    )
    np.testing.assert_allclose(detector.means_, reference.means_, atol=1e-6)
    np.testing.assert_allclose(detector.covariances_, reference.covariances_, atol=1e-6)


@pytest.mark.parametrize(
    "params",
    [
        {"tol": 1e-9, "max_iter": 500},
        {"tol": 10.0},
        {"reg_covar": 0.5},
        {"n_init": 4, "init_params": "random_from_data"},
        {"init_params": "k-means++"},
        {"init_params": "random", "max_iter": 400},
        {"max_iter": 2},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_parameters_of_em_reach_scikit_learn(X, params):
    # Five components in three blobs: the start and the stop leave a trace.
    rows = StandardScaler().fit_transform(X)
    params = {**PLAIN, "n_components": 5, **params}
    detector, reference = GMM(**params, scaler=None).fit(rows), GaussianMixture(**params).fit(rows)
    np.testing.assert_allclose(
        detector.score_samples(rows), reference.score_samples(rows), rtol=1e-6, atol=1e-6
    )
    assert detector.n_iter_ == reference.n_iter_
    assert detector.converged_ == reference.converged_


# Against the definition


@covariances
@pytest.mark.parametrize("scaler", ["standard", None])
def test_score_is_the_log_density_of_the_mixture(X, new, covariance_type, scaler):
    rows = X if scaler else StandardScaler().fit(X).transform(X)
    unseen = new if scaler else StandardScaler().fit(X).transform(new)
    detector = GMM(covariance_type=covariance_type, scaler=scaler, random_state=0).fit(rows)
    scaled = detector.scaler_.transform(unseen) if scaler else unseen
    logs = weighted_logs(detector, scaled)
    volume = np.log(detector.scaler_.scale_).sum() if scaler else 0
    np.testing.assert_allclose(
        detector.score_samples(unseen), logsumexp(logs, axis=1) - volume, rtol=1e-9
    )
    memberships = detector.predict_component_proba(unseen)
    np.testing.assert_allclose(memberships, softmax(logs, axis=1), atol=1e-9)
    np.testing.assert_allclose(memberships.sum(axis=1), 1)
    np.testing.assert_array_equal(detector.predict_component(unseen), logs.argmax(axis=1))
    assert detector.weights_.sum() == pytest.approx(1)


@pytest.mark.parametrize("scaler", [*SCALERS, None])
def test_density_integrates_to_one(X, scaler):
    rows = X[:, :2] / [1.0, 50.0]
    detector = GMM(n_components=3, scaler=scaler, reg_covar=1e-3, random_state=0).fit(rows)
    (x, dx), (y, dy) = (
        np.linspace(column.min() - 8, column.max() + 8, 400, retstep=True) for column in rows.T
    )
    cells = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    assert np.exp(detector.score_samples(cells)).sum() * dx * dy == pytest.approx(1, abs=1e-6)


@settings(max_examples=10, deadline=None, derandomize=True, database=None)
@given(
    factors=st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=3),
    shift=st.floats(-100, 100),
    scaler=st.sampled_from(sorted(SCALERS)),
)
def test_change_of_units_shifts_the_log_density(X, factors, shift, scaler):
    detector = GMM(n_components=3, scaler=scaler, random_state=0).fit(X)
    moved = GMM(n_components=3, scaler=scaler, random_state=0).fit(X * factors + shift)
    np.testing.assert_allclose(
        moved.score_samples(X * factors + shift),
        detector.score_samples(X) - np.log(factors).sum(),
        rtol=1e-6,
        atol=1e-5,
    )


def test_distance_from_the_origin_costs_no_digits():
    # Squares of these rows have no digit left for their variance.
    rows = np.random.default_rng(0).integers(-50, 50, size=(80, 2)).astype(float)
    for covariance_type in COVARIANCES:
        near, far = (
            GMM(n_components=2, covariance_type=covariance_type, scaler=None, random_state=0)
            .fit(moved)
            .score_samples(moved)
            for moved in (rows, rows + 2.0**40)
        )
        # There, the mean itself has four digits after the point.
        np.testing.assert_allclose(far, near, rtol=1e-4)


def test_rows_are_scored_in_pieces(X, new, monkeypatch):
    detector = GMM(n_components=3, random_state=0).fit(X)
    whole, memberships = detector.score_samples(new), detector.predict_component_proba(new)
    monkeypatch.setattr(gmm_module, "_PIECE_VALUES", 7 * 3)
    np.testing.assert_allclose(detector.score_samples(new), whole, rtol=1e-12)
    np.testing.assert_allclose(detector.predict_component_proba(new), memberships, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision_is_that_of_the_rows(X, new, dtype):
    detector = GMM(n_components=3, random_state=0).fit(X.astype(dtype))
    assert detector.score_samples(new.astype(dtype)).dtype == dtype
    memberships = detector.predict_component_proba(new.astype(dtype))
    assert memberships.dtype == dtype and memberships.shape == (40, 3)
    assert detector.predict_component(new.astype(dtype)).dtype == np.int64
    # What is single is the result alone.
    single = new.astype(np.float32)
    np.testing.assert_array_equal(
        detector.score_samples(single),
        detector.score_samples(single.astype(np.float64)).astype(np.float32),
    )


# The number of components


@covariances
def test_bic_takes_the_lowest_of_scikit_learns(X, new, covariance_type):
    rows = StandardScaler().fit_transform(X)
    candidates = [5, 1, 2, 3, 3]
    params = {**PLAIN, "covariance_type": covariance_type, "reg_covar": 1e-3}
    del params["n_components"]
    detector = GMM(**params, n_components="bic", candidates=candidates, scaler=None).fit(rows)
    references = [GaussianMixture(k, **params).fit(rows) for k in (1, 2, 3, 5)]
    expected = [reference.bic(rows) for reference in references]
    assert detector.candidates_.tolist() == [1, 2, 3, 5]
    np.testing.assert_allclose(detector.bic_, expected, rtol=1e-9)
    best = int(np.argmin(expected))
    assert detector.n_components_ == references[best].n_components > 1
    np.testing.assert_allclose(
        detector.score_samples(rows), references[best].score_samples(rows), rtol=1e-6, atol=1e-6
    )


def test_bic_finds_the_blobs(X):
    narrow = {
        "n_components": "bic",
        "covariance_type": "full",
        "reg_covar": 1e-6,
        "random_state": 0,
    }
    detector = GMM(candidates=(1, 2, 3, 4, 6), **narrow).fit(X)
    assert detector.n_components_ == len(detector.means_) == 3
    np.testing.assert_allclose(np.sort(detector.weights_), [0.2, 0.3, 0.5], atol=1e-3)
    one = GMM(candidates=(1, 2, 3), **narrow)
    assert one.fit(np.random.default_rng(0).normal(size=(200, 2))).n_components_ == 1


def test_number_that_bic_takes_gives_the_same_alone(X, new):
    chosen = GMM(n_components="bic", random_state=7).fit(X)
    alone = GMM(n_components=chosen.n_components_, random_state=7).fit(X)
    np.testing.assert_array_equal(chosen.score_samples(new), alone.score_samples(new))
    assert alone.candidates_.tolist() == [chosen.n_components_]


@pytest.mark.parametrize(
    ("covariance_type", "n_rows", "left"),
    [
        ("full", 16, [1, 2, 4]),
        ("full", 15, [1, 2]),
        ("full", 3, [1]),
        ("tied", 16, [1, 2, 4, 8]),
        ("diag", 16, [1, 2, 4, 8]),
        ("spherical", 7, [1, 2]),
    ],
)
def test_candidates_for_which_rows_are_too_few_are_passed_over(X, covariance_type, n_rows, left):
    detector = GMM(
        n_components="bic", candidates=[1, 2, 4, 8], covariance_type=covariance_type, random_state=0
    ).fit(X[:n_rows])
    assert detector.candidates_.tolist() == left
    assert detector.bic_.shape == (len(left),)


# The least variance


@pytest.mark.parametrize("scaler", [*SCALERS, None])
@covariances
def test_least_variance_is_that_of_a_kernel(X, new, scaler, covariance_type):
    params = {"n_components": 2, "covariance_type": covariance_type, "scaler": scaler}
    detector = GMM(**params, random_state=0).fit(X)
    kde = KDE(bandwidth="scott", scaler=scaler).fit(X)
    assert detector.reg_covar_ == pytest.approx(kde.bandwidth_**2, rel=1e-9)
    given = GMM(**params, reg_covar=kde.bandwidth_**2, random_state=0).fit(X)
    np.testing.assert_allclose(
        detector.score_samples(new), given.score_samples(new), rtol=1e-6, atol=1e-6
    )
    smallest = np.linalg.eigvalsh(matrices(detector, 3)).min()
    assert smallest > detector.reg_covar_ * (1 - 1e-6)


def test_default_goes_with_the_unit_of_the_rows(X):
    rows = StandardScaler().fit_transform(X)
    for scale in (1e-6, 1e6):
        detector, other = (
            GMM(scaler=None, random_state=0).fit(values) for values in (rows, scale * rows)
        )
        np.testing.assert_allclose(
            other.score_samples(scale * rows),
            detector.score_samples(rows) - 3 * np.log(scale),
            rtol=1e-6,
            atol=1e-5,
        )


# Odd rows


@covariances
def test_singular_covariances_are_held(X, covariance_type):
    rows = np.column_stack([X, X[:, 0], np.full(300, 4.0)])
    params = {"n_components": 2, "covariance_type": covariance_type, "random_state": 0}
    detector = GMM(**params, reg_covar=1e-3).fit(rows)
    assert np.isfinite(detector.score_samples(rows)).all()
    assert detector.reg_covar_ == 1e-3
    off = rows.copy()
    off[:, 4] = 5.0
    assert (detector.score_samples(off) < detector.score_samples(rows)).all()


@covariances
@pytest.mark.parametrize("scale", [1.0, 1e30])
def test_larger_ridge_where_the_one_given_is_none(X, covariance_type, scale):
    varying = StandardScaler().fit_transform(X)
    rows = scale * np.column_stack([varying, np.zeros(300)])
    params = {"n_components": 1, "covariance_type": covariance_type, "scaler": None}
    if covariance_type == "spherical":
        # Has the mean of the variances, which is none for equal rows only.
        rows = np.zeros((10, 2))
    with pytest.warns(ConvergenceWarning, match="leaves a covariance singular") as caught:
        detector = GMM(**params, reg_covar=0).fit(rows)
    told = [warning for warning in caught if warning.category is ConvergenceWarning]
    assert len(told) == 1 and told[0].filename == __file__
    scores = detector.score_samples(rows)
    assert np.isfinite(scores).all()
    assert 0 < detector.reg_covar_ <= 1e-8 * max(rows.var(), 1e-6)
    if covariance_type in ("full", "diag"):
        # As the mixture that never saw the constant.
        plain = GMM(**params, reg_covar=0).fit(varying).score_samples(varying)
        np.testing.assert_allclose(scores - scores[0], plain - plain[0], atol=1e-6)


def test_fewer_rows_than_features():
    rows = np.random.default_rng(0).normal(size=(6, 20))
    for n_components in ("bic", 1, 6):
        detector = GMM(n_components=n_components, random_state=0).fit(rows)
        assert np.isfinite(detector.score_samples(rows)).all()
        assert (detector.score_samples(rows + 3) < detector.score_samples(rows).min()).all()


def test_far_rows_have_memberships():
    rows = np.random.default_rng(0).normal(size=(60, 2))
    detector = GMM(n_components=2, random_state=0).fit(rows)
    far = np.array([[1e6, 0.0], [1e200, -1e200], [1e308, 1e308]])
    np.testing.assert_allclose(detector.predict_component_proba(far).sum(axis=1), 1)
    scores = detector.score_samples(far)
    assert scores[0] > scores[1] and np.isfinite(scores).all()


# Warnings


def test_training_that_does_not_converge_warns_once(X):
    with pytest.warns(ConvergenceWarning, match="max_iter=1 iterations: raise max_iter") as caught:
        detector = GMM(n_components=3, max_iter=1, n_init=3).fit(X)
    assert len(caught) == 1 and caught[0].filename == __file__
    assert not detector.converged_ and detector.n_iter_ == 1


def test_training_that_converges_is_silent(X):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detector = GMM(random_state=0).fit(X)
        # More components than distinct rows: k-means warns, and nothing is wrong.
        rows = np.repeat([[0.0], [1.0]], [4, 36], axis=0)
        GMM(n_components=3, random_state=0).fit(rows)
    assert detector.converged_


# Randomness


def test_seed_decides_the_start(X, new):
    def scores(seed):
        params = {"n_components": 6, "init_params": "random_from_data", "max_iter": 500}
        return GMM(**params, random_state=seed).fit(X).score_samples(new)

    np.testing.assert_array_equal(scores(0), scores(0))
    assert (scores(0) != scores(1)).any()
    state = np.random.RandomState(0)
    first, second = scores(state), scores(state)
    np.testing.assert_array_equal(first, scores(0))
    assert (first != second).any()


# Saving


@pytest.mark.parametrize("scaler", [*SCALERS, None])
@covariances
def test_loaded_detector_scores_bit_by_bit_the_same(X, new, covariance_type, scaler, tmp_path):
    params = {"candidates": np.array([2, 3]), "n_components": "bic", "random_state": 0}
    detector = GMM(**params, covariance_type=covariance_type, scaler=scaler).fit(X)
    save(detector, tmp_path / "gmm")
    for copied in (load(tmp_path / "gmm"), pickle.loads(pickle.dumps(detector))):
        for rows in (X, new, new.astype(np.float32)):
            np.testing.assert_array_equal(copied.score_samples(rows), detector.score_samples(rows))
            np.testing.assert_array_equal(
                copied.predict_component_proba(rows), detector.predict_component_proba(rows)
            )
        assert copied.offset_ == detector.offset_ and copied.n_components_ == detector.n_components_
        np.testing.assert_array_equal(copied.bic_, detector.bic_)
        np.testing.assert_array_equal(copied.fit(X).score_samples(new), detector.score_samples(new))


@covariances
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("weights_", lambda value: value[:1]),
        ("means_", lambda value: value[:, :1]),
        ("covariances_", lambda value: value[:-1]),
        ("precisions_cholesky_", lambda value: value[..., None]),
        ("n_components_", lambda value: value + 1),
    ],
)
def test_state_that_does_not_fit_is_refused(X, covariance_type, name, change):
    detector = GMM(n_components=3, covariance_type=covariance_type, random_state=0).fit(X)
    state = detector._get_fitted_state()
    blank = GMM(covariance_type=covariance_type)
    blank._set_fitted_state(dict(state))
    np.testing.assert_array_equal(blank.score_samples(X), detector.score_samples(X))
    with pytest.raises(ValueError, match="do not go together"):
        GMM(covariance_type=covariance_type)._set_fitted_state({**state, name: change(state[name])})


# Bad input


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_components": 0}, "n_components"),
        ({"n_components": "aic"}, "n_components"),
        ({"n_components": 301}, "300 rows .* 301 components: .* n_components of at most 300"),
        ({"n_components": "bic", "candidates": [400, 301]}, "smallest of the candidates"),
        ({"candidates": []}, "candidates must be a sequence"),
        ({"candidates": [0, 1]}, "at least 1"),
        ({"candidates": [1.5]}, "integers"),
        ({"candidates": [[1]]}, "candidates must be a sequence"),
        ({"covariance_type": "round"}, "covariance_type"),
        ({"tol": -1.0}, "tol"),
        ({"reg_covar": -1.0}, "reg_covar"),
        ({"reg_covar": "silverman"}, "reg_covar"),
        ({"max_iter": 0}, "max_iter"),
        ({"n_init": 0}, "n_init"),
        ({"init_params": "zeros"}, "init_params"),
        ({"scaler": "quantile"}, "scaler"),
    ],
    ids=str,
)
def test_bad_parameters(X, params, message):
    with pytest.raises(ValueError, match=message):
        GMM(**params).fit(X)


def test_bad_rows(X):
    with pytest.raises(ValueError, match="minimum of 2"):
        GMM().fit(X[:1])
    detector = GMM(n_components=2).fit(X)
    for method in ("score_samples", "predict_component", "predict_component_proba"):
        with pytest.raises(ValueError, match="expecting 3 features"):
            getattr(detector, method)(X[:, :2])


# As part of scikit-learn


def test_search_by_likelihood_compares_scalers_and_forms(X):
    grid = {
        "scaler": ["standard", "minmax"],
        "covariance_type": ["full", "spherical"],
        "n_components": [1, 3],
    }
    folds = KFold(3, shuffle=True, random_state=0)
    search = GridSearchCV(GMM(reg_covar=1e-6, random_state=0), grid, cv=folds).fit(X)
    assert search.best_params_["n_components"] == 3
    assert search.best_params_["covariance_type"] == "full"
    # The full mixture is the same under any linear scaling: held-out rows must be as likely.
    scores = {
        params["scaler"]: score
        for params, score in zip(
            search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True
        )
        if params["n_components"] == 1 and params["covariance_type"] == "full"
    }
    assert scores["standard"] == pytest.approx(scores["minmax"], abs=1e-3)


def test_mixture_of_an_autoencoders_codes(X):
    encoder = Autoencoder(hidden_layer_sizes=(6,), latent_dim=2, max_iter=3, random_state=0)
    params = {**PLAIN, "n_components": 4, "tol": 1e-6, "max_iter": 1000}
    hybrid = make_pipeline(encoder, GMM(**params, scaler=None)).fit(X)
    codes = hybrid[:-1].transform(X)
    # The paper's order of steps, by scikit-learn alone, in the precision of the codes.
    reference = GaussianMixture(**params).fit(codes.astype(np.float64))
    np.testing.assert_allclose(
        hybrid.score_samples(X), reference.score_samples(codes), rtol=1e-6, atol=1e-6
    )
    assert (hybrid.predict(X) == -1).sum() == 30
    assert hybrid[-1].predict_component_proba(codes).shape == (300, 4)


def test_memberships_are_called_as_those_of_dagmm():
    from anomaly_estimators import DAGMM

    names = [
        list(inspect.signature(cls.predict_component_proba).parameters) for cls in (GMM, DAGMM)
    ]
    assert names[0] == names[1]


def test_default_finds_anomalies_with_and_without_them_in_training():
    X, benign = load_breast_cancer(return_X_y=True)
    idx = np.random.default_rng(0).permutation(len(X))
    train, test = idx[:300], idx[300:]
    for rows, least in ((train[benign[train] == 1], 0.93), (train, 0.75)):
        scores = GMM(random_state=0).fit(X[rows]).score_samples(X[test])
        assert roc_auc_score(benign[test], scores) > least
