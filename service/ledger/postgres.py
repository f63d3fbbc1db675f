"""A ledger in PostgreSQL, which many processes on many hosts may use at the same time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Self, TypeVar

from sqlalchemy import URL, Connection, event, func, inspect, select
from sqlalchemy.exc import DBAPIError, DisconnectionError, IntegrityError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.schema import CreateSchema

from ...core.errors import AutoScorerError, ErrorCode
from .revisions import check_revision
from .tables import SCHEMA

__all__ = ["PostgresDatabase"]

logger = logging.getLogger(__name__)
T = TypeVar("T")

# Connections of one process; seconds to wait for a free one, or for a new one; and for a statement.
_CONNECTIONS, _PATIENCE, _LONGEST = 10, 10.0, 60.0
# Classes of PostgreSQL's errors that are no fault of a statement: no connection, no access, no such database, no room,
# stopped by an operator, a fault of the system.
_UNUSABLE = ("08", "28", "3D", "53", "57", "58")
# A transaction that PostgreSQL ended for another's sake is done again: deadlock, serialization, idle for too long.
_AGAIN, _TIMES = ("40P01", "40001", "25P03"), 5
# Seconds for which a transaction may lie open with nobody saying anything. A process that is stopped in the middle of
# one, or whose host loses its power, would keep its rows from whoever goes on in its place.
_SILENT = 10


class PostgresDatabase:
    """The database, made by ``open``. What was written is committed when it was awaited."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._single = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._writes: set[asyncio.Task[Any]] = set()

    @classmethod
    async def open(cls, url: URL) -> Self:
        """Connect, and see that the tables are those that this AutoScorer knows.

        Raises:
            AutoScorerError: ``BACKEND_UNAVAILABLE`` when it does not answer, ``INVALID_REQUEST`` when it is of another
                revision.
        """
        opened = cls(_engine(url))
        try:
            await opened.read(check_revision)
        except BaseException:
            await opened.close()
            raise
        return opened

    @classmethod
    async def alone(cls, url: URL, work: Callable[[Connection], T]) -> T:
        """Do ``work`` in a transaction in which the schema exists, is made where it does not, and nobody else does so.

        Raises:
            AutoScorerError: ``BACKEND_UNAVAILABLE``.
        """
        schema = _schema(url)

        def prepared(connection: Connection) -> T:
            connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"autoscorer ledger {schema}"))))
            if not inspect(connection).has_schema(schema):  # who may not make schemas can use one that was made
                connection.execute(CreateSchema(schema))
            # For triggers, and for what Alembic keeps; until the end of the transaction.
            connection.execute(select(func.set_config("search_path", f'"{schema}"', True)))
            return work(connection)

        opened = cls(_engine(url))
        try:
            return await opened.write(prepared)
        finally:
            await opened.close()

    def write(
        self, work: Callable[[Connection], T], at_once: Callable[[Connection], T | None] | None = None
    ) -> asyncio.Future[T]:
        """Do ``work`` in a transaction. What it raises undoes what it did; whoever stops waiting stops no work.

        Args:
            work: Called with the connection.
            at_once: Does the same in one statement, without a transaction around it. Where it returns None, or raises
                an ``IntegrityError``, ``work`` is done.

        Returns:
            What ``work`` or ``at_once`` returned, once it is committed; or what it raised, or ``BACKEND_UNAVAILABLE``.
        """
        task = asyncio.create_task(_answered(self._write(work, at_once)))
        self._writes.add(task)
        task.add_done_callback(self._written)
        return asyncio.shield(task)

    def _written(self, task: asyncio.Task[Any]) -> None:
        self._writes.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited for it has it; whoever left does not miss it

    async def _write(self, work: Callable[[Connection], T], at_once: Callable[[Connection], T | None] | None) -> T:
        for last in (*[False] * (_TIMES - 1), True):
            try:
                if at_once is not None:
                    with suppress(IntegrityError):
                        if (found := await self._read(at_once)) is not None:
                            return found
                async with self._engine.begin() as connection:
                    return await connection.run_sync(work)
            except DBAPIError as error:
                if last or getattr(error.orig, "sqlstate", None) not in _AGAIN:
                    raise
        raise AssertionError

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Read."""
        return await _answered(self._read(work))

    scan = read

    async def _read(self, work: Callable[[Connection], T]) -> T:
        async with self._single.connect() as connection:
            return await connection.run_sync(work)

    async def close(self) -> None:
        """Write what was asked for, and let go."""
        await asyncio.gather(*self._writes, return_exceptions=True)
        await self._engine.dispose()


async def _answered(asked: Coroutine[Any, Any, T]) -> T:
    try:
        return await asked
    except Exception as error:  # the driver's own, too, while it connects
        told = _away(error)
        if told is None:
            raise
        raise told from error


def _away(error: Exception) -> AutoScorerError | None:
    """``BACKEND_UNAVAILABLE`` for what says that the database can't be used now; None for faults of statements."""
    why = getattr(error, "orig", None) or error
    state = getattr(why, "sqlstate", None) or getattr(why.__cause__, "sqlstate", None)
    if isinstance(why, OSError) or isinstance(error, PoolTimeout | InterfaceError) or str(state)[:2] in _UNUSABLE:
        # In the log, not in the answer: it may name hosts, users and databases.
        logger.error("the ledger's database can't be used: %s", why)
        return AutoScorerError(
            ErrorCode.BACKEND_UNAVAILABLE,
            "The ledger's database does not answer, so nothing was accepted. Try again; the log of the API says why.",
        )
    return None


def _schema(url: URL) -> str:
    found = url.query.get("schema", SCHEMA)
    return found if isinstance(found, str) else found[-1]


def _engine(url: URL) -> AsyncEngine:
    engine = create_async_engine(
        url.difference_update_query(["schema"]),
        pool_size=_CONNECTIONS,
        max_overflow=0,
        pool_timeout=_PATIENCE,
        connect_args={
            "timeout": _PATIENCE,
            "command_timeout": _LONGEST,
            "server_settings": {"idle_in_transaction_session_timeout": f"{_SILENT}s"},
        },
    )

    @event.listens_for(engine.sync_engine, "checkout")
    def checked_out(connection: Any, _record: Any, _proxy: Any) -> None:
        # What was open when the database was restarted is noticed before it is used. SQLAlchemy would ask the database
        # (`pool_pre_ping`), in a transaction: three round trips before the one that is wanted.
        if connection.driver_connection.is_closed():
            raise DisconnectionError

    return engine.execution_options(schema_translate_map={None: _schema(url)})
