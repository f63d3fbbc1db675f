"""A task's log, page by page or as it grows."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from ..core.errors import AutoScorerError
from ..schemas.task import TaskState
from .connection import ApiAway, Connection
from .polling import FIRST, LONGEST, MORE, Patience

__all__ = ["follow_log", "read_log"]

Json = dict[str, Any]

_FINAL = frozenset(state.value for state in TaskState if state.is_final)


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
    told: Counter[tuple[Any, ...]] = Counter()
    patience, pause = Patience(on_away), FIRST
    while True:
        # A stream begins at the beginning. What comes again need not come in the same order or with the same time.
        again, began = Counter(told), False
        try:
            for event in api.stream(path, {"follow": "true"}):
                began, kind = True, event.pop("type", None)
                patience.answered()
                identity = (event.get("source"), event.get("workspace"), event.get("message"))
                if kind == "log" and again[identity] > 0:
                    again[identity] -= 1
                elif kind == "log":
                    told[identity] += 1
                    yield event
                elif kind == "end":
                    if event["state"] in _FINAL:
                        return
                    break
        except AutoScorerError as error:
            if not (began and isinstance(error, ApiAway)):
                patience.pause(error)
                continue
        time.sleep(pause)
        pause = min(pause * MORE, LONGEST)
