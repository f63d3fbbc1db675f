"""How long what somebody else's code says may be, before it is stored or answered: messages and their details."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["MAX_DETAILS", "MAX_MESSAGE", "bounded", "shortened"]

# Characters of an error's message.
MAX_MESSAGE = 2000
# Characters of all texts and keys in an error's details together.
MAX_DETAILS = 64 * 1024
# Numbers, nulls and brackets take room as well.
_ITEM = 8
_MAX_DEPTH = 20


def shortened(text: str, limit: int = MAX_MESSAGE) -> str:
    """The text, cut to ``limit`` characters; one that was cut ends with an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def bounded(details: Mapping[str, Any], limit: int = MAX_DETAILS) -> dict[str, Any]:
    """JSON-able details that hold about ``limit`` characters at most.

    Args:
        details: An error's details.
        limit: Characters of texts and keys together.

    Returns:
        The details; where they are too long, texts are cut and the last items left out.
    """
    found: dict[str, Any] = _Room(limit).mapping(details, 0)
    return found


class _Room:
    """What is left of the limit."""

    def __init__(self, limit: int) -> None:
        self._left = limit

    def mapping(self, value: Mapping[Any, Any], depth: int) -> dict[Any, Any]:
        kept = {}
        for key, item in value.items():
            if self._left <= 0:
                break
            name = self._text(key) if isinstance(key, str) else key
            kept[name] = self._value(item, depth + 1)
        return kept

    def _value(self, value: Any, depth: int) -> Any:
        self._left -= _ITEM
        if isinstance(value, str):
            return self._text(value)
        if depth > _MAX_DEPTH:
            return "…"
        if isinstance(value, Mapping):
            return self.mapping(value, depth)
        if isinstance(value, (list, tuple)):
            kept = []
            for item in value:
                if self._left <= 0:
                    break
                kept.append(self._value(item, depth + 1))
            return kept
        return value

    def _text(self, text: str) -> str:
        cut = shortened(text, max(self._left, 1))
        self._left -= len(cut)
        return cut
