"""How the two scores of an active detector have fared, and which of them to follow."""

from typing import NamedTuple

import numpy as np

__all__ = ["Trust", "expected_yield", "hit_rate"]

# Weight of a round against the one after it: what lies on top of a ranking changes as it is audited.
_MEMORY = 0.8


class Trust(NamedTuple):
    """What was found where the head had expected something, and where the base score had chosen.

    Examples
    --------
    >>> trust = Trust().updated("base", np.array([0.0, 0.0]), np.array([True, False]))
    >>> trust.expected, trust.found, trust.base_audited, trust.base_found
    (1.0, 1.0, 2.0, 1.0)
    >>> trust.prefers_head(np.array([3.0, 3.0]))
    True
    """

    expected: float = 0.0
    found: float = 0.0
    base_audited: float = 0.0
    base_found: float = 0.0

    def updated(self, chosen: str, logits: np.ndarray, anomalies: np.ndarray) -> "Trust":
        """Take in a round.

        Parameters
        ----------
        chosen : {"base", "uai"}
            The score that had chosen the rows.
        logits : ndarray of shape (k,)
            The head's log-odds of the rows, from before their verdicts were learned.
        anomalies : ndarray of bool of shape (k,)
            The verdicts.
        """
        found = float(np.count_nonzero(anomalies))
        by_base = chosen == "base"
        return Trust(
            _MEMORY * self.expected + len(logits) * expected_yield(logits, 0.0, 0.0),
            _MEMORY * self.found + found,
            _MEMORY * self.base_audited + len(logits) if by_base else self.base_audited,
            _MEMORY * self.base_found + found if by_base else self.base_found,
        )

    def prefers_head(self, logits: np.ndarray) -> bool:
        """Whether the head's choice promises more anomalies than the base score's has brought.

        Parameters
        ----------
        logits : ndarray of shape (k,)
            The head's log-odds of the rows that it would choose.
        """
        promised = expected_yield(logits, self.expected, self.found)
        return promised > hit_rate(self.base_found, self.base_audited)


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
