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
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode
from ...core.locks import acquire
from ...core.storage import full_database, full_disk
from ...schemas.task import TaskState, TaskView
from . import statements as sql
from .records import CallbackDue, Ending, NewTask, Observed, Outcome, TaskRow
from .schema import prepare
from .writer import GroupCommit

__all__ = ["LONGEST_CALLBACK_WAIT", "CallbackDue", "Ledger"]

# Seconds that the next attempt at a callback is put off at most.
LONGEST_CALLBACK_WAIT = 1.5 * 3600.0


class Ledger:
    """The tasks of one installation, in ``<home>/ledger.sqlite3``; made in an event loop by ``open``.

    What is awaited and writes is on disk when it returns. Plain methods read a few rows, in the loop's thread. Only one
    process has a ledger open.
    """

    def __init__(self, path: Path, lock: int, *, idempotency_seconds: float, keep_seconds: float) -> None:
        self._lock = lock
        self._idempotency_seconds = idempotency_seconds
        self._keep_seconds = keep_seconds
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
        path = settings.home / "ledger.sqlite3"
        try:
            settings.home.mkdir(parents=True, exist_ok=True)
            lock = acquire(settings.home / "ledger.lock", mode=0o600)
        except OSError as error:
            raise full_disk(error, home=settings.home) or _unusable(error.strerror or str(error)) from None
        if lock is None:
            raise AutoScorerError(
                ErrorCode.CONFLICT,
                "Another API serves this home already. End it, or give this one a home of its own (AUTOSCORER_HOME).",
            )
        try:
            # SQLite gives -wal and -shm the mode of the database.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            path.chmod(0o600)
            return cls(
                path,
                lock,
                idempotency_seconds=settings.api.idempotency_hours * 3600,
                keep_seconds=settings.api.keep_days * 86400,
            )
        except (OSError, sqlite3.Error) as error:
            os.close(lock)
            full = full_disk(error, home=settings.home)
            if isinstance(error, sqlite3.Error):
                full = full_database(error, settings.home)
            raise full or _unusable(str(error)) from None
        except BaseException:
            os.close(lock)
            raise

    def close(self) -> None:
        """Write what was asked for, and let go. Blocks."""
        self._reader.close()
        with self._paging:
            self._pager.close()
        self._writer.close()
        os.close(self._lock)

    # --- accepting ------------------------------------------------------------------------------------------

    async def add(self, task: NewTask, *, key: str | None = None, request_hash: str = "") -> tuple[TaskRow, bool]:
        """Accept a task, or find the one that stands for it.

        Args:
            task: The task.
            key: The caller's idempotency key.
            request_hash: Of what the caller asked for; a key stands for one request.

        Returns:
            The task of that key, or the active one of that action and subject, or the new one; and whether it is new.

        Raises:
            AutoScorerError: ``CONFLICT`` when the key stands for another request.
        """
        return await self._writer.write(
            partial(sql.add, task=task, key=key, request_hash=request_hash, keep=self._idempotency_seconds)
        )

    def keyed(self, caller: str, key: str, request_hash: str) -> TaskRow | None:
        """The task that a caller's key stands for, if it came with this request; ``add`` tells of another one."""
        found = self._reader.execute(
            "SELECT task_id FROM idempotency WHERE caller = ? AND key = ? AND request_hash = ? AND created_at > ?",
            (caller, key, request_hash, time.time() - self._idempotency_seconds),
        ).fetchone()
        return self.find(found[0]) if found else None

    async def adopt(self, tasks: Sequence[NewTask]) -> list[TaskRow]:
        """Take in flow runs that came to Prefect without us; those that are known already are left out."""
        return await self._writer.write(partial(sql.adopt, tasks=tasks))

    # --- handing over to Prefect ----------------------------------------------------------------------------

    async def claim_undispatched(
        self, limit: int, *, without: Collection[str] = (), resting: Collection[str] = ()
    ) -> list[TaskRow]:
        """Tasks that Prefect is to be told of, the most urgent first; from now on it may know of them.

        Args:
            limit: Most of them.
            without: Actions that are left out.
            resting: Tasks that are left out, by id.
        """
        return await self._writer.write(partial(sql.claim_undispatched, limit=limit, without=without, resting=resting))

    async def unclaim(self, task_ids: Collection[str], reason: str | None = None) -> list[Ending]:
        """Prefect was not told of them, for certain; how those end that were to be cancelled meanwhile."""
        return await self._writer.write(partial(sql.unclaim, task_ids=task_ids, reason=reason))

    async def dispatched(self, pairs: Sequence[tuple[str, str]]) -> list[TaskRow]:
        """Note which flow runs work on which tasks: (task id, flow run id). The tasks as they are now."""
        return await self._writer.write(partial(sql.dispatched, pairs=pairs))

    async def dispatch_anew(self, task_id: str, lost: str, reason: str) -> bool:
        """Prefect has lost the flow run ``lost``: hand the task over once more. Whether it will be."""
        return await self._writer.write(partial(sql.dispatch_anew, task_id=task_id, lost=lost, reason=reason))

    # --- following ------------------------------------------------------------------------------------------

    async def observe(self, changes: Sequence[Observed]) -> None:
        """Note what Prefect says of tasks under way."""
        await self._writer.write(partial(sql.observe, changes=changes))

    async def finish(self, endings: Sequence[Ending]) -> list[str]:
        """Note how tasks ended; the ids of those that had not. From now on their callbacks are due."""
        return await self._writer.write(partial(sql.finish, endings=endings))

    async def request_cancel(self, task_id: str) -> tuple[TaskRow, bool]:
        """Cancel a task: at once where Prefect was never told of it, else it is noted for whoever tells Prefect.

        Returns:
            The task as it is then, and whether this ended it. One that had ended before is left as it was.

        Raises:
            AutoScorerError: ``NOT_FOUND``.
        """
        row, ended = await self._writer.write(partial(sql.request_cancel, task_id=task_id))
        if row is None:
            raise _not_found(task_id)
        return row, ended

    # --- callbacks ------------------------------------------------------------------------------------------

    async def due_callbacks(self, now: float) -> list[CallbackDue]:
        """Callbacks of tasks that ended, due at ``now`` (seconds since the epoch), the longest due first.

        All of them: with a limit, those to one receiver that does not answer would hide everybody else's.
        """
        found = self._reader.execute(
            "SELECT id, callback_url, callback_attempts, role FROM tasks "
            "WHERE callback_state = 'pending' AND (callback_at <= ? OR callback_at > ?) ORDER BY callback_at",
            # No attempt is put off for longer: what seems to be was noted before the clock was put back.
            (now, now + LONGEST_CALLBACK_WAIT),
        )
        return [CallbackDue(*values) for values in found]

    async def callback_done(self, task_id: str, delivered: bool, error: str | None, next_at: float | None) -> None:
        """Note an attempt at delivery; not delivered and no ``next_at``: it is given up."""
        await self._writer.write(
            partial(sql.callback_done, task_id=task_id, delivered=delivered, error=error, next_at=next_at)
        )

    # --- reading --------------------------------------------------------------------------------------------

    async def view(self, task_id: str) -> TaskView:
        """One task as the facade shows it, with what it left. Raises ``NOT_FOUND``."""
        return self.row(task_id).view(self.outcome(task_id))

    def row(self, task_id: str) -> TaskRow:
        """One task. Raises ``NOT_FOUND``."""
        row = self.find(task_id)
        if row is None:
            raise _not_found(task_id)
        return row

    def find(self, task_id: str) -> TaskRow | None:
        """One task, or None."""
        return sql.row(self._reader, task_id)

    def waits_for(self, row: TaskRow) -> str | None:
        """The task that has the workspace which another one waits for; None when it waits for none."""
        return sql.waits_for(self._reader, row)

    def outcome(self, task_id: str) -> Outcome | None:
        """What a task left that has ended."""
        found = self._reader.execute(
            "SELECT result, error, outcome FROM outcomes WHERE task_id = ?", (task_id,)
        ).fetchone()
        return Outcome(*found) if found else None

    def active(self) -> list[TaskRow]:
        """Every task that has not ended."""
        return sql.active(self._reader)

    def known_flow_run(self, flow_run_id: str) -> bool:
        """Whether a flow run is a task's."""
        found = self._reader.execute("SELECT 1 FROM tasks WHERE flow_run_id = ?", (flow_run_id,))
        return found.fetchone() is not None

    def counts(self) -> dict[str, int]:
        """How many tasks there are, by state."""
        found: dict[str, int] = dict(self._reader.execute("SELECT state, number FROM counts").fetchall())
        return {state.value: found.get(state.value, 0) for state in TaskState}

    async def page(
        self, conditions: Sequence[tuple[str, Sequence[Any]]], before: str | None, limit: int
    ) -> tuple[list[tuple[TaskRow, Outcome]], int]:
        """Some tasks, newest first, each with what it left but its Result, and how many there are in all.

        Args:
            conditions: SQL with its values; all must hold.
            before: Id that those on the page are older than.
            limit: Most of them.
        """

        def read() -> tuple[list[tuple[TaskRow, Outcome]], int]:
            with self._paging:
                return sql.page(self._pager, conditions, before, limit)

        return await asyncio.to_thread(read)

    async def newer(self, conditions: Sequence[tuple[str, Sequence[Any]]], than: str) -> int:
        """How many tasks come before the page of those older than ``than``; the arguments are as of ``page``."""

        def read() -> int:
            with self._paging:
                return sql.newer(self._pager, conditions, than)

        return await asyncio.to_thread(read)

    # --- keeping it small -----------------------------------------------------------------------------------

    async def prune(self, now: float) -> int:
        """Forget tasks that ended long ago, some hundred at once, and old keys. How many tasks were forgotten."""
        return await self._writer.write(
            partial(sql.prune, keys_before=now - self._idempotency_seconds, tasks_before=now - self._keep_seconds)
        )


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _not_found(task_id: str) -> AutoScorerError:
    return AutoScorerError(
        ErrorCode.NOT_FOUND, f"There is no task {task_id[:100]!r}; GET /tasks lists those that there are."
    )


def _unusable(why: str) -> AutoScorerError:
    return AutoScorerError(
        ErrorCode.INVALID_REQUEST,
        f"The ledger in the home folder can't be used: {why}. See to the folder's rights and disk; a ledger that is "
        "broken can be moved away, and a new one begins.",
    )
