"""Detectors that learn an energy of rows."""
