"""What happens to tasks, as the API tells it: server-sent events, through connections that break."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from .connection import ApiAway, Connection
from .logs import FINAL, SeenLines
from .polling import resumed

__all__ = ["Event", "follow_events", "follow_task", "read_events"]

Json = dict[str, Any]

_PATH = "/events"


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
    last = after or ""

    def connect() -> Iterator[Event]:
        return _events(api, {}, last)

    for event in resumed(connect, on_away):
        last = event.id or last
        if event.kind != "end":
            yield event


def follow_task(api: Connection, task_id: str, on_away: Callable[[], None] | None) -> Iterator[Event]:
    """What happens to one task and each line of its log once, until it has ended; through an API that is started anew.

    Args:
        api: The API.
        task_id: Which.
        on_away: As ``Patience`` takes it.
    """
    seen, task = SeenLines(), None

    def connect() -> Iterator[Event]:
        seen.begin()
        return _events(api, {"task": task_id}, "")

    for event in resumed(connect, on_away):
        if event.kind == "task":
            if event.data == task:
                continue
            task = event.data
        if event.kind == "log" and not seen.is_new(event.data):
            continue
        # Another end is the stream's, and not the task's.
        is_over = event.kind == "end" and event.data.get("state") in FINAL
        if event.kind != "end" or is_over:
            yield event
        if is_over:
            return


def _events(api: Connection, params: Json, last: str) -> Iterator[Event]:
    headers = {"accept": "text/event-stream", **({"last-event-id": last} if last else {})}
    try:
        for event in read_events(api.parts(_PATH, params, headers), last):
            yield event
            if event.kind == "end":
                return
    except ValueError:
        raise ApiAway(api.url, "its stream is not one of events") from None
