"""Convolutional networks that halve the maps by strides of 2 instead of pooling."""

import math
from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral

from torch import Tensor, nn
from torch.nn import functional as F

from anomaly_estimators.nn.autoencoder import AutoencoderNetwork
from anomaly_estimators.nn.conv import (
    _BatchNorm2d,
    _check_layers,
    _check_positive,
    _on_rows,
    _window,
    fold,
)
from anomaly_estimators.nn.mlp import ACTIVATIONS, MLP, initialise
from anomaly_estimators.nn.normalisation import BatchNorm

__all__ = ["StridedConvDecoder", "StridedConvEncoder", "strided_autoencoder"]


class _StridedDeconv2d(nn.Conv2d):
    """Transposed convolution that doubles the sides, to a given size.

    The weights are kept in the order of a convolution, (out_channels, in_channels, height, width),
    by which the initial weights are scaled.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : tuple of int
        Odd height and width of the kernel.
    size : tuple of int
        Height and width of the output: twice that of the input or one less, and 1 on an axis that is
        not doubled, where the kernel is 1 wide.
    activation : str
        What follows the layer.
    bias : bool
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int],
        size: tuple[int, int],
        activation: str,
        *,
        bias: bool,
    ):
        # A height of 1 stays 1 with a stride of 2 as well.
        padding = tuple(length // 2 for length in kernel_size)
        super().__init__(in_channels, out_channels, kernel_size, 2, padding, bias=bias)
        self.size = size
        initialise(self, activation)
        # Only one in two weights along an axis meets a pixel of the input.
        doubled = sum(length > 1 for length in size)
        self.weight.data.mul_(2 ** (doubled / 2))

    def forward(self, maps: Tensor) -> Tensor:
        weight = self.weight.transpose(0, 1)
        even = tuple((length + 1) % 2 for length in self.size)
        return F.conv_transpose2d(maps, weight, self.bias, self.stride, self.padding, even)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, size={self.size}"


class StridedConvEncoder(nn.Module):
    """Convolutional encoder of flat rows whose convolutions have a stride of 2, as in [1]_.

    Each convolution halves the sides, rounding up (28, 14, 7), and is followed by batch normalisation
    if asked for, and the activation. Dense layers follow, and a dense layer without activation that
    returns the code.

    Parameters
    ----------
    input_shape : sequence of int
        What a row is folded to: (channels, height, width) for images, (channels, length) for series.
    channels : sequence of int
        Number of filters of each convolution.
    hidden_layer_sizes : sequence of int
        Widths of the dense layers between the convolutions and the code.
    latent_dim : int
        Width of the code.
    activation : str, default="relu"
        Activation after every layer but the last, a key of ``ACTIVATIONS``.
    kernel_size : int or sequence of int, default=3
        Width of the filters along every axis, an odd number; a sequence has one for each convolution.
    bias : bool, default=True
        Whether the layers have bias terms.
    batch_norm : bool, default=False
        Whether the outputs of all layers but the last are normalised before the activation, without
        affine terms.
    dropout : float, default=0.0
        Probability with which an output of a hidden dense layer is dropped in training, below 1.

    Raises
    ------
    ValueError
        If the shape is too small for the convolutions, or a size is not valid.

    See Also
    --------
    StridedConvDecoder : The mirror image.
    anomaly_estimators.nn.conv.ConvEncoder : With pooling.

    Notes
    -----
    A series is held as an image of height 1.

    References
    ----------
    .. [1] "Anomaly Detection Based on Unsupervised Disentangled Representation Learning in Combination
       with Manifold Learning" (AnoDM), 2019, table 3.

    Examples
    --------
    >>> import torch
    >>> encoder = StridedConvEncoder((1, 28, 28), (32, 32), (128,), 128)
    >>> encoder(torch.zeros(3, 784)).shape
    torch.Size([3, 128])
    >>> encoder.dense[0]
    Linear(in_features=1568, out_features=128, bias=True)
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        channels: Sequence[int],
        hidden_layer_sizes: Sequence[int],
        latent_dim: int,
        activation: str = "relu",
        *,
        kernel_size: int | Sequence[int] = 3,
        bias: bool = True,
        batch_norm: bool = False,
        dropout: float = 0.0,
    ):
        shapes = _map_shapes(input_shape, channels)
        kernels = _kernels(input_shape, channels, kernel_size)
        for _, length in kernels:
            _check_layers(hidden_layer_sizes, latent_dim, length, activation)
        _check_dropout(dropout)
        super().__init__()
        self._shapes = shapes
        self.convolutions = nn.Sequential()
        for kernel, ((n_in, *_), (n_out, *_)) in zip(kernels, pairwise(shapes), strict=True):
            padding = tuple(length // 2 for length in kernel)
            convolution = nn.Conv2d(n_in, n_out, kernel, 2, padding, bias=bias)
            initialise(convolution, activation)
            after = _after_maps(n_out, activation, batch_norm)
            self.convolutions.append(nn.Sequential(convolution, *after))
        sizes = [math.prod(shapes[-1]), *hidden_layer_sizes, latent_dim]
        self.dense = MLP(sizes, activation, bias=bias, batch_norm=batch_norm, dropout=dropout)

    def forward(self, X: Tensor) -> Tensor:
        maps = self.convolutions(fold(X, self._shapes[0]))
        return self.dense(maps.flatten(1))

    def blocks(self) -> list[nn.Sequential]:
        """Return the layers with what follows them, from flat rows to flat rows.

        They share the parameters of this network. If the decoder has the same hidden layers in
        reverse, ``blocks()[i]`` of the encoder maps between the same widths as ``blocks()[-1 - i]``
        of the decoder, the other way round.
        """
        return [*_on_rows(self.convolutions, self._shapes), *self.dense.blocks()]


class StridedConvDecoder(nn.Module):
    """The mirror image of :class:`StridedConvEncoder`: codes to flat rows, as in [1]_.

    Dense layers lead back to the last map of the encoder. Transposed convolutions with a stride of 2
    double the sides, to the very size that the encoder had there. All layers but the last are
    followed by batch normalisation, if asked for, and the activation.

    Parameters
    ----------
    input_shape : sequence of int
        What a row of the output was flattened from: (channels, height, width) or (channels, length).
    channels : sequence of int
        Number of filters of each convolution of the encoder; the last is the number of the maps that
        the dense layers lead to.
    hidden_layer_sizes : sequence of int
        Widths of the dense layers between the code and the maps, in the order in which they are
        passed through. The layer that returns the maps comes on top.
    latent_dim : int
        Width of the code.
    activation : str, default="relu"
        Activation after every layer but the last, a key of ``ACTIVATIONS``.
    kernel_size : int or sequence of int, default=3
        Width of the filters along every axis, an odd number; a sequence has one for each convolution
        of the encoder, in its order.
    bias : bool, default=True
        Whether the layers have bias terms.
    batch_norm : bool, default=False
        Whether the outputs of all layers but the last are normalised before the activation, without
        affine terms.

    Raises
    ------
    ValueError
        If the shape is too small for the convolutions, or a size is not valid.

    See Also
    --------
    StridedConvEncoder : The encoder that it mirrors.

    References
    ----------
    .. [1] "Anomaly Detection Based on Unsupervised Disentangled Representation Learning in Combination
       with Manifold Learning" (AnoDM), 2019, table 3.

    Examples
    --------
    >>> import torch
    >>> decoder = StridedConvDecoder((1, 28, 28), (32, 32), (), 128)
    >>> decoder(torch.zeros(3, 128)).shape
    torch.Size([3, 784])
    >>> decoder.dense
    MLP(
      (0): Linear(in_features=128, out_features=1568, bias=True)
    )
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        channels: Sequence[int],
        hidden_layer_sizes: Sequence[int],
        latent_dim: int,
        activation: str = "relu",
        *,
        kernel_size: int | Sequence[int] = 3,
        bias: bool = True,
        batch_norm: bool = False,
    ):
        shapes = _map_shapes(input_shape, channels)[::-1]
        kernels = _kernels(input_shape, channels, kernel_size)[::-1]
        for _, length in kernels:
            _check_layers(hidden_layer_sizes, latent_dim, length, activation)
        super().__init__()
        self._shapes = shapes
        width = math.prod(shapes[0])
        sizes = [latent_dim, *hidden_layer_sizes, width]
        self.dense = MLP(sizes, activation, bias=bias, batch_norm=batch_norm)
        norm = [BatchNorm(width, affine=False)] if batch_norm else []
        self.after = nn.Sequential(*norm, ACTIVATIONS[activation]())
        self.deconvolutions = nn.Sequential()
        for kernel, ((n_in, *_), (n_out, *size)) in zip(kernels, pairwise(shapes), strict=True):
            layer = _StridedDeconv2d(n_in, n_out, kernel, tuple(size), activation, bias=bias)
            last = len(self.deconvolutions) == len(channels) - 1
            tail = [] if last else _after_maps(n_out, activation, batch_norm)
            self.deconvolutions.append(nn.Sequential(layer, *tail))

    def forward(self, code: Tensor) -> Tensor:
        rows = self.after(self.dense(code))
        return self.deconvolutions(fold(rows, self._shapes[0])).flatten(1)

    def blocks(self) -> list[nn.Sequential]:
        """Return the layers with what follows them, from flat rows to flat rows.

        They share the parameters of this network: see :meth:`StridedConvEncoder.blocks`.
        """
        *dense, last = self.dense.blocks()
        last = nn.Sequential(*last, *self.after)
        return [*dense, last, *_on_rows(self.deconvolutions, self._shapes)]


def strided_autoencoder(
    input_shape: Sequence[int],
    channels: Sequence[int],
    hidden_layer_sizes: Sequence[int],
    latent_dim: int,
    activation: str = "relu",
    *,
    kernel_size: int | Sequence[int] = 3,
    bias: bool = True,
    batch_norm: bool = False,
    dropout: float = 0.0,
    decoder_hidden_layer_sizes: Sequence[int] | None = None,
) -> AutoencoderNetwork:
    """Autoencoder of flat rows with convolutions and transposed convolutions of stride 2.

    Parameters
    ----------
    input_shape : sequence of int
        What a row is folded to: (channels, height, width) for images, (channels, length) for series.
    channels : sequence of int
        Number of filters of each convolution of the encoder; the decoder has them in reverse.
    hidden_layer_sizes : sequence of int
        Widths of the encoder's dense layers between the convolutions and the code.
    latent_dim : int
        Width of the code.
    activation : str, default="relu"
        Activation of the hidden layers, a key of ``ACTIVATIONS``. The code has none.
    kernel_size : int or sequence of int, default=3
        Width of the filters along every axis, an odd number; a sequence has one for each convolution
        of the encoder, and the decoder has them in reverse.
    bias : bool, default=True
        Whether the layers have bias terms.
    batch_norm : bool, default=False
        Whether the hidden layers are followed by batch normalisation without affine terms.
    dropout : float, default=0.0
        Probability with which an output of a hidden dense layer of the encoder is dropped in
        training, below 1. The decoder drops nothing.
    decoder_hidden_layer_sizes : sequence of int or None, default=None
        Widths of the decoder's dense layers, in the order in which they are passed through; the layer
        that returns the maps comes on top. None has the encoder's in reverse.

    Returns
    -------
    AutoencoderNetwork
        Of a :class:`StridedConvEncoder` and a :class:`StridedConvDecoder`.

    Raises
    ------
    ValueError
        If the shape is too small for the convolutions, or a size is not valid.

    See Also
    --------
    anomaly_estimators.nn.conv.conv_autoencoder : With pooling.
    anomaly_estimators.nn.temporal.temporal_autoencoder : With recurrent and temporal convolutional
        encoders of series.

    Notes
    -----
    Layer-wise pre-training needs counterparts in the decoder, which are there unless
    ``decoder_hidden_layer_sizes`` is given.

    References
    ----------
    .. [1] "Anomaly Detection Based on Unsupervised Disentangled Representation Learning in Combination
       with Manifold Learning" (AnoDM), 2019, table 3.

    Examples
    --------
    The networks in table 3 of [1]_. They are parts of variational autoencoders, whose encoder and
    decoder bring the Gaussian layers: what is the code here is the last hidden layer of the one and
    the first of the other.

    >>> import torch
    >>> from anomaly_estimators.nn.variational import VariationalDecoder, VariationalEncoder
    >>> from anomaly_estimators.nn.variational import BernoulliLikelihood, VariationalAutoencoder
    >>> mnist = strided_autoencoder(
    ...     (1, 28, 28), (32, 32), (128,), 128, decoder_hidden_layer_sizes=()
    ... )
    >>> network = VariationalAutoencoder(
    ...     VariationalEncoder(mnist.encoder, 128, 10, "relu"),
    ...     VariationalDecoder(mnist.decoder, 128, 10, "relu", BernoulliLikelihood(784)),
    ... )
    >>> network(torch.zeros(3, 784)).kl.shape
    torch.Size([3])

    For CIFAR-10 the dropout is written as 0.9, which is read as the probability to keep. The second
    dropout, on the code, is left out, and the variational parts are to be given ``batch_norm=True``.

    >>> cifar = strided_autoencoder(
    ...     (3, 32, 32), (64, 128, 128), (256,), 256,
    ...     kernel_size=(3, 5, 5), batch_norm=True, dropout=0.1,
    ... )
    >>> code, reconstruction = cifar(torch.zeros(3, 3072))
    >>> code.shape, reconstruction.shape
    (torch.Size([3, 256]), torch.Size([3, 3072]))
    >>> cifar.decoder.dense[-1]
    Linear(in_features=256, out_features=2048, bias=True)

    Any other sizes, and series, do as well:

    >>> network = strided_autoencoder((2, 187), (8, 16, 32), (), 4)
    >>> network(torch.zeros(3, 374)).reconstruction.shape
    torch.Size([3, 374])
    """
    if decoder_hidden_layer_sizes is None:
        decoder_hidden_layer_sizes = hidden_layer_sizes[::-1]
    options = {"kernel_size": kernel_size, "bias": bias, "batch_norm": batch_norm}
    encoder = StridedConvEncoder(
        input_shape,
        channels,
        hidden_layer_sizes,
        latent_dim,
        activation,
        **options,
        dropout=dropout,
    )
    decoder = StridedConvDecoder(
        input_shape, channels, decoder_hidden_layer_sizes, latent_dim, activation, **options
    )
    return AutoencoderNetwork(encoder, decoder)


def _check_dropout(dropout: float) -> None:
    if not 0 <= dropout < 1:
        raise ValueError(
            f"dropout={dropout!r} must be at least 0 and below 1: it is the probability with which "
            "an output is dropped."
        )


def _after_maps(n_channels: int, activation: str, batch_norm: bool) -> list[nn.Module]:
    """What follows a layer that returns maps."""
    norm = [_BatchNorm2d(n_channels, affine=False)] if batch_norm else []
    return [*norm, ACTIVATIONS[activation]()]


def _map_shapes(input_shape: Sequence[int], channels: Sequence[int]) -> list[tuple[int, int, int]]:
    """Shapes of the input and of what every convolution returns; a series has height 1."""
    if len(input_shape) not in (2, 3):
        raise ValueError(
            "input_shape must be (channels, height, width) for images or (channels, length) for "
            f"series; got {tuple(input_shape)}."
        )
    _check_positive("input_shape", input_shape)
    _check_positive("channels", channels)
    if not len(channels):
        raise ValueError(
            "channels must name the filters of at least one convolution, such as (32, 32): a network "
            "without any is anomaly_estimators.nn.autoencoder.mlp_autoencoder."
        )
    n_channels, *lengths = map(int, input_shape)
    most = (min(lengths) - 1).bit_length()
    if len(channels) > most:
        cure = f"give channels at most {most} long" if most else "use a fully connected network"
        if lengths[0] == 1 and len(lengths) == 2:
            cure = f"a series is given as ({n_channels}, {lengths[1]})"
        raise ValueError(
            f"input_shape={tuple(input_shape)} is too small for the {len(channels)} convolutions of "
            f"channels={tuple(channels)}, each of which halves its sides: {cure}."
        )
    height, width = [1, *lengths][-2:]
    shapes = [(n_channels, height, width)]
    for n_filters in channels:
        height, width = -(-height // 2), -(-width // 2)
        shapes.append((int(n_filters), height, width))
    return shapes


def _kernels(
    input_shape: Sequence[int], channels: Sequence[int], kernel_size: int | Sequence[int]
) -> list[tuple[int, int]]:
    """Height and width of the kernel of every convolution."""
    if isinstance(kernel_size, (Integral, float)):
        kernel_size = [kernel_size] * len(channels)
    if len(kernel_size) != len(channels):
        raise ValueError(
            f"kernel_size={tuple(kernel_size)} must be one number, or one for each of the "
            f"{len(channels)} convolutions of channels={tuple(channels)}."
        )
    return [_window(input_shape, length) for length in kernel_size]
