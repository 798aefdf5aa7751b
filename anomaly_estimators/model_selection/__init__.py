"""Scorers for the model selection tools of scikit-learn, and scenarios of partly labelled data."""

from .scenarios import (
    Scenario,
    ScenarioSetup,
    iter_setups,
    make_semi_supervised_scenario,
    semi_supervised_split,
)
from .scorers import (
    average_precision_scorer,
    f1_at_ratio_scorer,
    precision_at_n_scorer,
    roc_auc_scorer,
)

__all__ = [
    "Scenario",
    "ScenarioSetup",
    "average_precision_scorer",
    "f1_at_ratio_scorer",
    "iter_setups",
    "make_semi_supervised_scenario",
    "precision_at_n_scorer",
    "roc_auc_scorer",
    "semi_supervised_split",
]
