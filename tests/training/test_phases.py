"""What a phase looks at before it begins, and what a method drops after the last."""

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch import nn

from anomaly_estimators import DeepDetector
from anomaly_estimators.functional.reconstruction import squared_error
from anomaly_estimators.training import batches, placement
from anomaly_estimators.training.phases import Phase


class Network(nn.Module):
    """A linear autoencoder, and a part that no score needs."""

    def __init__(self, n_features):
        super().__init__()
        self.inner = nn.Sequential(
            nn.Linear(n_features, 2), nn.Dropout(0.5), nn.Linear(2, n_features)
        )
        self.spare = nn.Linear(n_features, 1)
        self.register_buffer("seen", torch.zeros(n_features))

    def forward(self, X):
        return self.inner(X)


class Spy(DeepDetector):
    """Two phases over a network; writes down what their ``begin`` is given."""

    _uses_labels = True
    seen: list = []

    def _build_module(self, n_features):
        return Network(n_features)

    def _phases(self, module):
        def loss(outputs, X, y):
            return squared_error(X, outputs).mean()

        def begin(name, batches):
            pieces = [(X.clone(), y.clone()) for X, y in batches]
            self.seen.append(
                {
                    "phase": name,
                    "X": torch.cat([X for X, _ in pieces]),
                    "y": torch.cat([y for _, y in pieces]),
                    "sizes": [len(X) for X, _ in pieces],
                    "training": module.inner.training,
                    "dropout": module.inner[1].training,
                    "grad": torch.is_grad_enabled(),
                }
            )
            module.seen.copy_(self.seen[-1]["X"].mean(dim=0))

        return [
            Phase(
                name="first",
                loss=loss,
                max_iter=2,
                module=module.inner,
                main=False,
                begin=lambda batches: begin("first", batches),
            ),
            Phase(
                name="second",
                loss=loss,
                max_iter=self.max_iter,
                begin=lambda batches: begin("second", batches),
            ),
        ]

    def _module_score(self, module, X):
        return squared_error(X, module(X))


class Trimmed(Spy):
    """Drops the part that no score needs."""

    def _trim(self, module):
        module.spare = None


class Stop(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_batch_begin(self, net, training, **kwargs):
        if len(net.history) == self.epoch:
            raise RuntimeError("power cut")


@pytest.fixture(autouse=True)
def _forget():
    Spy.seen.clear()


@pytest.fixture
def labels(rows):
    y = np.zeros(len(rows))
    y[::9], y[4::9] = -1, 1
    return y


def spy(cls=Spy, **params):
    return cls(**{"max_iter": 3, "random_state": 0, "device": "cpu", "batch_size": 16, **params})


def names():
    return [record["phase"] for record in Spy.seen]


def test_begin_is_called_once_a_phase_with_all_rows_as_the_network_sees_them(rows, labels):
    detector = spy().fit(rows, labels)
    assert names() == ["first", "second"]
    for record in Spy.seen:
        np.testing.assert_allclose(
            record["X"], detector.scaler_.transform(rows), rtol=1e-5, atol=1e-6
        )
        assert record["y"].tolist() == labels.tolist()
        assert record["sizes"] == [16] * 7 + [8]
        assert not record["training"] and not record["dropout"] and not record["grad"]
    assert [row["phase"] for row in detector.history_] == ["first"] * 2 + ["second"] * 3


def test_begin_can_set_a_buffer_which_stays(rows, labels):
    detector = spy(scaler="minmax").fit(rows, labels)
    mean = detector.scaler_.transform(rows).mean(axis=0)
    np.testing.assert_allclose(detector.module_.seen, mean, rtol=1e-5)


def test_begin_draws_no_random_numbers(rows, labels):
    class Silent(Spy):
        def _phases(self, module):
            return [Phase(**{**vars(phase), "begin": None}) for phase in super()._phases(module)]

    with_begin, without = spy().fit(rows, labels), spy(Silent).fit(rows, labels)
    assert len(Spy.seen) == 2
    np.testing.assert_array_equal(with_begin.score_samples(rows), without.score_samples(rows))


def test_begin_sees_the_rows_to_train_on_alone(rows, labels):
    spy(early_stopping=True, validation_fraction=0.25).fit(rows, labels)
    assert names() == ["first", "second"]
    assert all(len(record["X"]) == 90 for record in Spy.seen)


def test_begin_sees_a_stream_in_its_order(rows, labels, tmp_path, monkeypatch):
    monkeypatch.setattr(placement, "_STREAM_BYTES", 0)
    monkeypatch.setattr(batches, "_BLOCK_BYTES", 10 * 20)
    monkeypatch.setattr(batches, "_BUFFER_BYTES", 40 * 20)
    np.save(tmp_path / "X.npy", rows)
    detector = spy().fit(np.load(tmp_path / "X.npy", mmap_mode="r"), labels)
    assert names() == ["first", "second"]
    for record in Spy.seen:
        np.testing.assert_allclose(
            record["X"], detector.scaler_.transform(rows), rtol=1e-5, atol=1e-6
        )
        assert record["y"].tolist() == labels.tolist()


def test_warm_start_leaves_begin_out(rows, labels):
    detector = spy(warm_start=True).fit(rows, labels)
    seen = detector.module_.seen.clone()
    Spy.seen.clear()
    detector.fit(rows + 3.0, labels)
    assert names() == []
    assert torch.equal(detector.module_.seen, seen)
    detector.set_params(warm_start=False).fit(rows, labels)
    assert names() == ["first", "second"]


@pytest.mark.parametrize(
    ("epoch", "again"), [(1, ["first", "second"]), (2, ["second"]), (3, ["second"]), (4, [])]
)
def test_resumed_fit_does_not_begin_a_phase_twice(
    epoch, again, rows, labels, tmp_path, monkeypatch
):
    """A phase that a checkpoint is from has begun; those after it have not."""
    monkeypatch.setattr(Spy, "_checkpoint_interval", 0.0)
    path = tmp_path / "fit.pt"
    whole = spy().fit(rows, labels)
    with pytest.raises(RuntimeError, match="power cut"):
        spy(checkpoint=path, callbacks=[Stop(epoch)]).fit(rows, labels)
    Spy.seen.clear()
    resumed = spy(checkpoint=path).fit(rows, labels)
    assert names() == again
    assert torch.equal(resumed.module_.seen, whole.module_.seen)
    np.testing.assert_array_equal(resumed.score_samples(rows), whole.score_samples(rows))


@pytest.mark.filterwarnings("ignore:Training did not move:UserWarning")
@pytest.mark.parametrize(("epoch", "begun"), [(1, ["first", "second"]), (4, ["first", "second"])])
def test_interrupted_fit_has_what_the_left_out_phases_set(epoch, begun, rows, labels):
    class Interrupt(Callback):
        def on_batch_begin(self, net, training, **kwargs):
            if len(net.history) == epoch:
                raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="interrupted"):
        detector = spy(callbacks=[Interrupt()]).fit(rows, labels)
    assert names() == begun
    assert len(detector.history_) == epoch - 1
    assert not Spy.seen[1]["training"] and not Spy.seen[1]["grad"]


# Trimming


def test_trimmed_part_was_trained_with_and_is_gone(rows, labels, tmp_path, monkeypatch):
    detector = spy(Trimmed).fit(rows, labels)
    assert detector.module_.spare is None
    assert not any("spare" in name for name in detector.module_.state_dict())
    assert any("spare" in name for name in spy().fit(rows, labels).module_.state_dict())
    whole = spy().fit(rows, labels)
    np.testing.assert_array_equal(detector.score_samples(rows), whole.score_samples(rows))


def test_trimmed_network_can_be_trained_on(rows, labels):
    detector = spy(Trimmed, warm_start=True).fit(rows, labels)
    before = detector.score_samples(rows)
    detector.fit(rows, labels)
    assert detector.n_iter_ == 6
    assert (detector.score_samples(rows) != before).any()
    detector.set_params(warm_start=False).fit(rows, labels)
    np.testing.assert_array_equal(detector.score_samples(rows), before)


def test_interrupted_fit_is_trimmed_too(rows, labels):
    class Interrupt(Callback):
        def on_batch_begin(self, net, training, **kwargs):
            if len(net.history) == 2:
                raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="interrupted"):
        detector = spy(Trimmed, callbacks=[Interrupt()]).fit(rows, labels)
    assert detector.module_.spare is None


def test_file_has_what_is_left(rows, labels, tmp_path, monkeypatch):
    from safetensors import safe_open

    from anomaly_estimators import load
    from anomaly_estimators.persistence import register, registry

    monkeypatch.setattr(registry, "_REGISTERED", {})
    register(Trimmed)
    detector = spy(Trimmed).fit(rows, labels)
    detector.save(tmp_path / "model")
    with safe_open(tmp_path / "model", framework="pt") as file:
        stored = list(file.keys())
    assert any("inner" in name for name in stored)
    assert not any("spare" in name for name in stored)
    loaded = load(tmp_path / "model")
    assert loaded.module_.spare is None
    np.testing.assert_array_equal(loaded.score_samples(rows), detector.score_samples(rows))
