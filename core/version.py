"""Which AutoScorer this is. Apart from the root package, so that every layer may know it."""

__all__ = ["__version__"]

__version__ = "0.1.0"
