"""The values of a platform's configuration, each of the type it must have, or an error that names its key."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from typing import Any

from ...core.errors import AutoScorerError, ErrorCode, Stage
from ...core.text import escape

__all__ = ["Fields", "slug"]

# Of a metric, as a Result has it at most.
_MAX_NAME = 200
_ISO_LIKE = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})(?:[T ]+(\d{1,2}):(\d{1,2})(?::(\d{1,2}))?)?")
_MONTH_FIRST = re.compile(r"(\d{1,2})[-/](\d{1,2})[-/](\d{4})(?:[T ]+(\d{1,2}):(\d{1,2})(?::(\d{1,2}))?)?")


class Fields:
    """One mapping of a configuration.

    Args:
        data: The mapping.
        place: Where it stands: a path of keys, or the file's name.
    """

    def __init__(self, data: Any, place: str) -> None:
        if not isinstance(data, dict):
            raise _bad(f"{place}: expected a mapping of keys to values, got {_shown(data)}")
        self._data: dict[Any, Any] = data
        self.place = place

    def __contains__(self, key: str) -> bool:
        return self._data.get(key) is not None

    def raw(self, key: str) -> Any:
        """Whatever stands there; None where nothing does."""
        return self._data.get(key)

    def text(self, key: str, default: str | None = None) -> str:
        """A text; numbers are taken as they are written.

        Raises:
            AutoScorerError: ``BAD_FORMAT``; it is missing and has no default.
        """
        value = self._data.get(key)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise self._wrong(key, "text", value)
        text = str(value).strip()
        if "\0" in text or any(0xD800 <= ord(char) < 0xE000 for char in text):
            raise self.wrong(key, "it holds a character that no text can have")
        return text

    def name(self, key: str) -> str:
        """A text of 1 to 200 characters that can be seen.

        Raises:
            AutoScorerError: ``BAD_FORMAT``.
        """
        return self.named(key, self.text(key))

    def named(self, key: str, text: Any) -> str:
        """A value that stands somewhere below a key, as a name."""
        if isinstance(text, (int, float)) and not isinstance(text, bool):
            text = str(text)
        if not isinstance(text, str) or not 1 <= len(text) <= _MAX_NAME or not text.isprintable():
            raise self._wrong(key, f"a name of 1 to {_MAX_NAME} characters", text)
        return text

    def count(self, key: str, default: int | None = None) -> int | None:
        """A number of things, at least 0; None where nothing stands behind the key, the default without the key."""
        value = self._data.get(key, default)
        if value is None or value == "":
            return None
        if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit() and len(value) < 15:
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self._wrong(key, "a number, 0 or more", value)
        return value

    def seconds(self, key: str) -> float | None:
        """A duration above 0; None where it is missing."""
        value = self._data.get(key)
        if value is None or value == "":
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
            raise self._wrong(key, "a number of seconds above 0", value)
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._data.get(key)
        if value is None:
            return default
        if isinstance(value, str) and value.strip().lower() in ("true", "false", "yes", "no"):
            return value.strip().lower() in ("true", "yes")
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false", value)
        return value

    def moment(self, key: str) -> datetime | None:
        """A time in UTC, or a day's first; None where it is missing. Times without a zone are UTC's.

        Text is read as ISO 8601, or with the month first (12-31-2026), as Codabench does.
        """
        value = self._data.get(key)
        if value is None or value == "":
            return None
        try:
            moment = _moment(value)
        except (ValueError, OverflowError):  # a 31st of February; a year 0 in UTC
            moment = None
        if moment is None:
            raise self._wrong(key, "a time such as 2026-12-31 23:59:00", value)
        return moment

    def below(self, key: str) -> Fields:
        """A mapping in it."""
        return Fields(self._data.get(key), self._path(key))

    def each(self, key: str) -> Iterator[Fields]:
        """The mappings of a list in it; of none where it is missing."""
        value = self._data.get(key)
        if value is None:
            return
        if not isinstance(value, list):
            raise self._wrong(key, "a list", value)
        for number, item in enumerate(value):
            yield Fields(item, f"{self._path(key)}[{number}]")

    def values(self, key: str) -> list[Any]:
        """The values of a list in it; none where it is missing."""
        value = self._data.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self._wrong(key, "a list", value)
        return value

    def wrong(self, key: str, why: str) -> AutoScorerError:
        """An error that names a key of it."""
        return _bad(f"{self._path(key)}: {why}", key=self._path(key))

    def _wrong(self, key: str, expected: str, value: Any) -> AutoScorerError:
        came = "it is missing" if value is None else f"got {_shown(value)}"
        return self.wrong(key, f"expected {expected}; {came}")

    def _path(self, key: str) -> str:
        return f"{self.place}.{key}"


def slug(text: str) -> str:
    """A text as a name of lower-case letters, digits, - and _; empty where nothing of it can stand there."""
    return re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-_")[:60].strip("-_")


def _moment(value: Any) -> datetime | None:
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    if isinstance(value, date):
        return datetime.combine(value, time(), UTC)
    if not isinstance(value, str):
        return None
    text = value.strip()
    if (found := _ISO_LIKE.fullmatch(text)) is not None:
        return datetime(*(int(part or 0) for part in found.groups()), tzinfo=UTC)  # type: ignore[misc,arg-type]
    if (found := _MONTH_FIRST.fullmatch(text)) is not None:
        month, day, year, *rest = (int(part or 0) for part in found.groups())
        if month > 12:  # as 31-12-2026 can only be meant
            month, day = day, month
        return datetime(year, month, day, *rest, tzinfo=UTC)  # type: ignore[misc,arg-type]
    return _moment(datetime.fromisoformat(text))


def _shown(value: Any) -> str:
    text = escape(repr(value)) if isinstance(value, (str, int, float, bool, date, type(None))) else type(value).__name__
    return text if len(text) <= 80 else text[:80] + "…"


def _bad(message: str, **details: Any) -> AutoScorerError:
    return AutoScorerError(ErrorCode.BAD_FORMAT, f"{message}.", stage=Stage.VALIDATION, details=details)
