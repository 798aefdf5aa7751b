"""Fitted estimators to files and back."""

import os

import numpy as np
from sklearn.utils.validation import check_is_fitted

from anomaly_estimators import __version__
from anomaly_estimators.base import OutlierDetector
from anomaly_estimators.persistence.container import pack, read_bytes, unpack, write_bytes
from anomaly_estimators.persistence.detectors import DetectorDecoder, DetectorEncoder
from anomaly_estimators.persistence.errors import LoadError
from anomaly_estimators.persistence.registry import stored_name

__all__ = ["load", "save"]

_ENTRIES = {
    "format",
    "format_version",
    "digest",
    "library_version",
    "class",
    "parameters",
    "state",
    "probe_scores",
}
_N_PROBES = 4
# Relative to the largest score: other processors round differently, another model is further off.
_PROBE_TOLERANCE = 1e-4


def save(estimator: OutlierDetector, path: str | os.PathLike) -> None:
    """Save a fitted estimator to a file that is safe to load, whoever wrote it.

    The file is a safetensors file: numbers, and a JSON document in its metadata. Nothing in it can
    be executed, so nothing that is code can be saved: own networks, functions in the place of
    names, callbacks, and own scalers.

    Parameters
    ----------
    estimator : OutlierDetector
        Of a class of this library, or one that was registered by
        :func:`~anomaly_estimators.persistence.register`.
    path : str or path-like
        A file there is replaced, but only once the new one is complete.

    Raises
    ------
    TypeError
        If the object is no detector, or its class was not registered.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.
    ValueError
        If a parameter or an attribute is nothing that the file can hold, or if parameters were
        changed after the fit so that they no longer describe the fitted model. Nothing is written
        then.
    OSError
        If the file cannot be written. Nothing is left of it then, and an older file stays as it
        was.

    See Also
    --------
    load : Read such a file.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from anomaly_estimators import DAGMM, load, save
    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> detector = DAGMM(max_iter=2, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "dagmm.safetensors")
    ...     save(detector, path)
    ...     loaded = load(path)
    >>> np.array_equal(loaded.score_samples(X), detector.score_samples(X))
    True
    """
    if not isinstance(estimator, OutlierDetector):
        raise TypeError(
            f"save takes a detector of anomaly_estimators; got {type(estimator).__name__}. Save "
            "the detector in it, or pickle the whole."
        )
    if stored_name(type(estimator)) is None:
        raise TypeError(
            f"{type(estimator).__name__} is not a class of anomaly_estimators: register it by "
            "anomaly_estimators.persistence.register, where it is saved and where it is loaded."
        )
    check_is_fitted(estimator)
    data = _to_bytes(estimator)
    _check_restored(estimator, data)
    write_bytes(path, data)


def load(path: str | os.PathLike, *, device: str | None = None) -> OutlierDetector:
    """Load an estimator that was saved by :func:`save`.

    Parameters
    ----------
    path : str or path-like
        A file that :func:`save` has written.
    device : str or None, default=None
        Where to put the network, which becomes the parameter ``device`` of the estimator. ``None``
        takes what the saved estimator has as ``device``, or the CPU where that is missing.
        Detectors without a network ignore it.

    Returns
    -------
    OutlierDetector
        On the same machine it scores rows bit by bit as the estimator that was saved. It can be
        fitted again, pickled and saved. Only the parameter ``checkpoint``, a path on the machine of
        the fit, is forgotten.

    Raises
    ------
    LoadError
        If the file was not written by :func:`save`, is damaged, or does not suit this version of
        the library.
    OSError
        If the file cannot be read.
    ValueError
        If the device is not there.

    See Also
    --------
    save : Write such a file.

    Notes
    -----
    A file from a stranger is safe to load because it holds nothing that can be executed: the class
    is looked up among those of the library and those registered, and is given numbers and names
    only, which are checked like those of any caller. The digest in the file detects damage and
    careless tampering. It does not detect forgery: whoever changes a file on purpose can compute a
    new digest, and a stranger's model may score as it likes. Sign files where it matters who made a
    model.

    The file also holds the scores of a few made-up rows. A model that does not reproduce them, such
    as by a change of the library in between, is refused.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from anomaly_estimators import Autoencoder, load
    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "autoencoder.safetensors")
    ...     Autoencoder(max_iter=2, random_state=0).fit(X).save(path)
    ...     load(path, device="cpu")
    Autoencoder(device='cpu', max_iter=2, random_state=0)
    """
    if device is not None:
        from anomaly_estimators.training.devices import resolve_device

        resolve_device(device)
    try:
        return _from_bytes(read_bytes(path), device)
    except LoadError as error:
        raise LoadError(f"{os.fspath(path)} cannot be loaded: {error}.") from error


def _to_bytes(estimator: OutlierDetector) -> bytes:
    encoder = DetectorEncoder()
    document = {
        "library_version": __version__,
        **encoder.encode_detector(estimator),
        "probe_scores": encoder.encode(_probe_scores(estimator), "probe_scores"),
    }
    return pack(document, encoder.arrays)


def _check_restored(estimator: OutlierDetector, data: bytes) -> None:
    """Refuse to write what would not be the same estimator when it is read."""
    try:
        restored = _from_bytes(data, "cpu")
        # Beside the weights: dropout rates and the like, which have no part in the scores.
        if repr(getattr(restored, "module_", None)) != repr(getattr(estimator, "module_", None)):
            raise LoadError("the network has another structure")
    except LoadError as error:
        raise ValueError(
            f"The file of this {type(estimator).__name__} could not be loaded again: {error}. Its "
            "parameters must be those of the fit; set them back, or fit again."
        ) from error


def _from_bytes(data: bytes, device: str | None) -> OutlierDetector:
    document, arrays = unpack(data)
    if document.keys() != _ENTRIES:
        raise LoadError("entries are missing, or it has unknown ones")
    name, version = document["class"], document["library_version"]
    # Any memory can be too small for a forged file, and any number too large.
    try:
        with np.errstate(all="ignore"):
            return _restore(document, DetectorDecoder(arrays, device))
    except LoadError as error:
        raise LoadError(
            f"{error} (the file is from version {version!r:.40}, this is version {__version__})"
        ) from error
    except Exception as error:
        raise LoadError(
            f"the {name!s:.80} of version {version!r:.40} in it cannot be restored by version "
            f"{__version__} ({type(error).__name__}: {error!s:.500})"
        ) from error


def _restore(document: dict, decoder: DetectorDecoder) -> OutlierDetector:
    expected = decoder.decode(document["probe_scores"])
    if not isinstance(document["state"], dict):
        raise LoadError("what the estimator has learned is missing")
    estimator = decoder.decode_detector(
        {key: document[key] for key in ("class", "parameters", "state")}
    )
    if decoder.unused:
        raise LoadError(f"it has an array that belongs to nothing, {min(decoder.unused)!r:.80}")
    _check_probe_scores(_probe_scores(estimator), expected)
    return estimator


def _probe_scores(estimator: OutlierDetector) -> np.ndarray:
    """Scores of made-up rows, by which a stored model is known to be the same."""
    n_features = estimator.n_features_in_
    rows = np.sin(np.arange(1.0, _N_PROBES * n_features + 1)).reshape(_N_PROBES, n_features)
    # Where the training rows were, so that nothing is out of the network's range.
    scaler = getattr(estimator, "scaler_", None)
    if hasattr(scaler, "inverse_transform"):
        rows = scaler.inverse_transform(rows)
    return np.asarray(estimator._scores(rows), dtype=np.float64)


def _check_probe_scores(scores: np.ndarray, expected) -> None:
    if not isinstance(expected, np.ndarray) or expected.shape != scores.shape:
        raise LoadError("the scores by which it can be checked are missing")
    tolerance = _PROBE_TOLERANCE * np.max(np.abs(expected))
    if not np.all(np.abs(scores - expected) <= tolerance):
        raise LoadError("the restored model does not score as the one that was saved")
