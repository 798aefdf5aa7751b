"""The mixture's part of DAGMM's objective in one differentiable step.

Built from the functions of :mod:`~anomaly_estimators.functional.mixture`, equations 5 to 7 take
some forty small operations forward and as many backward: on the small tensors of a training step
nearly all of that is overhead, several times the cost of the autoencoder itself. Here the same
quantities have their gradient in closed form. With the residuals ``c = z - mu_k``, the precisions
``P_k``, the posteriors ``r`` and the mass ``n_k`` of the memberships,

    dJ/dphi_k   = -sum_i r_ik / (n phi_k)
    dJ/dmu_k    = -sum_i r_ik P_k c_ik / n
    dJ/dSigma_k = (sum_i r_ik P_k - sum_i r_ik P_k c_ik c_ik' P_k) / (2 n)

and by the chain rule through equation 5 (where the terms by way of the mean vanish, since
``sum_i gamma_ik c_ik = 0``)

    dJ/dgamma_ik = (dJ/dphi_k) / n + (c_ik' dJ/dmu_k + c_ik' G_k c_ik - tr(G_k Sigma_k)) / n_k
    dJ/dz_i      = sum_k r_ik P_k c_ik / n + gamma_ik (dJ/dmu_k + 2 G_k c_ik) / n_k,

with G_k the gradient by Sigma_k. The tests compare it with autograd through the plain equations.
"""

import math

import torch
from torch import Tensor

from anomaly_estimators.functional.mixture import _MIN_MASS

__all__ = ["mixture_objective"]


class _MixtureObjective(torch.autograd.Function):
    # A step can be mapped over many models at once by torch.func.vmap.
    generate_vmap_rule = True

    # Tensors lie feature by feature, (K, d, n): with the few dimensions of a representation
    # innermost the same operations take several times as long.
    @staticmethod
    def forward(z, gamma, ridge):
        n, d = z.shape
        z, gamma = z.T.contiguous(), gamma.T.contiguous()
        mass = gamma.sum(dim=1).clamp(min=_MIN_MASS)
        membership = (gamma / mass.unsqueeze(1)).unsqueeze(1)  # (K, 1, n), sums to 1 over the rows
        centred = z - (membership @ z.T).transpose(1, 2)  # (K, d, n)
        covariance = (membership * centred) @ centred.transpose(1, 2)
        variance = covariance.diagonal(dim1=-2, dim2=-1)
        floor = ridge * variance.mean(dim=-1, keepdim=True) + ridge**2
        cholesky = torch.linalg.cholesky_ex(covariance + torch.diag_embed(floor.expand(-1, d))).L
        precision = torch.cholesky_inverse(cholesky)
        pull = precision @ centred  # (K, d, n): P_k c_ik
        log_det = cholesky.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)
        constant = (mass / n).log() - log_det - 0.5 * d * math.log(2 * math.pi)
        log_density = constant.unsqueeze(1) - 0.5 * (pull * centred).sum(dim=1)  # (K, n)
        log_posterior = torch.log_softmax(log_density, dim=0)
        # For every row, the density of any component less its posterior is the likelihood.
        energy = (log_posterior - log_density).select(0, 0).mean()
        inverse_variance = (variance + floor).reciprocal()
        return (
            energy,
            inverse_variance.sum(),
            mass,
            membership,
            centred,
            covariance,
            precision,
            pull,
            log_posterior.exp(),
            inverse_variance,
        )

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.ridge = inputs[2]
        ctx.mark_non_differentiable(*output[2:])
        ctx.save_for_backward(*output[2:])

    @staticmethod
    def backward(ctx, energy_grad, penalty_grad, *_):
        (mass, membership, centred, covariance, precision, pull, posterior, inverse_variance) = (
            ctx.saved_tensors
        )
        d, n = centred.shape[1:]
        share = (posterior * (energy_grad / n)).unsqueeze(1)  # (K, 1, n)
        pulled = share * pull
        total = share.sum(dim=2)  # (K, 1)
        mean_grad = -pulled.sum(dim=2, keepdim=True)  # (K, d, 1)
        covariance_grad = 0.5 * (total.unsqueeze(2) * precision - pulled @ pull.transpose(1, 2))
        penalty = penalty_grad * inverse_variance.square()
        # The ridge is a share of the mean variance: its gradient falls on every diagonal entry.
        trace = covariance_grad.diagonal(dim1=-2, dim2=-1).sum(dim=-1, keepdim=True)
        ridge = (ctx.ridge / d) * (trace - penalty.sum(dim=-1, keepdim=True))
        covariance_grad = covariance_grad + torch.diag_embed(ridge - penalty)
        push = covariance_grad @ centred + mean_grad
        z_grad = (pulled + membership * (push + (push - mean_grad))).sum(dim=0).T
        inner = (centred * push).sum(dim=1)  # (K, n)
        fixed = (covariance_grad * covariance).sum(dim=(1, 2)).unsqueeze(1) + total
        gamma_grad = ((inner - fixed) / mass.unsqueeze(1)).T
        return z_grad, gamma_grad, None


def mixture_objective(z: Tensor, gamma: Tensor, *, ridge: float = 1e-6) -> tuple[Tensor, Tensor]:
    """Mean energy of a batch under its own mixture, and the penalty on small variances.

    Equal to composing :func:`mixture_moments`, :func:`mixture_parameters`,
    :func:`regularised_cholesky`, :func:`mixture_energy` and :func:`covariance_penalty` ([1]_, eq 5,
    6 and P of eq 7), at a fraction of the overhead. Computed in float64 whatever the input.

    Parameters
    ----------
    z : Tensor of shape (n, d)
        Low-dimensional representations.
    gamma : Tensor of shape (n, K)
        Soft memberships; every row sums to 1.
    ridge : float, default=1e-6
        Relative ridge on the covariances.

    Returns
    -------
    energy : Tensor of shape ()
        In float64.
    penalty : Tensor of shape ()
        In float64.

    References
    ----------
    .. [1] Zong et al., "Deep Autoencoding Gaussian Mixture Model for Unsupervised Anomaly
       Detection", ICLR 2018.

    Examples
    --------
    >>> import torch
    >>> energy, penalty = mixture_objective(torch.tensor([[-1.0], [1.0]]), torch.ones(2, 1))
    >>> round(energy.item(), 3), round(penalty.item(), 3)
    (1.419, 1.0)
    """
    energy, penalty, *_ = _MixtureObjective.apply(z.double(), gamma.double(), ridge)
    return energy, penalty
