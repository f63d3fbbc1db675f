"""Validating and scoring in processes of their own, below a guard."""

from .guarded import GuardedScoring, PlainScoring, Scoring

__all__ = ["GuardedScoring", "PlainScoring", "Scoring"]
