"""Figures are drawn off screen, and closed after each test."""

import numpy as np
import pytest

matplotlib = pytest.importorskip("matplotlib")


@pytest.fixture(autouse=True)
def _off_screen():
    matplotlib.use("Agg")
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


@pytest.fixture
def rows():
    """190 normal rows around the origin and 10 anomalies far away, with their labels."""
    rng = np.random.default_rng(0)
    X = np.r_[rng.normal(size=(190, 3)), rng.uniform(6, 8, size=(10, 3))]
    return X, np.r_[np.ones(190), -np.ones(10)]
