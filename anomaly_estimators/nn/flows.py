"""Normalising flows of a posterior, whose parameters follow from a context."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomaly_estimators.functional.flows import (
    autoregressive_masks,
    inverse_autoregressive,
    inverse_autoregressive_inverse,
    invertible_direction,
    planar_inverse,
    planar_steps,
)

__all__ = ["FLOWS", "Flowed", "InverseAutoregressiveFlow", "PlanarFlow", "build_flow"]

# How far a planar flow is from the identity at its start, all steps together.
_START = 0.1
# Negative logarithm of the product of all gates of a variable at the start. Gates that are nearly open
# hold the steps to the identity, and they are slow to leave it.
_GATED_START = 1.0


class Flowed(NamedTuple):
    """Where a flow takes draws of a posterior."""

    z: Tensor  # (..., latent_dim)
    log_det: Tensor  # (...)  of the whole flow: log q(z) = log q_0(z_0) - log_det


def _glorot(tensor: Tensor, n_in: int, n_out: int, gain: float = 1.0) -> None:
    """Glorot's initialisation of a part of a layer."""
    bound = gain * math.sqrt(6.0 / (n_in + n_out))
    nn.init.uniform_(tensor, -bound, bound)


def _mean_and_gate(
    z: Tensor, shared: Tensor, input_weight: Tensor, output_weight: Tensor, output_bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and gate logits of an autoregressive step; `shared` is the context's part."""
    hidden = torch.tanh(F.linear(z, input_weight) + shared)
    mean, gate_logits = F.linear(hidden, output_weight, output_bias).chunk(2, dim=-1)
    return mean, gate_logits


class PlanarFlow(nn.Module):
    """Planar steps, whose parameters u, w and b are linear in the context; eqs 3 to 5 of [2]_.

    Eq 3 of [2]_ lacks the logarithm of the determinants: it is eq 13 of [1]_. It starts close to
    the identity.

    Parameters
    ----------
    latent_dim : int
    context_dim : int
    n_flows : int
        Number of steps.

    See Also
    --------
    InverseAutoregressiveFlow : Steps that change every direction at once.
    anomaly_estimators.functional.flows.planar : One step.

    References
    ----------
    .. [1] Rezende & Mohamed, "Variational Inference with Normalizing Flows", ICML 2015.
    .. [2] Shah & Sharpe, "Variational Autoencoders with Normalizing Flows for Unsupervised Anomaly
       Detection".

    Examples
    --------
    >>> flow = PlanarFlow(2, 4, n_flows=5)
    >>> z, log_det = flow(torch.zeros(3, 100, 2), torch.zeros(3, 1, 4))
    >>> z.shape, log_det.shape
    (torch.Size([3, 100, 2]), torch.Size([3, 100]))
    """

    def __init__(self, latent_dim: int, context_dim: int, n_flows: int):
        super().__init__()
        self.latent_dim = latent_dim
        self.n_flows = n_flows
        # The columns of all u, all w and all b, in this order.
        self.parameters_of_steps = nn.Linear(context_dim, n_flows * (2 * latent_dim + 1))
        self._initialise()

    def _initialise(self) -> None:
        layer, d = self.parameters_of_steps, self.latent_dim
        sizes = self._sizes()
        # Steps in random directions add up as a random walk does. The lengths of w are about 1, and
        # a context changes them little: near w = 0 the bent u turns fast with w.
        scales = (_START / math.sqrt(self.n_flows * d), 1.0 / math.sqrt(d), 1.0)
        gains = (_START / math.sqrt(self.n_flows), _START, _START)
        with torch.no_grad():
            weights, biases = layer.weight.split(sizes), layer.bias.split(sizes)
            for weight, bias, scale, gain in zip(weights, biases, scales, gains, strict=True):
                _glorot(weight, layer.in_features, d, gain)
                nn.init.normal_(bias, std=scale)

    def _sizes(self) -> list[int]:
        return [self.n_flows * self.latent_dim, self.n_flows * self.latent_dim, self.n_flows]

    def _steps(self, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """u, w and b of all steps, for each row of the context."""
        u, w, b = self.parameters_of_steps(context).split(self._sizes(), dim=-1)
        shape = (self.n_flows, self.latent_dim)
        u, w = u.unflatten(-1, shape), w.unflatten(-1, shape)
        return invertible_direction(u, w), w, b

    def forward(self, z: Tensor, context: Tensor) -> Flowed:
        """Take z of shape (..., latent_dim) along, given a context of shape (..., context_dim)."""
        return Flowed(*planar_steps(z, *self._steps(context)))

    def inverse(self, z: Tensor, context: Tensor) -> Tensor:
        """Where the flow took z from."""
        u, w, b = self._steps(context)
        for k in reversed(range(self.n_flows)):
            z = planar_inverse(z, u[..., k, :], w[..., k, :], b[..., k])
        return z


class InverseAutoregressiveFlow(nn.Module):
    """Inverse autoregressive steps, each with a masked network of one hidden layer; [1]_.

    The context enters the hidden layer of every step (eq 9 of [2]_). The order of the latent
    variables is reversed from one step to the next, as in [1]_: from two steps on, every variable
    can depend on every other. It starts as a mild contraction.

    Parameters
    ----------
    latent_dim : int
    context_dim : int
    n_flows : int
        Number of steps.
    hidden_dim : int or None, default=None
        Width of the hidden layers; ``max(32, 4 * latent_dim)`` if None. Below ``latent_dim`` some
        variables have no effect on others in a step. The units are tanh: means and gates stay
        within bounds however far z lies.

    See Also
    --------
    PlanarFlow : Steps along one direction each.
    anomaly_estimators.functional.flows.inverse_autoregressive : One step.
    anomaly_estimators.functional.flows.autoregressive_masks : Of the networks.

    References
    ----------
    .. [1] Kingma et al., "Improved Variational Inference with Inverse Autoregressive Flow",
       NIPS 2016, algorithm 1.
    .. [2] Shah & Sharpe, "Variational Autoencoders with Normalizing Flows for Unsupervised Anomaly
       Detection".

    Examples
    --------
    >>> flow = InverseAutoregressiveFlow(2, 4, n_flows=5)
    >>> z, log_det = flow(torch.zeros(3, 100, 2), torch.zeros(3, 1, 4))
    >>> z.shape, log_det.shape
    (torch.Size([3, 100, 2]), torch.Size([3, 100]))
    """

    def __init__(
        self, latent_dim: int, context_dim: int, n_flows: int, hidden_dim: int | None = None
    ):
        super().__init__()
        hidden_dim = max(32, 4 * latent_dim) if hidden_dim is None else hidden_dim
        self.latent_dim = latent_dim
        self.n_flows = n_flows
        self.context_weight = nn.Parameter(torch.empty(n_flows, hidden_dim, context_dim))
        self.hidden_bias = nn.Parameter(torch.zeros(n_flows, hidden_dim))
        self.input_weight = nn.Parameter(torch.empty(n_flows, hidden_dim, latent_dim))
        self.output_weight = nn.Parameter(torch.empty(n_flows, 2 * latent_dim, hidden_dim))
        self.output_bias = nn.Parameter(torch.empty(n_flows, 2 * latent_dim))
        first, last = autoregressive_masks(latent_dim, [hidden_dim], 2)
        # The second is for steps in reversed order; the mean and the logits stay where they are.
        last_reversed = last.unflatten(0, (2, latent_dim)).flip(1).flatten(0, 1)
        self.register_buffer("input_masks", torch.stack([first, first.flip(1)]))
        self.register_buffer("output_masks", torch.stack([last, last_reversed]))
        self._initialise()

    def _initialise(self) -> None:
        _, hidden_dim, latent_dim = self.input_weight.shape
        context_dim = self.context_weight.shape[-1]
        _glorot(self.context_weight, latent_dim + context_dim, hidden_dim)
        _glorot(self.input_weight, latent_dim + context_dim, hidden_dim)
        _glorot(self.output_weight, hidden_dim, 2 * latent_dim)
        with torch.no_grad():
            means, logits = self.output_bias.chunk(2, dim=-1)
            nn.init.zeros_(means)
            nn.init.constant_(logits, -math.log(math.expm1(_GATED_START / self.n_flows)))
            self.output_weight[:, latent_dim:].mul_(_GATED_START)

    def _steps(self) -> list[tuple[Tensor, ...]]:
        """Weights and biases of each step."""
        n_pairs = (self.n_flows + 1) // 2
        input_masks = self.input_masks.repeat(n_pairs, 1, 1)[: self.n_flows]
        output_masks = self.output_masks.repeat(n_pairs, 1, 1)[: self.n_flows]
        parts = (
            self.context_weight,
            self.hidden_bias,
            self.input_weight * input_masks,
            self.output_weight * output_masks,
            self.output_bias,
        )
        return list(zip(*(part.unbind() for part in parts), strict=True))

    def forward(self, z: Tensor, context: Tensor) -> Flowed:
        """Take z of shape (..., latent_dim) along, given a context of shape (..., context_dim)."""
        log_dets = []
        for context_weight, hidden_bias, *weights in self._steps():
            shared = F.linear(context, context_weight, hidden_bias)
            z, log_det = inverse_autoregressive(z, *_mean_and_gate(z, shared, *weights))
            log_dets.append(log_det)
        return Flowed(z, torch.stack(log_dets).sum(dim=0))

    def inverse(self, z: Tensor, context: Tensor) -> Tensor:
        """Where the flow took z from; one pass of each network for each latent variable."""
        for context_weight, hidden_bias, *weights in reversed(self._steps()):
            shared = F.linear(context, context_weight, hidden_bias)
            flowed = z
            # A pass gets one more variable right, in the order of the step: those before it are.
            for _ in range(self.latent_dim):
                z = inverse_autoregressive_inverse(flowed, *_mean_and_gate(z, shared, *weights))
        return z


#: The flows that can be asked for by name.
FLOWS = {"iaf": InverseAutoregressiveFlow, "planar": PlanarFlow}


def build_flow(
    name: str | None, latent_dim: int, context_dim: int, n_flows: int
) -> nn.Module | None:
    """Build a flow by its name.

    Parameters
    ----------
    name : str or None
        A key of ``FLOWS``, or None for no flow.
    latent_dim : int
    context_dim : int
    n_flows : int
        Number of steps.

    Returns
    -------
    torch.nn.Module or None

    Raises
    ------
    ValueError
        If there is no flow of that name, or no step.

    Examples
    --------
    >>> build_flow("planar", 2, 4, n_flows=5)(torch.zeros(3, 2), torch.zeros(3, 4)).z.shape
    torch.Size([3, 2])
    """
    if name is None:
        return None
    if name not in FLOWS:
        raise ValueError(f"There is no flow {name!r}: choose one of {sorted(FLOWS)} or None.")
    if n_flows < 1:
        raise ValueError(f"A flow has at least one step, not {n_flows}; give None for no flow.")
    return FLOWS[name](latent_dim, context_dim, n_flows)
