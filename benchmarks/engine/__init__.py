"""Speed and memory of the training engine: ``python -m benchmarks.engine``."""
