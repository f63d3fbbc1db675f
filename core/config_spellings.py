"""The first system's spellings in a configuration, replaced by ours before anything is checked."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import SecretStr

from ..schemas.aliases import SECTIONS, SETTINGS, UNREAD_SETTINGS
from .errors import suggest

__all__ = ["SCORE_TOKEN", "Spelled", "in_our_words", "keys_below", "score_token", "unread_notes"]

# The variable in which the first system's scoring service has its one token.
SCORE_TOKEN = "SCORE_API_TOKEN"  # noqa: S105 - its name
_ABSENT = object()


@dataclass
class Spelled:
    """What a file or the environment holds, in our spellings.

    Args:
        values: The configuration.
        renamed: Our key → the one that was written, for each that was replaced.
        unread: Keys that are accepted and not read, with their values.
        problems: What is wrong, a sentence each.
    """

    values: dict[str, Any]
    renamed: dict[str, str] = field(default_factory=dict)
    unread: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def in_our_words(values: Mapping[str, Any], where: str) -> Spelled:
    """Replace the first system's spellings.

    Args:
        values: What a file or the environment holds, not checked yet. It is not changed.
        where: The file, or ``environment``, for messages.
    """
    spelled = Spelled(_copied(values))
    for section in SECTIONS:
        _open(spelled, section, where)
    for old, new in SETTINGS.items():
        value = _take(spelled.values, old)
        if value is _ABSENT:
            continue
        ours = _get(spelled.values, new)
        # The environment holds text, so 2 may stand there as "2".
        if ours is not _ABSENT and str(ours) != str(value):
            spelled.problems.append(
                f"{old} and {new} in {where} mean the same and differ: {value!r}, {ours!r}; keep one of them"
            )
        elif _put(spelled.values, new, value):
            spelled.renamed[new] = old
    for key in UNREAD_SETTINGS:
        value = _take(spelled.values, key)
        if value is not _ABSENT:
            spelled.unread[key] = value
    for section in SECTIONS:
        left = _take(spelled.values, section)
        for key in left if isinstance(left, dict) else ():
            spelled.problems.append(f"{section}.{key}: unknown key in {where}{suggest(str(key), keys_below(section))}")
    return spelled


def score_token() -> SecretStr | None:
    """What ``SCORE_API_TOKEN`` holds; None where it is empty or not set."""
    # Files that variables are read from often end in a line break.
    token = os.environ.get(SCORE_TOKEN, "").strip()
    return SecretStr(token) if token else None


def keys_below(section: str) -> list[str]:
    """What may stand below a section beside our own keys; below the whole configuration for an empty name."""
    paths = [*SETTINGS, *UNREAD_SETTINGS, *SECTIONS]
    return [path.rpartition(".")[2] for path in paths if path.rpartition(".")[0] == section]


def unread_notes(unread: Mapping[str, Any]) -> tuple[str, ...]:
    """What the operator must know of keys that are accepted and not read. No value is told: a broker's has a password.

    Args:
        unread: As in ``Spelled``; that of the environment over that of the file.
    """
    notes = []
    if any(key.startswith("celery.") for key in unread):
        notes.append("celery is not read: Prefect is the queue here, and needs no broker of its own.")
    return tuple(notes)


def _open(spelled: Spelled, section: str, where: str) -> None:
    """Make a section a mapping: variables of the environment hold JSON."""
    value = _get(spelled.values, section)
    if isinstance(value, str) and where == "environment":
        try:
            value = json.loads(value)
        except ValueError:
            value = _ABSENT
        if isinstance(value, dict):
            _put(spelled.values, section, value)
            return
        spelled.problems.append(f'environment: {section} is a section, and written as JSON, such as {{"key": "value"}}')
        _take(spelled.values, section)
    elif value is not _ABSENT and value is not None and not isinstance(value, dict):
        spelled.problems.append(f"{section}: expected a section with {', '.join(keys_below(section))} in {where}")
        _take(spelled.values, section)


def _copied(value: Any) -> Any:
    return {key: _copied(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def _get(values: Any, path: str) -> Any:
    for part in path.split("."):
        if not isinstance(values, dict) or part not in values:
            return _ABSENT
        values = values[part]
    return values


def _take(values: dict[str, Any], path: str) -> Any:
    above, _, last = path.rpartition(".")
    holder = _get(values, above) if above else values
    return holder.pop(last, _ABSENT) if isinstance(holder, dict) else _ABSENT


def _put(values: dict[str, Any], path: str, value: Any) -> bool:
    """Set a value; False where something above it is no section, which is told by who checks that one."""
    *above, last = path.split(".")
    for part in above:
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            return False
    values[last] = value
    return True
