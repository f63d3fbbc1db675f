"""The documented import path of the counting in steps; what it does stands in ``metrics/coarse.py``."""

from .artifacts import share_matrix
from .metrics.coarse import CoarseMatrix, coarse_matrix, enough, in_steps, protected

__all__ = ["CoarseMatrix", "coarse_matrix", "enough", "in_steps", "protected", "share_matrix"]
