"""The models that are compared, and what is measured of them."""

import numpy as np
import torch

from anomaly_estimators import VAE
from anomaly_estimators.functional.variational import importance_weighted_bound

__all__ = [
    "MODELS",
    "PUBLISHED",
    "RING",
    "RING_MODELS",
    "SCORES",
    "SETTINGS",
    "SWEEP",
    "Ranked",
    "measured",
]

MODELS = {
    "base": {},
    "planar 5": {"flow": "planar", "n_flows": 5},
    "planar 50": {"flow": "planar", "n_flows": 50},
    "IAF 5": {"flow": "iaf", "n_flows": 5},
    "IAF 50": {"flow": "iaf", "n_flows": 50},
}
SCORES = ("A(x)", "ELBO", "importance weighted")

# On KDDCUP. The paper gives no settings: these are those of the configuration that its authors
# published beside their code, with two changes. Their reconstruction error is the mean over the
# features, where a log-likelihood is the sum, so beta is as many times theirs; and batch
# normalisation stands in for their dropout, which the VAE has not.
_PUBLISHED = {
    "hidden_layer_sizes": (128, 64),
    "latent_dim": 32,
    "likelihood": "bernoulli",
    "scaler": "minmax",
    "batch_size": 1000,
    "learning_rate": 5e-4,
    "max_iter": 4,
    "beta": 120 * 0.01,
    "kl_schedule": "cyclical",
    "n_cycles": 6,
}
PUBLISHED = "published"
SETTINGS = {
    PUBLISHED: _PUBLISHED,
    "no batch norm": {**_PUBLISHED, "batch_norm": False},
    "20 epochs": {**_PUBLISHED, "max_iter": 20},
    "Gaussian": {**_PUBLISHED, "likelihood": "gaussian"},
    "beta 0.01": {**_PUBLISHED, "beta": 0.01},
    "defaults": {},
}

RING_MODELS = {"base": {}, "planar": {"flow": "planar"}, "IAF": {"flow": "iaf"}}
# Of the ring: small networks without batch normalisation, whose noise would blur it.
RING = {
    "n_flows": 20,
    "latent_dim": 2,
    "hidden_layer_sizes": (32, 32),
    "batch_norm": False,
    "scaler": None,
    "batch_size": 100,
    "learning_rate": 1e-3,
    "max_iter": 60,
    "kl_schedule": "cyclical",
    "n_draws": 500,
}
# What is changed of that, one thing at a time.
SWEEP = {
    "constant schedule": {"kl_schedule": "constant"},
    "beta 0.1": {"beta": 0.1},
    "8 hidden units": {"hidden_layer_sizes": (8,)},
    "1 latent variable": {"latent_dim": 1},
    "4 latent variables": {"latent_dim": 4},
    "5 flows": {"n_flows": 5},
    "unit variance": {"likelihood": "unit_gaussian"},
    "capacity of 3.5 nats": {"kl_schedule": "capacity", "capacity": 3.5, "beta": 5.0},
    "trained twice as long": {"max_iter": 120},
    "batch norm": {"batch_norm": True},
    "beta 2": {"beta": 2.0},
}
# Rows that are scored at a time.
_PIECE = 512


class Ranked(VAE):
    """A VAE that only ranks: no threshold, for which all training rows would be scored."""

    def _calibrate(self, X):
        pass


def measured(detector: VAE, X: np.ndarray) -> dict[str, np.ndarray]:
    """All scores of rows, as ``score_samples`` gives them, and the divergence, from the same draws.

    Parameters
    ----------
    detector : VAE
        Fitted.
    X : ndarray of shape (n_samples, n_features), dtype float32

    Returns
    -------
    dict of str to ndarray of shape (n_samples,)
        Of each of ``SCORES``, and "KL".
    """
    if detector.scaler_ is not None:
        X = detector.scaler_.transform(X)
    pieces = [_of_piece(detector.module_, piece) for piece in torch.from_numpy(X).split(_PIECE)]
    return {name: torch.cat([piece[name] for piece in pieces]).numpy() for name in pieces[0]}


@torch.inference_mode()
def _of_piece(module: torch.nn.Module, X: torch.Tensor) -> dict[str, torch.Tensor]:
    log_likelihood, log_ratio = module.evidence(X)
    log_weights = log_likelihood + log_ratio
    figures = (
        log_likelihood.mean(dim=1),
        log_weights.mean(dim=1),
        importance_weighted_bound(log_weights),
        -log_ratio.mean(dim=1),
    )
    return dict(zip((*SCORES, "KL"), figures, strict=True))
