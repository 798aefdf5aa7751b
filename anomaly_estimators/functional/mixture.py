"""The Gaussian mixture of DAGMM: equations 5, 6, 8 and the penalty of equation 7 of [1]_.

Shapes: ``z`` is ``(n, d)``, memberships ``gamma`` are ``(n, K)``, mixture weights ``(K,)``, means
``(K, d)``, covariances ``(K, d, d)``. Every function is differentiable, has no state and no branch
on the values of a tensor, so that it can be captured or mapped over many models.

References
----------
.. [1] Zong et al., "Deep Autoencoding Gaussian Mixture Model for Unsupervised Anomaly Detection",
   ICLR 2018.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "MixtureMoments",
    "component_log_density",
    "covariance_penalty",
    "merge_moments",
    "mixture_energy",
    "mixture_moments",
    "mixture_parameters",
    "negative_evidence_bound",
    "regularised_cholesky",
]

# A component that holds no row keeps this much mass: enough to divide by, too little to matter.
_MIN_MASS = 1e-10


class MixtureMoments(NamedTuple):
    """Sufficient statistics of soft memberships: mass, mean and scatter of every component."""

    mass: Tensor  # (K,)     sum of the memberships
    mean: Tensor  # (K, d)   weighted means
    scatter: Tensor  # (K, d, d) weighted sums of outer products about the mean


def mixture_moments(z: Tensor, gamma: Tensor) -> MixtureMoments:
    """Mass, mean and scatter of every component: the sums of [1]_, eq 5.

    Parameters
    ----------
    z : Tensor of shape (n, d)
    gamma : Tensor of shape (n, K)
        Soft memberships, at least 0.

    Returns
    -------
    MixtureMoments

    Examples
    --------
    >>> import torch
    >>> z = torch.tensor([[0.0], [2.0]])
    >>> mixture_moments(z, torch.ones(2, 1)).scatter
    tensor([[[2.]]])
    """
    mass = gamma.sum(dim=0)
    mean = (gamma.T @ z) / mass.clamp(min=_MIN_MASS).unsqueeze(1)
    centred = z.unsqueeze(0) - mean.unsqueeze(1)
    scatter = (gamma.T.unsqueeze(2) * centred).transpose(1, 2) @ centred
    return MixtureMoments(mass, mean, scatter)


def merge_moments(a: MixtureMoments, b: MixtureMoments) -> MixtureMoments:
    """Moments of two sets of rows together, from the moments of each (Chan et al. 1979).

    With it the mixture of any number of rows is estimated batch by batch in one pass, and without
    the cancellation of raw second moments.

    Parameters
    ----------
    a, b : MixtureMoments

    Returns
    -------
    MixtureMoments

    Examples
    --------
    >>> import torch
    >>> z, one = torch.tensor([[0.0], [2.0], [7.0]]), torch.ones(3, 1)
    >>> parts = mixture_moments(z[:1], one[:1]), mixture_moments(z[1:], one[1:])
    >>> merge_moments(*parts).mean
    tensor([[3.]])
    """
    mass = a.mass + b.mass
    share = (b.mass / mass.clamp(min=_MIN_MASS)).unsqueeze(1)
    step = b.mean - a.mean
    between = (a.mass.unsqueeze(1) * share).unsqueeze(2) * step.unsqueeze(2) * step.unsqueeze(1)
    return MixtureMoments(mass, a.mean + share * step, a.scatter + b.scatter + between)


def mixture_parameters(moments: MixtureMoments) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, means and covariances of the mixture ([1]_, eq 5).

    Parameters
    ----------
    moments : MixtureMoments

    Returns
    -------
    weights : Tensor of shape (K,)
    means : Tensor of shape (K, d)
    covariances : Tensor of shape (K, d, d)

    Examples
    --------
    >>> import torch
    >>> z = torch.tensor([[0.0], [2.0]])
    >>> mixture_parameters(mixture_moments(z, torch.ones(2, 1)))
    (tensor([1.]), tensor([[1.]]), tensor([[[1.]]]))
    """
    mass = moments.mass.clamp(min=_MIN_MASS)
    return mass / mass.sum(), moments.mean, moments.scatter / mass.view(-1, 1, 1)


def regularised_cholesky(covariances: Tensor, *, ridge: float = 1e-6) -> Tensor:
    """Lower Cholesky factors of covariances that may be singular.

    ``ridge`` times the mean variance of a component, and an absolute floor of ``ridge**2``, is
    added to its diagonal, so that a component without members or with fewer rows than dimensions
    has a factor too, whatever the scale of the data.

    Parameters
    ----------
    covariances : Tensor of shape (K, d, d)
    ridge : float, default=1e-6
        Relative ridge.

    Returns
    -------
    Tensor of shape (K, d, d)

    Examples
    --------
    >>> import torch
    >>> regularised_cholesky(torch.ones(1, 2, 2)).isfinite().all()
    tensor(True)
    """
    return torch.linalg.cholesky_ex(_with_ridge(covariances, ridge)).L


def _with_ridge(covariances: Tensor, ridge: float) -> Tensor:
    d = covariances.shape[-1]
    variance = covariances.diagonal(dim1=-2, dim2=-1).mean(dim=-1)
    eye = torch.eye(d, dtype=covariances.dtype, device=covariances.device)
    return covariances + (ridge * variance + ridge**2).view(-1, 1, 1) * eye


def component_log_density(z: Tensor, weights: Tensor, means: Tensor, cholesky: Tensor) -> Tensor:
    """Logarithm of the weighted density of every component: the summands of [1]_, eq 6.

    Parameters
    ----------
    z : Tensor of shape (n, d)
    weights : Tensor of shape (K,)
    means : Tensor of shape (K, d)
    cholesky : Tensor of shape (K, d, d)
        Lower Cholesky factors of the covariances.

    Returns
    -------
    Tensor of shape (n, K)

    Examples
    --------
    >>> import torch
    >>> one = torch.ones(1, 1, 1)
    >>> component_log_density(torch.zeros(1, 1), torch.ones(1), torch.zeros(1, 1), one)
    tensor([[-0.9189]])
    """
    centred = (z.unsqueeze(0) - means.unsqueeze(1)).transpose(1, 2)  # (K, d, n)
    whitened = torch.linalg.solve_triangular(cholesky, centred, upper=False)
    log_det = cholesky.diagonal(dim1=1, dim2=2).log().sum(dim=1)
    constant = weights.log() - log_det - 0.5 * z.shape[1] * math.log(2 * math.pi)
    return (constant.unsqueeze(1) - 0.5 * whitened.square().sum(dim=1)).T


def mixture_energy(z: Tensor, weights: Tensor, means: Tensor, cholesky: Tensor) -> Tensor:
    """Sample energy, the negative log-likelihood under the mixture ([1]_, eq 6).

    Parameters
    ----------
    z : Tensor of shape (n, d)
    weights : Tensor of shape (K,)
    means : Tensor of shape (K, d)
    cholesky : Tensor of shape (K, d, d)
        Lower Cholesky factors of the covariances.

    Returns
    -------
    Tensor of shape (n,)

    Examples
    --------
    >>> import torch
    >>> one = torch.ones(1, 1, 1)
    >>> mixture_energy(torch.zeros(1, 1), torch.ones(1), torch.zeros(1, 1), one)
    tensor([0.9189])
    """
    return -torch.logsumexp(component_log_density(z, weights, means, cholesky), dim=1)


def negative_evidence_bound(log_density: Tensor, log_gamma: Tensor) -> Tensor:
    """Upper bound of the energy by neural variational inference ([1]_, eq 8, equal to eq 10).

    Parameters
    ----------
    log_density : Tensor of shape (n, K)
        :func:`component_log_density`.
    log_gamma : Tensor of shape (n, K)
        Logarithms of the memberships Q(k | z).

    Returns
    -------
    Tensor of shape (n,)
        ``E(z) + KL(Q(k | z) || p(k | z))``.

    Examples
    --------
    >>> import torch
    >>> negative_evidence_bound(torch.tensor([[-1.0, -1.0]]), torch.tensor([[0.5, 0.5]]).log())
    tensor([0.3069])
    """
    return (log_gamma.exp() * (log_gamma - log_density)).sum(dim=1)


def covariance_penalty(covariances: Tensor, *, ridge: float = 1e-6) -> Tensor:
    """Sum of the inverse variances of all components, P of [1]_, eq 7.

    Parameters
    ----------
    covariances : Tensor of shape (K, d, d)
    ridge : float, default=1e-6
        The ridge of :func:`regularised_cholesky`, which keeps the sum finite when a variance is 0.

    Returns
    -------
    Tensor of shape ()

    Examples
    --------
    >>> import torch
    >>> covariance_penalty(torch.diag(torch.tensor([0.5, 0.25])).unsqueeze(0), ridge=0.0)
    tensor(6.)
    """
    return _with_ridge(covariances, ridge).diagonal(dim1=-2, dim2=-1).reciprocal().sum()
