"""Low-dimensional maps of codes."""

from .tsne_map import TSNEMap

__all__ = ["TSNEMap"]
