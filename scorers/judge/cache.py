"""Answers that were given already, on disk, by what was asked; the least used go when there are too many."""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import time
from pathlib import Path

from .store import Store

__all__ = ["Cache", "key_of"]

logger = logging.getLogger(__name__)

_TABLES = """
CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, value BLOB NOT NULL, size INTEGER NOT NULL, used INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS answers_by_use ON answers (used, size);
"""  # noqa: E501
_GET = "SELECT value, used FROM answers WHERE key = ?"
_TOUCH = "UPDATE answers SET used = ? WHERE key = ?"
_PUT = "INSERT OR REPLACE INTO answers (key, value, size, used) VALUES (?, ?, ?, ?)"
_SIZE = "SELECT COALESCE(SUM(size), 0) FROM answers"
_OLDEST = "SELECT key, size FROM answers ORDER BY used, rowid"
_REMOVE = "DELETE FROM answers WHERE key = ?"
# Bytes of a row beside its value; seconds after which a use is noted again; what is kept when there are too many.
_ROW, _USED_AGAIN, _KEPT = 120, 60, 0.9
# What is added before all sizes are summed again, as a part of the limit: other processes add, too.
_SUMMED_AGAIN = 0.05


def key_of(*parts: bytes | str) -> bytes:
    """The digest of what an answer depends on; no two lists of parts have the same."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.digest()


class Cache:
    """A file of answers that the processes of a home share. What can't be read or written counts as not there.

    Args:
        path: The file.
        limit: Bytes of all answers together.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self._store = Store(path, _TABLES)
        self._limit = limit
        self._added: int | None = None

    async def get(self, key: bytes) -> bytes | None:
        """An answer; None where it is not there."""
        try:
            return await self._store.read(lambda connection: _get(connection, key))
        except (sqlite3.Error, OSError):
            return None

    async def get_all(self, keys: list[bytes]) -> list[bytes | None]:
        """Answers in the order of their keys."""
        try:
            return await self._store.read(lambda connection: [_get(connection, key) for key in keys])
        except (sqlite3.Error, OSError):
            return [None] * len(keys)

    def put(self, key: bytes, value: bytes) -> None:
        """Keep an answer; it is there for every ``get`` that comes after."""
        self._store.post(lambda connection: self._put(connection, key, value))

    async def close(self) -> None:
        """Finish writing."""
        await self._store.close()

    def _put(self, connection: sqlite3.Connection, key: bytes, value: bytes) -> None:
        size = len(value) + _ROW
        connection.execute(_PUT, (key, value, size, int(time.time())))
        if self._added is not None:
            self._added += size
            if self._added < _SUMMED_AGAIN * self._limit:
                return
        self._added = 0
        total = connection.execute(_SIZE).fetchone()[0]
        if total > self._limit:
            for oldest, its_size in connection.execute(_OLDEST).fetchall():
                connection.execute(_REMOVE, (oldest,))
                total -= its_size
                if total <= _KEPT * self._limit:
                    break


def _get(connection: sqlite3.Connection, key: bytes) -> bytes | None:
    row = connection.execute(_GET, (key,)).fetchone()
    if row is None:
        return None
    now = int(time.time())
    if now - row[1] > _USED_AGAIN:
        connection.execute(_TOUCH, (now, key))
    value: bytes = row[0]
    return value
