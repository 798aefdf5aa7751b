"""Saving fitted estimators to files that are safe to load, whoever wrote them."""

from anomaly_estimators.persistence.errors import LoadError
from anomaly_estimators.persistence.models import load, save
from anomaly_estimators.persistence.registry import register

__all__ = ["LoadError", "load", "register", "save"]
