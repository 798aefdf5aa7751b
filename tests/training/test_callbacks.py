"""What users bring: callbacks, networks, optimizers."""

import numpy as np
import pytest
import torch
from sklearn.preprocessing import FunctionTransformer, PowerTransformer, QuantileTransformer
from skorch.callbacks import Callback, EpochScoring, GradientNormClipping, LRScheduler
from torch import nn

from anomaly_estimators import DAGMM
from anomaly_estimators.nn.autoencoder import AutoencoderNetwork, mlp_autoencoder

LAYERWISE = {"pretrain": "layerwise", "pretrain_max_iter": 3}


class Events(Callback):
    """Note every event in a list of the class."""

    seen: list = []

    def _note(self, name):
        def note(net, **kwargs):
            assert net is not None
            self.seen.append((name, kwargs))

        return note

    def __init__(self):
        for name in ("on_train_begin", "on_train_end", "on_epoch_begin", "on_epoch_end"):
            setattr(self, name, self._note(name))


class BatchEvents(Callback):
    seen: list = []

    def on_batch_begin(self, net, batch, training, **kwargs):
        X, y = batch
        self.seen.append(("begin", training, len(X), len(y)))

    def on_batch_end(self, net, batch, training, loss, y_pred, **kwargs):
        assert torch.isfinite(loss)
        _, reconstruction = y_pred
        assert reconstruction.shape == batch[0].shape
        rows = net.history[-1]["batches"]
        key = "train_loss" if training else "valid_loss"
        assert rows[-1][key] == pytest.approx(loss.item())
        self.seen.append(("end", training, len(batch[0])))


@pytest.fixture(autouse=True)
def _forget():
    Events.seen.clear()
    BatchEvents.seen.clear()


@pytest.mark.parametrize("params", [{}, LAYERWISE], ids=["one phase", "four phases"])
def test_learning_rate_scheduler_of_skorch(params, tiny, rows):
    scheduler = LRScheduler(policy="StepLR", step_size=1, gamma=0.5)
    detector = tiny(DAGMM, max_iter=3, learning_rate=0.01, callbacks=[scheduler], **params).fit(
        rows
    )
    rates = [row["event_lr"] for row in detector.history_]
    assert rates == pytest.approx([0.01, 0.005, 0.0025] * (len(rates) // 3))
    plain = tiny(DAGMM, max_iter=3, learning_rate=0.01, **params).fit(rows)
    assert not np.array_equal(plain.score_samples(rows), detector.score_samples(rows))


def test_scheduler_by_batches_and_by_plateau(tiny, rows):
    by_batch = LRScheduler(policy="StepLR", step_size=2, gamma=0.5, step_every="batch")
    by_loss = LRScheduler(policy="ReduceLROnPlateau", patience=0, threshold=10.0)
    for scheduler in (by_batch, by_loss):
        detector = tiny(callbacks=[scheduler], learning_rate=0.01).fit(rows)
        assert np.isfinite(detector.score_samples(rows)).all()
    rates = [row["event_lr"] for row in detector.history_]
    assert rates[-1] < rates[0]


def test_scheduler_survives_a_second_fit_and_a_warm_start(tiny, rows):
    detector = tiny(
        callbacks=[LRScheduler(policy="StepLR", step_size=1, gamma=0.5)],
        warm_start=True,
        learning_rate=1e-3,
    )
    detector.fit(rows).fit(rows)
    assert [row["event_lr"] for row in detector.history_][4:] == pytest.approx(
        [0.001, 0.0005, 0.00025, 0.000125]
    )


def test_gradient_clipping_of_skorch(tiny, rows):
    # Plain gradient descent with clipped gradients: no step is longer than rate * norm.
    class Step(Callback):
        lengths: list = []

        def on_batch_begin(self, net, **kwargs):
            self.before = [p.detach().clone() for p in net.module_.parameters()]

        def on_batch_end(self, net, **kwargs):
            moved = [p - q for p, q in zip(net.module_.parameters(), self.before, strict=True)]
            self.lengths.append(torch.cat([m.detach().ravel() for m in moved]).norm().item())

    def longest(*callbacks):
        Step.lengths.clear()
        tiny(optimizer=torch.optim.SGD, learning_rate=0.1, callbacks=[*callbacks, Step()]).fit(rows)
        return max(Step.lengths)

    assert longest(GradientNormClipping(0.01)) <= 0.1 * 0.01 * 1.001
    assert longest() > 0.1 * 0.01 * 1.001


def test_epoch_scoring_with_an_own_function(tiny, rows):
    scoring = EpochScoring(
        lambda net, X, y: float(net.module_.encoder[0].weight.abs().sum()),
        name="size",
        on_train=True,
        use_caching=False,
    )
    detector = tiny(callbacks=[scoring]).fit(rows)
    assert len({row["size"] for row in detector.history_}) == 4


def test_events_come_in_order_and_for_every_phase(tiny, rows):
    tiny(DAGMM, max_iter=2, callbacks=[Events()], **LAYERWISE).fit(rows)
    names = [name for name, _ in Events.seen]
    epochs = ["on_epoch_begin", "on_epoch_end"]
    expected = []
    for n_epochs in (3, 3, 3, 2):
        expected += ["on_train_begin", *epochs * n_epochs, "on_train_end"]
    assert names == expected


def test_batch_events_carry_batch_loss_and_outputs(tiny, rows):
    detector = tiny(max_iter=2, batch_size=32, early_stopping=True, callbacks=[BatchEvents()]).fit(
        rows
    )
    one_epoch = []
    for training, sizes in ((True, (32, 32, 32, 12)), (False, (12,))):
        for size in sizes:
            one_epoch += [("begin", training, size, size), ("end", training, size)]
    assert BatchEvents.seen == one_epoch * 2
    assert "batches" not in detector.history_[0], "history rows stay small"


def test_listening_changes_nothing(tiny, rows):
    class Gradients(Callback):
        def on_grad_computed(self, net, named_parameters, **kwargs):
            assert all(p.grad is not None for _, p in named_parameters)

    plain = tiny(early_stopping=True, max_iter=6).fit(rows)
    for callback in (BatchEvents(), Gradients(), Events()):
        heard = tiny(early_stopping=True, max_iter=6, callbacks=[callback]).fit(rows)
        assert heard.loss_curve_ == plain.loss_curve_
        np.testing.assert_array_equal(heard.score_samples(rows), plain.score_samples(rows))


def test_history_has_phase_epoch_and_losses(tiny, rows):
    detector = tiny(DAGMM, max_iter=2, early_stopping=True, **LAYERWISE).fit(rows)
    assert [row["phase"] for row in detector.history_] == (
        ["pre-training, layer 1"] * 3
        + ["pre-training, layer 2"] * 3
        + ["pre-training"] * 3
        + ["training"] * 2
    )
    assert [row["epoch"] for row in detector.history_] == list(range(1, 12))
    assert all(row["train_loss"] > 0 and row["valid_loss"] > 0 for row in detector.history_[:9])
    assert detector.loss_curve_ == [row["train_loss"] for row in detector.history_[-2:]]


def test_callbacks_can_be_named_and_are_not_changed(tiny, rows):
    callback = Events()
    before = dict(vars(callback))
    detector = tiny(callbacks=[("mine", callback)]).fit(rows)
    assert Events.seen
    assert vars(callback) == before
    assert detector.callbacks == [("mine", callback)]
    assert "mine" in dict(detector.net_.callbacks_)


@pytest.mark.parametrize(
    "optimizer",
    [
        "adam",
        "adamw",
        "rmsprop",
        "sgd",
        torch.optim.Adagrad,
        torch.optim.NAdam,
        lambda parameters, lr, weight_decay=0: torch.optim.SGD(parameters, lr, momentum=0.5),
    ],
)
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_optimizers_train(optimizer, weight_decay, tiny, rows):
    detector = tiny(
        optimizer=optimizer, weight_decay=weight_decay, learning_rate=0.01, max_iter=8
    ).fit(rows)
    assert detector.loss_curve_[-1] < detector.loss_curve_[0]


def test_weight_decay_makes_weights_smaller(tiny, rows):
    def size(weight_decay):
        detector = tiny(optimizer="adamw", weight_decay=weight_decay, max_iter=20).fit(rows)
        return sum(p.square().sum().item() for p in detector.module_.parameters())

    assert size(20.0) < 0.9 * size(0.0)


def test_optimizer_without_weight_decay_is_never_given_one(tiny, rows):
    def plain(parameters, lr):
        return torch.optim.SGD(parameters, lr)

    tiny(optimizer=plain, learning_rate=0.01).fit(rows)


def test_own_network_is_trained_as_a_copy(tiny, rows):
    network = mlp_autoencoder(5, (7,), 3, "relu")
    before = {k: v.clone() for k, v in network.state_dict().items()}
    detector = tiny(network=network).fit(rows)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert detector.transform(rows).shape == (120, 3)
    # It starts from the weights that it came with.
    still = tiny(network=network, learning_rate=1e-9).fit(rows)
    torch.testing.assert_close(still.module_.state_dict(), before, atol=1e-6, rtol=0)
    assert not torch.equal(detector.module_.encoder[0].weight, before["encoder.0.weight"])


class BatchNormAutoencoder(AutoencoderNetwork):
    def __init__(self, n_features):
        super().__init__(
            nn.Sequential(nn.Linear(n_features, 6), nn.BatchNorm1d(6), nn.ELU(), nn.Dropout(0.2)),
            nn.Linear(6, n_features),
        )


@pytest.mark.parametrize("n_rows", [120, 65, 33, 2])
def test_network_with_batch_norm_and_dropout_scores_rows_one_by_one(n_rows, tiny, rows):
    X = rows[:n_rows]
    detector = tiny(network=BatchNormAutoencoder, batch_size=32, max_iter=2).fit(X)
    scores = detector.score_samples(X)
    np.testing.assert_array_equal(scores, detector.score_samples(X))
    single = np.concatenate([detector.score_samples(X[i : i + 1]) for i in range(len(X))])
    np.testing.assert_allclose(single, scores, rtol=1e-10)
    assert not detector.module_.training
    assert detector.module_.encoder[1].num_batches_tracked > 0


def test_average_takes_in_the_statistics_of_batch_norm(tiny, rows):
    detector = tiny(network=BatchNormAutoencoder, ema_decay=0.9, max_iter=3).fit(rows)
    assert detector.module_.encoder[1].running_mean.abs().sum() > 0
    assert np.isfinite(detector.score_samples(rows)).all()


def test_own_network_in_float64_is_trained_in_float32(tiny, rows):
    detector = tiny(network=mlp_autoencoder(5, (7,), 3).double()).fit(rows)
    assert detector.module_.encoder[0].weight.dtype == torch.float32
    assert detector.score_samples(rows).dtype == np.float64


@pytest.mark.parametrize(
    "network",
    [
        nn.Linear(5, 5),
        mlp_autoencoder(4, (3,), 1),
        lambda n_features: "no module",
        lambda n_features: AutoencoderNetwork(nn.Linear(n_features, 2), nn.Linear(2, 3)),
        AutoencoderNetwork(nn.Sequential(nn.Linear(5, 2), nn.Unflatten(1, (2, 1))), nn.Flatten()),
    ],
    ids=["no parts", "width", "no module", "other output", "shape of codes"],
)
def test_network_that_does_not_fit_is_refused(network, tiny, rows):
    with pytest.raises(ValueError, match="network"):
        tiny(network=network).fit(rows)


def test_layerwise_pretraining_refuses_a_network_without_layers(tiny, rows):
    with pytest.raises(ValueError, match="blocks"):
        tiny(network=BatchNormAutoencoder, pretrain="layerwise").fit(rows)


class Estimation(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2))


def test_own_estimation_network_is_trained_as_a_copy(tiny, rows):
    network = Estimation()
    before = network[0].weight.detach().clone()
    detector = tiny(
        DAGMM,
        reconstruction_features=("relative_euclidean", "cosine_similarity"),
        estimation_network=network,
    ).fit(rows)
    assert isinstance(detector.module_.head.network, Estimation)
    assert detector.module_.head.network is not network
    assert torch.equal(network[0].weight, before)
    assert not torch.equal(detector.module_.head.network[0].weight, before)
    assert detector.predict_component_proba(rows).shape == (120, 2)


@pytest.mark.parametrize("shape", [(7, 2), (2, 9)])
def test_estimation_network_that_does_not_fit_is_refused(shape, tiny, rows):
    with pytest.raises(ValueError, match="must map z"):
        tiny(DAGMM, estimation_network=nn.Linear(*shape)).fit(rows)


def test_own_reconstruction_features(tiny, rows):
    def largest(X, reconstruction):
        return (X - reconstruction).abs().amax(dim=1)

    detector = tiny(DAGMM, reconstruction_features=(largest, "squared_error")).fit(rows)
    z = detector.transform(rows)
    X = detector.scaler_.transform(rows)
    with torch.no_grad():
        _, R = detector.module_.double().autoencoder(torch.from_numpy(X))
    np.testing.assert_allclose(z[:, 1], np.abs(X - R.numpy()).max(axis=1), rtol=1e-10)
    np.testing.assert_allclose(z[:, 2], ((X - R.numpy()) ** 2).sum(axis=1), rtol=1e-10)


@pytest.mark.parametrize(
    "scaler",
    [
        "standard",
        "minmax",
        "robust",
        None,
        PowerTransformer(),
        QuantileTransformer(n_quantiles=20),
        FunctionTransformer(np.arctan, np.tan),
    ],
)
def test_scalers_are_fitted_as_copies_and_applied(scaler, tiny, rows):
    detector = tiny(scaler=scaler, max_iter=1).fit(rows)
    expected = rows
    if scaler is not None:
        assert detector.scaler_ is not scaler
        assert not hasattr(scaler, "n_features_in_")
        expected = detector.scaler_.transform(rows)
    with torch.no_grad():
        code = detector.module_.double().encoder(torch.from_numpy(expected))
    np.testing.assert_allclose(detector.transform(rows), code, rtol=1e-12)
