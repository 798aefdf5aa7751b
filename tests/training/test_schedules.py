"""Learning-rate schedules: their shapes, and that the optimizer follows them."""

import math

import pytest
from skorch.callbacks import Callback

from anomaly_estimators.training.schedules import SCHEDULES, warmup_cosine


class Rates(Callback):
    """Write the learning rate of each epoch into the history."""

    def on_batch_begin(self, net, training, **kwargs):
        net.history.record("rate", net.optimizer_.param_groups[0]["lr"])


@pytest.mark.parametrize("name", SCHEDULES)
def test_factor_lies_between_0_and_1_and_peaks_at_1(name):
    factors = [SCHEDULES[name](i / 100) for i in range(100)]
    assert all(0 < factor <= 1 for factor in factors)
    assert max(factors) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("name", sorted(set(SCHEDULES) - {"warmup_cosine"}))
def test_factor_starts_at_1_and_never_rises(name):
    factors = [SCHEDULES[name](i / 100) for i in range(100)]
    assert factors[0] == 1.0
    assert factors == sorted(factors, reverse=True)


def test_warm_up_rises_to_the_top_and_falls_as_a_cosine():
    assert warmup_cosine(0.0) > 0
    assert warmup_cosine(0.05) == 1.0
    assert warmup_cosine(0.5, warmup=0.2) == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.375)))


@pytest.mark.parametrize("name", SCHEDULES)
def test_optimizer_follows_a_schedule(name, tiny, rows):
    detector = tiny(max_iter=6, lr_schedule=name, learning_rate=0.01, callbacks=[Rates()]).fit(rows)
    expected = [0.01 * SCHEDULES[name](epoch / 6) for epoch in range(6)]
    assert [row["rate"] for row in detector.history_] == pytest.approx(expected)


def test_schedule_may_be_a_function_and_starts_anew_in_every_phase(tiny, rows):
    detector = tiny(
        max_iter=3,
        pretrain="layerwise",
        pretrain_max_iter=2,
        lr_schedule=lambda progress: 1 / (1 + progress),
        learning_rate=0.01,
        callbacks=[Rates()],
    ).fit(rows)
    layer = [0.01, 0.01 / 1.5]
    expected = [*layer, *layer, 0.01, 0.01 / (1 + 1 / 3), 0.01 / (1 + 2 / 3)]
    assert [row["rate"] for row in detector.history_] == pytest.approx(expected)
