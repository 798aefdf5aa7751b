"""Deep SVDD and Deep SAD: objectives of codes around a centre, as functions of tensors."""

from collections.abc import Iterable

import torch
from torch import Tensor

__all__ = [
    "ANOMALY_EPS",
    "CENTER_MARGIN",
    "hypersphere_center",
    "one_class_loss",
    "optimal_radius",
    "semi_supervised_loss",
    "soft_boundary_loss",
    "squared_distance",
]

#: Added to the squared distance of a labelled anomaly before it is inverted ([1]_, footnote 1).
ANOMALY_EPS = 1e-6
#: A coordinate of the centre that is nearer to 0 than this is moved there, to the side that it is on.
CENTER_MARGIN = 0.1


def squared_distance(codes: Tensor, center: Tensor) -> Tensor:
    """Squared distance of codes to the centre, the square of eq 4 of [1]_.

    Parameters
    ----------
    codes : Tensor of shape (n, d)
    center : Tensor of shape (d,)

    Returns
    -------
    Tensor of shape (n,)

    References
    ----------
    .. [1] Ruff et al., "Deep Semi-Supervised Anomaly Detection", ICLR 2020.

    Examples
    --------
    >>> squared_distance(torch.tensor([[3.0, 4.0]]), torch.zeros(2))
    tensor([25.])
    """
    return (codes - center).square().sum(dim=1)


def one_class_loss(squared_distances: Tensor) -> Tensor:
    """Objective of one-class Deep SVDD, the first term of eq 3 of [1]_.

    Parameters
    ----------
    squared_distances : Tensor of shape (n,)

    Returns
    -------
    Tensor of shape ()

    References
    ----------
    .. [1] Ruff et al., "Deep Semi-Supervised Anomaly Detection", ICLR 2020.

    Examples
    --------
    >>> one_class_loss(torch.tensor([1.0, 3.0]))
    tensor(2.)
    """
    return squared_distances.mean()


def optimal_radius(squared_distances: Tensor, nu: float) -> Tensor:
    """Squared radius that solves the soft-boundary objective for given codes.

    The objective is piecewise linear in the squared radius, and least where a share nu of the rows
    lies outside: at the (1 - nu)-quantile of the squared distances.

    Parameters
    ----------
    squared_distances : Tensor of shape (n,)
    nu : float
        In (0, 1].

    Returns
    -------
    Tensor of shape ()

    Examples
    --------
    >>> optimal_radius(torch.arange(5.0), 0.25)
    tensor(3.)
    """
    return torch.quantile(squared_distances, 1.0 - nu)


def soft_boundary_loss(squared_distances: Tensor, nu: float) -> Tensor:
    """Objective of soft-boundary Deep SVDD ([1]_, eq 3), with the radius solved for the batch.

    Parameters
    ----------
    squared_distances : Tensor of shape (n,)
    nu : float
        Share of the rows that may lie outside the sphere, in (0, 1].

    Returns
    -------
    Tensor of shape ()
        The squared radius, and the mean excess over it divided by nu.

    References
    ----------
    .. [1] Ruff et al., "Deep One-Class Classification", ICML 2018.

    Examples
    --------
    >>> soft_boundary_loss(torch.tensor([0.0, 1.0, 2.0, 3.0, 8.0]), nu=0.25)
    tensor(7.)
    """
    # No gradient through the radius: at its optimum, its part of the gradient vanishes.
    radius = optimal_radius(squared_distances.detach(), nu)
    return radius + torch.relu(squared_distances - radius).mean() / nu


def semi_supervised_loss(
    squared_distances: Tensor, labels: Tensor, eta: float, eps: float = ANOMALY_EPS
) -> Tensor:
    """Objective of Deep SAD, eq 8 of [1]_ without the weight decay.

    Parameters
    ----------
    squared_distances : Tensor of shape (n,)
        Of unlabelled and labelled rows alike, in the proportion that they have in the whole set.
    labels : Tensor of shape (n,)
        0 for unlabelled rows, +1 for known normal ones, -1 for known anomalies.
    eta : float
        Weight of a labelled row; an unlabelled one has the weight 1.
    eps : float, default=1e-6
        Added to the squared distances that are inverted.

    Returns
    -------
    Tensor of shape ()

    References
    ----------
    .. [1] Ruff et al., "Deep Semi-Supervised Anomaly Detection", ICLR 2020.

    Examples
    --------
    >>> distances, labels = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 1, -1])
    >>> semi_supervised_loss(distances, labels, eta=2.0, eps=0.0)
    tensor(1.8333)
    """
    labelled = torch.where(labels < 0, 1.0 / (squared_distances + eps), squared_distances)
    return torch.where(labels == 0, squared_distances, eta * labelled).mean()


def hypersphere_center(
    codes: Iterable[tuple[Tensor, Tensor]], margin: float = CENTER_MARGIN
) -> Tensor:
    """Mean of the codes, known anomalies left out, with its coordinates kept away from 0.

    A coordinate of 0 could be met by a unit that is always 0, and the sphere would shrink to
    nothing there ([1]_, appendix C; [2]_, section 3.3).

    Parameters
    ----------
    codes : iterable of (Tensor of shape (n, d), Tensor of shape (n,))
        Codes and labels, batch by batch; at least one row is no known anomaly.
    margin : float, default=0.1
        Least absolute value of a coordinate.

    Returns
    -------
    Tensor of shape (d,), dtype float64

    References
    ----------
    .. [1] Ruff et al., "Deep Semi-Supervised Anomaly Detection", ICLR 2020.
    .. [2] Ruff et al., "Deep One-Class Classification", ICML 2018.

    Examples
    --------
    >>> codes = torch.tensor([[1.0, 0.0], [3.0, -0.02], [99.0, 99.0]])
    >>> hypersphere_center([(codes, torch.tensor([0, 1, -1]))])
    tensor([ 2.0000, -0.1000], dtype=torch.float64)
    """
    total, n_rows = 0.0, 0
    for batch, labels in codes:
        normal = (labels >= 0).unsqueeze(1)
        # Selected by where, since a far anomaly may be infinite, which no factor of 0 removes.
        total = total + torch.where(normal, batch.double(), 0.0).sum(dim=0)
        n_rows += int(normal.sum())
    center = total / n_rows
    side = torch.where(center < 0, -1.0, 1.0)
    return torch.where(center.abs() < margin, side * margin, center)
