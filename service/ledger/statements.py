"""What is done to the ledger's tables: each function a piece of one transaction."""

# ruff: noqa: S608 - every value is bound; the SQL is put together from constants of this package.

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Collection, Sequence
from typing import Any

from ...core.errors import AutoScorerError, ErrorCode
from ...schemas.task import ACTIVE, TaskState
from .derived import names_of, outcome_of
from .records import COLUMNS, NewTask, Observed, StoredResult, TaskEnd, TaskRow

__all__ = [
    "active",
    "add",
    "adopt",
    "callback_done",
    "claim_undispatched",
    "dispatch_anew",
    "dispatched",
    "finish",
    "newer",
    "observe",
    "page",
    "prune",
    "request_cancel",
    "row",
    "unclaim",
    "waits_for",
]

_ACTIVE = "('queued', 'running', 'cancelling')"
assert {state.value for state in ACTIVE} == {"queued", "running", "cancelling"}
# A workspace is one run's at a time: what is asked for while another task has it waits, in the order of asking, where
# it would only meet a lock. Checking a workspace disturbs nobody, and what somebody has scheduled or paused in Prefect
# may stay so for ever.
_ITS_TURN = f"""(tasks.action = 'validate' OR tasks.workspace IS NULL OR NOT EXISTS (
    SELECT 1 FROM tasks AS other WHERE other.workspace = tasks.workspace AND other.state IN {_ACTIVE}
    AND other.action <> 'validate' AND other.id <> tasks.id
    AND CASE other.origin WHEN 'api' THEN other.flow_run_id IS NOT NULL OR other.id < tasks.id
        ELSE other.state IN ('running', 'cancelling') OR other.prefect_state = 'PENDING' END))"""
_EXCLUSIVE = ("pipeline", "run", "score")
# Tasks that are forgotten in one transaction: others wait for it.
_PRUNE = 500


def add(db: sqlite3.Connection, task: NewTask, key: str | None, request_hash: str, keep: float) -> tuple[TaskRow, bool]:
    """Accept a task, or find the one that stands for it; keys are remembered for ``keep`` seconds."""
    if key is not None:
        known = db.execute(
            "SELECT task_id, request_hash FROM idempotency WHERE caller = ? AND key = ? AND created_at > ?",
            (task.caller, key, task.created_at - keep),
        ).fetchone()
        found = row(db, known[0]) if known else None
        if found:
            if known[1] != request_hash:
                raise AutoScorerError(
                    ErrorCode.CONFLICT,
                    f"The Idempotency-Key was used before, for task {found.id} and another request. Use a new key for "
                    "each request, and the same one only to repeat it.",
                    details={"task_id": found.id},
                )
            return found, False
    created = _insert(db, task)
    if created:
        found = row(db, task.id)
    else:
        where = f"origin = 'api' AND state IN {_ACTIVE} AND action = ? AND subject = ?"
        found = next(iter(_rows(db, where, (task.action, task.subject))), None)
    assert found is not None
    if key is not None:
        db.execute(
            "INSERT OR REPLACE INTO idempotency VALUES (?, ?, ?, ?, ?)",
            (task.caller, key, request_hash, found.id, task.created_at),
        )
    return found, created


def adopt(db: sqlite3.Connection, tasks: Sequence[NewTask]) -> list[TaskRow]:
    """Take in those that are not known."""
    return [found for task in tasks if _insert(db, task) and (found := row(db, task.id))]


def _insert(db: sqlite3.Connection, task: NewTask) -> bool:
    done = db.execute(
        "INSERT INTO tasks (id, origin, caller, action, subject, workspace, scorer, priority, request, parameters, "
        "retry_of, state, created_at, flow_run_id, callback_url, callback_state, role) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'queued', ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (
            task.id,
            task.origin,
            task.caller,
            task.action,
            task.subject,
            task.workspace,
            task.scorer,
            task.priority,
            _dump(task.request),
            _dump(task.parameters),
            task.retry_of,
            task.created_at,
            task.flow_run_id,
            task.callback_url,
            "waiting" if task.callback_url else None,
            task.role,
        ),
    )
    if done.rowcount:
        db.execute("INSERT INTO names VALUES (?, ?)", (task.id, names_of(task.request, job_id=task.job_id)))
    return bool(done.rowcount)


def waits_for(db: sqlite3.Connection, task: TaskRow) -> str | None:
    """The task that has the workspace of one that Prefect was not told of. Costs three looks into an index."""
    if task.flow_run_id is not None or task.is_final or task.action not in _EXCLUSIVE:
        return None
    found = db.execute(
        f"SELECT id FROM tasks WHERE origin = 'api' AND state IN {_ACTIVE} AND action IN {_EXCLUSIVE} AND subject = ? "
        "AND id <> ? AND (flow_run_id IS NOT NULL OR id < ?) ORDER BY flow_run_id IS NULL, id LIMIT 1",
        (task.subject, task.id, task.id),
    ).fetchone()
    return found[0] if found else None


def claim_undispatched(
    db: sqlite3.Connection, limit: int, without: Collection[str], resting: Collection[str]
) -> list[TaskRow]:
    """Take those that Prefect is to be told of, apart from some actions and tasks; the most urgent first."""
    marks = ", ".join("?" * len(without))
    found: list[TaskRow] = []
    # One after the other: high, low, normal is how their names would sort.
    for priority in ("high", "normal", "low"):
        where = (
            "flow_run_id IS NULL AND state IN ('queued', 'cancelling') AND priority = ? "
            f"AND action NOT IN ({marks}) AND id NOT IN (SELECT value FROM json_each(?)) AND {_ITS_TURN} "
            "ORDER BY id LIMIT ?"
        )
        if len(found) < limit:
            found += _rows(db, where, (priority, *without, json.dumps(list(resting)), limit - len(found)))
    db.executemany("UPDATE tasks SET dispatching = 1 WHERE id = ?", [(task.id,) for task in found])
    return found


def unclaim(db: sqlite3.Connection, task_ids: Collection[str], reason: str | None) -> list[TaskEnd]:
    """Put back what Prefect was not told of; those that were to be cancelled meanwhile can end."""
    db.executemany(
        "UPDATE tasks SET dispatching = 0, reason = coalesce(?, reason) WHERE id = ? AND flow_run_id IS NULL",
        [(reason, task_id) for task_id in task_ids],
    )
    waiting = [found for task_id in task_ids if (found := row(db, task_id)) and found.flow_run_id is None]
    return [_unstarted(task.id) for task in waiting if task.cancel_requested]


def _unstarted(task_id: str) -> TaskEnd:
    error = AutoScorerError(ErrorCode.CANCELLED, "The task was cancelled before work on it began.")
    return TaskEnd(task_id, TaskState.CANCELLED, error=error.to_dict())


def dispatched(db: sqlite3.Connection, pairs: Sequence[tuple[str, str]]) -> list[TaskRow]:
    """Note (task id, flow run id)."""
    db.executemany(
        "UPDATE tasks SET flow_run_id = ?, dispatching = 0, prefect_state = 'SCHEDULED' WHERE id = ?",
        [(flow_run_id, task_id) for task_id, flow_run_id in pairs],
    )
    return [found for task_id, _ in pairs if (found := row(db, task_id))]


def dispatch_anew(db: sqlite3.Connection, task_id: str, lost: str, reason: str) -> bool:
    """Forget the flow run ``lost``."""
    done = db.execute(
        "UPDATE tasks SET flow_run_id = NULL, prefect_state = NULL, dispatch = dispatch + 1, dispatching = 0, "
        "earlier_attempts = attempts, reason = ?, "
        "state = CASE WHEN cancel_requested THEN state ELSE 'queued' END "
        f"WHERE id = ? AND flow_run_id = ? AND state IN {_ACTIVE}",
        (reason, task_id, lost),
    )
    return bool(done.rowcount)


def observe(db: sqlite3.Connection, changes: Sequence[Observed]) -> None:
    """Note what Prefect says of tasks under way."""
    db.executemany(
        "UPDATE tasks SET state = CASE WHEN cancel_requested THEN 'cancelling' ELSE ? END, prefect_state = ?, "
        "attempts = earlier_attempts + ?, started_at = coalesce(started_at, ?), reason = coalesce(?, reason) "
        f"WHERE id = ? AND state IN {_ACTIVE}",
        [
            (each.state, each.prefect_state, each.attempts, each.started_at, each.reason, each.task_id)
            for each in changes
        ],
    )


def finish(db: sqlite3.Connection, endings: Sequence[TaskEnd]) -> list[str]:
    """Note how tasks ended; the ids of those that had not."""
    return [ending.task_id for ending in endings if _finish(db, ending)]


def _finish(db: sqlite3.Connection, ending: TaskEnd) -> bool:
    now = time.time()
    done = db.execute(
        "UPDATE tasks SET state = ?, reason = coalesce(?, reason), scorer = coalesce(scorer, ?), "
        "attempts = coalesce(earlier_attempts + ?, attempts), started_at = coalesce(started_at, ?), ended_at = ?, "
        "dispatching = 0, callback_state = CASE WHEN callback_url IS NULL THEN NULL ELSE 'pending' END, "
        f"callback_at = ? WHERE id = ? AND state IN {_ACTIVE}",
        (
            ending.state,
            ending.reason,
            ending.scorer,
            ending.attempts,
            ending.started_at,
            now if ending.ended_at is None else ending.ended_at,
            now,
            ending.task_id,
        ),
    ).rowcount
    if done:
        db.execute(
            "INSERT OR REPLACE INTO outcomes (task_id, result, error, outcome) VALUES (?, ?, ?, ?)",
            (ending.task_id, _dump(ending.result), _dump(ending.error), _dump(outcome_of(ending.result))),
        )
        # A batch's members are known by now, and what the job is called.
        if more := names_of({}, ending.result):
            db.execute("UPDATE names SET names = names || char(10) || ? WHERE task_id = ?", (more, ending.task_id))
    return bool(done)


def request_cancel(db: sqlite3.Connection, task_id: str) -> tuple[TaskRow | None, bool]:
    """End a task that Prefect was never told of, note the wish at another; and whether it was ended."""
    found = row(db, task_id)
    if found is None or found.is_final:
        return found, False
    if found.flow_run_id is None and not found.dispatching:
        _finish(db, _unstarted(task_id))
        return row(db, task_id), True
    db.execute("UPDATE tasks SET cancel_requested = 1, state = 'cancelling' WHERE id = ?", (task_id,))
    return row(db, task_id), False


def callback_done(
    db: sqlite3.Connection, task_id: str, delivered: bool, error: str | None, next_at: float | None
) -> None:
    """Note an attempt at a callback."""
    state = "delivered" if delivered else "failed" if next_at is None else "pending"
    db.execute(
        "UPDATE tasks SET callback_state = ?, callback_attempts = callback_attempts + 1, callback_error = ?, "
        "callback_at = ?, callback_delivered_at = ? WHERE id = ?",
        (state, error, next_at, time.time() if delivered else None, task_id),
    )


def prune(db: sqlite3.Connection, keys_before: float, tasks_before: float) -> int:
    """Forget some of what is old; how many tasks that were."""
    db.execute("DELETE FROM idempotency WHERE created_at <= ?", (keys_before,))
    done = db.execute(
        "DELETE FROM tasks WHERE id IN (SELECT id FROM tasks WHERE ended_at < ? AND callback_state IS NOT 'pending' "
        "ORDER BY ended_at LIMIT ?)",
        (tasks_before, _PRUNE),
    )
    return done.rowcount


def active(db: sqlite3.Connection) -> list[TaskRow]:
    """Every task that has not ended."""
    return _rows(db, f"state IN {_ACTIVE} ORDER BY id", ())


def row(db: sqlite3.Connection, task_id: str) -> TaskRow | None:
    """One task."""
    return next(iter(_rows(db, "id = ?", (task_id,))), None)


def page(
    db: sqlite3.Connection, conditions: Sequence[tuple[str, Sequence[Any]]], before: str | None, limit: int
) -> tuple[list[tuple[TaskRow, StoredResult]], int]:
    """Tasks for which all conditions hold (SQL and its values), newest first, and their number.

    Each with its error and its Result in one line, and without the Result.
    """
    where = " AND ".join(sql for sql, _ in conditions) or "1"
    values = [value for _, some in conditions for value in some]
    (total,) = db.execute(f"SELECT count(*) FROM tasks WHERE {where}", values).fetchone()
    beyond, last = (" AND id < ?", [before]) if before is not None else ("", [])
    found = db.execute(
        f"SELECT {COLUMNS}, error, outcome FROM tasks LEFT JOIN outcomes ON task_id = id WHERE {where}{beyond} "
        "ORDER BY id DESC LIMIT ?",
        [*values, *last, limit],
    )
    return [(TaskRow(*each[:-2]), StoredResult(None, *each[-2:])) for each in found], total


def newer(db: sqlite3.Connection, conditions: Sequence[tuple[str, Sequence[Any]]], than: str) -> int:
    """How many tasks for which all conditions hold come before the page after ``than``."""
    where = " AND ".join([sql for sql, _ in conditions] + ["id >= ?"])
    values = [value for _, some in conditions for value in some]
    (number,) = db.execute(f"SELECT count(*) FROM tasks WHERE {where}", [*values, than]).fetchone()
    return int(number)


def _rows(db: sqlite3.Connection, where: str, values: Sequence[Any]) -> list[TaskRow]:
    return [TaskRow(*each) for each in db.execute(f"SELECT {COLUMNS} FROM tasks WHERE {where}", values)]


def _dump(value: dict[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value, allow_nan=False)
