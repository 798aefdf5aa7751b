"""What goes wrong with files."""

__all__ = ["LoadError"]


class LoadError(ValueError):
    """A file is not a saved estimator, is damaged, or does not suit this version of the library."""
