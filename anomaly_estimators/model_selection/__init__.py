"""Scorers for the model selection tools of scikit-learn."""

from .scorers import average_precision_scorer, f1_at_ratio_scorer, roc_auc_scorer

__all__ = ["average_precision_scorer", "f1_at_ratio_scorer", "roc_auc_scorer"]
