"""The parameters that a detector was fitted with, and what becomes of a change."""

from functools import reduce

import numpy as np

__all__ = ["check_settings", "settings_of"]


def settings_of(estimator) -> dict:
    """Parameters that an estimator has now, and those of the estimators among them.

    Parameters
    ----------
    estimator : OutlierDetector

    Returns
    -------
    dict
        The values themselves, without those that may be changed at any time.

    Examples
    --------
    >>> from anomaly_estimators import KDE
    >>> settings_of(KDE(kernel="tophat"))["kernel"]
    'tophat'
    """
    parameters = estimator.get_params(deep=True)
    return {name: value for name, value in parameters.items() if not _is_passive(estimator, name)}


def check_settings(estimator, free: frozenset = frozenset()) -> None:
    """Refuse to answer by a fit that had other parameters.

    Parameters
    ----------
    estimator : OutlierDetector
        Fitted.
    free : frozenset of str, default=frozenset()
        Parameters of which a change is no harm.

    Raises
    ------
    ValueError
        If another parameter was changed since the fit: it would have no part in the answer.
    """
    # What was never fitted to the end, such as a part of another detector, has none.
    for name, fitted in vars(estimator).get("_settings", {}).items():
        value = _value(estimator, name, fitted)
        # Nearly always the same object, which costs nothing to see.
        if value is not fitted and name not in free and not _equal(value, fitted):
            follows = name in estimator._scoring_parameters
            what = "the threshold is that of" if follows else "the fit was made with"
            cure = " take score_samples, which follows it," if follows else ""
            raise ValueError(
                f"{name}={value!r} was set after the fit, but {what} {name}={fitted!r}: call fit again,"
                f"{cure} or set it back."
            )


def _is_passive(estimator, name: str) -> bool:
    """Whether nothing that is learned depends on a parameter, of the estimator or of one in it."""
    part, _, own_name = name.rpartition("__")
    owner = _value(estimator, part, None) if part else estimator
    return own_name in getattr(owner, "_passive_parameters", ("n_jobs", "verbose"))


def _value(estimator, name: str, otherwise):
    """What a parameter is now; that of a step that cannot be looked at counts as unchanged."""
    try:
        return reduce(getattr, name.split("__"), estimator)
    except AttributeError:
        return otherwise


def _equal(a, b) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.array_equal(a, b)
    return type(a) is type(b) and bool(a == b)
