"""The public estimators, found by walking the package's public names."""

import inspect
import re

import numpy as np
import skorch
from sklearn.base import BaseEstimator
from sklearn.ensemble import IsolationForest
from torch import Tensor, nn

import anomaly_estimators as ae
from anomaly_estimators.active.base import ActiveDetector

# What has no network of its own to train.
ABSTRACT = {"OutlierDetector", "DeepDetector", "ActiveDetector"}
# Settings that make a network small, where it has such a parameter.
SMALL = {
    "max_iter": 2,
    "hidden_layer_sizes": (4,),
    "latent_dim": 1,
    "embedding_max_iter": 50,
    "n_draws": 4,
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


def deep_detectors() -> list[type]:
    """The public detectors that train a network."""
    return [cls for cls in public_detectors() if issubclass(cls, ae.DeepDetector)]


def label_detectors() -> list[type]:
    """The public detectors that learn from labels."""
    return [cls for cls in public_detectors() if cls._uses_labels]


def active_detectors() -> list[type]:
    """The public detectors that learn from an expert, round by round."""
    return [cls for cls in public_detectors() if issubclass(cls, ActiveDetector)]


def known(cls: type, **params) -> dict:
    """Those of the parameters that a detector has."""
    names = inspect.signature(cls).parameters
    return {name: value for name, value in params.items() if name in names}


def epochs(cls: type, n: int) -> dict:
    """The parameter that trains a network for so long; none where there is no network."""
    return {"max_iter": n} if issubclass(cls, ae.DeepDetector) else {}


def small(cls: type, **params) -> BaseEstimator:
    """Instance with a tiny network or ensemble, if it has one, and a fixed seed."""
    tiny = known(cls, **SMALL) if issubclass(cls, ae.DeepDetector) else {}
    if cls is ae.UAI:
        tiny = {"estimator": small(ae.DenoisingAutoencoder), "n_steps": 3}
    if cls.__name__ == "AAD":
        tiny = {"estimator": IsolationForest(n_estimators=10)}
    return cls(**{**tiny, **known(cls, random_state=0), **params})


def labels(cls: type, n_rows: int) -> np.ndarray | None:
    """Labels for a detector that learns from them: a tenth anomalies, a tenth normal."""
    if not cls._uses_labels:
        return None
    kinds = np.zeros(n_rows)
    kinds[::10], kinds[5::10] = -1, 1
    return kinds


def suited(cls: type, X: np.ndarray) -> np.ndarray:
    """Rows as they suit a detector: where it takes a column for a label, with one of two labels.

    All rows but the last have the same.
    """
    if not known(cls, label_column=-1):
        return X
    return np.column_stack([X, np.arange(len(X)) == len(X) - 1]).astype(X.dtype)


def fitted(cls: type, X, **params) -> BaseEstimator:
    """A small detector, fitted on rows and, where it learns from them, on labels."""
    return small(cls, **params).fit(X, labels(cls, len(X)))


def without_addresses(value) -> str:
    """Name of a test's parameter that is the same in every process."""
    return re.sub(r" at 0x\w+", "", str(value))


def learned(value):
    """All that an object holds, bit for bit, as values that ``==`` compares.

    Without the table under audit and the time that epochs took.
    """
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray | np.generic):
        plain = value.tolist() if value.dtype == object else value.tobytes()
        return str(value.dtype), value.shape, plain
    if isinstance(value, list | tuple):
        return type(value).__name__, [learned(item) for item in value]
    if isinstance(value, nn.Module):
        modes = [part.training for part in value.modules()]
        return repr(value), modes, learned(dict(value.state_dict()))
    if isinstance(value, skorch.NeuralNet):
        history = [{k: v for k, v in row.items() if k != "dur"} for row in value.history]
        return learned(value.module_), learned(history), value.batch_size, value.lr
    if isinstance(value, np.random.RandomState):
        return learned(value.get_state(legacy=False))
    if hasattr(value, "__getstate__") and not isinstance(value, dict | str | float | int | type):
        state = value.__getstate__()
        if isinstance(state, dict):
            left_out = getattr(value, "_table_attributes", frozenset())
            value = {key: item for key, item in state.items() if key not in left_out}
    if isinstance(value, dict):
        return {str(key): learned(item) for key, item in value.items()}
    return repr(value)
