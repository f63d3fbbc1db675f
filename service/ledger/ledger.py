"""The ledger: every task that was accepted, on disk before anybody is told so.

Prefect is the queue and knows the states of the runs. The ledger is what must hold while Prefect is away: what was
accepted and not handed over yet, which request made which task, whom to tell, and how each task ended.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial, wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from sqlalchemy import URL, Connection, make_url

from ...core.config import Settings
from ...schemas.benchmark import Quota
from ...schemas.quota import QuotaLeft
from ...schemas.task import TaskView
from . import accepting, changes, flow_runs, leases, lists, notes, queries, quotas, shared
from . import members as batch_members
from . import statements as sql
from .postgres import PostgresDatabase
from .records import NewTask, TaskRow
from .sqlite import SqliteDatabase

__all__ = ["Ledger", "in_ledger", "is_there"]

P = ParamSpec("P")
T = TypeVar("T")


def _writes(statement: Callable[Concatenate[Connection, P], T]) -> Callable[Concatenate[Ledger, P], Awaitable[T]]:
    """A method that does a statement in a transaction; what it gives is awaited, and on disk then."""

    @wraps(statement)
    def method(self: Ledger, /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        return self._database.write(lambda db: statement(db, *args, **kwargs))

    return method


def _reads(
    statement: Callable[Concatenate[Connection, P], T],
) -> Callable[Concatenate[Ledger, P], Coroutine[Any, Any, T]]:
    """A method that reads a few rows."""

    @wraps(statement)
    async def method(self: Ledger, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._database.read(lambda db: statement(db, *args, **kwargs))

    return method


def _scans(
    statement: Callable[Concatenate[Connection, P], T],
) -> Callable[Concatenate[Ledger, P], Coroutine[Any, Any, T]]:
    """A method that may read many rows."""

    @wraps(statement)
    async def method(self: Ledger, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._database.scan(lambda db: statement(db, *args, **kwargs))

    return method


class Ledger:
    """The tasks of one installation; made in an event loop by ``open``.

    Its methods are the functions of the modules beside it, done to the database of ``ledger_url``. What writes is on
    disk when it has been awaited.
    """

    def __init__(self, settings: Settings, database: SqliteDatabase | PostgresDatabase) -> None:
        self._database = database
        self._idempotency_seconds = settings.api.idempotency_hours * 3600
        self._keep_seconds = settings.api.keep_days * 86400

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        """Open the ledger; a file that is not there is made.

        Raises:
            AutoScorerError: ``CONFLICT`` when another process has the file open, ``STORAGE_FULL``,
                ``BACKEND_UNAVAILABLE``, ``INVALID_REQUEST`` when it is of another revision or can't be used.
        """
        place = _place(settings)
        database = await (SqliteDatabase.open(place) if isinstance(place, Path) else PostgresDatabase.open(place))
        return cls(settings, database)

    async def close(self) -> None:
        """Write what was asked for, and let go."""
        await self._database.close()

    # --- accepting ------------------------------------------------------------------------------------------

    def add(
        self, task: NewTask, *, key: str | None = None, request_hash: str = "", keep: float | None = None
    ) -> Awaitable[tuple[TaskRow, bool]]:
        """Accept a task, or find the one that stands for it, as ``accepting.add`` says.

        Keys are remembered for ``keep`` seconds; for ``api.idempotency_hours`` when None.
        """
        keep = self._idempotency_seconds if keep is None else keep
        asked: Any = {"task": task, "key": key, "request_hash": request_hash, "keep": keep}
        add = partial(accepting.add, **asked)
        if isinstance(self._database, PostgresDatabase):
            return self._database.write(add, at_once=partial(accepting.add_at_once, **asked))
        return self._database.write(add)

    def add_submission(
        self, task: NewTask, quota: Quota, *, key: str | None = None, request_hash: str = ""
    ) -> Awaitable[tuple[TaskRow, bool, QuotaLeft]]:
        """Accept a team's submission if it has one left, as ``quotas.accept_submission`` says."""
        keep = self._idempotency_seconds
        return self._database.write(lambda db: quotas.accept_submission(db, task, quota, key, request_hash, keep))

    async def keyed(self, caller: str, key: str, request_hash: str) -> TaskRow | None:
        """The task that a caller's key stands for, if it came with this request; ``add`` tells of another one."""
        since = time.time() - self._idempotency_seconds
        return await self._database.read(lambda db: queries.keyed(db, caller, key, request_hash, since))

    adopt = _writes(accepting.adopt)

    # --- handing over to Prefect, following -----------------------------------------------------------------

    claim_undispatched = _writes(sql.claim_undispatched)
    unclaim = _writes(sql.unclaim)
    dispatched = _writes(sql.dispatched)
    dispatch_anew = _writes(sql.dispatch_anew)
    observe = _writes(sql.observe)
    record_members = _writes(batch_members.record_members)
    finish = _writes(sql.finish)
    request_cancel = _writes(sql.request_cancel)
    forget = _writes(sql.forget)

    # --- one of several -------------------------------------------------------------------------------------

    @property
    def is_shared(self) -> bool:
        """Whether other processes may have it open too."""
        return isinstance(self._database, PostgresDatabase)

    take_lease = _writes(leases.take_lease)
    drop_lease = _writes(leases.drop_lease)

    # --- what the workers of several hosts say --------------------------------------------------------------

    take_run = _writes(flow_runs.take_run)
    renew_runs = _writes(flow_runs.renew_runs)
    release_run = _writes(flow_runs.release_run)
    take_over_run = _writes(flow_runs.take_over_run)
    note_stage = _writes(flow_runs.note_stage)
    add_members = _writes(flow_runs.add_members)
    keep_outcome = _writes(flow_runs.keep_outcome)
    end_by_force = _writes(flow_runs.end_by_force)
    known_runs = _reads(flow_runs.known_runs)
    run_outcome = _reads(flow_runs.run_outcome)
    members = _scans(flow_runs.members)
    wanted_cancelled = _reads(flow_runs.wanted_cancelled)

    # --- what several homes have in common ------------------------------------------------------------------

    secret = _writes(shared.secret)
    scorers_number = _reads(shared.scorers_number)
    scorers = _reads(shared.scorers)
    scorer_copies = _scans(shared.scorer_copies)
    change_scorers = _writes(shared.change_scorers)

    # --- callbacks ------------------------------------------------------------------------------------------

    due_callbacks = _scans(queries.due_callbacks)
    callback_done = _writes(sql.callback_done)

    # --- what people say of tasks ----------------------------------------------------------------------------

    add_note = _writes(notes.add_note)
    delete_note = _writes(notes.delete_note)
    notes_page = _scans(notes.notes_page)
    find_note = _reads(notes.find_note)
    verdicts = _scans(notes.verdicts)

    # --- reading --------------------------------------------------------------------------------------------

    row = _reads(queries.row)
    find = _reads(queries.find)
    waits_for = _reads(queries.waits_for)
    outcome = _reads(queries.outcome)
    active = _reads(queries.active)
    known_flow_run = _reads(queries.known_flow_run)
    of_flow_runs = _scans(queries.of_flow_runs)
    to_cancel = _reads(queries.to_cancel)
    spent = _reads(quotas.spent)
    counts = _reads(queries.counts)
    page = _scans(lists.page)
    latest_of = _scans(queries.latest_of)
    members_of = _reads(queries.members_of)

    # --- what has changed -----------------------------------------------------------------------------------

    changed_since = _scans(changes.changed_since)
    listed = _scans(changes.listed)
    under_way = _scans(changes.under_way)
    forget_changes = _writes(changes.forget_changes)

    async def view(self, task_id: str) -> TaskView:
        """One task as the facade shows it, with what it left. Raises ``NOT_FOUND``."""
        return (await self.row(task_id)).view(await self.outcome(task_id))

    # --- keeping it small -----------------------------------------------------------------------------------

    def prune(self, now: float) -> Awaitable[int]:
        """Forget tasks that ended long ago, some hundred at once, and old keys. How many tasks were forgotten."""
        return self._database.write(
            partial(sql.prune, keys_before=now - self._idempotency_seconds, tasks_before=now - self._keep_seconds)
        )


async def in_ledger(settings: Settings, work: Callable[[Connection], T]) -> T:
    """Do ``work`` in one transaction of the ledger, whose tables may be of any revision, or none.

    Raises:
        AutoScorerError: As ``Ledger.open``, but for the revision.
    """
    place = _place(settings)
    if isinstance(place, URL):
        return await PostgresDatabase.alone(place, work)
    with SqliteDatabase.alone(place) as connection:
        return work(connection)


def is_there(settings: Settings) -> bool:
    """Whether the ledger is a database of its own, or a file that exists."""
    place = _place(settings)
    return isinstance(place, URL) or place.exists()


def _place(settings: Settings) -> Path | URL:
    """The file of SQLite, or PostgreSQL's address."""
    if settings.ledger_url is None:
        return settings.home / "ledger.sqlite3"
    url = make_url(settings.ledger_url.get_secret_value())
    return Path(url.database or "") if url.get_backend_name() == "sqlite" else url.set(drivername="postgresql+asyncpg")
