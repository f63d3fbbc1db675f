"""One thread that writes to a SQLite database; what arrives while it syncs is committed together.

A sync of the disk takes milliseconds, so one for each of a hundred requests would be a queue of its own.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, OperationalError

from ...core.errors import AutoScorerError, ErrorCode
from ...core.storage import full_database

__all__ = ["GroupCommit"]

logger = logging.getLogger(__name__)
T = TypeVar("T")
Work = Callable[[Connection], T]

# What is written, and who waits for it.
_Order = tuple[Work[Any], "Future[Any]"]

_MOST = 256


class GroupCommit:
    """Does pieces of work in transactions, in the order they came, and answers when they are on disk.

    Made in an event loop; ``write`` is called in that loop.

    Args:
        connection: Used by the thread alone from now on; its transactions take the database's lock as they begin.
        name: What is written to, for messages.
        home: The folder that the database is in, whose disk may be full.
    """

    def __init__(self, connection: Connection, name: str, home: Path) -> None:
        self._connection = connection
        self._home = home
        self._name = name
        self._orders: queue.SimpleQueue[_Order | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name=f"{name} writer", daemon=True)
        self._thread.start()

    def write(self, work: Work[T]) -> asyncio.Future[T]:
        """Do ``work`` in a transaction.

        Args:
            work: Called in the thread, with the connection. What it raises undoes what it did and nothing else.

        Returns:
            What ``work`` returned, once it is on disk; or what it raised, ``STORAGE_FULL``, or ``BACKEND_UNAVAILABLE``
            when the database can't be written. Whoever stops waiting stops no work.
        """
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()  # from here on nobody's leaving cancels it
        self._orders.put((work, future))
        return asyncio.wrap_future(future)

    def close(self) -> None:
        """Finish what was asked for, then close the connection. Blocks."""
        self._orders.put(None)
        self._thread.join()

    def _serve(self) -> None:
        more = True
        while more:
            orders = [self._orders.get()]
            while len(orders) < _MOST and not self._orders.empty():
                orders.append(self._orders.get())
            more = None not in orders
            self._commit([order for order in orders if order is not None])
        self._connection.close()

    def _commit(self, group: list[_Order]) -> None:
        connection = self._connection
        savepoint = connection.connection.cursor().execute
        done: list[tuple[Any, Exception | None]] = []
        try:
            with connection.begin():
                for work, _ in group:
                    # Past SQLAlchemy, which takes as long for a savepoint as for a statement.
                    savepoint("SAVEPOINT work")
                    try:
                        done.append((work(connection), None))
                    except OperationalError:  # SQLite may have undone the whole of it already
                        raise
                    except Exception as error:
                        done.append((None, error))
                        savepoint("ROLLBACK TO work")
                    savepoint("RELEASE work")
        except DBAPIError as error:  # a full or broken disk: nothing of the group is there
            logger.exception("the %s can't be written", self._name)
            told = full_database(error.orig, self._home) or AutoScorerError(
                ErrorCode.BACKEND_UNAVAILABLE,
                f"The {self._name} can't be written: {error.orig}. Nothing was accepted; see to the disk of the home "
                "folder, then try again.",
            )
            done = [(None, told)] * len(group)
        for (_, future), (result, failure) in zip(group, done, strict=True):
            if failure is not None:
                future.set_exception(failure)
            else:
                future.set_result(result)
