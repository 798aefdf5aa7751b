"""Detectors by the density of a mixture."""
