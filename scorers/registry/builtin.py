"""Which scorers come with AutoScorer, and in which module each lies."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from ...core.errors import AutoScorerError, ErrorCode
from .entry import Registration

__all__ = ["BUILTIN_MODULES", "import_builtin", "where_builtin"]

_SCORERS = __name__.rsplit(".", 2)[0]

# Static, so that asking for one scorer imports one module, and listing the ids imports none.
BUILTIN_MODULES: Mapping[str, str] = MappingProxyType(
    {
        scorer_id: f"{_SCORERS}.{module}"
        for scorer_id, module in {
            "classification_accuracy": "classification",
            "classification_f1": "classification",
            "detection_map": "detection.scorer",
            "rag": "rag.scorer",
            "regression_rmse": "regression",
        }.items()
    }
)


def where_builtin(scorer_id: str) -> str:
    """``file:line`` of a built-in's ``@register``, read from its source without importing it."""
    module = BUILTIN_MODULES[scorer_id]
    path = Path(__file__).parents[1].joinpath(*module.removeprefix(f"{_SCORERS}.").split(".")).with_suffix(".py")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"module {module}"
    line = next((n for n, text in enumerate(lines, 1) if "register(" in text and scorer_id in text), 1)
    return f"{path}:{line}"


def import_builtin(scorer_id: str, declared: Mapping[str, Mapping[str, Registration]]) -> Registration:
    """Import a built-in's module.

    Args:
        scorer_id: One of ``BUILTIN_MODULES``.
        declared: What modules have registered in this process so far: module → id → registration.

    Returns:
        Its registration.

    Raises:
        AutoScorerError: ``SCORER_LOAD_ERROR`` when the module does not import, or does not register it.
    """
    module = BUILTIN_MODULES[scorer_id]
    try:
        importlib.import_module(module)
    except Exception as error:
        raise _builtin_error(scorer_id, f"{type(error).__name__}: {error}") from None
    registration = declared.get(module, {}).get(scorer_id)
    if registration is None:
        raise _builtin_error(scorer_id, "the module does not register it")
    return registration


def _builtin_error(scorer_id: str, why: str) -> AutoScorerError:
    module = BUILTIN_MODULES[scorer_id]
    return AutoScorerError(
        ErrorCode.SCORER_LOAD_ERROR,
        f"The built-in scorer {scorer_id!r} can't be loaded from {module}: {why}. Is the installation complete?",
        details={"scorer": scorer_id, "module": module},
    )
