"""What became of workspaces is put down while their batch goes on: from a home, or from a ledger that hosts share."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.core.processes import ProcessIdentity
from autoscorer.flows.batches.outcome import duplicate_outcome, failed_outcome
from autoscorer.schemas.task import TaskState
from autoscorer.service.flow_runs import FlowRuns
from autoscorer.service.ledger.ledger import Ledger
from autoscorer.service.ledger.records import Order, TaskEnd, TaskFilter, TaskRow
from autoscorer.service.sync.members import MemberRecorder, members_of
from autoscorer.service.workspaces.roots import WorkspaceRoots

from ..support.ledger import ledger_of as ledger_of
from ..support.ledger import new, opened
from ..support.postgres import postgres as postgres

RUN = "5f0c1a9e-0000-4000-8000-00000000000a"


@pytest.fixture
def roots(settings: Settings, tmp_path: Path) -> WorkspaceRoots:
    (tmp_path / "root").mkdir()
    return WorkspaceRoots(settings.model_copy(update={"workspace_roots": (tmp_path / "root",)}))


class Worker:
    """Says of a batch what its worker would: a journal that grows, and begins anew with another attempt."""

    def __init__(self, ledger: Ledger, runs: FlowRuns, roots: WorkspaceRoots) -> None:
        self.ledger, self.runs, self.roots = ledger, runs, roots
        self.attempt = self.number = 0

    async def begin(self, outcomes: list[dict[str, Any]]) -> None:
        """Another attempt, whose journal begins with these."""
        self.number = 0
        if self.ledger.is_shared:
            taken = await self.ledger.take_run(RUN, ProcessIdentity.current().text, "worker", 60)
            assert taken is not None
            self.attempt = taken
            await self.ledger.note_stage(RUN, self.attempt, "score", 9)
            await self.ledger.add_members(RUN, self.attempt, 0, outcomes)
        else:
            self.runs.files(RUN).keep_member_outcomes(outcomes)
            self.runs.files(RUN).set_total(9)
        self.number = len(outcomes)

    async def add(self, *outcomes: dict[str, Any]) -> None:
        for outcome in outcomes:
            if self.ledger.is_shared:
                await self.ledger.add_members(RUN, self.attempt, self.number, [outcome])
            else:
                self.runs.files(RUN).add_member_outcome(outcome)
            self.number += 1

    def done(self, name: str, score: float = 0.5) -> dict[str, Any]:
        return {
            **failed_outcome(self.roots.paths[0] / name, AutoScorerError(ErrorCode.MISMATCH, "why"), seconds=1.0),
            "state": "completed",
            "score": score,
            "metric": "f1",
            "higher_is_better": True,
            "error": None,
        }

    def failed(self, name: str, code: ErrorCode = ErrorCode.CANCELLED) -> dict[str, Any]:
        return failed_outcome(self.roots.paths[0] / name, AutoScorerError(code, "why"))


async def states(ledger: Ledger, batch: TaskRow) -> dict[str, str]:
    page = await ledger.page(TaskFilter(parent=batch.id), None, 500, Order("name", False))
    return {json.loads(row.request)["workspace"]: row.state for row, _ in page.rows}


def played(
    ledger_of: Callable[[], Settings],
    roots: WorkspaceRoots,
    story: Callable[[Ledger, MemberRecorder, Worker, TaskRow], Any],
) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            asked = {"workspaces": ["root"], "action": "score"}
            task, _ = await ledger.add(replace(new("many", "batch", request=asked), workspace=None))
            await ledger.dispatched([(task, RUN)])
            runs = FlowRuns(settings, ledger)
            row = await ledger.row(task.id)
            await story(ledger, MemberRecorder(ledger, runs, roots), Worker(ledger, runs, roots), row)

    settings = ledger_of()
    asyncio.run(work())


def test_members_are_there_as_their_outcomes_come(ledger_of: Callable[[], Settings], roots: WorkspaceRoots) -> None:
    async def story(ledger: Ledger, recorder: MemberRecorder, worker: Worker, batch: TaskRow) -> None:
        await recorder.look([batch])
        assert await states(ledger, batch) == {}
        await worker.begin([worker.failed("gone", ErrorCode.WORKSPACE_NOT_FOUND), duplicate_outcome("/a", 0)])
        await recorder.look([batch])
        assert await states(ledger, batch) == {"gone": "failed"}
        await worker.add(worker.done("a"), worker.done("b"))
        assert await recorder.look([batch]) >= 1.0
        assert await states(ledger, batch) == {"a": "completed", "b": "completed", "gone": "failed"}

    played(ledger_of, roots, story)


def test_what_was_put_down_is_not_written_again(
    ledger_of: Callable[[], Settings], roots: WorkspaceRoots, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(ledger: Ledger, recorder: MemberRecorder, worker: Worker, batch: TaskRow) -> None:
        written: list[list[str]] = []
        record = ledger.record_members

        async def watched(batch_id: str, members: Any) -> bool:
            written.append([member.request["workspace"] for member in members])
            return await record(batch_id, members)

        monkeypatch.setattr(ledger, "record_members", watched)
        await worker.begin([])
        await worker.add(worker.done("a"))
        for _ in range(3):
            await recorder.look([batch])
        await worker.add(worker.done("b"))
        await recorder.look([batch])
        assert written == [["a"], ["b"]]
        # Another process that leads from now on begins anew, and changes nothing.
        await MemberRecorder(ledger, recorder.flow_runs, roots).look([batch])
        assert sorted(written[2]) == ["a", "b"]

    played(ledger_of, roots, story)


def test_an_outcome_of_a_second_attempt_takes_the_place_of_the_firsts(
    ledger_of: Callable[[], Settings], roots: WorkspaceRoots
) -> None:
    async def story(ledger: Ledger, recorder: MemberRecorder, worker: Worker, batch: TaskRow) -> None:
        await worker.begin([])
        await worker.add(worker.done("a", 0.25), worker.failed("b"), worker.failed("c"))
        await recorder.look([batch])
        ids = {row.id for row, _ in (await ledger.page(TaskFilter(parent=batch.id), None, 9)).rows}
        # What is settled stays; b is done again, and c not yet.
        await worker.begin([worker.done("a", 0.25)])
        await worker.add(worker.done("b", 0.75))
        await recorder.look([batch])
        assert await states(ledger, batch) == {"a": "completed", "b": "completed", "c": "cancelled"}
        await worker.add(worker.failed("c", ErrorCode.MISMATCH))
        await recorder.look([batch])
        assert await states(ledger, batch) == {"a": "completed", "b": "completed", "c": "failed"}
        page = await ledger.page(TaskFilter(parent=batch.id), None, 9, Order("score", True))
        assert {row.id for row, _ in page.rows} == ids
        told = [json.loads(left.outcome)["score"] for _, left in page.rows if left.outcome is not None]
        assert told == [0.75, 0.25]

    played(ledger_of, roots, story)


def test_what_is_read_after_the_end_of_a_batch_changes_nothing(
    ledger_of: Callable[[], Settings], roots: WorkspaceRoots
) -> None:
    async def story(ledger: Ledger, recorder: MemberRecorder, worker: Worker, batch: TaskRow) -> None:
        await worker.begin([])
        await worker.add(worker.done("a"))
        members = members_of(batch, [worker.done("a", 0.9)], roots)
        outcomes = await recorder.flow_runs.members(RUN)
        await ledger.finish([TaskEnd(batch.id, TaskState.COMPLETED, members=members)])
        assert outcomes and not await ledger.record_members(batch.id, members_of(batch, outcomes, roots))
        await recorder.look([batch])
        ((_, left),) = (await ledger.page(TaskFilter(parent=batch.id), None, 9)).rows
        assert left.outcome is not None and json.loads(left.outcome)["score"] == 0.9

    played(ledger_of, roots, story)


def test_ten_thousand_are_written_in_many_transactions(
    ledger_of: Callable[[], Settings], roots: WorkspaceRoots, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So others write in between."""

    async def story(ledger: Ledger, recorder: MemberRecorder, worker: Worker, batch: TaskRow) -> None:
        sizes: list[int] = []
        record = ledger.record_members

        async def watched(batch_id: str, members: Any) -> bool:
            sizes.append(len(members))
            return await record(batch_id, members)

        monkeypatch.setattr(ledger, "record_members", watched)
        await worker.begin([worker.done(f"w{number:05}") for number in range(10_000)])
        await recorder.look([batch])
        assert sum(sizes) == 10_000 and max(sizes) <= 500
        assert (await ledger.page(TaskFilter(parent=batch.id), None, 1)).total == 10_000

    played(ledger_of, roots, story)
