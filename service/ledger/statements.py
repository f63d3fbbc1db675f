"""What is done to the ledger's tables: each function a piece of one transaction, of SQLite or of PostgreSQL."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Double,
    Text,
    and_,
    bindparam,
    case,
    cast,
    delete,
    exists,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from ...core.errors import AutoScorerError, ErrorCode
from ...schemas.task import TaskState
from .derived import names_of, outcome_of
from .queries import ROW, is_, is_active, is_in, keyed_row, row, rows_of
from .records import NewTask, Observed, TaskEnd, TaskRow
from .tables import counts as counts_table
from .tables import idempotency, leases, names, outcomes, tasks

__all__ = [
    "add",
    "adopt",
    "callback_done",
    "claim_undispatched",
    "dispatch_anew",
    "dispatched",
    "drop_lease",
    "finish",
    "observe",
    "prune",
    "request_cancel",
    "take_lease",
    "unclaim",
]

# Tasks that are forgotten in one transaction: others wait for it.
_PRUNE = 500


def _its_turn() -> ColumnElement[bool]:
    """Whether a task's workspace is free for it.

    A workspace is one run's at a time: what is asked for while another task has it waits, in the order of asking, where
    it would only meet a lock. Checking a workspace disturbs nobody, and what somebody has scheduled or paused in
    Prefect may stay so for ever.
    """
    other = tasks.alias("other")
    has_it = case(
        (other.c.origin == "api", or_(other.c.flow_run_id.is_not(None), other.c.id < tasks.c.id)),
        else_=or_(other.c.state.in_(("running", "cancelling")), other.c.prefect_state == "PENDING"),
    )
    same = and_(other.c.workspace == tasks.c.workspace, other.c.action != "validate", other.c.id != tasks.c.id)
    taken = exists().where(same, is_active(other), has_it)
    return or_(tasks.c.action == "validate", tasks.c.workspace.is_(None), ~taken)


_ITS_TURN = _its_turn()


def _upsert(db: Connection, table: Any) -> Any:
    """An INSERT that knows ON CONFLICT: the two databases write it alike, SQLAlchemy has it of each."""
    return postgresql.insert(table) if db.dialect.name == "postgresql" else sqlite.insert(table)


# --- accepting ----------------------------------------------------------------------------------------------


def add(db: Connection, task: NewTask, key: str | None, request_hash: str, keep: float) -> tuple[TaskRow, bool]:
    """Accept a task, or find the one that stands for it; keys are remembered for ``keep`` seconds.

    Returns:
        The task of that key, or the active one of that action and subject, or the new one; and whether it is new.

    Raises:
        AutoScorerError: ``CONFLICT`` when the key stands for another request.
    """
    since = task.created_at - keep
    if key is not None and not _take_key(db, task, key, request_hash, since):
        if known := keyed_row(db, task.caller, key, since):
            found, known_hash = known
            if known_hash != request_hash:
                raise AutoScorerError(
                    ErrorCode.CONFLICT,
                    f"The Idempotency-Key was used before, for task {found.id} and another request. Use a new key for "
                    "each request, and the same one only to repeat it.",
                    details={"task_id": found.id},
                )
            return found, False
        _take_key(db, task, key, request_hash, math.inf)  # its task is forgotten
    same = and_(is_(tasks.c.origin, "api"), is_active(), tasks.c.action == task.action)
    while True:
        if _insert(db, task):
            return row(db, task.id), True
        # Where several replicas accept, the active one may have ended since.
        if others := rows_of(db, select(*ROW).where(same, tasks.c.subject == task.subject)):
            break
    if key is not None:
        mine = and_(idempotency.c.caller == task.caller, idempotency.c.key == key)
        db.execute(update(idempotency).where(mine).values(task_id=others[0].id))
    return others[0], False


def _take_key(db: Connection, task: NewTask, key: str, request_hash: str, since: float) -> bool:
    """Note that a caller's key stands for a task, unless it has stood for another one since then.

    Of several replicas that take one key at the same time, the others wait here until the first has committed.
    """
    values = {"request_hash": request_hash, "task_id": task.id, "created_at": task.created_at}
    taken = (
        _upsert(db, idempotency)
        .values(caller=task.caller, key=key, **values)
        .on_conflict_do_update(index_elements=["caller", "key"], set_=values, where=idempotency.c.created_at <= since)
        .returning(idempotency.c.task_id)
    )
    return db.scalar(taken) is not None


def adopt(db: Connection, new: Sequence[NewTask]) -> list[str]:
    """Take in flow runs that came to Prefect without us; the ids of those that were not known already."""
    return [task.id for task in new if _insert(db, task)]


def _insert(db: Connection, task: NewTask) -> bool:
    values = {each.name: getattr(task, each.name) for each in fields(task) if each.name != "job_id"}
    values |= {"request": _dump(task.request), "parameters": _dump(task.parameters), "state": TaskState.QUEUED.value}
    values["callback_state"] = "waiting" if task.callback_url else None
    if db.scalar(_upsert(db, tasks).values(values).on_conflict_do_nothing().returning(tasks.c.id)) is None:
        return False
    db.execute(insert(names).values(task_id=task.id, names=names_of(task.request, job_id=task.job_id)))
    return True


# --- handing over to Prefect, following ---------------------------------------------------------------------


def claim_undispatched(
    db: Connection, limit: int, *, without: Collection[str] = (), resting: Collection[str] = ()
) -> list[TaskRow]:
    """Tasks that Prefect is to be told of, the most urgent first; from now on it may know of them.

    Those of the actions ``without`` are left out, and those whose ids are ``resting``.
    """
    due = (
        select(*ROW)
        .where(tasks.c.flow_run_id.is_(None), is_in(tasks.c.state, ("queued", "cancelling")), _ITS_TURN)
        .where(tasks.c.action.not_in(list(without)), tasks.c.id.not_in(list(resting)))
        .order_by(tasks.c.id)
        .with_for_update(of=tasks, skip_locked=True)
    )
    found: list[TaskRow] = []
    # One after the other: high, low, normal is how their names would sort.
    for priority in ("high", "normal", "low"):
        if len(found) < limit:
            found += rows_of(db, due.where(tasks.c.priority == priority).limit(limit - len(found)))
    if found:
        db.execute(update(tasks).where(tasks.c.id.in_([task.id for task in found])).values(dispatching=1))
    return found


def unclaim(db: Connection, task_ids: Collection[str], reason: str | None = None) -> list[TaskEnd]:
    """Prefect was not told of them, for certain; how those end that were to be cancelled meanwhile."""
    theirs = and_(tasks.c.id.in_(list(task_ids)), tasks.c.flow_run_id.is_(None))
    db.execute(update(tasks).where(theirs).values(dispatching=0, **({} if reason is None else {"reason": reason})))
    cancelled = select(tasks.c.id).where(theirs, tasks.c.cancel_requested == 1).order_by(tasks.c.id)
    return [_unstarted(task_id) for task_id in db.scalars(cancelled)]


def _unstarted(task_id: str) -> TaskEnd:
    return TaskEnd.by(task_id, AutoScorerError(ErrorCode.CANCELLED, "The task was cancelled before work on it began."))


def dispatched(db: Connection, made: Sequence[tuple[TaskRow, str]]) -> None:
    """Note which flow runs work on which tasks, as they were claimed; not where one was handed over anew since."""
    noted = (
        update(tasks)
        .where(tasks.c.id == bindparam("task"), tasks.c.dispatch == bindparam("time"), tasks.c.flow_run_id.is_(None))
        .values(flow_run_id=bindparam("flow_run"), dispatching=0, prefect_state="SCHEDULED")
    )
    if made:
        db.execute(noted, [{"task": row.id, "time": row.dispatch, "flow_run": flow_run} for row, flow_run in made])


def dispatch_anew(db: Connection, task_id: str, lost: str, reason: str) -> bool:
    """Prefect has lost the flow run ``lost``: hand the task over once more. Whether it will be."""
    done = db.execute(
        update(tasks)
        .where(tasks.c.id == task_id, tasks.c.flow_run_id == lost, is_active())
        .values(
            flow_run_id=null(),
            prefect_state=null(),
            dispatch=tasks.c.dispatch + 1,
            dispatching=0,
            earlier_attempts=tasks.c.attempts,
            reason=reason,
            state=case((tasks.c.cancel_requested == 1, tasks.c.state), else_="queued"),
        )
    )
    return bool(done.rowcount)


def observe(db: Connection, changes: Sequence[Observed]) -> None:
    """Note what Prefect says of tasks under way."""
    noted = (
        update(tasks)
        .where(tasks.c.id == bindparam("task"), is_active())
        .values(
            state=case((tasks.c.cancel_requested == 1, "cancelling"), else_=bindparam("seen", type_=Text)),
            prefect_state=bindparam("of_prefect"),
            attempts=tasks.c.earlier_attempts + bindparam("tries", type_=tasks.c.attempts.type),
            started_at=func.coalesce(tasks.c.started_at, bindparam("began", type_=tasks.c.started_at.type)),
            reason=func.coalesce(bindparam("why", type_=Text), tasks.c.reason),
        )
    )
    if changes:
        db.execute(
            noted,
            [
                {
                    "task": each.task_id,
                    "seen": each.state.value,
                    "of_prefect": each.prefect_state,
                    "tries": each.attempts,
                    "began": each.started_at,
                    "why": each.reason,
                }
                for each in changes
            ],
        )


def finish(db: Connection, ends: Sequence[TaskEnd]) -> list[str]:
    """Note how tasks ended; the ids of those that had not. From now on their callbacks are due."""
    return [end.task_id for end in ends if _finish(db, end)]


def _finish(db: Connection, end: TaskEnd) -> bool:
    now = time.time()
    values: dict[str, Any] = {
        "state": end.state.value,
        "ended_at": now if end.ended_at is None else end.ended_at,
        "dispatching": 0,
        "callback_state": case((tasks.c.callback_url.is_(None), null()), else_="pending"),
        "callback_at": now,
    }
    if end.reason is not None:
        values["reason"] = end.reason
    if end.attempts is not None:
        values["attempts"] = tasks.c.earlier_attempts + end.attempts
    for name, value in (("scorer", end.scorer), ("started_at", end.started_at)):
        if value is not None:
            values[name] = func.coalesce(tasks.c[name], value)
    if not db.execute(update(tasks).where(tasks.c.id == end.task_id, is_active()).values(values)).rowcount:
        return False
    left = {"result": _dump(end.result), "error": _dump(end.error), "outcome": _dump(outcome_of(end.result))}
    db.execute(
        _upsert(db, outcomes)
        .values(task_id=end.task_id, **left)
        .on_conflict_do_update(index_elements=["task_id"], set_=left)
    )
    # A batch's members are known by now, and what the job is called.
    if more := names_of({}, end.result):
        db.execute(update(names).where(names.c.task_id == end.task_id).values(names=names.c.names + "\n" + more))
    return True


def request_cancel(db: Connection, task_id: str) -> tuple[TaskRow, bool]:
    """Cancel a task: at once where Prefect was never told of it, else it is noted for whoever tells Prefect.

    Returns:
        The task as it is then, and whether this ended it. One that had ended before is left as it was.

    Raises:
        AutoScorerError: ``NOT_FOUND``.
    """
    found = row(db, task_id, lock=True)
    if found.is_final:
        return found, False
    is_ours = found.flow_run_id is None and not found.dispatching
    if is_ours:
        _finish(db, _unstarted(task_id))
    else:
        db.execute(update(tasks).where(tasks.c.id == task_id).values(cancel_requested=1, state="cancelling"))
    return row(db, task_id), is_ours


# --- callbacks ----------------------------------------------------------------------------------------------


def callback_done(db: Connection, task_id: str, delivered: bool, error: str | None, next_at: float | None) -> None:
    """Note an attempt at delivery; not delivered and no ``next_at``: it is given up."""
    db.execute(
        update(tasks)
        .where(tasks.c.id == task_id)
        .values(
            callback_state="delivered" if delivered else "failed" if next_at is None else "pending",
            callback_attempts=tasks.c.callback_attempts + 1,
            callback_error=error,
            callback_at=next_at,
            callback_delivered_at=time.time() if delivered else None,
        )
    )


# --- one of several ------------------------------------------------------------------------------------------


def take_lease(db: Connection, name: str, holder: str, seconds: float) -> bool:
    """Take a lease that nobody has, or renew one's own; whether the holder has it for so long from now."""
    now = func.extract("epoch", func.clock_timestamp()) if db.dialect.name == "postgresql" else literal(time.time())
    until = cast(now, Double) + seconds
    taken = (
        _upsert(db, leases)
        .values(name=name, holder=holder, until=until)
        .on_conflict_do_update(
            index_elements=["name"],
            set_={"holder": holder, "until": until},
            where=or_(leases.c.holder == holder, leases.c.until < cast(now, Double)),
        )
        .returning(leases.c.name)
    )
    return db.scalar(taken) is not None


def drop_lease(db: Connection, name: str, holder: str) -> None:
    """Let others take it at once."""
    db.execute(delete(leases).where(leases.c.name == name, leases.c.holder == holder))


# --- keeping it small ---------------------------------------------------------------------------------------


def prune(db: Connection, keys_before: float, tasks_before: float) -> int:
    """Forget some of what is old; how many tasks that were."""
    _gather_counts(db)
    db.execute(delete(idempotency).where(idempotency.c.created_at <= keys_before))
    told = or_(tasks.c.callback_state.is_(None), tasks.c.callback_state != "pending")
    old = select(tasks.c.id).where(tasks.c.ended_at < tasks_before, told).order_by(tasks.c.ended_at).limit(_PRUNE)
    return db.execute(delete(tasks).where(tasks.c.id.in_(old.scalar_subquery()))).rowcount


def _gather_counts(db: Connection) -> None:
    """Put what each connection has counted into one row a state: connections come and go, their rows would stay."""
    others = select(counts_table).where(counts_table.c.share != 0).with_for_update(skip_locked=True)
    for state, share, number in db.execute(others).all():
        db.execute(delete(counts_table).where(counts_table.c.state == state, counts_table.c.share == share))
        db.execute(
            _upsert(db, counts_table)
            .values(state=state, share=0, number=number)
            .on_conflict_do_update(index_elements=["state", "share"], set_={"number": counts_table.c.number + number})
        )


def _dump(value: dict[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value, allow_nan=False)
