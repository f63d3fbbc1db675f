"""What the workers of several hosts say of flow runs under way, and what each of them may still say.

A worker takes a run for a while and takes it anew before that is over. Whoever has lost a run, because it was silent
for too long, finds another attempt's number there, and nothing that it says is put down any more.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import (
    Connection,
    Double,
    Integer,
    Text,
    bindparam,
    case,
    delete,
    func,
    insert,
    null,
    or_,
    select,
    update,
)

from ..prefect.model import Json
from .tables import batch_members, clock, flow_runs, insert_into, tasks

__all__ = [
    "KnownRun",
    "add_members",
    "end_by_force",
    "keep_outcome",
    "known_runs",
    "members",
    "note_stage",
    "release_run",
    "renew_runs",
    "run_outcome",
    "take_over_run",
    "take_run",
    "wanted_cancelled",
]


@dataclass(frozen=True, slots=True)
class KnownRun:
    """A flow run as its workers left it.

    ``remaining`` is how many seconds its worker has it for yet, negative where that is over, None where nobody has it;
    ``done`` of ``total`` workspaces of a batch have ended; ``outcome_age`` are the seconds since its outcome was saved.
    """

    flow_run_id: str
    attempt: int
    worker: str | None
    worker_name: str | None
    remaining: float | None
    stage: str | None
    total: int | None
    done: int
    outcome_age: float | None


# --- who has it -----------------------------------------------------------------------------------------------


@cache
def _taking(dialect: str) -> Any:
    now = clock(dialect)
    take = insert_into(dialect, flow_runs).values(attempt=1, until=now + bindparam("seconds", type_=Double))
    new = take.excluded
    return take.on_conflict_do_update(
        index_elements=["flow_run_id"],
        set_={
            "attempt": flow_runs.c.attempt + 1,
            **{name: new[name] for name in ("worker", "worker_name", "until")},
            **{name: null() for name in ("stage", "outcome", "saved_at")},
        },
        where=or_(flow_runs.c.until.is_(None), flow_runs.c.until < now, flow_runs.c.worker == new.worker),
    ).returning(flow_runs.c.attempt)


def take_run(db: Connection, flow_run_id: str, worker: str, worker_name: str, seconds: float) -> int | None:
    """Make a run a worker's for so long from now; the number of its attempt, None while another one has the run."""
    taken = {"flow_run_id": flow_run_id, "worker": worker, "worker_name": worker_name, "seconds": seconds}
    found: int | None = db.scalar(_taking(db.dialect.name), taken)
    return found


@cache
def _renewing(dialect: str) -> Any:
    return (
        update(flow_runs)
        .where(flow_runs.c.worker == bindparam("who"), flow_runs.c.until.is_not(None))
        .values(until=clock(dialect) + bindparam("seconds", type_=Double))
        .returning(flow_runs.c.flow_run_id, flow_runs.c.attempt)
    )


def renew_runs(db: Connection, worker: str, seconds: float) -> dict[str, int]:
    """Have every run of a worker for so long from now; those that it has, with the numbers of their attempts."""
    found = db.execute(_renewing(db.dialect.name), {"who": worker, "seconds": seconds})
    return {run: attempt for run, attempt in found}  # noqa: C416 - a Row is no pair for the type checker


def _of(run: str = "run", number: str = "number") -> tuple[Any, Any]:
    return flow_runs.c.flow_run_id == bindparam(run), flow_runs.c.attempt == bindparam(number)


_RELEASED = update(flow_runs).where(*_of()).values(worker=null(), worker_name=null(), until=null())


def release_run(db: Connection, flow_run_id: str, attempt: int) -> None:
    """Nobody has the run any more, unless it is another attempt's by now."""
    db.execute(_RELEASED, {"run": flow_run_id, "number": attempt})


@cache
def _taking_over(dialect: str) -> Any:
    now = clock(dialect)
    return (
        update(flow_runs)
        .where(*_of(), flow_runs.c.until < now)
        # Over until it is settled: whoever settles it may die meanwhile.
        .values(attempt=flow_runs.c.attempt + 1, worker=null(), worker_name=null(), until=0.0)
        .returning(flow_runs.c.attempt)
    )


def take_over_run(db: Connection, flow_run_id: str, attempt: int) -> int | None:
    """Take a run from a worker that was silent for too long; the number that counts from now on, None if it was not."""
    found: int | None = db.scalar(_taking_over(db.dialect.name), {"run": flow_run_id, "number": attempt})
    return found


# --- how far it is ----------------------------------------------------------------------------------------------

_NOTED = (
    update(flow_runs)
    .where(*_of())
    .values(stage=bindparam("now_at", type_=Text), total=bindparam("of_all", type_=Integer))
)


def note_stage(db: Connection, flow_run_id: str, attempt: int, stage: str | None, total: int | None) -> None:
    """Note what an attempt is doing, and how many workspaces its batch has."""
    db.execute(_NOTED, {"run": flow_run_id, "number": attempt, "now_at": stage, "of_all": total})


_HAS = select(flow_runs.c.attempt).where(*_of()).with_for_update()
_ADDED = insert(batch_members)
_BEHIND = delete(batch_members).where(
    batch_members.c.flow_run_id == bindparam("run"), batch_members.c.number >= bindparam("first")
)


def add_members(db: Connection, flow_run_id: str, attempt: int, first: int, outcomes: Sequence[Json]) -> None:
    """Put down outcomes of a batch's workspaces, from the number ``first`` on; what stood there is none."""
    if db.scalar(_HAS, {"run": flow_run_id, "number": attempt}) is None:
        return
    db.execute(_BEHIND, {"run": flow_run_id, "first": first})
    if outcomes:
        rows = [
            {"flow_run_id": flow_run_id, "number": number, "outcome": json.dumps(outcome, allow_nan=False)}
            for number, outcome in enumerate(outcomes, first)
        ]
        db.execute(_ADDED, rows)


# --- how it ended -----------------------------------------------------------------------------------------------


@cache
def _keeping(dialect: str) -> Any:
    kept = {"outcome": bindparam("ending", type_=Text), "saved_at": clock(dialect)}
    return update(flow_runs).where(*_of()).values(**kept)


def keep_outcome(db: Connection, flow_run_id: str, attempt: int, outcome: Json) -> bool:
    """Keep how an attempt ended; False where it is too late to say so."""
    ending = {"run": flow_run_id, "number": attempt, "ending": json.dumps(outcome, allow_nan=False)}
    return bool(db.execute(_keeping(db.dialect.name), ending).rowcount)


@cache
def _forcing(dialect: str) -> Any:
    now = clock(dialect)
    force = insert_into(dialect, flow_runs).values(attempt=1, saved_at=now)
    return force.on_conflict_do_update(
        index_elements=["flow_run_id"],
        set_={
            "attempt": flow_runs.c.attempt + 1,
            **{name: null() for name in ("worker", "worker_name", "until")},
            **{name: force.excluded[name] for name in ("outcome", "saved_at")},
        },
        where=or_(flow_runs.c.until.is_(None), flow_runs.c.until < now),
    ).returning(flow_runs.c.attempt)


def end_by_force(db: Connection, flow_run_id: str, outcome: Json) -> bool:
    """Say how a run ends that nobody has; False while somebody has it."""
    ending = {"flow_run_id": flow_run_id, "outcome": json.dumps(outcome, allow_nan=False)}
    return db.scalar(_forcing(db.dialect.name), ending) is not None


# --- asking -----------------------------------------------------------------------------------------------------


@cache
def _known(dialect: str) -> Any:
    now = clock(dialect)
    done = (
        select(func.count())
        .select_from(batch_members)
        .where(batch_members.c.flow_run_id == flow_runs.c.flow_run_id)
        .scalar_subquery()
    )
    return select(
        flow_runs.c.flow_run_id,
        flow_runs.c.attempt,
        flow_runs.c.worker,
        flow_runs.c.worker_name,
        flow_runs.c.until - now,
        flow_runs.c.stage,
        flow_runs.c.total,
        # Of others nothing is counted.
        case((flow_runs.c.total.is_(None), 0), else_=done),
        now - flow_runs.c.saved_at,
    ).where(flow_runs.c.flow_run_id.in_(bindparam("them", expanding=True)))


def known_runs(db: Connection, flow_run_ids: Collection[str]) -> dict[str, KnownRun]:
    """What the workers said of these runs; nothing of those that no worker ever took."""
    found = [KnownRun(*row) for row in db.execute(_known(db.dialect.name), {"them": list(flow_run_ids)})]
    return {run.flow_run_id: run for run in found}


_OUTCOME = select(flow_runs.c.outcome).where(flow_runs.c.flow_run_id == bindparam("run"))
_MEMBERS = (
    select(batch_members.c.outcome)
    .where(batch_members.c.flow_run_id == bindparam("run"))
    .order_by(batch_members.c.number)
)


def run_outcome(db: Connection, flow_run_id: str) -> Json | None:
    """How a run ended, as its worker saved it."""
    found = db.scalar(_OUTCOME, {"run": flow_run_id})
    return json.loads(found) if found is not None else None


def members(db: Connection, flow_run_id: str) -> list[Json]:
    """What became of the workspaces of a batch so far, in the order they ended."""
    return [json.loads(outcome) for outcome in db.scalars(_MEMBERS, {"run": flow_run_id})]


_WANTED = select(tasks.c.flow_run_id).where(
    tasks.c.flow_run_id.in_(bindparam("them", expanding=True)), tasks.c.cancel_requested == 1
)


def wanted_cancelled(db: Connection, flow_run_ids: Collection[str]) -> list[str]:
    """Those of these runs that somebody has cancelled."""
    return [*db.scalars(_WANTED, {"them": list(flow_run_ids)})]
