"""An encoder and the centre of its codes."""

import torch
from torch import Tensor, nn

from anomaly_estimators.functional.hypersphere import squared_distance

__all__ = ["HypersphereNetwork"]


class HypersphereNetwork(nn.Module):
    """Encoder phi with the centre c of its codes; ``forward`` returns the codes.

    Parameters
    ----------
    encoder : torch.nn.Module
        Maps ``(n, n_features)`` to ``(n, latent_dim)``.
    latent_dim : int
        Width of the code.
    autoencoder : torch.nn.Module, default=None
        Autoencoder whose encoder it is, for the pre-training.

    Examples
    --------
    >>> network = HypersphereNetwork(nn.Linear(3, 2, bias=False), 2)
    >>> network.squared_distance(torch.zeros(4, 3))
    tensor([0., 0., 0., 0.], grad_fn=<SumBackward1>)
    """

    def __init__(self, encoder: nn.Module, latent_dim: int, autoencoder: nn.Module | None = None):
        super().__init__()
        self.encoder = encoder
        self.autoencoder = autoencoder
        self.register_buffer("center", torch.zeros(latent_dim))
        # Mean squared distance at the start of the training, the unit of the objective.
        self.register_buffer("unit", torch.ones(()))

    def forward(self, X: Tensor) -> Tensor:
        return self.encoder(X)

    def squared_distance(self, X: Tensor) -> Tensor:
        """Squared distance of the codes of rows to the centre."""
        return squared_distance(self.encoder(X), self.center)
