"""Networks as plain torch modules."""

import numpy as np
import pytest
import torch
from torch import nn

from anomaly_estimators.functional.mixture import mixture_energy
from anomaly_estimators.nn.autoencoder import AutoencoderNetwork, mlp_autoencoder
from anomaly_estimators.nn.mixture import MixtureHead
from anomaly_estimators.nn.mlp import ACTIVATIONS, MLP
from anomaly_estimators.nn.normalisation import BatchNorm
from anomaly_estimators.nn.randomness import Dropout

SIZES = [(3, 2), (5, 4, 1), (6, 12, 4, 2)]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_fully_connected_network_is_its_formula(sizes, activation, bias, batch_norm):
    network = MLP(sizes, activation, bias=bias, batch_norm=batch_norm).double()
    X = torch.randn(7, sizes[0], dtype=torch.float64)
    expected = X
    layers = [layer for layer in network if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in layers] == [
        *zip(sizes, sizes[1:], strict=False)
    ]
    for depth, layer in enumerate(layers):
        assert (layer.bias is not None) == bias
        expected = expected @ layer.weight.T + (layer.bias if bias else 0)
        if depth < len(layers) - 1:
            if batch_norm:
                spread = (expected.var(dim=0, correction=0) + 1e-5).sqrt()
                expected = (expected - expected.mean(dim=0)) / spread
            expected = ACTIVATIONS[activation]()(expected)
    torch.testing.assert_close(network(X), expected)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_gradients_reach_every_layer(sizes):
    network = MLP(sizes)
    network(torch.randn(7, sizes[0])).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_blocks_are_the_layers_and_share_their_weights(sizes, dropout, batch_norm):
    network = MLP(sizes, dropout=dropout, batch_norm=batch_norm)
    network(torch.randn(9, sizes[0]))  # running statistics of its own
    network.eval()
    blocks = network.blocks()
    assert len(blocks) == len(sizes) - 1
    assert all(isinstance(block[0], nn.Linear) for block in blocks)
    assert {id(p) for block in blocks for p in block.parameters()} == {
        id(p) for p in network.parameters()
    }
    X = torch.randn(4, sizes[0])
    out = X
    for block in blocks:
        out = block.eval()(out)
    torch.testing.assert_close(out, network(X))


def test_dropout_acts_on_hidden_layers_in_training_only():
    network = MLP([4, 1000, 2], dropout=0.5)
    assert [type(layer) for layer in network] == [nn.Linear, nn.Tanh, Dropout, nn.Linear]
    X = torch.randn(3, 4)
    assert not torch.equal(network(X), network(X))
    network.eval()
    assert torch.equal(network(X), network(X))


def test_initial_weights_come_from_the_global_generator():
    torch.manual_seed(0)
    a = MLP([4, 3, 2])
    torch.manual_seed(0)
    b = MLP([4, 3, 2])
    c = MLP([4, 3, 2])
    assert torch.equal(a[0].weight, b[0].weight)
    assert not torch.equal(a[0].weight, c[0].weight)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_normalisation_brings_no_bias_back(bias, batch_norm):
    network = mlp_autoencoder(6, (5, 4), 2, "relu", bias=bias, batch_norm=batch_norm)
    assert {p.ndim for p in network.parameters()} == ({1, 2} if bias else {2})
    n_norms = sum(isinstance(layer, nn.BatchNorm1d) for layer in network.modules())
    assert n_norms == (4 if batch_norm else 0)
    if not bias:
        code, reconstruction = network.eval()(torch.zeros(3, 6))
        assert not code.any() and not reconstruction.any()


@pytest.mark.parametrize("affine", [False, True])
def test_single_row_is_normalised_by_the_running_statistics(affine):
    layer, reference = BatchNorm(3, affine=affine), nn.BatchNorm1d(3, affine=affine)
    rows = torch.randn(20, 3) * 2 + 1
    torch.testing.assert_close(layer(rows), reference(rows))
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    out = layer.train()(rows[:1])
    assert all(torch.equal(before[name], t) for name, t in layer.state_dict().items())
    torch.testing.assert_close(out, reference.eval()(rows[:1]))
    assert out.isfinite().all()


@pytest.mark.parametrize("hidden", [(), (7,), (9, 4)], ids=str)
def test_decoder_mirrors_the_encoder(hidden):
    network = mlp_autoencoder(6, hidden, 2)
    shapes = [
        [tuple(p.shape) for p in part.parameters() if p.ndim == 2]
        for part in (network.encoder, network.decoder)
    ]
    assert shapes[1] == [shape[::-1] for shape in shapes[0][::-1]]
    X = torch.randn(5, 6)
    code, reconstruction = network(X)
    assert code.shape == (5, 2) and reconstruction.shape == (5, 6)
    torch.testing.assert_close(code, network.encoder(X))
    torch.testing.assert_close(reconstruction, network.decoder(code))
    assert isinstance(network, AutoencoderNetwork)


def test_mixture_head_starts_as_a_standard_mixture_and_is_saved_whole():
    head = MixtureHead(3, 4, (10,)).eval()
    z = torch.randn(6, 3)
    expected = 0.5 * z.double().square().sum(1) + 1.5 * np.log(2 * np.pi)
    torch.testing.assert_close(head.energy(z), expected)
    assert head.energy(z).dtype == torch.float64
    assert {"weights", "means", "covariances", "cholesky"} <= set(head.state_dict())
    assert not any(name in dict(head.named_parameters()) for name in ("weights", "means"))
    with torch.no_grad():
        head.means.add_(1.0)
    copy = MixtureHead(3, 4, (10,)).eval()
    copy.load_state_dict(head.state_dict())
    torch.testing.assert_close(copy.energy(z), head.energy(z))
    torch.testing.assert_close(
        copy.energy(z), mixture_energy(z.double(), head.weights, head.means, head.cholesky)
    )


def test_mixture_head_takes_an_own_network():
    network = nn.Linear(3, 4)
    head = MixtureHead(3, 4, (10,), network=network)
    z = torch.randn(2, 3)
    torch.testing.assert_close(head(z), network(z))
