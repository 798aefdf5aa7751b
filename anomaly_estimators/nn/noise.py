"""Noise on the rows of a batch."""

from torch import Tensor, nn

from anomaly_estimators.nn.randomness import randn_like

__all__ = ["GaussianNoise"]


class GaussianNoise(nn.Module):
    """Add independent Gaussian noise in training; in evaluation rows pass as they are.

    Parameters
    ----------
    std : float
        Standard deviation. 0 draws nothing.

    Examples
    --------
    >>> import torch
    >>> layer, X = GaussianNoise(0.5), torch.zeros(2, 3)
    >>> bool((layer(X) != X).all())
    True
    >>> layer.eval()(X) is X
    True
    """

    def __init__(self, std: float):
        super().__init__()
        self.std = std

    def forward(self, X: Tensor) -> Tensor:
        if not self.training or self.std == 0:
            return X
        return X + self.std * randn_like(X)

    def extra_repr(self) -> str:
        return f"std={self.std}"
