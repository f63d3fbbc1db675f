"""What a worker reports to Prefect about its runs besides their states: log records, task runs and artifacts.

All of it is for people, so no run waits for it: records and task runs are gathered and sent together, artifacts when
there is nothing else to do, or one now and then. What is held is bounded: a server that is away for long costs some.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from ..service.prefect.client import PrefectApi, PrefectAway, PrefectRefused

__all__ = ["Reporter"]

logger = logging.getLogger(__name__)

Json = dict[str, Any]

# Records or task runs of one request.
_TOGETHER = 500
# Records, task runs, and characters of artifacts, that are held at most.
_RECORDS = 10_000
_TASK_RUNS = 10_000
_ARTIFACTS = 16 * 1024 * 1024


class Reporter:
    """Takes records, task runs and artifacts at once, and sends them in ``send``, which is called once a second."""

    def __init__(self, prefect: PrefectApi) -> None:
        self._prefect = prefect
        # Whether there are runs to work on; set by the worker.
        self.is_busy: Callable[[], bool] = lambda: False
        self._records: deque[Json] = deque(maxlen=_RECORDS)
        # The last event of each, by flow run: of a quick one Prefect hears the end alone, which costs it half.
        self._task_runs: dict[str, Json] = {}
        self._artifacts: deque[Json] = deque()
        self._size = 0
        self._left_out = 0

    def log(self, flow_run_id: str, level: int, message: str, timestamp: str | None = None) -> None:
        """Add a record to a flow run's log."""
        self._records.append(
            {
                "name": "autoscorer",
                "level": level,
                "message": message,
                "timestamp": timestamp or datetime.now(UTC).isoformat(),
                "flow_run_id": flow_run_id,
            }
        )

    def set_task_run(self, flow_run_id: str, event: Json) -> None:
        """Report what has become of a flow run's task run: an event of ``TaskRun.event``."""
        self._task_runs[flow_run_id] = event
        if len(self._task_runs) > _TASK_RUNS:
            del self._task_runs[next(iter(self._task_runs))]

    def add_artifacts(self, flow_run_id: str, bodies: Sequence[Json]) -> None:
        """Add artifacts of a flow run; the oldest that still wait are left out when there are too many."""
        for body in bodies:
            self._artifacts.append({**body, "flow_run_id": flow_run_id})
            self._size += _size(body)
        while self._size > _ARTIFACTS:
            self._size -= _size(self._artifacts.popleft())
            self._left_out += 1

    async def send(self, *, everything: bool = False) -> None:
        """Send what is held; while there are runs to work on, one artifact.

        Args:
            everything: All artifacts, also then.

        Raises:
            PrefectAway: The server does not answer; what it was not told is still held.
        """
        await self._send_records()
        await self._send_task_runs()
        while self._artifacts:
            await self._send_artifact()
            if self.is_busy() and not everything:
                return

    async def flush(self, seconds: float) -> None:
        """Send what is held, as far as the time suffices."""
        with contextlib.suppress(TimeoutError, PrefectAway):
            async with asyncio.timeout(seconds):
                await self.send(everything=True)

    async def _post(self, path: str, body: Any, what: str, **fields: str) -> None:
        try:
            await self._prefect.call("POST", path, body)
        except PrefectRefused as error:  # asking again changes nothing
            logger.warning("%s not taken: %s", what, error.message, extra={"fields": fields})

    async def _send_records(self) -> None:
        while self._records:
            some = [self._records.popleft() for _ in range(min(len(self._records), _TOGETHER))]
            try:
                await self._post("/logs/", some, f"{len(some)} log records were")
            except PrefectAway:
                self._records.extendleft(reversed(some))
                raise

    async def _send_task_runs(self) -> None:
        while some := dict(list(self._task_runs.items())[:_TOGETHER]):
            await self._post("/events", list(some.values()), f"{len(some)} task runs were")
            for flow_run_id, event in some.items():
                if self._task_runs.get(flow_run_id) is event:  # it may have ended meanwhile
                    del self._task_runs[flow_run_id]

    async def _send_artifact(self) -> None:
        body = self._artifacts[0]
        await self._post("/artifacts/", body, "An artifact was", flow_run=body["flow_run_id"])
        # While it was sent it may have been left out for newer ones.
        if self._artifacts and self._artifacts[0] is body:
            self._size -= _size(self._artifacts.popleft())
        if self._left_out and not self._artifacts:
            logger.warning("%d artifacts were left out: runs ended faster than Prefect took them.", self._left_out)
            self._left_out = 0


def _size(body: Json) -> int:
    return len(body["data"]) + 1000
