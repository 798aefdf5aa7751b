"""What is learned: network connections that are attacks, and a ring in the plane."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.integrate import quad
from scipy.special import ive

from anomaly_estimators.datasets import fetch_kddcup99
from anomaly_estimators.datasets.protocols import one_class_split

__all__ = ["RINGS", "Ring", "Split", "kddcup", "split_attacks", "uniform_points"]


@dataclass(frozen=True, eq=False)
class Split:
    """Rows to train on and rows to test on, each different test row once.

    A score is a function of the row alone, and more than half of the test rows occur elsewhere in
    them: each different one is scored once.

    Parameters
    ----------
    train : ndarray of shape (n_train, n_features), dtype float32
        Normal rows only.
    different : ndarray of shape (n_different, n_features), dtype float32
        The different test rows.
    position : ndarray of shape (n_test,)
        Where each test row is among the different ones.
    truth : ndarray of shape (n_test,)
        +1 normal, -1 anomaly, of each test row.
    """

    train: np.ndarray
    different: np.ndarray
    position: np.ndarray
    truth: np.ndarray


def split_attacks(X: np.ndarray, y: np.ndarray) -> Split:
    """Split as in section 5: train on the normal rows of 80 %, test on the other 20 %.

    The paper's runs differ by "random initializations": the split is the same for all of them.
    """
    train, test, _, truth = one_class_split(X, y, train_size=0.8, random_state=0)
    different, position = np.unique(test, axis=0, return_inverse=True)
    return Split(train, different, position.ravel(), truth)


@lru_cache(maxsize=1)
def kddcup() -> Split:
    """KDDCUP's 10 %: attacks are the normal class, and connections without one the anomalies."""
    return split_attacks(*fetch_kddcup99(return_X_y=True))


@dataclass(frozen=True)
class Ring:
    """Points on a circle about the origin, with Gaussian noise in both directions; figure 1.

    Parameters
    ----------
    noise : float
        Standard deviation.
    radius : float, default=1.0

    Examples
    --------
    >>> Ring(0.1).draw(3, seed=0).shape, round(Ring(0.1).mean_log_density(), 4)
    ((3, 2), -0.9517)
    """

    noise: float
    radius: float = 1.0

    def draw(self, n: int, seed: int) -> np.ndarray:
        """Draw points, float32 of shape (n, 2)."""
        rng = np.random.default_rng(seed)
        angle = rng.uniform(0.0, 2.0 * np.pi, n)
        circle = self.radius * np.column_stack([np.cos(angle), np.sin(angle)])
        return (circle + rng.normal(scale=self.noise, size=(n, 2))).astype(np.float32)

    def log_density(self, X: np.ndarray) -> np.ndarray:
        """Log-density of points: of a Gaussian, averaged over the circle that its centre lies on."""
        return self._at_distance(np.hypot(*np.asarray(X, dtype=np.float64).T))

    def mean_log_density(self) -> float:
        """Mean of the log-density over the ring, by quadrature: what no model can surpass.

        It is the negative of the differential entropy.
        """

        def integrand(distance: float) -> float:
            log_density = self._at_distance(distance)
            return 2.0 * np.pi * distance * np.exp(log_density) * log_density

        width = 12.0 * self.noise
        low, high = max(0.0, self.radius - width), self.radius + width
        return quad(integrand, low, high, points=[self.radius], limit=200)[0]

    def _at_distance(self, distance):
        variance = self.noise**2
        # The angle's integral is a Bessel function; scaled by its exponential growth, it does not
        # overflow.
        bessel = ive(0, self.radius * distance / variance)
        exponent = -0.5 * (distance - self.radius) ** 2 / variance
        return exponent + np.log(bessel) - np.log(2.0 * np.pi * variance)


RINGS = {"0.05": Ring(0.05), "0.1": Ring(0.1)}


def uniform_points(n: int, seed: int) -> np.ndarray:
    """Points anywhere in the square about the ring, float32 of shape (n, 2)."""
    return np.random.default_rng(seed).uniform(-1.5, 1.5, (n, 2)).astype(np.float32)
