"""A task's log: what its flow run told Prefect, and live what its model writes.

Prefect's records come in some seconds late and hold the model's lines as well. So a reader who follows a run on this
host gets the model's lines from container.log as they come, and then not from Prefect again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import time
from collections import deque
from collections.abc import AsyncGenerator
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ..core.errors import AutoScorerError
from ..core.text import replace
from ..core.workspace import open_regular
from ..schemas.task import TaskView
from ..tasks.prefect.log import ASIDE, FILE_GAP, MODEL_MARK, gap
from .ledger.records import iso
from .prefect.client import PAGE, PrefectAway, PrefectRefused
from .prefect.model import Json
from .tasks import TaskService

__all__ = ["LogPage", "LogRecord", "follow", "read_page"]

# Whose line it is, in a batch's log; as ``prefix_of`` writes it.
_MEMBER = re.compile(r"\[([^\[\]\n]{1,300})] ")
# Records that may come in before others that are already there: several processes write.
_OVERLAP = 50
# Seconds between two looks, and after the end for records that are on their way.
_PAUSE, _LATE = 0.7, 4.0
_HEARTBEAT = 10.0
_CHUNK = 64 * 1024
# Lines of the end of a log that is too long to be followed.
_LAST = 30
_LONGEST_LINE = 8 * 1024


class LogRecord(BaseModel):
    """One record of a log."""

    model_config = ConfigDict(extra="forbid")

    time: str = Field(description="ISO 8601, UTC.")
    level: str
    source: Literal["flow", "model"] = Field(description="flow: what AutoScorer did. model: what the model wrote.")
    message: str
    workspace: str | None = Field(None, description="Of a batch: whose line it is; null where it is the batch's own.")
    left_out: int | None = Field(
        None, description="So many lines of the model's log are missing here; logs/container.log has them."
    )


class LogPage(BaseModel):
    """Some records of a task's log, oldest first."""

    model_config = ConfigDict(extra="forbid")

    records: list[LogRecord]
    next_offset: int | None = Field(description="Where to go on; null when there is nothing more so far.")


async def read_page(tasks: TaskService, task_id: str, offset: int, limit: int) -> LogPage:
    """Some of the records that Prefect has of a task; ``limit`` is ``PAGE`` at most, and one record may become several.

    Raises:
        AutoScorerError: ``NOT_FOUND``, or ``BACKEND_UNAVAILABLE`` when the Prefect server is away.
    """
    flow_run = (await tasks.ledger.row(task_id)).flow_run_id
    if flow_run is None:
        return LogPage(records=[], next_offset=None)
    found = await tasks.prefect.logs(flow_run, offset=offset, limit=limit)
    members = _Members(tasks) if (await tasks.get(task_id)).action == "batch" else None
    records = [record for item in found for record in await _records(item, members)]
    return LogPage(records=records, next_offset=offset + len(found) if len(found) == limit else None)


async def follow(tasks: TaskService, task_id: str, stopping: asyncio.Event) -> AsyncGenerator[Json, None]:
    """The log as it grows, until the task has ended or ``stopping`` is set.

    Yields:
        ``{"type": "log", "time", "level", "source", "message"}``, when nothing comes for a while
        ``{"type": "heartbeat", "state", "stage"}``, and last ``{"type": "end", "state", "reason"}``.

    Raises:
        AutoScorerError: ``NOT_FOUND``.
    """
    task = await tasks.get(task_id)
    log = _Log(tasks, task_id)
    last, ended = time.monotonic(), None
    while True:
        # Asked before the records: what it wrote up to this state is then among them.
        final = task.state.is_final
        for record in await log.more(task):
            yield {"type": "log", **record.model_dump()}
            last, ended = time.monotonic(), None
        if final:
            ended = ended if ended is not None else time.monotonic()
            if time.monotonic() - ended >= _LATE:
                yield {"type": "end", "state": task.state.value, "reason": task.reason}
                return
        if time.monotonic() - last >= _HEARTBEAT:
            yield {"type": "heartbeat", "state": task.state.value, "stage": task.stage}
            last = time.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PAUSE):
                await stopping.wait()
        if stopping.is_set():
            yield {"type": "end", "state": task.state.value, "reason": "the server is being stopped"}
            return
        if not final:
            task = await tasks.get(task_id)


class _Log:
    """What of a task's log has been read."""

    def __init__(self, tasks: TaskService, task_id: str) -> None:
        self._tasks, self._task_id = tasks, task_id
        self._count = 0
        self._seen: deque[str] = deque(maxlen=4 * _OVERLAP + PAGE)
        self._members: _Members | None = None
        self._file: _ContainerLog | None = None
        # Who tells the model's lines: decided by who has the first, and then for good, so that none comes twice.
        self._model_from: Literal["file", "prefect"] | None = None

    async def more(self, task: TaskView) -> list[LogRecord]:
        """What has come since the last call."""
        if task.action == "batch" and self._members is None:
            self._members = _Members(self._tasks)
        from_file = await asyncio.to_thread(self._read_file, task)
        records = await self._read_prefect()
        if from_file and self._model_from is None:
            self._model_from = "file"
        elif self._model_from is None and any(record.source == "model" for record in records):
            self._model_from = "prefect"
        if self._model_from == "file":
            records = [record for record in records if record.source != "model"]
        return records + (from_file if self._model_from == "file" else [])

    async def _read_prefect(self) -> list[LogRecord]:
        flow_run = (await self._tasks.ledger.row(self._task_id)).flow_run_id
        if flow_run is None:
            return []
        new: list[LogRecord] = []
        while True:
            offset = max(self._count - _OVERLAP, 0)
            try:
                found = await self._tasks.prefect.logs(flow_run, offset=offset, limit=PAGE)
            except PrefectAway:
                return new  # it comes back, and has them all
            fresh = [item for item in found if item["id"] not in self._seen]
            self._seen.extend(item["id"] for item in fresh)
            self._count = max(self._count, offset + len(found))
            new += [record for item in fresh for record in await _records(item, self._members)]
            if len(found) < PAGE or not fresh:
                return new

    def _read_file(self, task: TaskView) -> list[LogRecord]:
        if self._model_from == "prefect" or task.workspace is None:
            return []
        if self._file is None:
            if task.state.is_final or task.started_at is None:
                # What lies there may be another run's by now.
                return []
            try:
                folder = self._tasks.roots.resolve(task.workspace)
            except AutoScorerError:
                return []
            most = self._tasks.settings.security.limits.log // 2
            self._file = _ContainerLog(folder / "logs" / "container.log", task.started_at, most)
        return self._file.more(at_end=task.state.is_final)


class _ContainerLog:
    """The beginning of a container.log, as it grows, and at the end its end.

    Args:
        path: The file.
        since: ISO 8601: what was written before is another run's.
        most: Bytes that are only ever appended; what lies behind is laid anew again and again.
    """

    def __init__(self, path: Path, since: str, most: int) -> None:
        self._path, self._most = path, most
        self._since = datetime.fromisoformat(since).timestamp()
        self._position = 0
        self._inode: int | None = None
        self._rest = b""
        self._size = 0
        self._is_cut = self._is_over = False

    def more(self, *, at_end: bool) -> list[LogRecord]:
        """Whole lines that have come since the last call; at the end also one that is not whole."""
        try:
            data, now = self._read()
        except (AutoScorerError, OSError):
            return []
        *lines, self._rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        if (at_end and len(data) < _CHUNK) or len(self._rest) > _LONGEST_LINE:
            lines, self._rest = [*lines, self._rest], b""
        records = [_model_line(now, line) for line in lines if line.strip()]
        if self._size > self._position >= self._most and not self._is_cut:
            self._is_cut = True
            message = "[too long to follow: the end of what comes now is shown when it has ended]"
            records.append(_model_record(now, message, level="warning"))
        if at_end and self._is_cut and not self._is_over:
            self._is_over = True
            with contextlib.suppress(AutoScorerError, OSError):
                records += self._end()
        return records

    def _end(self) -> list[LogRecord]:
        """The last lines of a log that was too long, and how much is missing before them."""
        with open_regular(self._path) as file:
            now = os.fstat(file.fileno()).st_mtime
            file.seek(self._position)
            text = file.read(2 * self._most + _CHUNK)
        lines = [line for line in text.replace(b"\r", b"\n").split(b"\n") if line.strip()]
        records = [_model_line(now, line) for line in lines[-_LAST:]]
        missing = lines[:-_LAST]
        bytes_ = 0
        # The file's own mark stands right behind its beginning, and nowhere else.
        if missing and (own := FILE_GAP.fullmatch(missing[0].decode("utf-8", "replace"))) and text.startswith(b"\n["):
            bytes_, missing = int(own[1]), missing[1:]
        if missing or bytes_:
            message = gap(len(missing))
            if bytes_:
                message = message.removesuffix("]") + f", which itself leaves out {bytes_:,} bytes]"
            records.insert(0, _model_record(now, message, left_out=len(missing)))
        return records

    def _read(self) -> tuple[bytes, float]:
        with open_regular(self._path) as file:
            status = os.fstat(file.fileno())
            if status.st_mtime < self._since:
                return b"", 0.0
            if status.st_ino != self._inode:
                # A second attempt begins a new file.
                self._inode, self._position, self._rest = status.st_ino, 0, b""
                self._is_cut = False
            file.seek(self._position)
            data = file.read(max(min(_CHUNK, self._most - self._position), 0))
        self._position += len(data)
        self._size = status.st_size
        return data, status.st_mtime


def _model_line(now: float, line: bytes) -> LogRecord:
    text = replace(line.decode("utf-8", "replace"), keep="\t")
    return _model_record(now, text if len(text) <= _LONGEST_LINE else text[: _LONGEST_LINE - 1] + "…")


def _model_record(now: float, message: str, level: str = "info", left_out: int | None = None) -> LogRecord:
    return LogRecord(time=iso(now), level=level, source="model", message=message, left_out=left_out)


class _Members:
    """Whose task runs the task runs of a batch are: what Prefect's engine says of one does not say it itself."""

    def __init__(self, tasks: TaskService) -> None:
        self._tasks = tasks
        self._names: dict[str, str | None] = {}

    async def of(self, task_run: str) -> str | None:
        """The workspace whose task run it is; None where that is not known."""
        if task_run not in self._names:
            try:
                found = await self._tasks.prefect.call("GET", f"/task_runs/{task_run}", missing_ok=True)
            except (PrefectAway, PrefectRefused):
                return None
            # As ``pipeline_task`` is named.
            name = str((found or {}).get("name", "")).partition(" ")[2]
            if not name:
                return None  # it may come yet
            self._names[task_run] = name
        return self._names[task_run]


async def _records(item: Json, members: _Members | None) -> list[LogRecord]:
    """One of Prefect's records; the model's lines in it are records of their own."""
    when = str(item.get("timestamp", "")).replace("+00:00", "Z")
    level = logging.getLevelName(int(item.get("level", 20))).lower()
    records: list[LogRecord] = []
    for line in str(item.get("message", "")).split("\n"):
        whose = _MEMBER.match(line) if members is not None else None
        member, text = (whose[1], line[whose.end() :]) if whose else (None, line)
        aside = ASIDE.fullmatch(text)
        if aside or text.startswith(MODEL_MARK):
            record = LogRecord(time=when, level=level, source="model", message=text.removeprefix(MODEL_MARK))
            if aside and aside[1]:
                record.left_out = int(aside[1].replace(",", ""))
        elif records and records[-1].source == "flow":
            records[-1].message += "\n" + line
            continue
        else:
            record = LogRecord(time=when, level=level, source="flow", message=text)
            if members is not None and member is None and item.get("task_run_id"):
                member = await members.of(str(item["task_run_id"]))
        record.workspace = member
        records.append(record)
    return records
