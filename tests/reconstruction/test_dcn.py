"""DCN: clusters among the codes, trained together with them."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.datasets import load_wine
from sklearn.exceptions import NotFittedError
from sklearn.metrics import adjusted_rand_score, roc_auc_score
from skorch.callbacks import Callback

from anomaly_estimators import DCN, UAI, Autoencoder, load
from anomaly_estimators.functional.clustering import clustering_loss
from anomaly_estimators.nn import clustering as network_module
from anomaly_estimators.nn.autoencoder import mlp_autoencoder
from anomaly_estimators.nn.clustering import ClusteringNetwork
from anomaly_estimators.reconstruction import clustering as clustering_module
from anomaly_estimators.training import placement

SMALL = {
    "n_clusters": 3,
    "hidden_layer_sizes": (8,),
    "latent_dim": 2,
    "max_iter": 3,
    "pretrain_max_iter": 3,
    "learning_rate": 0.01,
    "random_state": 0,
    "device": "cpu",
}
N = 178


@pytest.fixture(scope="module")
def X():
    return load_wine().data


def make(**params):
    return DCN(**{**SMALL, **params})


def network(n_features=13, seed=1):
    torch.manual_seed(seed)
    return mlp_autoencoder(n_features, (8,), 2)


def still(**params):
    """Weights that a step of 1e-12 does not change: only the centres move."""
    return make(network=network(), pretrain=None, learning_rate=1e-12, **{"max_iter": 1, **params})


unmoved = pytest.mark.filterwarnings("ignore:Training did not move:UserWarning")


def distances(codes, centers):
    return np.linalg.norm(codes[:, None] - centers, axis=2)


def blobs(n=300, d=6, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(3, size=n)
    return 4.0 * rng.normal(size=(3, d))[truth] + 0.3 * rng.normal(size=(n, d)), truth


# Score and clusters


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_score_is_the_distance_of_the_code_to_the_nearest_centre(dtype, X):
    rows = X.astype(dtype)
    detector = make().fit(rows)
    found = distances(detector.transform(rows), detector.cluster_centers_)
    scores = detector.score_samples(rows)
    assert scores.dtype == dtype
    rtol = 1e-4 if dtype == np.float32 else 1e-10
    np.testing.assert_allclose(-scores, found.min(axis=1), rtol=rtol, atol=rtol)
    clusters = detector.predict_cluster(rows)
    assert clusters.dtype == np.int64 and clusters.shape == (N,)
    np.testing.assert_array_equal(clusters, found.argmin(axis=1))
    assert len(np.unique(clusters)) > 1


def test_row_has_the_same_cluster_alone_and_in_a_batch(X):
    detector = make(n_clusters=9).fit(X)
    clusters = detector.predict_cluster(X)
    np.testing.assert_array_equal(detector.predict_cluster(X[::-1]), clusters[::-1])
    alone = [detector.predict_cluster(row[None])[0] for row in X]
    np.testing.assert_array_equal(alone, clusters)
    assert len(set(clusters)) > 3


def test_separated_clusters_are_found():
    rows, truth = blobs()
    detector = make(max_iter=20, pretrain_max_iter=20).fit(rows)
    assert adjusted_rand_score(truth, detector.predict_cluster(rows)) > 0.99
    far = np.random.default_rng(1).normal(size=(50, 6)) * 4.0
    scores = detector.score_samples(np.r_[rows, far])
    assert roc_auc_score(np.r_[np.ones(300), -np.ones(50)], scores) > 0.9


def test_codes_are_decoded_to_rows(X):
    detector = make(max_iter=60).fit(X)
    rebuilt = detector.inverse_transform(detector.transform(X))
    scaled = torch.from_numpy(detector.scaler_.transform(X))
    with torch.no_grad():
        expected = detector.module_.double()(scaled).reconstruction.numpy()
    np.testing.assert_allclose(detector.scaler_.transform(rebuilt), expected, atol=1e-8)
    assert np.square(detector.scaler_.transform(rebuilt) - scaled.numpy()).mean() < 0.7


def test_clusters_are_asked_for_after_fit_and_of_rows_of_its_width(X):
    with pytest.raises(NotFittedError):
        make().predict_cluster(X)
    with pytest.raises(ValueError, match="features"):
        make().fit(X).predict_cluster(X[:, :5])
    assert not hasattr(make().fit(X), "labels_")
    assert set(make().fit_predict(X)) == {-1, 1}


# The start


@unmoved
def test_start_is_k_means_among_the_codes_of_all_rows(X):
    detector = still(max_iter=1, batch_size=N).fit(X)
    codes = detector.transform(X)
    best = KMeans(3, n_init=20, random_state=0).fit(codes)
    squared = -detector.score_samples(X) @ -detector.score_samples(X)
    assert squared == pytest.approx(best.inertia_, rel=0.01)
    # With weights that stand still the mean of a cluster is the mean of its rows.
    clusters = detector.predict_cluster(X)
    means = [codes[clusters == k].mean(axis=0) for k in range(3)]
    np.testing.assert_allclose(detector.cluster_centers_, means, rtol=1e-4, atol=1e-4)


@unmoved
@pytest.mark.parametrize("weight", [0.0, 0.3, 5.0])
def test_loss_is_error_and_half_the_weighted_squared_distance(weight):
    rows, _ = blobs()
    detector = make(
        network=network(6), pretrain=None, learning_rate=1e-12, max_iter=1, batch_size=300
    ).set_params(clustering_weight=weight)
    detector.fit(rows)
    codes = detector.transform(rows)
    scale = detector.scaler_.scale_
    error = (rows - detector.inverse_transform(codes)) / scale
    squared = distances(codes, detector.cluster_centers_).min(axis=1) ** 2
    expected = (np.square(error).sum(axis=1) + weight / 2 * squared).mean()
    assert detector.loss_curve_[0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("pretrain", "phases"),
    [
        ("layerwise", ["pre-training, layer 1", "pre-training, layer 2", "pre-training"]),
        ("end_to_end", ["pre-training"]),
        (None, []),
    ],
)
def test_autoencoder_is_trained_first(pretrain, phases, X):
    detector = make(pretrain=pretrain, pretrain_max_iter=1, max_iter=1).fit(X)
    assert [row["phase"] for row in detector.history_] == [*phases, "training"]
    assert detector.n_iter_ == 1


@unmoved
def test_trained_autoencoder_is_where_k_means_starts(X):
    autoencoder = Autoencoder(
        hidden_layer_sizes=(8,), latent_dim=2, max_iter=5, random_state=0, device="cpu"
    ).fit(X)
    before = pickle.dumps(autoencoder.module_.state_dict())
    params = {"network": autoencoder.module_, "pretrain": None}
    detector = make(**params, learning_rate=1e-12).fit(X)
    np.testing.assert_allclose(detector.transform(X), autoencoder.transform(X), rtol=1e-6)
    make(**params, learning_rate=0.1).fit(X)
    assert pickle.dumps(autoencoder.module_.state_dict()) == before


@unmoved
def test_more_runs_of_k_means_give_closer_centres(X):
    def spread(n_init):
        params = {"n_clusters": 12, "n_init": n_init, "batch_size": N}
        fits = [still(random_state=seed, **params).fit(X) for seed in range(3)]
        return sum(np.square(fit.score_samples(X)).sum() for fit in fits)

    assert spread(30) < spread(1)


# The training


def test_weight_0_leaves_the_training_to_the_reconstruction(X):
    shared = {"network": network(), "max_iter": 5, "learning_rate": 0.01, "random_state": 0}
    plain = Autoencoder(device="cpu", **shared).fit(X)
    detector = make(clustering_weight=0.0, pretrain=None, **shared).fit(X)
    np.testing.assert_array_equal(detector.transform(X), plain.transform(X))
    assert detector.loss_curve_ == plain.loss_curve_
    other = make(clustering_weight=0.5, pretrain=None, **shared).fit(X)
    assert (other.transform(X) != plain.transform(X)).any()


def test_weight_draws_the_codes_to_the_centres(X):
    means = [
        -make(clustering_weight=weight, max_iter=40).fit(X).score_samples(X).mean()
        for weight in (0.0, 1.0, 100.0)
    ]
    assert means[0] > 1.2 * means[1] > 2.0 * means[2]


def test_both_terms_train_the_encoder_and_the_reconstruction_alone_the_decoder():
    module = ClusteringNetwork(network(), 2, 3)
    module.centers.normal_()
    rows = torch.randn(20, 13)

    def gradients(weight, part):
        module.zero_grad()
        code, reconstruction = module(rows)
        clustering_loss(code, reconstruction, rows, module.centers, weight).backward()
        return torch.cat([p.grad.ravel() for p in part.parameters()])

    encoder, decoder = module.autoencoder.encoder, module.autoencoder.decoder
    assert torch.equal(gradients(0.0, decoder), gradients(9.0, decoder))
    assert gradients(0.0, decoder).abs().sum() > 0
    none, some, more = (gradients(weight, encoder) for weight in (0.0, 1.0, 2.0))
    assert none.abs().sum() > 0 and (some - none).abs().sum() > 0
    torch.testing.assert_close(more - none, 2 * (some - none), rtol=1e-3, atol=1e-5)
    assert not module.centers.requires_grad and module.centers.grad is None
    assert {name for name, _ in module.named_buffers()} == {"centers", "counts"}


@pytest.mark.parametrize("batch_size", [7, 50, N])
@pytest.mark.parametrize("max_iter", [1, 4])
def test_counts_are_the_rows_at_the_start_and_those_seen(batch_size, max_iter, X):
    detector = make(batch_size=batch_size, max_iter=max_iter).fit(X)
    assert detector.cluster_counts_.sum() == N * (1 + max_iter)
    assert detector.cluster_counts_.dtype == np.int64


def test_centres_are_the_running_means_of_the_codes_of_the_steps(X, monkeypatch):
    started, seen = [], []
    place, follow = ClusteringNetwork.place, ClusteringNetwork.follow

    def placing(self, *args, **kwargs):
        place(self, *args, **kwargs)
        started.append((self.centers.clone().double().numpy(), self.counts.numpy().copy()))

    def following(self, outputs):
        seen.append(outputs.code.detach().double().numpy())
        follow(self, outputs)

    monkeypatch.setattr(ClusteringNetwork, "place", placing)
    monkeypatch.setattr(ClusteringNetwork, "follow", following)
    detector = make(batch_size=40, max_iter=4).fit(X)
    [(centers, counts)] = started
    assert counts.sum() == N
    for codes in seen:
        own = distances(codes, centers).argmin(axis=1)
        for code, k in zip(codes, own, strict=True):
            counts[k] += 1
            centers[k] -= (centers[k] - code) / counts[k]
    np.testing.assert_allclose(detector.cluster_centers_, centers, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(detector.cluster_counts_, counts)


def test_early_stopping_keeps_the_centres_of_the_best_epoch(X):
    detector = make(
        early_stopping=True, validation_fraction=0.25, n_iter_no_change=2, max_iter=60, tol=0.01
    ).fit(X)
    losses = [row["valid_loss"] for row in detector.history_ if row["phase"] == "training"]
    assert len(losses) < 60
    # Held-out rows move no centre: 134 rows at the start and in every epoch.
    epochs, rest = divmod(int(detector.cluster_counts_.sum()), N - 44)
    assert rest == 0 and epochs - 1 == 1 + len(losses) - 1 - 2


def test_averaged_weights_have_averaged_centres(X):
    plain, averaged = make(), make(ema_decay=0.9)
    plain.fit(X), averaged.fit(X)
    np.testing.assert_array_equal(plain.cluster_counts_, averaged.cluster_counts_)
    assert (plain.cluster_centers_ != averaged.cluster_centers_).any()
    found = distances(averaged.transform(X), averaged.cluster_centers_).min(axis=1)
    np.testing.assert_allclose(-averaged.score_samples(X), found, rtol=1e-10, atol=1e-10)


def test_seed_decides_k_means_too(X, monkeypatch):
    seeds = []
    initial = network_module.initial_centers

    def spy(codes, n_clusters, *, n_init, seed):
        seeds.append((seed, n_init))
        return initial(codes, n_clusters, n_init=n_init, seed=seed)

    monkeypatch.setattr(network_module, "initial_centers", spy)
    for state in (0, 0, 1):
        make(random_state=state, n_init=4).fit(X)
    assert seeds[0] == seeds[1] != seeds[2]
    assert all(n_init == 4 for _, n_init in seeds)


# Going on


def test_warm_start_goes_on_from_the_centres(X, monkeypatch):
    detector = make(warm_start=True).fit(X)
    counts = detector.cluster_counts_

    def refuse(*args, **kwargs):
        raise AssertionError("k-means anew")

    monkeypatch.setattr(network_module, "initial_centers", refuse)
    centers = detector.cluster_centers_
    detector.fit(X)
    assert detector.cluster_counts_.sum() == counts.sum() + 3 * N
    assert (detector.cluster_counts_ >= counts).all()
    assert (detector.cluster_centers_ != centers).any()
    assert np.abs(detector.cluster_centers_ - centers).max() < np.ptp(centers)
    with pytest.raises(AssertionError, match="anew"):
        detector.set_params(warm_start=False).fit(X)


def test_warm_start_with_other_clusters_is_refused(X):
    detector = make(warm_start=True).fit(X)
    scores = detector.score_samples(X)
    with pytest.raises(ValueError, match=r"n_clusters=5.*had 3.*warm_start=False"):
        detector.set_params(n_clusters=5).fit(X)
    detector.set_params(n_clusters=3)
    np.testing.assert_array_equal(detector.score_samples(X), scores)
    # As many rows as there are clusters are for the start only.
    detector.fit(X[:2])
    assert detector.set_params(n_clusters=5, warm_start=False).fit(X).cluster_centers_.shape[0] == 5


@pytest.mark.parametrize("epoch", [2, 8, 10])
def test_interrupted_fit_has_its_centres(epoch, X):
    class Interrupt(Callback):
        def on_batch_begin(self, net, training, **kwargs):
            if len(net.history) == epoch:
                raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="interrupted"):
        detector = make(callbacks=[Interrupt()], max_iter=5).fit(X)
    # Three phases of three epochs come first.
    assert detector.cluster_counts_.sum() == N
    assert len(np.unique(detector.predict_cluster(X))) == 3
    found = distances(detector.transform(X), detector.cluster_centers_).min(axis=1)
    np.testing.assert_allclose(-detector.score_samples(X), found, rtol=1e-10, atol=1e-10)


def test_copies_have_the_clusters(X, tmp_path):
    detector = make().fit(X)
    detector.save(tmp_path / "model")
    for other in (load(tmp_path / "model"), pickle.loads(pickle.dumps(detector))):
        np.testing.assert_array_equal(other.predict_cluster(X), detector.predict_cluster(X))
        np.testing.assert_array_equal(other.score_samples(X), detector.score_samples(X))
        np.testing.assert_array_equal(other.cluster_centers_, detector.cluster_centers_)
        np.testing.assert_array_equal(other.cluster_counts_, detector.cluster_counts_)
        assert other.module_.counts.dtype == torch.int64
        assert torch.equal(other.module_.counts, detector.module_.counts)
        assert other.module_.centers.dtype == torch.float32


def test_attributes_are_copies(X):
    detector = make().fit(X)
    scores, counts = detector.score_samples(X), detector.module_.counts.clone()
    detector.cluster_centers_ += 1.0
    detector.cluster_counts_ += 1
    np.testing.assert_array_equal(detector.score_samples(X), scores)
    assert torch.equal(detector.module_.counts, counts)


def test_spoilt_step_leaves_no_trace_in_the_centres(X, monkeypatch):
    calls = []

    def spoilt(*args):
        calls.append(1)
        return clustering_loss(*args) * (torch.nan if len(calls) == 9 else 1.0)

    monkeypatch.setattr(clustering_module, "clustering_loss", spoilt)
    with pytest.warns(UserWarning, match="not finite"):
        detector = make(max_iter=6).fit(X)
    assert np.isfinite(detector.cluster_centers_).all()
    assert np.isfinite(detector.score_samples(X)).all()
    assert len(np.unique(detector.predict_cluster(X))) > 1


# An audit upon it


def test_latent_and_score_come_from_one_pass_of_the_encoder(X):
    detector = make().fit(X)
    module, passes = detector.module_, []
    for part in (module.autoencoder.encoder, module.autoencoder.decoder):
        part.register_forward_hook(lambda part, *_: passes.append(part))
    rows = torch.from_numpy(detector.scaler_.transform(X)).float()
    latent, score = detector._module_latent_and_score(module, rows)
    assert passes == [module.autoencoder.encoder]
    assert torch.equal(latent, detector._module_transform(module, rows))
    assert torch.equal(score, detector._module_score(module, rows))


def test_audit_can_build_upon_it(X):
    detector = UAI(make(), n_steps=5, cold_start=0, random_state=0).fit(X)
    rows = detector.query(X, k=6)
    detector.teach(rows, np.where(np.arange(6) % 2, 1, -1))
    assert np.isfinite(detector.score_samples(X)).all()
    assert detector.estimator_.predict_cluster(X).shape == (N,)


# Edges


@pytest.mark.parametrize(
    ("params", "n_rows", "trained"),
    [
        ({"n_clusters": 6}, 5, 5),
        ({"n_clusters": 179}, N, N),
        ({"n_clusters": 10, "early_stopping": True, "validation_fraction": 0.2}, 10, 8),
    ],
)
def test_more_clusters_than_rows_are_refused_before_any_training(
    params, n_rows, trained, X, monkeypatch
):
    monkeypatch.setattr(placement, "place_rows", None)
    monkeypatch.setattr("anomaly_estimators.deep.place_rows", None)
    with pytest.raises(
        ValueError, match=f"n_clusters={params['n_clusters']}.*n_samples={trained} "
    ):
        make(**params).fit(X[:n_rows])


def test_as_many_clusters_as_rows(X):
    detector = make(n_clusters=5).fit(X[:5])
    assert np.isfinite(detector.score_samples(X)).all()
    detector = make(n_clusters=8, early_stopping=True, validation_fraction=0.2).fit(X[:10])
    assert detector.cluster_counts_.sum() % 8 == 0


@pytest.mark.parametrize("n_distinct", [1, 2])
def test_fewer_distinct_rows_than_clusters(n_distinct):
    rows = np.eye(4)[np.arange(20) % n_distinct]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        detector = make(n_clusters=4).fit(rows)
    assert not [w for w in caught if "distinct clusters" in str(w.message)]
    assert np.isfinite(detector.cluster_centers_).all()
    assert np.isfinite(detector.score_samples(rows)).all()
    assert detector.cluster_counts_.sum() == 20 * 4
    assert (detector.cluster_counts_ > 0).sum() >= n_distinct


def test_one_cluster_is_enough(X):
    detector = make(n_clusters=1).fit(X)
    assert (detector.predict_cluster(X) == 0).all()
    assert len(np.unique(detector.score_samples(X))) > 170


@pytest.mark.parametrize(
    "params",
    [
        {"n_clusters": 0},
        {"n_clusters": 2.5},
        {"clustering_weight": -0.1},
        {"clustering_weight": None},
        {"n_init": 0},
        {"n_init": "auto"},
        {"pretrain": "layers"},
    ],
    ids=str,
)
def test_impossible_parameters_are_refused(params, X):
    with pytest.raises(ValueError, match=next(iter(params))):
        make(**params).fit(X)


@pytest.mark.parametrize("step", [1, 9, 14])
def test_counts_are_rolled_back_with_the_weights(monkeypatch, step):
    calls = []

    def spoilt(*arguments):
        calls.append(1)
        return clustering_loss(*arguments) * (torch.nan if len(calls) == step else 1.0)

    monkeypatch.setattr(clustering_module, "clustering_loss", spoilt)
    rows = load_wine().data
    with pytest.warns(UserWarning, match="not finite"):
        detector = DCN(
            n_clusters=3, hidden_layer_sizes=(8,), latent_dim=2, max_iter=6, pretrain_max_iter=3,
            learning_rate=0.01, random_state=0, device="cpu",
        ).fit(rows)  # fmt: skip
    # k-means, and the five epochs that were whole.
    assert detector.cluster_counts_.sum() == len(rows) * (1 + 5)


def test_the_centres_follow_the_codes_in_an_audit_too():
    rows = load_wine().data
    base = DCN(hidden_layer_sizes=(8,), latent_dim=2, max_iter=3, random_state=0, device="cpu")
    active = UAI(base, n_steps=5, cold_start=0, random_state=0).fit(rows)
    counted = active.estimator_.cluster_counts_.sum()
    centers = active.estimator_.cluster_centers_
    shown = active.query(rows, k=6)
    active.teach(shown, np.where(np.arange(6) % 2, 1, -1))
    seen = 5 * active.estimator_.net_.batch_size
    assert active.estimator_.cluster_counts_.sum() == counted + seen
    assert (active.estimator_.cluster_centers_ != centers).any()
