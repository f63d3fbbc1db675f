"""A stranger's YAML file: read safely, and within limits that no real one comes near."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ...core.errors import AutoScorerError, ErrorCode, Stage
from ...core.strict_json import read_text
from ...core.text import escape

__all__ = ["parse_yaml", "read_yaml"]

# Levels of nesting, nodes, and uses of aliases. An alias costs nothing where it stands, and everything where what it
# stands for is walked through; a file with nine levels of nine aliases each holds a billion values.
_LEVELS, _NODES, _ALIASES = 40, 100_000, 200
# The fast reader, where PyYAML was built with it.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(path: Path) -> dict[Any, Any]:
    """The mapping that a YAML file holds.

    Raises:
        AutoScorerError: ``MISSING_FILE``; ``BAD_FORMAT``.
    """
    if not path.is_file():
        raise AutoScorerError(ErrorCode.MISSING_FILE, f"{path.name} is missing.", stage=Stage.VALIDATION)
    return parse_yaml(read_text(path, code=ErrorCode.BAD_FORMAT, missing=f"{path.name} is missing."), path.name)


def parse_yaml(text: str, name: str) -> dict[Any, Any]:
    """The mapping that a text holds.

    Args:
        text: YAML.
        name: The file's name, for messages.

    Raises:
        AutoScorerError: ``BAD_FORMAT``.
    """
    try:
        _check_size(text, name)
        # Safe: it makes nothing but text, numbers, times, lists and mappings.
        found = yaml.load(text, Loader=_LOADER)  # noqa: S506
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark is not None else ""
        raise _bad(name, f"it is not YAML: {escape(str(error.problem or error.context))[:200]}{where}") from None
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError) as error:
        # Such as the 31st of February, or a list that is a key.
        why = str(error).partition("\n")[0]
        raise _bad(name, f"it can't be read: {escape(why)[:200]}") from None
    if not isinstance(found, dict):
        raise _bad(name, f"it must hold a mapping of keys to values, and holds {type(found).__name__}")
    return found


def _check_size(text: str, name: str) -> None:
    levels = aliases = 0
    for nodes, event in enumerate(yaml.parse(text, Loader=_LOADER)):
        if isinstance(event, yaml.CollectionStartEvent):
            levels += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            levels -= 1
        elif isinstance(event, yaml.AliasEvent):
            aliases += 1
        if levels > _LEVELS:
            raise _bad(name, f"it is nested more than {_LEVELS} levels deep")
        if nodes > _NODES:
            raise _bad(name, f"it holds more than {_NODES:,} values")
        if aliases > _ALIASES:
            raise _bad(name, f"it uses aliases (*name) more than {_ALIASES} times")


def _bad(name: str, why: str) -> AutoScorerError:
    return AutoScorerError(ErrorCode.BAD_FORMAT, f"{name}: {why}.", stage=Stage.VALIDATION, details={"file": name})
