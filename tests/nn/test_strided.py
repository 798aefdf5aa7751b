"""Convolutional networks with strides."""

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
from anomaly_estimators.nn.mlp import ACTIVATIONS
from anomaly_estimators.nn.strided import (
    StridedConvDecoder,
    StridedConvEncoder,
    strided_autoencoder,
)
from anomaly_estimators.training.pretraining import autoencoder_phases

MNIST = ((1, 28, 28), (32, 32), (128,), 128)
# Even sides, odd ones, unequal ones, one pixel left at the end, and series.
SMALL = [
    ((1, 8, 8), (3, 2), (), 4),
    ((3, 7, 15), (2, 4), (6,), 3),
    ((2, 3, 2), (5,), (4, 3), 1),
    ((1, 187), (3, 2, 4), (), 2),
    ((2, 13), (3, 4, 3, 2), (5,), 2),
]
small = pytest.mark.parametrize("sizes", SMALL, ids=str)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def n_features(sizes):
    return math.prod(sizes[0])


def n_parameters(module):
    return sum(p.numel() for p in module.parameters())


def randomise_biases(network):
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)


def stretched(maps, kernel, bias, size):
    """Transposed convolution by its definition: zeros between the pixels, then a convolution."""
    n, channels, height, width = maps.shape
    wide = maps.new_zeros(n, channels, *size)
    steps = [2 if length > 1 else 1 for length in size]
    wide[:, :, :: steps[0], :: steps[1]] = maps
    padding = tuple(length // 2 for length in kernel.shape[2:])
    return F.conv2d(wide, kernel.flip(-1, -2), bias, padding=padding)


# The formulas


@small
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_network_is_its_formula(sizes, training, batch_norm, kernel):
    network = strided_autoencoder(*sizes, "tanh", kernel_size=kernel, batch_norm=batch_norm)
    network = network.double().train(training)
    randomise_biases(network)

    def after(h):
        axes = [axis for axis in range(h.ndim) if axis != 1]
        if batch_norm and training:
            h = h - h.mean(axes, keepdim=True)
            h = h / (h.square().mean(axes, keepdim=True) + 1e-5).sqrt()
        elif batch_norm:
            h = h / math.sqrt(1 + 1e-5)
        return h.tanh()

    shape = (sizes[0][0], *[1, *sizes[0][1:]][-2:])
    X = torch.randn(5, n_features(sizes), dtype=torch.float64)
    h = X.reshape(5, *shape)
    shapes = []
    for module in network.encoder.convolutions:
        layer = module[0]
        padding = tuple(length // 2 for length in layer.weight.shape[2:])
        shapes.append(h.shape[2:])
        h = F.conv2d(h, layer.weight, layer.bias, padding=padding)
        # Of all positions, every second.
        h = after(h[:, :, ::2, ::2])
    code = network.encoder.dense(h.reshape(5, -1))
    found = network(X)
    torch.testing.assert_close(found.code, code)

    g = after(network.decoder.dense(code)).reshape(h.shape)
    for i, (module, size) in enumerate(
        zip(network.decoder.deconvolutions, shapes[::-1], strict=True)
    ):
        layer = module[0]
        g = stretched(g, layer.weight, layer.bias, size)
        if i < len(shapes) - 1:
            g = after(g)
    torch.testing.assert_close(found.reconstruction, g.reshape(X.shape))


@small
def test_deconvolution_is_the_adjoint_of_the_convolution(sizes):
    network = strided_autoencoder(*sizes).double()
    modules = zip(network.encoder.convolutions, network.decoder.deconvolutions[::-1], strict=True)
    shape = (sizes[0][0], *[1, *sizes[0][1:]][-2:])
    x = torch.randn(1, *shape, dtype=torch.float64)
    for forward, backward in modules:
        forward, backward = copy.deepcopy(forward[0]), copy.deepcopy(backward[0])
        backward.weight.data = forward.weight.data.transpose(0, 1)
        nn.init.zeros_(forward.bias), nn.init.zeros_(backward.bias)
        h = forward(x)
        y = torch.randn_like(h)
        torch.testing.assert_close((h * y).sum(), (x * backward(y)).sum())
        x = h.detach()


# Shapes


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_shape_comes_back(data):
    channels = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    least = 2 ** (len(channels) - 1) + 1
    side = st.integers(least, least + 12)
    n_axes = data.draw(st.integers(1, 2))
    shape = (data.draw(st.integers(1, 3)), *data.draw(st.tuples(*[side] * n_axes)))
    hidden = data.draw(st.lists(st.integers(1, 5), max_size=2))
    decoder_hidden = data.draw(st.none() | st.lists(st.integers(1, 5), max_size=2))
    latent_dim = data.draw(st.integers(1, 5))
    odd = st.sampled_from([1, 3, 5, 7])
    network = strided_autoencoder(
        shape,
        channels,
        hidden,
        latent_dim,
        kernel_size=data.draw(odd | st.tuples(*[odd] * len(channels))),
        bias=data.draw(st.booleans()),
        batch_norm=data.draw(st.booleans()),
        dropout=data.draw(st.sampled_from([0.0, 0.5])),
        decoder_hidden_layer_sizes=decoder_hidden,
    )
    X = torch.randn(data.draw(st.integers(1, 4)), math.prod(shape))
    for training in (True, False):
        code, reconstruction = network.train(training)(X)
        assert code.shape == (len(X), latent_dim)
        assert reconstruction.shape == X.shape
        assert reconstruction.isfinite().all()
    sides = shape[1:]
    for _ in channels:
        sides = [math.ceil(length / 2) for length in sides]
    assert network.encoder.dense[0].in_features == channels[-1] * math.prod(sides)
    widths = [m.out_features for m in network.decoder.dense if isinstance(m, nn.Linear)]
    expected = hidden[::-1] if decoder_hidden is None else decoder_hidden
    assert widths == [*expected, channels[-1] * math.prod(sides)]


@small
def test_decoder_mirrors_the_encoder(sizes):
    network = strided_autoencoder(*sizes, kernel_size=[2 * i + 1 for i in range(len(sizes[1]))])
    assert isinstance(network, AutoencoderNetwork)
    assert isinstance(network.encoder, StridedConvEncoder)
    assert isinstance(network.decoder, StridedConvDecoder)
    shapes = [
        [tuple(p.shape) for p in part.parameters() if p.ndim > 1]
        for part in (network.encoder, network.decoder)
    ]
    assert shapes[1] == [(b, a, *rest) for a, b, *rest in shapes[0][::-1]]
    pairs = pairwise([sizes[0][0], *sizes[1]])
    for i, ((n_in, n_out), found) in enumerate(zip(pairs, shapes[0], strict=False)):
        kernel = (2 * i + 1 if len(sizes[0]) == 3 else 1, 2 * i + 1)
        assert found == (n_out, n_in, *kernel)


def test_networks_of_table_3_have_their_parameters():
    mnist = strided_autoencoder(*MNIST, decoder_hidden_layer_sizes=())
    # 28 -> 14 -> 7, 7 * 7 * 32 = 1568
    convolutions = (9 * 1 * 32 + 32) + (9 * 32 * 32 + 32)
    assert n_parameters(mnist.encoder) == convolutions + (1568 * 128 + 128) + (128 * 128 + 128)
    deconvolutions = (9 * 32 * 32 + 32) + (9 * 32 * 1 + 1)
    assert n_parameters(mnist.decoder) == (128 * 1568 + 1568) + deconvolutions
    assert n_parameters(mnist) == 226912 + 211809

    cifar = strided_autoencoder(
        (3, 32, 32),
        (64, 128, 128),
        (256,),
        256,
        kernel_size=(3, 5, 5),
        batch_norm=True,
        dropout=0.1,
    )
    # 32 -> 16 -> 8 -> 4, 4 * 4 * 128 = 2048
    convolutions = (9 * 3 * 64 + 64) + (25 * 64 * 128 + 128) + (25 * 128 * 128 + 128)
    dense = (2048 * 256 + 256) + (256 * 256 + 256)
    assert n_parameters(cifar.encoder) == convolutions + dense
    deconvolutions = (25 * 128 * 128 + 128) + (25 * 128 * 64 + 64) + (9 * 64 * 3 + 3)
    dense = (256 * 256 + 256) + (256 * 2048 + 2048)
    assert n_parameters(cifar.decoder) == dense + deconvolutions


# Initial weights, normalisation, dropout


def test_initial_weights_keep_the_variance():
    network = strided_autoencoder((4, 64, 64), (64, 64), (), 8, "identity").double()
    decoder = network.decoder
    maps = torch.randn(64, 64, 16, 16, dtype=torch.float64)
    out = decoder.deconvolutions[0][0](maps)
    # The borders have fewer neighbours; of 3 weights along an axis 1.5 meet a pixel on average.
    inner = out[:, :, 4:-4, 4:-4]
    assert inner.var().item() == pytest.approx(1.0, rel=0.1)
    layer = network.encoder.convolutions[1][0]
    assert layer.weight.var().item() == pytest.approx(2 / (128 * 9), rel=0.1)
    series = strided_autoencoder((64, 64), (64,), (), 8, "identity").double()
    maps = torch.randn(64, 64, 1, 32, dtype=torch.float64)
    out = series.decoder.deconvolutions[0][0](maps)[..., 4:-4]
    assert out.var().item() == pytest.approx(1.0, rel=0.1)
    for name, parameter in network.named_parameters():
        assert not name.endswith("bias") or not parameter.any()


def test_initial_weights_come_from_the_global_generator():
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(torch.cat([p.flatten() for p in strided_autoencoder(*SMALL[1]).parameters()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


@small
def test_batch_normalisation_has_no_affine_terms(sizes):
    network = strided_autoencoder(*sizes, batch_norm=True)
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    # After every layer but those of the code and of the reconstruction.
    assert len(norms) == 2 * (len(sizes[1]) + len(sizes[2]))
    assert all(norm.weight is None and norm.bias is None for norm in norms)


@small
@pytest.mark.parametrize("batch_norm", [True, False])
def test_no_constant_without_bias(sizes, batch_norm):
    network = strided_autoencoder(*sizes, "tanh", bias=False, batch_norm=batch_norm).eval()
    assert all(p.ndim > 1 for p in network.parameters())
    code, reconstruction = network(torch.zeros(2, n_features(sizes)))
    assert not code.any() and not reconstruction.any()
    code, reconstruction = network(torch.ones(2, n_features(sizes)))
    assert code.any() and reconstruction.any()


def test_dropout_is_in_the_encoders_hidden_dense_layers_only():
    network = strided_autoencoder((1, 8, 8), (3,), (40, 30), 4, "tanh", dropout=0.3)
    layers = [m for m in network.modules() if isinstance(m, nn.Dropout)]
    assert len(layers) == 2 and all(layer.p == 0.3 for layer in layers)
    assert all(layer in list(network.encoder.dense) for layer in layers)
    X = torch.randn(3, 64)
    assert not torch.equal(network(X).code, network(X).code)
    network.eval()
    assert torch.equal(network(X).code, network(X).code)


# Training and pre-training


@small
@pytest.mark.parametrize("batch_norm", [True, False])
def test_gradients_reach_every_parameter(sizes, batch_norm):
    network = strided_autoencoder(*sizes, "tanh", batch_norm=batch_norm)
    X = torch.randn(7, n_features(sizes))
    (network(X).reconstruction - X).square().sum().backward()
    # A bias in front of batch normalisation is subtracted again, up to rounding.
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert all(p.grad.any() for p in network.parameters() if p.ndim > 1 or not batch_norm)


@pytest.mark.parametrize("shape", [(1, 3, 4), (2, 5)], ids=str)
def test_gradients_are_right(shape):
    network = strided_autoencoder(shape, (2, 1), (3,), 2, "tanh").double()
    X = torch.randn(2, math.prod(shape), dtype=torch.float64, requires_grad=True)
    names, parameters = zip(*network.named_parameters(), strict=True)

    def outputs(X, *parameters):
        return torch.func.functional_call(network, dict(zip(names, parameters, strict=True)), X)

    assert torch.autograd.gradcheck(outputs, (X, *parameters))


@small
@pytest.mark.parametrize("batch_norm", [True, False])
def test_blocks_are_counterparts_and_share_the_weights(sizes, batch_norm):
    network = strided_autoencoder(*sizes, batch_norm=batch_norm).eval()
    X = torch.randn(4, n_features(sizes))
    encoder, decoder = network.encoder.blocks(), network.decoder.blocks()
    assert len(encoder) == len(decoder) == len(sizes[1]) + len(sizes[2]) + 1
    for part, blocks in ((network.encoder, encoder), (network.decoder, decoder)):
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


def test_layers_are_pretrained_one_by_one():
    sizes = SMALL[1]
    phases = autoencoder_phases(strided_autoencoder(*sizes), "layerwise", 1, corruption=0.1)
    assert len(phases) == len(sizes[1]) + len(sizes[2]) + 2
    X = torch.randn(30, n_features(sizes))
    for phase in phases:
        assert phase.loss(phase.module(X), X, None).isfinite()
    unequal = strided_autoencoder(*sizes, decoder_hidden_layer_sizes=())
    with pytest.raises(ValueError, match="as many on both sides"):
        autoencoder_phases(unequal, "layerwise", 1, corruption=0.1)


def test_detector_takes_the_network_in_the_place_of_its_own():
    X = np.random.default_rng(0).normal(size=(40, 2 * 9))
    detector = Autoencoder(
        network=lambda n_features: strided_autoencoder((2, n_features // 2), (3, 4), (), 2),
        pretrain="layerwise",
        max_iter=2,
        random_state=0,
    ).fit(X)
    assert detector.transform(X).shape == (40, 2)
    assert len(set(detector.score_samples(X))) == 40


# What the rest of the package does with networks


@small
def test_rows_do_not_depend_on_their_batch_in_evaluation(sizes):
    network = strided_autoencoder(*sizes, batch_norm=True, dropout=0.5).double()
    X = torch.randn(6, n_features(sizes), dtype=torch.float64)
    network(X)
    network.eval()
    whole = network(X)
    alone = torch.cat([network(x[None]).reconstruction for x in X])
    torch.testing.assert_close(whole.reconstruction, alone)


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("shape", [(1, 2, 2), (1, 2)], ids=str)
def test_batch_of_one_row_trains(shape, batch_norm):
    network = strided_autoencoder(shape, (3,), (4,), 2, batch_norm=batch_norm).train()
    assert network(torch.randn(1, math.prod(shape))).reconstruction.isfinite().all()


@small
def test_network_without_values_has_the_shapes_of_the_network(sizes):
    network = strided_autoencoder(*sizes, batch_norm=True)
    with torch.device("meta"):
        shadow = strided_autoencoder(*sizes, batch_norm=True)
        X = torch.zeros(3, n_features(sizes))
        assert shadow(X).reconstruction.shape == X.shape
    assert all(tensor.is_meta for tensor in shadow.state_dict().values())
    # Nothing but the state is needed to bring it to life.
    shadow.load_state_dict(network.state_dict(), assign=True)
    X = torch.randn(3, n_features(sizes))
    assert torch.equal(shadow.eval()(X).reconstruction, network.eval()(X).reconstruction)


@small
def test_memory_layout_of_the_rows_is_irrelevant(sizes):
    network = strided_autoencoder(*sizes).double().eval()
    X = torch.randn(6, n_features(sizes), dtype=torch.float64)
    rows = X.T.contiguous().T
    assert not rows.is_contiguous()
    torch.testing.assert_close(network(rows).reconstruction, network(X).reconstruction)


@small
def test_many_networks_run_as_one(sizes):
    networks = [strided_autoencoder(*sizes).double() for _ in range(3)]
    parameters, buffers = torch.func.stack_module_state(networks)
    skeleton = copy.deepcopy(networks[0]).to("meta")
    X = torch.randn(5, n_features(sizes), dtype=torch.float64)

    def loss(parameters, buffers):
        outputs = torch.func.functional_call(skeleton, (parameters, buffers), (X,))
        return (outputs.reconstruction - X).square().sum()

    losses = torch.func.vmap(loss)(parameters, buffers)
    expected = torch.stack([(n(X).reconstruction - X).square().sum() for n in networks])
    torch.testing.assert_close(losses, expected)


# Errors


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"input_shape": (28,)}, r"\(channels, height, width\)"),
        ({"input_shape": (1, 2, 28)}, "give channels at most 1 long"),
        ({"input_shape": (1, 2)}, "give channels at most 1 long"),
        ({"input_shape": (5, 1)}, "use a fully connected network"),
        ({"input_shape": (3, 1, 28)}, r"a series is given as \(3, 28\)"),
        ({"input_shape": (0, 28, 28)}, "input_shape must hold integers of at least 1; got 0"),
        ({"channels": ()}, "mlp_autoencoder"),
        ({"channels": (8, -4)}, "channels must hold integers of at least 1; got -4"),
        ({"channels": (8,) * 6}, "give channels at most 5 long"),
        ({"hidden_layer_sizes": (4, 0)}, "hidden_layer_sizes must"),
        ({"latent_dim": 0}, "latent_dim must"),
        ({"kernel_size": 4}, "must be odd.*take 5"),
        ({"kernel_size": (3, 4)}, "kernel_size=4 must be odd"),
        ({"kernel_size": (3,)}, "one for each of the 2 convolutions"),
        ({"kernel_size": 3.0}, "kernel_size must"),
        ({"activation": "step"}, "'step' is not known: choose one of .*leaky_relu"),
    ],
)
def test_errors_name_the_cure(changes, match):
    names = ("input_shape", "channels", "hidden_layer_sizes", "latent_dim")
    sizes = dict(zip(names, MNIST, strict=True))
    for build in (StridedConvEncoder, StridedConvDecoder, strided_autoencoder):
        with pytest.raises(ValueError, match=match):
            build(**{**sizes, **changes})


@pytest.mark.parametrize("dropout", [-0.1, 1.0, math.nan])
def test_dropout_must_be_a_probability_below_1(dropout):
    with pytest.raises(ValueError, match="dropout=.*at least 0 and below 1"):
        strided_autoencoder(*MNIST, dropout=dropout)


def test_smallest_sides_that_can_be_halved_are_taken():
    for depth in (1, 2, 3, 4):
        shape = (1, 2 ** (depth - 1) + 1)
        network = strided_autoencoder(shape, (2,) * depth, (), 1)
        assert network.encoder.dense[0].in_features == 2
        with pytest.raises(ValueError, match="too small"):
            strided_autoencoder((1, shape[1] - 1), (2,) * depth, (), 1)


def test_rows_of_another_width_are_refused():
    with pytest.raises(ValueError, match="Rows of 783 features cannot be folded.*has 784"):
        strided_autoencoder(*MNIST)(torch.zeros(2, 783))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_is_used(activation):
    network = strided_autoencoder(*SMALL[1], activation)
    kind = type(ACTIVATIONS[activation]())
    n_layers = sum(p.ndim > 1 for p in network.parameters())
    found = [m for m in network.modules() if isinstance(m, kind)]
    assert len(found) == n_layers - 2
