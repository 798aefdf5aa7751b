"""Normalising flows of a posterior, as functions of tensors.

A step maps latent variables z, on the last dimension, to others of the same shape, and comes with
the logarithm of the absolute determinant of its Jacobian, over that dimension. Inputs are broadcast
against one another.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "autoregressive_masks",
    "inverse_autoregressive",
    "inverse_autoregressive_inverse",
    "invertible_direction",
    "planar",
    "planar_inverse",
    "planar_steps",
]

# A planar step shrinks no direction by more than this: its inverse then keeps most of the digits.
_SMALLEST_SLOPE = 1e-3
# Newton's method needs 10 in ordinary cases; the others are for slopes that are all but 0.
_N_NEWTON_STEPS = 64


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dim=-1)


def invertible_direction(u: Tensor, w: Tensor) -> Tensor:
    """Bend u so that a planar step along it can be inverted: w'u is above -1.

    Only the part of u along w changes, by ``m(w'u) - w'u`` in terms of w'u. Here
    ``m(x) = -1 + softplus(x + log(e - 1))``, which lies above -1 and grows with x as the function
    of [1]_ does, but leaves 0 where it is; without the shift a step with u = 0 would
    shrink z along w by about a third, and the result would have no bound near w = 0. The family
    of flows is the same. A margin of 0.001 to -1 is kept.

    Parameters
    ----------
    u, w : Tensor of shape (..., latent_dim)

    Returns
    -------
    Tensor of shape (..., latent_dim)
        Not longer than u; u itself where w is 0.

    References
    ----------
    .. [1] Rezende & Mohamed, "Variational Inference with Normalizing Flows", ICML 2015,
       appendix A.1.

    Examples
    --------
    >>> w = torch.tensor([2.0, 0.0])
    >>> invertible_direction(torch.tensor([[0.0, 5.0], [-9.0, 5.0]]), w)
    tensor([[ 0.0000,  5.0000],
            [-0.4995,  5.0000]])
    """
    length = torch.linalg.vector_norm(w, dim=-1, keepdim=True).clamp(
        min=torch.finfo(w.dtype).tiny ** 0.5
    )
    unit = w / length
    room = 1.0 - _SMALLEST_SLOPE
    x = _dot(u, w).unsqueeze(-1) / room
    # m(x) - x, with all its digits on both sides of 0.
    below = torch.log1p((1.0 - 1.0 / math.e) * torch.expm1(x.clamp(max=0.0))) - x
    above = torch.log1p(torch.expm1(-x.clamp(min=0.0)) / math.e)
    return u + room * torch.where(x < 0.0, below, above) / length * unit


def planar(z: Tensor, u: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Planar step z + u tanh(w'z + b), eqs 10 to 12 of [1]_ and eqs 4 and 5 of [2]_.

    The psi(z) of eq 5 of [2]_ is h'(w'z + b) w, as in [1]_.

    Parameters
    ----------
    z : Tensor of shape (..., latent_dim)
    u, w : Tensor of shape (..., latent_dim)
        The step can be inverted if w'u >= -1; see :func:`invertible_direction`.
    b : Tensor of shape (...)

    Returns
    -------
    z : Tensor of shape (..., latent_dim)
    log_det : Tensor of shape (...)
        log|1 + u'psi(z)|.

    References
    ----------
    .. [1] Rezende & Mohamed, "Variational Inference with Normalizing Flows", ICML 2015.
    .. [2] Shah & Sharpe, "Variational Autoencoders with Normalizing Flows for Unsupervised Anomaly
       Detection".

    Examples
    --------
    >>> u, w = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0])
    >>> z, log_det = planar(torch.tensor([[0.0, 100.0]]), u, w, torch.tensor(0.0))
    >>> z, log_det
    (tensor([[  1., 100.]]), tensor([0.]))
    """
    return planar_steps(z, u.unsqueeze(-2), w.unsqueeze(-2), b.unsqueeze(-1))


def planar_steps(z: Tensor, u: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Planar steps one after the other, eq 13 of [1]_ and eq 3 of [2]_, which lacks the logarithm.

    Parameters
    ----------
    z : Tensor of shape (..., latent_dim)
    u, w : Tensor of shape (..., n_steps, latent_dim)
    b : Tensor of shape (..., n_steps)

    Returns
    -------
    z : Tensor of shape (..., latent_dim)
    log_det : Tensor of shape (...)
        The sum of those of the steps.

    References
    ----------
    .. [1] Rezende & Mohamed, "Variational Inference with Normalizing Flows", ICML 2015.
    .. [2] Shah & Sharpe, "Variational Autoencoders with Normalizing Flows for Unsupervised Anomaly
       Detection".

    Examples
    --------
    >>> u, w, b = torch.ones(5, 2), torch.ones(5, 2), torch.full((5,), 10.0)
    >>> planar_steps(torch.zeros(3, 2), u, w, b)[0]
    tensor([[5., 5.],
            [5., 5.],
            [5., 5.]])
    """
    heights = []
    for u_k, w_k, b_k in zip(u.unbind(-2), w.unbind(-2), b.unbind(-1), strict=True):
        height = torch.tanh(_dot(w_k, z) + b_k)
        z = z + u_k * height.unsqueeze(-1)
        heights.append(height)
    # All determinants at once: on small batches the number of operations is what costs.
    det = 1.0 + (1.0 - torch.stack(heights, dim=-1).square()) * _dot(w, u)
    return z, det.abs().clamp(min=torch.finfo(det.dtype).tiny).log().sum(dim=-1)


def planar_inverse(z: Tensor, u: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """Undo :func:`planar`.

    What is sought is a = w'z + b, the root of a + w'u tanh(a) = w'z' + b. Both sides are odd, and
    on one side of 0 the left one is convex or concave: Newton's method from the end of the bracket
    where it is steep approaches the root from one side.

    Parameters
    ----------
    z : Tensor of shape (..., latent_dim)
        What the step returned.
    u, w : Tensor of shape (..., latent_dim)
        With w'u >= -1.
    b : Tensor of shape (...)

    Returns
    -------
    Tensor of shape (..., latent_dim)

    Examples
    --------
    >>> u, w, b = torch.tensor([1.0, 0.5]), torch.tensor([0.5, 2.0]), torch.tensor(0.3)
    >>> planar_inverse(planar(torch.tensor([3.0, -1.0]), u, w, b)[0], u, w, b)
    tensor([ 3.0000, -1.0000])
    """
    slope = _dot(w, u)
    target = _dot(w, z) + b
    distance = target.abs()
    lower = (distance - slope.clamp(min=0.0)).clamp(min=0.0)
    upper = distance - slope.clamp(max=0.0)
    root = torch.where(slope < 0.0, upper, lower)
    for _ in range(_N_NEWTON_STEPS):
        height = torch.tanh(root)
        excess = root + slope * height - distance
        gain = 1.0 + slope * (1.0 - height.square())
        # Rounding takes the gain to 0 where w'u is -1.
        newton = root - excess / gain.clamp(min=torch.finfo(gain.dtype).eps)
        upper = torch.where(excess > 0.0, root, upper)
        lower = torch.where(excess < 0.0, root, lower)
        inside = (newton >= lower) & (newton <= upper)
        root = torch.where(inside, newton, 0.5 * (lower + upper))
    return z - u * (torch.tanh(root) * target.sign()).unsqueeze(-1)


def inverse_autoregressive(z: Tensor, mean: Tensor, gate_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Inverse autoregressive step sigma z + (1 - sigma) mean with sigma in (0, 1).

    This is the gated form of algorithm 1 of [1]_ and not the quotient (z - mu) / sigma of eq 8 of
    [2]_: what a step returns lies between z and the mean, so that many steps one after the other
    cannot run away.

    Parameters
    ----------
    z : Tensor of shape (..., latent_dim)
    mean, gate_logits : Tensor of shape (..., latent_dim)
        From an autoregressive network: those of a variable depend on the variables before it only.
        The gate sigma is the sigmoid of its logit.

    Returns
    -------
    z : Tensor of shape (..., latent_dim)
    log_det : Tensor of shape (...)
        The sum of log sigma; never above 0.

    References
    ----------
    .. [1] Kingma et al., "Improved Variational Inference with Inverse Autoregressive Flow",
       NIPS 2016.
    .. [2] Shah & Sharpe, "Variational Autoencoders with Normalizing Flows for Unsupervised Anomaly
       Detection".

    Examples
    --------
    >>> inverse_autoregressive(torch.tensor([4.0]), torch.tensor([2.0]), torch.tensor([0.0]))
    (tensor([3.]), tensor(-0.6931))
    """
    return torch.lerp(mean, z, torch.sigmoid(gate_logits)), F.logsigmoid(gate_logits).sum(dim=-1)


def inverse_autoregressive_inverse(z: Tensor, mean: Tensor, gate_logits: Tensor) -> Tensor:
    """Undo :func:`inverse_autoregressive`, given the mean and the logits it was called with.

    Parameters
    ----------
    z : Tensor of shape (..., latent_dim)
        What the step returned.
    mean, gate_logits : Tensor of shape (..., latent_dim)

    Returns
    -------
    Tensor of shape (..., latent_dim)

    Examples
    --------
    >>> inverse_autoregressive_inverse(torch.tensor([3.0]), torch.tensor([2.0]), torch.zeros(1))
    tensor([4.])
    """
    return mean + (z - mean) * (1.0 + torch.exp(-gate_logits))


def autoregressive_masks(
    n_inputs: int, hidden_sizes: Sequence[int], n_outputs_per_input: int = 1
) -> list[Tensor]:
    """Masks of the weights that make a network autoregressive, section 4 of [1]_.

    The outputs of an input depend on the inputs before it only. Here hidden units may also have
    degree 0, and thus depend on no input at all: what else enters the first layer reaches the
    outputs of the first input through them.

    Parameters
    ----------
    n_inputs : int
    hidden_sizes : sequence of int
        Widths of the hidden layers. At ``n_inputs`` and above every output depends on all inputs
        before its own.
    n_outputs_per_input : int, default=1
        Output ``k * n_inputs + i`` is the k-th of input i.

    Returns
    -------
    list of Tensor
        One of shape (n_out, n_in) for each layer, with 1 for a weight to keep and 0 for the others.

    References
    ----------
    .. [1] Germain et al., "MADE: Masked Autoencoder for Distribution Estimation", ICML 2015.

    Examples
    --------
    >>> first, last = autoregressive_masks(3, [3])
    >>> first
    tensor([[0., 0., 0.],
            [1., 0., 0.],
            [1., 1., 0.]])
    >>> last
    tensor([[1., 0., 0.],
            [1., 1., 0.],
            [1., 1., 1.]])
    """
    inputs = torch.arange(1, n_inputs + 1)
    hidden = [torch.arange(width) * n_inputs // width for width in hidden_sizes]
    # An output sees what is strictly before its input, a hidden unit what is up to its degree.
    outputs = (inputs - 1).repeat(n_outputs_per_input)
    degrees = [inputs, *hidden, outputs]
    return [(after.unsqueeze(1) >= before).float() for before, after in pairwise(degrees)]
