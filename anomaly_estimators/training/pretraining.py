"""Phases that train an autoencoder before the method's own objective."""

import torch
from torch import Tensor, nn

from anomaly_estimators.functional.reconstruction import squared_error
from anomaly_estimators.nn.randomness import rand_like
from anomaly_estimators.training.phases import Phase

__all__ = ["autoencoder_phases", "reconstruction_loss"]


def reconstruction_loss(outputs, X: Tensor, y: Tensor) -> Tensor:
    """Mean over the rows of the squared error, summed over the features."""
    _, reconstruction = outputs
    return squared_error(X, reconstruction).mean()


class _LayerAutoencoder(nn.Module):
    """One layer of an encoder and its mirror image, on the codes of the layers below.

    Parameters
    ----------
    below : list of torch.nn.Module
        Layers below, which stay as they are.
    encoder, decoder : torch.nn.Module
    corruption : float
        Share of the inputs that are set to 0.
    """

    def __init__(
        self, below: list[nn.Module], encoder: nn.Module, decoder: nn.Module, corruption: float
    ):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.corruption = corruption
        # In a tuple, so that they are no parameters of this module.
        self._below = tuple(below)

    def train(self, mode: bool = True) -> nn.Module:
        # The layers below are trained: their statistics of the batches stay as they are too.
        for layer in self._below:
            layer.eval()
        return super().train(mode)

    def forward(self, X: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            for layer in self._below:
                X = layer(X)
        corrupted = X
        if self.corruption and self.training:
            corrupted = X * (rand_like(X) >= self.corruption)
        return X, self.decoder(self.encoder(corrupted))


def _layer_loss(outputs, X: Tensor, y: Tensor) -> Tensor:
    target, reconstruction = outputs
    return squared_error(target, reconstruction).mean()


def autoencoder_phases(
    network: nn.Module,
    how: str | None,
    max_iter: int | None,
    *,
    corruption: float,
    fine_tune: bool = True,
) -> list[Phase]:
    """Return the phases of pre-training.

    Parameters
    ----------
    network : torch.nn.Module
        With ``encoder`` and ``decoder``.
    how : {"end_to_end", "layerwise"} or None
        "layerwise" trains every layer of the encoder with its counterpart in the decoder as a denoising
        autoencoder of the codes below it, from the outside in, and then the whole [1]_.
    max_iter : int or None
        Epochs of every phase; ``None`` leaves it to the number of rows.
    corruption : float
        Share of the inputs of a layer that are masked.
    fine_tune : bool, default=True
        Whether the whole is trained after the layers.

    Returns
    -------
    list of Phase

    Raises
    ------
    ValueError
        If the layers of the network cannot be told apart.

    References
    ----------
    .. [1] Vincent et al., "Stacked Denoising Autoencoders", JMLR 11, 2010.
    """
    if how is None:
        return []
    phases = []
    if how == "layerwise":
        encoder, decoder = _blocks(network.encoder), _blocks(network.decoder)
        if encoder is None or decoder is None or len(encoder) != len(decoder):
            raise ValueError(
                "pretrain='layerwise' needs an encoder and a decoder with a method blocks() that returns "
                "their layers, as many on both sides. Use pretrain='end_to_end' for this network."
            )
        phases = [
            Phase(
                name=f"pre-training, layer {depth + 1}",
                loss=_layer_loss,
                max_iter=max_iter,
                module=_LayerAutoencoder(
                    encoder[:depth], encoder[depth], decoder[-1 - depth], corruption
                ),
                main=False,
            )
            for depth in range(len(encoder))
        ]
    if fine_tune:
        phases.append(
            Phase(
                name="pre-training",
                loss=reconstruction_loss,
                max_iter=max_iter,
                module=network,
                main=False,
            )
        )
    return phases


def _blocks(part: nn.Module) -> list[nn.Module] | None:
    return part.blocks() if hasattr(part, "blocks") else None
