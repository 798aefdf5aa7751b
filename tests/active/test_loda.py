"""LODA: projections, histograms and scores, against what they are made of."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_ind
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

from anomaly_estimators import LODA, load
from anomaly_estimators.active import _cell_features
from anomaly_estimators.active._loda_histograms import (
    _DIVISORS,
    _N_CELLS,
    choose_n_bins,
    draw_projections,
    fit_histograms,
    project,
)
from anomaly_estimators.persistence import LoadError, container

few = settings(max_examples=25, deadline=None, derandomize=True, database=None)


@pytest.fixture(scope="module")
def X():
    return load_breast_cancer(return_X_y=True)[0][:, :9]


# Projections


@pytest.mark.parametrize("n_features", [1, 2, 3, 10, 100, 274])
def test_projections_use_the_square_root_of_the_features(n_features):
    columns, weights = draw_projections(500, n_features, np.random.RandomState(0))
    n_used = max(1, round(np.sqrt(n_features)))
    assert columns.shape == weights.shape == (500, n_used)
    assert all(len(set(row)) == n_used for row in columns)
    # All features in turn, by standard normal weights.
    assert set(columns.ravel()) == set(range(n_features))
    assert abs(weights.mean()) < 0.2 and abs(weights.std() - 1) < 0.2


def test_projection_is_a_product_and_the_same_alone_and_among_others():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 12))
    columns, weights = draw_projections(7, 12, np.random.RandomState(1))
    components = np.zeros((7, 12))
    np.put_along_axis(components, columns, weights, axis=1)
    projected = project(rows, columns, weights)
    np.testing.assert_allclose(projected, components @ rows.T, rtol=1e-12, atol=1e-14)
    for i in (0, 17, 299):
        np.testing.assert_array_equal(
            project(rows[i : i + 1], columns, weights)[:, 0], projected[:, i]
        )


# Histograms


def penalised_likelihood(x, n_bins):
    """The criterion of Birge and Rozenholc, as they write it."""
    counts, _ = np.histogram(x, bins=n_bins)
    counts = counts[counts > 0]
    return np.sum(counts * np.log(n_bins * counts / len(x))) - (n_bins - 1 + np.log(n_bins) ** 2.5)


@pytest.mark.parametrize("n", [2, 3, 10, 100, 3000])
@pytest.mark.parametrize("draw", ["normal", "uniform", "standard_cauchy", "poisson"])
def test_number_of_bins_has_the_highest_penalised_likelihood(n, draw):
    x = getattr(np.random.default_rng(n), draw)(size=n).astype(float)
    x = (x - x.min()) / max(np.ptp(x), 1e-9)
    cells = np.minimum((x * _N_CELLS).astype(int), _N_CELLS - 1)
    chosen = choose_n_bins(np.bincount(cells, minlength=_N_CELLS))
    candidates = [d for d in _DIVISORS if d <= max(1, n / np.log(n))]
    assert chosen in candidates
    best = max(penalised_likelihood(x, d) for d in candidates)
    # Edges are a matter of rounding.
    assert penalised_likelihood(x, chosen) == pytest.approx(best, abs=0.05 * np.sqrt(n))


@few
@given(
    seed=st.integers(0, 100),
    n=st.integers(2, 200),
    n_bins=st.integers(1, 50),
    exponent=st.sampled_from([-300, -30, 0, 30, 300]),
)
def test_densities_are_those_of_numpy(seed, n, n_bins, exponent):
    x = np.random.default_rng(seed).normal(size=n)
    histograms = fit_histograms(lambda: [x[None] * 10.0**exponent], n_bins)
    low, high = histograms.ranges[0] / 10.0**exponent
    counts, edges = np.histogram(x, bins=n_bins, range=(low, high))
    expected = np.log(np.maximum(counts, 0.5) / n / np.diff(edges))
    found = histograms.log_densities + exponent * np.log(10)
    # A value on an edge may be on either side of it.
    assert np.isclose(found, expected, rtol=1e-6, atol=1e-6).mean() >= 1 - 2 / n_bins


def test_pieces_make_no_difference():
    x = np.random.default_rng(0).normal(size=(3, 1000))
    whole = fit_histograms(lambda: [x], "auto")
    parts = fit_histograms(lambda: np.split(x, [1, 400, 900], axis=1), "auto")
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one, other)


def test_density_and_tails_hold_all_there_is():
    x = np.random.default_rng(0).exponential(size=(1, 400))
    histograms = fit_histograms(lambda: [x], 20)
    low, high = histograms.ranges[0]
    width = (high - low) / 20
    # Densities at the middle of each bin, times its width.
    inner = low + width * (np.arange(20) + 0.5)
    begins = width * (2.0 ** np.arange(60) - 1)
    tail = high + begins + width * 2.0 ** np.arange(60) / 2
    table, bins = histograms.table, histograms.locate(np.concatenate([inner, tail])[None])[0]
    density = np.exp(table[bins])
    counts = density[:20] * width * 400
    np.testing.assert_allclose(counts.round(6) % 0.5, 0, atol=1e-6)
    assert counts[counts > 0.6].sum() == pytest.approx(400)
    mass = np.sum(density[20:] * width * 2.0 ** np.arange(60))
    assert mass == pytest.approx(0.5 / 400, rel=1e-6)
    # Both sides alike.
    np.testing.assert_array_equal(histograms.locate((low - (tail - high))[None])[0], bins[20:])


def test_all_bins_come_in_their_order():
    histograms = fit_histograms(lambda: [np.array([[0.0, 1.0], [5.0, 5.0]])], 4)
    inside = np.array([[0.0, 0.3, 0.6, 0.9, 1.0], [5.0] * 5])
    np.testing.assert_array_equal(histograms.locate(inside)[0], [0, 1, 2, 3, 3])
    far = np.array([[1.1, 1.3, 2.0, 1e6, 1.7e308, np.inf], [5.1, 6, 9, 1e6, 1.7e308, np.inf]])
    bins = histograms.locate(far)
    assert (np.diff(bins[0]) > 0)[1:4].all() and (bins[0] >= 4).all()
    assert (bins < np.diff(histograms.starts)[:, None]).all()
    assert np.isfinite(histograms.table).all()


# Scores


def test_score_is_the_mean_log_density(X):
    detector = LODA(n_projections=13, n_bins=10, scaler="minmax", random_state=0).fit(X)
    total = np.zeros(len(X))
    for component in detector.components_:
        projected = X @ component
        # As wide as the estimator's, which is a millionth wider than the rows'.
        low, high = projected.min(), projected.max()
        slack = 0.5e-6 * (high - low)
        counts, edges = np.histogram(projected, bins=10, range=(low - slack, high + slack))
        bins = np.clip(np.searchsorted(edges, projected, side="right") - 1, 0, 9)
        total += np.log(np.maximum(counts, 0.5)[bins] / len(X) / np.diff(edges)[0])
    np.testing.assert_allclose(detector.score_samples(X), total / 13, rtol=1e-6)


@pytest.mark.parametrize(
    "scaler, cls",
    [("standard", StandardScaler), ("minmax", MinMaxScaler), ("robust", RobustScaler)],
)
def test_scaler_is_that_of_scikit_learn(scaler, cls, X):
    inside = LODA(scaler=scaler, random_state=0).fit(X).score_samples(X)
    scaled = cls().fit_transform(X)
    outside = LODA(scaler=None, random_state=0).fit(scaled).score_samples(scaled)
    np.testing.assert_allclose(inside, outside, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("scale", [1e-200, 1e-10, 1e10, 1e140])
def test_units_make_no_difference(scale, X):
    plain = LODA(random_state=0).fit(X).score_samples(X)
    units = scale ** np.linspace(0, 1, X.shape[1])
    np.testing.assert_allclose(
        LODA(random_state=0).fit(X * units).score_samples(X * units), plain, rtol=1e-6, atol=1e-6
    )


def test_further_is_lower_and_no_two_tie(X):
    detector = LODA(random_state=0).fit(X)
    direction = np.random.default_rng(0).normal(size=X.shape[1]) * X.std(axis=0)
    far = X.mean(axis=0) + np.outer(10.0 ** np.arange(1, 300), direction)
    scores = detector.score_samples(far)
    assert (np.diff(scores) < 0).all() and np.isfinite(scores).all()
    assert scores[0] < detector.score_samples(X).min()


def test_constant_features_tell_only_what_differs():
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.normal(size=(100, 1)), np.full(100, 0.1)])
    detector = LODA(n_projections=40, random_state=0).fit(rows)
    assert (detector.n_bins_ == 1).any()
    constant = np.flatnonzero(detector.components_[:, 1])
    assert (detector.log_densities_[np.cumsum(detector.n_bins_)[constant] - 1] == 0).all()
    score = detector.score_samples(rows[:1])[0]
    moved = rows[:1] + [[0.0, 0.01]]
    # Half a row among a hundred, along the projections that see it.
    lost = len(constant) / 40 * np.log(200)
    assert detector.score_samples(moved)[0] == pytest.approx(score - lost)
    # Rounding is no difference.
    assert detector.score_samples(rows[:1].astype(np.float32))[0] == pytest.approx(score, abs=0.1)


def test_a_table_of_equal_rows_has_equal_scores():
    detector = LODA(random_state=0).fit(np.full((20, 3), 7.0))
    scores = detector.score_samples(np.full((5, 3), 7.0))
    assert (scores == 0).all() and not np.signbit(scores).any()
    assert (detector.score_samples([[7.0, 7.0, 8.0], [0.0, 0.0, 0.0]]) < 0).all()


def test_more_projections_agree_more(X):
    def spread(n_projections):
        scores = [
            LODA(n_projections=n_projections, random_state=s).fit(X).score_samples(X)
            for s in range(2)
        ]
        return np.corrcoef(*scores)[0, 1]

    assert spread(5) < spread(400) > 0.98


def test_anomalies_score_low():
    X, benign = load_breast_cancer(return_X_y=True)
    assert roc_auc_score(benign, LODA(random_state=0).fit(X).score_samples(X)) > 0.8


def test_pieces_of_rows_and_memory_maps(X, tmp_path, monkeypatch):
    expected = LODA(random_state=0).fit(X)
    scores = expected.score_samples(X)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    monkeypatch.setattr(_cell_features, "_PIECE_VALUES", 61 * 100)
    for rows in (X, mapped):
        detector = LODA(random_state=0).fit(rows)
        np.testing.assert_allclose(detector.score_samples(rows), scores, rtol=1e-6)
    np.testing.assert_array_equal(expected.score_samples(X), scores)


# Importances


def test_importances_are_t_statistics_of_scipy(X):
    detector = LODA(random_state=0).fit(X)
    members = detector._members
    surprises = -members.histograms.table[
        members.locate(X[:20]) + members.histograms.starts[:-1, None]
    ]
    importances = detector.feature_importances(X[:20])
    for feature in range(X.shape[1]):
        used = detector.components_[:, feature] != 0
        expected = ttest_ind(surprises[used], surprises[~used], equal_var=False).statistic
        np.testing.assert_allclose(importances[:, feature], expected, rtol=1e-9)


def test_importances_find_what_is_odd():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(500, 16))
    odd = rng.normal(size=(16, 16)) + 8 * np.eye(16)
    importances = LODA(n_projections=300, random_state=0).fit(rows).feature_importances(odd)
    assert (importances.argmax(axis=1) == np.arange(16)).mean() > 0.9
    assert (np.diag(importances) > 2).all()


def test_importances_where_there_is_nothing_to_compare(X):
    assert (LODA(random_state=0).fit(X[:, :1]).feature_importances(X[:5, :1]) == 0).all()
    two = LODA(n_projections=1, random_state=0).fit(X).feature_importances(X[:5])
    assert (two == 0).all() and two.shape == (5, 9)
    assert LODA(random_state=0).fit(X).feature_importances(X[:2].astype(np.float32)).dtype == (
        np.float32
    )


# Files


@pytest.mark.parametrize(
    "name, value",
    [
        ("n_bins_", np.zeros(5, dtype=np.int64)),
        ("n_bins_", np.full(5, 7)),
        ("ranges_", np.full((5, 2), np.nan)),
        ("components_", np.full((5, 9), np.inf)),
        ("components_", np.ones((5, 8))),
        ("_columns", np.full((5, 3), 9)),
        ("_columns", np.full((5, 3), -1)),
        ("log_densities_", np.zeros(3)),
        ("_log_tails", np.zeros((4, 2))),
    ],
)
def test_forged_files(name, value, X, tmp_path):
    path = tmp_path / "loda"
    LODA(n_projections=5, random_state=0).fit(X).save(path)
    document, arrays = container.unpack(path.read_bytes())
    arrays[f"attribute.{name}"] = value
    document["digest"] = "0" * 64
    path.write_bytes(container.pack(document, arrays))
    with pytest.raises(LoadError):
        load(path)
