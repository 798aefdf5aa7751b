"""Which score to trust, as functions of arrays."""

import numpy as np

__all__ = ["expected_yield", "hit_rate"]


def expected_yield(logits: np.ndarray, predicted: float, found: float) -> float:
    """Share of anomalies that a head expects among the rows that it would choose.

    Its probabilities are corrected by how they have fared: by the anomalies that were found where the
    head expected some number of them.

    Parameters
    ----------
    logits : ndarray of shape (k,)
        Log-odds of the rows that the head would choose.
    predicted : float
        Anomalies that the head expected among rows audited before, at the time.
    found : float
        Anomalies that were found there.

    Returns
    -------
    float
        At least 0; above 1 only where the head has been too modest.

    Examples
    --------
    >>> expected_yield(np.zeros(10), predicted=9.0, found=4.0)
    0.25
    """
    probabilities = 0.5 * (1.0 + np.tanh(0.5 * np.asarray(logits, dtype=np.float64)))
    return float(probabilities.mean() * (found + 1.0) / (predicted + 1.0))


def hit_rate(found: float, audited: float) -> float:
    """Share of anomalies among audited rows, by Laplace's rule of succession.

    Examples
    --------
    >>> hit_rate(0.0, 8.0)
    0.1
    """
    return (found + 1.0) / (audited + 2.0)
