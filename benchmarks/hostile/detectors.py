"""The detectors under attack: all public ones in small, and variants of them."""

import inspect

from sklearn.base import BaseEstimator
from sklearn.ensemble import IsolationForest
from sklearn.preprocessing import QuantileTransformer

import anomaly_estimators as ae

__all__ = ["DETECTORS", "known", "make"]

ABSTRACT = {"OutlierDetector", "DeepDetector", "ActiveDetector"}
# Settings that make a fit short, where a detector has such a parameter.
SMALL = {
    "max_iter": 2,
    "pretrain_max_iter": 1,
    "hidden_layer_sizes": (4,),
    "latent_dim": 1,
    "embedding_max_iter": 20,
    "n_draws": 4,
    "n_projections": 20,
    "device": "cpu",
}
# name: class, and what differs from the small detector
VARIANTS = {
    "DAGMM, nvi": ("DAGMM", {"objective": "nvi", "pretrain": "end_to_end", "freeze_codes": True}),
    "DAGMM, stopped early": ("DAGMM", {"early_stopping": True, "ema_decay": 0.9, "max_iter": 3}),
    "DAGMM, min-max": ("DAGMM", {"scaler": "minmax", "latent_dim": 2}),
    "Autoencoder, layerwise": ("Autoencoder", {"pretrain": "layerwise"}),
    "Autoencoder, features": (
        "Autoencoder",
        {"reconstruction_features": ("relative_euclidean", "cosine_similarity")},
    ),
    "Autoencoder, deep": ("Autoencoder", {"hidden_layer_sizes": (32, 16), "latent_dim": 4}),
    "Autoencoder, own scaler": ("Autoencoder", {"scaler": QuantileTransformer(n_quantiles=5)}),
    "DCN, one cluster": ("DCN", {"n_clusters": 1, "pretrain": "end_to_end", "ema_decay": 0.9}),
    "DSEBM, reconstruction": (
        "DSEBM",
        {"anomaly_score": "reconstruction", "pretrain": "layerwise"},
    ),
    "GMM, full": ("GMM", {"n_components": 1, "covariance_type": "full", "scaler": None}),
    "GMM, two": ("GMM", {"n_components": 2}),
    "KDE, fixed width": ("KDE", {"bandwidth": 1.0}),
    "DeepSVDD, soft boundary": ("DeepSVDD", {"objective": "soft_boundary", "pretrain": None}),
    "DeepSAD, stopped early": (
        "DeepSAD",
        {"early_stopping": True, "ema_decay": 0.9, "max_iter": 3, "eta": 10.0},
    ),
    "DeepClassifier, balanced": (
        "DeepClassifier",
        {"class_weight": "balanced", "pretrain": "end_to_end"},
    ),
    "VAE, planar": (
        "VAE",
        {"flow": "planar", "kl_schedule": "cyclical", "anomaly_score": "elbo"},
    ),
    "VAE, iaf": (
        "VAE",
        {"flow": "iaf", "kl_schedule": "capacity", "scaler": "minmax", "likelihood": "bernoulli"},
    ),
    "AnoDM, passthrough": (
        "AnoDM",
        {"embedding": "passthrough", "n_landmarks": 20, "alpha": 0.5, "n_neighbors": 3},
    ),
    "AAD, LODA": ("AAD", {"estimator": ae.LODA(n_projections=20)}),
    "UAI, Autoencoder": ("UAI", {"estimator": ae.Autoencoder(max_iter=2), "n_steps": 3}),
}


def known(cls: type, parameters: dict) -> dict:
    """Those of the parameters that a class has."""
    names = inspect.signature(cls).parameters
    return {name: value for name, value in parameters.items() if name in names}


def public_detectors() -> dict[str, type]:
    """The public classes that can be fitted, by name."""
    found = {name: getattr(ae, name) for name in ae.__all__ if name not in ABSTRACT}
    return {
        name: cls
        for name, cls in found.items()
        if inspect.isclass(cls) and issubclass(cls, BaseEstimator)
    }


def make(name: str, **parameters) -> BaseEstimator:
    """A small detector, with those of the parameters that it has."""
    class_name, different = VARIANTS.get(name, (name, {}))
    cls = getattr(ae, class_name)
    # Epochs of a network; those of GMM are steps of EM.
    small = known(cls, SMALL) if issubclass(cls, ae.DeepDetector) else {"n_projections": 20}
    if cls is ae.UAI:
        estimator = ae.DenoisingAutoencoder(**known(ae.DenoisingAutoencoder, SMALL))
        small = {"estimator": estimator, "n_steps": 3}
    if cls is ae.AAD:
        small = {"estimator": IsolationForest(n_estimators=5)}
    return cls(**known(cls, {**small, **different, **parameters}))


DETECTORS = sorted([*public_detectors(), *VARIANTS])
