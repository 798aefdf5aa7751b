"""Encoders of series."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from anomaly_estimators import Autoencoder
from anomaly_estimators.nn.autoencoder import AutoencoderNetwork
from anomaly_estimators.nn.strided import StridedConvDecoder
from anomaly_estimators.nn.temporal import (
    LSTMEncoder,
    TemporalConvEncoder,
    temporal_autoencoder,
)
from anomaly_estimators.training.pretraining import autoencoder_phases

ENCODERS = ("tcn", "lstm")
each = pytest.mark.parametrize("encoder", ENCODERS)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def n_parameters(module):
    return sum(p.numel() for p in module.parameters())


def randomise_biases(network):
    for name, parameter in network.named_parameters():
        if "bias" in name:
            nn.init.normal_(parameter)


def small_autoencoder(encoder, shape=(2, 11), **options):
    options = {"channels": (3, 4), "n_units": 5, **options}
    return temporal_autoencoder(shape, (6,), 3, encoder=encoder, **options)


def dilated_states(encoder, X, dilations, activation=torch.relu):
    """Sum of the skip connections at all time steps, with the dilations as they are given."""

    def causal(x, layer, dilation):
        weight = layer.weight.squeeze(2)
        x = F.pad(x, ((weight.shape[-1] - 1) * dilation, 0))
        return F.conv1d(x, weight, layer.bias, dilation=dilation)

    x = X.reshape(len(X), -1, X.shape[1] // encoder.residual_blocks[0].branch[0].in_channels)
    total = 0
    for block, dilation in zip(encoder.residual_blocks, dilations, strict=True):
        first, second = (m for m in block.branch if isinstance(m, nn.Conv2d))
        change = activation(causal(activation(causal(x, first, dilation)), second, dilation))
        total = total + change
        if isinstance(block.shortcut, nn.Conv2d):
            x = causal(x, block.shortcut, 1)
        if block is not encoder.residual_blocks[-1]:
            x = activation(x + change)
    return total


# The temporal convolutional network


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_state_is_that_of_the_dilated_network(data):
    dilations = data.draw(
        st.sampled_from([(1, 2, 4, 8, 16, 32), (1,), (1, 2, 4), (2, 4), (1, 3, 9)])
        | st.lists(st.integers(1, 12), min_size=1, max_size=4)
    )
    n_channels, length = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 70))
    n_filters = data.draw(st.sampled_from([n_channels, 4]))
    encoder = TemporalConvEncoder(
        (n_channels, length),
        2,
        n_filters=n_filters,
        kernel_size=data.draw(st.integers(1, 5)),
        dilations=dilations,
        activation="tanh",
    )
    encoder = encoder.double().eval()
    randomise_biases(encoder)
    X = torch.randn(3, n_channels * length, dtype=torch.float64)
    expected = dilated_states(encoder, X, dilations, torch.tanh)[..., -1]
    torch.testing.assert_close(encoder.state(X), expected)
    torch.testing.assert_close(encoder(X), encoder.dense(expected))


@pytest.mark.parametrize("length", [100, 187, 378, 379, 380, 600])
def test_default_network_and_its_gradients_are_those_of_the_dilated_network(length):
    dilations = (1, 2, 4, 8, 16, 32)
    encoder = TemporalConvEncoder((1, length), 2, n_filters=8, dropout=0.0).double()
    randomise_biases(encoder)
    X = torch.randn(3, length, dtype=torch.float64)
    found, expected = encoder(X), encoder.dense(dilated_states(encoder, X, dilations)[..., -1])
    torch.testing.assert_close(found, expected)
    parameters = list(encoder.parameters())
    gradients = torch.autograd.grad(found.square().sum(), parameters)
    torch.testing.assert_close(gradients, torch.autograd.grad(expected.square().sum(), parameters))


@settings(max_examples=30, deadline=None)
@given(
    dilations=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    kernel_size=st.integers(1, 3),
    n_channels=st.integers(1, 2),
)
def test_code_depends_on_the_receptive_field_and_on_nothing_before(
    dilations, kernel_size, n_channels
):
    field = 1 + 2 * (kernel_size - 1) * sum(dilations)
    length = field + 5
    encoder = TemporalConvEncoder(
        (n_channels, length), 2, kernel_size=kernel_size, dilations=dilations, activation="tanh"
    )
    encoder = encoder.double().eval()
    assert encoder.receptive_field == field
    X = torch.randn(1, n_channels * length, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(encoder(X)[0, 0], X)
    seen = gradient.reshape(n_channels, length).ne(0)
    assert not seen[:, :-field].any()
    # The oldest and the latest time step of the field are seen, with any weights but zeros.
    assert seen[:, -field].all() and seen[:, -1].all()


@pytest.mark.parametrize("length", [1, 2, 7, 12, 29])
def test_network_is_causal(length):
    # The states at all time steps of a long series are those of the series that end there: what
    # comes later has no part in them.
    dilations = (1, 2, 4)
    options = {"dilations": dilations, "n_filters": 6}
    whole = TemporalConvEncoder((2, 30), 3, **options).double().eval()
    randomise_biases(whole)
    prefix = TemporalConvEncoder((2, length), 3, **options).double().eval()
    prefix.load_state_dict(whole.state_dict())
    X = torch.randn(4, 2, 30, dtype=torch.float64)
    states = dilated_states(whole, X.flatten(1), dilations)
    torch.testing.assert_close(prefix.state(X[..., :length].flatten(1)), states[..., length - 1])


def test_zeros_at_the_start_are_as_good_as_none():
    # As long as there are no biases, which are 0 at first.
    encoder = TemporalConvEncoder((2, 20), 3).double().eval()
    longer = TemporalConvEncoder((2, 33), 3).double().eval()
    longer.load_state_dict(encoder.state_dict())
    X = torch.randn(4, 2, 20, dtype=torch.float64)
    expected = encoder(X.flatten(1))
    torch.testing.assert_close(longer(F.pad(X, (13, 0)).flatten(1)), expected)
    assert not torch.allclose(longer(F.pad(X, (0, 13)).flatten(1)), expected)


def test_dropout_drops_whole_filters_in_training():
    encoder = TemporalConvEncoder((1, 40), 3, dilations=(1, 2), dropout=0.5)
    X = torch.randn(50, 40)
    maps = encoder.residual_blocks[0].branch[:3](torch.randn(50, 1, 1, 40))
    silent = ~maps.flatten(2).ne(0).any(-1)
    assert 0.4 < silent.float().mean() < 0.6
    # What is left is scaled by 2, at every time step.
    whole = encoder.residual_blocks[0].branch[:2]
    rows = torch.randn(50, 1, 1, 40)
    torch.manual_seed(1)
    dropped = encoder.residual_blocks[0].branch[:3](rows)
    kept = dropped.flatten(2).ne(0).any(-1)
    torch.testing.assert_close(dropped[kept], 2 * whole(rows)[kept])
    assert not torch.equal(encoder(X), encoder(X))
    encoder.eval()
    assert torch.equal(encoder(X), encoder(X))
    assert not [m for m in TemporalConvEncoder((1, 9), 2, dropout=0.0).modules()
                if isinstance(m, nn.Dropout2d)]  # fmt: skip


# The recurrent network


@pytest.mark.parametrize("n_layers", [1, 2])
def test_lstm_is_its_formula(n_layers):
    encoder = LSTMEncoder((2, 7), 3, n_units=4, n_layers=n_layers, hidden_layer_sizes=(5,)).double()
    randomise_biases(encoder)
    X = torch.randn(6, 14, dtype=torch.float64)
    inputs = list(X.reshape(6, 2, 7).unbind(-1))
    for depth in range(n_layers):
        weights = [
            getattr(encoder.recurrent, f"{name}_l{depth}")
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        ]
        h = c = torch.zeros(6, 4, dtype=torch.float64)
        outputs = []
        for x in inputs:
            gates = x @ weights[0].T + h @ weights[1].T + weights[2] + weights[3]
            i, f, g, o = gates.chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            outputs.append(h)
        inputs = outputs
    torch.testing.assert_close(encoder(X), encoder.dense(h))


def test_lstm_starts_with_orthogonal_gates_that_do_not_forget():
    encoder = LSTMEncoder((3, 7), 2, n_units=8, n_layers=2)
    for depth in (0, 1):
        recurrent = getattr(encoder.recurrent, f"weight_hh_l{depth}")
        for gate in recurrent.reshape(4, 8, 8):
            torch.testing.assert_close(gate @ gate.T, torch.eye(8))
        bias = sum(getattr(encoder.recurrent, f"bias_{kind}_l{depth}") for kind in ("ih", "hh"))
        assert bias.reshape(4, 8).unique(dim=1).flatten().tolist() == [0, 1, 0, 0]
        inputs = getattr(encoder.recurrent, f"weight_ih_l{depth}")
        bound = math.sqrt(6 / (inputs.shape[1] + 8))
        assert 0.8 * bound < inputs.abs().max() <= bound


# Both, with their decoder


@each
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_shape_comes_back(encoder, data):
    channels = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    length = data.draw(st.integers(2 ** (len(channels) - 1) + 1, 40))
    shape = (data.draw(st.integers(1, 3)), length)
    hidden = data.draw(st.lists(st.integers(1, 5), max_size=2))
    decoder_hidden = data.draw(st.none() | st.lists(st.integers(1, 5), max_size=2))
    latent_dim = data.draw(st.integers(1, 5))
    network = temporal_autoencoder(
        shape,
        hidden,
        latent_dim,
        encoder=encoder,
        n_units=data.draw(st.integers(1, 6)),
        channels=channels,
        decoder_hidden_layer_sizes=decoder_hidden,
        kernel_size=data.draw(st.sampled_from([1, 3, 5])),
        batch_norm=data.draw(st.booleans()),
        dropout=data.draw(st.sampled_from([0.0, 0.5])),
    )
    X = torch.randn(data.draw(st.integers(1, 4)), math.prod(shape))
    for training in (True, False):
        code, reconstruction = network.train(training)(X)
        assert code.shape == (len(X), latent_dim)
        assert reconstruction.shape == X.shape
        assert reconstruction.isfinite().all()
    widths = [m.out_features for m in network.decoder.dense if isinstance(m, nn.Linear)]
    assert widths[:-1] == (hidden[::-1] if decoder_hidden is None else decoder_hidden)


def test_network_of_table_3_has_its_parameters():
    network = temporal_autoencoder(
        (1, 187), (), 256, channels=(32, 32, 64, 64, 64, 128), decoder_hidden_layer_sizes=()
    )
    assert isinstance(network, AutoencoderNetwork)
    assert isinstance(network.encoder, TemporalConvEncoder)
    assert isinstance(network.decoder, StridedConvDecoder)
    # One convolution from 1 channel and eleven from 64, all of width 4, and one of width 1.
    tcn = (4 * 1 * 64 + 64) + 11 * (4 * 64 * 64 + 64) + (1 * 64 + 64)
    assert n_parameters(network.encoder) == tcn + (64 * 256 + 256)
    # 187 -> 94 -> 47 -> 24 -> 12 -> 6 -> 3, 3 * 128 = 384
    deconvolutions = (3 * 128 * 64 + 64) + 2 * (3 * 64 * 64 + 64)
    deconvolutions += (3 * 64 * 32 + 32) + (3 * 32 * 32 + 32) + (3 * 32 * 1 + 1)
    assert n_parameters(network.decoder) == (256 * 384 + 384) + deconvolutions
    filters = [module[0].out_channels for module in network.decoder.deconvolutions]
    assert filters == [64, 64, 64, 32, 32, 1]


def test_lstm_network_has_its_parameters():
    network = temporal_autoencoder((1, 187), (), 16, encoder="lstm")
    assert isinstance(network.encoder, LSTMEncoder)
    assert n_parameters(network.encoder) == 4 * 64 * (1 + 64 + 2) + (64 * 16 + 16)


@each
@pytest.mark.parametrize("batch_norm", [True, False])
def test_gradients_reach_every_parameter(encoder, batch_norm):
    network = small_autoencoder(encoder, batch_norm=batch_norm, activation="tanh")
    X = torch.randn(7, 22)
    (network(X).reconstruction - X).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    # A bias in front of batch normalisation is subtracted again, up to rounding.
    assert all(p.grad.any() for p in network.parameters() if p.ndim > 1 or not batch_norm)


@pytest.mark.parametrize("dilations", [(1,), (1, 2), (2, 3)], ids=str)
def test_gradients_reach_every_parameter_of_the_blocks(dilations):
    encoder = TemporalConvEncoder((2, 20), 3, dilations=dilations, n_filters=4, activation="tanh")
    encoder(torch.randn(7, 40)).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in encoder.parameters())


@pytest.mark.parametrize(
    "encoder",
    [
        TemporalConvEncoder((2, 5), 2, n_filters=2, kernel_size=2, dilations=(1, 2), dropout=0.0,
                            activation="tanh"),
        TemporalConvEncoder((1, 6), 2, n_filters=2, kernel_size=2, dilations=(2, 1), dropout=0.0,
                            activation="tanh"),
        LSTMEncoder((2, 3), 2, n_units=2, n_layers=2),
    ],
    ids=["doubled", "other", "lstm"],
)  # fmt: skip
def test_gradients_are_right(encoder):
    encoder = copy.deepcopy(encoder).double()
    n_channels, _, length = encoder._shape
    X = torch.randn(2, n_channels * length, dtype=torch.float64, requires_grad=True)
    names, parameters = zip(*encoder.named_parameters(), strict=True)

    def outputs(X, *parameters):
        return torch.func.functional_call(encoder, dict(zip(names, parameters, strict=True)), X)

    assert torch.autograd.gradcheck(outputs, (X, *parameters))


@each
def test_rows_do_not_depend_on_their_batch_in_evaluation(encoder):
    network = small_autoencoder(encoder, batch_norm=True).double()
    X = torch.randn(6, 22, dtype=torch.float64)
    network(X)
    network.eval()
    alone = torch.cat([network(x[None]).reconstruction for x in X])
    torch.testing.assert_close(network(X).reconstruction, alone)
    rows = X.T.contiguous().T
    torch.testing.assert_close(network(rows).reconstruction, alone)


@each
def test_batch_of_one_row_trains(encoder):
    network = small_autoencoder(encoder, (1, 3), batch_norm=True).train()
    found = network(torch.randn(1, 3)).reconstruction
    assert found.isfinite().all()
    found.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())


@each
def test_network_without_values_has_the_shapes_of_the_network(encoder):
    network = small_autoencoder(encoder, batch_norm=True).eval()
    with torch.device("meta"):
        shadow = small_autoencoder(encoder, batch_norm=True).eval()
        assert shadow(torch.zeros(3, 22)).reconstruction.shape == (3, 22)
    assert all(tensor.is_meta for tensor in shadow.state_dict().values())
    # Nothing but the state is needed to bring it to life.
    shadow.load_state_dict(network.state_dict(), assign=True)
    X = torch.randn(3, 22)
    assert torch.equal(shadow(X).reconstruction, network(X).reconstruction)


@each
def test_initial_weights_come_from_the_global_generator(encoder):
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        network = small_autoencoder(encoder)
        states.append(torch.cat([p.flatten() for p in network.parameters()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


@each
def test_detector_takes_the_network_in_the_place_of_its_own(encoder):
    X = np.random.default_rng(0).normal(size=(40, 22))

    def build(n_features):
        return small_autoencoder(encoder, (2, n_features // 2))

    detector = Autoencoder(network=build, max_iter=2, random_state=0).fit(X)
    assert detector.transform(X).shape == (40, 3)
    assert len(set(detector.score_samples(X))) == 40
    with pytest.raises(ValueError, match="pretrain='end_to_end'"):
        autoencoder_phases(build(22), "layerwise", 1, corruption=0.1)


# Errors


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"input_shape": (187,)}, r"must be \(channels, length\)"),
        ({"input_shape": (1, 28, 28)}, r"must be \(channels, length\).*got \(1, 28, 28\)"),
        ({"input_shape": (1, 0)}, "input_shape must hold integers of at least 1; got 0"),
        ({"latent_dim": 0}, "latent_dim must"),
        ({"hidden_layer_sizes": (4, -1)}, "hidden_layer_sizes must"),
        ({"activation": "step"}, "'step' is not known"),
    ],
)
def test_errors_name_the_cure(changes, match):
    for build in (TemporalConvEncoder, LSTMEncoder, temporal_autoencoder):
        sizes = {"input_shape": (1, 187), "latent_dim": 4, "hidden_layer_sizes": ()}
        with pytest.raises(ValueError, match=match):
            build(**{**sizes, **changes})


@pytest.mark.parametrize(
    ("build", "changes", "match"),
    [
        (TemporalConvEncoder, {"n_filters": 0}, "n_filters must"),
        (TemporalConvEncoder, {"kernel_size": 2.0}, "kernel_size must"),
        (TemporalConvEncoder, {"dilations": ()}, "one number for each block"),
        (TemporalConvEncoder, {"dilations": (1, 0)}, "dilations must hold integers"),
        (TemporalConvEncoder, {"dropout": 1.0}, "dropout=1.0 must be"),
        (LSTMEncoder, {"n_units": 0}, "n_units must"),
        (LSTMEncoder, {"n_layers": 0}, "n_layers must"),
    ],
)
def test_options_are_checked(build, changes, match):
    with pytest.raises(ValueError, match=match):
        build((1, 187), 4, **changes)


def test_options_of_the_autoencoder_are_checked():
    with pytest.raises(ValueError, match="'gru' is not known: choose one of tcn, lstm"):
        temporal_autoencoder((1, 187), (), 4, encoder="gru")
    with pytest.raises(ValueError, match="too small for the 5 convolutions.*at most 4 long"):
        temporal_autoencoder((1, 16), (), 4)
    with pytest.raises(ValueError, match="must be odd"):
        temporal_autoencoder((1, 187), (), 4, kernel_size=4)
    for encoder in ENCODERS:
        with pytest.raises(ValueError, match="dropout"):
            temporal_autoencoder((1, 187), (), 4, encoder=encoder, dropout=-1)


@each
def test_rows_of_another_width_are_refused(encoder):
    with pytest.raises(ValueError, match="Rows of 21 features cannot be folded"):
        small_autoencoder(encoder)(torch.zeros(2, 21))
