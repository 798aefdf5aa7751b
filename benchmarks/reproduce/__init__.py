"""Regenerates the papers' tables: ``python -m benchmarks.reproduce dagmm``."""
