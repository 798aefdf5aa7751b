"""Layers draw as torch's do, from the generator of the fit where there is one."""

import pickle
import threading

import pytest
import torch
from torch import nn

from anomaly_estimators.nn.randomness import (
    Dropout,
    Dropout2d,
    drawing_from,
    generator_for,
    rand_like,
    randn_like,
)

CPU = torch.device("cpu")
MAPS = torch.linspace(-1, 1, 120).reshape(2, 5, 3, 4)


def own(seed):
    return drawing_from({"cpu": torch.Generator().manual_seed(seed)})


def gradient(layer, X):
    X = X.clone().requires_grad_()
    out = layer(X)
    out.square().sum().backward()
    return out.detach(), X.grad


@pytest.mark.parametrize("p", [0, 0.3, 0.9, 1])
@pytest.mark.parametrize("X", [MAPS, MAPS.to(memory_format=torch.channels_last), MAPS.double()])
@pytest.mark.parametrize(("layer", "torchs"), [(Dropout, nn.Dropout), (Dropout2d, nn.Dropout2d)])
def test_dropout_is_that_of_torch(layer, torchs, X, p):
    torch.manual_seed(3)
    expected = gradient(torchs(p), X), gradient(torchs(p), X)
    after = torch.get_rng_state()
    torch.manual_seed(3)
    outside = gradient(layer(p), X), gradient(layer(p), X)
    assert torch.equal(torch.get_rng_state(), after)
    with own(3):
        within = gradient(layer(p), X), gradient(layer(p), X)
        assert torch.equal(generator_for(CPU).get_state(), after)
        assert layer(p).eval()(X) is X
    assert torch.equal(torch.get_rng_state(), after)
    for found in (outside, within):
        for a, b in zip(found, expected, strict=True):
            assert all(map(torch.equal, a, b))
    assert repr(layer(p)) == repr(torchs(p))


@pytest.mark.parametrize(
    ("draw", "torchs"), [(rand_like, torch.rand_like), (randn_like, torch.randn_like)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_are_those_of_torch(draw, torchs, dtype):
    X = torch.zeros(7, 5, dtype=dtype)
    torch.manual_seed(3)
    expected = torchs(X)
    torch.manual_seed(3)
    assert torch.equal(draw(X), expected)
    with own(3):
        assert torch.equal(draw(X), expected)


def test_generators_are_those_of_a_thread_and_of_the_innermost_block():
    seen = []
    with own(3):
        outer = generator_for(CPU)
        with own(4):
            assert generator_for(CPU) is not outer
        assert generator_for(CPU) is outer
        assert generator_for(torch.device("meta")) is None
        thread = threading.Thread(target=lambda: seen.append(generator_for(CPU)))
        thread.start()
        thread.join()
        with pytest.raises(ValueError, match="over"), own(5):
            raise ValueError("over")
        assert generator_for(CPU) is outer
    assert generator_for(CPU) is None
    assert seen == [None]


def test_layers_are_pickled():
    assert pickle.loads(pickle.dumps(Dropout(0.25))).p == 0.25
