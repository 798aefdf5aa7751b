"""The energy network: its gradient, its noise, and what scoring leaves behind."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from anomaly_estimators.nn import energy as energy_module
from anomaly_estimators.nn.conv import ConvEncoder
from anomaly_estimators.nn.energy import EnergyNetwork
from anomaly_estimators.nn.mlp import ACTIVATIONS, MLP

SMOOTH = ["elu", "gelu", "sigmoid", "silu", "softplus", "tanh"]
ENCODERS = {
    "linear": lambda activation: MLP([12, 3], activation),
    "deep": lambda activation: MLP([12, 7, 5, 2], activation),
    "image": lambda activation: ConvEncoder((1, 3, 4), (3,), (4,), 2, activation),
    "series": lambda activation: ConvEncoder((2, 6), (3, 2), (), 3, activation),
}
networks = pytest.mark.parametrize("kind", ENCODERS)


def make(kind="deep", activation="softplus", noise=0.5):
    torch.manual_seed(0)
    network = EnergyNetwork(ENCODERS[kind](activation), 12, activation, noise).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return network


def rows(n=5, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, 12)))


@networks
@pytest.mark.parametrize("activation", SMOOTH)
def test_gradient_is_the_limit_of_differences(kind, activation):
    network, X, step = make(kind, activation), rows(), 1e-6
    with torch.no_grad():
        differences = torch.stack(
            [
                (network.energy(X + step * e) - network.energy(X - step * e)) / (2 * step)
                for e in torch.eye(12).double()
            ],
            dim=1,
        )
    torch.testing.assert_close(network.gradient(X), differences, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("activation", SMOOTH)
def test_energy_is_that_of_numpy(activation):
    network, X = make("deep", activation), rows()
    g = ACTIVATIONS[activation]()
    h = X.numpy()
    for layer in network.encoder:
        if isinstance(layer, nn.Linear):
            z = h @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
            h = g(torch.from_numpy(z)).numpy()
            if activation == "softplus":
                np.testing.assert_allclose(h, np.log1p(np.exp(z)))
    offset = X.numpy() - network.visible_bias.detach().numpy()
    expected = 0.5 * (offset**2).sum(1) - h.sum(1)
    with torch.no_grad():
        np.testing.assert_allclose(network.features(X), h, rtol=1e-12)
        np.testing.assert_allclose(network.energy(X), expected, rtol=1e-12)


@networks
def test_gradient_of_a_row_does_not_depend_on_the_others(kind, monkeypatch):
    network, X = make(kind), rows(9)
    whole = network.gradient(X)
    for i in range(9):
        torch.testing.assert_close(network.gradient(X[i : i + 1])[0], whole[i])
    monkeypatch.setattr(energy_module, "_ROWS", 4)
    torch.testing.assert_close(network.gradient(X), whole)


def test_gradient_is_computed_some_rows_at_a_time(monkeypatch):
    network, seen = make(), []
    monkeypatch.setattr(energy_module, "_ROWS", 4)
    network.encoder.register_forward_hook(lambda module, args, output: seen.append(len(output)))
    network.gradient(rows(9))
    assert seen == [4, 4, 1]


@networks
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_gradient_where_gradients_are_off(kind, mode):
    network = make(kind)
    expected = network.gradient(rows())
    with mode():
        found = network.gradient(rows())
        copied = copy.deepcopy(network).gradient(rows())
    assert torch.equal(found, expected) and torch.equal(copied, expected)
    assert not found.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("noise", [0.1, 2.0])
def test_training_rebuilds_noisy_rows(noise):
    """Against the energies' gradient at rows with the same noise, drawn apart."""
    network, X = make(noise=noise), rows(400)
    torch.manual_seed(3)
    found = network(X)
    torch.manual_seed(3)
    noisy = X + noise * torch.randn(400, 12, dtype=torch.float64)
    torch.testing.assert_close(found, noisy - network.gradient(noisy))
    assert found.requires_grad
    assert not torch.isclose(network(X), found).any()


def test_evaluation_has_the_same_noise_in_every_call():
    network, X = make(noise=0.7).eval(), rows(2000)
    before = torch.random.get_rng_state()
    with torch.no_grad():
        found = network(X)
        assert torch.equal(network(X), found)
        quiet = X - network.gradient(X)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not torch.isclose(found, quiet).all(dim=1).any()
    assert not found.requires_grad


def test_noise_in_evaluation_is_as_wide_as_in_training():
    """Seen through a network whose reconstruction is the row itself but for a factor."""
    network = EnergyNetwork(_Quadratic(), 3, "identity", noise=0.7).eval()
    X = torch.ones(20_000, 3)
    with torch.no_grad():
        residual = 2.0 * network(X) - X
    assert residual.std().item() == pytest.approx(0.7, rel=0.02)
    assert residual.mean().item() == pytest.approx(0.0, abs=0.02)


class _Quadratic(nn.Module):
    """Its energy is a quarter of the squared length: f halves a row."""

    def forward(self, X):
        return 0.25 * X.square()


@networks
def test_training_reaches_every_parameter(kind):
    network = make(kind)
    network(rows(50)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())


def test_a_graph_is_made_only_where_it_is_wanted(monkeypatch):
    network, wanted, original = make(), [], energy_module.energy_reconstruction

    def record(energy, X, *, create_graph):
        wanted.append(create_graph)
        return original(energy, X, create_graph=create_graph)

    monkeypatch.setattr(energy_module, "energy_reconstruction", record)
    network(rows())
    with torch.no_grad():
        network(rows())
    assert wanted == [True, False]
