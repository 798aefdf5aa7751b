"""The experiments' training and test sets, and the networks that the paper trains on them."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn

from anomaly_estimators.datasets import (
    fetch_cifar10,
    fetch_fashion_mnist,
    fetch_mnist,
    fetch_odds,
)
from anomaly_estimators.model_selection import (
    ScenarioSetup,
    make_semi_supervised_scenario,
    semi_supervised_split,
)
from anomaly_estimators.nn.autoencoder import mlp_autoencoder
from anomaly_estimators.nn.conv import conv_autoencoder

__all__ = ["IMAGES", "NETWORKS", "TABULAR", "Problem", "image_problem", "tabular_problem"]

_IMAGE_FETCHERS = {
    "mnist": fetch_mnist,
    "fashion_mnist": fetch_fashion_mnist,
    "cifar10": fetch_cifar10,
}
TABULAR = ("arrhythmia", "cardio", "satellite", "satimage-2", "shuttle", "thyroid")
IMAGES = tuple(_IMAGE_FETCHERS)

# Appendix D: widths of the hidden layers and of the code; for images, the convolutions too.
_MLP = {"hidden_layer_sizes": (32, 16), "latent_dim": 8}
NETWORKS = {
    **dict.fromkeys(("cardio", "satellite", "satimage-2", "shuttle"), _MLP),
    "arrhythmia": {"hidden_layer_sizes": (128, 64), "latent_dim": 32},
    "thyroid": {"hidden_layer_sizes": (32, 16), "latent_dim": 4},
    "mnist": {
        "input_shape": (1, 28, 28),
        "channels": (8, 4),
        "hidden_layer_sizes": (),
        "latent_dim": 32,
    },
    "fashion_mnist": {
        "input_shape": (1, 28, 28),
        "channels": (16, 32),
        "hidden_layer_sizes": (64,),
        "latent_dim": 32,
    },
    "cifar10": {
        "input_shape": (3, 32, 32),
        "channels": (32, 64, 128),
        "hidden_layer_sizes": (),
        "latent_dim": 128,
    },
}


@dataclass(frozen=True, eq=False)
class Problem:
    """One training and test set.

    Parameters
    ----------
    dataset : str
    X : ndarray of shape (n_train, n_features)
        The unlabelled rows first, in the order of the data set.
    y : ndarray of shape (n_train,)
        What is revealed: 0 unlabelled, -1 known anomaly.
    X_test, truth_test : ndarray
        Test rows, and +1 or -1.
    selected : ndarray of int
        Numbers of the tenth of the test rows by which the paper selects the kernel methods'
        parameters.
    """

    dataset: str
    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    truth_test: np.ndarray
    selected: np.ndarray

    def autoencoder_network(self) -> "Network":
        """Return what builds the paper's autoencoder: without bias, normalised by the batch."""
        options = {"activation": "leaky_relu", "bias": False, "batch_norm": True}
        return Network({**NETWORKS[self.dataset], **options})


@dataclass(frozen=True)
class Network:
    """Builds an autoencoder with uniform Glorot weights (appendix E)."""

    settings: dict

    def __call__(self, n_features: int) -> nn.Module:
        if "input_shape" in self.settings:
            network = conv_autoencoder(**self.settings)
        else:
            network = mlp_autoencoder(n_features, **self.settings)
        for parameter in network.parameters():
            nn.init.xavier_uniform_(parameter)
        return network


def _problem(dataset, X, y, X_test, truth_test, seed) -> Problem:
    selected, _ = train_test_split(
        np.arange(len(truth_test)), train_size=0.1, stratify=truth_test, random_state=seed
    )
    return Problem(dataset, X, y, X_test, truth_test, selected)


def tabular_problem(dataset: str, seed: int) -> Problem:
    """Appendix B: 60:40, 1 % of the training rows labelled anomalies, standardised."""
    X, truth = fetch_odds(dataset, return_X_y=True)
    rows, y, _, test, truth_test = semi_supervised_split(
        np.arange(len(X)), truth, train_size=0.6, labelled_ratio=0.01, random_state=seed
    )
    order = np.lexsort((rows, -y))
    scaler = StandardScaler().fit(X[rows])
    return _problem(
        dataset,
        scaler.transform(X[rows[order]]),
        y[order],
        scaler.transform(X[test]),
        truth_test,
        seed,
    )


@cache
def _images(dataset: str, subset: str):
    bunch = _IMAGE_FETCHERS[dataset](subset=subset)
    return (bunch.data / 255.0).astype(np.float32), bunch.target


def image_problem(
    dataset: str, setup: ScenarioSetup, *, labelled_ratio: float, pollution: float
) -> Problem:
    """Section 4.2: one class is normal, pixels in [0, 1], the publisher's test set."""
    X, classes = _images(dataset, "train")
    scenario = make_semi_supervised_scenario(
        np.arange(len(X)),
        classes,
        labelled_ratio=labelled_ratio,
        pollution=pollution,
        **vars(setup),
    )
    order = np.lexsort((scenario.indices, -scenario.y))
    X_test, classes_test = _images(dataset, "test")
    truth_test = np.where(classes_test == setup.normal_class, 1, -1)
    rows = scenario.indices[order]
    return _problem(dataset, X[rows], scenario.y[order], X_test, truth_test, setup.random_state)
