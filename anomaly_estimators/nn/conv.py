"""Convolutional encoders of LeNet's type, and the decoders that mirror them."""

import math
from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomaly_estimators.nn.autoencoder import AutoencoderNetwork
from anomaly_estimators.nn.mlp import ACTIVATIONS, MLP, initialise
from anomaly_estimators.nn.normalisation import BatchNorm

__all__ = ["ConvDecoder", "ConvEncoder", "UpsampledConv2d", "conv_autoencoder", "fold"]

# Monotone activations: the largest of four activations is the activation of the largest, so they
# may follow the pooling, which leaves a quarter of the work.
_MONOTONE = ("elu", "identity", "leaky_relu", "relu", "sigmoid", "softplus", "tanh")


def fold(X: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Fold flat rows to maps.

    Parameters
    ----------
    X : Tensor of shape (n, channels * height * width)
    shape : tuple of int
        Channels, height and width.

    Returns
    -------
    Tensor of shape (n, channels, height, width)
        On a CPU the channels are next to one another in memory, in which convolutions are up to
        twice as fast. The values are the same in any format.

    Raises
    ------
    ValueError
        If the rows have another width.

    Examples
    --------
    >>> fold(torch.arange(6.0).reshape(1, 6), (2, 1, 3))
    tensor([[[[0., 1., 2.]],
    <BLANKLINE>
             [[3., 4., 5.]]]])
    """
    channels, height, width = shape
    if X.shape[1] != math.prod(shape):
        raise ValueError(
            f"Rows of {X.shape[1]} features cannot be folded to the shape {shape}, which has "
            f"{math.prod(shape)}: input_shape must be the shape that the rows were flattened from."
        )
    if X.device.type != "cpu":
        return X.unflatten(1, shape)
    pixels = X.unflatten(1, (channels, -1)).mT.flatten(1)
    return pixels.unflatten(1, (height, width, channels)).movedim(-1, 1)


class _Fold(nn.Module):
    """:func:`fold` as a layer."""

    def __init__(self, shape: tuple[int, int, int]):
        super().__init__()
        self.shape = shape

    def forward(self, X: Tensor) -> Tensor:
        return fold(X, self.shape)

    def extra_repr(self) -> str:
        return str(self.shape)


class _BatchNorm2d(nn.BatchNorm2d, BatchNorm):
    """Batch normalisation of maps, by channel, that takes a batch of one row too."""


class UpsampledConv2d(nn.Conv2d):
    """Upsampling by 2 to the nearest neighbour, and then a convolution that keeps the size.

    A deconvolution (transposed convolution) of stride 1 is a convolution whose kernel is flipped, so
    this is the layer of a decoder that mirrors a convolution with max-pooling.

    Each pixel of the upsampled map stands there ``2 x 2`` times, so several weights of the kernel
    meet the same value. Their sums, one small kernel for each of the four positions in such a square,
    act on the small map instead: the same function with about a third of the multiplications, and
    with no large map of many channels in memory.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : tuple of int
        Odd height and width of the kernel on the upsampled map.
    size : tuple of int
        Height and width of the output, twice that of the input. An odd size is cut off from the next
        even one, and an axis of size 1 stays as it is.
    bias : bool, default=True
        Whether there is a bias term.

    Examples
    --------
    >>> layer = UpsampledConv2d(4, 8, (5, 5), (7, 6))
    >>> layer(torch.zeros(2, 4, 3, 3)).shape
    torch.Size([2, 8, 7, 6])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int],
        size: tuple[int, int],
        *,
        bias: bool = True,
    ):
        super().__init__(in_channels, out_channels, kernel_size, bias=bias)
        self.size = size
        self._doubled = [axis for axis in (-1, -2) if size[axis] > 1]
        # Columns and rows at the end that the pooling left out: they repeat the last ones.
        self._missing = [size[axis] % 2 if axis in self._doubled else 0 for axis in (-1, -2)]

    def forward(self, maps: Tensor) -> Tensor:
        if any(self._missing):
            columns, rows = self._missing
            maps = F.pad(maps, (0, columns, 0, rows), mode="replicate")
        kernel, bias = self.weight, self.bias
        for axis in self._doubled:
            kernel = _merge_weights(kernel, axis)
        if bias is not None:
            bias = bias.repeat_interleave(2 ** len(self._doubled))
        kernel = kernel.flatten(0, -4)
        padding = [length // 2 for length in kernel.shape[2:]]
        maps = _interleave(F.conv2d(maps, kernel, bias, padding=padding), self._doubled)
        height, width = self.size
        return maps[..., :height, :width]

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, size={self.size}"


def _merge_weights(kernel: Tensor, axis: int) -> Tensor:
    """Add up the weights that meet the same pixel of a map that is upsampled along an axis.

    Parameters
    ----------
    kernel : Tensor of shape (out_channels, ..., in_channels, height, width)
    axis : {-1, -2}
        Its length is k = 2r + 1.

    Returns
    -------
    Tensor of shape (out_channels, 2, ..., in_channels, height, width)
        The kernels of the even and of the odd positions, with 2 * ceil(r / 2) + 1 weights along the
        axis.
    """
    kernel = kernel.transpose(axis, -1)
    # Position 2j + q meets pixel j + a by the weights r + 2a - q and r + 2a - q + 1, of which those
    # at the ends may be missing.
    odd = kernel.shape[-1] // 2 % 2
    sums = F.pad(kernel, (1 + odd, odd)) + F.pad(kernel, (odd, 1 + odd))
    return torch.stack((sums[..., 1::2], sums[..., ::2]), dim=1).transpose(axis, -1)


def _interleave(maps: Tensor, axes: list[int]) -> Tensor:
    """Put the positions, neighbouring channels, next to one another along the axes."""
    if len(axes) == 2:
        return F.pixel_shuffle(maps, 2)
    for axis in axes:
        maps = maps.unflatten(1, (-1, 2)).movedim(2, axis).flatten(axis - 1, axis)
    return maps


class ConvEncoder(nn.Module):
    """Convolutional encoder of flat rows, of LeNet's type [1]_, as in appendix D of [2]_.

    Each convolutional module is a convolution that keeps the size, batch normalisation if asked for,
    the activation, and max-pooling that halves the size, rounding down. Dense layers follow, and a
    dense layer without activation that returns the code.

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
    activation : str, default="leaky_relu"
        Activation after every layer but the last, a key of ``ACTIVATIONS``.
    kernel_size : int, default=5
        Width of the filters along every axis, an odd number.
    bias : bool, default=True
        Whether the layers have bias terms. Without them, and with an activation that is 0 at 0, rows
        of zeros have codes of zeros.
    batch_norm : bool, default=False
        Whether the outputs of all layers but the last are normalised before the activation, without
        affine terms.

    Raises
    ------
    ValueError
        If the shape is too small for the poolings, or a size is not valid.

    See Also
    --------
    ConvDecoder : The mirror image.

    Notes
    -----
    A series is held as an image of height 1.

    References
    ----------
    .. [1] LeCun et al., "Gradient-Based Learning Applied to Document Recognition", Proceedings of
       the IEEE, 1998.
    .. [2] Ruff et al., "Deep Semi-Supervised Anomaly Detection", ICLR 2020.

    Examples
    --------
    The network for MNIST in appendix D:

    >>> encoder = ConvEncoder((1, 28, 28), (8, 4), (), 32, bias=False)
    >>> encoder(torch.zeros(3, 784)).shape
    torch.Size([3, 32])
    >>> encoder.dense
    MLP(
      (0): Linear(in_features=196, out_features=32, bias=False)
    )
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        channels: Sequence[int],
        hidden_layer_sizes: Sequence[int],
        latent_dim: int,
        activation: str = "leaky_relu",
        *,
        kernel_size: int = 5,
        bias: bool = True,
        batch_norm: bool = False,
    ):
        _check_layers(hidden_layer_sizes, latent_dim, kernel_size, activation)
        shapes = _map_shapes(input_shape, channels)
        kernel, pool = _window(input_shape, kernel_size), _window(input_shape, 2)
        padding = tuple(length // 2 for length in kernel)
        super().__init__()
        self._shapes = shapes
        self.convolutions = nn.Sequential()
        for (n_in, *_), (n_out, *_) in pairwise(shapes):
            convolution = nn.Conv2d(n_in, n_out, kernel, padding=padding, bias=bias)
            initialise(convolution, activation)
            norm = [_BatchNorm2d(n_out, affine=False)] if batch_norm else []
            after = [ACTIVATIONS[activation](), nn.MaxPool2d(pool)]
            if activation in _MONOTONE:
                after.reverse()
            self.convolutions.append(nn.Sequential(convolution, *norm, *after))
        sizes = [math.prod(shapes[-1]), *hidden_layer_sizes, latent_dim]
        self.dense = MLP(sizes, activation, bias=bias, batch_norm=batch_norm)

    def forward(self, X: Tensor) -> Tensor:
        maps = self.convolutions(fold(X, self._shapes[0]))
        return self.dense(maps.flatten(1))

    def blocks(self) -> list[nn.Sequential]:
        """Return the layers with what follows them, from flat rows to flat rows.

        They share the parameters of this network, and ``blocks()[i]`` of the encoder maps between the
        same widths as ``blocks()[-1 - i]`` of the decoder, the other way round.
        """
        return [*_on_rows(self.convolutions, self._shapes), *self.dense.blocks()]


class ConvDecoder(nn.Module):
    """The mirror image of :class:`ConvEncoder`: codes to flat rows, as in appendix D of [1]_.

    Dense layers lead back to the last map of the encoder. Upsampling takes the place of max-pooling,
    to the very size that the encoder had there, and deconvolutions take the place of convolutions.
    All layers but the last are followed by batch normalisation, if asked for, and the activation.

    Parameters
    ----------
    input_shape : sequence of int
        What a row of the output was flattened from: (channels, height, width) or (channels, length).
    channels : sequence of int
        Number of filters of each convolution of the encoder.
    hidden_layer_sizes : sequence of int
        Widths of the dense layers of the encoder.
    latent_dim : int
        Width of the code.
    activation : str, default="leaky_relu"
        Activation after every layer but the last, a key of ``ACTIVATIONS``.
    kernel_size : int, default=5
        Width of the filters along every axis, an odd number.
    bias : bool, default=True
        Whether the layers have bias terms.
    batch_norm : bool, default=False
        Whether the outputs of all layers but the last are normalised before the activation, without
        affine terms.
    output_activation : str, default="identity"
        Activation of the output, a key of ``ACTIVATIONS``: "sigmoid" suits pixels in [0, 1].

    Raises
    ------
    ValueError
        If the shape is too small for the poolings, or a size is not valid.

    See Also
    --------
    ConvEncoder : The encoder that it mirrors.
    UpsampledConv2d : Upsampling and deconvolution in one layer.

    References
    ----------
    .. [1] Ruff et al., "Deep Semi-Supervised Anomaly Detection", ICLR 2020.

    Examples
    --------
    >>> decoder = ConvDecoder((1, 28, 28), (8, 4), (), 32)
    >>> decoder(torch.zeros(3, 32)).shape
    torch.Size([3, 784])
    >>> [tuple(module[0].weight.shape) for module in decoder.deconvolutions]
    [(8, 4, 5, 5), (1, 8, 5, 5)]
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        channels: Sequence[int],
        hidden_layer_sizes: Sequence[int],
        latent_dim: int,
        activation: str = "leaky_relu",
        *,
        kernel_size: int = 5,
        bias: bool = True,
        batch_norm: bool = False,
        output_activation: str = "identity",
    ):
        _check_layers(hidden_layer_sizes, latent_dim, kernel_size, activation, output_activation)
        shapes = _map_shapes(input_shape, channels)[::-1]
        kernel = _window(input_shape, kernel_size)

        def after(n_channels: int) -> list[nn.Module]:
            norm = [_BatchNorm2d(n_channels, affine=False)] if batch_norm else []
            return [*norm, ACTIVATIONS[activation]()]

        super().__init__()
        self._shapes = shapes
        sizes = [latent_dim, *reversed(hidden_layer_sizes), math.prod(shapes[0])]
        self.dense = MLP(sizes, activation, bias=bias, batch_norm=batch_norm)
        self.fold = nn.Sequential(_Fold(shapes[0]), *after(shapes[0][0]))
        self.deconvolutions = nn.Sequential()
        for depth, ((n_in, *_), (n_out, *size)) in enumerate(pairwise(shapes), start=1):
            deconvolution = UpsampledConv2d(n_in, n_out, kernel, tuple(size), bias=bias)
            initialise(deconvolution, activation)
            last = depth == len(channels)
            tail = [ACTIVATIONS[output_activation]()] if last else after(n_out)
            self.deconvolutions.append(nn.Sequential(deconvolution, *tail))

    def forward(self, code: Tensor) -> Tensor:
        return self.deconvolutions(self.fold(self.dense(code))).flatten(1)

    def blocks(self) -> list[nn.Sequential]:
        """Return the layers with what follows them, from flat rows to flat rows.

        They share the parameters of this network: see :meth:`ConvEncoder.blocks`.
        """
        *dense, last = self.dense.blocks()
        folded = nn.Sequential(*last, *self.fold, nn.Flatten())
        return [*dense, folded, *_on_rows(self.deconvolutions, self._shapes)]


def conv_autoencoder(
    input_shape: Sequence[int],
    channels: Sequence[int],
    hidden_layer_sizes: Sequence[int],
    latent_dim: int,
    activation: str = "leaky_relu",
    *,
    kernel_size: int = 5,
    bias: bool = True,
    batch_norm: bool = False,
    output_activation: str = "identity",
) -> AutoencoderNetwork:
    """Convolutional autoencoder of flat rows whose decoder mirrors its encoder.

    Parameters
    ----------
    input_shape : sequence of int
        What a row is folded to: (channels, height, width) for images, (channels, length) for series.
    channels : sequence of int
        Number of filters of each convolution of the encoder; the decoder has them in reverse.
    hidden_layer_sizes : sequence of int
        Widths of the dense layers between the convolutions and the code; the decoder has them in
        reverse.
    latent_dim : int
        Width of the code.
    activation : str, default="leaky_relu"
        Activation of the hidden layers, a key of ``ACTIVATIONS``. The code has none.
    kernel_size : int, default=5
        Width of the filters along every axis, an odd number.
    bias : bool, default=True
        Whether the layers have bias terms.
    batch_norm : bool, default=False
        Whether the hidden layers are followed by batch normalisation without affine terms.
    output_activation : str, default="identity"
        Activation of the reconstruction, a key of ``ACTIVATIONS``.

    Returns
    -------
    AutoencoderNetwork
        Of a :class:`ConvEncoder` and a :class:`ConvDecoder`.

    Raises
    ------
    ValueError
        If the shape is too small for the poolings, or a size is not valid.

    Examples
    --------
    The network for Fashion-MNIST in appendix D of Ruff et al. (2020):

    >>> network = conv_autoencoder((1, 28, 28), (16, 32), (64,), 32)
    >>> code, reconstruction = network(torch.zeros(3, 784))
    >>> code.shape, reconstruction.shape
    (torch.Size([3, 32]), torch.Size([3, 784]))

    Any other sizes, and series, do as well:

    >>> network = conv_autoencoder((2, 187), (8, 16, 32), (), 4)
    >>> network(torch.zeros(3, 374)).reconstruction.shape
    torch.Size([3, 374])
    """
    sizes = (input_shape, channels, hidden_layer_sizes, latent_dim, activation)
    options = {"kernel_size": kernel_size, "bias": bias, "batch_norm": batch_norm}
    return AutoencoderNetwork(
        ConvEncoder(*sizes, **options),
        ConvDecoder(*sizes, **options, output_activation=output_activation),
    )


def _on_rows(
    modules: Sequence[nn.Module], shapes: list[tuple[int, int, int]]
) -> list[nn.Sequential]:
    """Let modules that map maps take and return flat rows."""
    return [
        nn.Sequential(_Fold(shape), module, nn.Flatten())
        for module, shape in zip(modules, shapes, strict=False)
    ]


def _map_shapes(input_shape: Sequence[int], channels: Sequence[int]) -> list[tuple[int, int, int]]:
    """Shapes of the input and of what every module returns; a series has height 1."""
    if len(input_shape) not in (2, 3):
        raise ValueError(
            "input_shape must be (channels, height, width) for images or (channels, length) for "
            f"series; got {tuple(input_shape)}."
        )
    _check_positive("input_shape", input_shape)
    _check_positive("channels", channels)
    if not len(channels):
        raise ValueError(
            "channels must name the filters of at least one convolution, such as (8, 4): a network "
            "without any is anomaly_estimators.nn.autoencoder.mlp_autoencoder."
        )
    n_channels, *lengths = map(int, input_shape)
    most = min(lengths).bit_length() - 1
    if len(channels) > most:
        cure = f"give channels at most {most} long" if most else "use a fully connected network"
        if lengths[0] == 1 and len(lengths) == 2:
            cure = f"a series is given as ({n_channels}, {lengths[1]})"
        raise ValueError(
            f"input_shape={tuple(input_shape)} is too small for the {len(channels)} poolings of "
            f"channels={tuple(channels)}, each of which halves its sides: {cure}."
        )
    shapes = [(n_channels, *lengths)]
    for depth, n_filters in enumerate(channels, start=1):
        shapes.append((int(n_filters), *(length >> depth for length in lengths)))
    return [(shape[0], 1, shape[1]) if len(shape) == 2 else shape for shape in shapes]


def _window(input_shape: Sequence[int], length: int) -> tuple[int, int]:
    """Height and width of a window that has this length along every axis of the input."""
    return (1 if len(input_shape) == 2 else length, length)


def _check_layers(
    hidden_layer_sizes: Sequence[int], latent_dim: int, kernel_size: int, *activations: str
) -> None:
    _check_positive("hidden_layer_sizes", hidden_layer_sizes)
    _check_positive("latent_dim", [latent_dim])
    _check_positive("kernel_size", [kernel_size])
    if kernel_size % 2 == 0:
        raise ValueError(
            f"kernel_size={kernel_size} must be odd, so that a convolution keeps the size: take "
            f"{kernel_size + 1}."
        )
    for activation in activations:
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"activation {activation!r} is not known: choose one of {', '.join(ACTIVATIONS)}."
            )


def _check_positive(name: str, sizes: Sequence[int]) -> None:
    for size in sizes:
        if not isinstance(size, Integral) or isinstance(size, bool) or size < 1:
            raise ValueError(f"{name} must hold integers of at least 1; got {size!r}.")
