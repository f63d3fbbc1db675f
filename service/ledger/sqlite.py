"""A ledger in a file of SQLite: one process has it open, and one thread writes."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from ...core.errors import AutoScorerError, ErrorCode
from ...core.locks import acquire
from ...core.storage import full_database, full_disk
from .revisions import check_revision, is_empty, upgrade
from .writer import GroupCommit

__all__ = ["SqliteDatabase"]

T = TypeVar("T")


class SqliteDatabase:
    """The file of one process; opened in an event loop. What was written is on disk when it was awaited."""

    def __init__(self, path: Path, lock: int) -> None:
        self._lock = lock
        readers = _engine(path)
        self._reader, self._scanner = readers.connect(), readers.connect()
        self._scanning = threading.Lock()
        self._writer = GroupCommit(_writing_engine(path).connect(), "ledger", path.parent)

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Open the file, or make it; readable by its owner alone. After a crash it is as it was last committed.

        Raises:
            AutoScorerError: ``CONFLICT`` when another process has it open, ``STORAGE_FULL``, ``INVALID_REQUEST`` when
                it is of another revision, or can't be used for another reason.
        """
        with _held(path) as (lock, keep):
            with _writing_engine(path).begin() as connection:
                if is_empty(connection):
                    upgrade(connection)
                else:
                    check_revision(connection)
            opened = cls(path, lock)
            keep()
            return opened

    @classmethod
    @contextmanager
    def alone(cls, path: Path) -> Iterator[Connection]:
        """A transaction in the file, which is made where there is none, while nobody else has it open.

        Raises:
            AutoScorerError: As ``open``, but for the revision.
        """
        with _held(path), _writing_engine(path).begin() as connection:
            yield connection

    def write(self, work: Callable[[Connection], T]) -> asyncio.Future[T]:
        """Do ``work`` in a transaction, as ``GroupCommit.write`` says."""
        return self._writer.write(work)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Read a few rows, in the loop's own thread."""
        return work(self._reader)

    async def scan(self, work: Callable[[Connection], T]) -> T:
        """Read what may be many rows, and hold up nobody."""

        def scanned() -> T:
            with self._scanning:
                return work(self._scanner)

        return await asyncio.to_thread(scanned)

    async def close(self) -> None:
        """Write what was asked for, and let go."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._reader.close()
        with self._scanning:
            self._scanner.close()
        self._writer.close()
        os.close(self._lock)


@contextmanager
def _held(path: Path) -> Iterator[tuple[int, Callable[[], None]]]:
    """The file's lock for the time of the block, or for good where the function is called; errors in words."""
    lock: int | None = None
    kept = False

    def keep() -> None:
        nonlocal kept
        kept = True

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = acquire(path.with_suffix(".lock"), mode=0o600)
        if lock is None:
            raise AutoScorerError(
                ErrorCode.CONFLICT,
                "Another API serves this home already. End it, or give this one a home of its own (AUTOSCORER_HOME).",
            )
        # SQLite gives -wal and -shm the mode of the database.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        path.chmod(0o600)
        yield lock, keep
    except OSError as error:
        raise full_disk(error, home=path.parent) or _unusable(error.strerror or str(error)) from None
    except DBAPIError as error:
        raise full_database(error.orig, path.parent) or _unusable(str(error.orig)) from None
    finally:
        if lock is not None and not kept:
            os.close(lock)


def _engine(path: Path) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
        connect_args={"timeout": 30, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def connected(connection: sqlite3.Connection, _record: Any) -> None:
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}")

    return engine


def _writing_engine(path: Path) -> Engine:
    engine = _engine(path)

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        # The driver would begin before the first change only, when another may have written since what was read.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _unusable(why: str) -> AutoScorerError:
    return AutoScorerError(
        ErrorCode.INVALID_REQUEST,
        f"The ledger in the home folder can't be used: {why}. Check the folder's rights and disk; a ledger that is "
        "broken can be moved away, and a new one begins.",
    )
