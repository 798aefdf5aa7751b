"""The public estimators, found by walking the package's public names."""

import inspect

from sklearn.base import BaseEstimator

import anomaly_estimators as ae

# What has no network of its own to train.
ABSTRACT = {"OutlierDetector", "DeepDetector"}
# Settings that make an estimator small, where it has such a parameter.
SMALL = {
    "max_iter": 2,
    "hidden_layer_sizes": (4,),
    "latent_dim": 1,
    "n_components": 2,
    "device": "cpu",
}


def public_classes() -> list[type]:
    """All public estimator classes, the base classes included."""
    found = [getattr(ae, name) for name in ae.__all__]
    return [c for c in found if inspect.isclass(c) and issubclass(c, BaseEstimator)]


def public_detectors() -> list[type]:
    """The public estimators that can be fitted."""
    return [cls for cls in public_classes() if cls.__name__ not in ABSTRACT]


def small(cls: type, **params) -> BaseEstimator:
    """Instance with a tiny network and a fixed seed."""
    known = inspect.signature(cls).parameters
    defaults = {name: value for name, value in SMALL.items() if name in known}
    if "random_state" in known:
        defaults["random_state"] = 0
    return cls(**{**defaults, **params})
