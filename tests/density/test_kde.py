"""KDE against scikit-learn, SciPy and sums written out."""

import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.integrate import quad
from scipy.special import gamma, logsumexp
from scipy.stats import gaussian_kde
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, KFold, RepeatedKFold, ShuffleSplit
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler
from sklearn.utils.estimator_checks import check_param_validation, parametrize_with_checks

from anomaly_estimators import load, save
from anomaly_estimators.density import kde as kde_module
from anomaly_estimators.density.kde import KDE

KERNELS = ["gaussian", "tophat", "epanechnikov", "exponential", "linear", "cosine"]
PAPER_GRID = 2.0 ** np.arange(0.5, 5.5, 0.5)


@pytest.fixture(scope="module")
def X():
    """Rows of three features of different units, in two clouds."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(150, 3)) + 4 * (np.arange(150) % 3 == 0)[:, None]
    return rows * [1.0, 100.0, 0.01] + [0.0, 5e3, -1.0]


@pytest.fixture(scope="module")
def new(X):
    """Rows that were not in the training."""
    return X[:40] + np.random.default_rng(1).normal(size=(40, 3)) * X.std(axis=0)


@parametrize_with_checks(
    [
        KDE(),
        KDE(kernel="epanechnikov", bandwidth="silverman"),
        KDE(rtol=1e-6, scaler=None),
        KDE(max_samples=0.5, kernel="exponential", contamination="auto"),
    ]
)
def test_scikit_learn_estimator(estimator, check):
    check(estimator)


def test_parameters_are_validated():
    check_param_validation("KDE", KDE())


# The density


def test_density_is_that_of_scipy():
    factors = {"scott": gaussian_kde.scotts_factor, "silverman": gaussian_kde.silverman_factor}
    rng = np.random.default_rng(0)
    for rows in (rng.normal(size=(80, 1)), 3 + 50 * rng.normal(size=(80, 1))):
        points = rows.mean() + rows.std() * np.linspace(-3, 3, 50)[:, None]
        for rule in ("scott", "silverman"):
            detector = KDE(bandwidth=rule).fit(rows)
            # SciPy divides by n - 1 where scalers divide by n.
            factor = detector.bandwidth_ * np.sqrt(79 / 80)
            reference = gaussian_kde(rows.T, bw_method=factor)
            np.testing.assert_allclose(
                detector.score_samples(points), reference.logpdf(points.T), rtol=1e-12
            )
            assert detector.bandwidth_ == pytest.approx(
                factors[rule](gaussian_kde(rows.T)), rel=1e-12
            )


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("scaler", [None, StandardScaler(), MinMaxScaler(), RobustScaler()])
@pytest.mark.parametrize("bandwidth", [0.7, 1e-3])
def test_density_is_the_sum_of_normal_densities(X, new, scaler, bandwidth):
    names = {StandardScaler: "standard", MinMaxScaler: "minmax", RobustScaler: "robust"}
    detector = KDE(bandwidth=bandwidth, scaler=names.get(type(scaler))).fit(X)
    # One unit of a feature is so many of the scaled ones.
    units = (
        np.ones(3)
        if scaler is None
        else np.ptp(scaler.fit_transform(X), axis=0) / np.ptp(X, axis=0)
    )
    differences = (new[:, None] - X) * units / bandwidth
    logs = (
        -0.5 * (differences**2).sum(axis=2) + np.log(units / bandwidth / np.sqrt(2 * np.pi)).sum()
    )
    np.testing.assert_allclose(
        detector.score_samples(new), logsumexp(logs, axis=1) - np.log(150), rtol=1e-9
    )


@pytest.mark.parametrize(
    ("kernel", "d", "params"),
    [
        (kernel, d, params)
        for kernel in KERNELS
        for d in (1, 2, 7, 40)
        for params in ({}, {"algorithm": "ball_tree"}, {"rtol": 1e-12})
        # scikit-learn's own cosine kernel is no density in an even number of features.
        if kernel != "cosine" or (d % 2 and not params)
    ],
    ids=str,
)
def test_density_is_that_of_scikit_learn(kernel, d, params):
    rng = np.random.default_rng(d)
    X, new = rng.normal(size=(60, d)), rng.normal(size=(30, d))
    for bandwidth in (0.3, 2.0, 3 * d + 3):
        reference = KernelDensity(kernel=kernel, bandwidth=bandwidth).fit(X)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            detector = KDE(kernel=kernel, bandwidth=bandwidth, scaler=None, **params).fit(X)
        expected = reference.score_samples(new)
        found = detector.score_samples(new)
        reached = np.isfinite(expected)
        np.testing.assert_allclose(found[reached], expected[reached], rtol=1e-9, atol=1e-9)
        assert (found[~reached] == np.finfo(np.float64).min).all()
    assert reached.all()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("d", [1, 2, 3, 4, 9, 20])
def test_density_integrates_to_one(kernel, d):
    # Around a single row: the surfaces of spheres, times the density on them.
    surface = 2 * np.pi ** (d / 2) / gamma(d / 2)
    end = 0.7 * (80 if kernel in ("gaussian", "exponential") else 1)

    def shell(r):
        point = np.r_[r, np.zeros(d - 1)][None]
        log_density = kde_module.mean_log_density(point, np.zeros((1, d)), [0.7], kernel)
        return surface * r ** (d - 1) * np.exp(log_density[0, 0])

    with np.errstate(divide="ignore"):
        assert quad(shell, 0, end, limit=300)[0] == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("kernel", KERNELS)
def test_density_out_of_reach_is_none(kernel):
    far = kde_module.mean_log_density(np.array([[9.0], [0.5]]), np.zeros((3, 1)), [1.0], kernel)[0]
    if kernel in ("gaussian", "exponential"):
        assert np.isfinite(far).all()
    else:
        assert far[0] == -np.inf and np.isfinite(far[1])


@pytest.mark.parametrize("kernel", [kernel for kernel in KERNELS if kernel != "cosine"])
def test_tolerance_is_kept(kernel, X):
    # A tree may stop early; as far as is asked.
    exact = KDE(kernel=kernel, bandwidth=2.0).fit(X).score_samples(X)
    rough = KDE(kernel=kernel, bandwidth=2.0, rtol=0.05, leaf_size=2).fit(X).score_samples(X)
    np.testing.assert_allclose(rough, exact, atol=0.06)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("d", [1, 2, 5])
def test_reference_bandwidths_of_all_kernels_spread_alike(kernel, d):
    rows = np.random.default_rng(0).normal(size=(50, d))
    gaussian = kde_module.reference_bandwidth(rows, "gaussian", "scott")
    h = kde_module.reference_bandwidth(rows, kernel, "scott") / gaussian
    log_kernel = kde_module._LOG_KERNELS[kernel]
    end = 60 * h if kernel in ("gaussian", "exponential") else h

    def moment(power):
        def integrand(r):
            return r**power * np.exp(log_kernel(np.array([(r / h) ** 2])))[0]

        return quad(integrand, 0, end, limit=500)[0]

    with np.errstate(divide="ignore"):
        assert moment(d + 1) / (d * moment(d - 1)) == pytest.approx(1.0, rel=1e-6)


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(
    rows=hnp.arrays(
        np.float64,
        st.tuples(st.integers(2, 9), st.integers(1, 4)),
        elements=st.floats(-1e6, 1e6, allow_nan=False),
    ),
    kernel=st.sampled_from(KERNELS),
    scaler=st.sampled_from(["standard", "minmax", "robust", None]),
)
def test_any_rows(rows, kernel, scaler):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector = KDE(kernel=kernel, scaler=scaler, random_state=0).fit(rows)
    scores = detector.score_samples(rows)
    assert np.isfinite(scores).all() and np.isfinite(detector.offset_)
    assert detector.bandwidth_ > 0
    assert (detector.predict(rows) == -1).sum() <= len(rows) // 2


@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(exponent=st.integers(-30, 30), shift=st.sampled_from([0.0, 1.0, -1e3]))
def test_ranking_does_not_depend_on_units(exponent, shift):
    rows = np.random.default_rng(0).normal(size=(40, 3))
    plain = KDE(random_state=0).fit(rows).score_samples(rows)
    other = (rows + shift) * 10.0**exponent
    scores = KDE(random_state=0).fit(other).score_samples(other)
    # Density has a unit: a factor in the rows is an offset of the scores.
    np.testing.assert_allclose(scores + 3 * exponent * np.log(10), plain, atol=1e-6)


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore:Under every one:UserWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("scale", [1e-300, 1e300])
@pytest.mark.parametrize("scaler", ["standard", "minmax", "robust", None])
def test_extreme_scales(scale, scaler):
    rows = scale * np.random.default_rng(0).normal(size=(12, 3))
    detector = KDE(scaler=scaler, random_state=0).fit(rows)
    assert np.isfinite(detector.score_samples(rows)).all() and np.isfinite(detector.offset_)


def test_far_rows_are_still_ranked(X):
    detector = KDE(random_state=0).fit(X)
    directions = np.outer(10.0 ** np.arange(1, 100), X.std(axis=0))
    scores = detector.score_samples(X.mean(axis=0) + directions)
    assert np.isfinite(scores).all() and (np.diff(scores) < 0).all()
    beyond = detector.score_samples(np.array([[1e200, 1e200, 1e200], [-1e308, 1e308, 0.0]]))
    assert (beyond == np.finfo(np.float64).min).all()


@pytest.mark.parametrize("algorithm", ["brute", "kd_tree"])
def test_rows_beyond_all_numbers_have_the_lowest_score(X, algorithm):
    detector = KDE(bandwidth=1.0, algorithm=algorithm).fit(1e-3 * X)
    far = np.array([[1e308, 0.0, 0.0], [0.0, -1e308, 1e308]])
    assert (detector.score_samples(far) == np.finfo(np.float64).min).all()
    assert (detector.predict(far) == -1).all()


# A training row is scored by the others


def left_out(X, scaler, kernel, bandwidth):
    """Log density of each row by the others, by scikit-learn."""
    scaler = StandardScaler().fit(X) if scaler else None
    rows = scaler.transform(X) if scaler else X
    volume = -np.log(scaler.scale_).sum() if scaler else 0.0
    logs = [
        KernelDensity(kernel=kernel, bandwidth=bandwidth)
        .fit(np.delete(rows, i, axis=0))
        .score_samples(rows[i : i + 1])[0]
        for i in range(len(rows))
    ]
    lowest = np.finfo(np.float64).min
    return np.where(np.isneginf(logs), lowest, np.array(logs) + volume)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("scaler", ["standard", None])
@pytest.mark.parametrize(
    ("kernel", "params"),
    [
        (kernel, params)
        for kernel in KERNELS
        for params in ({}, {"algorithm": "ball_tree"}, {"rtol": 1e-12})
        if kernel != "cosine" or not params
    ],
    ids=str,
)
def test_training_rows_are_scored_by_the_others(kernel, params, scaler):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3))
    # A copy, a row with no other near it, and one that is nearly the same as another.
    X[1], X[2], X[3] = X[0], 30.0, X[4] + 1e-3
    for bandwidth in (0.4, 2.0):
        expected = left_out(X, scaler, kernel, bandwidth)
        detector = KDE(kernel=kernel, bandwidth=bandwidth, scaler=scaler, **params).fit(X)
        np.testing.assert_allclose(detector.score_samples(X), expected, rtol=1e-6, atol=1e-6)
        assert detector.score(X[:3]) == pytest.approx(expected[:3].mean(), rel=1e-6)


@pytest.mark.parametrize("kernel", ["gaussian", "exponential"])
@pytest.mark.parametrize("bandwidth", [1e-9, 1e-3, 1.0])
def test_training_rows_are_told_apart_however_narrow_the_kernel(X, kernel, bandwidth):
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        detector = KDE(kernel=kernel, bandwidth=bandwidth).fit(X)
    # By their nearest neighbour, where the kernel is narrow: two may be each other's.
    assert len(np.unique(detector.score_samples(X))) > len(X) / 2
    assert (detector.predict(X) == -1).sum() in (14, 15)


def test_two_rows_are_scored_by_each_other():
    rows = np.array([[0.0, 1.0], [2.0, 4.0]])
    for kernel in KERNELS:
        detector = KDE(kernel=kernel, bandwidth=9.0, scaler=None).fit(rows)
        expected = kde_module.mean_log_density(rows[:1], rows[1:], [9.0], kernel)[0, 0]
        np.testing.assert_allclose(detector.score_samples(rows), expected, rtol=1e-12)


@pytest.mark.parametrize("params", [{}, {"algorithm": "kd_tree"}], ids=str)
def test_training_rows_are_known_again_after_rounding(X, params):
    detector = KDE(bandwidth=0.5, **params).fit(X)
    scores = detector.score_samples(X)
    for rows in (X.astype(np.float32), X * (1 + 1e-15)):
        np.testing.assert_allclose(detector.score_samples(rows), scores, rtol=1e-3)
    # Any other place is a new row, with the kernels of all.
    moved = X + 1e-3 * X.std(axis=0)
    expected = KernelDensity(bandwidth=0.5).fit(StandardScaler().fit_transform(X))
    expected = expected.score_samples(StandardScaler().fit(X).transform(moved))
    volume = np.log(X.std(axis=0)).sum()
    np.testing.assert_allclose(detector.score_samples(moved) + volume, expected, rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_training_rows_are_known_again_behind_a_step_that_rounds(dtype):
    X = load_breast_cancer().data[:120].astype(dtype)
    hybrid = make_pipeline(PCA(8), KDE(random_state=0)).fit(X)
    alone = [hybrid.score_samples(row[None])[0] for row in X]
    np.testing.assert_allclose(alone, hybrid.score_samples(X), atol=0.02)


def test_rows_that_were_not_drawn_are_new_rows(X):
    detector = KDE(max_samples=50, bandwidth=0.5, scaler=None, random_state=0).fit(X)
    kept = np.isin(X[:, 0], detector.rows_[:, 0])
    assert kept.sum() == 50
    full = kde_module.mean_log_density(X, detector.rows_, [0.5], "gaussian")[0]
    np.testing.assert_array_equal(detector.score_samples(X) == full, ~kept)


def test_share_of_new_rows_that_is_flagged_is_that_of_the_training_rows():
    # Each training row has a kernel of its own; a threshold that counts it in flags most new rows.
    X, benign = load_breast_cancer(return_X_y=True)
    X = X[benign == 1]
    for contamination in (0.05, 0.1):
        shares = []
        for seed in range(5):
            order = np.random.default_rng(seed).permutation(len(X))
            train, fresh = X[order[:178]], X[order[178:]]
            detector = KDE(contamination=contamination, random_state=0).fit(train)
            assert (detector.predict(train) == -1).sum() == int(178 * contamination)
            shares.append((detector.predict(fresh) == -1).mean())
        assert contamination / 2 < np.mean(shares) < 2 * contamination


@pytest.mark.parametrize("contamination", [0.1, "auto"])
def test_rows_without_another_in_reach_are_pointed_out(X, contamination):
    params = {"kernel": "epanechnikov", "contamination": contamination}
    with pytest.warns(ConvergenceWarning, match="have no other within reach") as w:
        detector = KDE(bandwidth=0.15, **params).fit(X)
    assert w[0].filename == __file__
    assert (detector.predict(X) == 1).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detector = KDE(bandwidth=0.8, **params).fit(X)
    alone = detector.score_samples(X) == np.finfo(np.float64).min
    assert 0 < alone.sum() <= 15
    assert (detector.predict(X)[alone] == -1).all()
    assert detector.predict(X.max(axis=0, keepdims=True) * 9).tolist() == [-1]


# The same row, the same score


@pytest.mark.parametrize("params", [{}, {"kernel": "linear"}, {"algorithm": "kd_tree"}], ids=str)
def test_score_is_a_function_of_the_row(X, new, params):
    detector = KDE(random_state=0, **params).fit(X)
    scores = detector.score_samples(new)
    np.testing.assert_array_equal(
        [detector.score_samples(new[i : i + 1])[0] for i in range(len(new))], scores
    )
    order = np.random.default_rng(0).permutation(len(new))
    np.testing.assert_array_equal(detector.score_samples(new[order]), scores[order])


def test_scoring_in_pieces_is_scoring_at_once(X, new, monkeypatch):
    whole = KDE(random_state=0).fit(X)
    scores = whole.score_samples(new)
    monkeypatch.setattr(kde_module, "_PIECE_VALUES", 7)
    np.testing.assert_array_equal(whole.score_samples(new), scores)
    pieces = KDE(random_state=0).fit(X)
    assert pieces.bandwidth_ == whole.bandwidth_
    np.testing.assert_array_equal(pieces.score_samples(new), scores)


def test_precision_of_the_scores_is_that_of_the_rows(X, new):
    detector = KDE(random_state=0).fit(X)
    single = detector.score_samples(new.astype(np.float32))
    assert single.dtype == np.float32 and detector.score_samples(new).dtype == np.float64
    np.testing.assert_allclose(single, detector.score_samples(new), rtol=1e-4)
    assert KDE().fit(X.astype(np.float32)).score_samples(new).dtype == np.float64


def test_model_does_not_change_with_the_callers_array(X, new):
    for scaler in ("standard", None):
        rows = X.copy()
        detector = KDE(scaler=scaler, bandwidth=1.0).fit(rows)
        scores = detector.score_samples(new)
        rows[:] = 0
        np.testing.assert_array_equal(detector.score_samples(new), scores)


def test_memory_map_is_read_as_an_array(X, new, tmp_path):
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    detector = KDE(random_state=0).fit(mapped)
    expected = KDE(random_state=0).fit(X)
    np.testing.assert_array_equal(detector.score_samples(mapped), expected.score_samples(X))
    assert not isinstance(detector.rows_, np.memmap)


# The choice of the bandwidth


@pytest.mark.parametrize("kernel", ["gaussian", "exponential"])
@pytest.mark.parametrize(
    "cv", [4, KFold(3), RepeatedKFold(n_splits=3, n_repeats=2, random_state=0)], ids=str
)
def test_bandwidth_is_that_of_a_grid_search(X, kernel, cv):
    grid = np.geomspace(0.02, 5, 15)
    detector = KDE(bandwidths=grid, cv=cv, kernel=kernel, random_state=3).fit(X)
    folds = cv
    if isinstance(cv, int):
        folds = KFold(cv, shuffle=True, random_state=np.random.RandomState(3))
    rows = StandardScaler().fit_transform(X)
    search = GridSearchCV(KernelDensity(kernel=kernel), {"bandwidth": grid}, cv=folds).fit(rows)
    assert detector.bandwidth_ == search.best_params_["bandwidth"]
    assert grid[0] < detector.bandwidth_ < grid[-1]
    # The likelihoods by hand: at narrow widths those of scikit-learn's trees are too low.
    if isinstance(cv, int):
        folds = KFold(cv, shuffle=True, random_state=np.random.RandomState(3))
    distances = np.linalg.norm(rows[:, None] - rows, axis=2)
    held_out = []
    for train, test in folds.split(rows):
        u = distances[np.ix_(test, train)][..., None] / grid
        logs = (
            -0.5 * u**2 - 1.5 * np.log(2 * np.pi)
            if kernel == "gaussian"
            else -u - np.log(8 * np.pi)
        )
        held_out.append(logsumexp(logs, axis=1) - np.log(len(train)) - 3 * np.log(grid))
    np.testing.assert_allclose(
        detector.log_likelihoods_, np.concatenate(held_out).mean(axis=0), rtol=1e-9
    )
    np.testing.assert_array_equal(detector.bandwidths_, grid)


def test_papers_grid(X):
    detector = KDE(bandwidths=PAPER_GRID, random_state=0).fit(X)
    assert detector.bandwidth_ in PAPER_GRID and len(detector.bandwidths_) == 10
    assert detector.bandwidths_[[0, -1]] == pytest.approx([np.sqrt(2), 32])


def test_overlapping_folds(X):
    detector = KDE(cv=ShuffleSplit(3, test_size=0.2, random_state=0)).fit(X)
    assert detector.bandwidth_ in detector.bandwidths_


@pytest.mark.parametrize("scaler", ["standard", "minmax", "robust", None])
def test_default_grid_goes_with_the_data(X, scaler):
    detector = KDE(scaler=scaler, random_state=0).fit(X)
    larger = KDE(scaler=scaler, random_state=0).fit(8 * X)
    factor = 8 if scaler is None else 1
    np.testing.assert_allclose(larger.bandwidths_, factor * detector.bandwidths_, rtol=1e-9)
    assert larger.bandwidth_ == pytest.approx(factor * detector.bandwidth_)
    if scaler == "standard":
        scott = 150 ** (-1 / 7)
        np.testing.assert_allclose(detector.bandwidths_[[0, -1]], [2**0.5 * scott, 2**2.5 * scott])


def test_constant_columns_do_not_move_the_default_grid():
    rows = np.random.default_rng(0).normal(size=(50, 4))
    rows[:, 2:] = 7
    scott = 50 ** (-1 / 8)
    assert KDE(bandwidth="scott").fit(rows).bandwidth_ == pytest.approx(scott)
    assert KDE(bandwidth="scott").fit(np.ones((9, 4))).bandwidth_ == pytest.approx(9 ** (-1 / 8))


def test_folds_are_at_most_the_rows():
    rows = np.array([[0.0], [1.0]])
    detector = KDE(random_state=0).fit(rows)
    np.testing.assert_allclose(detector.score_samples(rows)[0], detector.score_samples(rows)[1])
    reference = GridSearchCV(KernelDensity(), {"bandwidth": detector.bandwidths_}, cv=2)
    reference.fit(StandardScaler().fit_transform(rows))
    assert detector.bandwidth_ == reference.best_params_["bandwidth"]


def test_rule_of_thumb_leaves_no_trace_of_an_earlier_search(X):
    detector = KDE(random_state=0).fit(X)
    detector.set_params(bandwidth="scott").fit(X)
    assert not hasattr(detector, "bandwidths_") and not hasattr(detector, "log_likelihoods_")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_bandwidths_that_reach_no_held_out_row(X):
    with pytest.warns(UserWarning, match="a tophat density of zero, so the largest, 0.02") as w:
        detector = KDE(kernel="tophat", bandwidths=[0.02, 0.01]).fit(X)
    assert detector.bandwidth_ == 0.02
    assert w[0].filename == __file__


def test_isolated_rows_are_pointed_out(X):
    with pytest.warns(ConvergenceWarning, match="bandwidth_=1e-09 each has no other near") as w:
        KDE(kernel="tophat", bandwidth=1e-9).fit(X)
    assert w[0].filename == __file__


# Randomness


def test_same_seed_same_model(X, new):
    def scores(seed):
        return KDE(max_samples=40, random_state=seed).fit(X).score_samples(new)

    np.testing.assert_array_equal(scores(0), scores(0))
    assert (scores(0) != scores(1)).all()
    state = np.random.RandomState(0)
    first = KDE(max_samples=40, random_state=state).fit(X).score_samples(new)
    second = KDE(max_samples=40, random_state=state).fit(X).score_samples(new)
    np.testing.assert_array_equal(first, scores(0))
    assert (first != second).all()


def test_seed_does_not_depend_on_the_global_generator(X, new):
    before = pickle.dumps(np.random.get_state())  # noqa: NPY002
    KDE(max_samples=40, random_state=0).fit(X).predict(new)
    assert pickle.dumps(np.random.get_state()) == before  # noqa: NPY002


@pytest.mark.parametrize(
    ("max_samples", "n"), [(None, 150), (1.0, 150), (1000, 150), (30, 30), (0.2, 30), (1e-9, 2)]
)
def test_subset_of_the_training_rows(X, max_samples, n):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        detector = KDE(max_samples=max_samples, scaler=None, random_state=0).fit(X)
    assert detector.rows_.shape == (n, 3)
    assert len(np.unique(detector.rows_, axis=0)) == n
    assert {tuple(row) for row in detector.rows_} <= {tuple(row) for row in X}
    # The threshold is found among all training rows.
    if n > 2:
        assert (detector.predict(X) == -1).sum() == 15


# Saving


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"bandwidths": np.array([0.5, 1.0])},
        {"kernel": "cosine", "bandwidth": 3.0, "scaler": "robust"},
        {"algorithm": "ball_tree", "bandwidth": "silverman", "leaf_size": 5},
        {"rtol": 1e-5, "max_samples": 50, "scaler": None},
    ],
    ids=str,
)
def test_loaded_detector_scores_bit_by_bit_the_same(X, new, params, tmp_path):
    detector = KDE(random_state=0, **params).fit(X)
    save(detector, tmp_path / "kde")
    for copied in (load(tmp_path / "kde"), pickle.loads(pickle.dumps(detector))):
        for rows in (X, new, new.astype(np.float32)):
            np.testing.assert_array_equal(copied.score_samples(rows), detector.score_samples(rows))
        np.testing.assert_array_equal(copied.predict(new), detector.predict(new))
        assert copied.bandwidth_ == detector.bandwidth_ and copied.offset_ == detector.offset_
        assert (copied._tree is None) == (detector._tree is None)
        np.testing.assert_array_equal(copied.fit(X).score_samples(new), detector.score_samples(new))


def test_file_holds_the_rows_and_no_tree(X, tmp_path):
    sizes = []
    for algorithm in ("brute", "kd_tree"):
        detector = KDE(algorithm=algorithm, leaf_size=1, bandwidth=1.0).fit(X)
        save(detector, tmp_path / algorithm)
        assert "_tree" not in detector._get_fitted_state() and hasattr(detector, "_tree")
        sizes.append((tmp_path / algorithm).stat().st_size)
    assert abs(sizes[0] - sizes[1]) < 100


def test_state_is_taken_over_if_it_fits(X):
    detector = KDE(random_state=0).fit(X)
    state = detector._get_fitted_state()
    restored = KDE(random_state=0)
    restored._set_fitted_state(state)
    np.testing.assert_array_equal(restored.score_samples(X), detector.score_samples(X))
    state["rows_"] = state["rows_"][:, :1]
    with pytest.raises(ValueError, match="must have 3 columns"):
        KDE()._set_fitted_state(state)


# Bad input


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"bandwidths": []}, "bandwidths must be a sequence"),
        ({"bandwidths": [1.0, 0.0]}, "above 0"),
        ({"bandwidths": [1.0, np.inf]}, "finite"),
        ({"bandwidths": [1.0, np.nan]}, "finite"),
        ({"bandwidths": [[1.0]]}, "sequence"),
        ({"bandwidths": ["wide"]}, "finite numbers"),
        ({"bandwidth": 0.0}, "bandwidth"),
        ({"bandwidth": "wide"}, "bandwidth"),
        ({"kernel": "round"}, "kernel"),
        ({"cv": 1}, "cv"),
        ({"max_samples": 0.0}, "max_samples"),
        ({"max_samples": 1.5}, "max_samples"),
        ({"max_samples": 1}, "max_samples"),
        ({"scaler": "quantile"}, "scaler"),
        ({"algorithm": "brute", "rtol": 0.1}, "a tolerance needs"),
        ({"atol": -1.0}, "atol"),
        ({"kernel": "cosine", "algorithm": "kd_tree"}, 'kernel="cosine" cannot'),
        ({"kernel": "cosine", "rtol": 0.05}, 'kernel="cosine" cannot'),
    ],
    ids=str,
)
def test_bad_parameters(X, params, message):
    with pytest.raises(ValueError, match=message):
        KDE(**params).fit(X)


def test_bad_rows(X):
    for rows, message in (
        (X[:1], "minimum of 2"),
        (np.where(X == X[3, 1], np.nan, X), "NaN"),
        (X[:, :0], "0 feature"),
    ):
        with pytest.raises(ValueError, match=message):
            KDE().fit(rows)
    with pytest.raises(ValueError, match="expecting 3 features"):
        KDE().fit(X).score_samples(X[:, :2])


# As part of scikit-learn


def test_search_by_likelihood_compares_scalers_too(X):
    # Without the factor of the volume, the scaler with the largest numbers would win.
    grid = {"scaler": [None, "standard", "minmax"], "bandwidth": ["scott"]}
    search = GridSearchCV(KDE(), grid, cv=KFold(3, shuffle=True, random_state=0)).fit(X)
    scaled = [dict(p)["scaler"] for p in search.cv_results_["params"]]
    scores = dict(zip(scaled, search.cv_results_["mean_test_score"], strict=True))
    outside = make_pipeline(StandardScaler(), KDE(scaler=None, bandwidth="scott"))
    folds = KFold(3, shuffle=True, random_state=0)
    expected = []
    for train, test in folds.split(X):
        fitted = clone(outside).fit(X[train])
        expected.append(fitted.score(X[test]) - np.log(fitted[0].scale_).sum())
    assert scores["standard"] == pytest.approx(np.mean(expected), rel=1e-12)


def test_default_finds_anomalies_with_and_without_them_in_training():
    X, benign = load_breast_cancer(return_X_y=True)
    idx = np.random.default_rng(0).permutation(len(X))
    train, test = idx[:300], idx[300:]
    for rows, least in ((train[benign[train] == 1], 0.93), (train, 0.75)):
        scores = KDE(random_state=0).fit(X[rows]).score_samples(X[test])
        assert roc_auc_score(benign[test], scores) > least
