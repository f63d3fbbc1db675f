"""The objects of a fake API server: versions, selectors, and who watches."""

from __future__ import annotations

import copy
import itertools
import queue
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

__all__ = ["Gone", "Store", "Watcher", "now"]

Json = dict[str, Any]


class Gone(Exception):
    """Events since that version are not kept any more."""


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Watcher:
    """One watch: events from a version on."""

    def __init__(self, kind: str, matches: Callable[[Json], bool]) -> None:
        self.kind, self.matches = kind, matches
        self.events: queue.Queue[Json | None] = queue.Queue()


class Store:
    """Objects by kind and name, in one namespace of everything; every change has a number."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._numbers = itertools.count(1)
        self._version = 0
        self._objects: dict[str, dict[str, Json]] = {}
        self._history: list[tuple[int, str, Json]] = []
        self._kept_from = 0
        self._watchers: list[Watcher] = []

    @property
    def version(self) -> int:
        return self._version

    def watches(self) -> int:
        """How many watches there are."""
        with self.lock:
            return len(self._watchers)

    def add(self, kind: str, found: Json) -> Json | None:
        """Add an object; None where there is one of that name."""
        with self.lock:
            metadata = found.setdefault("metadata", {})
            if "name" not in metadata:
                metadata["name"] = metadata["generateName"] + uuid.uuid4().hex[:5]
            objects = self._objects.setdefault(kind, {})
            if metadata["name"] in objects:
                return None
            metadata.setdefault("uid", str(uuid.uuid4()))
            metadata.setdefault("creationTimestamp", now())
            objects[metadata["name"]] = found
            self._note("ADDED", kind, found)
            return copy.deepcopy(found)

    def change(self, kind: str, name: str, change: Callable[[Json], None]) -> Json | None:
        """Change an object in its place; None where it is not there."""
        with self.lock:
            found = self._objects.get(kind, {}).get(name)
            if found is None:
                return None
            change(found)
            self._note("MODIFIED", kind, found)
            return copy.deepcopy(found)

    def remove(self, kind: str, name: str) -> Json | None:
        with self.lock:
            found = self._objects.get(kind, {}).pop(name, None)
            if found is not None:
                self._note("DELETED", kind, found)
            return found

    def get(self, kind: str, name: str) -> Json | None:
        with self.lock:
            return copy.deepcopy(self._objects.get(kind, {}).get(name))

    def list(self, kind: str, matches: Callable[[Json], bool] = lambda _: True) -> list[Json]:
        with self.lock:
            return [copy.deepcopy(found) for found in self._objects.get(kind, {}).values() if matches(found)]

    def forget(self) -> None:
        """Drop the history, as a server does after some minutes: watches have to begin anew."""
        with self.lock:
            self._history.clear()
            # From the next change on; who has seen all up to now may go on.
            self._kept_from = self._version
            for watcher in self._watchers:
                watcher.events.put(None)

    def watch(self, kind: str, version: int, matches: Callable[[Json], bool]) -> Watcher:
        """Follow changes after a version.

        Raises:
            Gone: They are not kept.
        """
        with self.lock:
            if version < self._kept_from:
                raise Gone
            watcher = Watcher(kind, matches)
            for number, of, event in self._history:
                if number > version and of == kind and matches(event["object"]):
                    watcher.events.put(copy.deepcopy(event))
            self._watchers.append(watcher)
            return watcher

    def unwatch(self, watcher: Watcher) -> None:
        with self.lock:
            if watcher in self._watchers:
                self._watchers.remove(watcher)

    def end_watches(self) -> None:
        """End every watch, as a server that is restarted does."""
        with self.lock:
            for watcher in self._watchers:
                watcher.events.put(None)

    def _note(self, kind_of_event: str, kind: str, found: Json) -> None:
        self._version = next(self._numbers)
        found["metadata"]["resourceVersion"] = str(self._version)
        event = {"type": kind_of_event, "object": copy.deepcopy(found)}
        self._history.append((self._version, kind, event))
        if len(self._history) > 20_000:
            self._kept_from = self._history[10_000][0]
            del self._history[: 10_000 + 1]
        for watcher in self._watchers:
            if watcher.kind == kind and watcher.matches(event["object"]):
                watcher.events.put(copy.deepcopy(event))


def selected(labels: str, fields: str) -> Callable[[Json], bool]:
    """What a labelSelector and a fieldSelector choose, as far as these are equalities and names that exist."""
    wanted_labels, wanted_fields = list(_terms(labels)), list(_terms(fields))

    def matches(found: Json) -> bool:
        carried = found["metadata"].get("labels") or {}
        for key, value, equal in wanted_labels:
            if (key not in carried) if value is None else ((carried.get(key) == value) is not equal):
                return False
        for key, value, equal in wanted_fields:
            place: Any = found
            for part in key.split("."):
                place = (place or {}).get(part)
            if (place == value) is not equal:
                return False
        return True

    return matches


def _terms(text: str) -> Iterator[tuple[str, str | None, bool]]:
    for term in filter(None, text.split(",")):
        if "!=" in term:
            key, value = term.split("!=")
            yield key, value, False
        elif "=" in term:
            key, value = term.replace("==", "=").split("=")
            yield key, value, True
        else:
            yield term, None, True
