"""One thread that writes to a SQLite database; what arrives while it syncs is committed together.

A sync of the disk takes milliseconds, so one for each of a hundred requests would be a queue of its own.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ...core.errors import AutoScorerError, ErrorCode
from ...core.storage import full_database

__all__ = ["GroupCommit"]

logger = logging.getLogger(__name__)
T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

_MOST = 256


@dataclass
class _Order:
    work: Work[Any]
    future: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None


class GroupCommit:
    """Does pieces of work in transactions, in the order they came, and answers when they are on disk.

    Made in an event loop; ``write`` is called in that loop.

    Args:
        connection: Used by the thread alone from now on; in autocommit mode (``isolation_level=None``).
        name: What is written to, for messages.
        home: The folder that the database is in, whose disk may be full.
    """

    def __init__(self, connection: sqlite3.Connection, name: str, home: Path) -> None:
        self._connection = connection
        self._home = home
        self._name = name
        self._loop = asyncio.get_running_loop()
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
        future: asyncio.Future[T] = self._loop.create_future()
        self._orders.put(_Order(work, future))
        return future

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
            group = [order for order in orders if order is not None]
            if group:
                self._commit(group)
                try:
                    self._loop.call_soon_threadsafe(_deliver, group)
                except RuntimeError:  # the loop has ended; the work is on disk all the same
                    logger.debug("nobody waits any more for what was written to the %s", self._name)
        self._connection.close()

    def _commit(self, group: list[_Order]) -> None:
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            for order in group:
                connection.execute("SAVEPOINT work")
                try:
                    order.result = order.work(connection)
                except sqlite3.OperationalError:
                    raise
                except Exception as error:
                    order.error = error
                    connection.execute("ROLLBACK TO work")
                connection.execute("RELEASE work")
            connection.execute("COMMIT")
        except sqlite3.Error as error:  # a full or broken disk: nothing of the group is there
            logger.exception("the %s can't be written", self._name)
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            told = full_database(error, self._home) or AutoScorerError(
                ErrorCode.BACKEND_UNAVAILABLE,
                f"The {self._name} can't be written: {error}. Nothing was accepted; see to the disk of the home "
                "folder, then try again.",
            )
            for order in group:
                order.error = told


def _deliver(group: list[_Order]) -> None:
    for order in group:
        if order.future.done():  # cancelled
            continue
        if order.error is not None:
            order.future.set_exception(order.error)
        else:
            order.future.set_result(order.result)
