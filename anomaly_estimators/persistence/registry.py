"""The classes that a file may name."""

import anomaly_estimators
from anomaly_estimators.base import OutlierDetector

__all__ = ["find_class", "register", "stored_name"]

_REGISTERED: dict[str, type] = {}


def register(cls: type) -> type:
    """Allow estimators of an own class to be saved and loaded.

    Parameters
    ----------
    cls : type
        Subclass of :class:`~anomaly_estimators.OutlierDetector`. Files know it by its module and
        name, so it must be registered under the same name before they are loaded. It is built and
        scores with parameters from the file, which it must not execute.

    Returns
    -------
    type
        The class, so that this can be used as a decorator.

    Raises
    ------
    TypeError
        If it is no subclass of :class:`~anomaly_estimators.OutlierDetector`.

    Examples
    --------
    >>> from anomaly_estimators import Autoencoder
    >>> from anomaly_estimators.persistence import register
    >>> @register
    ... class ShallowAutoencoder(Autoencoder):
    ...     pass
    """
    if not isinstance(cls, type) or not issubclass(cls, OutlierDetector):
        raise TypeError(f"register takes a subclass of OutlierDetector; got {cls!r}.")
    _REGISTERED[_full_name(cls)] = cls
    return cls


def stored_name(cls: type) -> str | None:
    """Name by which files know a class; ``None`` if it may not be stored.

    Examples
    --------
    >>> stored_name(anomaly_estimators.DAGMM)
    'DAGMM'
    """
    return next((n for n in (cls.__name__, _full_name(cls)) if find_class(n) is cls), None)


def find_class(name: str) -> type | None:
    """Class that a file names, among those of the library and those registered.

    Nothing is ever imported by a name from a file: the modules that the library's own names stand
    for are written down in the library.

    Examples
    --------
    >>> find_class("Autoencoder").__name__
    'Autoencoder'
    >>> find_class("os.system") is None
    True
    """
    if name in _REGISTERED:
        return _REGISTERED[name]
    if name not in anomaly_estimators._PUBLIC:
        return None
    found = getattr(anomaly_estimators, name)
    return found if isinstance(found, type) and issubclass(found, OutlierDetector) else None


def _full_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
