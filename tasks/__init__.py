"""Validate, run, score: each a plain function first and its Prefect task second."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any


def prefect_task(name: str) -> Callable[[str], Any]:
    """A ``__getattr__`` for the module of a plain function, which has its Prefect task beside it.

    Made on first use: importing Prefect takes seconds that plain users must not pay.

    Args:
        name: The task's, in ``tasks.prefect.tasks``.
    """

    def found(wanted: str) -> Any:
        if wanted != name:
            raise AttributeError(f"the module has no attribute {wanted!r}")
        return getattr(import_module(".prefect.tasks", __name__), name)

    return found
