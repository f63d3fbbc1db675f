"""What is done to the ledger's tables: each function a piece of one transaction."""

# ruff: noqa: S608 - every value is bound; the SQL is put together from constants of this package.

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import Any

from ...core.errors import AutoScorerError, ErrorCode
from ...schemas.task import ACTIVE, TaskState
from .derived import names_of, outcome_of
from .records import COLUMNS, CallbackDue, NewTask, Observed, StoredResult, TaskEnd, TaskRow

__all__ = [
    "LONGEST_CALLBACK_WAIT",
    "active",
    "add",
    "adopt",
    "callback_done",
    "claim_undispatched",
    "counts",
    "dispatch_anew",
    "dispatched",
    "due_callbacks",
    "find",
    "finish",
    "keyed",
    "known_flow_run",
    "observe",
    "outcome",
    "page",
    "prune",
    "request_cancel",
    "row",
    "unclaim",
    "waits_for",
]

# Seconds that the next attempt at a callback is put off at most.
LONGEST_CALLBACK_WAIT = 1.5 * 3600.0
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
    """Accept a task, or find the one that stands for it; keys are remembered for ``keep`` seconds.

    Returns:
        The task of that key, or the active one of that action and subject, or the new one; and whether it is new.

    Raises:
        AutoScorerError: ``CONFLICT`` when the key stands for another request.
    """
    if key is not None and (known := _keyed(db, task.caller, key, task.created_at - keep)):
        found, known_hash = known
        if known_hash != request_hash:
            raise AutoScorerError(
                ErrorCode.CONFLICT,
                f"The Idempotency-Key was used before, for task {found.id} and another request. Use a new key for "
                "each request, and the same one only to repeat it.",
                details={"task_id": found.id},
            )
        return found, False
    created = _insert(db, task)
    where = f"origin = 'api' AND state IN {_ACTIVE} AND action = ? AND subject = ?"
    found = row(db, task.id) if created else _rows(db, where, (task.action, task.subject))[0]
    if key is not None:
        db.execute(
            "INSERT OR REPLACE INTO idempotency VALUES (?, ?, ?, ?, ?)",
            (task.caller, key, request_hash, found.id, task.created_at),
        )
    return found, created


def adopt(db: sqlite3.Connection, tasks: Sequence[NewTask]) -> list[str]:
    """Take in flow runs that came to Prefect without us; the ids of those that were not known already."""
    return [task.id for task in tasks if _insert(db, task)]


def keyed(db: sqlite3.Connection, caller: str, key: str, request_hash: str, since: float) -> TaskRow | None:
    """The task that a caller's key has stood for since then, if it came with this request."""
    known = _keyed(db, caller, key, since)
    return known[0] if known and known[1] == request_hash else None


def _keyed(db: sqlite3.Connection, caller: str, key: str, since: float) -> tuple[TaskRow, str] | None:
    """The task that a caller's key has stood for since then, and the hash of the request that it came with."""
    known = db.execute(
        "SELECT task_id, request_hash FROM idempotency WHERE caller = ? AND key = ? AND created_at > ?",
        (caller, key, since),
    ).fetchone()
    found = find(db, known[0]) if known else None
    return (found, known[1]) if found else None


def _insert(db: sqlite3.Connection, task: NewTask) -> bool:
    values = {each.name: getattr(task, each.name) for each in fields(task) if each.name != "job_id"}
    values |= {"request": _dump(task.request), "parameters": _dump(task.parameters), "state": TaskState.QUEUED}
    values["callback_state"] = "waiting" if task.callback_url else None
    marks = ", ".join("?" * len(values))
    insert = f"INSERT INTO tasks ({', '.join(values)}) VALUES ({marks}) ON CONFLICT DO NOTHING"
    done = db.execute(insert, list(values.values())).rowcount
    if done:
        db.execute("INSERT INTO names VALUES (?, ?)", (task.id, names_of(task.request, job_id=task.job_id)))
    return bool(done)


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
    db: sqlite3.Connection, limit: int, *, without: Collection[str] = (), resting: Collection[str] = ()
) -> list[TaskRow]:
    """Tasks that Prefect is to be told of, the most urgent first; from now on it may know of them.

    Those of the actions ``without`` are left out, and those whose ids are ``resting``.
    """
    where = (
        "flow_run_id IS NULL AND state IN ('queued', 'cancelling') AND priority = ? "
        "AND action NOT IN (SELECT value FROM json_each(?)) AND id NOT IN (SELECT value FROM json_each(?)) "
        f"AND {_ITS_TURN} ORDER BY id LIMIT ?"
    )
    left_out = json.dumps(list(without)), json.dumps(list(resting))
    found: list[TaskRow] = []
    # One after the other: high, low, normal is how their names would sort.
    for priority in ("high", "normal", "low"):
        found += _rows(db, where, (priority, *left_out, limit - len(found)))
    db.executemany("UPDATE tasks SET dispatching = 1 WHERE id = ?", [(task.id,) for task in found])
    return found


def unclaim(db: sqlite3.Connection, task_ids: Collection[str], reason: str | None = None) -> list[TaskEnd]:
    """Prefect was not told of them, for certain; how those end that were to be cancelled meanwhile."""
    db.executemany(
        "UPDATE tasks SET dispatching = 0, reason = coalesce(?, reason) WHERE id = ? AND flow_run_id IS NULL",
        [(reason, task_id) for task_id in task_ids],
    )
    waiting = [found for task_id in task_ids if (found := find(db, task_id)) and found.flow_run_id is None]
    return [_unstarted(task.id) for task in waiting if task.cancel_requested]


def _unstarted(task_id: str) -> TaskEnd:
    return TaskEnd.by(task_id, AutoScorerError(ErrorCode.CANCELLED, "The task was cancelled before work on it began."))


def dispatched(db: sqlite3.Connection, pairs: Sequence[tuple[str, str]]) -> None:
    """Note which flow runs work on which tasks: (task id, flow run id)."""
    db.executemany(
        "UPDATE tasks SET flow_run_id = ?, dispatching = 0, prefect_state = 'SCHEDULED' WHERE id = ?",
        [(flow_run_id, task_id) for task_id, flow_run_id in pairs],
    )


def dispatch_anew(db: sqlite3.Connection, task_id: str, lost: str, reason: str) -> bool:
    """Prefect has lost the flow run ``lost``: hand the task over once more. Whether it will be."""
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


def finish(db: sqlite3.Connection, ends: Sequence[TaskEnd]) -> list[str]:
    """Note how tasks ended; the ids of those that had not. From now on their callbacks are due."""
    return [end.task_id for end in ends if _finish(db, end)]


def _finish(db: sqlite3.Connection, end: TaskEnd) -> bool:
    now = time.time()
    done = db.execute(
        "UPDATE tasks SET state = ?, reason = coalesce(?, reason), scorer = coalesce(scorer, ?), "
        "attempts = coalesce(earlier_attempts + ?, attempts), started_at = coalesce(started_at, ?), ended_at = ?, "
        "dispatching = 0, callback_state = CASE WHEN callback_url IS NULL THEN NULL ELSE 'pending' END, "
        f"callback_at = ? WHERE id = ? AND state IN {_ACTIVE}",
        (
            end.state,
            end.reason,
            end.scorer,
            end.attempts,
            end.started_at,
            now if end.ended_at is None else end.ended_at,
            now,
            end.task_id,
        ),
    ).rowcount
    if done:
        db.execute(
            "INSERT OR REPLACE INTO outcomes (task_id, result, error, outcome) VALUES (?, ?, ?, ?)",
            (end.task_id, _dump(end.result), _dump(end.error), _dump(outcome_of(end.result))),
        )
        # A batch's members are known by now, and what the job is called.
        if more := names_of({}, end.result):
            db.execute("UPDATE names SET names = names || char(10) || ? WHERE task_id = ?", (more, end.task_id))
    return bool(done)


def request_cancel(db: sqlite3.Connection, task_id: str) -> tuple[TaskRow, bool]:
    """Cancel a task: at once where Prefect was never told of it, else it is noted for whoever tells Prefect.

    Returns:
        The task as it is then, and whether this ended it. One that had ended before is left as it was.

    Raises:
        AutoScorerError: ``NOT_FOUND``.
    """
    found = row(db, task_id)
    if found.is_final:
        return found, False
    is_ours = found.flow_run_id is None and not found.dispatching
    if is_ours:
        _finish(db, _unstarted(task_id))
    else:
        db.execute("UPDATE tasks SET cancel_requested = 1, state = 'cancelling' WHERE id = ?", (task_id,))
    return row(db, task_id), is_ours


def due_callbacks(db: sqlite3.Connection, now: float) -> list[CallbackDue]:
    """Callbacks of tasks that ended, due at ``now`` (seconds since the epoch), the longest due first.

    All of them: with a limit, those to one receiver that does not answer would hide everybody else's.
    """
    found = db.execute(
        "SELECT id, callback_url, callback_attempts, role FROM tasks "
        "WHERE callback_state = 'pending' AND (callback_at <= ? OR callback_at > ?) ORDER BY callback_at",
        # No attempt is put off for longer: what seems to be was noted before the clock was put back.
        (now, now + LONGEST_CALLBACK_WAIT),
    )
    return [CallbackDue(*values) for values in found]


def callback_done(
    db: sqlite3.Connection, task_id: str, delivered: bool, error: str | None, next_at: float | None
) -> None:
    """Note an attempt at delivery; not delivered and no ``next_at``: it is given up."""
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


def row(db: sqlite3.Connection, task_id: str) -> TaskRow:
    """One task. Raises ``NOT_FOUND``."""
    found = find(db, task_id)
    if found is None:
        raise AutoScorerError(
            ErrorCode.NOT_FOUND, f"There is no task {task_id[:100]!r}; GET /tasks lists those that there are."
        )
    return found


def find(db: sqlite3.Connection, task_id: str) -> TaskRow | None:
    """One task, or None."""
    return next(iter(_rows(db, "id = ?", (task_id,))), None)


def outcome(db: sqlite3.Connection, task_id: str) -> StoredResult | None:
    """What a task left that has ended."""
    found = db.execute("SELECT result, error, outcome FROM outcomes WHERE task_id = ?", (task_id,)).fetchone()
    return StoredResult(*found) if found else None


def known_flow_run(db: sqlite3.Connection, flow_run_id: str) -> bool:
    """Whether a flow run is a task's."""
    return db.execute("SELECT 1 FROM tasks WHERE flow_run_id = ?", (flow_run_id,)).fetchone() is not None


def counts(db: sqlite3.Connection) -> dict[str, int]:
    """How many tasks there are, by state."""
    found: dict[str, int] = dict(db.execute("SELECT state, number FROM counts").fetchall())
    return {state.value: found.get(state.value, 0) for state in TaskState}


def page(
    db: sqlite3.Connection, conditions: Sequence[tuple[str, Sequence[Any]]], before: str | None, limit: int
) -> tuple[list[tuple[TaskRow, StoredResult]], int, int]:
    """At most ``limit`` tasks for which all conditions (SQL with its values) hold, newest first, from ``before`` on.

    Returns:
        The tasks, each with what it left but its Result; how many there are in all; and how many come before the page.
    """
    where = " AND ".join(sql for sql, _ in conditions) or "1"
    values = [value for _, some in conditions for value in some]
    (total,) = db.execute(f"SELECT count(*) FROM tasks WHERE {where}", values).fetchone()
    newer, beyond, last = 0, "", []
    if before is not None:
        beyond, last = " AND id < ?", [before]
        (newer,) = db.execute(f"SELECT count(*) FROM tasks WHERE {where} AND id >= ?", [*values, before]).fetchone()
    found = db.execute(
        f"SELECT {COLUMNS}, error, outcome FROM tasks LEFT JOIN outcomes ON task_id = id WHERE {where}{beyond} "
        "ORDER BY id DESC LIMIT ?",
        [*values, *last, limit],
    )
    return [(TaskRow(*each[:-2]), StoredResult(None, *each[-2:])) for each in found], total, newer


def _rows(db: sqlite3.Connection, where: str, values: Sequence[Any]) -> list[TaskRow]:
    return [TaskRow(*each) for each in db.execute(f"SELECT {COLUMNS} FROM tasks WHERE {where}", values)]


def _dump(value: dict[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value, allow_nan=False)
