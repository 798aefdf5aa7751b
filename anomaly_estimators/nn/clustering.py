"""An autoencoder and the centres among its codes."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from anomaly_estimators.functional.clustering import initial_centers, updated_centers
from anomaly_estimators.nn.autoencoder import Reconstruction

__all__ = ["ClusteringNetwork"]


class ClusteringNetwork(nn.Module):
    """Autoencoder with the centres M of its codes; ``forward`` returns code and reconstruction.

    Parameters
    ----------
    autoencoder : torch.nn.Module
        Returns ``(code, reconstruction)``, and has an ``encoder`` and a ``decoder``.
    latent_dim : int
        Width of the code.
    n_clusters : int
        Number of centres.

    Examples
    --------
    >>> from anomaly_estimators.nn.autoencoder import mlp_autoencoder
    >>> network = ClusteringNetwork(mlp_autoencoder(3, (4,), 2), 2, n_clusters=5)
    >>> network.centers.shape, network.counts.tolist()
    (torch.Size([5, 2]), [0, 0, 0, 0, 0])
    """

    def __init__(self, autoencoder: nn.Module, latent_dim: int, n_clusters: int):
        super().__init__()
        self.autoencoder = autoencoder
        self.register_buffer("centers", torch.zeros(n_clusters, latent_dim))
        # Codes that each centre is the mean of.
        self.register_buffer("counts", torch.zeros(n_clusters, dtype=torch.int64))

    def forward(self, X: Tensor) -> Reconstruction:
        return Reconstruction(*self.autoencoder(X))

    def encode(self, X: Tensor) -> Tensor:
        """Codes of rows."""
        return self.autoencoder.encoder(X)

    def decode(self, codes: Tensor) -> Tensor:
        """Rows of codes."""
        return self.autoencoder.decoder(codes)

    def place(self, batches: Iterable[Tensor], *, n_init: int, seed: int) -> None:
        """Set the centres by k-means on the codes of rows, batch by batch."""
        codes = torch.cat([self.encode(X) for X in batches])
        self._set(*initial_centers(codes, len(self.centers), n_init=n_init, seed=seed))

    def follow(self, outputs: Reconstruction) -> None:
        """Move the centres by the codes of a batch."""
        self._set(*updated_centers(self.centers, self.counts, outputs.code))

    def _set(self, centers: Tensor, counts: Tensor) -> None:
        self.centers.copy_(centers)
        self.counts.copy_(counts)
