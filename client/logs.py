"""A task's log, page by page or as it grows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from ..schemas.task import TaskState
from .connection import Connection
from .polling import resumed

__all__ = ["FINAL", "SeenLines", "follow_log", "read_log"]

Json = dict[str, Any]

FINAL = frozenset(state.value for state in TaskState if state.is_final)


def read_log(api: Connection, path: str) -> Iterator[Json]:
    """What is there.

    Args:
        api: The API.
        path: Of the log.
    """
    offset: int | None = 0
    while offset is not None:
        page = api.get(path, {"offset": offset})
        yield from page["records"]
        offset = page["next_offset"]


def follow_log(api: Connection, path: str, on_away: Callable[[], None] | None) -> Iterator[Json]:
    """All records, as they come, until the task has ended; through an API that is started anew, and each once.

    Args:
        api: The API.
        path: Of the log.
        on_away: As ``Patience`` takes it.
    """
    seen = SeenLines()

    def connect() -> Iterator[Json]:
        seen.begin()
        for event in api.stream(path, {"follow": "true"}):
            is_end = event.get("type") == "end"
            yield event
            if is_end:
                return

    for event in resumed(connect, on_away):
        kind = event.pop("type", None)
        if kind == "end" and event["state"] in FINAL:
            return
        if kind == "log" and seen.is_new(event):
            yield event


class SeenLines:
    """Which lines of a log have been told, by a stream that begins at the beginning each time."""

    def __init__(self) -> None:
        self._told: Counter[tuple[Any, ...]] = Counter()
        self._again: Counter[tuple[Any, ...]] = Counter()

    def begin(self) -> None:
        """The stream begins anew."""
        self._again = Counter(self._told)

    def is_new(self, line: Json) -> bool:
        """Whether a line was not told before; it is told now."""
        # What comes again need not come in the same order or with the same time.
        identity = tuple(line.get(name) for name in ("source", "workspace", "message"))
        if self._again[identity] > 0:
            self._again[identity] -= 1
            return False
        self._told[identity] += 1
        return True
