"""Deep SVDD and Deep SAD: objectives of codes around a centre, as functions of tensors."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

__all__ = [
    "ANOMALY_EPS",
    "CENTER_MARGIN",
    "hypersphere_center",
    "mean_squared_distance",
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

    The objective is piecewise linear in the squared radius, and least at the smallest one that no
    more than a share nu of the rows lies outside of.

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
    n_rows = len(squared_distances)
    # The smallest excess is rounding: 0.29 * 100 is 28.999999999999996.
    n_outside = min(math.floor(nu * n_rows + 1e-9), n_rows - 1)
    return squared_distances.sort().values[n_rows - 1 - n_outside]


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
    # With its gradient: the radius is the distance of a row, which pays what the rows outside leave
    # of the share nu. Where the batch has fewer than 1 / nu rows, that is all of it.
    radius = optimal_radius(squared_distances, nu)
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
        Codes and labels, batch by batch. Codes that are not finite are left out too.
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
        # An infinite code would move the centre out of reach of all the others.
        counted = (labels >= 0) & batch.isfinite().all(dim=1)
        # Selected by where, since no factor of 0 removes an infinite one.
        total = total + torch.where(counted.unsqueeze(1), batch.double(), 0.0).sum(dim=0)
        n_rows += int(counted.sum())
    center = total / max(1, n_rows)
    side = torch.where(center < 0, -1.0, 1.0)
    return torch.where(center.abs() < margin, side * margin, center)


def mean_squared_distance(squared_distances: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Mean of squared distances, known anomalies left out; 1 where it is 0.

    Parameters
    ----------
    squared_distances : iterable of (Tensor of shape (n,), Tensor of shape (n,))
        Squared distances and labels, batch by batch. Distances that are not finite are left out too.

    Returns
    -------
    Tensor of shape (), dtype float64

    Examples
    --------
    >>> distances = torch.tensor([1.0, 3.0, 99.0])
    >>> mean_squared_distance([(distances, torch.tensor([0, 1, -1]))])
    tensor(2., dtype=torch.float64)
    """
    total, n_rows = 0.0, 0
    for batch, labels in squared_distances:
        counted = (labels >= 0) & batch.isfinite()
        total = total + batch.double()[counted].sum()
        n_rows += int(counted.sum())
    mean = total / max(1, n_rows)
    return torch.where(mean > 0, mean, 1.0)
