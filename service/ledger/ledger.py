"""The ledger: every task that was accepted, on disk before anybody is told so.

Prefect is the queue and knows the states of the runs. The ledger is what must hold while Prefect is away: what was
accepted and not handed over yet, which request made which task, whom to tell, and how each task ended.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from asyncio import Future
from collections.abc import Callable, Coroutine
from functools import partial, wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode
from ...core.locks import acquire
from ...core.storage import full_database, full_disk
from ...schemas.task import TaskView
from . import statements as sql
from .records import NewTask, TaskRow
from .schema import prepare
from .writer import GroupCommit

__all__ = ["Ledger"]

P = ParamSpec("P")
T = TypeVar("T")


def _writes(statement: Callable[Concatenate[sqlite3.Connection, P], T]) -> Callable[Concatenate[Ledger, P], Future[T]]:
    """A method that does a statement in a transaction; what it gives is awaited, and on disk then."""

    @wraps(statement)
    def method(self: Ledger, /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        return self._writer.write(lambda db: statement(db, *args, **kwargs))

    return method


def _reads(statement: Callable[Concatenate[sqlite3.Connection, P], T]) -> Callable[Concatenate[Ledger, P], T]:
    """A method that reads a few rows, in the loop's thread."""

    @wraps(statement)
    def method(self: Ledger, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return statement(self._reader, *args, **kwargs)

    return method


def _reads_in_thread(
    statement: Callable[Concatenate[sqlite3.Connection, P], T],
) -> Callable[Concatenate[Ledger, P], Coroutine[Any, Any, T]]:
    """A method that may read many rows, and holds up nobody."""

    @wraps(statement)
    async def method(self: Ledger, /, *args: P.args, **kwargs: P.kwargs) -> T:
        def read() -> T:
            with self._paging:
                return statement(self._pager, *args, **kwargs)

        return await asyncio.to_thread(read)

    return method


class Ledger:
    """The tasks of one installation, in ``<home>/ledger.sqlite3``; made in an event loop by ``open``.

    Its methods are the statements of ``statements.py``, done to this database. What writes is on disk when it has been
    awaited. Only one process has a ledger open.
    """

    def __init__(self, settings: Settings, lock: int) -> None:
        path = settings.home / "ledger.sqlite3"
        # SQLite gives -wal and -shm the mode of the database.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        path.chmod(0o600)
        self._lock = lock
        self._idempotency_seconds = settings.api.idempotency_hours * 3600
        self._keep_seconds = settings.api.keep_days * 86400
        connection = _connect(path)
        prepare(connection)
        self._reader = _connect(path)
        self._pager = _connect(path)
        self._paging = threading.Lock()
        self._writer = GroupCommit(connection, "ledger", path.parent)

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Open the ledger, or make it; readable by its owner alone. After a crash it is as it was last committed.

        Raises:
            AutoScorerError: ``CONFLICT`` when another process has it open, ``STORAGE_FULL``, ``INVALID_REQUEST`` when
                it can't be used for another reason.
        """
        try:
            settings.home.mkdir(parents=True, exist_ok=True)
            lock = acquire(settings.home / "ledger.lock", mode=0o600)
            if lock is None:
                raise AutoScorerError(
                    ErrorCode.CONFLICT,
                    "Another API serves this home already. End it, or give this one a home of its own "
                    "(AUTOSCORER_HOME).",
                )
            try:
                return cls(settings, lock)
            except BaseException:
                os.close(lock)
                raise
        except OSError as error:
            raise full_disk(error, home=settings.home) or _unusable(error.strerror or str(error)) from None
        except sqlite3.Error as error:
            raise full_database(error, settings.home) or _unusable(str(error)) from None

    def close(self) -> None:
        """Write what was asked for, and let go. Blocks."""
        self._reader.close()
        with self._paging:
            self._pager.close()
        self._writer.close()
        os.close(self._lock)

    # --- accepting ------------------------------------------------------------------------------------------

    def add(self, task: NewTask, *, key: str | None = None, request_hash: str = "") -> Future[tuple[TaskRow, bool]]:
        """Accept a task, or find the one that stands for it, as ``statements.add`` says."""
        return self._writer.write(
            partial(sql.add, task=task, key=key, request_hash=request_hash, keep=self._idempotency_seconds)
        )

    def keyed(self, caller: str, key: str, request_hash: str) -> TaskRow | None:
        """The task that a caller's key stands for, if it came with this request; ``add`` tells of another one."""
        return sql.keyed(self._reader, caller, key, request_hash, time.time() - self._idempotency_seconds)

    adopt = _writes(sql.adopt)

    # --- handing over to Prefect, following -----------------------------------------------------------------

    claim_undispatched = _writes(sql.claim_undispatched)
    unclaim = _writes(sql.unclaim)
    dispatched = _writes(sql.dispatched)
    dispatch_anew = _writes(sql.dispatch_anew)
    observe = _writes(sql.observe)
    finish = _writes(sql.finish)
    request_cancel = _writes(sql.request_cancel)

    # --- callbacks ------------------------------------------------------------------------------------------

    due_callbacks = _reads_in_thread(sql.due_callbacks)
    callback_done = _writes(sql.callback_done)

    # --- reading --------------------------------------------------------------------------------------------

    row = _reads(sql.row)
    find = _reads(sql.find)
    waits_for = _reads(sql.waits_for)
    outcome = _reads(sql.outcome)
    active = _reads(sql.active)
    known_flow_run = _reads(sql.known_flow_run)
    counts = _reads(sql.counts)
    page = _reads_in_thread(sql.page)

    async def view(self, task_id: str) -> TaskView:
        """One task as the facade shows it, with what it left. Raises ``NOT_FOUND``."""
        return self.row(task_id).view(self.outcome(task_id))

    # --- keeping it small -----------------------------------------------------------------------------------

    def prune(self, now: float) -> Future[int]:
        """Forget tasks that ended long ago, some hundred at once, and old keys. How many tasks were forgotten."""
        return self._writer.write(
            partial(sql.prune, keys_before=now - self._idempotency_seconds, tasks_before=now - self._keep_seconds)
        )


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _unusable(why: str) -> AutoScorerError:
    return AutoScorerError(
        ErrorCode.INVALID_REQUEST,
        f"The ledger in the home folder can't be used: {why}. Check the folder's rights and disk; a ledger that is "
        "broken can be moved away, and a new one begins.",
    )
