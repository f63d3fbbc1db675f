"""What happens to tasks, as the API tells it: server-sent events, through connections that break."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ..core.errors import AutoScorerError
from ..schemas.task import TaskState
from .connection import ApiAway, Connection
from .polling import FIRST, LONGEST, MORE, Patience

__all__ = ["Event", "follow_events", "follow_task", "read_events"]

Json = dict[str, Any]

_PATH = "/events"
_FINAL = frozenset(state.value for state in TaskState if state.is_final)


@dataclass(frozen=True)
class Event:
    """Something that has happened.

    Args:
        kind: ``hello``, ``task``, ``gone``, ``reset``, ``log`` or ``end``.
        data: As docs/api.md says of each kind.
        id: Of the position up to which everything was received: ``Client.events(after=…)`` goes on there. Empty before
            there is one.
    """

    kind: str
    data: Json
    id: str = ""


def read_events(parts: Iterable[bytes], last: str = "") -> Iterator[Event]:
    """The events of a stream. What is not whole when it ends is left out.

    Args:
        parts: Its bytes, as they come.
        last: The id that was known before.

    Raises:
        ValueError: It is not a stream of events with JSON.
    """
    kind, data, rest = "", list[bytes](), b""
    for part in parts:
        # By bytes: a text's own line breaks of other kinds end no line here.
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            name, _, value = line.removesuffix(b"\r").partition(b":")
            value = value.removeprefix(b" ")
            if name == b"event":
                kind = value.decode()
            elif name == b"data":
                data.append(value)
            elif name == b"id":
                last = value.decode()
            elif not name and not value:
                if data:
                    told = json.loads(b"\n".join(data))
                    if not isinstance(told, dict):
                        raise ValueError("an event's data is not an object")
                    yield Event(kind, told, last)
                kind, data = "", []


def follow_events(api: Connection, after: str | None, on_away: Callable[[], None] | None) -> Iterator[Event]:
    """What happens to all tasks, without an end; through an API that is started anew.

    Args:
        api: The API.
        after: The last id that is known.
        on_away: As ``Patience`` takes it.
    """
    last, patience, pause = after or "", Patience(on_away), FIRST
    while True:
        began = False
        try:
            for event in _events(api, {}, last):
                patience.answered()
                began, pause = True, FIRST
                last = event.id or last
                if event.kind == "end":
                    break
                yield event
        except AutoScorerError as error:
            if not (began and isinstance(error, ApiAway)):
                patience.pause(error)
                continue
        time.sleep(pause)
        pause = min(pause * MORE, LONGEST)


def follow_task(api: Connection, task_id: str, on_away: Callable[[], None] | None) -> Iterator[Event]:
    """What happens to one task and each line of its log once, until it has ended; through an API that is started anew.

    Args:
        api: The API.
        task_id: Which.
        on_away: As ``Patience`` takes it.
    """
    told: Counter[tuple[Any, ...]] = Counter()
    task: Json | None = None
    patience, pause = Patience(on_away), FIRST
    while True:
        # A stream begins at the beginning. What comes again need not come in the same order or with the same time.
        again, began = Counter(told), False
        try:
            for event in _events(api, {"task": task_id}, ""):
                patience.answered()
                began = True
                if event.kind == "log":
                    identity = tuple(event.data.get(name) for name in ("source", "workspace", "message"))
                    if again[identity] > 0:
                        again[identity] -= 1
                        continue
                    told[identity] += 1
                elif event.kind == "task":
                    if event.data == task:
                        continue
                    task = event.data
                elif event.kind == "end" and event.data.get("state") not in _FINAL:
                    break  # of the stream, and not of the task
                yield event
                if event.kind == "end":
                    return
        except AutoScorerError as error:
            if not (began and isinstance(error, ApiAway)):
                patience.pause(error)
                continue
        time.sleep(pause)
        pause = min(pause * MORE, LONGEST)


def _events(api: Connection, params: Json, last: str) -> Iterator[Event]:
    headers = {"accept": "text/event-stream", **({"last-event-id": last} if last else {})}
    try:
        yield from read_events(api.parts(_PATH, params, headers), last)
    except ValueError:
        raise ApiAway(api.url, "its stream is not one of events") from None
