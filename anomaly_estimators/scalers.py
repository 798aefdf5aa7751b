"""The scalers that detectors take by name."""

import numpy as np
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

__all__ = ["SCALERS", "log_volume_factor"]

#: The scalers that can be asked for by name.
SCALERS = {"minmax": MinMaxScaler, "robust": RobustScaler, "standard": StandardScaler}


def log_volume_factor(scaler) -> float:
    """Logarithm of the factor by which a scaler changes a volume.

    Parameters
    ----------
    scaler : fitted instance of one of ``SCALERS``, or None

    Returns
    -------
    float
        What is to be added to a log density of scaled rows to have that of the rows themselves.

    Examples
    --------
    >>> scaler = MinMaxScaler().fit([[0.0, 0.0], [2.0, 2.0]])
    >>> round(float(np.exp(log_volume_factor(scaler))), 12)
    0.25
    """
    if scaler is None:
        return 0.0
    factors = scaler.scale_ if isinstance(scaler, MinMaxScaler) else 1 / scaler.scale_
    return float(np.log(factors).sum())
