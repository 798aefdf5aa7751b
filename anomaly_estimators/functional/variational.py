"""Variational inference in latent variable models, as functions of tensors.

Likelihoods and divergences are summed over the last dimension, that of the features or of the latent
variables, and keep all others: rows, or rows and classes. Inputs are broadcast against one another.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "LOG_VARIANCE_BOUND",
    "bernoulli_log_likelihood",
    "bounded_log_variance",
    "capacity_bound",
    "evidence_bound",
    "gaussian_kl",
    "gaussian_log_likelihood",
    "importance_weighted_bound",
    "labelled_bound",
    "reparametrise",
    "semi_supervised_objective",
    "standard_log_density",
    "transformed_kl",
    "unlabelled_bound",
]

#: Largest absolute value of a log-variance: standard deviations lie between 1/55 and 55.
LOG_VARIANCE_BOUND = 8.0

_LOG_TWO_PI = math.log(2.0 * math.pi)


def bounded_log_variance(raw: Tensor, bound: float = LOG_VARIANCE_BOUND) -> Tensor:
    """Bend a network's output to a log-variance within bounds on both sides of 0.

    It is the identity near 0. Without a bound the likelihood of a constant feature grows for ever as
    its variance falls, and a far row takes the variance beyond the range of its type.

    Parameters
    ----------
    raw : Tensor of any shape
    bound : float, default=8.0

    Returns
    -------
    Tensor of the shape of raw

    Examples
    --------
    >>> bounded_log_variance(torch.tensor([-1e6, -0.5, 0.0]))
    tensor([-8.0000, -0.4994,  0.0000])
    """
    return bound * torch.tanh(raw / bound)


def gaussian_log_likelihood(X: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Log-density of rows under Gaussians with independent features.

    Parameters
    ----------
    X : Tensor of shape (..., n_features)
    mean, log_variance : Tensor of shape (..., n_features)

    Returns
    -------
    Tensor of shape (...)

    Examples
    --------
    >>> gaussian_log_likelihood(torch.zeros(1, 2), torch.ones(2), torch.zeros(2))
    tensor([-2.8379])
    """
    residual = (X - mean).square() * torch.exp(-log_variance)
    return -0.5 * (residual + log_variance + _LOG_TWO_PI).sum(dim=-1)


def bernoulli_log_likelihood(X: Tensor, logits: Tensor) -> Tensor:
    """Log-probability of rows under independent Bernoulli features.

    Values between 0 and 1, such as those of pixels, count as expectations of binary ones: the
    negative is the cross-entropy.

    Parameters
    ----------
    X : Tensor of shape (..., n_features)
        In [0, 1].
    logits : Tensor of shape (..., n_features)
        Log-odds of a 1.

    Returns
    -------
    Tensor of shape (...)

    Examples
    --------
    >>> bernoulli_log_likelihood(torch.tensor([[1.0, 0.0]]), torch.zeros(2))
    tensor([-1.3863])
    """
    return (X * logits + F.logsigmoid(-logits)).sum(dim=-1)


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Divergence KL(q || N(0, I)) of a Gaussian with independent coordinates, in closed form.

    Parameters
    ----------
    mean, log_variance : Tensor of shape (..., latent_dim)
        Of q.

    Returns
    -------
    Tensor of shape (...)
        Not below 0.

    References
    ----------
    .. [1] Kingma & Welling, "Auto-Encoding Variational Bayes", ICLR 2014, appendix B.

    Examples
    --------
    >>> gaussian_kl(torch.tensor([[2.0, 0.0]]), torch.zeros(2))
    tensor([2.])
    """
    return 0.5 * (mean.square() + torch.expm1(log_variance) - log_variance).sum(dim=-1)


def standard_log_density(z: Tensor) -> Tensor:
    """Log-density of N(0, I): of the prior, and of the noise that draws are made from.

    Parameters
    ----------
    z : Tensor of shape (..., latent_dim)

    Returns
    -------
    Tensor of shape (...)

    Examples
    --------
    >>> standard_log_density(torch.zeros(1, 2))
    tensor([-1.8379])
    """
    return -0.5 * (z.square() + _LOG_TWO_PI).sum(dim=-1)


def transformed_kl(log_variance: Tensor, z: Tensor, log_det: Tensor) -> Tensor:
    """Divergence KL(q || N(0, I)) of a Gaussian that flows have transformed, from a draw of it.

    It is E[log q0(z0) - log|det dz/dz0| - log p(z)], the part of eq 10 of [1]_ that knows nothing of
    the rows, with the slip of its eq 3 mended, which lacks the logarithm. The expectation of the first
    term is known, the negative entropy of the Gaussian; one draw stands for that of the others.

    Parameters
    ----------
    log_variance : Tensor of shape (..., latent_dim)
        Of the Gaussian q0.
    z : Tensor of shape (..., latent_dim)
        A draw of q0 after the flows.
    log_det : Tensor of shape (...)
        Logarithm of the determinant of the flows' Jacobian there.

    Returns
    -------
    Tensor of shape (...)
        Its expectation over the draws is not below 0.

    References
    ----------
    .. [1] Shah & Sharpe, "Variational Autoencoders with Normalizing Flows for Unsupervised Anomaly
       Detection", 2020.

    Examples
    --------
    >>> transformed_kl(torch.zeros(1, 2), torch.ones(1, 2), torch.tensor([0.5]))
    tensor([-0.5000])
    """
    entropy = 0.5 * (log_variance + _LOG_TWO_PI + 1.0).sum(dim=-1)
    return -entropy - log_det - standard_log_density(z)


def reparametrise(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """Draw from Gaussians so that gradients reach their parameters.

    Parameters
    ----------
    mean, log_variance : Tensor of shape (..., latent_dim)
    noise : Tensor of shape (..., latent_dim)
        Drawn from N(0, I).

    Returns
    -------
    Tensor of shape (..., latent_dim)

    References
    ----------
    .. [1] Kingma & Welling, "Auto-Encoding Variational Bayes", ICLR 2014, section 2.4.

    Examples
    --------
    >>> reparametrise(torch.ones(2), torch.zeros(2), torch.tensor([0.5, -2.0]))
    tensor([ 1.5000, -1.0000])
    """
    return mean + torch.exp(0.5 * log_variance) * noise


def evidence_bound(log_likelihood: Tensor, kl: Tensor, beta: float = 1.0) -> Tensor:
    """Lower bound on the log-likelihood of rows, -J(x) of eq 5 of [1]_.

    Parameters
    ----------
    log_likelihood : Tensor
        log p(x|z) at draws z of q(z|x).
    kl : Tensor
        KL(q(z|x) || p(z)), of a shape to broadcast with it.
    beta : float, default=1.0
        Weight of the divergence; the value is a bound for 1 and above.

    Returns
    -------
    Tensor

    References
    ----------
    .. [1] Kingma et al., "Semi-supervised Learning with Deep Generative Models", NIPS 2014.

    Examples
    --------
    >>> evidence_bound(torch.tensor([-3.0]), torch.tensor([0.5]))
    tensor([-3.5000])
    """
    return log_likelihood - beta * kl


def capacity_bound(log_likelihood: Tensor, kl: Tensor, gamma: float, capacity: float) -> Tensor:
    """Objective that holds the divergence at a capacity, eq 2 of [1]_, after Burgess et al. [2]_.

    The divergence that is held there is its mean over the batch: some rows may take more of the
    capacity than others.

    Parameters
    ----------
    log_likelihood : Tensor of shape (n,)
        log p(x|z) at draws z of q(z|x).
    kl : Tensor of shape (n,)
        KL(q(z|x) || p(z)).
    gamma : float
        Weight of the distance between the divergence and the capacity.
    capacity : float
        C, in nats.

    Returns
    -------
    Tensor of shape ()

    References
    ----------
    .. [1] Shah & Sharpe, "Variational Autoencoders with Normalizing Flows for Unsupervised Anomaly
       Detection", 2020.
    .. [2] Burgess et al., "Understanding disentangling in beta-VAE", 2018.
       https://arxiv.org/abs/1804.03599

    Examples
    --------
    >>> capacity_bound(torch.tensor([-3.0, -1.0]), torch.tensor([0.0, 4.0]), 10.0, 2.5)
    tensor(-7.)
    """
    return log_likelihood.mean() - gamma * (kl.mean() - capacity).abs()


def importance_weighted_bound(log_weights: Tensor) -> Tensor:
    """Lower bound on the log-likelihood of rows from several draws, eq 8 of [1]_.

    It rises to the log-likelihood as the draws become many.

    Parameters
    ----------
    log_weights : Tensor of shape (..., n_draws)
        log p(x|z) + log p(z) - log q(z|x) at draws z of q(z|x).

    Returns
    -------
    Tensor of shape (...)

    References
    ----------
    .. [1] Burda, Grosse & Salakhutdinov, "Importance Weighted Autoencoders", ICLR 2016.
       https://arxiv.org/abs/1509.00519

    Examples
    --------
    >>> importance_weighted_bound(torch.tensor([0.2, 0.4]).log()).exp()
    tensor(0.3000)
    """
    return torch.logsumexp(log_weights, dim=-1) - math.log(log_weights.shape[-1])


def labelled_bound(log_likelihood: Tensor, kl: Tensor, log_prior: Tensor) -> Tensor:
    """Lower bound on the joint log-likelihood of rows and classes, -L(x, y) of eq 6 of [1]_.

    Parameters
    ----------
    log_likelihood : Tensor of shape (..., n_classes)
        log p(x|y, z) at draws z of q(z|x, y).
    kl : Tensor of shape (..., n_classes)
        KL(q(z|x, y) || p(z)).
    log_prior : Tensor of shape (n_classes,)
        log p(y).

    Returns
    -------
    Tensor of shape (..., n_classes)

    References
    ----------
    .. [1] Kingma et al., "Semi-supervised Learning with Deep Generative Models", NIPS 2014.

    Examples
    --------
    >>> labelled_bound(torch.tensor([-3.0, -2.0]), torch.ones(2), torch.tensor([0.5, 0.5]).log())
    tensor([-4.6931, -3.6931])
    """
    return evidence_bound(log_likelihood, kl) + log_prior


def unlabelled_bound(bounds: Tensor, log_probability: Tensor) -> Tensor:
    """Lower bound on the log-likelihood of rows whose class is unknown, -U(x) of eq 7 of [1]_.

    The class is summed over, not drawn: the expectation of the labelled bound under q(y|x), and the
    entropy of q(y|x).

    Parameters
    ----------
    bounds : Tensor of shape (..., n_classes)
        Labelled bounds -L(x, y).
    log_probability : Tensor of shape (..., n_classes)
        log q(y|x).

    Returns
    -------
    Tensor of shape (...)

    References
    ----------
    .. [1] Kingma et al., "Semi-supervised Learning with Deep Generative Models", NIPS 2014.

    Examples
    --------
    >>> unlabelled_bound(torch.tensor([-4.0, -2.0]), torch.tensor([0.5, 0.5]).log())
    tensor(-2.3069)
    """
    return (log_probability.exp() * (bounds - log_probability)).sum(dim=-1)


def semi_supervised_objective(
    bounds: Tensor,
    log_probability: Tensor,
    classes: Tensor,
    classification_weight: Tensor | float,
) -> Tensor:
    """Objective of rows of which some have a known class, eq 8 and 9 of [1]_, as a mean over rows.

    Parameters
    ----------
    bounds : Tensor of shape (n, n_classes)
        Labelled bounds -L(x, y) for every class.
    log_probability : Tensor of shape (n, n_classes)
        log q(y|x).
    classes : Tensor of shape (n,), dtype int64
        Column of a row's class, or -1 if it is unknown.
    classification_weight : Tensor of shape () or float
        Weight of -log q(y|x) for a row of known class. In [1]_ the mean of these terms over the
        labelled rows has the weight alpha = 0.1 N, against 1 for the bound of each of the N rows: a
        labelled row has the weight 0.1 N / (number of labelled rows).

    Returns
    -------
    Tensor of shape ()
        To be made small.

    References
    ----------
    .. [1] Kingma et al., "Semi-supervised Learning with Deep Generative Models", NIPS 2014.

    Examples
    --------
    >>> bounds = torch.tensor([[-4.0, -2.0], [-4.0, -2.0]])
    >>> log_probability = torch.full((2, 2), 0.5).log()
    >>> semi_supervised_objective(bounds, log_probability, torch.tensor([-1, 0]), 1.0)
    tensor(3.5000)
    """
    known = classes >= 0
    column = classes.clamp(min=0).unsqueeze(-1)
    own_bound = bounds.gather(-1, column).squeeze(-1)
    cross_entropy = -log_probability.gather(-1, column).squeeze(-1)
    labelled = classification_weight * cross_entropy - own_bound
    return torch.where(known, labelled, -unlabelled_bound(bounds, log_probability)).mean()
