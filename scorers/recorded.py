"""The documented import path of ``load_configured``; what it does stands in ``registry/manifest.py``."""

from .registry.manifest import load_configured

__all__ = ["load_configured"]
