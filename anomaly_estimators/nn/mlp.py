"""Fully connected networks."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

from torch import nn

from anomaly_estimators.nn.normalisation import BatchNorm
from anomaly_estimators.nn.randomness import Dropout

__all__ = ["ACTIVATIONS", "MLP", "initialise"]

#: The activations that can be asked for by name.
ACTIVATIONS = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "identity": nn.Identity,
    "leaky_relu": partial(nn.LeakyReLU, 0.1),
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}


# The activations that are flat on one side, for which Glorot's initialisation is too small.
_RECTIFIERS = ("elu", "gelu", "leaky_relu", "relu", "silu")


def initialise(layer: nn.Linear, activation: str) -> None:
    """Draw the weights of a layer so that the variance of its outputs is that of its inputs.

    Glorot & Bengio (2010) for activations that are symmetric about 0, He et al. (2015) for
    rectifiers; biases are 0. torch's own default is about half of Glorot's, and a deep tanh network
    then starts almost constant.

    Parameters
    ----------
    layer : torch.nn.Linear
    activation : str
        What follows the layer.

    Examples
    --------
    >>> layer = nn.Linear(4, 2)
    >>> initialise(layer, "tanh")
    >>> layer.bias.tolist()
    [0.0, 0.0]
    """
    if activation in _RECTIFIERS:
        nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
    else:
        nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class MLP(nn.Sequential):
    """Fully connected network; no activation after the last layer.

    Parameters
    ----------
    sizes : sequence of int
        Widths of all layers, the input's first: at least two.
    activation : str, default="tanh"
        Activation after every layer but the last, a key of ``ACTIVATIONS``.
    dropout : float, default=0.0
        Probability with which an output of a hidden layer is dropped in training.
    bias : bool, default=True
        Whether the layers have bias terms.
    batch_norm : bool, default=False
        Whether the outputs of the hidden layers are normalised before the activation (Ioffe &
        Szegedy 2015), without the affine terms, which would bring a bias back in.

    Examples
    --------
    >>> MLP([6, 12, 4, 1])
    MLP(
      (0): Linear(in_features=6, out_features=12, bias=True)
      (1): Tanh()
      (2): Linear(in_features=12, out_features=4, bias=True)
      (3): Tanh()
      (4): Linear(in_features=4, out_features=1, bias=True)
    )
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str = "tanh",
        *,
        dropout: float = 0.0,
        bias: bool = True,
        batch_norm: bool = False,
    ):
        layers: list[nn.Module] = []
        for depth, (n_in, n_out) in enumerate(pairwise(sizes), start=1):
            layers.append(nn.Linear(n_in, n_out, bias=bias))
            if depth < len(sizes) - 1:
                if batch_norm:
                    layers.append(BatchNorm(n_out, affine=False))
                layers.append(ACTIVATIONS[activation]())
                if dropout:
                    layers.append(Dropout(dropout))
        super().__init__(*layers)
        for layer in self:
            if isinstance(layer, nn.Linear):
                initialise(layer, activation)

    def blocks(self) -> list[nn.Sequential]:
        """Return the layers with their activations, sharing the parameters of this network."""
        layers = list(self)
        starts = [i for i, layer in enumerate(layers) if isinstance(layer, nn.Linear)]
        return [nn.Sequential(*layers[i:j]) for i, j in pairwise([*starts, len(layers)])]
