"""A small SQLite file that several processes share, worked on by a thread, so that no event loop waits for a disk."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["Store"]

logger = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]

# Seconds to wait for another process that writes.
_BUSY = 10.0
_BROKEN = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class Store:
    """A SQLite file with a thread of its own. Writes that have come together are committed together.

    Args:
        path: The file; made with mode 0600 at first use.
        tables: The statements that make its tables where they are missing.

    A file that is no database any more is moved aside, with a warning, and begun anew.
    """

    def __init__(self, path: Path, tables: str) -> None:
        self._path, self._tables = path, tables
        self._queue: queue.SimpleQueue[tuple[bool, Work, asyncio.Future[Any] | None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=path.name, daemon=True)
        self._connection: sqlite3.Connection | None = None
        self._warned = False
        self._thread.start()

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What a function gets from the database; it sees all that was written before.

        Raises:
            sqlite3.Error: The file can't be read.
        """
        return await self._ask(work, writes=False)

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What a function gives that changes the database; on disk, as far as SQLite can tell, when this returns.

        Raises:
            sqlite3.Error: The file can't be written.
        """
        return await self._ask(work, writes=True)

    def post(self, work: Work) -> None:
        """Have a function change the database soon; a failure is logged once."""
        self._queue.put((True, work, None))

    async def close(self) -> None:
        """Finish what was asked for, and close the file."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    async def _ask(self, work: Callable[[sqlite3.Connection], T], *, writes: bool) -> T:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.put((writes, work, future))
        return await future

    def _work(self) -> None:
        ends = False
        while not ends:
            batch = [self._queue.get()]
            while not self._queue.empty():
                batch.append(self._queue.get())
            ends = None in batch
            self._do([item for item in batch if item is not None])
        if self._connection is not None:
            self._connection.close()

    def _do(self, batch: list[tuple[bool, Work, asyncio.Future[Any] | None]]) -> None:
        done: list[tuple[asyncio.Future[Any] | None, Any, Exception | None]] = []
        try:
            connection = self._opened()
            for writes, work, future in batch:
                if writes and not connection.in_transaction:
                    connection.execute("BEGIN IMMEDIATE")
                done.append((future, work(connection), None))
            if connection.in_transaction:
                connection.execute("COMMIT")
        except Exception as error:  # nothing of it is there then, and everybody is told so
            self._failed(error)
            done = [(future, None, error) for _, _, future in batch]
        for future, value, fault in done:
            if future is not None:
                # The loop may be gone.
                with contextlib.suppress(RuntimeError):
                    future.get_loop().call_soon_threadsafe(_settle, future, value, fault)

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            for last in (False, True):
                try:
                    self._connection = self._open()
                    break
                except sqlite3.DatabaseError as error:
                    code = error.sqlite_errorcode & 0xFF
                    if last or code not in _BROKEN | {sqlite3.SQLITE_BUSY}:
                        raise
                    if code in _BROKEN:
                        self._move_aside()
                    else:  # of two that make the file at once, one is refused without a wait
                        time.sleep(0.2)
        assert self._connection is not None
        return self._connection

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(self._path, timeout=_BUSY, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.executescript(self._tables)
        except BaseException:
            connection.close()
            raise
        return connection

    def _failed(self, error: Exception) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.rollback()
            # A new one for what comes next: this one may be of a file that was removed or is broken.
            self._connection.close()
            self._connection = None
        if isinstance(error, sqlite3.DatabaseError) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _BROKEN:
            with contextlib.suppress(OSError):
                self._move_aside()
        elif not self._warned:
            self._warned = True
            logger.warning("%s in the home can't be used: %s", self._path.name, error)

    def _move_aside(self) -> None:
        logger.warning("%s in the home is broken; it is kept as %s.broken", self._path.name, self._path.name)
        # Its log belongs to it and would break the new one.
        for ending in ("-wal", "-shm"):
            self._path.with_name(self._path.name + ending).unlink(missing_ok=True)
        self._path.replace(self._path.with_name(self._path.name + ".broken"))


def _settle(future: asyncio.Future[Any], value: Any, error: Exception | None) -> None:
    if future.done():  # whoever waited was cancelled
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)
