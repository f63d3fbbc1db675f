"""Ids of tasks: UUIDs of version 7, so that they sort by when the tasks were accepted."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from uuid import UUID

__all__ = ["first_id_at", "is_task_id", "member_id", "new_task_id"]

_MOST = (1 << 48) - 1
_REST = (1 << 62) - 1
_lock = threading.Lock()
_last = (0, 0)


def new_task_id(moment: float | None = None) -> str:
    """A new id; those made one after another in this process sort in that order.

    Args:
        moment: Seconds since the epoch that it is to sort by, for a task that was not made now.
    """
    global _last
    if moment is not None:
        return _text(_milliseconds(moment), int.from_bytes(os.urandom(2)) >> 4)
    with _lock:
        now, (then, count) = time.time_ns() // 1_000_000, _last
        if now > then:
            # From the lower half, to leave room for more within the same millisecond.
            _last = now, int.from_bytes(os.urandom(2)) >> 5
        elif count < 0xFFF:
            _last = then, count + 1
        else:
            _last = then + 1, 0
        return _text(*_last)


def member_id(batch_id: str, workspace: str) -> str:
    """The id of what became of a workspace of a batch: the same each time, and of the batch's moment.

    Args:
        batch_id: The batch's id.
        workspace: As the batch names it, which names each folder once.
    """
    digest = hashlib.sha256(f"{batch_id}\n{workspace}".encode("utf-8", "surrogatepass")).digest()
    bits = int.from_bytes(digest[:10])
    return str(
        UUID(int=(UUID(batch_id).int >> 80 << 80) | (7 << 76) | (bits >> 68 << 64) | (0b10 << 62) | bits & _REST)
    )


def first_id_at(moment: float) -> str:
    """What every id made at that moment or later is not less than."""
    return str(UUID(int=(_milliseconds(moment) << 80) | (7 << 76) | (0b10 << 62)))


def is_task_id(text: str) -> bool:
    """Whether a text has the form of an id."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _milliseconds(moment: float) -> int:
    return min(max(int(moment * 1000), 0), _MOST)


def _text(milliseconds: int, count: int) -> str:
    random = int.from_bytes(os.urandom(8)) >> 2
    return str(UUID(int=(milliseconds << 80) | (7 << 76) | (count << 64) | (0b10 << 62) | random))
