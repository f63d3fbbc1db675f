"""What valid JSON may hold and not every reader of it can: this is looked for wherever JSON of a stranger comes in."""

from __future__ import annotations

import math
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, NamedTuple

__all__ = ["Unfit", "Why", "is_plain", "plain_text", "unfit", "walk"]

# The whole numbers that every JSON library and database between here and a scorer can hold.
_LEAST, _MOST = -(2**63), 2**63 - 1
# Characters of a place; keys are as long as a stranger likes.
_PLACE = 200


class Why(StrEnum):
    """What is wrong with a value."""

    TOO_DEEP = "too_deep"
    NUL = "nul"
    SURROGATE = "surrogate"
    NOT_FINITE = "not_finite"
    TOO_LARGE = "too_large"


class Unfit(NamedTuple):
    """A value, or a key of the object at ``place``, that is not fit to be passed on."""

    place: str
    why: Why
    value: Any


def is_plain(text: str) -> bool:
    """Whether a text can be stored everywhere: a NUL ends a path, and half of a surrogate pair has no UTF-8."""
    return "\0" not in text and not _has_surrogate(text)


def plain_text(value: str | None) -> str | None:
    """The text as it is; for pydantic's validators.

    Raises:
        ValueError: It holds a NUL or a lone surrogate.
    """
    if value is not None and not is_plain(value):
        raise ValueError("must be plain text without NUL or lone surrogates")
    return value


def walk(value: Any, *, place: str = "", levels: int) -> Iterator[tuple[str, int, Any]]:
    """Every value with its place and its depth, in no order that matters. Nothing below ``levels + 1`` is looked at.

    Args:
        value: What a JSON parser made.
        place: What to call it; places in it are such as ``params.a[3].b``.
        levels: How deep the lists and objects in it may be; the value itself is at 0.
    """
    left: list[tuple[str, int, Any]] = [(place, 0, value)]
    while left:
        where, depth, item = left.pop()
        yield where, depth, item
        if depth > levels:
            continue
        if isinstance(item, dict):
            left.extend((f"{where}.{key}"[:_PLACE], depth + 1, below) for key, below in item.items())
        elif isinstance(item, list):
            left.extend((f"{where}[{index}]", depth + 1, below) for index, below in enumerate(item))


def unfit(value: Any, *, place: str = "", levels: int) -> Iterator[Unfit]:
    """What of a value would be lost, changed or refused on its way; the arguments are as of ``walk``."""
    for where, depth, item in walk(value, place=place, levels=levels):
        if depth > levels:
            yield Unfit(where, Why.TOO_DEEP, item)
        texts = item if isinstance(item, dict) else [item] if isinstance(item, str) else ()
        for text in texts:
            if "\0" in text:
                yield Unfit(where, Why.NUL, text)
            if _has_surrogate(text):
                yield Unfit(where, Why.SURROGATE, text)
        if isinstance(item, float) and not math.isfinite(item):
            yield Unfit(where, Why.NOT_FINITE, item)
        if isinstance(item, int) and not _LEAST <= item <= _MOST:
            yield Unfit(where, Why.TOO_LARGE, item)


def _has_surrogate(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text)
