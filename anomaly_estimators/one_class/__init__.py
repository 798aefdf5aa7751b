"""Detectors that describe the normal rows by a small region."""
