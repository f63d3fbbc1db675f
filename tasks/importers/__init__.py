"""Competitions of other platforms, moved in as benchmarks: docs/importing.md says what carries over."""

from .codabench import import_codabench
from .evalai import import_evalai
from .folder import ImportReport

__all__ = ["ImportReport", "import_codabench", "import_evalai"]
