"""Detectors as JSON and arrays, and back: alone, in one another, and as parameters."""

from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import IsolationForest
from sklearn.frozen import FrozenEstimator

from anomaly_estimators.base import OutlierDetector
from anomaly_estimators.persistence.errors import LoadError
from anomaly_estimators.persistence.registry import find_class, stored_name
from anomaly_estimators.persistence.values import (
    Decoder,
    Encoder,
    NotStorableError,
    check_attributes,
)
from anomaly_estimators.settings import check_settings, settings_of

__all__ = ["DetectorDecoder", "DetectorEncoder"]

# Estimators of scikit-learn that are parameters of detectors: only their own parameters are kept.
_TEMPLATES = {cls.__name__: cls for cls in (IsolationForest,)}
# So that the probes of a forged file fit into any memory.
_MAX_FEATURES = 10_000_000


class DetectorEncoder(Encoder):
    """Encoder that knows detectors too: by class, parameters and, where fitted, what was learned."""

    def encode(self, value, name: str):
        if isinstance(value, OutlierDetector):
            return {"detector": self.encode_detector(value, name)}
        if type(value) is FrozenEstimator:
            return {"frozen": self.encode(value.estimator, f"{name}.estimator")}
        if type(value) in _TEMPLATES.values():
            parameters = self.encode(value.get_params(deep=False), name)
            return {"template": [type(value).__name__, parameters]}
        return super().encode(value, name)

    def encode_detector(self, estimator: OutlierDetector, name: str = "") -> dict:
        """Return a detector as a JSON object.

        Raises
        ------
        NotStorableError
            If its class is neither one of the library nor registered.
        ValueError
            If a parameter or an attribute of it is nothing that a file can hold.
        """
        stored = stored_name(type(estimator))
        if stored is None:
            raise NotStorableError(type(estimator).__name__)
        check_settings(estimator)
        prefix = f"{name}." if name else ""
        parameters = {
            key: self._encode_part(estimator, "parameter", key, value, prefix)
            for key, value in estimator.get_params(deep=False).items()
            if key not in estimator._local_parameters
        }
        state = None
        if "offset_" in vars(estimator):
            state = {
                key: self._encode_part(estimator, "attribute", key, value, prefix)
                for key, value in estimator._get_fitted_state().items()
            }
        return {"class": stored, "parameters": parameters, "state": state}

    def _encode_part(self, estimator: OutlierDetector, kind: str, key: str, value, prefix: str):
        if kind == "parameter" and isinstance(value, OutlierDetector):
            # It is cloned before it is fitted: what it has learned plays no part.
            value = clone(value)
        try:
            return self.encode(value, f"{prefix}{kind}.{key}")
        except NotStorableError as error:
            raise ValueError(
                f"The {kind} {key} of {type(estimator).__name__} holds an object of type {error}, "
                "which a file that is safe to load cannot store. Use a number, a name or None in its "
                "place, or keep the estimator by pickle or joblib, and load that from trusted sources "
                "only."
            ) from None


class DetectorDecoder(Decoder):
    """Decoder that knows detectors too.

    Parameters
    ----------
    arrays : dict of str to ndarray
    device : str or None
        What detectors with a network get as ``device``; ``None`` leaves what was saved.
    """

    def __init__(self, arrays: dict[str, np.ndarray], device: str | None = None):
        super().__init__(arrays)
        self.device = device

    def _decode_object(self, kind, content):
        match kind, content:
            case "detector", {"class": str(), "parameters": dict(), "state": dict() | None}:
                return self.decode_detector(content)
            case "frozen", dict():
                return FrozenEstimator(self._detector(content))
            case "template", [str(name), dict(parameters)] if name in _TEMPLATES:
                return self._template(_TEMPLATES[name], self.decode(parameters))
        return super()._decode_object(kind, content)

    def decode_detector(self, content: dict) -> OutlierDetector:
        """Return the detector that :meth:`DetectorEncoder.encode_detector` has described.

        Raises
        ------
        LoadError
        """
        name = content["class"]
        cls = find_class(name) if isinstance(name, str) else None
        if cls is None:
            raise LoadError(
                f"it names the class {name!r:.80}, which is neither an estimator of this library nor a "
                "registered one"
            )
        parameters = self.decode({"dict": content["parameters"]})
        estimator = cls()
        unknown = parameters.keys() - (
            estimator.get_params(deep=False).keys() - cls._local_parameters
        )
        if unknown:
            raise LoadError(
                f"{cls.__name__} has no parameter {min(unknown)!r:.80} that a file may set"
            )
        estimator.set_params(**parameters)
        if self.device is not None and "device" in estimator.get_params(deep=False):
            estimator.set_params(device=self.device)
        estimator._validate_params()
        if content["state"] is not None:
            state = self.decode({"dict": content["state"]})
            check_attributes(cls, state, estimator.get_params(deep=False))
            _check_common_attributes(state)
            estimator._set_fitted_state(state)
            estimator._settings = settings_of(estimator)
        return estimator

    def _detector(self, encoded: dict) -> OutlierDetector:
        decoded = self.decode(encoded)
        if not isinstance(decoded, OutlierDetector) or "offset_" not in vars(decoded):
            raise LoadError("its frozen estimator is no fitted detector")
        return decoded

    @staticmethod
    def _template(cls: type[BaseEstimator], parameters) -> BaseEstimator:
        estimator = cls()
        if not isinstance(parameters, dict) or parameters.keys() - estimator.get_params().keys():
            raise LoadError(f"its {cls.__name__} is none")
        estimator.set_params(**parameters)
        estimator._validate_params()
        return estimator


def _check_common_attributes(state: dict) -> None:
    """Refuse what every detector has, if it is not what every detector has there."""
    n_features, offset = state.get("n_features_in_"), state.get("offset_")
    if not isinstance(n_features, Integral) or not 1 <= n_features <= _MAX_FEATURES:
        raise LoadError("its number of features is none")
    if not isinstance(offset, Real) or not np.isfinite(offset):
        raise LoadError("its threshold is none")
    names = state.get("feature_names_in_")
    if names is not None and not (
        isinstance(names, np.ndarray) and names.dtype == object and names.shape == (n_features,)
    ):
        raise LoadError("its feature names are none")
