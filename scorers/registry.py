"""The scorer registry: ids to scorers, from the built-ins, files, folders and installed packages."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from .base import BaseScorer

S = TypeVar("S", bound=type[BaseScorer])


def register(scorer_id: str) -> Callable[[S], S]:
    """Class decorator: make a scorer known under ``scorer_id``."""
    raise NotImplementedError
