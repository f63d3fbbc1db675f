"""The scorer registry: ids to scorers, from the built-ins, files, folders and installed packages."""

from .registry import ScorerRegistry, get_registry, register

__all__ = ["ScorerRegistry", "get_registry", "register"]
