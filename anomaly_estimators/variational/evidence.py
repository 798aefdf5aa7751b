"""What the variational autoencoders share: their objective, and what can be asked of a fitted one."""

from collections.abc import Callable
from functools import partial
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from anomaly_estimators.autoencoding import ReconstructingDetector
from anomaly_estimators.functional.variational import capacity_bound, evidence_bound, gaussian_kl
from anomaly_estimators.nn.autoencoder import AutoencoderNetwork
from anomaly_estimators.nn.flows import build_flow
from anomaly_estimators.nn.variational import Evidence, VariationalAutoencoder
from anomaly_estimators.row_blocks import join
from anomaly_estimators.training.phases import Phase
from anomaly_estimators.training.schedules import constant, cyclical, rising
from anomaly_estimators.variational.latent import LatentVariableDetector

__all__ = ["EvidenceObjective", "VAENetwork", "VariationalDetector"]

# Draws of a piece of rows that are decoded at a time: they stay in the cache.
_DECODED_ROWS = 2**14


class VAENetwork(VariationalAutoencoder):
    """VAE with the noise that scores are made with.

    Parameters
    ----------
    encoder : VariationalEncoder
    decoder : VariationalDecoder
    flow : torch.nn.Module or None
    n_draws : int
        Number of draws of N(0, I) that are kept.
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, flow: nn.Module | None, n_draws: int
    ):
        super().__init__(encoder, decoder, flow)
        # Drawn once: the same row has the same score whenever it is asked for.
        self.register_buffer(
            "noise", torch.randn(n_draws, encoder.posterior.layer.out_features // 2)
        )

    def evidence(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """log p(x|z), and log p(z) - log q(z|x), at every draw; both of shape (n, n_draws)."""
        step = max(1, _DECODED_ROWS // X.shape[0])
        parts = [self._evidence(X, noise) for noise in self.noise.split(step)]
        log_likelihood, log_ratio = zip(*parts, strict=True)
        return torch.cat(log_likelihood, dim=1), torch.cat(log_ratio, dim=1)

    def divergence(self, X: Tensor) -> Tensor:
        """KL(q(z|x) || p(z)), of shape (n,): in closed form, or by the draws where there are flows."""
        if self.flow is None:
            return gaussian_kl(*self.encoder(X))
        return -self.evidence(X)[1].mean(dim=1)

    def _evidence(self, X: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        z, log_ratio = self.latents(X, noise)
        return self.decoder.likelihood(X.unsqueeze(1), self.decoder(z)), log_ratio


class EvidenceObjective:
    """The loss of a VAE, whose regard for the divergence follows a schedule.

    Parameters
    ----------
    objective : callable
        ``objective(log_likelihood, kl, factor)`` -> Tensor, to be made large.
    schedule : callable
        The factor, as a function of the share of the training that has passed.

    Examples
    --------
    >>> loss = EvidenceObjective(evidence_bound, rising)
    >>> loss.anneal(0.25)
    >>> loss(Evidence(torch.tensor([-2.0]), torch.tensor([1.0])), None, None)
    tensor(2.5000)
    """

    def __init__(
        self,
        objective: Callable[[Tensor, Tensor, float], Tensor],
        schedule: Callable[[float], float],
    ):
        self.objective = objective
        self.schedule = schedule
        self.anneal(1.0)

    def anneal(self, progress: float) -> None:
        """Set the share of the training that has passed."""
        self.factor = self.schedule(progress)

    def __call__(self, outputs: Evidence, X: Tensor, y: Tensor) -> Tensor:
        return -self.objective(*outputs, self.factor).mean()


def _held_at_capacity(
    log_likelihood: Tensor, kl: Tensor, factor: float, *, gamma: float, capacity: float
) -> Tensor:
    return capacity_bound(log_likelihood, kl, gamma, factor * capacity)


def _weighted(log_likelihood: Tensor, kl: Tensor, factor: float, *, beta: float) -> Tensor:
    return evidence_bound(log_likelihood, kl, factor * beta)


class VariationalDetector(LatentVariableDetector, ReconstructingDetector):
    """Base class of the variational autoencoders.

    Parameters
    ----------
    beta : float, default=1.0
        Weight of the divergence KL(q(z|x) || p(z)) against the log-likelihood. Below 1 rows are
        reproduced more closely, above 1 the latent variables are more alike to independent ones. With
        ``kl_schedule="capacity"`` it weighs the distance between the divergence and the capacity,
        and is the gamma of Burgess et al.
    kl_schedule : {"constant", "cyclical", "capacity"}, default="constant"
        How the divergence counts in the course of the training. "cyclical" lets its weight rise from
        0 to ``beta`` in each of ``n_cycles`` cycles, and stay there for the second half of the cycle
        (Fu et al. 2019). "capacity" holds the divergence at a value that rises from 0 to
        ``capacity`` in the first half of the training (Burgess et al. 2018).
    n_cycles : int, default=4
        Number of cycles of the cyclical schedule.
    capacity : float, default=10.0
        Divergence that the capacity schedule ends with, in nats.
    """

    _parameter_constraints: dict = {
        **LatentVariableDetector._parameter_constraints,
        "beta": [Interval(Real, 0, None, closed="left")],
        "kl_schedule": [StrOptions({"constant", "cyclical", "capacity"})],
        "n_cycles": [Interval(Integral, 1, None, closed="left")],
        "capacity": [Interval(Real, 0, None, closed="left")],
    }
    # What :class:`VAE` alone has as a parameter.
    flow = None
    n_flows = 0
    # Rows of noise that are kept for scores.
    _n_kept_draws = 1

    def __init__(
        self,
        *,
        beta=1.0,
        kl_schedule="constant",
        n_cycles=4,
        capacity=10.0,
        **inherited,
    ):
        super().__init__(**inherited)
        self.beta = beta
        self.kl_schedule = kl_schedule
        self.n_cycles = n_cycles
        self.capacity = capacity

    def _build_module(self, n_features: int) -> nn.Module:
        parts = self._build_vae(self._build_autoencoder(n_features), n_features, self.likelihood)
        width = parts[0].posterior.layer.in_features
        flow = build_flow(self.flow, self.latent_dim, width, self.n_flows)
        return VAENetwork(*parts, flow, self._n_kept_draws)

    def _phases(self, module: nn.Module) -> list[Phase]:
        loss = self._objective()
        autoencoder = AutoencoderNetwork(module.encoder.encoder, module.decoder.decoder)
        phases = [
            *self._pretraining_phases(autoencoder, fine_tune=True),
            Phase(name="training", loss=loss, max_iter=self.max_iter, anneal=loss.anneal),
        ]
        return self._check_rows_first(phases)

    def _objective(self) -> EvidenceObjective:
        if self.kl_schedule == "capacity":
            held = partial(_held_at_capacity, gamma=self.beta, capacity=self.capacity)
            return EvidenceObjective(held, rising)
        schedule = (
            partial(cyclical, n_cycles=self.n_cycles)
            if self.kl_schedule == "cyclical"
            else constant
        )
        return EvidenceObjective(partial(_weighted, beta=self.beta), schedule)

    def _module_transform(self, module: nn.Module, X: Tensor) -> Tensor:
        return module.code(X)

    def _module_decode(self, module: nn.Module, codes: Tensor) -> Tensor:
        return module.decoder.likelihood.mean(module.decoder(codes))

    def sample(self, n_samples: int = 1, *, random_state=None, noise: bool = True) -> np.ndarray:
        """Draw new rows from the fitted model: z from the prior, then x from p(x|z).

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows, at least 1.
        random_state : int, RandomState instance or None, default=None
            Decides what is drawn.
        noise : bool, default=True
            Whether to draw from p(x|z); else its mean is returned, which is the picture without its
            grain.

        Returns
        -------
        ndarray of shape (n_samples, n_features), dtype float64
            Rows on the scale of the training data.

        Raises
        ------
        ValueError
            If ``n_samples`` is below 1, or the scaler cannot be inverted.
        """
        check_is_fitted(self)
        if not isinstance(n_samples, Integral) or n_samples < 1:
            raise ValueError(f"n_samples must be an integer of at least 1; got {n_samples!r}.")
        generator = check_random_state(random_state)
        z = generator.standard_normal((n_samples, self.latent_dim))
        # On the CPU, wherever the network is: a seed means the same rows everywhere.
        seed = torch.Generator().manual_seed(int(generator.randint(np.iinfo(np.int32).max)))

        def decode(module: nn.Module, codes: Tensor) -> Tensor:
            outputs = module.decoder(codes)
            likelihood = module.decoder.likelihood
            if not noise:
                return likelihood.mean(outputs)
            return likelihood.draw(outputs, seed)

        return self._unscaled(join(self._map(decode, z, scaled=True), n_samples))

    def kl_divergence(self, X) -> np.ndarray:
        """Divergence KL(q(z|x) || p(z)) of each row: what its code tells, in nats.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
            In closed form; with flows, the mean over the draws that scores are made with. float32 for
            float32 rows, else float64.
        """
        check_is_fitted(self)
        X = self._validate_rows(X, reset=False)
        return join(self._map(lambda module, rows: module.divergence(rows), X), X.shape[0])
