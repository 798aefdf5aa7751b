"""A fit owns its randomness: it neither reads nor moves what another thread can see."""

import random
import sys
import threading
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from _public import deep_detectors, fitted, labels, learned, public_detectors, small, suited
from joblib import Parallel, delayed
from sklearn.datasets import load_breast_cancer
from skorch.callbacks import Callback
from torch import nn
from torch.nn import functional as F

from anomaly_estimators import DAGMM, DSEBM, UAI, VAE, Autoencoder, DeepDetector, load
from anomaly_estimators.nn.autoencoder import AutoencoderNetwork, mlp_autoencoder
from anomaly_estimators.training.net import DetectorNet

ROWS = load_breast_cancer(return_X_y=True)[0][:60, :6].astype(np.float32)
detectors = pytest.mark.parametrize("cls", public_detectors(), ids=lambda cls: cls.__name__)
deep = pytest.mark.parametrize("cls", deep_detectors(), ids=lambda cls: cls.__name__)


def model(cls, **params):
    """All that a small fit has learned."""
    return learned(fitted(cls, suited(cls, ROWS), **params))


def settings():
    """What is common to all threads, beside the generators."""
    return (
        torch.get_default_dtype(),
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
    )


@pytest.fixture
def switching():
    """Threads take turns so often that a fit meets the others everywhere."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(before)


@contextmanager
def neighbour():
    """A thread that draws from all global generators, and looks at the settings, all the time.

    At the end it must have drawn what it would have drawn alone.
    """
    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)  # noqa: NPY002
    drawn, seen, over = [], [], threading.Event()

    def draw():
        # A few more after a fit that was over at once.
        while not over.is_set() or len(drawn) <= 10:
            drawn.append((torch.rand(()).item(), random.random(), np.random.rand()))  # noqa: NPY002
            seen.append(settings())

    before = settings()
    thread = threading.Thread(target=draw)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    own, alone = random.Random(7), np.random.RandomState(7)
    generator = torch.Generator().manual_seed(7)
    assert len(drawn) > 10
    assert drawn == [
        (torch.rand((), generator=generator).item(), own.random(), alone.rand()) for _ in drawn
    ]
    assert torch.equal(torch.get_rng_state(), generator.get_state())
    assert all(found == before for found in seen)


@detectors
def test_fits_in_threads_are_those_of_one_thread(cls, switching):
    rows = suited(cls, ROWS)

    def fit(seed):
        detector = small(cls)
        if "random_state" in detector.get_params():
            detector.set_params(random_state=seed)
        return learned(detector.fit(rows, labels(cls, len(rows))))

    serial = [fit(seed) for seed in range(2)]
    threaded = Parallel(n_jobs=2, backend="threading")(delayed(fit)(seed) for seed in range(2))
    assert threaded == serial


@detectors
def test_fit_and_neighbour_do_not_notice_each_other(cls, switching):
    alone = model(cls)
    with neighbour():
        beside = model(cls)
    assert beside == alone


@pytest.mark.parametrize("cls", [DAGMM, VAE, UAI], ids=lambda cls: cls.__name__)
def test_fit_leaves_another_default_dtype_to_the_others(cls, switching):
    usual = model(cls)
    torch.set_default_dtype(torch.float64)
    try:
        with neighbour():
            assert model(cls) == usual
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("cls", [DAGMM, VAE, UAI], ids=lambda cls: cls.__name__)
def test_file_is_loaded_beside_a_neighbour(cls, switching, tmp_path):
    rows = suited(cls, ROWS)
    saved = fitted(cls, rows)
    saved.save(tmp_path / "model")
    with neighbour():
        loaded = load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.score_samples(rows), saved.score_samples(rows))


def test_rounds_of_an_audit_and_their_neighbour_do_not_notice_each_other(switching):
    def audited():
        detector = small(UAI).fit(ROWS)
        for _ in range(2):
            taken = detector.query(ROWS, k=4)
            detector.teach(taken, [-1, 1, 1, 1])
        return learned(detector)

    alone = audited()
    with neighbour():
        assert audited() == alone
    assert Parallel(n_jobs=2, backend="threading")(delayed(audited)() for _ in range(2)) == 2 * [
        alone
    ]


@deep
def test_own_networks_pay_nothing_for_what_users_may_draw(cls, monkeypatch):
    contexts = []

    class Net(DetectorNet):
        def begin_phase(self, phase):
            super().begin_phase(phase)
            contexts.extend([self.in_module, self.in_loss, self.in_optimizer])

    monkeypatch.setattr("anomaly_estimators.deep.DetectorNet", Net)
    model(cls)
    assert contexts and set(contexts) == {nullcontext}


# What users bring


class Restless(AutoencoderNetwork):
    """Draws in layers, functions and hooks."""

    def __init__(self, n_features):
        layers = mlp_autoencoder(n_features, (6,), 2)
        super().__init__(layers.encoder, layers.decoder)
        self.first = nn.Sequential(nn.Dropout(0.1), nn.RReLU(), nn.AlphaDropout(0.1))
        self.sequence = nn.LSTM(1, 1, 2, dropout=0.3)
        self.attention = nn.MultiheadAttention(1, 1, dropout=0.3)

    def noisy(self, X):
        return X + 0.1 * torch.randn_like(X) if self.training else X

    def forward(self, X):
        code, reconstruction = super().forward(self.first(self.noisy(X)))
        series = reconstruction.T.unsqueeze(-1)
        series = series + self.sequence(series)[0] + self.attention(*3 * [series])[0]
        if series.requires_grad:
            series.register_hook(lambda gradient: gradient * torch.rand(()))
        return code, F.dropout(series.squeeze(-1).T, 0.2, self.training)


class Drawing(Callback):
    """Draws at every event, and keeps it in a place that belongs to the model."""

    def on_epoch_begin(self, net, **kwargs):
        with torch.no_grad():
            next(net.module_.parameters()).add_(0.01 * torch.randn(()))

    def on_batch_end(self, net, **kwargs):
        self.on_epoch_begin(net)


class Langevin(torch.optim.SGD):
    """Adds noise to its steps."""

    @torch.no_grad()
    def step(self, closure=None):
        loss = super().step(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.add_(0.01 * torch.randn_like(parameter))
        return loss


class NoisyLoss(Autoencoder):
    """A method of a user, whose loss draws."""

    def _phases(self, module):
        weights = torch.rand(2)

        def loss(outputs, X, y):
            return ((outputs[1] - X).square() * torch.rand_like(X)).mean() * weights.sum()

        return [replace(phase, loss=loss) for phase in super()._phases(module)]


def hooked(n_features):
    network = mlp_autoencoder(n_features, (4,), 1)
    network.encoder.register_forward_hook(
        lambda layer, inputs, code: F.dropout(code, 0.3, layer.training)
    )
    return network


BROUGHT = {
    "network": (Autoencoder, lambda: {"network": Restless}),
    "hook": (Autoencoder, lambda: {"network": hooked}),
    "layers": (Autoencoder, lambda: {"network": lambda n: AutoencoderNetwork(
        nn.Sequential(nn.Linear(n, 4), nn.Dropout(0.5)), nn.Linear(4, n))}),
    "layerwise": (Autoencoder, lambda: {"pretrain": "layerwise", "callbacks": [Drawing()]}),
    "early stopping": (Autoencoder, lambda: {"network": Restless, "early_stopping": True}),
    "estimation_network": (DAGMM, lambda: {"estimation_network": nn.Sequential(
        nn.Linear(2, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 2))}),
    "optimizer": (Autoencoder, lambda: {"optimizer": Langevin}),
    "callback": (DSEBM, lambda: {"callbacks": [Drawing()]}),
    "schedule": (Autoencoder, lambda: {"lr_schedule": lambda share: float(torch.rand(()))}),
    "method": (NoisyLoss, dict),
}  # fmt: skip
brought = pytest.mark.parametrize("what", BROUGHT)


@brought
def test_what_users_bring_draws_from_the_fit(what, switching):
    cls, params = BROUGHT[what]
    torch.manual_seed(0)
    given = params()
    alone = model(cls, **given)
    with neighbour():
        assert model(cls, **given) == alone
    assert model(cls, **given, random_state=1) != alone
    threads = Parallel(n_jobs=2, backend="threading")
    assert threads(delayed(model)(cls, **given) for _ in range(2)) == [alone, alone]


class Fitting(Callback):
    """Fits another model within the fit."""

    models: list = []

    def on_train_begin(self, net, **kwargs):
        self.models.append(model(VAE))


def test_fit_within_a_fit_has_its_own_randomness():
    Fitting.models.clear()
    alone, outer = (fitted(DAGMM, ROWS, callbacks=given) for given in (None, [Fitting()]))
    assert learned(outer.module_) == learned(alone.module_)
    assert Fitting.models == [model(VAE)]


class PowerCut(Callback):
    """Ends a fit in its third epoch."""

    def on_batch_begin(self, net, **kwargs):
        if len(net.history) == 3:
            raise RuntimeError("power cut")


def test_fit_that_goes_on_from_a_checkpoint_draws_on(tmp_path, monkeypatch, switching):
    monkeypatch.setattr(DeepDetector, "_checkpoint_interval", 0.0)
    params = {"network": Restless, "max_iter": 5}
    whole = fitted(Autoencoder, ROWS, **params)
    path = tmp_path / "fit.pt"
    with neighbour():
        with pytest.raises(RuntimeError, match="power cut"):
            fitted(Autoencoder, ROWS, **params, checkpoint=path, callbacks=[PowerCut()])
        resumed = fitted(Autoencoder, ROWS, **params, checkpoint=path)
    assert learned(resumed.module_) == learned(whole.module_)
    assert resumed.offset_ == whole.offset_
