"""The supervised classifier: known anomalies against all other rows."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from safetensors import safe_open
from scipy.special import expit
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.metrics import roc_auc_score
from skorch.callbacks import Callback
from torch import nn

from anomaly_estimators import Autoencoder, DeepClassifier, DeepDetector, load
from anomaly_estimators.nn.mlp import ACTIVATIONS


@pytest.fixture(scope="module")
def cancer():
    """Rows of which a half is malignant, and the truth: -1 for these."""
    X, y = load_breast_cancer(return_X_y=True)
    return X[:200, :12], np.where(y[:200] == 1, 1, -1)


@pytest.fixture(scope="module")
def X(cancer):
    return cancer[0]


@pytest.fixture(scope="module")
def y(cancer):
    """A fifth of the rows is labelled."""
    return np.where(np.arange(200) % 5 == 0, cancer[1], 0)


def make(**params):
    defaults = {
        "hidden_layer_sizes": (8, 6),
        "latent_dim": 4,
        "max_iter": 3,
        "pretrain_max_iter": 3,
        "learning_rate": 0.01,
        "random_state": 0,
        "device": "cpu",
    }
    return DeepClassifier(**{**defaults, **params})


def cross_entropy(detector, X, y, weight=1.0):
    probability = expit(-detector.score_samples(X))
    losses = np.where(y < 0, -weight * np.log(probability), -np.log(1 - probability))
    return losses.mean()


# The score


@pytest.mark.parametrize("activation", ["leaky_relu", "tanh", "sigmoid", "identity"])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_score_is_the_log_odds_that_a_plain_network_computes(activation, batch_norm, X, y):
    detector = make(activation=activation, batch_norm=batch_norm).fit(X, y)
    activate = ACTIVATIONS[activation]()
    layers, sizes = [], [12, 8, 6, 4]
    for n_in, n_out in zip(sizes, sizes[1:], strict=False):
        hidden = n_out != 4
        norm = [nn.BatchNorm1d(n_out, affine=False)] if batch_norm and hidden else []
        layers += [nn.Linear(n_in, n_out), *norm, activate]
    network = nn.Sequential(*layers, nn.Linear(4, 1)).double().eval()
    state = detector.module_.state_dict()
    state.pop("anomaly_weight")
    assert len(state) == len(network.state_dict())
    network.load_state_dict(dict(zip(network.state_dict(), state.values(), strict=True)))
    rows = torch.from_numpy((X - X.mean(0)) / X.std(0))
    with torch.no_grad():
        logits, code = network(rows)[:, 0], network[:-1](rows)
    np.testing.assert_allclose(detector.score_samples(X), -logits, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(detector.transform(X), code, rtol=1e-8, atol=1e-10)


def test_it_learns_the_labels_and_ranks_others_like_them(cancer, y):
    X, truth = cancer
    detector = make(max_iter=60).fit(X, y)
    assert detector.loss_curve_[-1] < 0.7 * detector.loss_curve_[0]
    scores = detector.score_samples(X)
    assert roc_auc_score(y == -1, -scores) > 0.9
    assert scores[y < 0].max() < np.median(scores[truth > 0])
    # With half of the anomalies taken as normal, the hidden ones rank above the normal ones still.
    hidden = y == 0
    assert roc_auc_score(truth[hidden] < 0, -scores[hidden]) > 0.7
    # With all labels it is a classifier.
    whole = make(max_iter=60).fit(X, truth)
    assert roc_auc_score(truth < 0, -whole.score_samples(X)) > 0.98


# The objective


def test_unlabelled_rows_count_as_known_normal_ones(X, y):
    """But for the order of the batches, where the kinds are spread apart."""
    whole = {"batch_size": 200}
    first = make(**whole).fit(X, np.where(y < 0, -1, 0))
    second = make(**whole).fit(X, np.where(y < 0, -1, 1))
    np.testing.assert_array_equal(first.score_samples(X), second.score_samples(X))
    third = make(**whole).fit(X, y)
    np.testing.assert_allclose(third.score_samples(X), first.score_samples(X), rtol=1e-2, atol=1e-2)


@pytest.fixture
def still():
    """Settings under which a training changes nothing: its loss is that of the start."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 3))
    return {"network": network, "max_iter": 1, "learning_rate": 1e-12}


@pytest.mark.filterwarnings("ignore:Training did not move:UserWarning")
@pytest.mark.parametrize("batch_size", [200, 32, 50])
def test_loss_is_the_cross_entropy_of_all_rows(batch_size, still, X, y):
    detector = make(batch_size=batch_size, **still).fit(X, y)
    assert detector.module_.anomaly_weight == 1.0
    assert detector.loss_curve_[0] == pytest.approx(cross_entropy(detector, X, y), rel=1e-5)


@pytest.mark.filterwarnings("ignore:Training did not move:UserWarning")
@pytest.mark.parametrize("batch_size", [200, 32, 50])
def test_balanced_anomalies_have_the_weight_of_all_others(batch_size, still, X, y):
    detector = make(class_weight="balanced", batch_size=batch_size, **still).fit(X, y)
    weight = (y >= 0).sum() / (y < 0).sum()
    assert detector.module_.anomaly_weight.item() == pytest.approx(weight, rel=1e-6)
    expected = cross_entropy(detector, X, y, weight)
    assert detector.loss_curve_[0] == pytest.approx(expected, rel=1e-5)


def test_balancing_raises_the_log_odds_of_the_rare_class(X, y):
    plain = make(max_iter=20).fit(X, y)
    balanced = make(max_iter=20, class_weight="balanced").fit(X, y)
    assert balanced.score_samples(X).mean() < plain.score_samples(X).mean() - 0.5
    assert balanced.module_.anomaly_weight > 5


def test_weight_is_that_of_the_rows_to_train_on(X, y):
    detector = make(class_weight="balanced", early_stopping=True, validation_fraction=0.4)
    weight = detector.fit(X, y).module_.anomaly_weight.item()
    n = (y < 0).sum()
    kept = n - round(0.4 * n)
    assert weight == pytest.approx((y >= 0).sum() * 0.6 / kept, rel=0.05)
    warm = make(class_weight="balanced", warm_start=True).fit(X, y)
    before = warm.module_.anomaly_weight.clone()
    assert torch.equal(warm.fit(X, np.where(y < 0, y, 0)).module_.anomaly_weight, before)


def test_gradients_reach_every_parameter(X, y):
    detector = make()
    module = detector._build_module(12)
    (phase,) = detector._phases(module)
    phase.loss(module(torch.from_numpy(X).float()), None, torch.from_numpy(y)).backward()
    # Before a batch normalisation, a bias is taken out again with the mean.
    assert all(p.grad is not None for p in module.parameters())
    assert all(p.grad.any() for name, p in module.named_parameters() if "weight" in name)


# Labels


@pytest.mark.parametrize("labels", [None, 0, 1], ids=str)
def test_missing_anomalies_are_warned_of(labels, X):
    y = None if labels is None else np.full(200, labels)
    with pytest.warns(UserWarning, match="No row is labelled as a known anomaly"):
        detector = make().fit(X, y)
    assert np.isfinite(detector.score_samples(X)).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make().fit(X, np.where(np.arange(200) == 7, -1, 0))


# Pre-training and networks


class Begin(Callback):
    """Keeps the weights of the encoder at the start of every phase, in a list of the class."""

    taken: list = []

    def on_train_begin(self, net, **kwargs):
        encoder = net.module_.encoder.state_dict()
        self.taken.append((net.phase_.name, {k: v.clone() for k, v in encoder.items()}))


@pytest.mark.parametrize("how", ["end_to_end", "layerwise"])
@pytest.mark.parametrize("shape", [{}, {"input_shape": (3, 4), "channels": (2,)}], ids=str)
def test_training_starts_from_the_weights_of_the_autoencoder(how, shape, X, y):
    Begin.taken.clear()
    shared = {
        "hidden_layer_sizes": (8, 6),
        "latent_dim": 4,
        "activation": "leaky_relu",
        "batch_norm": True,
        "learning_rate": 0.01,
        "random_state": 0,
        "device": "cpu",
        "pretrain_max_iter": 3,
        # Masks are drawn at random, and the head has been drawn before them.
        "corruption": 0.0,
        **shape,
    }
    layers = None if how == "end_to_end" else how
    autoencoder = Autoencoder(max_iter=3, pretrain=layers, **shared).fit(X)
    with pytest.warns(UserWarning, match="No row is labelled"):
        # Labelled rows would come in another order.
        make(pretrain=how, callbacks=[Begin()], corruption=0.0, **shape).fit(X)
    name, start = Begin.taken[-1]
    assert name == "training"
    for key, tensor in autoencoder.module_.encoder.state_dict().items():
        assert torch.equal(start[key], tensor), key
    Begin.taken.clear()
    make(callbacks=[Begin()], **shape).fit(X, y)
    ((name, start),) = Begin.taken
    assert name == "training"
    for key, tensor in autoencoder.module_.encoder.state_dict().items():
        assert "weight" not in key or not torch.equal(start[key], tensor), key


@pytest.mark.parametrize("pretrain", [None, "end_to_end"])
def test_images_are_folded_and_convolved(pretrain):
    X, digit = load_digits(return_X_y=True)
    rows, y = X[:200] / 16, np.where(digit[:200] == 3, -1, 0)
    detector = make(
        input_shape=(1, 8, 8), channels=(4,), pretrain=pretrain, pretrain_max_iter=1, max_iter=20
    ).fit(rows, y)
    assert any(isinstance(layer, nn.Conv2d) for layer in detector.module_.modules())
    assert roc_auc_score(y < 0, -detector.score_samples(rows)) > 0.95
    with pytest.raises(ValueError, match="holds 81"):
        make(input_shape=(1, 9, 9)).fit(rows, y)


def test_own_networks(X, y):
    encoder = nn.Linear(12, 3)
    detector = make(network=encoder).fit(X, y)
    assert detector.transform(X).shape == (200, 3)
    assert not torch.equal(detector.module_.encoder.weight, encoder.weight), "it is trained"
    autoencoder = Autoencoder(max_iter=1, random_state=0, device="cpu").fit(X)
    Begin.taken.clear()
    make(network=autoencoder.module_, callbacks=[Begin()]).fit(X, y)
    for key, tensor in autoencoder.module_.encoder.state_dict().items():
        assert torch.equal(Begin.taken[0][1][key], tensor), key
    with pytest.raises(ValueError, match="encoder and decoder"):
        make(network=encoder, pretrain="end_to_end").fit(X, y)


# Checkpoints and files


class Stop(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_batch_begin(self, net, training, **kwargs):
        if len(net.history) == self.epoch:
            raise RuntimeError("power cut")


@pytest.mark.parametrize("epoch", [2, 4, 6])
@pytest.mark.parametrize("params", [{}, {"early_stopping": True, "ema_decay": 0.9}], ids=str)
def test_stopped_fit_ends_as_an_uninterrupted_one(epoch, params, X, y, tmp_path, monkeypatch):
    monkeypatch.setattr(DeepDetector, "_checkpoint_interval", 0.0)
    path = tmp_path / "fit.pt"
    params = {"class_weight": "balanced", "pretrain": "end_to_end", "max_iter": 4, **params}
    whole = make(**params).fit(X, y)
    with pytest.raises(RuntimeError, match="power cut"):
        make(checkpoint=path, callbacks=[Stop(epoch)], **params).fit(X, y)
    resumed = make(checkpoint=path, **params).fit(X, y)
    assert torch.equal(resumed.module_.anomaly_weight, whole.module_.anomaly_weight)
    np.testing.assert_array_equal(resumed.score_samples(X), whole.score_samples(X))


@pytest.mark.parametrize("pretrain", [None, "end_to_end"])
def test_decoder_is_dropped_and_files_have_none(pretrain, X, y, tmp_path):
    detector = make(pretrain=pretrain, class_weight="balanced").fit(X, y)
    detector.save(tmp_path / "model")
    with safe_open(tmp_path / "model", framework="pt") as file:
        assert not [name for name in file.keys() if "coder" in name and ".encoder." not in name]
    for other in (load(tmp_path / "model"), pickle.loads(pickle.dumps(detector))):
        np.testing.assert_array_equal(other.score_samples(X), detector.score_samples(X))
        assert torch.equal(other.module_.anomaly_weight, detector.module_.anomaly_weight)
