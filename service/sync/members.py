"""Members of a batch: from what its workers say of its workspaces to tasks of the ledger, as it comes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ...schemas.result import BenchmarkRef, Disclosed, Interval, Result, Summary, Timing, Versioning
from ...schemas.task import TaskState
from ..flow_runs import FlowRuns
from ..ledger.ledger import Ledger
from ..ledger.records import Member, TaskRow
from ..ledger.task_ids import member_id
from ..prefect.model import Json
from ..workspaces.roots import WorkspaceRoots

__all__ = ["IN_SHORT", "MemberRecorder", "members_of"]

M = TypeVar("M", bound=BaseModel)

# Seconds between two looks, and how many times as long as the last one took: ten thousand outcomes are read each time.
_EVERY, _SHARE = 1.0, 20.0
# Members that are written in one transaction: others wait for it.
_TOGETHER = 500
IN_SHORT = (
    "This is what the batch tells of this workspace. The whole Result no longer lies there, or was made by a worker "
    "that did not say which it is."
)
# A duplicate is none: another outcome tells of its folder.
_STATES = {state.value: state for state in (TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED)}
_NO_METRIC = frozenset({"score", "pass", "passed", "rank", "higher_is_better"})


def members_of(batch: TaskRow, outcomes: Iterable[Any], roots: WorkspaceRoots) -> list[Member]:
    """The members of a batch that outcomes of its workspaces tell of. Looks at the disk.

    Args:
        batch: The batch.
        outcomes: As the flow ``batch`` makes them, in any order; a workspace has one that counts, the last.
        roots: Say what the workspaces are called, and take the host's paths from what is kept.
    """
    asked = json.loads(batch.request)
    common = {key: asked[key] for key in ("scorer", "params", "backend", "priority") if asked.get(key) is not None}
    common["action"] = "score" if asked.get("action") == "score" else "pipeline"
    found = {}
    for outcome in outcomes:
        if isinstance(outcome, dict) and (state := _STATES.get(str(outcome.get("state")))) is not None:
            member = _member(batch, common, outcome, state, roots)
            found[member.id] = member
    return [*found.values()]


def _member(batch: TaskRow, common: Json, outcome: Json, state: TaskState, roots: WorkspaceRoots) -> Member:
    path, error = str(outcome.get("workspace", "")), outcome.get("error")
    scorer, digest = outcome.get("scorer") or common.get("scorer"), outcome.get("result_sha256")
    told = error if isinstance(error, dict) and "code" in error else None
    return Member(
        id=member_id(batch.id, path),
        workspace=_text(os.path.realpath(path) if os.path.isabs(path) else path),
        request={**common, "workspace": _text(roots.called(path))},
        state=state,
        scorer=scorer if isinstance(scorer, str) else None,
        result=roots.redact(_in_short(batch, outcome)) if state is TaskState.COMPLETED else None,
        result_sha256=digest if isinstance(digest, str) else None,
        error=None if told is None else roots.redact(roots.located(told, path)),
        seconds=_number(outcome.get("seconds")),
        ended_at=_moment(outcome.get("ended_at")),
    )


def _in_short(batch: TaskRow, outcome: Json) -> Json | None:
    """A Result that says no more than the outcome does."""
    metric, score = outcome.get("metric"), outcome.get("score")
    interval = _valid(Interval, outcome.get("interval"))
    named = {metric: score} if isinstance(metric, str) and metric not in _NO_METRIC else {}
    summary = {key: outcome.get(key) for key in ("score", "pass", "rank")}
    try:
        result = Result(
            job_id=outcome.get("job_id"),
            summary=Summary.model_validate(
                {**summary, "higher_is_better": outcome.get("higher_is_better") is not False, **named}
            ),
            metrics=named,
            intervals={name: interval for name in named if interval is not None},
            timing=Timing(total=_number(outcome.get("seconds"))),
            versioning=Versioning(
                scorer=outcome.get("scorer"),
                benchmark=_valid(BenchmarkRef, outcome.get("benchmark")),
                timestamp=outcome.get("ended_at"),
                flow_run_id=batch.flow_run_id,
            ),
            notes=[IN_SHORT],
            disclosed=Disclosed(notes=[IN_SHORT]),
        )
    except ValidationError:  # of another version
        return None
    return result.to_dict()


def _valid(model: type[M], value: Any) -> M | None:
    """What somebody else has written, as far as it is one."""
    with contextlib.suppress(ValidationError):
        return model.model_validate(value) if isinstance(value, dict) else None
    return None


def _text(name: str) -> str:
    # A folder's name may be no UTF-8, and a database takes none.
    return name.encode("utf-8", "backslashreplace").decode()


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _moment(value: Any) -> float | None:
    try:
        return datetime.fromisoformat(value).timestamp()
    except (TypeError, ValueError):
        return None


@dataclass
class _Batch:
    """What was put down of a batch.

    Args:
        mark: Of its journal, as it was read last.
        known: The outcomes that were put down, by their workspaces, each as its hash.
    """

    mark: tuple[int, int] | None = None
    known: dict[str, int] = field(default_factory=dict)


@dataclass(eq=False)
class MemberRecorder:
    """Puts down what became of workspaces while their batches go on."""

    ledger: Ledger
    flow_runs: FlowRuns
    roots: WorkspaceRoots
    _batches: dict[str, _Batch] = field(default_factory=dict)

    async def look(self, batches: Sequence[TaskRow]) -> float:
        """Put down what is new of these batches, which are all that are under way; the seconds until the next look.

        Raises:
            AutoScorerError: ``BACKEND_UNAVAILABLE`` where the ledger does not answer.
        """
        began = time.monotonic()
        ids = {batch.id for batch in batches}
        self._batches = {task_id: known for task_id, known in self._batches.items() if task_id in ids}
        for batch in batches:
            await self.record(batch)
        return max(_EVERY, _SHARE * (time.monotonic() - began))

    async def record(self, batch: TaskRow) -> None:
        """Put down what is new of one batch. Raises as ``look``."""
        if batch.flow_run_id is None:
            return
        mark = await self.flow_runs.members_mark(batch.flow_run_id)
        known = self._batches.setdefault(batch.id, _Batch())
        if mark is None or mark == known.mark:
            return
        outcomes = await self.flow_runs.members(batch.flow_run_id)
        fresh = await asyncio.to_thread(_fresh, outcomes, known.known)
        for some in _blocks([*fresh.values()]):
            members = await asyncio.to_thread(members_of, batch, some, self.roots)
            if not await self.ledger.record_members(batch.id, members):
                return  # it has ended, and has all of them
        known.known |= {workspace: _hash(outcome) for workspace, outcome in fresh.items()}
        known.mark = mark


def _fresh(outcomes: Sequence[Json], known: Mapping[str, int]) -> dict[str, Json]:
    """The outcomes that were not put down yet, by their workspaces; of two of one workspace the last counts."""
    last = {str(outcome.get("workspace")): outcome for outcome in outcomes if outcome.get("state") in _STATES}
    return {workspace: outcome for workspace, outcome in last.items() if known.get(workspace) != _hash(outcome)}


def _hash(outcome: Json) -> int:
    return hash(json.dumps(outcome, sort_keys=True))


def _blocks(outcomes: Sequence[Json]) -> Iterator[Collection[Json]]:
    return (outcomes[start : start + _TOGETHER] for start in range(0, len(outcomes), _TOGETHER))
