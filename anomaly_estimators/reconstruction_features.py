"""The parameter ``reconstruction_features`` of the detectors that have it."""

from collections.abc import Callable, Sequence

from torch import Tensor

from anomaly_estimators.functional.reconstruction import RECONSTRUCTION_FEATURES

__all__ = ["check_features", "feature_functions", "feature_names"]

Feature = str | Callable[[Tensor, Tensor], Tensor]


def check_features(features: Sequence[Feature]) -> None:
    """Refuse names that are not known.

    Raises
    ------
    ValueError
    """
    unknown = [f for f in features if not callable(f) and f not in RECONSTRUCTION_FEATURES]
    if unknown:
        raise ValueError(
            f"reconstruction_features {unknown!r} are not known: use functions, or names from "
            f"{sorted(RECONSTRUCTION_FEATURES)}."
        )


def feature_functions(features: Sequence[Feature]) -> list[Callable[[Tensor, Tensor], Tensor]]:
    """Return the functions that are named; functions pass as they are."""
    return [f if callable(f) else RECONSTRUCTION_FEATURES[f] for f in features]


def feature_names(features: Sequence[Feature]) -> list[str]:
    """Return the names of the columns that the features make."""
    return [getattr(f, "__name__", str(f)) for f in features]
