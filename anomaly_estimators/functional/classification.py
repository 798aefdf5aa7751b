"""Losses of classifiers, as functions of tensors."""

from torch import Tensor
from torch.nn import functional as F

__all__ = ["anomaly_cross_entropy"]


def anomaly_cross_entropy(
    logits: Tensor, labels: Tensor, anomaly_weight: Tensor | float = 1.0
) -> Tensor:
    """Binary cross-entropy of known anomalies against all other rows ([1]_, appendix E).

    Parameters
    ----------
    logits : Tensor of shape (n,)
        Log-odds that a row is an anomaly.
    labels : Tensor of shape (n,)
        Below 0 for known anomalies; all others count as normal, the unlabelled ones too.
    anomaly_weight : Tensor of shape () or float, default=1.0
        Weight of an anomaly, against 1 for any other row.

    Returns
    -------
    Tensor of shape ()
        Mean over the rows.

    References
    ----------
    .. [1] Ruff et al., "Deep Semi-Supervised Anomaly Detection", ICLR 2020.

    Examples
    --------
    >>> import torch
    >>> anomaly_cross_entropy(torch.zeros(2), torch.tensor([0, -1]))
    tensor(0.6931)
    """
    target = (labels < 0).to(logits.dtype)
    weight = 1.0 + (anomaly_weight - 1.0) * target
    return F.binary_cross_entropy_with_logits(logits, target, weight=weight)
