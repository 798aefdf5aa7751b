"""The UAI layer: a logistic head on a detector's latent representation and score."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["UAIHead", "UAINetwork"]


class UAIHead(nn.Module):
    """Log-odds of being an anomaly from ``[l; s]`` ([1]_, eq 3 before the sigmoid).

    The gradient passes through the latent representation, not through the score. Each input is
    taken relative to its mean and spread over the training rows: the head can make the same
    functions, and one learning rate suits them all.

    Parameters
    ----------
    latent_dim : int
        Width of the latent representation.

    References
    ----------
    .. [1] Pimentel et al., "UaiNets: From Unsupervised to Active Deep Anomaly Detection", 2018.

    Examples
    --------
    >>> head = UAIHead(2)
    >>> latent = torch.zeros(3, 2, requires_grad=True)
    >>> score = torch.arange(3.0, requires_grad=True)
    >>> head(latent, score).sum().backward()
    >>> latent.grad.shape, score.grad is None
    (torch.Size([3, 2]), True)
    """

    def __init__(self, latent_dim: int):
        super().__init__()
        self.linear = nn.Linear(latent_dim + 1, 1)
        # Before it has learned anything, the head ranks as the score does.
        nn.init.zeros_(self.linear.bias)
        nn.init.zeros_(self.linear.weight)
        with torch.no_grad():
            self.linear.weight[0, -1] = 1.0
        self.register_buffer("center", torch.zeros(latent_dim + 1))
        self.register_buffer("scale", torch.ones(latent_dim + 1))

    def forward(self, latent: Tensor, score: Tensor) -> Tensor:
        inputs = join(latent, score).to(self.linear.weight.dtype)
        return self.linear((inputs - self.center) / self.scale).squeeze(1)

    @torch.no_grad()
    def standardise(self, inputs: Iterable[Tensor]) -> None:
        """Set centre and spread to those of inputs.

        Parameters
        ----------
        inputs : iterable of Tensor of shape (n, latent_dim + 1)
            ``[l; s]``, piece by piece.
        """
        count, total, squares = 0, 0.0, 0.0
        for piece in inputs:
            piece = piece.double()
            count += len(piece)
            total = total + piece.sum(0)
            squares = squares + piece.square().sum(0)
        mean = total / count
        spread = (squares / count - mean.square()).clamp(min=0.0).sqrt()
        # What is constant but for rounding carries nothing, and must not be blown up.
        constant = spread <= 1e-6 * mean.abs().clamp(min=1e-30)
        self.center.copy_(mean)
        self.scale.copy_(torch.where(constant, torch.ones_like(spread), spread))


class UAINetwork(nn.Module):
    """A detector's network and the head upon it, in a form that one step can train.

    ``forward`` takes a batch whose last ``n_audited`` rows are the audited ones. It returns what the
    trained part of the detector's network makes of the others, and the log-odds of the audited.

    Parameters
    ----------
    base : torch.nn.Module
        The detector's network.
    trained : torch.nn.Module
        What the detector's own loss calls: the network, or a part of it.
    head : UAIHead
    latent_and_score : callable
        ``latent_and_score(base, X)`` -> latent representation, score.
    n_audited : int
    """

    def __init__(
        self,
        base: nn.Module,
        trained: nn.Module,
        head: UAIHead,
        latent_and_score: Callable[[nn.Module, Tensor], tuple[Tensor, Tensor]],
        n_audited: int,
    ):
        super().__init__()
        self.base = base
        self.trained = trained
        self.head = head
        self.latent_and_score = latent_and_score
        self.n_audited = n_audited
        self._normalisations = tuple(m for m in base.modules() if isinstance(m, _BatchNorm))

    def forward(self, X: Tensor) -> tuple[object, Tensor]:
        outputs = self.trained(X[: -self.n_audited])
        # Audited rows are no sample of the table: they are normalised as they are when they are scored,
        # and leave no trace in the statistics.
        for layer in self._normalisations:
            layer.eval()
        logits = self.head(*self.latent_and_score(self.base, X[-self.n_audited :]))
        for layer in self._normalisations:
            layer.train(self.training)
        return outputs, logits


def join(latent: Tensor, score: Tensor) -> Tensor:
    """Return ``[l; s]``, of shape (n, latent_dim + 1), with s cut off from the gradient.

    Examples
    --------
    >>> join(torch.zeros(2, 3), torch.ones(2)).shape
    torch.Size([2, 4])
    """
    return torch.cat([latent, score.detach().unsqueeze(1).to(latent.dtype)], dim=1)
