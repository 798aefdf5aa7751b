"""The running average of the weights, computed a second time from the steps."""

import pytest
import torch
from skorch.callbacks import Callback

from anomaly_estimators import DAGMM


class Steps(Callback):
    """Keep the weights after every step, and those at the start of the phase."""

    weights: list[dict] = []

    def on_batch_begin(self, net, **kwargs):
        if not self.weights:
            self._keep(net)

    def on_batch_end(self, net, training, **kwargs):
        if training and net.phase_.main:
            self._keep(net)

    def _keep(self, net):
        self.weights.append({k: v.clone() for k, v in net.module_.state_dict().items()})


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.999])
@pytest.mark.parametrize("params", [{}, {"lr_schedule": "cosine"}], ids=str)
def test_weights_at_the_end_are_the_average_over_the_steps(decay, params, tiny, rows):
    Steps.weights.clear()
    detector = tiny(
        max_iter=5, ema_decay=decay, learning_rate=0.05, callbacks=[Steps()], **params
    ).fit(rows)
    start, *steps = Steps.weights
    assert len(steps) == 5 * 4
    for name, found in detector.module_.state_dict().items():
        average = start[name].double()
        for number, weights in enumerate(steps, start=1):
            keep = min(decay, number / (number + 10))
            average = keep * average + (1 - keep) * weights[name].double()
        torch.testing.assert_close(found.double(), average, rtol=1e-5, atol=1e-6)
        assert not torch.equal(found, steps[-1][name])


def test_average_covers_the_main_phase_only(tiny, rows):
    """Pre-training ends with its own last weights, from which the average starts."""
    params = {
        "pretrain": "end_to_end",
        "pretrain_max_iter": 3,
        "max_iter": 2,
        "learning_rate": 0.05,
    }
    Steps.weights.clear()
    tiny(DAGMM, ema_decay=0.9, callbacks=[Start()], **params).fit(rows)
    averaged = Start.weights
    tiny(DAGMM, callbacks=[Start()], **params).fit(rows)
    for name, weights in Start.weights.items():
        assert torch.equal(averaged[name], weights)


class Start(Callback):
    """Keep the weights with which the main phase starts."""

    weights: dict = {}

    def on_train_begin(self, net, **kwargs):
        if net.phase_.main:
            type(self).weights = {k: v.clone() for k, v in net.module_.state_dict().items()}


def test_training_itself_is_not_touched(tiny, rows):
    plain = tiny(max_iter=5).fit(rows)
    averaged = tiny(max_iter=5, ema_decay=0.9).fit(rows)
    assert plain.loss_curve_ == averaged.loss_curve_
    assert not torch.equal(plain.module_.encoder[0].weight, averaged.module_.encoder[0].weight)
