"""Losses of classifiers, as functions of tensors."""

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["UNSEEN_LABEL", "anomaly_cross_entropy", "label_cross_entropy"]

#: Cross-entropy of a label without a class: above all that a network gives, yet far enough from the
#: largest number of single precision that means and sums of it are finite.
UNSEEN_LABEL = 1e30


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


def label_cross_entropy(logits: Tensor, classes: Tensor) -> Tensor:
    """Cross-entropy of the label that a row was given, under a classifier of labels ([1]_, eq 7).

    Parameters
    ----------
    logits : Tensor of shape (n, n_classes)
        The softmax over a row of them is the probability of each label.
    classes : Tensor of shape (n,)
        Number of the given label; below 0 for a label that none of the classes stands for.

    Returns
    -------
    Tensor of shape (n,)
        At least 0; ``UNSEEN_LABEL`` where the label has no class.

    References
    ----------
    .. [1] Pimentel et al., "UaiNets: From Unsupervised to Active Deep Anomaly Detection", 2018.
       https://arxiv.org/abs/1805.09411

    Examples
    --------
    >>> import torch
    >>> label_cross_entropy(torch.tensor([[0.0, 0.0], [0.0, 5.0]]), torch.tensor([0, 1]))
    tensor([0.6931, 0.0067])
    """
    classes = classes.long()
    entropy = F.cross_entropy(logits, classes.clamp(min=0), reduction="none")
    return torch.where(classes < 0, UNSEEN_LABEL, entropy)
