"""Where the configuration comes from: which files are looked at, and what set each value."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from .config import Settings, home_config, named_config

__all__ = ["Looked", "Origin", "looked_at", "origins"]

_PREFIX = "AUTOSCORER_"


class Looked(NamedTuple):
    """A place where a configuration file may be.

    Args:
        named_by: ``--config``, ``AUTOSCORER_CONFIG`` or ``home``.
        path: The file; None where nothing was named.
        exists: Whether there is a file.
        used: Whether it is the one that is read.
    """

    named_by: str
    path: Path | None
    exists: bool
    used: bool


class Origin(NamedTuple):
    """A value that is in effect, and what set it.

    Args:
        value: As JSON; a secret is masked.
        source: ``default``, ``file`` or ``environment``.
        name: The file or the variable; None for a default.
    """

    value: Any
    source: str
    name: str | None


def looked_at(path: Path | str | None = None) -> list[Looked]:
    """The places of configuration files, in their order: the first that is named is read, and the last where it exists.

    Args:
        path: What ``--config`` names.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` at stage ``config`` where a home folder is unknown.
    """
    places = {"--config": path or None, "AUTOSCORER_CONFIG": os.environ.get("AUTOSCORER_CONFIG") or None}
    found = [(by, None if named is None else named_config(named)) for by, named in places.items()]
    found.append(("home", home_config()))
    first = next(by for by, place in found if place is not None)
    return [
        Looked(by, place, exists := place is not None and place.is_file(), by == first and (by != "home" or exists))
        for by, place in found
    ]


def origins(settings: Settings) -> dict[str, Origin]:
    """Every value of a configuration that was loaded, by its dotted key, with what set it."""
    variables = {name.upper(): name for name in sorted(os.environ) if name.upper().startswith(_PREFIX)}
    values = settings.to_dict()
    found = {}
    for path in _leaves(type(settings)):
        value: Any = values
        for part in path:
            value = value[part]
        variable = _variable(path, variables)
        if variable is not None:
            origin = Origin(value, "environment", variable)
        elif _holds(settings.given, path):
            origin = Origin(value, "file", str(settings.source))
        else:
            origin = Origin(value, "default", None)
        found[".".join(path)] = origin
    return found


def _leaves(model: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _leaves(kind, (*above, name))
        else:
            yield (*above, name)


def _variable(path: tuple[str, ...], variables: Mapping[str, str]) -> str | None:
    """The variable that sets a value: by its own name, or as a part of a section that is written as JSON."""
    whole = _PREFIX + "__".join(path).upper()
    for upper, name in variables.items():
        if upper == whole or upper.startswith(whole + "__"):
            return name
    for length in range(len(path) - 1, 0, -1):
        section = variables.get(_PREFIX + "__".join(path[:length]).upper())
        if section is not None and _holds(_json(os.environ[section]), path[length:]):
            return section
    return None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _holds(values: Any, path: tuple[str, ...]) -> bool:
    for part in path:
        if not isinstance(values, Mapping) or part not in values:
            return False
        values = values[part]
    return True
