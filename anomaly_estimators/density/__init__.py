"""Detectors that estimate the density of the rows."""
