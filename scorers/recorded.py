"""The documented import path of ``load_configured``; what it does stands in ``registry/manifest.py``."""

from .registry.manifest import RecordedFiles, load_configured

__all__ = ["RecordedFiles", "load_configured"]
