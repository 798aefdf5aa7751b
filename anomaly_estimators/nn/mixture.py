"""The mixture head: memberships by a network, and the Gaussian mixture that they imply."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anomaly_estimators.functional.mixture import mixture_energy
from anomaly_estimators.nn.mlp import MLP

__all__ = ["MixtureHead"]


class MixtureHead(nn.Module):
    """Estimation network with the mixture that was estimated from its memberships.

    ``forward`` returns the logits of the memberships (eq 4 of [1]_); ``energy`` scores
    representations by the stored mixture (eq 6).

    Parameters
    ----------
    n_inputs : int
        Width of the representation z.
    n_components : int
        Number of components.
    hidden_layer_sizes : sequence of int
        Widths of the hidden layers.
    activation : str, default="tanh"
        Activation of the hidden layers.
    dropout : float, default=0.5
        Probability with which a hidden unit is dropped in training.
    network : torch.nn.Module, default=None
        Own network in the place of the fully connected one.

    References
    ----------
    .. [1] Zong et al., "Deep Autoencoding Gaussian Mixture Model for Unsupervised Anomaly
       Detection", ICLR 2018.

    Examples
    --------
    >>> head = MixtureHead(3, 4, (10,))
    >>> head(torch.zeros(5, 3)).shape
    torch.Size([5, 4])
    """

    def __init__(
        self,
        n_inputs: int,
        n_components: int,
        hidden_layer_sizes: Sequence[int],
        activation: str = "tanh",
        dropout: float = 0.5,
        network: nn.Module | None = None,
    ):
        super().__init__()
        if network is None:
            sizes = [n_inputs, *hidden_layer_sizes, n_components]
            network = MLP(sizes, activation, dropout=dropout)
        self.network = network
        # In float64: they are sums over all training rows.
        kwargs = {"dtype": torch.float64}
        eye = torch.eye(n_inputs, **kwargs).expand(n_components, -1, -1)
        self.register_buffer("weights", torch.full((n_components,), 1.0 / n_components, **kwargs))
        self.register_buffer("means", torch.zeros(n_components, n_inputs, **kwargs))
        self.register_buffer("covariances", eye.clone())
        self.register_buffer("cholesky", eye.clone())

    def forward(self, z: Tensor) -> Tensor:
        return self.network(z)

    def energy(self, z: Tensor) -> Tensor:
        """Energy of representations under the stored mixture, in float64."""
        return mixture_energy(z.double(), self.weights, self.means, self.cholesky)
