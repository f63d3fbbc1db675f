"""A reader of server-sent events, as strict as a browser and no stricter."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

__all__ = ["Event", "Events"]


class Event(NamedTuple):
    """One event; ``id`` is the last id that the stream had said by then."""

    kind: str
    data: Any
    id: str


class Events:
    """A stream that is being read. Use it with ``with``.

    Args:
        url: The API's address.
        path: Of the stream.
        token: Shown as a bearer's.
        headers: Sent, too.
    """

    def __init__(
        self, url: str, path: str = "/events", *, token: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        place = urlsplit(url)
        assert place.hostname is not None
        shown = {} if token is None else {"Authorization": f"Bearer {token}"}
        # Nobody waits less than five minutes for what must come.
        self._connection = http.client.HTTPConnection(place.hostname, place.port, timeout=300)
        self._connection.request("GET", path, headers={**shown, **(headers or {})})
        self.response = self._connection.getresponse()
        assert self.response.status == 200, self.response.read()
        self.id, self.comments, self.size = "", 0, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *what: object) -> None:
        self.cut()

    def cut(self) -> None:
        """Break the connection off."""
        self.response.close()
        self._connection.close()

    def next(self) -> Event | None:
        """The next event; None where the stream has ended."""
        kind, data = "message", list[str]()
        while True:
            raw = self.response.readline()
            if not raw:
                return None
            self.size += len(raw)
            line = raw.decode("utf-8").rstrip("\n")
            if not line:
                if data:
                    return Event(kind, json.loads("\n".join(data)), self.id)
                kind = "message"
                continue
            if line.startswith(":"):
                self.comments += 1
                continue
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            match name:
                case "event":
                    kind = value
                case "data":
                    data.append(value)
                case "id":
                    self.id = value
                case "retry":
                    assert value.isdigit()
                case _:
                    raise AssertionError(f"not a field of an event: {line!r}")

    def until(self, wanted: Callable[[Event], bool]) -> list[Event]:
        """Events up to the first that is wanted."""
        events: list[Event] = []
        while not events or not wanted(events[-1]):
            event = self.next()
            assert event is not None, events
            events.append(event)
        return events

    def task(self, task_id: str, **fields: Any) -> Any:
        """What is told of a task, as soon as it is told with these fields."""

        def is_it(event: Event) -> bool:
            told = event.kind == "task" and event.data["id"] == task_id
            return told and all(event.data[name] == value for name, value in fields.items())

        return self.until(is_it)[-1].data

    def rest(self) -> list[Event]:
        """All that comes until the stream ends."""
        events = []
        while (event := self.next()) is not None:
            events.append(event)
        return events
