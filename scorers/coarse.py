"""The documented import path of the counting in steps; what it does stands in ``metrics/coarse.py``."""

from .metrics.coarse import CoarseMatrix, coarse_matrix, enough, in_steps, protected, share_matrix

__all__ = ["CoarseMatrix", "coarse_matrix", "enough", "in_steps", "protected", "share_matrix"]
