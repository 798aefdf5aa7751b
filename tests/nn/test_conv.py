"""Convolutional networks of flat rows."""

import copy
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from anomaly_estimators import Autoencoder
from anomaly_estimators.nn.autoencoder import AutoencoderNetwork
from anomaly_estimators.nn.conv import (
    ConvDecoder,
    ConvEncoder,
    UpsampledConv2d,
    conv_autoencoder,
    fold,
)
from anomaly_estimators.nn.mlp import ACTIVATIONS
from anomaly_estimators.training.pretraining import autoencoder_phases

PAPER = {
    "MNIST": ((1, 28, 28), (8, 4), (), 32),
    "Fashion-MNIST": ((1, 28, 28), (16, 32), (64,), 32),
    "CIFAR-10": ((3, 32, 32), (32, 64, 128), (), 128),
}
# Sides that halve evenly, odd ones, unequal ones, one pixel left at the end, and series.
SMALL = [
    ((1, 8, 8), (3, 2), (), 4),
    ((3, 7, 15), (2, 4), (6,), 3),
    ((2, 3, 2), (5,), (4, 3), 1),
    ((1, 187), (3, 2, 4), (), 2),
    ((2, 13), (3,), (5,), 2),
]
small = pytest.mark.parametrize("sizes", SMALL, ids=str)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def n_features(sizes):
    return math.prod(sizes[0])


def as_transposed(layer):
    """Weights of the transposed convolution that a convolution of stride 1 is."""
    return layer.weight.flip(-1, -2).transpose(0, 1)


def upsampled(maps, size):
    """Nearest upsampling by 2 along the axes that are to grow; the last pixel fills odd sizes."""
    for axis in (-1, -2):
        if size[axis] > 1:
            maps = maps.repeat_interleave(2, axis)
            if maps.shape[axis] < size[axis]:
                last = maps.narrow(axis, -1, 1)
                maps = torch.cat([maps, last, last], axis)
    return maps


# The formulas


@pytest.mark.parametrize("bias", [True, False])
def test_network_for_mnist_is_its_formula(bias):
    network = conv_autoencoder(*PAPER["MNIST"], bias=bias).double()
    if bias:
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                nn.init.normal_(parameter)
    first, second = (module[0] for module in network.encoder.convolutions)
    third, fourth = (module[0] for module in network.decoder.deconvolutions)
    code_layer, map_layer = network.encoder.dense[0], network.decoder.dense[0]
    X = torch.rand(6, 784, dtype=torch.float64)

    h = F.conv2d(X.reshape(6, 1, 28, 28), first.weight, first.bias, padding=2)
    h = F.max_pool2d(F.leaky_relu(h, 0.1), 2)
    h = F.conv2d(h, second.weight, second.bias, padding=2)
    h = F.max_pool2d(F.leaky_relu(h, 0.1), 2)
    assert h.shape == (6, 4, 7, 7)
    code = F.linear(h.reshape(6, 196), code_layer.weight, code_layer.bias)
    g = F.leaky_relu(F.linear(code, map_layer.weight, map_layer.bias), 0.1).reshape(6, 4, 7, 7)
    g = F.conv_transpose2d(
        F.interpolate(g, scale_factor=2), as_transposed(third), third.bias, padding=2
    )
    g = F.leaky_relu(g, 0.1)
    g = F.conv_transpose2d(
        F.interpolate(g, scale_factor=2), as_transposed(fourth), fourth.bias, padding=2
    )

    found = network(X)
    torch.testing.assert_close(found.code, code)
    torch.testing.assert_close(found.reconstruction, g.reshape(6, 784))
    # And so are its gradients.
    parameters = list(network.parameters())
    expected = torch.autograd.grad((g.reshape(6, 784) - X).square().sum(), parameters)
    gradients = torch.autograd.grad((found.reconstruction - X).square().sum(), parameters)
    torch.testing.assert_close(gradients, expected)


@small
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_encoder_normalises_then_activates_then_pools(sizes, activation, training):
    encoder = ConvEncoder(*sizes, activation, batch_norm=True).double().train(training)
    shape = sizes[0]
    series = len(shape) == 2
    X = torch.randn(5, n_features(sizes), dtype=torch.float64)
    h = X.reshape(5, *shape)
    for module in encoder.convolutions:
        layer = module[0]
        if series:
            h = F.conv1d(h, layer.weight.squeeze(2), layer.bias, padding=2)
        else:
            h = F.conv2d(h, layer.weight, layer.bias, padding=2)
        axes = (0, *range(2, h.ndim))
        if training:
            h = h - h.mean(axes, keepdim=True)
            h = h / (h.square().mean(axes, keepdim=True) + 1e-5).sqrt()
        else:
            h = h / math.sqrt(1 + 1e-5)
        h = ACTIVATIONS[activation]()(h)
        h = F.max_pool1d(h, 2) if series else F.max_pool2d(h, 2)
    torch.testing.assert_close(encoder(X), encoder.dense(h.reshape(5, -1)))


@settings(max_examples=60, deadline=None)
@given(
    n_in=st.integers(1, 3),
    n_out=st.integers(1, 3),
    half=st.integers(0, 5),
    height=st.integers(1, 9),
    width=st.integers(1, 12),
    bias=st.booleans(),
)
def test_upsampled_convolution_is_upsampling_and_a_deconvolution(
    n_in, n_out, half, height, width, bias
):
    kernel = (1 if height == 1 else 2 * half + 1, 2 * half + 1)
    layer = UpsampledConv2d(n_in, n_out, kernel, (height, width), bias=bias).double()
    maps = torch.randn(2, n_in, max(height // 2, 1), max(width // 2, 1), dtype=torch.float64)
    expected = F.conv_transpose2d(
        upsampled(maps, (height, width)),
        as_transposed(layer),
        layer.bias,
        padding=tuple(length // 2 for length in kernel),
    )
    torch.testing.assert_close(layer(maps), expected[..., :height, :width])


@small
def test_decoder_upsamples_to_the_sizes_of_the_encoder(sizes):
    network = conv_autoencoder(*sizes, batch_norm=True, output_activation="sigmoid").double().eval()
    X = torch.rand(4, n_features(sizes), dtype=torch.float64)
    n_channels, *sides = sizes[0]
    maps = X.reshape(4, n_channels, -1, sides[-1])
    shapes = []
    for module in network.encoder.convolutions:
        shapes.append(maps.shape)
        maps = module(maps)
    g = network.decoder.dense(network.encoder(X)).reshape(maps.shape)
    scale = 1 / math.sqrt(1 + 1e-5)
    for module, shape in zip(network.decoder.deconvolutions, shapes[::-1], strict=True):
        g = F.leaky_relu(g * scale, 0.1)
        layer = module[0]
        padding = tuple(length // 2 for length in layer.kernel_size)
        g = upsampled(g, shape[2:])
        g = F.conv_transpose2d(g, as_transposed(layer), layer.bias, padding=padding)
        g = g[..., : shape[2], : shape[3]]
    torch.testing.assert_close(network(X).reconstruction, g.sigmoid().reshape(X.shape))


# Shapes


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_shape_comes_back(data):
    channels = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    side = st.integers(2 ** len(channels), 2 ** len(channels) + 12)
    n_axes = data.draw(st.integers(1, 2))
    shape = (data.draw(st.integers(1, 3)), *data.draw(st.tuples(*[side] * n_axes)))
    hidden = data.draw(st.lists(st.integers(1, 5), max_size=2))
    latent_dim, batch_norm = data.draw(st.integers(1, 5)), data.draw(st.booleans())
    network = conv_autoencoder(
        shape,
        channels,
        hidden,
        latent_dim,
        kernel_size=data.draw(st.sampled_from([1, 3, 5, 7])),
        bias=data.draw(st.booleans()),
        batch_norm=batch_norm,
    )
    X = torch.randn(data.draw(st.integers(1, 4)), math.prod(shape))
    for training in (True, False):
        code, reconstruction = network.train(training)(X)
        assert code.shape == (len(X), latent_dim)
        assert reconstruction.shape == X.shape
        assert reconstruction.isfinite().all()


@pytest.mark.parametrize("sizes", [*PAPER.values(), *SMALL], ids=str)
def test_decoder_mirrors_the_encoder(sizes):
    network = conv_autoencoder(*sizes)
    assert isinstance(network, AutoencoderNetwork)
    assert isinstance(network.encoder, ConvEncoder) and isinstance(network.decoder, ConvDecoder)
    shapes = [
        [tuple(p.shape) for p in part.parameters() if p.ndim > 1]
        for part in (network.encoder, network.decoder)
    ]
    assert shapes[1] == [(b, a, *rest) for a, b, *rest in shapes[0][::-1]]
    shape, channels, hidden, latent_dim = sizes
    kernel = (5, 5) if len(shape) == 3 else (1, 5)
    assert shapes[0][: len(channels)] == [
        (n_out, n_in, *kernel) for n_in, n_out in pairwise([shape[0], *channels])
    ]
    n_pooled = channels[-1] * math.prod(side // 2 ** len(channels) for side in shape[1:])
    assert shapes[0][len(channels) :] == [
        (n_out, n_in) for n_in, n_out in pairwise([n_pooled, *hidden, latent_dim])
    ]


@pytest.mark.parametrize("shape", [(1, 4, 5), (3, 4, 5), (2, 1, 6)], ids=str)
def test_fold_puts_features_where_they_were(shape):
    X = torch.randn(3, math.prod(shape))
    assert torch.equal(fold(X, shape), X.reshape(3, *shape))
    assert torch.equal(fold(X, shape).flatten(1), X)


# Bias, initial weights


@small
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("activation", ["leaky_relu", "tanh"])
def test_no_constant_without_bias(sizes, batch_norm, activation):
    network = conv_autoencoder(*sizes, activation, bias=False, batch_norm=batch_norm).eval()
    assert not [name for name, _ in network.named_parameters() if not name.endswith("weight")]
    assert all(p.ndim > 1 for p in network.parameters())
    code, reconstruction = network(torch.zeros(2, n_features(sizes)))
    assert not code.any() and not reconstruction.any()
    code, reconstruction = network(torch.ones(2, n_features(sizes)))
    assert code.any() and reconstruction.any()


@small
def test_batch_normalisation_has_no_affine_terms(sizes):
    network = conv_autoencoder(*sizes, batch_norm=True)
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    # After every layer but those of the code and of the reconstruction.
    assert len(norms) == 2 * (len(sizes[1]) + len(sizes[2]))
    assert all(norm.weight is None and norm.bias is None for norm in norms)


def test_initial_weights_keep_the_variance():
    network = conv_autoencoder((4, 64, 64), (64, 64), (), 8, "tanh", kernel_size=3)
    layers = [module[0] for module in network.encoder.convolutions]
    layers += [module[0] for module in network.decoder.deconvolutions]
    for layer in layers:
        n_out, n_in, *kernel = layer.weight.shape
        glorot = 2 / ((n_in + n_out) * math.prod(kernel))
        assert layer.weight.var().item() == pytest.approx(glorot, rel=0.1)
        assert not layer.bias.any()
    network = conv_autoencoder((4, 64, 64), (64, 64), (), 8, kernel_size=3)
    for layer in (network.encoder.convolutions[1][0], network.decoder.deconvolutions[0][0]):
        he = 2 / (64 * 9)
        assert layer.weight.var().item() == pytest.approx(he, rel=0.1)


def test_initial_weights_come_from_the_global_generator():
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(torch.cat([p.flatten() for p in conv_autoencoder(*SMALL[1]).parameters()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


# Training and pre-training


@small
@pytest.mark.parametrize("batch_norm", [True, False])
def test_gradients_reach_every_parameter(sizes, batch_norm):
    network = conv_autoencoder(*sizes, "tanh", batch_norm=batch_norm)
    X = torch.randn(7, n_features(sizes))
    (network(X).reconstruction - X).square().sum().backward()
    # A bias in front of batch normalisation is subtracted again, up to rounding.
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert all(p.grad.any() for p in network.parameters() if p.ndim > 1)
    if not batch_norm:
        assert all(p.grad.any() for p in network.parameters())


@small
@pytest.mark.parametrize("batch_norm", [True, False])
def test_blocks_are_counterparts_and_share_the_weights(sizes, batch_norm):
    network = conv_autoencoder(*sizes, batch_norm=batch_norm).eval()
    X = torch.randn(4, n_features(sizes))
    encoder, decoder = network.encoder.blocks(), network.decoder.blocks()
    assert len(encoder) == len(decoder) == len(sizes[1]) + len(sizes[2]) + 1
    for part, blocks in ((network.encoder, encoder), (network.decoder, decoder)):
        # In the order of the network, and none of them twice.
        found = [id(p) for block in blocks for p in block.parameters()]
        assert found == [id(p) for p in part.parameters()]
        assert {id(b) for block in blocks for b in block.buffers()} == {
            id(b) for b in part.buffers()
        }
    rows = X
    for inner, outer in zip(encoder, decoder[::-1], strict=True):
        codes = inner(rows)
        assert codes.ndim == 2
        assert outer(codes).shape == rows.shape
        rows = codes
    torch.testing.assert_close(rows, network.encoder(X))
    for block in decoder:
        rows = block(rows)
    torch.testing.assert_close(rows, network(X).reconstruction)


@pytest.mark.parametrize("sizes", [SMALL[1], SMALL[3]], ids=str)
def test_layers_are_pretrained_one_by_one(sizes):
    network = conv_autoencoder(*sizes)
    X = torch.randn(30, n_features(sizes))
    phases = autoencoder_phases(network, "layerwise", 1, corruption=0.1)
    assert len(phases) == len(sizes[1]) + len(sizes[2]) + 2
    trained = set()
    for phase in phases:
        optimizer = torch.optim.Adam(phase.module.parameters(), lr=1e-2)
        losses = []
        for _ in range(25):
            loss = phase.loss(phase.module(X), X, None)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0], phase.name
        trained |= {id(p) for p in phase.module.parameters() if p.grad.any()}
    assert trained == {id(p) for p in network.parameters()}


def test_detector_takes_the_network_in_the_place_of_its_own():
    X = np.random.default_rng(0).normal(size=(40, 2 * 9))
    detector = Autoencoder(
        network=lambda n_features: conv_autoencoder((2, n_features // 2), (3, 4), (), 2),
        pretrain="layerwise",
        max_iter=2,
        random_state=0,
    ).fit(X)
    assert detector.transform(X).shape == (40, 2)
    scores = detector.score_samples(X)
    assert len(set(scores)) == 40
    alone = np.concatenate([detector.score_samples(X[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(alone, scores[:5], rtol=1e-10)


# What the rest of the package does with networks


@small
def test_rows_do_not_depend_on_their_batch_in_evaluation(sizes):
    network = conv_autoencoder(*sizes, batch_norm=True).double()
    X = torch.randn(6, n_features(sizes), dtype=torch.float64)
    network(X)
    network.eval()
    whole = network(X)
    alone = [network(x[None]) for x in X]
    torch.testing.assert_close(whole.code, torch.cat([row.code for row in alone]))
    torch.testing.assert_close(
        whole.reconstruction, torch.cat([row.reconstruction for row in alone])
    )


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("shape", [(1, 2, 2), (1, 2)], ids=str)
def test_batch_of_one_row_trains(shape, batch_norm):
    # One pixel is left: a single value a channel, with no variance.
    network = conv_autoencoder(shape, (3,), (4,), 2, batch_norm=batch_norm).train()
    assert network(torch.randn(1, math.prod(shape))).reconstruction.isfinite().all()


@small
def test_memory_layout_of_the_rows_is_irrelevant(sizes):
    network = conv_autoencoder(*sizes).double().eval()
    X = torch.randn(6, n_features(sizes), dtype=torch.float64)
    expected = network(X).reconstruction
    strided = torch.empty(12, 2 * n_features(sizes), dtype=torch.float64)[::2, ::2].copy_(X)
    for rows in (X.T.contiguous().T, strided):
        assert not rows.is_contiguous()
        torch.testing.assert_close(network(rows).reconstruction, expected)
    network.to(memory_format=torch.channels_last)
    torch.testing.assert_close(network(X).reconstruction, expected)


@small
def test_network_without_values_has_the_shapes_of_the_network(sizes):
    network = conv_autoencoder(*sizes, batch_norm=True)
    with torch.device("meta"):
        shadow = conv_autoencoder(*sizes, batch_norm=True)
        assert shadow(torch.zeros(3, n_features(sizes))).reconstruction.shape == (
            3,
            n_features(sizes),
        )
    assert all(tensor.is_meta for tensor in shadow.state_dict().values())
    assert {name: (t.shape, t.dtype) for name, t in shadow.state_dict().items()} == {
        name: (t.shape, t.dtype) for name, t in network.state_dict().items()
    }
    # Nothing but the state is needed to bring it to life.
    shadow.load_state_dict(network.state_dict(), assign=True)
    X = torch.randn(3, n_features(sizes))
    assert torch.equal(shadow.eval()(X).code, network.eval()(X).code)


@small
def test_copies_and_stored_weights_give_the_same_network(sizes):
    network = conv_autoencoder(*sizes, batch_norm=True)
    X = torch.randn(4, n_features(sizes))
    network(X)
    network.eval()
    other = conv_autoencoder(*sizes, batch_norm=True).eval()
    assert not torch.equal(other(X).code, network(X).code)
    other.load_state_dict(network.state_dict())
    for twin in (other, copy.deepcopy(network)):
        assert torch.equal(twin(X).reconstruction, network(X).reconstruction)
        assert not {id(p) for p in twin.parameters()} & {id(p) for p in network.parameters()}
    double = copy.deepcopy(network).double()(X.double()).reconstruction
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), network(X).reconstruction, rtol=1e-3, atol=1e-4)


@small
@pytest.mark.parametrize("batch_norm", [True, False])
def test_many_networks_run_as_one(sizes, batch_norm):
    networks = [conv_autoencoder(*sizes, batch_norm=batch_norm).double() for _ in range(3)]
    parameters, buffers = torch.func.stack_module_state(networks)
    skeleton = copy.deepcopy(networks[0]).to("meta")
    X = torch.randn(5, n_features(sizes), dtype=torch.float64)

    def loss(parameters, buffers):
        outputs = torch.func.functional_call(skeleton, (parameters, buffers), (X,))
        return (outputs.reconstruction - X).square().sum()

    mapped = torch.func.vmap(torch.func.grad_and_value(loss))
    gradients, losses = mapped(parameters, buffers)
    for i, network in enumerate(networks):
        expected = (network(X).reconstruction - X).square().sum()
        expected.backward()
        torch.testing.assert_close(losses[i], expected)
        for name, parameter in network.named_parameters():
            torch.testing.assert_close(gradients[name][i], parameter.grad)


# Errors


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"input_shape": (28,)}, r"\(channels, height, width\)"),
        ({"input_shape": (1, 2, 28, 28)}, r"\(channels, length\) for series"),
        ({"input_shape": (1, 3, 28)}, "give channels at most 1 long"),
        ({"input_shape": (1, 3)}, "give channels at most 1 long"),
        ({"input_shape": (5, 1)}, "use a fully connected network"),
        ({"input_shape": (3, 1, 28)}, r"a series is given as \(3, 28\)"),
        ({"input_shape": (0, 28, 28)}, "input_shape must hold integers of at least 1; got 0"),
        ({"input_shape": (1, 28.0, 28)}, "got 28.0"),
        ({"channels": ()}, "mlp_autoencoder"),
        ({"channels": (8, -4)}, "channels must hold integers of at least 1; got -4"),
        ({"channels": (8, 4, 4, 4, 4)}, "give channels at most 4 long"),
        ({"hidden_layer_sizes": (4, 0)}, "hidden_layer_sizes must"),
        ({"latent_dim": 0}, "latent_dim must"),
        ({"latent_dim": True}, "latent_dim must"),
        ({"kernel_size": 4}, "must be odd.*take 5"),
        ({"kernel_size": 0}, "kernel_size must"),
        ({"activation": "step"}, "'step' is not known: choose one of .*leaky_relu"),
    ],
)
def test_errors_name_the_cure(changes, match):
    names = ("input_shape", "channels", "hidden_layer_sizes", "latent_dim")
    sizes = dict(zip(names, PAPER["MNIST"], strict=True))
    for build in (ConvEncoder, ConvDecoder, conv_autoencoder):
        with pytest.raises(ValueError, match=match):
            build(**{**sizes, **changes})


def test_output_activation_must_be_known():
    with pytest.raises(ValueError, match="'softmax' is not known"):
        conv_autoencoder(*PAPER["MNIST"], output_activation="softmax")


def test_rows_of_another_width_are_refused():
    network = conv_autoencoder(*PAPER["MNIST"])
    with pytest.raises(ValueError, match="Rows of 783 features cannot be folded.*has 784"):
        network(torch.zeros(2, 783))
