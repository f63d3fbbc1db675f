"""Which scorers come with AutoScorer, and in which module each lies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

__all__ = ["BUILTIN_MODULES", "where_builtin"]

_SCORERS = __name__.rsplit(".", 2)[0]

# Static, so that asking for one scorer imports one module, and listing the ids imports none.
BUILTIN_MODULES: Mapping[str, str] = MappingProxyType(
    {
        scorer_id: f"{_SCORERS}.{module}"
        for scorer_id, module in {
            "classification_accuracy": "classification",
            "classification_f1": "classification",
            "detection_map": "detection.scorer",
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
