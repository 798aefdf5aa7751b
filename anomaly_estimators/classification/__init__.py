"""Detectors that learn to tell known anomalies from the rest."""
