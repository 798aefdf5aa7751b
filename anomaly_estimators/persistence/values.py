"""Plain values as JSON and arrays, and back."""

import math

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

from anomaly_estimators.persistence.errors import LoadError
from anomaly_estimators.training.labelled import LabelledScaler

__all__ = ["Decoder", "Encoder", "NotStorableError"]

# The transformers that consist of numbers alone, and of one another.
_SCALERS = {
    cls.__name__: cls for cls in (LabelledScaler, MinMaxScaler, RobustScaler, StandardScaler)
}
_MT19937_WORDS = 624


class NotStorableError(TypeError):
    """A value is not one of those that a file can hold."""


class Encoder:
    """Turns values into JSON; the arrays among them go to ``arrays``.

    None, booleans, numbers, strings and lists are themselves. Everything else is an object with one
    key, which tells its kind.

    Attributes
    ----------
    arrays : dict of str to ndarray

    Examples
    --------
    >>> encoder = Encoder()
    >>> encoder.encode((1, 2.5, np.eye(2)), "state")
    {'tuple': [1, 2.5, {'array': 'state.2'}]}
    >>> encoder.arrays["state.2"].shape
    (2, 2)
    """

    def __init__(self):
        self.arrays: dict[str, np.ndarray] = {}

    def encode(self, value, name: str):
        """Return what stands for a value in JSON.

        Parameters
        ----------
        value : object
        name : str
            Under which the arrays in it are stored.

        Raises
        ------
        NotStorableError
        """
        if isinstance(value, np.generic) and _is_numeric(value.dtype):
            return {"scalar": self._add(np.asarray(value), name)}
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else {"float": repr(value)}
        if isinstance(value, tuple):
            return {"tuple": self._encode_all(value, name)}
        if isinstance(value, list):
            return self._encode_all(value, name)
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            return {"dict": {k: self.encode(item, f"{name}.{k}") for k, item in value.items()}}
        if type(value) is np.ndarray:
            if _is_numeric(value.dtype):
                return {"array": self._add(value, name)}
            if value.ndim == 1 and all(isinstance(item, str) for item in value):
                return {"strings": [str(item) for item in value]}
        if isinstance(value, np.random.RandomState):
            state = value.get_state(legacy=False)
            if state["bit_generator"] == "MT19937":
                return {"random_state": self.encode(state, name)}
        if type(value) in _SCALERS.values():
            # Its parameters and what it learned.
            return {"scaler": [type(value).__name__, self.encode(vars(value), name)]}
        raise NotStorableError(type(value).__name__)

    def _encode_all(self, values, name: str) -> list:
        return [self.encode(value, f"{name}.{i}") for i, value in enumerate(values)]

    def _add(self, array: np.ndarray, name: str) -> str:
        while name in self.arrays:
            name += "_"
        self.arrays[name] = array
        return name


class Decoder:
    """Turns JSON back into values.

    Parameters
    ----------
    arrays : dict of str to ndarray

    Attributes
    ----------
    unused : set of str
        Names of the arrays that nothing has referred to yet.

    Examples
    --------
    >>> Decoder({"x": np.eye(2)}).decode({"tuple": [1, 2.5, {"float": "nan"}]})
    (1, 2.5, nan)
    """

    def __init__(self, arrays: dict[str, np.ndarray]):
        self.arrays = arrays
        self.unused = set(arrays)

    def decode(self, encoded):
        """Return the value that JSON stands for.

        Raises
        ------
        LoadError
            If it is nothing that an :class:`Encoder` writes.
        """
        if isinstance(encoded, list):
            return [self.decode(item) for item in encoded]
        if not isinstance(encoded, dict):
            return encoded
        kind, content = next(iter(encoded.items())) if len(encoded) == 1 else (None, None)
        return self._decode_object(kind, content)

    def _decode_object(self, kind, content):
        match kind, content:
            case "array", str():
                return self._array(content)
            case "scalar", str():
                return _require(self._array(content), ndim=0)[()]
            case "float", "nan" | "inf" | "-inf":
                return float(content)
            case "tuple", list():
                return tuple(self.decode(content))
            case "dict", dict():
                return {key: self.decode(item) for key, item in content.items()}
            case "strings", list() if all(isinstance(item, str) for item in content):
                return np.array(content, dtype=object)
            case "random_state", dict():
                return _random_state(self.decode(content))
            case "scaler", [str(name), dict(state)] if name in _SCALERS:
                return _scaler(_SCALERS[name], self.decode(state))
        raise LoadError(f"it holds an unknown kind of value, {str(kind)!r:.40}")

    def _array(self, name: str) -> np.ndarray:
        if name not in self.arrays:
            raise LoadError(f"the array {name!r:.80} is missing")
        self.unused.discard(name)
        return self.arrays[name]


def _is_numeric(dtype: np.dtype) -> bool:
    # longdouble differs from machine to machine
    return dtype.kind in "biuf" and dtype.itemsize <= 8


def check_attributes(cls: type, state: dict, parameters: dict) -> None:
    """Refuse names that would hide what a class defines.

    Raises
    ------
    LoadError
    """
    for name in state:
        if not name.isidentifier() or name in parameters or hasattr(cls, name):
            raise LoadError(f"{name!r:.80} cannot be a fitted attribute of {cls.__name__}")


def _require(array: np.ndarray, ndim: int) -> np.ndarray:
    if array.ndim != ndim:
        raise LoadError(f"an array has {array.ndim} dimensions in the place of {ndim}")
    return array


def _scaler(cls: type[BaseEstimator], state) -> BaseEstimator:
    names = cls().get_params()
    if not isinstance(state, dict):
        raise LoadError(f"its {cls.__name__} is none")
    fitted = {name: value for name, value in state.items() if name not in names}
    check_attributes(cls, fitted, names)
    scaler = cls(**{name: state[name] for name in names if name in state})
    scaler._validate_params()
    vars(scaler).update(fitted)
    return scaler


def _random_state(state) -> np.random.RandomState:
    """Rebuild a generator; numpy itself does not check where in its words it stands."""
    match state:
        case {
            "bit_generator": "MT19937",
            "state": {"key": np.ndarray() as key, "pos": int(position)},
            "has_gauss": 0 | 1,
            "gauss": float(gauss),
        } if (
            key.dtype == np.uint32
            and key.shape == (_MT19937_WORDS,)
            and 0 <= position <= _MT19937_WORDS
            and math.isfinite(gauss)
        ):
            random_state = np.random.RandomState()
            random_state.set_state(state)
            return random_state
    raise LoadError("its random state is none")
