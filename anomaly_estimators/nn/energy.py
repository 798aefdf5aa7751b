"""A network that gives every row an energy."""

import copy

import torch
from torch import Tensor, nn

from anomaly_estimators.functional.energy import (
    energy_gradient,
    energy_reconstruction,
    quadratic_energy,
)
from anomaly_estimators.nn.mlp import ACTIVATIONS
from anomaly_estimators.nn.randomness import generator_for

__all__ = ["EnergyNetwork"]

# Rows whose gradient is computed at a time, which keeps what all layers make of them.
_ROWS = 4096


class EnergyNetwork(nn.Module):
    """Deep energy ``||x - b'||^2 / 2 - sum_j h_j(x)`` ([1]_, section 3).

    ``forward`` returns the reconstructions of noisy rows, ``f(x) = x - grad E(x)``. In evaluation the
    noise is the same in every call, so that held-out rows can be compared between epochs.

    Parameters
    ----------
    encoder : torch.nn.Module
        Maps ``(n, n_features)`` to ``(n, k)``, row by row.
    n_features : int
    activation : str
        Activation after the encoder, a key of ``ACTIVATIONS``.
    noise : float
        Standard deviation of the noise.
    autoencoder : torch.nn.Module, default=None
        Autoencoder whose encoder it is, for the pre-training.

    References
    ----------
    .. [1] Zhai et al., "Deep Structured Energy Based Models for Anomaly Detection", ICML 2016.

    Examples
    --------
    >>> network = EnergyNetwork(nn.Linear(3, 2), 3, "softplus", noise=0.5)
    >>> X = torch.zeros(4, 3)
    >>> network.energy(X).shape, network.gradient(X).shape, network(X).shape
    (torch.Size([4]), torch.Size([4, 3]), torch.Size([4, 3]))
    """

    def __init__(
        self,
        encoder: nn.Module,
        n_features: int,
        activation: str,
        noise: float,
        autoencoder: nn.Module | None = None,
    ):
        super().__init__()
        self.encoder = encoder
        self.activation = ACTIVATIONS[activation]()
        self.visible_bias = nn.Parameter(torch.zeros(n_features))
        self.noise = noise
        self.autoencoder = autoencoder

    def features(self, X: Tensor) -> Tensor:
        """Last layer h of rows."""
        return self.activation(self.encoder(X))

    def energy(self, X: Tensor) -> Tensor:
        """Energy of rows, of shape (n,)."""
        return quadratic_energy(X, self.features(X), self.visible_bias)

    def gradient(self, X: Tensor) -> Tensor:
        """Gradient of the energy at rows, without a graph; also in inference mode."""
        network = self
        if self.visible_bias.is_inference():
            # It was copied in inference mode, and no gradient passes through such parameters.
            with torch.inference_mode(False):
                network = copy.deepcopy(self)
        return torch.cat([energy_gradient(network.energy, rows) for rows in X.split(_ROWS)])

    def forward(self, X: Tensor) -> Tensor:
        generator = (
            generator_for(X.device) if self.training else torch.Generator(X.device).manual_seed(0)
        )
        drawn = torch.randn(X.shape, dtype=X.dtype, device=X.device, generator=generator)
        return energy_reconstruction(
            self.energy, X + self.noise * drawn, create_graph=torch.is_grad_enabled()
        )

    def extra_repr(self) -> str:
        return f"noise={self.noise}"
