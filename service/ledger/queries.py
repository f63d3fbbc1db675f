"""What is asked of the ledger's tables.

What is asked often is put together once, as a constant: to build a statement takes several times as long as to run it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Select,
    Text,
    bindparam,
    func,
    literal_column,
    or_,
    select,
)

from ...core.errors import AutoScorerError, ErrorCode
from ...schemas.task import ACTIVE, TaskState
from .records import CallbackDue, StoredResult, TaskRow
from .tables import ACTIVE_STATES, idempotency, outcomes, tasks
from .tables import counts as counts_table

__all__ = [
    "EXCLUSIVE",
    "KEYED",
    "LONGEST_CALLBACK_WAIT",
    "ROW",
    "TASK",
    "WAITS_FOR",
    "active",
    "counts",
    "due_callbacks",
    "find",
    "is_",
    "is_active",
    "is_in",
    "keyed",
    "keyed_row",
    "known_flow_run",
    "latest_of",
    "members_of",
    "of_flow_runs",
    "outcome",
    "row",
    "row_of",
    "rows_of",
    "task_not_found",
    "to_cancel",
    "waits_for",
]

# Seconds that the next attempt at a callback is put off at most.
LONGEST_CALLBACK_WAIT = 1.5 * 3600.0
assert {state.value for state in ACTIVE} == {*ACTIVE_STATES}
# The actions of which a workspace has one at a time.
EXCLUSIVE = ("pipeline", "run", "score")


def row_of(table: FromClause) -> list[ColumnElement[Any]]:
    """The columns of a ``TaskRow``."""
    return [table.c[field.name] for field in fields(TaskRow)]


ROW = row_of(tasks)
# By another name where it is asked for often: SQLAlchemy would put the schema before each column, each time anew.
TASK = tasks.alias("task")


# --- conditions ---------------------------------------------------------------------------------------------


def is_in(column: ColumnElement[Any], values: Collection[str]) -> ColumnElement[bool]:
    """Whether a column has one of these values."""
    # They stand in the statement: a partial index is taken only where its condition is seen to hold.
    return column.in_([_text(value) for value in values])


def is_(column: ColumnElement[Any], value: str) -> ColumnElement[bool]:
    """The same for one value."""
    return column == _text(value)


def is_active(of: FromClause = tasks) -> ColumnElement[bool]:
    """Whether a task has not ended."""
    return is_in(of.c.state, ACTIVE_STATES)


def _text(constant: str) -> ColumnElement[str]:
    assert constant.isidentifier()
    return literal_column(f"'{constant}'", Text)


# --- one task, or those of one kind --------------------------------------------------------------------------


def row(db: Connection, task_id: str, *, lock: bool = False) -> TaskRow:
    """One task; with ``lock`` nobody else changes it in this transaction's time. Raises ``NOT_FOUND``."""
    found = find(db, task_id, lock=lock)
    if found is None:
        raise task_not_found(task_id)
    return found


def task_not_found(task_id: str) -> AutoScorerError:
    """What is answered where there is no such task, also to those who may not know of it."""
    return AutoScorerError(
        ErrorCode.NOT_FOUND, f"There is no task {task_id[:100]!r}; GET /tasks lists those that there are."
    )


_FIND = select(*ROW).where(tasks.c.id == bindparam("task"))
_FIND_AND_LOCK = _FIND.with_for_update()


def find(db: Connection, task_id: str, *, lock: bool = False) -> TaskRow | None:
    """One task, or None."""
    return next(iter(rows_of(db, _FIND_AND_LOCK if lock else _FIND, task=task_id)), None)


def rows_of(db: Connection, asked: Select[Any], **values: Any) -> list[TaskRow]:
    """The tasks that a SELECT of ``ROW`` finds with these values of its parameters."""
    return [TaskRow(*each) for each in db.execute(asked, values)]


_OUTCOME = select(*outcomes.c["result", "error", "outcome", "result_sha256"]).where(
    outcomes.c.task_id == bindparam("task")
)


def outcome(db: Connection, task_id: str) -> StoredResult | None:
    """What a task left that has ended."""
    found = db.execute(_OUTCOME, {"task": task_id}).first()
    return StoredResult(*found) if found else None


_ACTIVE = select(*ROW).where(is_active()).order_by(tasks.c.id)


def active(db: Connection) -> list[TaskRow]:
    """Every task that has not ended."""
    return rows_of(db, _ACTIVE)


def latest_of(db: Connection, workspaces: Collection[str]) -> dict[str, TaskRow]:
    """The last task that was asked for of each of these workspaces, of those that have one."""
    theirs = tasks.c.workspace.in_(list(workspaces)), tasks.c.parent.is_(None)
    newest = select(func.max(tasks.c.id)).where(*theirs).group_by(tasks.c.workspace)
    return {str(each.workspace): each for each in rows_of(db, select(*ROW).where(tasks.c.id.in_(newest)))}


_TO_CANCEL = select(tasks.c.id).where(
    is_(tasks.c.state, "cancelling"), tasks.c.cancel_requested == 1, tasks.c.flow_run_id.is_not(None)
)


def to_cancel(db: Connection) -> list[str]:
    """Tasks that somebody has cancelled and that Prefect works on."""
    return [*db.scalars(_TO_CANCEL)]


_KNOWN_FLOW_RUN = select(tasks.c.id).where(tasks.c.flow_run_id == bindparam("flow_run"))


def known_flow_run(db: Connection, flow_run_id: str) -> bool:
    """Whether a flow run is a task's."""
    return db.scalar(_KNOWN_FLOW_RUN, {"flow_run": flow_run_id}) is not None


_OF_FLOW_RUNS = select(*ROW).where(tasks.c.flow_run_id.in_(bindparam("them", expanding=True)))


def of_flow_runs(db: Connection, flow_run_ids: Collection[str]) -> dict[str, TaskRow]:
    """The task of each of these flow runs, of those that are a task's."""
    return {str(each.flow_run_id): each for each in rows_of(db, _OF_FLOW_RUNS, them=list(flow_run_ids))}


_MEMBERS_OF = select(*ROW).where(
    tasks.c.workspace == bindparam("folder"), tasks.c.parent.in_(bindparam("batches", expanding=True))
)


def members_of(db: Connection, workspace: str, batches: Collection[str]) -> dict[str, TaskRow]:
    """What became of a workspace in each of these batches, by the batch."""
    return {str(each.parent): each for each in rows_of(db, _MEMBERS_OF, folder=workspace, batches=list(batches))}


def keyed(db: Connection, caller: str, key: str, request_hash: str, since: float) -> TaskRow | None:
    """The task that a caller's key has stood for since then, if it came with this request."""
    known = keyed_row(db, caller, key, since)
    return known[0] if known and known[1] == request_hash else None


_KEY = idempotency.alias("held")
KEYED = (
    select(*row_of(TASK), _KEY.c.request_hash)
    .join(_KEY, _KEY.c.task_id == TASK.c.id)
    .where(_KEY.c.caller == bindparam("caller"), _KEY.c.key == bindparam("key"))
    .where(_KEY.c.created_at > bindparam("since"))
)


def keyed_row(db: Connection, caller: str, key: str, since: float) -> tuple[TaskRow, str] | None:
    """The task that a caller's key has stood for since then, and the hash of the request that it came with."""
    known = db.execute(KEYED, {"caller": caller, "key": key, "since": since}).first()
    return (TaskRow(*known[:-1]), known[-1]) if known else None


WAITS_FOR = (
    select(TASK.c.id)
    .where(is_(TASK.c.origin, "api"), is_active(TASK), is_in(TASK.c.action, EXCLUSIVE))
    .where(TASK.c.subject == bindparam("subject"), TASK.c.id != bindparam("id"))
    .where(or_(TASK.c.flow_run_id.is_not(None), TASK.c.id < bindparam("id")))
    .order_by(TASK.c.flow_run_id.is_(None), TASK.c.id)
    .limit(1)
)


def waits_for(db: Connection, task: TaskRow) -> str | None:
    """The task that has the workspace of one that Prefect was not told of. Costs three looks into an index."""
    if task.flow_run_id is not None or task.is_final or task.action not in EXCLUSIVE:
        return None
    found: str | None = db.scalar(WAITS_FOR, {"subject": task.subject, "id": task.id})
    return found


_DUE = (
    select(tasks.c.id, tasks.c.callback_url, tasks.c.callback_attempts, tasks.c.role, tasks.c.team)
    .where(is_(tasks.c.callback_state, "pending"))
    # No attempt is put off for longer: what seems to be was noted before the clock was put back.
    .where(or_(tasks.c.callback_at <= bindparam("now"), tasks.c.callback_at > bindparam("beyond")))
    .order_by(tasks.c.callback_at)
)


def due_callbacks(db: Connection, now: float) -> list[CallbackDue]:
    """Callbacks of tasks that ended, due at ``now`` (seconds since the epoch), the longest due first.

    All of them: with a limit, those to one receiver that does not answer would hide everybody else's.
    """
    return [CallbackDue(*each) for each in db.execute(_DUE, {"now": now, "beyond": now + LONGEST_CALLBACK_WAIT})]


_COUNTS = select(counts_table.c.state, func.sum(counts_table.c.number)).group_by(counts_table.c.state)


def counts(db: Connection) -> dict[str, int]:
    """How many tasks there are, by state."""
    found = {state: int(number) for state, number in db.execute(_COUNTS)}
    return {state.value: found.get(state.value, 0) for state in TaskState}
