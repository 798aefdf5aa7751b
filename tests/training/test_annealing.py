"""Weights that follow the training: the schedules, and that every step is told how far it is."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skorch.callbacks import Callback
from torch import nn

from anomaly_estimators import DeepDetector
from anomaly_estimators.functional.reconstruction import squared_error
from anomaly_estimators.training import batches, placement
from anomaly_estimators.training.net import DetectorNet
from anomaly_estimators.training.phases import Phase
from anomaly_estimators.training.schedules import SCHEDULES, cyclical, rising

few = settings(max_examples=100, deadline=None, derandomize=True, database=None)
progress = st.floats(0, 1)
shares = st.floats(0.01, 1)


# Schedules


def test_rising_is_a_ramp_and_then_a_plateau():
    steps = [0.0, 0.1, 0.25, 0.4, 0.5, 0.75, 1.0]
    assert [rising(step) for step in steps] == pytest.approx([0, 0.2, 0.5, 0.8, 1, 1, 1])
    assert [rising(step, share=0.8) for step in steps] == pytest.approx(
        [0, 0.125, 0.3125, 0.5, 0.625, 0.9375, 1]
    )


@few
@given(progress, progress, shares)
def test_rising_never_falls_nor_leaves_0_to_1(first, second, share):
    low, high = (rising(step, share=share) for step in sorted((first, second)))
    assert 0.0 <= low <= high <= 1.0
    assert rising(0.0, share=share) == 0.0 and rising(1.0, share=share) == 1.0
    if first < share:
        assert rising(first, share=share) == pytest.approx(np.interp(first, [0, share], [0, 1]))
    else:
        assert rising(first, share=share) == 1.0


@pytest.mark.parametrize("share", [0.5, 0.25, 1.0])
@pytest.mark.parametrize("n_cycles", [1, 2, 3, 4, 7])
def test_cyclical_is_a_ramp_and_a_plateau_in_every_cycle(n_cycles, share):
    """Eq 6 and 7 of Fu et al., step by step: tau = (t mod T/M) / (T/M), and the ramp of it."""
    n_steps = 84 * n_cycles
    length = n_steps // n_cycles
    found = [cyclical(t / n_steps, n_cycles=n_cycles, share=share) for t in range(n_steps)]
    expected = [min(1.0, (t % length) / length / share) for t in range(n_steps)]
    # Where a cycle begins, rounding decides on which side the step is.
    begins = np.arange(n_steps) % length == 0
    np.testing.assert_allclose(np.array(found)[~begins], np.array(expected)[~begins], atol=1e-9)
    starts = sum(a > b + 0.5 for a, b in zip(found, found[1:], strict=False))
    assert starts == n_cycles - 1
    assert found[0] == 0.0


@few
@given(progress, st.integers(1, 50), shares)
def test_cyclical_lies_between_0_and_1_and_ends_at_1(step, n_cycles, share):
    assert 0.0 <= cyclical(step, n_cycles=n_cycles, share=share) <= 1.0
    assert cyclical(1.0, n_cycles=n_cycles, share=share) == 1.0
    assert cyclical(step, n_cycles=1, share=share) == rising(step, share=share)


def test_weights_are_no_schedules_of_the_learning_rate():
    assert not {rising, cyclical} & set(SCHEDULES.values())


# What a phase is told


class Network(nn.Module):
    def __init__(self, n_features):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(n_features, 2), nn.Linear(2, n_features))

    def forward(self, X):
        return self.inner(X)


class Annealed(DeepDetector):
    """Three phases, of which the first and the last anneal; writes down all that happens in order."""

    events: list = []

    def _build_module(self, n_features):
        return Network(n_features)

    def _phases(self, module):
        factors = {}

        def loss(name, outputs, X, y):
            grad = torch.is_grad_enabled()
            self.events.append((name, "step" if grad else "valid", len(X)))
            return factors.get(name, 1.0) * squared_error(X, outputs).mean()

        def anneal(name, progress):
            self.events.append((name, "anneal", progress))
            factors[name] = 0.5 + progress

        def phase(name, max_iter, annealed, **options):
            return Phase(
                name=name,
                loss=lambda *values: loss(name, *values),
                max_iter=max_iter,
                anneal=(lambda progress: anneal(name, progress)) if annealed else None,
                **options,
            )

        return [
            phase("first", 2, True, main=False, module=module.inner),
            phase("second", 2, False),
            phase("third", self.max_iter, True),
        ]

    def _module_score(self, module, X):
        return squared_error(X, module(X))


@pytest.fixture(autouse=True)
def _forget():
    Annealed.events.clear()


def annealed(**params):
    defaults = {"max_iter": 3, "random_state": 0, "device": "cpu", "batch_size": 16}
    return Annealed(**{**defaults, **params})


def told(name, events=None):
    """The shares that a phase was told, in order."""
    events = Annealed.events if events is None else events
    return [value for phase, kind, value in events if (phase, kind) == (name, "anneal")]


N_BATCHES = 8  # of 120 rows, 16 each
EXPECTED = {
    "first": [step / (2 * N_BATCHES) for step in range(2 * N_BATCHES)],
    "third": [step / (3 * N_BATCHES) for step in range(3 * N_BATCHES)],
}


def test_every_step_is_told_the_share_of_its_phase(rows):
    annealed().fit(rows)
    for name, expected in EXPECTED.items():
        assert told(name) == pytest.approx(expected)
        assert 0.0 == told(name)[0] and max(told(name)) < 1.0
    assert told("second") == []


def test_a_step_is_told_before_its_loss_is_computed(rows):
    annealed().fit(rows)
    for name in EXPECTED:
        kinds = [kind for phase, kind, _ in Annealed.events if phase == name]
        assert kinds == ["anneal", "step"] * (len(kinds) // 2)


def test_a_phase_without_one_is_as_it_was(rows):
    """The loss of the second phase has nothing to do with what the first was told."""

    class Plain(Annealed):
        def _phases(self, module):
            return super()._phases(module)[1:2]

    Plain(max_iter=1, random_state=0, device="cpu").fit(rows)
    assert {kind for _, kind, _ in Annealed.events} == {"step"}


def test_held_out_rows_are_evaluated_by_the_loss_at_the_end(rows):
    detector = annealed(early_stopping=True, validation_fraction=0.2, n_iter_no_change=50)
    detector.fit(rows)
    kinds = ["anneal", "step"] * 6 + ["anneal"] + ["valid"] * 2  # 96 rows, and 24
    seen = [(kind, value) for phase, kind, value in Annealed.events if phase == "third"]
    assert [kind for kind, _ in seen] == kinds * 3
    shares = np.array(told("third")).reshape(3, 7)
    np.testing.assert_allclose(shares[:, :-1].ravel(), np.arange(18) / 18)
    assert shares[:, -1].tolist() == [1.0, 1.0, 1.0]


def test_held_out_loss_does_not_fall_as_the_weight_rises_or_falls(rows):
    """A learning rate that moves nothing leaves it what it is, whatever the training is told."""
    detector = annealed(early_stopping=True, learning_rate=1e-12)
    with pytest.warns(UserWarning, match="did not move"):
        detector.fit(rows)
    losses = [row["valid_loss"] for row in detector.history_ if row["phase"] == "third"]
    assert losses == pytest.approx(losses[:1] * 3, rel=1e-5)
    # That of the training follows the factor, which is 0.5 + 3 / 21 in the mean of the 7 steps of the
    # first epoch. Steps have batches of their own, so it does so roughly.
    trained = [row["train_loss"] for row in detector.history_ if row["phase"] == "third"]
    factors = [0.5 + (epoch + 3 / 7) / 3 for epoch in range(3)]
    ratios = [factor / factors[0] for factor in factors]
    assert [loss / trained[0] for loss in trained] == pytest.approx(ratios, rel=0.05)


def test_a_second_fit_begins_at_0_again(rows):
    detector = annealed(warm_start=True).fit(rows)
    Annealed.events.clear()
    detector.fit(rows)
    assert told("first") == []
    assert told("third") == pytest.approx(EXPECTED["third"])


@pytest.mark.parametrize("max_iter", [1, 5])
def test_share_is_that_of_the_epochs_that_were_asked_for(max_iter, rows):
    annealed(max_iter=max_iter, batch_size=1000).fit(rows)
    assert told("third") == pytest.approx([step / max_iter for step in range(max_iter)])


def test_automatic_number_of_epochs_is_known_to_the_share(rows):
    detector = annealed(max_iter=None, batch_size=120).fit(rows)
    assert len(told("third")) == detector.n_iter_ - 2 == 200
    assert told("third")[-1] == pytest.approx(199 / 200)


def test_steps_of_a_stream_are_told_the_same(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(placement, "_STREAM_BYTES", 0)
    monkeypatch.setattr(batches, "_BLOCK_BYTES", 10 * 20)
    monkeypatch.setattr(batches, "_BUFFER_BYTES", 40 * 20)
    np.save(tmp_path / "X.npy", rows)
    annealed().fit(np.load(tmp_path / "X.npy", mmap_mode="r"))
    for name, expected in EXPECTED.items():
        assert told(name) == pytest.approx(expected)


def test_steps_after_a_rollback_are_told_how_far_the_training_is(rows, monkeypatch):
    spoilt = iter([False] * 40 + [True] + [False] * 100)
    step = DetectorNet.train_step_single

    def train_step_single(self, batch, **params):
        found = step(self, batch, **params)
        if next(spoilt):
            found["loss"] = found["loss"] * torch.nan
        return found

    monkeypatch.setattr(DetectorNet, "train_step_single", train_step_single)
    with pytest.warns(UserWarning, match="finite"):
        annealed().fit(rows)
    assert told("third") == pytest.approx(EXPECTED["third"])


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


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("epoch", [2, 4, 5, 6, 7])
def test_resumed_steps_are_told_what_those_of_an_uninterrupted_fit_are(
    epoch, early_stopping, rows, tmp_path, monkeypatch
):
    monkeypatch.setattr(Annealed, "_checkpoint_interval", 0.0)
    params = {"early_stopping": early_stopping, "checkpoint": tmp_path / "fit.pt"}
    whole = annealed(early_stopping=early_stopping).fit(rows)
    expected = {name: told(name) for name in EXPECTED}
    Annealed.events.clear()
    with pytest.raises(RuntimeError, match="power cut"):
        annealed(callbacks=[Stop(epoch, 4)], **params).fit(rows)
    Annealed.events.clear()
    resumed = annealed(**params).fit(rows)
    for name in EXPECTED:
        again = told(name)
        assert again == expected[name][len(expected[name]) - len(again) :]
    # The interrupted epoch was begun anew, and those before it were not. With rows held out an epoch
    # has a step less, and their evaluation.
    epochs_left = 3 - max(0, epoch - 1 - 4)
    assert len(told("third")) == epochs_left * N_BATCHES
    np.testing.assert_array_equal(resumed.score_samples(rows), whole.score_samples(rows))
    for name, tensor in whole.module_.state_dict().items():
        assert torch.equal(resumed.module_.state_dict()[name], tensor)
