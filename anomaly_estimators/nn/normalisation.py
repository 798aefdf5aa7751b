"""Batch normalisation of rows."""

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["BatchNorm"]


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation that takes a batch of one row too.

    A single row has no variance, and torch refuses it in training: here it is normalised by the
    running statistics, which it leaves as they are.

    Parameters
    ----------
    All parameters are those of :class:`torch.nn.BatchNorm1d`.

    Examples
    --------
    >>> import torch
    >>> BatchNorm(2, affine=False)(torch.ones(1, 2))
    tensor([[1.0000, 1.0000]])
    """

    def forward(self, X: Tensor) -> Tensor:
        if self.training and X.shape[0] == 1:
            return F.batch_norm(
                X, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        return super().forward(X)
