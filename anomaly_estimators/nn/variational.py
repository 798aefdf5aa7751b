"""Networks of latent variable models: encoders and decoders of distributions, VAE, M2."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomaly_estimators.functional.variational import (
    LOG_VARIANCE_BOUND,
    bernoulli_log_likelihood,
    bounded_log_variance,
    gaussian_kl,
    gaussian_log_likelihood,
    labelled_bound,
    reparametrise,
    standard_log_density,
    transformed_kl,
)
from anomaly_estimators.nn.mlp import ACTIVATIONS, initialise
from anomaly_estimators.nn.normalisation import BatchNorm
from anomaly_estimators.nn.randomness import randn_like

__all__ = [
    "LIKELIHOODS",
    "BernoulliLikelihood",
    "Evidence",
    "GaussianHead",
    "GaussianLikelihood",
    "GaussianParameters",
    "Latents",
    "M2Evidence",
    "M2Network",
    "UnitGaussianLikelihood",
    "VariationalAutoencoder",
    "VariationalDecoder",
    "VariationalEncoder",
    "draw",
    "with_classes",
]


# Weight of the squared distance to [0, 1], as of a Gaussian whose deviation is a tenth of it.
_OUTSIDE_WEIGHT = 50.0


class GaussianParameters(NamedTuple):
    """A Gaussian with independent coordinates."""

    mean: Tensor  # (..., latent_dim)
    log_variance: Tensor  # (..., latent_dim)


class Evidence(NamedTuple):
    """The two terms of the bound on the log-likelihood of a batch."""

    log_likelihood: Tensor  # (n,)  log p(x|z) at one draw of z
    kl: Tensor  # (n,)  KL(q(z|x) || p(z))


class Latents(NamedTuple):
    """Draws of the posterior, several for each row."""

    z: Tensor  # (n, n_draws, latent_dim)
    log_ratio: Tensor  # (n, n_draws)  log p(z) - log q(z|x)


class M2Evidence(NamedTuple):
    """What the M2 model makes of a batch, a column for each class: normal, anomaly."""

    bounds: Tensor  # (n, 2)  -L(x, y), eq 6
    log_probability: Tensor  # (n, 2)  log q(y|x)


def draw(parameters: GaussianParameters) -> Tensor:
    """Draw once from each Gaussian; gradients reach the parameters.

    Examples
    --------
    >>> draw(GaussianParameters(torch.ones(3, 2), torch.zeros(3, 2))).shape
    torch.Size([3, 2])
    """
    return reparametrise(*parameters, randn_like(parameters.mean))


def with_classes(values: Tensor, n_classes: int) -> Tensor:
    """Give every row once with each class, as a one-hot code in the last columns.

    Parameters
    ----------
    values : Tensor of shape (n, d) or (n, n_classes, d)
        Common to the classes, or one for each.
    n_classes : int

    Returns
    -------
    Tensor of shape (n, n_classes, d + n_classes)

    Examples
    --------
    >>> with_classes(torch.tensor([[0.5]]), 2)
    tensor([[[0.5000, 1.0000, 0.0000],
             [0.5000, 0.0000, 1.0000]]])
    """
    if values.ndim == 2:
        values = values.unsqueeze(1).expand(-1, n_classes, -1)
    one_hot = torch.eye(n_classes, dtype=values.dtype, device=values.device)
    return torch.cat([values, one_hot.expand(values.shape[0], -1, -1)], dim=-1)


def _after(width: int, activation: str, batch_norm: bool) -> nn.Sequential:
    """What follows a hidden layer."""
    norm = [BatchNorm(width, affine=False)] if batch_norm else []
    return nn.Sequential(*norm, ACTIVATIONS[activation]())


class GaussianHead(nn.Module):
    """Linear layer that returns the mean and the log-variance of a Gaussian.

    The log-variance has either sign, within
    :data:`~anomaly_estimators.functional.variational.LOG_VARIANCE_BOUND`.

    Parameters
    ----------
    n_inputs : int
    latent_dim : int

    Examples
    --------
    >>> mean, log_variance = GaussianHead(5, 2)(torch.zeros(3, 5))
    >>> mean.shape, log_variance.shape
    (torch.Size([3, 2]), torch.Size([3, 2]))
    """

    def __init__(self, n_inputs: int, latent_dim: int):
        super().__init__()
        self.layer = nn.Linear(n_inputs, 2 * latent_dim)
        initialise(self.layer, "identity")

    def forward(self, hidden: Tensor) -> GaussianParameters:
        mean, raw = self.layer(hidden).chunk(2, dim=-1)
        return GaussianParameters(mean, bounded_log_variance(raw))


class GaussianLikelihood(nn.Module):
    """Gaussian features about a decoder's outputs, with a learned variance for each feature.

    Parameters
    ----------
    n_features : int
    n_classes : int, default=0
        If above 0, every class has variances of its own.

    Examples
    --------
    >>> GaussianLikelihood(2)(torch.zeros(3, 2), torch.zeros(3, 2))
    tensor([-1.8379, -1.8379, -1.8379], grad_fn=<MulBackward0>)
    """

    def __init__(self, n_features: int, n_classes: int = 0):
        super().__init__()
        # In units of the bound: a step of the optimizer then moves the log-variance by several times
        # the learning rate, without which it would trail behind the residuals.
        self.scale = nn.Parameter(torch.zeros([n_classes, n_features] if n_classes else n_features))

    def forward(self, X: Tensor, outputs: Tensor) -> Tensor:
        return gaussian_log_likelihood(X, outputs, self._log_variance())

    def mean(self, outputs: Tensor) -> Tensor:
        """Mean of the features."""
        return outputs

    def draw(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Features, drawn."""
        noise = _normal(outputs, generator)
        return outputs + torch.exp(0.5 * self._log_variance()) * noise

    def _log_variance(self) -> Tensor:
        return bounded_log_variance(LOG_VARIANCE_BOUND * self.scale)


class UnitGaussianLikelihood(nn.Module):
    """Gaussian features of variance 1 about a decoder's outputs: half the squared error.

    Parameters
    ----------
    n_features : int
    n_classes : int, default=0
        Of no consequence.

    Examples
    --------
    >>> UnitGaussianLikelihood(2)(torch.ones(3, 2), torch.zeros(3, 2))
    tensor([-2.8379, -2.8379, -2.8379])
    """

    def __init__(self, n_features: int, n_classes: int = 0):
        super().__init__()

    def forward(self, X: Tensor, outputs: Tensor) -> Tensor:
        return gaussian_log_likelihood(X, outputs, torch.zeros_like(outputs[..., :1]))

    def mean(self, outputs: Tensor) -> Tensor:
        """Mean of the features."""
        return outputs

    def draw(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Features, drawn."""
        return outputs + _normal(outputs, generator)


class BernoulliLikelihood(nn.Module):
    """Bernoulli features with a decoder's outputs as logits; for rows in [0, 1].

    Parameters
    ----------
    n_features : int
    n_classes : int, default=0
        Of no consequence.

    Examples
    --------
    >>> BernoulliLikelihood(2)(torch.ones(3, 2), torch.zeros(3, 2))
    tensor([-1.3863, -1.3863, -1.3863])
    """

    def __init__(self, n_features: int, n_classes: int = 0):
        super().__init__()

    def forward(self, X: Tensor, outputs: Tensor) -> Tensor:
        # No row of the model has values beyond 0 and 1, where the cross-entropy would fall for ever:
        # they count as the nearest that there is, and the less likely the further they are off.
        inside = X.clamp(0.0, 1.0)
        off = (X - inside).square().sum(dim=-1)
        return bernoulli_log_likelihood(inside, outputs) - _OUTSIDE_WEIGHT * off

    def mean(self, outputs: Tensor) -> Tensor:
        """Probability of a 1."""
        return torch.sigmoid(outputs)

    def draw(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Features, drawn: zeros and ones."""
        uniform = torch.rand(outputs.shape, generator=generator, dtype=torch.float64)
        return (uniform.to(outputs.device) < torch.sigmoid(outputs)).to(outputs)


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    # Drawn in double precision, so that a seed means the same noise in either.
    noise = torch.randn(like.shape, generator=generator, dtype=torch.float64)
    return noise.to(like)


#: The likelihoods p(x|z) that can be asked for by name.
LIKELIHOODS = {
    "bernoulli": BernoulliLikelihood,
    "gaussian": GaussianLikelihood,
    "unit_gaussian": UnitGaussianLikelihood,
}


class VariationalEncoder(nn.Module):
    """Inference network q(z|x), or q(z|x, y) where there are classes.

    Parameters
    ----------
    encoder : torch.nn.Module
        Maps ``(n, n_features)`` to ``(n, width)``.
    width : int
        Width of what the encoder returns: the last hidden layer of this network.
    latent_dim : int
    activation : str
        Activation of the last hidden layer.
    batch_norm : bool, default=False
        Whether the last hidden layer is normalised over the batch.
    n_classes : int, default=0

    Examples
    --------
    >>> encoder = VariationalEncoder(nn.Linear(5, 4), 4, 2, "tanh", n_classes=2)
    >>> hidden = encoder.hidden(torch.zeros(3, 5))
    >>> encoder.posterior(with_classes(hidden, 2)).mean.shape
    torch.Size([3, 2, 2])
    """

    def __init__(
        self,
        encoder: nn.Module,
        width: int,
        latent_dim: int,
        activation: str,
        *,
        batch_norm: bool = False,
        n_classes: int = 0,
    ):
        super().__init__()
        self.encoder = encoder
        self.after = _after(width, activation, batch_norm)
        self.posterior = GaussianHead(width + n_classes, latent_dim)

    def hidden(self, X: Tensor) -> Tensor:
        """Last hidden layer, of shape (n, width): it knows nothing of classes."""
        return self.after(self.encoder(X))

    def forward(self, X: Tensor) -> GaussianParameters:
        return self.posterior(self.hidden(X))


class VariationalDecoder(nn.Module):
    """Generative network p(x|z), or p(x|y, z) where there are classes.

    Parameters
    ----------
    decoder : torch.nn.Module
        Maps ``(n, width)`` to ``(n, n_features)``.
    width : int
        Width of what the decoder takes: the first hidden layer of this network.
    latent_dim : int
    activation : str
        Activation of the first hidden layer.
    likelihood : torch.nn.Module
        ``likelihood(X, outputs)`` is the log-likelihood of rows, given what the decoder returns.
    batch_norm : bool, default=False
        Whether the first hidden layer is normalised over the batch.
    n_classes : int, default=0

    Examples
    --------
    >>> decoder = VariationalDecoder(nn.Linear(4, 5), 4, 2, "tanh", BernoulliLikelihood(5))
    >>> decoder(torch.zeros(3, 2)).shape
    torch.Size([3, 5])
    """

    def __init__(
        self,
        decoder: nn.Module,
        width: int,
        latent_dim: int,
        activation: str,
        likelihood: nn.Module,
        *,
        batch_norm: bool = False,
        n_classes: int = 0,
    ):
        super().__init__()
        layer = nn.Linear(latent_dim + n_classes, width)
        initialise(layer, activation)
        self.before = nn.Sequential(layer, _after(width, activation, batch_norm))
        self.decoder = decoder
        self.likelihood = likelihood

    def forward(self, z: Tensor) -> Tensor:
        """Outputs of the decoder, of shape (..., n_features), for z of shape (..., latent_dim)."""
        outputs = self.decoder(self.before(z.flatten(0, -2)))
        return outputs.unflatten(0, z.shape[:-1])


class VariationalAutoencoder(nn.Module):
    """VAE, the model M1 of [1]_; ``forward`` returns the terms of the bound at one draw of z.

    Parameters
    ----------
    encoder : VariationalEncoder
    decoder : VariationalDecoder or None
        Only the training needs it.
    flow : torch.nn.Module or None, default=None
        What makes the posterior more than a Gaussian: ``flow(z, context)`` returns the transformed draw
        and the log-determinant, where the context is the last hidden layer of the encoder.

    References
    ----------
    .. [1] Kingma et al., "Semi-supervised Learning with Deep Generative Models", NIPS 2014.

    Examples
    --------
    >>> encoder = VariationalEncoder(nn.Linear(5, 4), 4, 2, "tanh")
    >>> decoder = VariationalDecoder(nn.Linear(4, 5), 4, 2, "tanh", GaussianLikelihood(5))
    >>> log_likelihood, kl = VariationalAutoencoder(encoder, decoder)(torch.zeros(3, 5))
    >>> log_likelihood.shape, kl.shape
    (torch.Size([3]), torch.Size([3]))
    """

    def __init__(
        self,
        encoder: VariationalEncoder,
        decoder: VariationalDecoder | None,
        flow: nn.Module | None = None,
    ):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.flow = flow

    def forward(self, X: Tensor) -> Evidence:
        hidden = self.encoder.hidden(X)
        posterior = self.encoder.posterior(hidden)
        z = draw(posterior)
        if self.flow is None:
            kl = gaussian_kl(*posterior)
        else:
            z, log_det = self.flow(z, hidden)
            kl = transformed_kl(posterior.log_variance, z, log_det)
        return Evidence(self.decoder.likelihood(X, self.decoder(z)), kl)

    def code(self, X: Tensor) -> Tensor:
        """Mean of the Gaussian posterior, or where the flow takes it, of shape (n, latent_dim)."""
        hidden = self.encoder.hidden(X)
        mean = self.encoder.posterior(hidden).mean
        return mean if self.flow is None else self.flow(mean, hidden)[0]

    def latents(self, X: Tensor, noise: Tensor) -> Latents:
        """Several draws of the posterior for each row.

        Parameters
        ----------
        X : Tensor of shape (n, n_features)
        noise : Tensor of shape (n_draws, latent_dim) or (n, n_draws, latent_dim)
            Drawn from N(0, I).

        Returns
        -------
        Latents
        """
        hidden = self.encoder.hidden(X).unsqueeze(1)
        posterior = self.encoder.posterior(hidden)
        z = reparametrise(*posterior, noise)
        log_density = standard_log_density(noise) - 0.5 * posterior.log_variance.sum(dim=-1)
        if self.flow is not None:
            z, log_det = self.flow(z, hidden)
            log_density = log_density - log_det
        return Latents(z, standard_log_density(z) - log_density)


class M2Network(nn.Module):
    """The model M2 of [1]_ with two classes; ``forward`` returns the bounds at one draw of z.

    Both classes are gone through, the same noise for both: what decides between them is the
    difference of their bounds.

    Parameters
    ----------
    classifier : torch.nn.Module
        q(y|x): maps ``(n, n_features)`` to ``(n, 1)``, the log-odds of the second class.
    encoder : VariationalEncoder
        q(z|x, y), with two classes.
    decoder : VariationalDecoder
        p(x|y, z), with two classes.
    prior : float
        Probability p(y) of the second class.

    References
    ----------
    .. [1] Kingma et al., "Semi-supervised Learning with Deep Generative Models", NIPS 2014.

    Examples
    --------
    >>> encoder = VariationalEncoder(nn.Linear(5, 4), 4, 2, "tanh", n_classes=2)
    >>> likelihood = GaussianLikelihood(5, n_classes=2)
    >>> decoder = VariationalDecoder(nn.Linear(4, 5), 4, 2, "tanh", likelihood, n_classes=2)
    >>> network = M2Network(nn.Linear(5, 1), encoder, decoder, prior=0.1)
    >>> network(torch.zeros(3, 5)).bounds.shape
    torch.Size([3, 2])
    """

    n_classes = 2

    def __init__(
        self,
        classifier: nn.Module,
        encoder: VariationalEncoder,
        decoder: VariationalDecoder,
        prior: float,
    ):
        super().__init__()
        self.classifier = classifier
        self.encoder = encoder
        self.decoder = decoder
        self.register_buffer("log_prior", torch.tensor([math.log1p(-prior), math.log(prior)]))

    def forward(self, X: Tensor) -> M2Evidence:
        posterior = self._posterior(X)
        noise = randn_like(posterior.mean[:, :1])
        z = reparametrise(*posterior, noise)
        outputs = self.decoder(with_classes(z, self.n_classes))
        log_likelihood = self.decoder.likelihood(X.unsqueeze(1), outputs)
        bounds = labelled_bound(log_likelihood, gaussian_kl(*posterior), self.log_prior)
        return M2Evidence(bounds, self.log_probability(X))

    def log_odds(self, X: Tensor) -> Tensor:
        """Log-odds of the second class under q(y|x), of shape (n,)."""
        return self.classifier(X).squeeze(1)

    def log_probability(self, X: Tensor) -> Tensor:
        """log q(y|x), of shape (n, 2)."""
        log_odds = self.log_odds(X)
        return torch.stack([F.logsigmoid(-log_odds), F.logsigmoid(log_odds)], dim=1)

    def code(self, X: Tensor) -> Tensor:
        """Mean of z under q(y|x) q(z|x, y), of shape (n, latent_dim)."""
        probability = self.log_probability(X).exp().unsqueeze(-1)
        return (probability * self._posterior(X).mean).sum(dim=1)

    def _posterior(self, X: Tensor) -> GaussianParameters:
        return self.encoder.posterior(with_classes(self.encoder.hidden(X), self.n_classes))
