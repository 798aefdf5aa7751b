"""Deep anomaly detection with scikit-learn estimators.

Every detector is a scikit-learn estimator with ``fit``, ``score_samples`` (higher is more normal),
``decision_function`` and ``predict`` (+1 normal, -1 anomaly). The public names are loaded when
they are first used, so that ``import anomaly_estimators`` stays light.
"""

from importlib import import_module

__version__ = "0.1.0"

# public name -> module that defines it
_PUBLIC = {
    "AAD": "anomaly_estimators.active.aad",
    "ActiveDetector": "anomaly_estimators.active.base",
    "AnoDM": "anomaly_estimators.variational.anodm",
    "AuditHistory": "anomaly_estimators.active.history",
    "Autoencoder": "anomaly_estimators.reconstruction.autoencoder",
    "DAGMM": "anomaly_estimators.mixture.dagmm",
    "DCN": "anomaly_estimators.reconstruction.clustering",
    "DSEBM": "anomaly_estimators.energy.dsebm",
    "DeepClassifier": "anomaly_estimators.classification.deep_classifier",
    "DeepDetector": "anomaly_estimators.deep",
    "DeepSAD": "anomaly_estimators.one_class.deep_sad",
    "DeepSVDD": "anomaly_estimators.one_class.deep_svdd",
    "DenoisingAutoencoder": "anomaly_estimators.reconstruction.denoising",
    "GMM": "anomaly_estimators.density.gaussian_mixture",
    "KDE": "anomaly_estimators.density.kde",
    "LODA": "anomaly_estimators.active.loda",
    "LabelConsistency": "anomaly_estimators.classification.label_consistency",
    "OutlierDetector": "anomaly_estimators.base",
    "SSAD": "anomaly_estimators.one_class.ssad",
    "SSDGM": "anomaly_estimators.variational.ssdgm",
    "UAI": "anomaly_estimators.active.uai",
    "VAE": "anomaly_estimators.variational.vae",
    "active_search": "anomaly_estimators.active.search",
    "load": "anomaly_estimators.persistence",
    "save": "anomaly_estimators.persistence",
}
_SUBMODULES = ("datasets", "inspection", "metrics", "model_selection")

__all__ = [*_PUBLIC, *_SUBMODULES, "__version__"]


def __getattr__(name: str):
    if name in _PUBLIC:
        value = getattr(import_module(_PUBLIC[name]), name)
    elif name in _SUBMODULES:
        value = import_module(f"anomaly_estimators.{name}")
    else:
        raise AttributeError(f"module 'anomaly_estimators' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__all__})
