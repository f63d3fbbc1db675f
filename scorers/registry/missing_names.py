"""Names that a scorer file uses and nowhere defines, and the lines that import them."""

from __future__ import annotations

import ast
import builtins
import symtable
from collections.abc import Iterable

__all__ = ["IMPORTED_FROM", "import_lines", "imported_names", "undefined_names"]

# What scorers are written with, and where it is; the lines must stand in the file itself.
IMPORTED_FROM = {
    "register": "autoscorer.scorers.registry",
    "BaseCSVScorer": "autoscorer.scorers.base_csv",
    "CSVParams": "autoscorer.scorers.base_csv",
    "BaseScorer": "autoscorer.scorers.base",
    "ScorerParams": "autoscorer.scorers.base",
    "Result": "autoscorer.schemas.result",
    "Interval": "autoscorer.schemas.result",
    "Disclosed": "autoscorer.schemas.result",
    "AutoScorerError": "autoscorer.core.errors",
    "ErrorCode": "autoscorer.core.errors",
    "ArtifactWriter": "autoscorer.core.workspace",
    "Workspace": "autoscorer.core.workspace",
    "Path": "pathlib",
    "Any": "typing",
    "Dict": "typing",
    "List": "typing",
    "Optional": "typing",
    "Field": "pydantic",
}
_MODULES = {
    **{name: f"import {name}" for name in ("csv", "json", "math", "os", "re", "statistics", "sys", "time")},
    "np": "import numpy as np",
    "numpy": "import numpy",
    "pd": "import pandas as pd",
    "pandas": "import pandas",
}
# Given by Python to every module.
_GIVEN = {"__name__", "__file__", "__doc__", "__package__", "__spec__", "__loader__", "__builtins__", "__annotations__"}


def undefined_names(source: str, path: str) -> list[str]:
    """The names that a module uses, in any of its functions too, and that neither it nor Python defines.

    Args:
        source: The module's text.
        path: Its file.

    Returns:
        Sorted names; none where a star import may define anything, or the text is no Python.
    """
    try:
        top = symtable.symtable(source, path, "exec")
    except (SyntaxError, ValueError, RecursionError):
        return []
    defined, used, tables = set[str](), set[str](), [top]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        for symbol in table.get_symbols():
            name = symbol.get_name()
            is_of_the_module = table is top or symbol.is_global()
            if is_of_the_module and (symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()):
                defined.add(name)
            if is_of_the_module and symbol.is_referenced():
                used.add(name)
    if "import *" in source:
        return []
    return sorted(used - defined - _GIVEN - {*dir(builtins)})


def imported_names(source: str, module: str) -> list[str]:
    """The names that a text imports from a module, by ``from module import …``."""
    return [
        alias.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.module == module
        for alias in node.names
    ]


def import_lines(names: Iterable[str]) -> list[str]:
    """The lines that import those of the names that scorers are written with."""
    modules: dict[str, list[str]] = {}
    lines = []
    for name in sorted(names):
        if name in IMPORTED_FROM:
            modules.setdefault(IMPORTED_FROM[name], []).append(name)
        elif name in _MODULES:
            lines.append(_MODULES[name])
    return lines + [f"from {module} import {', '.join(found)}" for module, found in sorted(modules.items())]
