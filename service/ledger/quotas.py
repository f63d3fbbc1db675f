"""How many submissions a team has left: counted in the transaction that accepts one, so never one too many.

A submission that was accepted is remembered for as long as the ledger is there, also when its task is forgotten. Given
back is one that failed by no fault of the team's, and one that was cancelled before work on it began.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Integer, bindparam, case, func, insert, select, update

from ...core.errors import CATALOGUE, AutoScorerError, ErrorCode, Fault
from ...core.workspace import TABLE_SUFFIXES
from ...schemas.benchmark import Quota
from ...schemas.quota import QuotaLeft
from ...schemas.task import TaskState
from .accepting import add
from .records import NewTask, TaskEnd, TaskRow, iso
from .tables import clock, submissions

__all__ = ["Spent", "accept_submission", "check_left", "is_given_back", "left_of", "settle", "spent"]

_DAY = 86400.0
_TRUTHS = frozenset(folder + "gt" + suffix for folder in ("", "input/") for suffix in TABLE_SUFFIXES)


@dataclass(frozen=True)
class Spent:
    """What a team has had of a benchmark.

    Args:
        now: When it was counted, in seconds since the epoch.
        today: Submissions since midnight UTC, without those that were given back.
        total: All of them, without those.
        active: Those that have not ended.
    """

    now: float
    today: int
    total: int
    active: int


def accept_submission(
    db: Connection, task: NewTask, quota: Quota, key: str | None, request_hash: str, keep: float
) -> tuple[TaskRow, bool, QuotaLeft]:
    """Accept a team's submission as ``add`` does, if it has one left; one that was accepted before costs nothing.

    Returns:
        The task, whether it is new, and what the team has left then.

    Raises:
        AutoScorerError: ``QUOTA_EXCEEDED``, and as ``add``. Nothing was accepted then, once the transaction is undone.
    """
    assert task.benchmark is not None and task.team is not None
    _wait_for_others(db, task.benchmark, task.team)
    row, created = add(db, task, key, request_hash, keep)
    had = spent(db, task.benchmark, task.team)
    if not created:
        return row, False, left_of(had, quota)
    check_left(had, quota, task.team)
    db.execute(_ACCEPTED, {"task_id": task.id, "benchmark": task.benchmark, "team": task.team, "accepted_at": had.now})
    return row, True, left_of(Spent(had.now, had.today + 1, had.total + 1, had.active + 1), quota)


def check_left(had: Spent, quota: Quota, team: str) -> None:
    """See that a team may make one more submission.

    Raises:
        AutoScorerError: ``QUOTA_EXCEEDED``; ``details`` say which limit it is, and what is left of each.
    """
    left = left_of(had, quota)
    if left.left == 0:
        which, why = "total", f"has had its {quota.total} submissions"
    elif left.left_today == 0:
        which, why = (
            "per_day",
            f"has had its {quota.per_day} submissions of today; the next one is taken at {left.next_at}",
        )
    elif left.at_once_left == 0:
        which, why = "at_once", f"has {had.active} submissions that have not ended; wait for one, or cancel one"
    else:
        return
    details: dict[str, Any] = {"limit": which, **left.model_dump(mode="json")}
    if which == "per_day":
        details["retry_after"] = int(_midnight(had.now) + _DAY - had.now) + 1
    raise AutoScorerError(ErrorCode.QUOTA_EXCEEDED, f"The team {team} {why}.", details=details)


def left_of(had: Spent, quota: Quota) -> QuotaLeft:
    """What is left of a quota."""
    today, total, active = (
        None if most is None else max(most - used, 0)
        for most, used in ((quota.per_day, had.today), (quota.total, had.total), (quota.at_once, had.active))
    )
    tomorrow = today == 0 and total != 0
    return QuotaLeft(
        left_today=today if total is None or today is None else min(today, total),
        left=total,
        at_once_left=active,
        next_at=iso(_midnight(had.now) + _DAY) if tomorrow else None,
    )


def spent(db: Connection, benchmark: str, team: str) -> Spent:
    """What a team has had of a benchmark, by the database's clock."""
    now = float(db.scalar(select(clock(db.dialect.name))) or 0.0)
    counted = db.execute(_SPENT, {"of": benchmark, "by": team, "midnight": _midnight(now)}).one()
    return Spent(now, *(int(each or 0) for each in counted))


def settle(db: Connection, end: TaskEnd, *, started: bool, at: float) -> None:
    """Note that a submission's task has ended; it is given back where the team is not to pay for it."""
    given_back = is_given_back(end.state, end.error, started=started)
    db.execute(_ENDED, {"task": end.task_id, "at": at, "back": int(given_back)})


def is_given_back(state: TaskState, error: Mapping[str, Any] | None, *, started: bool) -> bool:
    """Whether a submission that ended like this does not count.

    Args:
        state: How it ended.
        error: With which error, as JSON.
        started: Whether work on it had begun.
    """
    if state is TaskState.CANCELLED:
        return not started
    if state is not TaskState.FAILED or error is None:
        return False
    code = error.get("code")
    # Infrastructure, a benchmark or a ground truth that is wrong, a budget that is used up: none of it is the team's.
    details = error.get("details")
    of_truth = isinstance(details, Mapping) and details.get("file") in _TRUTHS
    return of_truth or (code in CATALOGUE and CATALOGUE[ErrorCode(str(code))].fault is not Fault.SUBMISSION)


def _wait_for_others(db: Connection, benchmark: str, team: str) -> None:
    """Have a team's submissions accepted one after the other, until the end of the transaction.

    SQLite has one writer anyway. A row of the team's would have to be made first; a lock of the database's own needs
    none, and goes with the transaction as well.
    """
    if db.dialect.name == "postgresql":
        name = f"autoscorer quota {benchmark}\n{team}"
        db.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))


_ACCEPTED = insert(submissions)
_ENDED = (
    update(submissions)
    .where(submissions.c.task_id == bindparam("task"), submissions.c.ended_at.is_(None))
    .values(ended_at=bindparam("at"), given_back=bindparam("back", type_=Integer))
)
_COUNTS = submissions.c.given_back == 0
_SPENT = select(
    func.sum(case((_COUNTS & (submissions.c.accepted_at >= bindparam("midnight")), 1), else_=0)),
    func.sum(case((_COUNTS, 1), else_=0)),
    func.sum(case((submissions.c.ended_at.is_(None), 1), else_=0)),
).where(submissions.c.benchmark == bindparam("of"), submissions.c.team == bindparam("by"))


def _midnight(now: float) -> float:
    """The last midnight UTC: days of Unix time have as many seconds each."""
    return now - now % _DAY
