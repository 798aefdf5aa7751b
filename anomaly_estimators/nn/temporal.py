"""Encoders of series: temporal convolutional networks and recurrent ones."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomaly_estimators.nn.autoencoder import AutoencoderNetwork
from anomaly_estimators.nn.conv import _check_layers, _check_positive, fold
from anomaly_estimators.nn.mlp import ACTIVATIONS, MLP, initialise
from anomaly_estimators.nn.randomness import Dropout2d
from anomaly_estimators.nn.strided import StridedConvDecoder, _check_dropout

__all__ = ["LSTMEncoder", "TemporalConvEncoder", "temporal_autoencoder"]


class _CausalConv(nn.Conv2d):
    """Dilated convolution along the last axis that looks back only, with zeros before the start.

    Parameters
    ----------
    n_in, n_out : int
    kernel_size : int
    activation : str
        What follows the layer.
    dilation : int
    stride : int or None, default=1
        Every so many positions are computed, counted back from the last; None computes the last only.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        kernel_size: int,
        activation: str,
        *,
        dilation: int,
        stride: int | None = 1,
    ):
        super().__init__(n_in, n_out, (1, kernel_size), (1, stride or 1), dilation=(1, dilation))
        initialise(self, activation)
        self.last_only = stride is None
        self.span = dilation * (kernel_size - 1) + 1

    def forward(self, maps: Tensor) -> Tensor:
        length, stride = maps.shape[-1], self.stride[-1]
        # The last window ends at the last position; below 0, the first ones are not needed.
        n_steps = 0 if self.last_only else (length - 1) // stride
        before = n_steps * stride + self.span - length
        return super().forward(F.pad(maps, (before, 0)))


class _Thin(nn.Module):
    """Every so many positions along the last axis, counted back from the last."""

    def __init__(self, step: int):
        super().__init__()
        self.step = step

    def forward(self, maps: Tensor) -> Tensor:
        first = (maps.shape[-1] - 1) % self.step
        # Channels last: the gradient then is in the format in which convolutions are fast.
        return maps.movedim(1, -1)[:, :, first :: self.step].movedim(-1, 1)

    def extra_repr(self) -> str:
        return str(self.step)


class _ResidualBlock(nn.Module):
    """Two causal convolutions with what follows them, on a grid of positions.

    ``forward`` returns the input of the next block, on a coarser grid, and the state at the last
    position. ``thinning`` is the ratio of the grids; it is None in the last block, which returns None
    in the place of that input.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        kernel_size: int,
        activation: str,
        dropout: float,
        *,
        dilation: int,
        thinning: int | None,
    ):
        super().__init__()

        def after() -> list[nn.Module]:
            # A filter is dropped at all positions at once: neighbours would give it away.
            return [ACTIVATIONS[activation](), *([Dropout2d(dropout)] if dropout else [])]

        self.branch = nn.Sequential(
            _CausalConv(n_in, n_out, kernel_size, activation, dilation=dilation),
            *after(),
            _CausalConv(n_out, n_out, kernel_size, activation, dilation=dilation, stride=thinning),
            *after(),
        )
        self.shortcut = self.activation = None
        if thinning is not None:
            self.activation = ACTIVATIONS[activation]()
            self.shortcut = _Thin(thinning)
            if n_in != n_out:
                self.shortcut = _CausalConv(n_in, n_out, 1, activation, dilation=1, stride=thinning)

    def forward(self, maps: Tensor) -> tuple[Tensor | None, Tensor]:
        change = self.branch(maps)
        state = change.movedim(1, -1)[:, 0, -1]
        if self.shortcut is None:
            return None, state
        return self.activation(change + self.shortcut(maps)), state


class TemporalConvEncoder(nn.Module):
    """Temporal convolutional network (TCN) [1]_ of flat rows that hold series, as in [2]_.

    A residual block is two causal dilated convolutions, each followed by the activation and by
    dropout of whole filters, and the activation of their sum with the block's input, which has gone
    through a convolution of width 1 where the widths differ. What the convolutions of the blocks add
    is summed over the blocks (skip connections). This sum at the last time step is the state, which
    dense layers lead to the code.

    Parameters
    ----------
    input_shape : sequence of int
        What a row is folded to: (channels, length).
    latent_dim : int
        Width of the code.
    n_filters : int, default=64
        Number of filters of every convolution.
    kernel_size : int, default=4
        Width of the filters.
    dilations : sequence of int, default=(1, 2, 4, 8, 16, 32)
        Distance in time steps of what neighbouring weights of a filter meet, for each block.
    activation : str, default="relu"
        Activation after every layer but the last, a key of ``ACTIVATIONS``.
    dropout : float, default=0.05
        Probability with which a filter of a convolution is dropped in training, for a whole series
        at once, below 1.
    hidden_layer_sizes : sequence of int, default=()
        Widths of the dense layers between the state and the code.

    Attributes
    ----------
    receptive_field : int
        Number of time steps, the last ones, that the code depends on. It is
        1 + 2 (kernel_size - 1) times the sum of the dilations: 379 by default.

    Raises
    ------
    ValueError
        If a size is not valid.

    See Also
    --------
    temporal_autoencoder : With a decoder.
    LSTMEncoder : A recurrent encoder.

    Notes
    -----
    Only the last time step is read, so blocks with dilations d that follow need every d-th position
    only, counted back from the last one. The others are not computed: each block thins out the
    positions to the greatest common divisor of the dilations to come, and its dilation is divided by
    that of the grid. Time steps before the receptive field are left out. The function is the same,
    zeros before the start included. With dilations that double this is about a sixth of the
    multiplications.

    References
    ----------
    .. [1] Bai et al., "An Empirical Evaluation of Generic Convolutional and Recurrent Networks for
       Sequence Modeling", 2018.
    .. [2] "Anomaly Detection Based on Unsupervised Disentangled Representation Learning in Combination
       with Manifold Learning" (AnoDM), 2019, section 3.4, appendix D and table 3.

    Examples
    --------
    >>> encoder = TemporalConvEncoder((1, 187), 16)
    >>> encoder(torch.zeros(3, 187)).shape
    torch.Size([3, 16])
    >>> encoder.receptive_field
    379
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        latent_dim: int,
        *,
        n_filters: int = 64,
        kernel_size: int = 4,
        dilations: Sequence[int] = (1, 2, 4, 8, 16, 32),
        activation: str = "relu",
        dropout: float = 0.05,
        hidden_layer_sizes: Sequence[int] = (),
    ):
        n_channels, length = _series_shape(input_shape)
        _check_positive("n_filters", [n_filters])
        _check_positive("kernel_size", [kernel_size])
        _check_positive("dilations", dilations)
        if not len(dilations):
            raise ValueError("dilations must have one number for each block, such as (1, 2, 4).")
        _check_layers(hidden_layer_sizes, latent_dim, 1, activation)
        _check_dropout(dropout)
        super().__init__()
        self.receptive_field = 1 + 2 * (kernel_size - 1) * sum(dilations)
        self._shape = (n_channels, 1, length)
        # Of the time steps that a block and all that follow it look at, counted back from the last.
        grids = [math.gcd(*dilations[depth:]) for depth in range(len(dilations))]
        thinnings = [after // before for before, after in pairwise(grids)]
        self.thin = _Thin(grids[0])
        self.residual_blocks = nn.ModuleList(
            _ResidualBlock(
                n_channels if depth == 0 else n_filters,
                n_filters,
                kernel_size,
                activation,
                dropout,
                dilation=dilation // grid,
                thinning=thinning,
            )
            for depth, (dilation, grid, thinning) in enumerate(
                zip(dilations, grids, [*thinnings, None], strict=True)
            )
        )
        self.dense = MLP([n_filters, *hidden_layer_sizes, latent_dim], activation)

    def forward(self, X: Tensor) -> Tensor:
        return self.dense(self.state(X))

    def state(self, X: Tensor) -> Tensor:
        """Sum of the skip connections at the last time step, of shape (n, n_filters)."""
        maps = self.thin(fold(X, self._shape)[..., -self.receptive_field :])
        states = []
        for block in self.residual_blocks:
            maps, state = block(maps)
            states.append(state)
        return torch.stack(states).sum(0)


class LSTMEncoder(nn.Module):
    """Long short-term memory network [1]_ of flat rows that hold series.

    The hidden state of the last layer at the last time step is led to the code by dense layers.

    Parameters
    ----------
    input_shape : sequence of int
        What a row is folded to: (channels, length).
    latent_dim : int
        Width of the code.
    n_units : int, default=64
        Width of the hidden states.
    n_layers : int, default=1
        Number of recurrent layers, one on top of another.
    hidden_layer_sizes : sequence of int, default=()
        Widths of the dense layers between the hidden state and the code.
    activation : str, default="relu"
        Activation of the hidden dense layers, a key of ``ACTIVATIONS``. The hidden state has none but
        its own.

    Raises
    ------
    ValueError
        If a size is not valid.

    See Also
    --------
    TemporalConvEncoder : Convolutional, and several times as fast.

    Notes
    -----
    The weights that meet the input are drawn by Glorot's rule, the recurrent ones are orthogonal, gate
    by gate, and the forget gates start with a bias of 1.

    References
    ----------
    .. [1] Hochreiter & Schmidhuber, "Long Short-Term Memory", Neural Computation 9(8), 1997.

    Examples
    --------
    >>> LSTMEncoder((2, 30), 4)(torch.zeros(3, 60)).shape
    torch.Size([3, 4])
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        latent_dim: int,
        *,
        n_units: int = 64,
        n_layers: int = 1,
        hidden_layer_sizes: Sequence[int] = (),
        activation: str = "relu",
    ):
        n_channels, length = _series_shape(input_shape)
        _check_positive("n_units", [n_units])
        _check_positive("n_layers", [n_layers])
        _check_layers(hidden_layer_sizes, latent_dim, 1, activation)
        super().__init__()
        self._shape = (n_channels, 1, length)
        self.recurrent = nn.LSTM(n_channels, n_units, n_layers)
        for name, parameter in self.recurrent.named_parameters():
            # Input, forget, cell and output gate, one on top of another.
            gates = parameter.data.unflatten(0, (4, n_units))
            for gate in gates:
                if name.startswith("weight_ih"):
                    nn.init.xavier_uniform_(gate)
                elif name.startswith("weight_hh"):
                    nn.init.orthogonal_(gate)
                else:
                    nn.init.zeros_(gate)
            if name.startswith("bias_ih"):
                nn.init.ones_(gates[1])
        self.dense = MLP([n_units, *hidden_layer_sizes, latent_dim], activation)

    def forward(self, X: Tensor) -> Tensor:
        series = fold(X, self._shape).squeeze(2).movedim(2, 0)
        _, (hidden, _) = self.recurrent(series)
        return self.dense(hidden[-1])


def temporal_autoencoder(
    input_shape: Sequence[int],
    hidden_layer_sizes: Sequence[int],
    latent_dim: int,
    activation: str = "relu",
    *,
    encoder: str = "tcn",
    n_units: int = 64,
    channels: Sequence[int] = (32, 32, 64, 64, 64),
    decoder_hidden_layer_sizes: Sequence[int] | None = None,
    kernel_size: int | Sequence[int] = 3,
    batch_norm: bool = False,
    dropout: float = 0.05,
) -> AutoencoderNetwork:
    """Autoencoder of flat rows that hold series: a temporal encoder, a convolutional decoder.

    Parameters
    ----------
    input_shape : sequence of int
        What a row is folded to: (channels, length).
    hidden_layer_sizes : sequence of int
        Widths of the encoder's dense layers between its last state and the code.
    latent_dim : int
        Width of the code.
    activation : str, default="relu"
        Activation of the hidden layers, a key of ``ACTIVATIONS``. The code has none.
    encoder : {"tcn", "lstm"}, default="tcn"
        :class:`TemporalConvEncoder` or :class:`LSTMEncoder`.
    n_units : int, default=64
        Number of filters of the TCN, or width of the hidden states of the LSTM.
    channels : sequence of int, default=(32, 32, 64, 64, 64)
        Filters of the decoder, from the series inwards, as those of
        :class:`~anomaly_estimators.nn.strided.StridedConvDecoder`: as many transposed convolutions
        as there are numbers, each of which doubles the length.
    decoder_hidden_layer_sizes : sequence of int or None, default=None
        Widths of the decoder's dense layers, in the order in which they are passed through; the layer
        that returns the maps comes on top. None has the encoder's in reverse.
    kernel_size : int or sequence of int, default=3
        Width of the decoder's filters, an odd number; a sequence has one for each of ``channels``.
    batch_norm : bool, default=False
        Whether the decoder's hidden layers are followed by batch normalisation without affine terms.
    dropout : float, default=0.05
        Probability with which a filter of the TCN is dropped in training, below 1. An LSTM and the
        decoder drop nothing.

    Returns
    -------
    AutoencoderNetwork

    Raises
    ------
    ValueError
        If a size is not valid, or the series is too short for the decoder.

    See Also
    --------
    anomaly_estimators.nn.strided.strided_autoencoder : With a convolutional encoder as well.

    Notes
    -----
    There is no layer-wise pre-training, since the layers of encoder and decoder are no counterparts.

    References
    ----------
    .. [1] "Anomaly Detection Based on Unsupervised Disentangled Representation Learning in Combination
       with Manifold Learning" (AnoDM), 2019, section 3.4 and table 3.

    Examples
    --------
    The network for arrhythmia in table 3 of [1]_, heartbeats of 187 time steps. Its decoder is printed
    with dense layers of 256, 384 and 2048 units and with six transposed convolutions, of 64, 64, 64,
    32, 32 and 1 filters. Six halvings of the length are 94, 47, 24, 12, 6 and 3, so 384 units are
    maps of 128 channels and length 3, and no maps have 2048. That layer is left out here, as is the
    only batch normalisation, which follows it. The 256 units are the code: the decoder's
    first hidden layer in a variational autoencoder, and the encoder's last, which is not in the table.

    >>> network = temporal_autoencoder(
    ...     (1, 187), (), 256, channels=(32, 32, 64, 64, 64, 128), decoder_hidden_layer_sizes=()
    ... )
    >>> network.decoder.dense
    MLP(
      (0): Linear(in_features=256, out_features=384, bias=True)
    )
    >>> code, reconstruction = network(torch.zeros(3, 187))
    >>> code.shape, reconstruction.shape
    (torch.Size([3, 256]), torch.Size([3, 187]))
    """
    if encoder not in ("tcn", "lstm"):
        raise ValueError(f"encoder {encoder!r} is not known: choose one of tcn, lstm.")
    _series_shape(input_shape)
    _check_dropout(dropout)
    if decoder_hidden_layer_sizes is None:
        decoder_hidden_layer_sizes = hidden_layer_sizes[::-1]
    decoder = StridedConvDecoder(
        input_shape,
        channels,
        decoder_hidden_layer_sizes,
        latent_dim,
        activation,
        kernel_size=kernel_size,
        batch_norm=batch_norm,
    )
    options = {"activation": activation, "hidden_layer_sizes": hidden_layer_sizes}
    if encoder == "tcn":
        options |= {"n_filters": n_units, "dropout": dropout}
        return AutoencoderNetwork(TemporalConvEncoder(input_shape, latent_dim, **options), decoder)
    return AutoencoderNetwork(
        LSTMEncoder(input_shape, latent_dim, n_units=n_units, **options), decoder
    )


def _series_shape(input_shape: Sequence[int]) -> tuple[int, int]:
    """Channels and length."""
    if len(input_shape) != 2:
        raise ValueError(
            f"input_shape must be (channels, length), the shape of a series; got {tuple(input_shape)}."
        )
    _check_positive("input_shape", input_shape)
    n_channels, length = map(int, input_shape)
    return n_channels, length
