"""Noise in training, none in evaluation."""

import pytest
import torch

from anomaly_estimators.nn.noise import GaussianNoise


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("std", [0.1, 3.0])
def test_noise_is_centred_and_as_wide_as_asked_for(dtype, std):
    torch.manual_seed(0)
    X = torch.linspace(-5.0, 5.0, 200_000, dtype=dtype).reshape(-1, 4)
    residual = GaussianNoise(std)(X) - X
    assert residual.dtype == dtype
    assert residual.mean().item() == pytest.approx(0.0, abs=0.01 * std)
    assert residual.std().item() == pytest.approx(std, rel=0.01)
    assert (residual.abs() < std).double().mean().item() == pytest.approx(0.6827, abs=0.005)
    # Each value has noise of its own.
    assert abs(torch.corrcoef(residual.T)[0, 1:]).max() < 0.02


@pytest.mark.parametrize(("std", "training"), [(0.0, True), (2.0, False)])
def test_nothing_is_drawn_where_nothing_is_added(std, training):
    X = torch.ones(3, 2)
    before = torch.random.get_rng_state()
    assert GaussianNoise(std).train(training)(X) is X
    assert torch.equal(torch.random.get_rng_state(), before)
