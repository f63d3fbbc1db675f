"""What a worker has to tell Prefect about its runs besides their states: log records and artifacts, when there is time.

Both are for people. So they are gathered and sent together, they are bounded, a server that is away costs the oldest of
them, and no run waits for either.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from .prefect_api import PrefectApi, PrefectAway, PrefectRefused

__all__ = ["Outbox"]

logger = logging.getLogger(__name__)

Json = dict[str, Any]

# Seconds between two sendings of log records, and records of one request.
_PAUSE = 1.0
_TOGETHER = 500
# Records, and characters of artifacts, that are held at most.
_RECORDS = 10_000
_ARTIFACTS = 16 * 1024 * 1024


class Outbox:
    """Takes records and artifacts at once, and sends them in ``run``.

    Args:
        prefect: The server.
    """

    def __init__(self, prefect: PrefectApi) -> None:
        self._prefect = prefect
        self._records: deque[Json] = deque(maxlen=_RECORDS)
        self._artifacts: deque[Json] = deque()
        self._size = 0
        self._left_out = 0
        self._something = asyncio.Event()

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

    def add_artifacts(self, flow_run_id: str, bodies: Sequence[Json]) -> None:
        """Add artifacts of a flow run; the oldest that still wait are left out when there are too many."""
        for body in bodies:
            self._artifacts.append({**body, "flow_run_id": flow_run_id})
            self._size += _size(body)
        while self._size > _ARTIFACTS:
            self._size -= _size(self._artifacts.popleft())
            self._left_out += 1
        self._something.set()

    async def run(self) -> None:
        """Send on, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._send_records_on())
            group.create_task(self._send_artifacts_on())

    async def flush(self, seconds: float) -> None:
        """Send what is held, as far as the time suffices."""
        with contextlib.suppress(TimeoutError, PrefectAway):
            async with asyncio.timeout(seconds):
                await self._send_records()
                await self._send_artifacts()

    async def _send_records_on(self) -> None:
        while True:
            await asyncio.sleep(_PAUSE)
            with contextlib.suppress(PrefectAway):
                await self._send_records()

    async def _send_records(self) -> None:
        while self._records:
            some = [self._records.popleft() for _ in range(min(len(self._records), _TOGETHER))]
            try:
                await self._prefect.write_logs(some)
            except PrefectAway:
                self._records.extendleft(reversed(some))
                raise
            except PrefectRefused as error:
                logger.warning("%d log records were not taken: %s", len(some), error.message)

    async def _send_artifacts_on(self) -> None:
        while True:
            await self._something.wait()
            try:
                await self._send_artifacts()
            except PrefectAway:
                await asyncio.sleep(5 * _PAUSE)

    async def _send_artifacts(self) -> None:
        told = time.monotonic()
        while self._artifacts:
            body = self._artifacts[0]
            try:
                await self._prefect.call("POST", "/artifacts/", body)
            except PrefectRefused as error:
                logger.warning(
                    "An artifact was not taken: %s", error.message, extra={"fields": {"flow_run": body["flow_run_id"]}}
                )
            # While it was sent it may have been left out for newer ones.
            if self._artifacts and self._artifacts[0] is body:
                self._size -= _size(self._artifacts.popleft())
            if self._left_out and time.monotonic() - told > 60:
                logger.warning("%d artifacts were left out: runs end faster than they are taken.", self._left_out)
                self._left_out, told = 0, time.monotonic()
        self._something.clear()


def _size(body: Json) -> int:
    return len(body["data"]) + 1000
