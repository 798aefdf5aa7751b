"""What the paper says: its settings (section 4.3, appendix A)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from anomaly_estimators.datasets import fetch_arrhythmia, fetch_kddcup99, fetch_thyroid

__all__ = ["COMMON", "DATASETS", "FEATURES", "MIXTURE", "Setting"]


@dataclass(frozen=True)
class Setting:
    """A data set and what is set for it.

    Parameters
    ----------
    fetch : callable
    network : dict
        The autoencoder, which all methods but OC-SVM share, and how long they are trained.
    n_components : int
        Components of the mixture; DCN's clusters too, whose number the paper does not tell.
    nu : float
        OC-SVM's, which the paper searched for by the test labels.
    energy_layers : tuple of int
        Widths of the layers of DSEBM.
    """

    fetch: Callable
    network: dict = field(hash=False)
    n_components: int
    nu: float
    energy_layers: tuple[int, ...]


_KDD = {"hidden_layer_sizes": (60, 30, 10), "latent_dim": 1, "batch_size": 1024}

DATASETS = {
    "KDDCUP": Setting(fetch_kddcup99, {**_KDD, "max_iter": 200}, 4, 0.1, (60, 30, 10, 1)),
    "Thyroid": Setting(
        fetch_thyroid,
        {"hidden_layer_sizes": (12, 4), "latent_dim": 1, "batch_size": 1024, "max_iter": 20_000},
        2,
        0.02,
        (12, 4, 1),
    ),
    "Arrhythmia": Setting(
        fetch_arrhythmia,
        {"hidden_layer_sizes": (10,), "latent_dim": 2, "batch_size": 128, "max_iter": 10_000},
        2,
        0.04,
        (10, 2),
    ),
    "KDDCUP-Rev": Setting(
        partial(fetch_kddcup99, variant="reversed"),
        {**_KDD, "max_iter": 400},
        2,
        0.1,
        (60, 30, 10, 1),
    ),
}
#: For all networks. What the paper leaves open is the scaling: to [0, 1], by the training rows.
COMMON = {
    "learning_rate": 1e-4,
    "activation": "tanh",
    "scaler": "minmax",
    "device": "auto",
}
#: z_r of eq 2.
FEATURES = ("relative_euclidean", "cosine_similarity")
#: For those with a mixture and an estimation network.
MIXTURE = {
    "lambda1": 0.1,
    "lambda2": 0.005,
    "estimation_layer_sizes": (10,),
    "dropout": 0.5,
    "reconstruction_features": FEATURES,
}
