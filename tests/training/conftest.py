"""Small data and detectors that train in milliseconds."""

import numpy as np
import pytest

from anomaly_estimators import DAGMM, Autoencoder


@pytest.fixture
def rows():
    """120 rows with 5 correlated features."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(120, 2)) @ rng.normal(size=(2, 5)) + 0.1 * rng.normal(size=(120, 5))


@pytest.fixture
def tiny():
    """Factory of detectors with a tiny network: ``tiny(Autoencoder, max_iter=2)``."""

    def make(cls=Autoencoder, **params):
        defaults = {
            "hidden_layer_sizes": (4,),
            "latent_dim": 1,
            "max_iter": 4,
            "random_state": 0,
            "device": "cpu",
        }
        if cls is DAGMM:
            defaults["n_components"] = 2
        return cls(**{**defaults, **params})

    return make
