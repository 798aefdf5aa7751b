"""Plots of fitted detectors, as Display classes in scikit-learn's manner."""

from ._found_curve import FoundCurveDisplay
from ._latent_map import LatentMapDisplay
from ._loss_curve import LossCurveDisplay
from ._score_distribution import ScoreDistributionDisplay

__all__ = [
    "FoundCurveDisplay",
    "LatentMapDisplay",
    "LossCurveDisplay",
    "ScoreDistributionDisplay",
]
