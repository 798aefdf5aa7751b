"""Detectors by reconstruction error."""
