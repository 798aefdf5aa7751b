"""What Deep SVDD and Deep SAD share: codes around a centre that a pre-trained encoder decides."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from safetensors import safe_open
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback
from torch import nn

from anomaly_estimators import Autoencoder, DeepDetector, DeepSAD, DeepSVDD, load
from anomaly_estimators.autoencoding import code_width
from anomaly_estimators.nn.autoencoder import AutoencoderNetwork, mlp_autoencoder
from anomaly_estimators.nn.custom import build_encoder
from anomaly_estimators.training.schedules import two_phase

both = pytest.mark.parametrize("cls", [DeepSVDD, DeepSAD])
UNBOUNDED = ["elu", "gelu", "identity", "leaky_relu", "relu", "silu"]


@pytest.fixture(scope="module")
def X():
    return load_breast_cancer().data[:160, :12]


@pytest.fixture(scope="module")
def y():
    labels = np.zeros(160)
    labels[::8], labels[4::8] = -1, 1
    return labels


@pytest.fixture(scope="module")
def images():
    return load_digits().data[:150] / 16.0


def make(cls=DeepSVDD, **params):
    defaults = {
        "hidden_layer_sizes": (8, 6),
        "latent_dim": 4,
        "max_iter": 3,
        "pretrain_max_iter": 4,
        "learning_rate": 0.01,
        "random_state": 0,
        "device": "cpu",
    }
    return cls(**{**defaults, **params})


class Unbiased(Autoencoder):
    """The autoencoder of the pre-training, by itself."""

    _bias = False


class Snapshots(Callback):
    """Keeps the network's state at the start of every phase, in a list of the class."""

    taken: list = []

    def on_train_begin(self, net, **kwargs):
        self.taken.append((net.phase_.name, copy.deepcopy(net.module_.state_dict())))


@pytest.fixture(autouse=True)
def _forget():
    Snapshots.taken.clear()


def encoder_at_the_start_of_training():
    name, state = Snapshots.taken[-1]
    assert name == "training"
    prefix = "encoder."
    return {key[len(prefix) :]: t for key, t in state.items() if key.startswith(prefix)}


def assert_equal_states(first, second):
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def centred(codes):
    """The rule of the centre, in NumPy."""
    mean = codes.mean(axis=0)
    return np.where(np.abs(mean) < 0.1, np.where(mean < 0, -0.1, 0.1), mean)


# The score


def encode(detector, X, activation=lambda h: np.where(h > 0, h, 0.1 * h)):
    """The encoder in NumPy: linear maps, batch normalisation by the running statistics, activation."""
    weights = {k: v.double().numpy() for k, v in detector.module_.encoder.state_dict().items()}
    linear = sorted({int(name.split(".")[0]) for name in weights if name.endswith("weight")})
    rows = (X - X.mean(axis=0)) / X.std(axis=0)
    for layer in linear:
        rows = rows @ weights[f"{layer}.weight"].T
        if layer == linear[-1]:
            return rows
        if f"{layer + 1}.running_mean" in weights:
            spread = np.sqrt(weights[f"{layer + 1}.running_var"] + 1e-5)
            rows = (rows - weights[f"{layer + 1}.running_mean"]) / spread
        rows = activation(rows)


@both
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("hidden", [(8, 6), (5,), ()], ids=str)
def test_score_is_the_distance_that_a_plain_network_computes(cls, batch_norm, hidden, X, y):
    detector = make(cls, batch_norm=batch_norm, hidden_layer_sizes=hidden).fit(X, y)
    codes = encode(detector, X)
    distances = np.linalg.norm(codes - detector.center_.astype(np.float64), axis=1)
    np.testing.assert_allclose(detector.transform(X), codes, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(detector.score_samples(X), -distances, rtol=1e-9)
    single = detector.score_samples(X.astype(np.float32))
    np.testing.assert_allclose(single, -distances, rtol=1e-3)


@both
@pytest.mark.parametrize("activation", ["relu", "elu", "identity"])
def test_other_activations_do_what_they_are_called(cls, activation, X):
    functions = {
        "relu": lambda h: np.maximum(h, 0.0),
        "elu": lambda h: np.where(h > 0, h, np.expm1(np.minimum(h, 0.0))),
        "identity": lambda h: h,
    }
    detector = make(cls, activation=activation).fit(X)
    codes = encode(detector, X, functions[activation])
    np.testing.assert_allclose(detector.transform(X), codes, rtol=1e-9, atol=1e-12)


# A network that cannot be constant


@both
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize(
    "shape",
    [{}, {"input_shape": (1, 4, 3), "channels": (3,)}, {"input_shape": (2, 6), "channels": (3,)}],
)
@pytest.mark.parametrize("pretrain", [None, "end_to_end", "layerwise"])
def test_network_has_no_bias_anywhere(cls, batch_norm, shape, pretrain, X):
    detector = make(cls, batch_norm=batch_norm, pretrain=pretrain, max_iter=1, **shape)
    module = detector._build_module(12)
    for name, parameter in module.named_parameters():
        assert parameter.ndim >= 2 and "bias" not in name, name
    for layer in module.modules():
        assert getattr(layer, "bias", None) is None
        assert not getattr(layer, "affine", False)
    normalised = any(
        isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in module.modules()
    )
    assert normalised == batch_norm


@both
@pytest.mark.parametrize("activation", UNBOUNDED)
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("shape", [{}, {"input_shape": (3, 2, 2), "channels": (2,)}], ids=str)
def test_fresh_network_maps_0_to_0_and_has_no_upper_bound(cls, activation, batch_norm, shape):
    torch.manual_seed(0)
    detector = make(cls, activation=activation, batch_norm=batch_norm, **shape)
    module = detector._build_module(12).eval()
    assert module(torch.zeros(3, 12)).abs().max() == 0.0
    rows = torch.randn(20, 12)
    assert module(1e8 * rows).norm() > 1e3 * module(rows).norm() > 0.0


@both
@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "softplus", "hardtanh"])
def test_bounded_and_shifted_activations_are_refused(cls, activation, X, monkeypatch):
    monkeypatch.setattr(cls, "_fit", None)
    with pytest.raises(ValueError, match=f"(?s)'activation' .*{cls.__name__}.*leaky_relu") as error:
        make(cls, activation=activation).fit(X)
    assert all(f"'{name}'" in str(error.value) for name in UNBOUNDED)


@both
@pytest.mark.parametrize("loader", [load_breast_cancer, load_digits])
def test_sphere_does_not_collapse(cls, loader):
    X = loader().data[:400]
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        detector = cls(max_iter=40, pretrain_max_iter=10, random_state=0, device="cpu").fit(X)
    scores, single = detector.score_samples(X), detector.score_samples(X.astype(np.float32))
    assert len(np.unique(scores)) == len(np.unique(X, axis=0))
    noise = np.abs(scores - single).max()
    assert scores.std() > 1e3 * noise
    assert scores.std() > 0.05 * np.abs(scores).mean()
    # It was trained: the sphere has shrunk.
    assert detector.loss_curve_[-1] < 0.2 * detector.loss_curve_[0]
    assert np.abs(detector.transform(X) - detector.center_).max() > 0.01


@both
@pytest.mark.parametrize("params", [{}, {"objective": "soft_boundary"}], ids=str)
@pytest.mark.parametrize("shape", [{}, {"input_shape": (3, 2, 2), "channels": (2,)}], ids=str)
def test_gradients_reach_every_parameter_of_the_encoder_and_no_other(cls, params, shape, X, y):
    if cls is DeepSAD and params:
        pytest.skip("has one objective")
    detector = make(cls, **params, **shape)
    module = detector._build_module(12)
    *_, main = detector._phases(module)
    rows, labels = torch.from_numpy(X).float(), torch.from_numpy(y)
    main.loss(main.module(rows), rows, labels).backward()
    encoder = dict(module.encoder.named_parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.values())
    for name, parameter in module.autoencoder.decoder.named_parameters():
        assert parameter.grad is None, name


# Pre-training reaches the detector


@both
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("how", ["end_to_end", "layerwise"])
@pytest.mark.parametrize("shape", [{}, {"input_shape": (3, 2, 2), "channels": (2,)}], ids=str)
def test_training_starts_from_the_weights_of_the_autoencoder(cls, batch_norm, how, shape, X, y):
    shared = {
        "activation": "leaky_relu",
        "batch_norm": batch_norm,
        "lr_schedule": "two_phase",
        "weight_decay": 1e-6,
        **shape,
    }
    autoencoder = make(
        Unbiased, max_iter=4, pretrain=None if how == "end_to_end" else how, **shared
    ).fit(X)
    detector = make(cls, callbacks=[Snapshots()], pretrain=how, **shared)
    # Rows without labels, since the order of labelled ones is another.
    detector.fit(X)
    start = encoder_at_the_start_of_training()
    assert_equal_states(start, dict(autoencoder.module_.encoder.state_dict()))
    # The centre is that of the autoencoder's codes.
    np.testing.assert_allclose(
        detector.center_, centred(autoencoder.transform(X)), rtol=1e-4, atol=1e-5
    )
    # And training has gone on from there.
    moved = detector.module_.encoder.state_dict()
    assert not any(
        torch.equal(start[name], moved[name]) for name in start if name.endswith("weight")
    )
    # The labels have no part in it but for the order of the rows and the centre.
    detector.fit(X, y)
    assert [name for name, _ in Snapshots.taken[-2:]] == ["pre-training", "training"]


@both
def test_without_pretraining_it_starts_from_the_initial_weights(cls, X):
    detector = make(cls, callbacks=[Snapshots()], pretrain=None).fit(X)
    assert [name for name, _ in Snapshots.taken] == ["training"]
    start = encoder_at_the_start_of_training()
    pretrained = make(cls, callbacks=[Snapshots()]).fit(X)
    initial = {
        key[len("encoder.") :]: tensor
        for key, tensor in Snapshots.taken[1][1].items()
        if key.startswith("encoder.")
    }
    assert_equal_states(start, initial)
    after = encoder_at_the_start_of_training()
    assert not any(torch.equal(start[name], after[name]) for name in start if "weight" in name)
    assert not np.allclose(detector.center_, pretrained.center_, atol=1e-3)


@both
def test_pretraining_lowers_the_reconstruction_error(cls, X):
    detector = make(cls, pretrain_max_iter=40).fit(X)
    losses = [row["train_loss"] for row in detector.history_ if row["phase"] == "pre-training"]
    assert len(losses) == 40 and losses[-1] < 0.5 * losses[0]
    assert len(detector.loss_curve_) == 3


@both
def test_layers_below_stay_as_they_are(cls, X):
    """Weights and running statistics, while the layers above them are pre-trained."""
    make(cls, pretrain="layerwise", callbacks=[Snapshots()], early_stopping=True).fit(X)
    starts = dict(Snapshots.taken)
    second, third = (starts[f"pre-training, layer {depth}"] for depth in (2, 3))
    first = starts["pre-training, layer 1"]
    below = [name for name in second if name.startswith(("encoder.0", "encoder.1"))]
    assert "encoder.1.running_mean" in below and "encoder.0.weight" in below
    for name in below:
        assert torch.equal(second[name], third[name]), name
        assert not torch.equal(first[name], second[name]), name


# The centre


@both
def test_centre_is_the_mean_of_the_initial_codes_without_known_anomalies(cls, X, y):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(12, 5, bias=False), nn.LeakyReLU(0.1))
    detector = make(cls, network=network, pretrain=None).fit(X, y)
    with torch.no_grad():
        codes = network(torch.from_numpy((X - X.mean(0)) / X.std(0)).float()).numpy()
    counted = y >= 0 if cls is DeepSAD else np.full(160, True)
    np.testing.assert_allclose(detector.center_, centred(codes[counted]), rtol=1e-5)
    assert not np.allclose(centred(codes[y >= 0]), centred(codes), atol=1e-3)


@both
def test_centre_is_documented_fixed_and_its_own(cls, X, y):
    detector = make(cls).fit(X, y)
    assert detector.center_.shape == (4,)
    assert (np.abs(detector.center_) >= 0.1 - 1e-6).all()
    np.testing.assert_array_equal(detector.center_, detector.module_.center)
    codes = detector.transform(X)
    np.testing.assert_allclose(
        detector.score_samples(X), -np.linalg.norm(codes - detector.center_, axis=1), rtol=1e-6
    )
    scores = detector.score_samples(X)
    detector.center_ += 1.0
    np.testing.assert_array_equal(detector.score_samples(X), scores)


@both
@pytest.mark.filterwarnings("ignore:Training did not move:UserWarning")
def test_unit_of_the_distances_takes_the_scale_of_the_codes_out(cls, X, y):
    """A network whose codes are ten times as large has the same objective."""
    torch.manual_seed(0)
    network = nn.Linear(12, 5, bias=False)
    with torch.no_grad():
        network.weight.mul_(10.0)  # all coordinates of the centre are out of the margin
    large = copy.deepcopy(network)
    with torch.no_grad():
        large.weight.mul_(10.0)
    rows = X + 5 * X.std(0)
    params = {"pretrain": None, "scaler": None, "max_iter": 1, "learning_rate": 1e-12}
    curves = [
        [
            make(cls, network=one, normalize_distances=normalize, **params)
            .fit(rows / X.std(0), y)
            .loss_curve_[0]
            for one in (network, large)
        ]
        for normalize in (True, False)
    ]
    assert curves[0][1] == pytest.approx(curves[0][0], rel=1e-4)
    assert curves[1][1] > 10 * curves[1][0]


@both
def test_early_stopping_leaves_the_held_out_rows_out_of_the_centre(cls, X):
    network = nn.Linear(12, 5, bias=False)
    whole = make(cls, network=network, pretrain=None).fit(X)
    held = make(cls, network=network, pretrain=None, early_stopping=True).fit(X)
    assert not np.allclose(whole.center_, held.center_, atol=1e-6)
    np.testing.assert_allclose(whole.center_, held.center_, atol=0.2)


@both
def test_warm_start_keeps_the_centre_and_leaves_pretraining_out(cls, X, y):
    detector = make(cls, warm_start=True).fit(X, y)
    center, before = detector.center_.copy(), len(detector.history_)
    unit, curve = detector.module_.unit.clone(), detector.loss_curve_
    assert unit != 1.0
    detector.fit(X + 0.5, y)
    np.testing.assert_array_equal(detector.center_, center)
    assert torch.equal(detector.module_.unit, unit)
    assert [row["phase"] for row in detector.history_[before:]] == ["training"] * 3
    assert detector.loss_curve_[:3] == curve
    detector.set_params(warm_start=False).fit(X, y)
    assert detector.loss_curve_ == curve


@both
def test_interrupt_in_pretraining_leaves_a_sphere(cls, X, y):
    class Interrupt(Callback):
        def on_batch_begin(self, net, training, **kwargs):
            if len(net.history) == 3:
                raise KeyboardInterrupt

    with pytest.warns(ConvergenceWarning, match="interrupted in phase 'pre-training'"):
        detector = make(cls, callbacks=[Interrupt()]).fit(X, y)
    assert detector.n_iter_ == 0 and detector.module_.autoencoder is None
    counted = y >= 0 if cls is DeepSAD else np.full(160, True)
    np.testing.assert_allclose(
        detector.center_, centred(detector.transform(X)[counted]), rtol=1e-4, atol=1e-5
    )
    assert (detector.predict(X) == -1).sum() == 16


@both
@pytest.mark.parametrize("scale", [1e39, 1e300])
@pytest.mark.filterwarnings("ignore:(overflow|invalid value):RuntimeWarning")
def test_row_out_of_range_leaves_the_centre_to_the_others(cls, scale, X):
    spoilt = X / X.std(axis=0)
    spoilt[7, 3] = scale
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        detector = make(cls, scaler=None).fit(spoilt)
    assert np.isfinite(detector.center_).all()
    assert len(np.unique(detector.score_samples(spoilt))) == 160
    assert detector.score_samples(spoilt).argmin() == 7


# The optimisation of the paper


class Rates(Callback):
    def on_batch_begin(self, net, training, **kwargs):
        net.history.record("rate", net.optimizer_.param_groups[0]["lr"])


@both
def test_searching_and_fine_tuning(cls, X):
    """Appendix E: a third of the epochs with 1e-4, the rest with 1e-5, in the pre-training too."""
    detector = make(
        cls, learning_rate=1e-4, max_iter=9, pretrain_max_iter=6, callbacks=[Rates()], batch_size=80
    ).fit(X)
    assert cls().lr_schedule == "two_phase" and cls().weight_decay == 1e-6
    rates = [row["rate"] for row in detector.history_]
    expected = [1e-4] * 2 + [1e-5] * 4 + [1e-4] * 3 + [1e-5] * 6
    assert rates == pytest.approx(expected)
    paper = [two_phase(epoch / 150) for epoch in range(150)]
    assert paper == [1.0] * 50 + [0.1] * 100


@both
@pytest.mark.parametrize("lam", [0.0, 0.5])
@pytest.mark.parametrize("normalize", [False, True])
def test_step_of_gradient_descent_by_hand(cls, lam, normalize, X, y):
    """Eq 3 and eq 8 with their weight decay lambda / 2 ||W||^2, for a linear network."""
    eta = {"eta": 3.0} if cls is DeepSAD else {}
    network = nn.Linear(12, 3, bias=False)
    W = network.weight.detach().double().numpy()
    detector = make(
        cls,
        network=network,
        pretrain=None,
        max_iter=1,
        batch_size=160,
        optimizer="sgd",
        learning_rate=0.01,
        weight_decay=lam,
        normalize_distances=normalize,
        **eta,
    ).fit(X, y)
    rows = (X - X.mean(0)) / X.std(0)
    labels = y if cls is DeepSAD else np.zeros(160)
    codes = rows @ W.T
    c = centred(codes[labels >= 0])
    unit = np.square(codes - c).sum(axis=1)[labels >= 0].mean() if normalize else 1.0
    assert detector.module_.unit.item() == pytest.approx(unit, rel=1e-5)
    gradient, objective = lam * W, 0.0
    for x, z, label in zip(rows, codes, labels, strict=True):
        distance = np.sum((z - c) ** 2) / unit
        slope = 2 * np.outer(z - c, x) / unit / 160
        if label == 0:
            objective += distance / 160
            gradient = gradient + slope
        elif label == 1:
            objective += 3.0 * distance / 160
            gradient = gradient + 3.0 * slope
        else:
            objective += 3.0 / (distance + 1e-6) / 160
            gradient = gradient - 3.0 * slope / (distance + 1e-6) ** 2
    np.testing.assert_allclose(
        detector.module_.encoder.weight.detach(), W - 0.01 * gradient, rtol=1e-4, atol=1e-6
    )
    assert detector.loss_curve_[0] == pytest.approx(objective, rel=1e-5)
    torch.testing.assert_close(network.weight.detach().double(), torch.from_numpy(W))


# Own networks


class Codes(nn.Module):
    def __init__(self, n_features=12):
        super().__init__()
        self.layer = nn.Linear(n_features, 3, bias=False)

    def forward(self, X):
        return self.layer(X)


@both
@pytest.mark.parametrize(
    "network", [Codes(), Codes, lambda n: Codes(n)], ids=["module", "class", "function"]
)
def test_own_encoder_without_pretraining(cls, network, X):
    detector = make(cls, network=network, pretrain=None).fit(X)
    assert isinstance(detector.module_.encoder, Codes)
    assert detector.center_.shape == (3,)
    assert detector.get_feature_names_out().tolist() == ["code0", "code1", "code2"]


@both
def test_own_encoder_is_copied(cls, X):
    network = Codes()
    before = copy.deepcopy(network.state_dict())
    detector = make(cls, network=network, pretrain=None).fit(X)
    assert_equal_states(before, network.state_dict())
    assert not torch.equal(detector.module_.encoder.layer.weight, network.layer.weight)


@both
def test_own_encoder_alone_cannot_be_pretrained(cls, X, monkeypatch):
    monkeypatch.setattr("anomaly_estimators.deep.run_phases", None)
    with pytest.raises(ValueError, match="encoder and decoder"):
        make(cls, network=Codes()).fit(X)


@both
@pytest.mark.parametrize("how", ["end_to_end", "layerwise", None])
def test_own_autoencoder_is_trained_from_its_weights(cls, how, X):
    network = mlp_autoencoder(12, (7,), 3, "leaky_relu", bias=False)
    detector = make(cls, network=network, pretrain=how, callbacks=[Snapshots()]).fit(X)
    first = Snapshots.taken[0][1]
    for name, tensor in network.encoder.state_dict().items():
        assert torch.equal(first[f"encoder.{name}"], tensor)
    start = encoder_at_the_start_of_training()
    kept = all(torch.equal(start[k], v) for k, v in network.encoder.state_dict().items())
    assert kept == (how is None)
    assert detector.transform(X).shape == (160, 3)


@both
def test_fitted_autoencoder_lends_its_network(cls, X):
    autoencoder = make(Autoencoder, max_iter=5).fit(X)
    detector = make(cls, network=autoencoder.module_, pretrain=None, callbacks=[Snapshots()]).fit(X)
    start = encoder_at_the_start_of_training()
    assert_equal_states(start, dict(autoencoder.module_.encoder.state_dict()))
    expected = centred(autoencoder.transform(X))
    np.testing.assert_allclose(detector.center_, expected, rtol=1e-4, atol=1e-5)
    # Its own network is whole.
    assert isinstance(autoencoder.module_, AutoencoderNetwork)
    assert np.isfinite(autoencoder.score_samples(X)).all()


@both
@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Linear(7, 3), "rows of 12 features"),
        (nn.Flatten(0), "codes of shape"),
        (lambda n: "no module", "torch.nn.Module"),
        (lambda n: AutoencoderNetwork(nn.Linear(n, 2), nn.Linear(2, n)).decoder, "rows of 12"),
    ],
    ids=["width", "shape", "no module", "decoder"],
)
def test_own_network_that_does_not_fit_is_refused(cls, network, message, X, monkeypatch):
    monkeypatch.setattr("anomaly_estimators.deep.run_phases", None)
    with pytest.raises(ValueError, match=message):
        make(cls, network=network, pretrain=None).fit(X)


def test_encoder_is_built_from_what_there_is():
    whole = AutoencoderNetwork(nn.Linear(4, 2).double(), nn.Linear(2, 4))
    built = build_encoder(whole, 4, None)
    assert isinstance(built, nn.Linear) and built is not whole.encoder
    assert built.weight.dtype == torch.float32 and whole.encoder.weight.dtype == torch.float64
    assert build_encoder(None, 4, lambda: "default") == "default"
    normalised = nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2))
    built = build_encoder(normalised, 4, None)
    assert built.training and built[1].num_batches_tracked == 0, "trying it out changes nothing"


@pytest.mark.parametrize("training", [True, False])
def test_width_of_the_code_is_found_where_the_network_lies(training):
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).to("meta").train(training)
    assert code_width(network, 4) == 3 and network.training == training
    assert code_width(nn.Flatten(), 7) == 7


# Images and series


@both
@pytest.mark.parametrize("pretrain", [None, "end_to_end", "layerwise"])
def test_images_are_folded_and_convolved(cls, pretrain, images):
    detector = make(
        cls, input_shape=(1, 8, 8), channels=(3, 4), pretrain=pretrain, pretrain_max_iter=1
    ).fit(images)
    kinds = [type(layer).__name__ for layer in detector.module_.encoder.modules()]
    assert kinds.count("Conv2d") == 2 and kinds.count("Linear") == 3
    scores = detector.score_samples(images)
    assert len(np.unique(scores)) == len(np.unique(images, axis=0))
    assert detector.transform(images).shape == (150, 4)
    assert detector.loss_curve_[-1] < detector.loss_curve_[0]


@both
def test_series_are_folded_and_convolved(cls, images):
    detector = make(cls, input_shape=(2, 32), channels=(3,), pretrain_max_iter=1).fit(images)
    assert np.isfinite(detector.score_samples(images)).all()


@both
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 8, 9), "64 features.*holds 72"),
        ((64,), "channels, height, width"),
        ((1, 1, 8, 8), "channels, height, width"),
        ((1, 8, 0), "input_shape"),
        ((1, 8.0, 8), "input_shape"),
        ((16, 2, 2), "poolings"),
    ],
    ids=str,
)
def test_shape_that_does_not_fit_is_refused(cls, shape, message, images, monkeypatch):
    monkeypatch.setattr("anomaly_estimators.deep.run_phases", None)
    with pytest.raises(ValueError, match=message):
        make(cls, input_shape=shape).fit(images)


@both
@pytest.mark.parametrize("channels", [(0,), (2.5,), "a"])
def test_channels_that_are_none_are_refused(cls, channels, images):
    with pytest.raises(ValueError, match="channels"):
        make(cls, input_shape=(1, 8, 8), channels=channels).fit(images)


# Checkpoints and files


class Stop(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_batch_begin(self, net, training, **kwargs):
        if len(net.history) == self.epoch:
            raise RuntimeError("power cut")


@both
@pytest.mark.parametrize("epoch", [2, 5, 7, 8])
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"pretrain": "layerwise", "pretrain_max_iter": 3},
        {"pretrain": "layerwise", "pretrain_max_iter": 3, "early_stopping": True},
        {"early_stopping": True, "ema_decay": 0.9},
        {"batch_norm": False, "optimizer": "sgd", "learning_rate": 1e-3},
        {"input_shape": (3, 2, 2), "channels": (2,)},
    ],
    ids=str,
)
def test_stopped_fit_ends_as_an_uninterrupted_one(cls, epoch, params, X, y, tmp_path, monkeypatch):
    """In the pre-training (4 epochs), between the phases and in the training."""
    monkeypatch.setattr(DeepDetector, "_checkpoint_interval", 0.0)
    path, params = tmp_path / "fit.pt", {"max_iter": 5, **params}
    whole = make(cls, **params).fit(X, y)
    with pytest.raises(RuntimeError, match="power cut"):
        make(cls, checkpoint=path, callbacks=[Stop(epoch)], **params).fit(X, y)
    assert list(tmp_path.iterdir())
    resumed = make(cls, checkpoint=path, **params).fit(X, y)
    assert_equal_states(dict(whole.module_.state_dict()), dict(resumed.module_.state_dict()))
    np.testing.assert_array_equal(resumed.center_, whole.center_)
    np.testing.assert_array_equal(resumed.score_samples(X), whole.score_samples(X))
    assert resumed.loss_curve_ == whole.loss_curve_
    assert not list(tmp_path.iterdir())


def test_checkpoint_knows_its_labels(X, y, tmp_path, monkeypatch):
    monkeypatch.setattr(DeepDetector, "_checkpoint_interval", 0.0)
    path = tmp_path / "fit.pt"
    with pytest.raises(RuntimeError, match="power cut"):
        make(DeepSAD, checkpoint=path, callbacks=[Stop(3)]).fit(X, y)
    (file,) = tmp_path.iterdir()
    before = file.read_bytes()
    for labels, params in ((-y, {}), (y, {"eta": 2.0})):
        detector = make(DeepSAD, checkpoint=path, **params).fit(X, labels)
        expected = make(DeepSAD, **params).fit(X, labels)
        np.testing.assert_array_equal(detector.score_samples(X), expected.score_samples(X))
        assert file.read_bytes() == before


@both
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"pretrain": None},
        {"pretrain": "layerwise", "pretrain_max_iter": 1},
        {"batch_norm": False},
        {"input_shape": (3, 2, 2), "channels": (2,)},
    ],
    ids=str,
)
def test_decoder_is_dropped_and_files_have_none(cls, params, X, y, tmp_path):
    detector = make(cls, **params).fit(X, y)
    assert detector.module_.autoencoder is None
    names = [*detector.module_.state_dict()]
    assert {name.partition(".")[0] for name in names} == {"encoder", "center", "unit"}
    detector.save(tmp_path / "model")
    with safe_open(tmp_path / "model", framework="pt") as file:
        stored = [*file.keys()]
    assert not [name for name in stored if "decoder" in name or "autoencoder" in name]
    assert f"attribute.module.{names[0]}" in stored
    for other in (load(tmp_path / "model"), pickle.loads(pickle.dumps(detector))):
        assert other.module_.autoencoder is None
        np.testing.assert_array_equal(other.score_samples(X), detector.score_samples(X))
        np.testing.assert_array_equal(other.center_, detector.center_)
        np.testing.assert_array_equal(other.fit(X, y).score_samples(X), detector.score_samples(X))


@both
def test_loaded_detector_is_trained_on(cls, X, y, tmp_path):
    detector = make(cls, warm_start=True).fit(X, y)
    detector.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    center = detector.center_.copy()
    for one in (detector, loaded):
        one.fit(X, y)
        np.testing.assert_array_equal(one.center_, center)
    np.testing.assert_array_equal(loaded.score_samples(X), detector.score_samples(X))
