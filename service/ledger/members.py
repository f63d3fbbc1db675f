"""Members of a batch in the ledger: a task of its own for each workspace that has an outcome.

They are written as outcomes come, and the rest in the transaction that ends the batch: from then on there are exactly
those that its Result names. Writing one again that is there changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import Connection, bindparam, delete, select

from ..prefect.model import Json
from .derived import names_of, outcome_of, sort_name, sorted_by
from .queries import find
from .records import Member, TaskRow
from .tables import insert_into, names, outcomes, tasks

__all__ = ["put_members", "record_members"]

T = TypeVar("T")

# Members that one statement is about.
_TOGETHER = 500


def record_members(db: Connection, batch_id: str, members: Sequence[Member]) -> bool:
    """Put down members of a batch that is under way; False for one that has ended, or is gone: it has all of its own.

    Args:
        db: The connection.
        batch_id: The batch.
        members: Some of its members.
    """
    batch = find(db, batch_id, lock=True)
    if batch is None or batch.is_final:
        return False
    _put(db, batch, members)
    return True


def put_members(db: Connection, batch: TaskRow, members: Sequence[Member]) -> None:
    """Have a batch's members be these, and no others."""
    _put(db, batch, members)
    stay = {member.id for member in members}
    gone = [each for each in db.scalars(_IDS, {"batch": batch.id}) if each not in stay]
    for some in _blocks(gone):
        db.execute(_GONE, {"them": some})


_IDS = select(tasks.c.id).where(tasks.c.parent == bindparam("batch"))
_GONE = delete(tasks).where(tasks.c.id.in_(bindparam("them", expanding=True)))


def _put(db: Connection, batch: TaskRow, members: Sequence[Member]) -> None:
    for some in _blocks(members):
        known = {each[0]: tuple(each[1:]) for each in db.execute(_KNOWN, {"them": [member.id for member in some]})}
        # Of two that are one the last counts.
        left = {member.id: _left(member) for member in some}
        new = {
            member.id: member
            for member in some
            if known.get(member.id) != (member.state.value, *(left[member.id][name] for name in _LEFT))
        }
        if new:
            dialect = db.dialect.name
            db.execute(_rows(dialect), [_row(batch, member, left[member.id]) for member in new.values()])
            db.execute(_outcomes(dialect), [{"task_id": each, **left[each]} for each in new])
            db.execute(_names(dialect), [{"task_id": each.id, "names": _named(each)} for each in new.values()])


# What is compared of one that is there; the rest follows from it.
_LEFT = ("result", "error", "result_sha256")
_KNOWN = (
    select(tasks.c.id, tasks.c.state, *(outcomes.c[name] for name in _LEFT))
    .join(outcomes, outcomes.c.task_id == tasks.c.id, isouter=True)
    .where(tasks.c.id.in_(bindparam("them", expanding=True)))
)


def _left(member: Member) -> Json:
    return {
        "result": _dump(member.result),
        "error": _dump(member.error),
        "outcome": _dump(outcome_of(member.result)),
        "result_sha256": member.result_sha256,
    }


def _named(member: Member) -> str:
    return names_of(member.request, member.result)


def _row(batch: TaskRow, member: Member, left: Json) -> Json:
    began = None if member.ended_at is None or member.seconds is None else member.ended_at - member.seconds
    return {
        "id": member.id,
        "parent": batch.id,
        **{name: getattr(batch, name) for name in ("origin", "caller", "role", "priority", "benchmark", "team")},
        "action": member.request["action"],
        "subject": member.workspace,
        "workspace": member.workspace,
        "scorer": member.scorer,
        "request": json.dumps(member.request, allow_nan=False),
        "parameters": json.dumps({"workspace": member.workspace}),
        "state": member.state.value,
        "attempts": int(member.seconds is not None),
        "created_at": batch.created_at,
        "started_at": began,
        "ended_at": member.ended_at,
        "seconds": member.seconds,
        "sort_name": sort_name(member.request),
        **sorted_by(json.loads(left["outcome"]) if left["outcome"] else None),
    }


@cache
def _rows(dialect: str) -> Any:
    changes = ("state", "scorer", "attempts", "started_at", "ended_at", "seconds", "score", "passed", "board_only")
    return _replacing(dialect, tasks, "id", changes)


@cache
def _outcomes(dialect: str) -> Any:
    return _replacing(dialect, outcomes, "task_id", ("outcome", *_LEFT))


@cache
def _names(dialect: str) -> Any:
    return _replacing(dialect, names, "task_id", ("names",))


def _replacing(dialect: str, table: Any, key: str, changes: Sequence[str]) -> Any:
    """An INSERT that changes the row that is there."""
    row = insert_into(dialect, table)
    return row.on_conflict_do_update(index_elements=[key], set_={name: row.excluded[name] for name in changes})


def _blocks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    return (values[start : start + _TOGETHER] for start in range(0, len(values), _TOGETHER))


def _dump(value: Json | None) -> str | None:
    return None if value is None else json.dumps(value, allow_nan=False)
