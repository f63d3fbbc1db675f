"""What is done to the ledger's tables: each function a piece of one transaction, of SQLite or of PostgreSQL.

What is done often is put together once, as a constant, as in ``queries.py``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Double,
    Integer,
    Text,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    null,
    or_,
    select,
    update,
)

from ...core.errors import AutoScorerError, ErrorCode
from .derived import names_of, outcome_of, sorted_by
from .members import put_members
from .queries import ROW, is_active, is_in, row, rows_of
from .quotas import settle
from .records import Observed, TaskEnd, TaskRow
from .tables import clock, flow_runs, idempotency, insert_into, names, outcomes, tasks
from .tables import counts as counts_table

__all__ = [
    "callback_done",
    "claim_undispatched",
    "dispatch_anew",
    "dispatched",
    "finish",
    "forget",
    "observe",
    "prune",
    "request_cancel",
    "unclaim",
]

# Tasks that are forgotten in one transaction: others wait for it.
_PRUNE = 500
# Seconds after which nothing is kept of a flow run whose worker was lost and that nobody settled.
_FORGOTTEN_RUN = 7 * 24 * 3600.0


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


# --- handing over to Prefect, following ---------------------------------------------------------------------


def claim_undispatched(
    db: Connection, limit: int, *, without: Collection[str] = (), resting: Collection[str] = ()
) -> list[TaskRow]:
    """Tasks that Prefect is to be told of, the most urgent first; from now on it may know of them.

    Those of the actions ``without`` are left out, and those whose ids are ``resting``.
    """
    left_out = {"without": list(without), "resting": list(resting)}
    found: list[TaskRow] = []
    # One after the other: high, low, normal is how their names would sort.
    for priority in ("high", "normal", "low"):
        if len(found) < limit:
            found += rows_of(db, _UNDISPATCHED, priority=priority, most=limit - len(found), **left_out)
    if found:
        db.execute(_TELLING, {"them": [task.id for task in found]})
    return found


_UNDISPATCHED = (
    select(*ROW)
    .where(tasks.c.flow_run_id.is_(None), is_in(tasks.c.state, ("queued", "cancelling")), _ITS_TURN)
    .where(tasks.c.priority == bindparam("priority"))
    .where(tasks.c.action.not_in(bindparam("without", expanding=True)))
    .where(tasks.c.id.not_in(bindparam("resting", expanding=True)))
    .order_by(tasks.c.id)
    .limit(bindparam("most"))
    .with_for_update(of=tasks, skip_locked=True)
)
_TELLING = update(tasks).where(tasks.c.id.in_(bindparam("them", expanding=True))).values(dispatching=1)


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
    if made:
        db.execute(_TOLD, [{"task": row.id, "time": row.dispatch, "flow_run": flow_run} for row, flow_run in made])


_TOLD = (
    update(tasks)
    .where(tasks.c.id == bindparam("task"), tasks.c.dispatch == bindparam("time"), tasks.c.flow_run_id.is_(None))
    .values(flow_run_id=bindparam("flow_run"), dispatching=0, prefect_state="SCHEDULED")
)


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
    if changes:
        db.execute(
            _OBSERVED,
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


_OBSERVED = (
    update(tasks)
    .where(tasks.c.id == bindparam("task"), is_active())
    .values(
        state=case((tasks.c.cancel_requested == 1, "cancelling"), else_=bindparam("seen", type_=Text)),
        prefect_state=bindparam("of_prefect"),
        attempts=tasks.c.earlier_attempts + bindparam("tries", type_=Integer),
        started_at=func.coalesce(tasks.c.started_at, bindparam("began", type_=Double)),
        reason=func.coalesce(bindparam("why", type_=Text), tasks.c.reason),
    )
)


def finish(db: Connection, ends: Sequence[TaskEnd]) -> list[str]:
    """Note how tasks ended; the ids of those that had not. From now on their callbacks are due."""
    ended = [end.task_id for end in ends if _finish(db, end)]
    if ended:
        db.execute(_NO_MORE_RUNS, {"them": ended})
    return ended


# What their workers said of them is in the tasks now, and what comes late is not heard.
_NO_MORE_RUNS = delete(flow_runs).where(
    flow_runs.c.flow_run_id.in_(select(tasks.c.flow_run_id).where(tasks.c.id.in_(bindparam("them", expanding=True))))
)


_BEGAN = func.coalesce(tasks.c.started_at, bindparam("began", type_=Double))
_FINISHED = (
    update(tasks)
    .where(tasks.c.id == bindparam("task"), is_active())
    .values(
        state=bindparam("as"),
        reason=func.coalesce(bindparam("why", type_=Text), tasks.c.reason),
        scorer=func.coalesce(tasks.c.scorer, bindparam("by", type_=Text)),
        attempts=func.coalesce(tasks.c.earlier_attempts + bindparam("tries", type_=Integer), tasks.c.attempts),
        started_at=_BEGAN,
        ended_at=bindparam("at"),
        seconds=bindparam("at", type_=Double) - _BEGAN,
        dispatching=0,
        callback_state=case((tasks.c.callback_url.is_(None), null()), else_="pending"),
        callback_at=bindparam("now"),
        score=bindparam("reached", type_=Double),
        passed=bindparam("over", type_=Integer),
        board_only=bindparam("hidden", type_=Integer),
    )
    .returning(tasks.c.team, tasks.c.started_at)
)
# A batch's members are known by now, and what the job is called.
_RENAMED = (
    update(names)
    .where(names.c.task_id == bindparam("task"))
    .values(names=names.c.names + bindparam("more", type_=Text))
)


@cache
def _leaving(dialect: str) -> Any:
    leave = insert_into(dialect, outcomes)
    left = {name: leave.excluded[name] for name in ("result", "error", "outcome")}
    return leave.on_conflict_do_update(index_elements=["task_id"], set_=left)


def _finish(db: Connection, end: TaskEnd) -> bool:
    now = time.time()
    outcome = outcome_of(end.result)
    sorts = sorted_by(outcome)
    ended = {
        "task": end.task_id,
        "as": end.state.value,
        "why": end.reason,
        "by": end.scorer,
        "tries": end.attempts,
        "began": end.started_at,
        "at": now if end.ended_at is None else end.ended_at,
        "now": now,
        "reached": sorts["score"],
        "over": sorts["passed"],
        "hidden": sorts["board_only"],
    }
    found = db.execute(_FINISHED, ended).first()
    if found is None:
        return False
    team, started_at = found
    if team is not None:
        settle(db, end, started=started_at is not None, at=now)
    left = {"result": _dump(end.result), "error": _dump(end.error), "outcome": _dump(outcome)}
    db.execute(_leaving(db.dialect.name), {"task_id": end.task_id, **left})
    if more := names_of({}, end.result):
        db.execute(_RENAMED, {"task": end.task_id, "more": "\n" + more})
    if end.members is not None:
        put_members(db, row(db, end.task_id), end.members)
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


# --- keeping it small ---------------------------------------------------------------------------------------


def forget(db: Connection, task_id: str) -> None:
    """Forget one task that has ended, with what it left."""
    db.execute(delete(tasks).where(tasks.c.id == task_id, ~is_active()))


def prune(db: Connection, keys_before: float, tasks_before: float) -> int:
    """Forget some of what is old; how many tasks that were."""
    _gather_counts(db)
    db.execute(delete(idempotency).where(idempotency.c.created_at <= keys_before))
    # Of a run that no task stands for.
    db.execute(delete(flow_runs).where(flow_runs.c.until < clock(db.dialect.name) - _FORGOTTEN_RUN))
    told = or_(tasks.c.callback_state.is_(None), tasks.c.callback_state != "pending")
    old = (
        select(tasks.c.id)
        .where(tasks.c.ended_at < tasks_before, tasks.c.parent.is_(None), told)
        .order_by(tasks.c.ended_at)
        .limit(_PRUNE)
    )
    # A batch leaves with its members; those of many batches are too many for one transaction, and go before it.
    theirs = select(tasks.c.id).where(tasks.c.parent.in_(old.scalar_subquery())).limit(_PRUNE)
    if gone := db.execute(delete(tasks).where(tasks.c.id.in_(theirs.scalar_subquery()))).rowcount:
        return gone
    return db.execute(delete(tasks).where(tasks.c.id.in_(old.scalar_subquery()))).rowcount


def _gather_counts(db: Connection) -> None:
    """Put what each connection has counted into one row a state: connections come and go, their rows would stay."""
    others = select(counts_table).where(counts_table.c.share != 0).with_for_update(skip_locked=True)
    for state, share, number in db.execute(others).all():
        db.execute(delete(counts_table).where(counts_table.c.state == state, counts_table.c.share == share))
        db.execute(
            insert_into(db.dialect.name, counts_table)
            .values(state=state, share=0, number=number)
            .on_conflict_do_update(index_elements=["state", "share"], set_={"number": counts_table.c.number + number})
        )


def _dump(value: dict[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value, allow_nan=False)
