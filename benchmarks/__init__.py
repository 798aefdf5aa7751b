"""Benchmarks: the papers' tables, and the speed and memory of the engine."""
