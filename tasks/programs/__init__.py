"""Scoring by somebody else's program, which is run sealed: what imported benchmarks are scored by."""

from .columns import Column
from .scorer import ProgramScorer

__all__ = ["Column", "ProgramScorer"]
