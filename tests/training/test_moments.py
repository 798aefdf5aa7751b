"""What an optimizer remembers, through arrays and back."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from anomaly_estimators.persistence.values import Decoder, Encoder
from anomaly_estimators.training.moments import moments_as_arrays, moments_as_tensors
from anomaly_estimators.training.net import OPTIMIZERS, make_optimizer


def through_a_file(arrays):
    encoder = Encoder()
    document = json.loads(json.dumps(encoder.encode(arrays, "moments")))
    return Decoder(encoder.arrays).decode(document)


def module():
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def steps(network, optimizer, n, seed):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(n):
        optimizer.zero_grad()
        network(torch.randn(8, 3, generator=generator)).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("way", [lambda arrays: arrays, through_a_file], ids=["arrays", "file"])
@pytest.mark.parametrize(
    "name",
    [*OPTIMIZERS, torch.optim.Adagrad, torch.optim.NAdam, torch.optim.Adadelta],
    ids=lambda name: getattr(name, "__name__", name),
)
def test_training_goes_on_bit_for_bit(name, way):
    whole, stopped = module(), module()
    one = make_optimizer(name, list(whole.parameters()), 1e-2, 0.0)
    steps(whole, one, 5, seed=1)
    steps(whole, one, 5, seed=2)

    first = make_optimizer(name, list(stopped.parameters()), 1e-2, 0.0)
    steps(stopped, first, 5, seed=1)
    arrays = moments_as_arrays(first.state_dict()["state"])
    second = make_optimizer(name, list(stopped.parameters()), 1e-2, 0.0)
    state = moments_as_tensors(way(arrays))
    second.load_state_dict({**second.state_dict(), "state": state})
    steps(stopped, second, 5, seed=2)
    for a, b in zip(whole.parameters(), stopped.parameters(), strict=True):
        assert torch.equal(a, b)
    again = moments_as_arrays(second.state_dict()["state"])
    expected = moments_as_arrays(one.state_dict()["state"])
    assert again.keys() == expected.keys()
    for number, moments in expected.items():
        assert moments.keys() == again[number].keys()
        for key, value in moments.items():
            np.testing.assert_array_equal(value, again[number][key], err_msg=key)


def test_types_and_shapes_are_kept():
    state = {
        0: {
            "step": torch.tensor(3.0),
            "moment": torch.arange(6.0).reshape(2, 3),
            "count": 7,
            "none": None,
            "double": torch.ones(2, dtype=torch.float64),
        },
        11: {},
    }
    back = moments_as_tensors(through_a_file(moments_as_arrays(state)))
    assert list(back) == [0, 11] and back[11] == {}
    assert back[0]["count"] == 7 and back[0]["none"] is None
    for name in ("step", "moment", "double"):
        assert torch.equal(back[0][name], state[0][name])
        assert back[0][name].dtype == state[0][name].dtype


def test_nothing_is_shared():
    tensor = torch.zeros(3)
    arrays = moments_as_arrays({0: {"moment": tensor}})
    tensors = moments_as_tensors(arrays)
    tensor += 1
    assert not arrays["0"]["moment"].any()
    arrays["0"]["moment"] += 2
    assert not tensors[0]["moment"].any()


def test_gradients_and_read_only_arrays_are_no_obstacle():
    arrays = moments_as_arrays({0: {"moment": torch.zeros(2, requires_grad=True)}})
    arrays["0"]["moment"].flags.writeable = False
    moments_as_tensors(arrays)[0]["moment"].add_(1)
    assert not arrays["0"]["moment"].any()


def test_an_optimizer_that_has_made_no_step_remembers_nothing():
    fresh = make_optimizer("adam", list(module().parameters()), 1e-2, 0.0)
    assert moments_as_arrays(fresh.state_dict()["state"]) == {}
    assert moments_as_tensors({}) == {}
