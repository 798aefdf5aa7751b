"""Autoencoder networks."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from anomaly_estimators.nn.mlp import MLP

__all__ = ["AutoencoderNetwork", "Reconstruction", "mlp_autoencoder"]


class Reconstruction(NamedTuple):
    """What an autoencoder makes of a batch."""

    code: Tensor  # (n, latent_dim)
    reconstruction: Tensor  # (n, n_features)


class AutoencoderNetwork(nn.Module):
    """An encoder and a decoder; ``forward`` returns the codes and the reconstructions.

    Parameters
    ----------
    encoder : torch.nn.Module
        Maps ``(n, n_features)`` to ``(n, latent_dim)``.
    decoder : torch.nn.Module
        Maps ``(n, latent_dim)`` back to ``(n, n_features)``.

    Examples
    --------
    >>> import torch
    >>> network = AutoencoderNetwork(nn.Linear(5, 2), nn.Linear(2, 5))
    >>> code, reconstruction = network(torch.zeros(3, 5))
    >>> code.shape, reconstruction.shape
    (torch.Size([3, 2]), torch.Size([3, 5]))
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, X: Tensor) -> Reconstruction:
        code = self.encoder(X)
        return Reconstruction(code, self.decoder(code))


def mlp_autoencoder(
    n_features: int,
    hidden_layer_sizes: Sequence[int],
    latent_dim: int,
    activation: str = "tanh",
    *,
    bias: bool = True,
    batch_norm: bool = False,
) -> AutoencoderNetwork:
    """Fully connected autoencoder whose decoder mirrors its encoder.

    Parameters
    ----------
    n_features : int
        Width of the input.
    hidden_layer_sizes : sequence of int
        Widths of the encoder's hidden layers; the decoder has them in reverse.
    latent_dim : int
        Width of the code.
    activation : str, default="tanh"
        Activation of the hidden layers. Code and reconstruction have none.
    bias : bool, default=True
        Whether the layers have bias terms.
    batch_norm : bool, default=False
        Whether the hidden layers are followed by batch normalisation without affine terms.

    Returns
    -------
    AutoencoderNetwork

    Examples
    --------
    >>> mlp_autoencoder(6, (12, 4), 1).decoder[0]
    Linear(in_features=1, out_features=4, bias=True)
    """
    sizes = [n_features, *hidden_layer_sizes, latent_dim]
    options = {"activation": activation, "bias": bias, "batch_norm": batch_norm}
    return AutoencoderNetwork(MLP(sizes, **options), MLP(sizes[::-1], **options))
