"""What becomes of this process's pods: one list and one watch for all of its runs, however many they are."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .api import FIRST, MOST, KubernetesApi, interrupt
from .errors import ApiError
from .names import LABEL, pods_path

if TYPE_CHECKING:
    import httpx

__all__ = ["PodWatch", "TrackedPod"]

Json = dict[str, Any]

# Seconds that the server ends a watch after, and in which nothing may come: it sends a bookmark every minute.
WATCH, QUIET = 300, 100.0
# How long a watch goes on that nobody needs: the next run of a batch needs it.
LINGER = 15.0
_PAGE = 200


class TrackedPod:
    """The pod of one run, as the watch has seen it last.

    A pod of the same Job that comes after it is none of ours: old clusters replace one that somebody deleted.
    """

    def __init__(self, lock: threading.RLock) -> None:
        self._changed = threading.Condition(lock)
        self._version = 0
        self.pod: Json | None = None
        self.is_gone = False

    def wait(self, seen: int, seconds: float) -> int:
        """Wait until something is new.

        Args:
            seen: What ``wait`` returned last, or 0.
            seconds: How long at most.
        """
        with self._changed:
            if self._version == seen:
                self._changed.wait(seconds)
            return self._version

    def take(self, pod: Json | None) -> None:
        """Note what was seen; None where it is not there any more."""
        with self._changed:
            if pod is None:
                if self.pod is None or self.is_gone:
                    return
                self.is_gone = True
            else:
                if self.pod is not None and _uid(self.pod) != _uid(pod):
                    return
                self.pod = pod
            self._version += 1
            self._changed.notify_all()


class PodWatch:
    """Follows the pods of this process in one namespace.

    Args:
        api: The API server.
        namespace: The runs'.
        process: Value of the label that the pods of this process carry.
    """

    def __init__(self, api: KubernetesApi, namespace: str, process: str) -> None:
        self._api, self._path = api, pods_path(namespace)
        self._selector = f"{LABEL}process={process}"
        self._lock = threading.RLock()
        self._tracked: dict[str, TrackedPod] = {}
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._answer: httpx.Response | None = None
        self._idle_since = time.monotonic()
        # Monotonic time since which the server is away; None while it answers.
        self.away_since: float | None = None
        self.problem: ApiError | None = None

    def track(self, run_id: str) -> TrackedPod:
        """Follow a run's pod, from before it exists."""
        with self._lock:
            found = self._tracked[run_id] = TrackedPod(self._lock)
            if self._thread is None or not self._thread.is_alive():
                self._stopped = threading.Event()
                self._thread = threading.Thread(
                    target=self._follow, args=(self._stopped,), name="autoscorer-pods", daemon=True
                )
                self._thread.start()
            return found

    def untrack(self, run_id: str) -> None:
        """Forget a run."""
        with self._lock:
            self._tracked.pop(run_id, None)
            self._idle_since = time.monotonic()

    def stop(self) -> None:
        """End it now, and wait until it has ended."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._stopped.set()
            interrupt(self._answer)
        if thread is not None:
            thread.join(5)

    def _is_idle(self) -> bool:
        with self._lock:
            return not self._tracked and time.monotonic() - self._idle_since > LINGER

    def _follow(self, stopped: threading.Event) -> None:
        version: str | None = None
        pause = FIRST
        while not stopped.is_set():
            try:
                if version is None:
                    version = self._list()
                began = time.monotonic()
                version = self._watch(version, stopped)
                # What ends at once, again and again, is not asked without a pause.
                pause = FIRST if time.monotonic() - began > 1 else pause
                if time.monotonic() - began < 1:
                    stopped.wait(pause)
            except ApiError as error:
                if error.status == 410:
                    version = None
                    continue
                self.problem = error
                if self.away_since is None:
                    self.away_since = time.monotonic()
                stopped.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
                pause = min(2 * pause, MOST)
            with self._lock:
                if self._is_idle():
                    # Under the lock: whoever tracks next sees that this thread ends, and starts another.
                    self._thread = None
                    return

    def _list(self) -> str:
        """Read all pods; whoever is not among them is gone."""
        found: dict[str, Json] = {}
        query: dict[str, str | int] = {"labelSelector": self._selector, "limit": _PAGE}
        with self._lock:
            known = set(self._tracked)
        while True:
            page = self._api.get(self._path, "list the pods", query=query, patience=0)
            for pod in page.get("items") or ():
                # The first of two is the one that was seen: `take` knows which.
                self._take(pod)
                found[_run(pod) + "/" + _uid(pod)] = pod
            metadata = page.get("metadata") or {}
            if not metadata.get("continue"):
                break
            query["continue"] = metadata["continue"]
        self._answers()
        with self._lock:
            for run_id in known & set(self._tracked):
                tracked = self._tracked[run_id]
                if tracked.pod is not None and f"{run_id}/{_uid(tracked.pod)}" not in found:
                    tracked.take(None)
        return str(metadata.get("resourceVersion") or "")

    def _watch(self, version: str, stopped: threading.Event) -> str | None:
        """Follow what changes, until the server ends it; returns where to go on, None for from the beginning."""
        query: dict[str, str | int] = {
            "watch": 1,
            "labelSelector": self._selector,
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": WATCH,
        }
        with self._api.stream(self._path, "watch the pods", query=query, quiet=QUIET) as answer:
            self._answer = answer
            self._answers()
            try:
                for event in _events(answer.iter_bytes()):
                    # What passes is proof that the server is there.
                    kind, pod = event.get("type"), event.get("object") or {}
                    if kind == "ERROR":
                        return None if pod.get("code") != 410 else self._list()
                    version = (pod.get("metadata") or {}).get("resourceVersion") or version
                    if kind in ("ADDED", "MODIFIED"):
                        self._take(pod)
                    elif kind == "DELETED":
                        self._gone(pod)
                    if stopped.is_set() or self._is_idle():
                        break
            finally:
                self._answer = None
        return version

    def _answers(self) -> None:
        self.away_since = self.problem = None

    def _take(self, pod: Json) -> None:
        with self._lock:
            tracked = self._tracked.get(_run(pod))
            if tracked is not None:
                tracked.take(pod)

    def _gone(self, pod: Json) -> None:
        with self._lock:
            tracked = self._tracked.get(_run(pod))
            if tracked is not None and (tracked.pod is None or _uid(tracked.pod) == _uid(pod)):
                tracked.take(pod)  # its last state says how it ended
                tracked.take(None)


def _events(chunks: Iterable[bytes]) -> Iterable[Json]:
    """Objects, one a line. A line that was cut is not one."""
    held = b""
    for chunk in chunks:
        *lines, held = (held + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                try:
                    yield json.loads(line)
                except ValueError:
                    return


def _run(pod: Json) -> str:
    return str(((pod.get("metadata") or {}).get("labels") or {}).get(LABEL + "run", ""))


def _uid(pod: Json) -> str:
    return str((pod.get("metadata") or {}).get("uid", ""))
