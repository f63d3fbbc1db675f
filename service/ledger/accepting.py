"""How a task gets into the ledger: one for a key, and one active one for an action and a workspace.

``add`` is a piece of a transaction, of SQLite or of PostgreSQL. ``add_at_once`` does the same in one statement of
PostgreSQL, which is a transaction of its own: what is asked over a network is asked once. Both rest on the same unique
indexes, so each holds beside the other.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from typing import Any

from sqlalchemy import (
    Connection,
    Double,
    Table,
    Text,
    bindparam,
    case,
    column,
    exists,
    func,
    insert,
    literal_column,
    select,
    union_all,
    update,
)

from ...core.errors import AutoScorerError, ErrorCode
from ...schemas.task import TaskState
from .derived import names_of, sort_name
from .queries import (
    EXCLUSIVE,
    KEYED,
    ROW,
    TASK,
    WAITS_FOR,
    is_,
    is_active,
    is_in,
    keyed_row,
    row_of,
    rows_of,
    waits_for,
)
from .records import NewTask, TaskRow
from .tables import idempotency, insert_into, names, tasks

__all__ = ["add", "add_at_once", "adopt"]


def add(db: Connection, task: NewTask, key: str | None, request_hash: str, keep: float) -> tuple[TaskRow, bool]:
    """Accept a task, or find the one that stands for it; keys are remembered for ``keep`` seconds.

    Returns:
        The task of that key, or the active one of that action and subject, or the new one; and whether it is new. A new
        one says in ``reason`` which task it waits for.

    Raises:
        AutoScorerError: ``CONFLICT`` when the key stands for another request.
    """
    since = task.created_at - keep
    if key is not None and not _take_key(db, task, key, request_hash, since):
        if known := keyed_row(db, task.caller, key, since):
            found, known_hash = known
            _same_request(found, known_hash, request_hash)
            return found, False
        _take_key(db, task, key, request_hash, math.inf)  # its task is forgotten
    while True:
        if (made := _insert(db, task)) is not None:
            return made.waiting_for(waits_for(db, made)), True
        # Where several replicas accept, the active one may have ended since.
        if others := rows_of(db, _SAME, action=task.action, subject=task.subject):
            break
    if key is not None:
        db.execute(_POINT_KEY, {"of": task.caller, "word": key, "task": others[0].id})
    return others[0], False


def _same_request(found: TaskRow, known_hash: str, request_hash: str) -> None:
    if known_hash != request_hash:
        raise AutoScorerError(
            ErrorCode.CONFLICT,
            f"The Idempotency-Key was used before, for task {found.id} and another request. Use a new key for "
            "each request, and the same one only to repeat it.",
            details={"task_id": found.id},
        )


_SAME = select(*row_of(TASK)).where(
    is_(TASK.c.origin, "api"),
    is_active(TASK),
    TASK.c.action == bindparam("action"),
    TASK.c.subject == bindparam("subject"),
)
_POINT_KEY = (
    update(idempotency)
    .where(idempotency.c.caller == bindparam("of"), idempotency.c.key == bindparam("word"))
    .values(task_id=bindparam("task"))
)


def _unless_held(insert_key: Any) -> Any:
    """Insert a key; where it is there, only over one that is older than ``since``."""
    new = insert_key.excluded
    return insert_key.on_conflict_do_update(
        index_elements=["caller", "key"],
        set_={name: new[name] for name in ("request_hash", "task_id", "created_at")},
        where=idempotency.c.created_at <= bindparam("since"),
    ).returning(idempotency.c.task_id)


@cache
def _keying(dialect: str) -> Any:
    return _unless_held(insert_into(dialect, idempotency))


def _take_key(db: Connection, task: NewTask, key: str, request_hash: str, since: float) -> bool:
    """Note that a caller's key stands for a task, unless it has stood for another one since then.

    Of several replicas that take one key at the same time, the others wait here until the first has committed.
    """
    taken = {"caller": task.caller, "key": key, "request_hash": request_hash, "task_id": task.id}
    return db.scalar(_keying(db.dialect.name), {**taken, "created_at": task.created_at, "since": since}) is not None


def adopt(db: Connection, new: Sequence[NewTask]) -> list[str]:
    """Take in flow runs that came to Prefect without us; the ids of those that were not known already."""
    return [task.id for task in new if _insert(db, task) is not None]


@cache
def _accepting(dialect: str) -> Any:
    return insert_into(dialect, tasks).on_conflict_do_nothing().returning(*ROW)


_NAME = insert(names)


def _insert(db: Connection, task: NewTask) -> TaskRow | None:
    """The task as it was accepted; None where another one stands for it."""
    made = db.execute(_accepting(db.dialect.name), _values(task)).first()
    if made is None:
        return None
    db.execute(_NAME, {"task_id": task.id, "names": names_of(task.request, job_id=task.job_id)})
    return TaskRow(*made)


_FIELDS = [each.name for each in fields(NewTask) if each.name != "job_id"]


def _values(task: NewTask) -> dict[str, Any]:
    return {
        **{name: getattr(task, name) for name in _FIELDS},
        "request": json.dumps(task.request, allow_nan=False),
        "parameters": json.dumps(task.parameters, allow_nan=False),
        "state": TaskState.QUEUED.value,
        "callback_state": "waiting" if task.callback_url else None,
        "sort_name": sort_name(task.request),
    }


# --- PostgreSQL, in one round trip ------------------------------------------------------------------------------


def add_at_once(
    db: Connection, task: NewTask, key: str | None, request_hash: str, keep: float
) -> tuple[TaskRow, bool] | None:
    """The same in one statement of PostgreSQL; None, or an ``IntegrityError``, where it can't say.

    A statement does not see what was committed since it began. Where another transaction has taken the key or the
    workspace meanwhile, this one changes nothing, and ``add`` says what became of that.
    """
    values = {**_values(task), "names": names_of(task.request, job_id=task.job_id)}
    if key is not None:
        values |= {"key": key, "request_hash": request_hash, "since": task.created_at - keep}
    found = db.execute(_AT_ONCE if key is None else _AT_ONCE_WITH_KEY, values).first()
    if found is None:
        return None
    *row, known_hash, other = found
    known = TaskRow(*row).waiting_for(other)
    if known_hash is not None:
        _same_request(known, known_hash, request_hash)
    return known, known.id == task.id


def _given(table: Table, columns: Sequence[str]) -> list[Any]:
    return [bindparam(name, type_=table.c[name].type) for name in columns]


def _at_once(*, keyed: bool) -> Any:
    """The statement: its first part that has something to say is the answer."""
    there = _SAME.cte("there")
    fresh = select(*_given(tasks, _COLUMNS)).where(~exists().select_from(there))
    nothing = literal_column("NULL", Text)
    answers = [select(there, nothing, nothing)]
    if keyed:
        held = KEYED.cte("held")
        stands_for = func.coalesce(select(there.c.id).scalar_subquery(), bindparam("id", type_=Text))
        kept = [
            *_given(idempotency, ("caller", "key", "request_hash")),
            stands_for,
            bindparam("created_at", type_=Double),
        ]
        # The columns' order is the table's.
        key = insert_into("postgresql", idempotency).from_select(
            [each.name for each in idempotency.c], select(*kept).where(~exists().select_from(held))
        )
        taken = exists().select_from(_unless_held(key).cte("taken"))
        fresh = fresh.where(taken)
        answers = [answers[0].where(taken), select(held, nothing)]
    task = insert_into("postgresql", tasks).from_select(_COLUMNS, fresh)
    # With a key an error is what is wanted: it takes the key back.
    made = (task if keyed else task.on_conflict_do_nothing()).returning(*_BARE).cte("made")
    name = insert(names).from_select(["task_id", "names"], select(made.c.id, *_given(names, ["names"])))
    other = case((is_in(made.c.action, EXCLUSIVE), WAITS_FOR.scalar_subquery()))
    return union_all(select(made, nothing, other), *answers).add_cte(name.cte("named"))


_COLUMNS = [*_FIELDS, "state", "callback_state", "sort_name"]
_BARE = [column(each.name, each.type) for each in ROW]
_AT_ONCE, _AT_ONCE_WITH_KEY = _at_once(keyed=False), _at_once(keyed=True)
