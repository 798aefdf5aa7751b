"""Benchmark sets of anomaly detection: fetchers, and the protocols that split them.

The fetchers of tables return +1 for normal rows and -1 for anomalies. Those of images, and of
heartbeats in five classes, return the classes, from which `anomaly_estimators.model_selection` makes
scenarios, and the ``make_`` functions here make sets with anomalies. Files are taken from the folder
that the environment variable ``ANOMALY_ESTIMATORS_DATA`` names, then from the cache, else downloaded
where there is an address; each is checked against its SHA-256 where one is known.
"""

from ._aad import fetch_aad
from ._cifar10 import fetch_cifar10
from ._creditcard import fetch_creditcard
from ._heartbeats import fetch_ecg5000, fetch_heartbeats
from ._kddcup99 import fetch_kddcup99
from ._mnist import fetch_fashion_mnist, fetch_mnist
from ._odds import (
    fetch_arrhythmia,
    fetch_cardio,
    fetch_cover,
    fetch_mammography,
    fetch_odds,
    fetch_satellite,
    fetch_satimage2,
    fetch_shuttle,
    fetch_thyroid,
)
from ._registry import DataFile, data_files
from ._smallnorb import fetch_smallnorb
from .class_anomalies import make_hard_rows, make_pca_rows, make_rare_classes
from .protocols import one_class_split

__all__ = [
    "DataFile",
    "data_files",
    "fetch_aad",
    "fetch_arrhythmia",
    "fetch_cardio",
    "fetch_cifar10",
    "fetch_cover",
    "fetch_creditcard",
    "fetch_ecg5000",
    "fetch_fashion_mnist",
    "fetch_heartbeats",
    "fetch_kddcup99",
    "fetch_mammography",
    "fetch_mnist",
    "fetch_odds",
    "fetch_satellite",
    "fetch_satimage2",
    "fetch_shuttle",
    "fetch_smallnorb",
    "fetch_thyroid",
    "make_hard_rows",
    "make_pca_rows",
    "make_rare_classes",
    "one_class_split",
]
