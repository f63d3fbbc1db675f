"""The documented import path of ``load_configured`` and ``RecordedFiles``; they stand in ``registry/manifest.py``."""

from .registry.manifest import ScorerManifest as RecordedFiles
from .registry.manifest import load_configured

__all__ = ["RecordedFiles", "load_configured"]
