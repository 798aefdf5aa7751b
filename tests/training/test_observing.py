"""What a phase is shown after every step."""

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch import nn

from anomaly_estimators import DCN, DeepDetector
from anomaly_estimators.functional.reconstruction import squared_error
from anomaly_estimators.training import batches, placement
from anomaly_estimators.training.averaging import WeightAveraging
from anomaly_estimators.training.phases import Phase


class Network(nn.Module):
    """A linear autoencoder that counts the rows it was shown."""

    def __init__(self, n_features):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(n_features, 2), nn.Linear(2, n_features))
        self.register_buffer("shown", torch.zeros((), dtype=torch.int64))

    def forward(self, X):
        return self.inner(X)


class Observed(DeepDetector):
    """Three phases, of which the first and the last observe; writes down what happens."""

    events: list = []

    def _build_module(self, n_features):
        return Network(n_features)

    def _phases(self, module):
        def loss(name, outputs, X, y):
            kind = "step" if torch.is_grad_enabled() else "valid"
            self.events.append((name, kind, outputs, module.inner[0].weight.detach().clone()))
            return squared_error(X, outputs).mean()

        def observe(name, outputs):
            assert not torch.is_grad_enabled()
            weight = module.inner[0].weight.detach().clone()
            self.events.append((name, "observe", outputs, weight))
            module.shown += len(outputs)

        def phase(name, max_iter, observed, **options):
            return Phase(
                name=name,
                loss=lambda *values: loss(name, *values),
                max_iter=max_iter,
                observe=(lambda outputs: observe(name, outputs)) if observed else None,
                **options,
            )

        return [
            phase("first", 2, True, main=False, module=module.inner),
            phase("second", 2, False, main=False),
            phase("third", self.max_iter, True),
        ]

    def _module_score(self, module, X):
        return squared_error(X, module(X))


@pytest.fixture(autouse=True)
def _forget():
    Observed.events.clear()


def observed(**params):
    defaults = {"max_iter": 3, "random_state": 0, "device": "cpu", "batch_size": 16}
    return Observed(**{**defaults, **params})


def kinds(name):
    return [event[1] for event in Observed.events if event[0] == name]


N_BATCHES = 8  # of 120 rows, 16 each


def test_every_step_is_shown_once_and_after_its_loss(rows):
    detector = observed().fit(rows)
    assert kinds("first") == ["step", "observe"] * 2 * N_BATCHES
    assert kinds("second") == ["step"] * 2 * N_BATCHES
    assert kinds("third") == ["step", "observe"] * 3 * N_BATCHES
    assert detector.module_.shown == (2 + 3) * len(rows)


def test_outputs_are_those_of_the_step_and_the_weights_have_moved_since(rows):
    observed().fit(rows)
    third = [event for event in Observed.events if event[0] == "third"]
    for step, shown in zip(third[::2], third[1::2], strict=True):
        assert step[2] is shown[2]
        assert not torch.equal(step[3], shown[3])


def test_observing_leaves_the_training_as_it_was(rows):
    class Blind(Observed):
        def _phases(self, module):
            return [Phase(**{**vars(phase), "observe": None}) for phase in super()._phases(module)]

    params = {"max_iter": 3, "random_state": 0, "device": "cpu", "batch_size": 16}
    blind, seeing = Blind(**params).fit(rows), observed().fit(rows)
    assert blind.module_.shown == 0
    np.testing.assert_array_equal(blind.score_samples(rows), seeing.score_samples(rows))


def test_held_out_rows_are_not_shown(rows):
    detector = observed(early_stopping=True, validation_fraction=0.2, n_iter_no_change=50)
    detector.fit(rows)
    # 96 rows to train on and 24 held out.
    assert kinds("third") == (["step", "observe"] * 6 + ["valid"] * 2) * 3
    shown = [len(e[2]) for e in Observed.events if e[:2] == ("third", "observe")]
    assert sum(shown) == 3 * 96


def test_scoring_shows_nothing(rows):
    detector = observed().fit(rows)
    Observed.events.clear()
    detector.score_samples(rows)
    assert not Observed.events


def test_average_of_the_weights_is_taken_after_it(rows, monkeypatch):
    after_step = WeightAveraging.after_step

    def told(self):
        Observed.events.append(("third", "average"))
        after_step(self)

    monkeypatch.setattr(WeightAveraging, "after_step", told)
    observed(ema_decay=0.9).fit(rows)
    assert kinds("third") == ["step", "observe", "average"] * 3 * N_BATCHES


def test_listening_to_gradients_changes_nothing_of_it(rows):
    class Listen(Callback):
        def on_grad_computed(self, net, **kwargs):
            pass

    observed(callbacks=[Listen()]).fit(rows)
    assert kinds("third") == ["step", "observe"] * 3 * N_BATCHES


def test_steps_of_a_stream_are_shown_the_same(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(placement, "_STREAM_BYTES", 0)
    monkeypatch.setattr(batches, "_BLOCK_BYTES", 10 * 20)
    monkeypatch.setattr(batches, "_BUFFER_BYTES", 40 * 20)
    np.save(tmp_path / "X.npy", rows)
    detector = observed().fit(np.load(tmp_path / "X.npy", mmap_mode="r"))
    assert kinds("third") == ["step", "observe"] * 3 * N_BATCHES
    assert detector.module_.shown == (2 + 3) * len(rows)


def test_second_fit_goes_on_without_pre_training(rows):
    detector = observed(warm_start=True).fit(rows)
    Observed.events.clear()
    detector.fit(rows)
    assert kinds("first") == []
    assert kinds("third") == ["step", "observe"] * 3 * N_BATCHES


# Through a detector whose centres follow the batches


class Stop(Callback):
    """Raise an error in the midst of an epoch."""

    def __init__(self, epoch, batch):
        self.epoch, self.batch = epoch, batch

    def on_epoch_begin(self, net, **kwargs):
        self.seen = 0

    def on_batch_begin(self, net, training, **kwargs):
        self.seen += 1
        if len(net.history) == self.epoch and self.seen == self.batch:
            raise RuntimeError("power cut")


@pytest.mark.parametrize("params", [{}, {"ema_decay": 0.9}, {"early_stopping": True}], ids=str)
@pytest.mark.parametrize("epoch", [1, 3, 5, 8, 9, 11])
def test_what_was_observed_outlives_a_kill(epoch, params, tiny, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(DCN, "_checkpoint_interval", 0.0)
    params = {"n_clusters": 3, "latent_dim": 2, "pretrain_max_iter": 2, "max_iter": 5, **params}
    whole = tiny(DCN, **params).fit(rows)
    # Three pre-trainings of two epochs, and five of the training itself.
    path = tmp_path / "fit.pt"
    with pytest.raises(RuntimeError, match="power cut"):
        tiny(DCN, checkpoint=path, callbacks=[Stop(epoch, 3)], **params).fit(rows)
    resumed = tiny(DCN, checkpoint=path, **params).fit(rows)
    for name, tensor in whole.module_.state_dict().items():
        assert torch.equal(resumed.module_.state_dict()[name], tensor), name
    np.testing.assert_array_equal(resumed.cluster_counts_, whole.cluster_counts_)
    np.testing.assert_array_equal(resumed.score_samples(rows), whole.score_samples(rows))
