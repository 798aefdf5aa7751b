"""AnoDM: its score term by term, the map that rows join, and rows that have no place there."""

import copy
import pickle
import warnings

import joblib
import numpy as np
import pytest
import torch
from _public import without_addresses
from scipy import stats
from scipy.spatial.distance import cdist
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.manifold import Isomap
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from anomaly_estimators import UAI, VAE, AnoDM, load
from anomaly_estimators.base import threshold
from anomaly_estimators.fingerprint import row_fingerprints
from anomaly_estimators.manifold import TSNEMap


class Doubled(TransformerMixin, BaseEstimator):
    """A transformer that has nothing of t-SNE, in three dimensions, and counts what it places."""

    def __init__(self, factor=2.0):
        self.factor = factor

    def fit(self, X, y=None):
        self.n_placed_ = 0
        return self

    def fit_transform(self, X, y=None):
        # Not what transform makes of the same rows, as with maps that are optimised.
        return self.fit(X)._of(X) + 0.25

    def transform(self, X):
        self.n_placed_ += len(X)
        return self._of(X)

    def _of(self, X):
        return self.factor * np.column_stack([X[:, 0], X[:, 1], X[:, 0] * X[:, 1]])


def make(**params):
    # The score as it is in the paper.
    defaults = {
        "alpha": 0.5,
        "reconstruction_error": "normalised",
        "n_draws": 1,
        "kl_schedule": "capacity",
        "beta": 1.0,
        "scaler": "standard",
        "hidden_layer_sizes": (6, 5),
        "latent_dim": 3,
        "channels": (3,),
        "max_iter": 2,
        "embedding_max_iter": 40,
        "n_landmarks": 50,
        "random_state": 0,
        "device": "cpu",
    }
    return AnoDM(**{**defaults, **params})


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).normal(3.0, 2.0, size=(80, 8))


@pytest.fixture(scope="module")
def new():
    return np.random.default_rng(1).normal(3.0, 2.0, size=(30, 8))


@pytest.fixture(scope="module")
def fitted(X):
    return make().fit(X)


NETWORKS = {
    "mlp": {},
    "mlp with a shape": {"input_shape": (1, 8)},
    "conv": {"encoder": "conv"},
    "images": {"encoder": "conv", "input_shape": (2, 2, 2)},
    "tcn": {"encoder": "tcn", "input_shape": (2, 4)},
    "lstm": {"encoder": "lstm"},
}
EMBEDDINGS = {
    "tsne": "tsne",
    "passthrough": "passthrough",
    "PCA": PCA(2),
    "Isomap": Isomap(n_neighbors=10),
    "own": Doubled(),
}
embeddings = pytest.mark.parametrize("embedding", EMBEDDINGS)


def by_hand(detector, rows):
    """Codes, and D_RE of eq 3, of scaled rows in double precision."""
    module = copy.deepcopy(detector.module_).double()
    scaled = torch.from_numpy(detector.scaler_.transform(rows))
    first = row_fingerprints(rows) % 1024
    errors = []
    with torch.no_grad():
        mean, log_variance = module.encoder(scaled)
        for number in range(max(1, detector.n_draws)):
            noise = module.noise[torch.from_numpy(((first + number) % 1024).astype(np.int64))]
            z = mean + (log_variance / 2).exp() * noise
            outputs = module.decoder(z if detector.n_draws else mean)
            if detector.likelihood == "bernoulli":
                outputs = 1 / (1 + (-outputs).exp())
            residual = (scaled - outputs).numpy()
            norms = np.sqrt((scaled.numpy() ** 2).sum(axis=1))
            norms = norms if detector.reconstruction_error == "normalised" else 1.0
            errors.append((residual**2).sum(axis=1) / norms)
            if number == 0:
                draw = z
    return (mean if detector.latent == "mean" else draw).numpy(), np.mean(errors, axis=0)


def which_landmarks(detector, rows, X):
    """Numbers of the landmarks that rows are, by their codes; -1 for rows that were not in X."""
    codes, _ = by_hand(detector, rows)
    distances = cdist(codes, detector.landmark_codes_)
    return np.where(distances.min(axis=1) < 1e-9, distances.argmin(axis=1), -1)


def distances_by_hand(detector, rows, X):
    """D_map of eq 4, landmark by landmark."""
    own, codes = which_landmarks(detector, rows, X), by_hand(detector, rows)[0]
    found = []
    for code, number in zip(codes, own, strict=True):
        if number >= 0:
            position = detector.map_[number]
        elif detector.embedding_ is None:
            position = code
        else:
            position = detector.embedding_.transform(code[None])[0]
        others = [
            np.sqrt(((position - place) ** 2).sum())
            for i, place in enumerate(detector.map_)
            if i != number
        ]
        found.append(np.mean(sorted(others)[: detector.n_neighbors]))
    return np.array(found)


def terms_by_hand(detector, rows, X):
    return np.column_stack([by_hand(detector, rows)[1], distances_by_hand(detector, rows, X)])


# Equations 2 to 4


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"n_neighbors": 4, "alpha": 0.3, "n_draws": 3},
        {"scale_terms": False, "alpha": 0.9},
        {"reconstruction_error": "squared", "n_draws": 0},
        {"n_draws": 0, "latent": "sample", "scaler": "minmax", "beta": 0.01},
        {"latent": "sample", "n_neighbors": 2, "n_draws": 2},
        {"embedding": "passthrough", "n_neighbors": 3},
        {"embedding": PCA(1), "n_landmarks": None},
        {"embedding": Doubled(), "n_neighbors": 2},
        {"likelihood": "bernoulli", "scaler": "minmax"},
        {"likelihood": "gaussian", "kl_schedule": "constant", "batch_norm": False},
        {"encoder": "conv"},
        {"encoder": "tcn"},
        {"encoder": "lstm"},
    ],
    ids=without_addresses,
)
def test_score_is_that_of_the_paper(params, X, new):
    detector = make(**params).fit(X)
    raw = terms_by_hand(detector, X, X)
    scales = raw.mean(axis=0) if detector.scale_terms else np.ones(2)
    np.testing.assert_allclose(detector.term_scales_, scales, rtol=1e-6)
    own = which_landmarks(detector, X, X)
    assert (own >= 0).sum() == len(detector.map_) == (80 if detector.n_landmarks is None else 50)
    for rows in (X, new):
        terms = terms_by_hand(detector, rows, X) / scales
        np.testing.assert_allclose(detector.score_terms(rows), terms, rtol=1e-5, atol=1e-7)
        expected = detector.alpha * terms[:, 0] + (1 - detector.alpha) * terms[:, 1]
        np.testing.assert_allclose(-detector.score_samples(rows), expected, rtol=1e-5, atol=1e-7)
    assert (which_landmarks(detector, new, X) < 0).all()


def test_error_is_over_the_norm_and_not_its_square():
    """A network that returns nothing but zeros: D_RE is the norm of the scaled row."""
    X = np.random.default_rng(0).normal(size=(40, 5))
    detector = make(scaler=None, scale_terms=False).fit(X)
    squared = make(scaler=None, scale_terms=False, reconstruction_error="squared").fit(X)
    squared.net_ = detector.net_
    with torch.no_grad():
        for parameter in detector.module_.decoder.decoder.parameters():
            parameter.zero_()
    for size in (1.0, 10.0):
        norms = np.linalg.norm(size * X, axis=1)
        np.testing.assert_allclose(detector.score_terms(size * X)[:, 0], norms, rtol=1e-6)
        np.testing.assert_allclose(squared.score_terms(size * X)[:, 0], norms**2, rtol=1e-6)


def test_terms_of_training_rows_have_mean_one(X, fitted):
    np.testing.assert_allclose(fitted.score_terms(X).mean(axis=0), 1.0, rtol=1e-9)
    unscaled = make(scale_terms=False).fit(X)
    np.testing.assert_array_equal(unscaled.term_scales_, [1.0, 1.0])
    np.testing.assert_allclose(unscaled.score_terms(X).mean(axis=0), fitted.term_scales_)


@pytest.mark.parametrize("alpha", [0, 0.0, 1, 1.0, 0.25])
def test_alpha_weighs_the_terms_also_after_a_fit(alpha, X, new, fitted):
    detector = make(alpha=alpha).fit(X)
    terms = fitted.score_terms(new)
    np.testing.assert_array_equal(detector.score_terms(new), terms)
    expected = {0: terms[:, 1], 1: terms[:, 0]}.get(alpha, 0.25 * terms[:, 0] + 0.75 * terms[:, 1])
    np.testing.assert_allclose(-detector.score_samples(new), expected, rtol=1e-12)
    changed = copy.deepcopy(fitted).set_params(alpha=alpha)
    np.testing.assert_array_equal(changed.score_samples(new), detector.score_samples(new))
    # The threshold stays.
    assert changed.offset_ == fitted.offset_ != detector.offset_


def test_a_term_without_a_weight_has_no_say(X):
    detector = make(alpha=1.0).fit(X)
    far = np.full((1, 8), 1e30)
    (terms,) = detector.score_terms(far)
    assert np.isfinite(terms[0]) and terms[1] == np.inf
    assert -detector.score_samples(far)[0] == terms[0]
    detector.set_params(alpha=0.999)
    assert detector.score_samples(far)[0] == np.finfo(np.float64).min


def test_threshold_is_that_of_the_training_rows(X, fitted):
    assert fitted.offset_ == threshold(fitted.score_samples(X), 0.1)
    for dtype in (np.float32, np.float64):
        detector = make(contamination=0.25, embedding=Doubled()).fit(X.astype(dtype))
        # Every row was placed once.
        assert detector.embedding_.n_placed_ == 30
        assert (detector.predict(X.astype(dtype)) == -1).sum() == 20


# Landmarks


def test_landmarks_are_rows_of_the_training_set(X):
    for n_landmarks, n_expected in ((2, 2), (17, 17), (80, 80), (81, 80), (None, 80)):
        detector = make(n_landmarks=n_landmarks).fit(X)
        assert detector.map_.shape == (n_expected, 2)
        assert detector.landmark_codes_.shape == (n_expected, 3)
        codes = by_hand(detector, X)[0]
        distances = cdist(detector.landmark_codes_, codes)
        np.testing.assert_allclose(distances.min(axis=1), 0.0, atol=1e-9)
        assert len(set(distances.argmin(axis=1))) == n_expected


def test_seed_decides_which_rows_are_landmarks(X):
    codes, chosen = None, []
    for seed in (0, 0, 1):
        detector = make(random_state=seed, n_landmarks=20, embedding="passthrough").fit(X)
        codes = by_hand(detector, X)[0]
        chosen.append(cdist(detector.landmark_codes_, codes).argmin(axis=1).tolist())
    assert chosen[0] == chosen[1] != chosen[2]
    # All over the table, and in its order.
    assert chosen[0] == sorted(chosen[0]) and max(chosen[0]) > 40 > 20 > min(chosen[0])
    generator = np.random.RandomState(0)
    first, second = (make(random_state=generator).fit(X) for _ in range(2))
    assert not np.allclose(first.map_, second.map_)


@embeddings
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_landmark_has_its_own_place_in_either_precision(embedding, dtype, X):
    detector = make(embedding=EMBEDDINGS[embedding]).fit(X)
    own = which_landmarks(detector, X, X)
    places = detector.transform_map(X.astype(dtype))
    tolerance = 1e-4 if embedding == "passthrough" and dtype == np.float32 else 1e-12
    np.testing.assert_allclose(
        places[own >= 0], detector.map_[own[own >= 0]], atol=tolerance, rtol=tolerance
    )
    # It is none of its neighbours, which would be at no distance.
    distances = detector.score_terms(X.astype(dtype))[own >= 0, 1]
    between = cdist(detector.map_, detector.map_) + np.diag(np.full(50, np.inf))
    expected = between.min(axis=1)[own[own >= 0]] / detector.term_scales_[1]
    np.testing.assert_allclose(distances, expected, rtol=1e-3 if tolerance > 1e-9 else 1e-9)
    assert distances.min() > 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_training_in_single_precision_is_known_again_in_double(dtype, X):
    single = X.astype(np.float32)
    detector = make().fit(single)
    matched = cdist(detector.transform_map(single.astype(dtype)), detector.map_)
    assert (matched.min(axis=1) == 0).sum() == 50


def test_duplicated_rows_have_one_place():
    rng = np.random.default_rng(0)
    rows = np.repeat(rng.normal(size=(20, 6)), 3, axis=0)
    detector = make(n_landmarks=None).fit(rows)
    terms, places = detector.score_terms(rows), detector.transform_map(rows)
    for array in (terms, places):
        np.testing.assert_allclose(array, np.repeat(array[::3], 3, axis=0), rtol=1e-9)
    # The other two of three stay neighbours.
    params = {"n_landmarks": None, "embedding": "passthrough", "scale_terms": False}
    flat = make(n_neighbors=2, **params).fit(rows)
    np.testing.assert_allclose(flat.score_terms(rows)[:, 1], 0.0, atol=1e-6)
    flat = make(n_neighbors=3, **params).fit(rows)
    assert (flat.score_terms(rows)[:, 1] > 1e-3).all()


def test_rows_that_are_no_landmarks_are_placed_by_the_transformer(X, new):
    detector = make(embedding=Doubled(3.0)).fit(X)
    placed = detector.embedding_.n_placed_
    assert placed == 30  # Rows of X that are no landmarks.
    codes = detector.transform(new)
    expected = 3.0 * np.column_stack([codes[:, 0], codes[:, 1], codes[:, 0] * codes[:, 1]])
    np.testing.assert_allclose(detector.transform_map(new), expected, rtol=1e-9)
    assert detector.embedding_.n_placed_ == placed + 30
    both = np.concatenate([X, new])
    detector.score_samples(both)
    assert detector.embedding_.n_placed_ == placed + 30 + 60


def test_the_transformer_is_cloned(X):
    own = Doubled()
    detector = make(embedding=own).fit(X)
    assert detector.embedding_ is not own and not hasattr(own, "n_placed_")
    assert detector.embedding is own


def test_tsne_has_the_parameters_that_are_asked_for(X):
    params = {"perplexity": 7.5, "embedding_max_iter": 33, "n_jobs": 1}
    detector = make(**params).fit(X)
    tsne = detector.embedding_
    assert isinstance(tsne, TSNEMap)
    assert (tsne.perplexity, tsne.max_iter, tsne.n_jobs) == (7.5, 33, 1)
    again = TSNEMap(perplexity=7.5, max_iter=33, random_state=tsne.random_state)
    np.testing.assert_array_equal(again.fit_transform(detector.landmark_codes_), detector.map_)


# The same score


def variants():
    for name, params in NETWORKS.items():
        yield pytest.param(params, id=name)
    for name, embedding in EMBEDDINGS.items():
        for latent in ("mean", "sample"):
            yield pytest.param({"embedding": embedding, "latent": latent}, id=f"{name}, {latent}")
    yield pytest.param({"n_draws": 5, "n_neighbors": 3}, id="several")


@pytest.mark.parametrize("params", list(variants()))
def test_a_row_has_one_score(params, X, new, tmp_path):
    detector = make(**params).fit(X)
    rows = np.concatenate([X[::4], new])
    scores = detector.score_samples(rows)
    assert scores.shape == (50,) and np.isfinite(scores).all() and len(np.unique(scores)) == 50
    order = np.random.default_rng(0).permutation(50)
    np.testing.assert_allclose(detector.score_samples(rows[order]), scores[order], rtol=1e-9)
    single = [detector.score_samples(rows[i : i + 1])[0] for i in range(0, 50, 4)]
    np.testing.assert_allclose(single, scores[::4], rtol=1e-9)
    np.testing.assert_array_equal(detector.score_samples(rows), scores)
    loaded = [pickle.loads(pickle.dumps(detector))]
    joblib.dump(detector, tmp_path / "a.joblib")
    loaded.append(joblib.load(tmp_path / "a.joblib", mmap_mode="r"))
    if isinstance(detector.embedding, str):
        detector.save(tmp_path / "a.ae")
        loaded.append(load(tmp_path / "a.ae"))
    else:
        with pytest.raises(ValueError, match="pickle"):
            detector.save(tmp_path / "a.ae")
    for other in loaded:
        for part in (rows, rows.astype(np.float32)):
            np.testing.assert_array_equal(other.score_samples(part), detector.score_samples(part))
        np.testing.assert_array_equal(other.transform_map(rows), detector.transform_map(rows))
        assert other.offset_ == detector.offset_
    low = detector.score_samples(rows.astype(np.float32))
    assert low.dtype == np.float32
    np.testing.assert_allclose(low, scores, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("encoder", ["mlp", "conv", "tcn", "lstm"])
def test_encoders_are_those_asked_for(encoder, X):
    detector = make(encoder=encoder, input_shape=(1, 8), channels=(3, 4)).fit(X)
    kinds = {type(part).__name__ for part in detector.module_.modules()}
    expected = {
        "mlp": {"MLP"},
        "conv": {"StridedConvEncoder", "StridedConvDecoder"},
        "tcn": {"TemporalConvEncoder", "StridedConvDecoder"},
        "lstm": {"LSTMEncoder", "StridedConvDecoder"},
    }
    others = set.union(*expected.values()) - expected[encoder] - {"MLP"}
    assert expected[encoder] <= kinds and not others & kinds
    if encoder != "mlp":
        # A series of 8 is halved twice, to 4 maps of 2.
        assert detector.module_.decoder.decoder.dense[-1].out_features == 8


# Draws


def test_noise_is_normal_and_of_the_row(X, new):
    detector = make(latent="sample", embedding="passthrough", n_landmarks=None).fit(X)
    rows = np.random.default_rng(2).normal(3.0, 2.0, size=(4_000, 8))
    module = copy.deepcopy(detector.module_).double()
    with torch.no_grad():
        posterior = module.encoder(torch.from_numpy(detector.scaler_.transform(rows)))
    drawn = detector.transform_map(rows)
    noise = (drawn - posterior.mean.numpy()) / np.exp(posterior.log_variance.numpy() / 2)
    np.testing.assert_allclose(detector.transform(rows), posterior.mean, rtol=1e-6, atol=1e-9)
    # Of 1024 kept draws, each for about four rows.
    kept = np.unique(noise.round(6), axis=0)
    assert 950 < len(kept) <= 1024
    for column in kept.T:
        assert stats.kstest(column, "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(kept.T) - np.eye(3)).max() < 0.12
    assert np.abs(noise.mean(axis=0)).max() < 0.1 and np.abs(noise.std(axis=0) - 1).max() < 0.1
    # The same row has the same, wherever it is, and in either precision.
    np.testing.assert_allclose(detector.transform_map(rows[::-7]), drawn[::-7], rtol=1e-9)
    low = detector.transform_map(rows[:50].astype(np.float32))
    np.testing.assert_allclose(low, drawn[:50], rtol=1e-2, atol=1e-3)


def test_error_is_the_mean_over_the_draws(X, new):
    """With many draws the error is its expectation, by draws of the test's own."""
    detector = make(n_draws=1024, scale_terms=False).fit(X)
    module = copy.deepcopy(detector.module_).double()
    rows = torch.from_numpy(detector.scaler_.transform(new))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        mean, log_variance = module.encoder(rows)
        noise = torch.randn(3_000, *mean.shape, generator=generator, dtype=torch.float64)
        outputs = module.decoder(mean + (log_variance / 2).exp() * noise)
        errors = (rows - outputs).square().sum(-1) / rows.norm(dim=-1)
    found = detector.score_terms(new)[:, 0]
    deviation = errors.std(0).numpy() * np.sqrt(1 / 1024 + 1 / 3_000)
    assert np.abs(found - errors.mean(0).numpy()).max() < 5 * deviation.max()
    np.testing.assert_array_less(np.abs(found - errors.mean(0).numpy()), 5 * deviation)
    one = make(scale_terms=False).fit(X).score_terms(new)[:, 0]
    assert np.abs(one - found).mean() > 5 * np.abs(found - errors.mean(0).numpy()).mean()


# Rows and landmarks in one map


def test_training_rows_in_one_map_are_none_of_their_own_neighbours(X):
    """Without that the landmark that a row is lies at the row's own place, and no distance is left."""
    detector = make(transductive=True, embedding="passthrough", n_landmarks=None).fit(X)
    together = detector.score_terms(X)
    np.testing.assert_allclose(
        together, detector.set_params(transductive=False).score_terms(X), rtol=1e-6
    )
    assert (together[:, 1] > 0).all()


def test_transductive_scores_depend_on_the_rows_that_come_along(X, new, fitted):
    detector = make(transductive=True).fit(X)
    assert detector.offset_ == fitted.offset_
    np.testing.assert_array_equal(detector.map_, fitted.map_)
    whole, few = detector.score_terms(new), detector.score_terms(new[:10])
    np.testing.assert_allclose(whole[:10, 0], few[:, 0], rtol=1e-9)
    assert not np.isclose(whole[:10, 1], few[:, 1], rtol=1e-3).any()
    np.testing.assert_array_equal(detector.score_terms(new), whole)
    np.testing.assert_array_equal(detector.transform_map(new), fitted.transform_map(new))
    # One map of landmarks and rows.
    codes = np.concatenate([detector.landmark_codes_, detector.transform(new)])
    tsne = detector.embedding_
    places = TSNEMap(perplexity=30, max_iter=40, random_state=tsne.random_state).fit(codes)
    distances = cdist(places.embedding_[50:], places.embedding_[:50]).min(axis=1)
    np.testing.assert_allclose(whole[:, 1] * detector.term_scales_[1], distances, rtol=1e-9)
    # After a fit too, and back.
    changed = copy.deepcopy(fitted).set_params(transductive=True)
    np.testing.assert_array_equal(changed.score_samples(new), detector.score_samples(new))
    changed.set_params(transductive=False)
    np.testing.assert_array_equal(changed.score_samples(new), fitted.score_samples(new))


@pytest.mark.parametrize("embedding", ["passthrough", "own"])
def test_transductive_scores_of_any_embedding(embedding, X, new):
    detector = make(transductive=True, embedding=EMBEDDINGS[embedding], n_neighbors=3).fit(X)
    placed = detector.embedding_ and detector.embedding_.n_placed_
    codes = [detector.landmark_codes_, detector.transform(new)]
    if embedding == "own":
        codes = [Doubled()._of(part) for part in codes]
    distances = np.sort(cdist(*codes[::-1]), axis=1)[:, :3].mean(axis=1)
    np.testing.assert_allclose(
        detector.score_terms(new)[:, 1] * detector.term_scales_[1], distances, rtol=1e-9
    )
    assert placed is None or detector.embedding_.n_placed_ == placed


@pytest.mark.parametrize("left_out", [0, 7])
def test_rows_of_a_new_kind_lie_further_off_in_a_map_of_all(left_out):
    """The paper's reason: a class that was left out makes an island of its own."""
    digits, kinds = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    normal = rng.permutation(np.flatnonzero(kinds != left_out))
    strange = rng.permutation(np.flatnonzero(kinds == left_out))[:40]
    detector = make(
        hidden_layer_sizes=(64, 32),
        latent_dim=16,
        capacity=50.0,
        max_iter=40,
        embedding_max_iter=250,
        n_landmarks=None,
        scaler="minmax",
        learning_rate=5e-3,
    ).fit(digits[normal[:200]])
    offset = detector.offset_
    rows = digits[np.concatenate([normal[200:260], strange])]
    truth = np.arange(100) >= 60
    placed = detector.score_terms(rows)[:, 1]
    joint = detector.set_params(transductive=True).score_terms(rows)[:, 1]
    assert np.median(joint[truth]) > 1.2 * np.median(placed[truth])
    assert roc_auc_score(truth, joint) > roc_auc_score(truth, placed) + 0.05
    assert detector.offset_ == offset


# The capacity


@pytest.mark.parametrize("capacity", [0.0, 3.0])
def test_divergence_meets_the_capacity(capacity):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 3)) @ rng.normal(size=(3, 8))
    detector = make(
        hidden_layer_sizes=(16,),
        capacity=capacity,
        beta=20.0,
        max_iter=60,
        learning_rate=0.01,
        embedding="passthrough",
    ).fit(rows)
    assert detector.kl_divergence(rows).mean() == pytest.approx(capacity, abs=0.3)


def test_beta_weighs_the_divergence():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 3)) @ rng.normal(size=(3, 8))
    found = []
    for beta in (0.0, 0.5, 5.0):
        detector = make(
            hidden_layer_sizes=(16,),
            kl_schedule="constant",
            beta=beta,
            max_iter=30,
            learning_rate=0.01,
            embedding="passthrough",
        ).fit(rows)
        found.append(detector.kl_divergence(rows).mean())
    assert found[0] > 1.5 * found[1] > 2.0 * found[2]


def test_alone_the_errors_part_is_that_of_a_vae(X):
    """The same network and seed as a VAE's: AnoDM learns what a VAE with its parameters learns."""
    params = {
        "hidden_layer_sizes": (6, 5),
        "latent_dim": 3,
        "max_iter": 2,
        "learning_rate": 1e-3,
        "random_state": 0,
        "kl_schedule": "capacity",
        "beta": 0.5,
        "scaler": "robust",
        "likelihood": "unit_gaussian",
        "device": "cpu",
    }
    # As many draws are kept, so that the generator is as far on when the training begins.
    vae = VAE(**params, n_draws=1024).fit(X)
    np.testing.assert_array_equal(make(**params).fit(X).loss_curve_, vae.loss_curve_)


# Edges


def test_rows_too_far_off_have_the_lowest_score(X, new, fitted):
    for dtype, sizes in ((np.float64, (1e30, 1e160, 1e300)), (np.float32, (1e25, 1e30, 3e38))):
        lowest = np.finfo(dtype).min
        rows = new[: len(sizes) + 2].astype(dtype)
        rows[1:-1] = np.array(sizes)[:, None]
        for embedding in ("tsne", "passthrough"):
            detector = fitted if embedding == "tsne" else make(embedding=embedding).fit(X)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                scores = detector.score_samples(rows)
                terms = detector.score_terms(rows)
            assert np.isfinite(scores).all() and scores.dtype == dtype
            assert (scores[2:-1] == lowest).all()
            assert (scores[1] < scores[[0, -1]]).all()
            np.testing.assert_allclose(
                scores[[0, -1]], detector.score_samples(rows[[0, -1]]), rtol=1e-4
            )
            assert (detector.predict(rows)[1:-1] == -1).all()
            # As it is documented: infinite, and never NaN.
            assert not np.isnan(terms).any() and np.isinf(terms[2:-1]).any(axis=1).all()
        places = fitted.transform_map(rows)
        assert np.isnan(places[2:-1]).all() and np.isfinite(places[[0, -1]]).all()


def test_far_rows_in_a_map_of_all_have_no_part_in_it(X, new, fitted):
    detector = copy.deepcopy(fitted).set_params(transductive=True)
    for size in (1e160, 1e300):
        rows = np.concatenate([new, np.full((1, 8), size)])
        scores = detector.score_samples(rows)
        assert scores[-1] == np.finfo(np.float64).min and np.isfinite(scores).all()


@pytest.mark.parametrize("embedding", ["tsne", "passthrough"])
@pytest.mark.parametrize(
    "rows",
    [np.full((20, 3), 7.0), np.zeros((20, 3)), np.eye(2, 3), np.ones((2, 3)), np.eye(3, 1)],
    ids=["constant", "zeros", "two rows", "two alike", "one column"],
)
def test_few_or_constant_rows_have_finite_scores(rows, embedding):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        detector = make(embedding=embedding).fit(rows)
    scores = detector.score_samples(rows)
    assert np.isfinite(scores).all() and np.isfinite(detector.offset_)
    assert (np.isfinite(detector.term_scales_) & (detector.term_scales_ > 0)).all()
    assert np.isfinite(detector.score_samples(rows + 1.0)).all()
    assert np.isfinite(detector.set_params(transductive=True).score_samples(rows)).all()


def test_a_network_that_went_astray_leaves_no_map(X, monkeypatch):
    original = AnoDM._codes_and_errors

    def astray(self, *args):
        codes, errors = original(self, *args)
        return np.full_like(codes, np.nan), errors

    monkeypatch.setattr(AnoDM, "_codes_and_errors", astray)
    with pytest.warns(ConvergenceWarning, match="same score"):
        detector = make().fit(X)
    assert detector.map_.shape[0] == 0
    assert (detector.score_samples(X) == np.finfo(np.float64).min).all()
    assert (detector.set_params(transductive=True).score_terms(X)[:, 1] == np.inf).all()


def test_rows_without_a_code_are_no_landmarks(X, monkeypatch):
    original = AnoDM._codes_and_errors
    lost = row_fingerprints(X[:5])

    def some_astray(self, rows, keys, *args):
        codes, errors = original(self, rows, keys, *args)
        codes[np.isin(keys, lost)] = np.inf
        return codes, errors

    monkeypatch.setattr(AnoDM, "_codes_and_errors", some_astray)
    detector = make(n_landmarks=None).fit(X)
    assert detector.map_.shape == (75, 2) and np.isfinite(detector.landmark_codes_).all()
    terms = detector.score_terms(X)
    assert np.isinf(terms[:5, 1]).all() and np.isfinite(terms[5:]).all()
    # They have no part in the scales.
    np.testing.assert_allclose(terms[5:, 1].mean(), 1.0)
    np.testing.assert_allclose(terms[:, 0].mean(), 1.0)
    assert np.isnan(detector.transform_map(X[:5])).all()


# Parameters


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"n_neighbors": 50}, "n_neighbors=50 must be below n_landmarks=50"),
        ({"n_neighbors": 80, "n_landmarks": None}, "below the number of training rows, 80"),
        ({"n_neighbors": 85, "n_landmarks": 90}, "below the number of training rows, 80"),
        ({"embedding": "umap"}, "The 'embedding' parameter of AnoDM"),
        ({"embedding": object()}, "The 'embedding' parameter of AnoDM"),
        ({"likelihood": "bernoulli"}, "take scaler='minmax'"),
        ({"likelihood": "bernoulli", "scaler": "robust"}, "take scaler='minmax'"),
        ({"likelihood": "bernoulli", "scaler": None}, r"needs rows in \[0, 1\]"),
        ({"input_shape": (1, 9)}, r"X has 8 features, but input_shape=\(1, 9\) holds 9"),
        ({"input_shape": (1, 9), "encoder": "tcn"}, "rows are flattened images or series"),
        ({"input_shape": (8,)}, r"\(channels, height, width\) for images"),
        ({"input_shape": (2, 2, 2), "encoder": "lstm"}, r"must be \(channels, length\)"),
        ({"encoder": "conv", "channels": (4, 4, 4, 4)}, "give channels at most 3 long"),
        ({"encoder": "conv", "channels": ()}, "at least one convolution"),
        ({"encoder": "tcn", "pretrain": "layerwise"}, "pretrain='end_to_end'"),
        ({"encoder": "gru"}, "The 'encoder' parameter of AnoDM"),
        ({"alpha": 1.5}, "The 'alpha' parameter of AnoDM"),
        ({"alpha": -0.1}, "The 'alpha' parameter of AnoDM"),
        ({"n_neighbors": 0}, "The 'n_neighbors' parameter of AnoDM"),
        ({"n_landmarks": 1}, "The 'n_landmarks' parameter of AnoDM"),
        ({"n_draws": 1025}, "The 'n_draws' parameter of AnoDM"),
        ({"n_draws": -1}, "The 'n_draws' parameter of AnoDM"),
        ({"reconstruction_error": "cosine"}, "The 'reconstruction_error' parameter of AnoDM"),
        ({"perplexity": 0.5}, "The 'perplexity' parameter of AnoDM"),
        ({"embedding_max_iter": 0}, "The 'embedding_max_iter' parameter of AnoDM"),
        ({"latent": "median"}, "The 'latent' parameter of AnoDM"),
        ({"transductive": "yes"}, "The 'transductive' parameter of AnoDM"),
        ({"scale_terms": 1}, "The 'scale_terms' parameter of AnoDM"),
    ],
    ids=without_addresses,
)
def test_impossible_parameters_are_refused(params, match, X):
    detector = make(**params)
    with pytest.raises(ValueError, match=match):
        detector.fit(X)
    assert vars(detector).keys() == detector.get_params(deep=False).keys()


@pytest.mark.parametrize("encoder", ["mlp", "conv"])
def test_pretraining_suits_networks_that_are_mirrors(encoder, X):
    detector = make(encoder=encoder, pretrain="layerwise", pretrain_max_iter=1).fit(X)
    assert {row["phase"] for row in detector.history_} >= {"pre-training", "training"}


# What can be asked


def test_terms_and_places_have_their_shapes(X, new, fitted):
    for dtype in (np.float32, np.float64):
        rows = new.astype(dtype)
        assert fitted.score_terms(rows).shape == (30, 2)
        assert fitted.score_terms(rows).dtype == fitted.transform_map(rows).dtype == np.float64
        assert fitted.transform_map(rows).shape == (30, 2)
        assert fitted.transform(rows).shape == (30, 3) and fitted.transform(rows).dtype == dtype
    assert make(embedding="passthrough").fit(X).transform_map(new).shape == (30, 3)
    assert make(embedding=PCA(1)).fit(X).transform_map(new).shape == (30, 1)
    assert fitted.term_scales_.shape == (2,)
    for method in ("score_terms", "transform_map"):
        with pytest.raises(NotFittedError):
            getattr(make(), method)(X)
        with pytest.raises(ValueError, match="7 features"):
            getattr(fitted, method)(new[:, :7])
        with pytest.raises(ValueError, match="NaN"):
            getattr(fitted, method)(np.full((2, 8), np.nan))


def test_asking_changes_nothing(X, new, fitted):
    before = pickle.dumps(fitted)
    for method in ("score_terms", "transform_map", "score_samples", "predict", "transform"):
        getattr(fitted, method)(new)
    assert pickle.dumps(fitted) == before
    assert "_training_terms" not in vars(fitted)


@pytest.mark.parametrize("encoder", ["conv", "tcn", "lstm"])
def test_networks_of_every_kind_decode(encoder, X):
    detector = make(encoder=encoder, embedding="passthrough", max_iter=1).fit(X)
    decoded = detector.inverse_transform(detector.transform(X))
    module = copy.deepcopy(detector.module_).double()
    with torch.no_grad():
        outputs = module.decoder(module.encoder(torch.from_numpy(detector.scaler_.transform(X)))[0])
    np.testing.assert_allclose(decoded, detector.scaler_.inverse_transform(outputs), rtol=1e-6)
    assert detector.sample(3, random_state=1).shape == (3, 8)


def test_rows_are_decoded_and_drawn():
    rng = np.random.default_rng(0)
    rows = 100.0 + rng.normal(size=(250, 1)) @ np.linspace(2, 5, 8)[None]
    detector = make(
        hidden_layer_sizes=(24, 24),
        max_iter=40,
        capacity=5.0,
        learning_rate=0.01,
        embedding="passthrough",
    ).fit(rows)
    decoded = detector.inverse_transform(detector.transform(rows))
    assert decoded.shape == rows.shape
    assert ((decoded - rows) ** 2).mean() < 0.25 * rows.var(axis=0).mean()
    drawn = detector.sample(500, random_state=0, noise=False)
    np.testing.assert_array_equal(drawn, detector.sample(500, random_state=0, noise=False))
    assert drawn.shape == (500, 8) and detector.sample(3, random_state=1).shape == (3, 8)
    np.testing.assert_allclose(drawn.mean(axis=0), rows.mean(axis=0), atol=2.5)
    # One latent variable, which draws share with rows.
    assert np.corrcoef(drawn.T).min() > 0.5


def test_anomalies_are_found():
    """Rows off the plane of the others by D_RE, and rows in a gap of the map by D_map."""
    rng = np.random.default_rng(0)
    basis = rng.normal(size=(2, 8))
    centres = np.array([[-4.0, 0.0], [4.0, 0.0]])
    rows = (centres[rng.integers(2, size=300)] + 0.4 * rng.normal(size=(300, 2))) @ basis
    off = rows[:30] + 1.5 * rng.normal(size=(30, 8))
    gap = (0.6 * rng.normal(size=(30, 2))) @ basis
    detector = make(
        hidden_layer_sizes=(32, 16),
        max_iter=60,
        learning_rate=0.01,
        embedding="passthrough",
        capacity=6.0,
    ).fit(rows[30:])
    for strange, column in ((off, 0), (gap, 1)):
        terms = np.concatenate([detector.score_terms(rows[:30]), detector.score_terms(strange)])
        truth = np.arange(60) >= 30
        assert roc_auc_score(truth, terms[:, column]) > 0.9
        assert roc_auc_score(truth, terms.sum(axis=1)) > 0.9


# In scikit-learn, and in an audit


def test_pipelines_and_searches(X, new):
    line = make_pipeline(MinMaxScaler(), make(scaler=None)).fit(X)
    scaler = MinMaxScaler().fit(X)
    alone = make(scaler=None).fit(scaler.transform(X))
    np.testing.assert_array_equal(
        line.score_samples(new), alone.score_samples(scaler.transform(new))
    )
    grid = {"beta": [0.1, 10.0], "alpha": [0.0, 0.5, 1.0]}
    search = GridSearchCV(make(embedding_max_iter=10), grid, cv=2).fit(X)
    scores = search.cv_results_["mean_test_score"]
    assert scores.shape == (6,) and np.isfinite(scores).all() and len(set(scores)) == 6
    assert search.predict(new).shape == (30,)


@pytest.mark.parametrize("error", ["normalised", "squared"])
@pytest.mark.parametrize("encoder", ["mlp", "conv"])
def test_audits_build_upon_the_error_of_the_mean_code(encoder, error, X):
    base = make(encoder=encoder, reconstruction_error=error)
    audit = UAI(base, n_steps=3, cold_start=9, random_state=0).fit(X)
    truth = np.where(np.arange(80) % 7 == 1, -1, 1)
    before = copy.deepcopy(audit.estimator_.module_.state_dict())
    for _ in range(2):
        module = copy.deepcopy(audit.estimator_.module_).double()
        scaled = torch.from_numpy(audit.scaler_.transform(X))
        with torch.no_grad():
            outputs = module.decoder(module.encoder(scaled).mean)
        errors = (scaled - outputs).square().sum(1)
        errors = errors / scaled.norm(dim=1) if error == "normalised" else errors
        np.testing.assert_allclose(-audit.score_samples(X), errors, rtol=1e-6)
        rows = audit.query(X, k=5)
        audit.teach(rows, truth[rows])
    after = audit.estimator_.module_.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(before["noise"], after["noise"])
