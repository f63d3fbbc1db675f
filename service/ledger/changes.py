"""Which tasks have changed since somebody looked, whoever changed them.

A position is a number below which everything has been seen. In PostgreSQL it is the oldest transaction that may still
write: all before it have ended, and what they did can be seen. What later ones have done may be seen before the
position passes them, and is then found twice; nothing is ever missed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, delete, func, literal_column, select
from sqlalchemy.types import BigInteger

from ..policy import Subject
from .queries import ROW, is_in
from .records import StoredResult, TaskRow
from .tables import changes, clock, outcomes, task_changes, tasks

__all__ = [
    "COUNTER",
    "KEPT",
    "WORD",
    "Position",
    "TaskChange",
    "TaskChanges",
    "changed_since",
    "forget_changes",
    "listed",
    "under_way",
]

# The secret of a ledger that tells its positions from those of another one, and the counter of its changes: no export
# has them.
WORD, COUNTER = "events", "tasks"
# Seconds for which it is known which tasks were changed. Whoever comes back later asks for the list anew.
KEPT = 3600.0
# What is older than this is deleted, some at once: others wait for it. Later than `KEPT`, as whoever reads takes time.
_DELETED_AFTER, _AT_ONCE = 2 * KEPT, 2000


@dataclass(frozen=True, slots=True)
class Position:
    """Up to where changes were seen.

    Args:
        number: Below it there is nothing new.
        at: When that was, by the database's clock.
    """

    number: int
    at: float


@dataclass(frozen=True, slots=True)
class TaskChange:
    """That a task was changed, made or forgotten.

    Args:
        task_id: Which.
        number: Another one at its next change.
        subject: Whose it is, as far as that says who may see it.
    """

    task_id: str
    number: int
    subject: Subject


@dataclass(frozen=True, slots=True)
class TaskChanges:
    """What has changed since a position.

    Args:
        now: The position from which to ask the next time.
        found: A change of each task that has changed, its last one; None where they are more than were asked for, or
            where the position is none of this ledger's.
    """

    now: Position
    found: list[TaskChange] | None


@cache
def _now(dialect: str) -> Any:
    """The position of now, a number that no change of now has reached, and the time."""
    if dialect == "postgresql":
        snapshot = func.txid_current_snapshot()
        number: ColumnElement[int] = func.txid_snapshot_xmin(snapshot, type_=BigInteger)
        return select(number, func.txid_snapshot_xmax(snapshot, type_=BigInteger), clock(dialect))
    counted = select(changes.c.number).where(changes.c.name == literal_column(f"'{COUNTER}'")).scalar_subquery()
    number = func.coalesce(counted, 0) + 1
    return select(number, number, clock(dialect))


_CHANGED = (
    select(*task_changes.c["task_id", "number", "benchmark", "team", "owner"])
    # A ledger that was restored in another server has numbers which that server has not come to.
    .where(task_changes.c.number >= bindparam("since"), task_changes.c.number < bindparam("beyond"))
    .order_by(task_changes.c.number)
    .limit(bindparam("most"))
)


def changed_since(db: Connection, since: int | None, most: int) -> TaskChanges:
    """Which tasks have changed since a position.

    Args:
        db: The connection.
        since: The position's number; None asks for the position of now alone.
        most: Changes that are wanted at most.
    """
    # The position first: what comes in between is found now, and once more the next time.
    number, beyond, at = db.execute(_now(db.dialect.name)).one()
    now = Position(int(number), float(at))
    if since is None:
        return TaskChanges(now, [])
    if since > beyond:
        return TaskChanges(now, None)
    found = db.execute(_CHANGED, {"since": since, "beyond": beyond, "most": most + 1}).all()
    if len(found) > most:
        return TaskChanges(now, None)
    return TaskChanges(now, [TaskChange(each[0], int(each[1]), Subject(*each[2:])) for each in found])


_LISTED = select(*ROW, outcomes.c.error, outcomes.c.outcome).join(
    outcomes, outcomes.c.task_id == tasks.c.id, isouter=True
)
_THESE = _LISTED.where(tasks.c.id.in_(bindparam("them", expanding=True)))


def listed(db: Connection, task_ids: Collection[str]) -> list[tuple[TaskRow, StoredResult]]:
    """Those of these tasks that are there, each with what it left but its Result, as ``queries.page`` gives them."""
    if not task_ids:
        return []
    found = db.execute(_THESE, {"them": list(task_ids)})
    return [(TaskRow(*each[:-2]), StoredResult(None, *each[-2:])) for each in found]


_UNDER_WAY = select(tasks.c.id).where(is_in(tasks.c.state, ("running", "cancelling")))


def under_way(db: Connection) -> list[str]:
    """The tasks that somebody works on: how far they are is said elsewhere, and is no change of theirs."""
    return [*db.scalars(_UNDER_WAY)]


_OLD = (
    select(task_changes.c.task_id)
    .where(task_changes.c.at < bindparam("before"))
    .limit(_AT_ONCE)
    # Whoever changes tasks at this moment is neither waited for nor kept waiting.
    .with_for_update(skip_locked=True)
)
_FORGET = delete(task_changes).where(task_changes.c.task_id.in_(_OLD))


def forget_changes(db: Connection) -> int:
    """Forget some changes of long ago; how many."""
    now = db.scalar(select(clock(db.dialect.name)))
    return db.execute(_FORGET, {"before": float(now or 0.0) - _DELETED_AFTER}).rowcount
