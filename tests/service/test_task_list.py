"""What a list of tasks tells of each: its score in one line, found under its names, from the ledger alone."""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings
from autoscorer.schemas.task import TaskOutcome, TaskState, TaskView
from autoscorer.service.disclosure import Disclosure
from autoscorer.service.ledger.derived import folded, outcome_of
from autoscorer.service.ledger.records import StoredResult, TaskEnd, TaskFilter, TaskRow

from ..support.facade import ADMIN, SUBMIT, facade, facade_settings
from ..support.ledger import new, opened
from ..support.workspaces import write_workspace
from .test_disclosure import RESULT

LINE = {
    "score": 0.123456,
    "metric": "f1",
    "higher_is_better": True,
    "interval": {"low": 0.1111111, "high": 0.2222222, "level": 0.95},
    "pass": False,
    "rank": "D",
}
UNDEFINED = {"summary": {"score": None, "auc": None, "pass": None, "rank": None, "higher_is_better": True}}


@pytest.mark.parametrize(
    ("result", "line"),
    [
        (RESULT, LINE),
        ({**RESULT, "error": {"code": "MISMATCH"}}, None),
        (None, None),
        ({"stage": "run", "exit_code": 0}, None),
        ({"summary": "?", "intervals": 3}, None),
        (UNDEFINED, {**LINE, "score": None, "metric": "auc", "interval": None, "pass": None, "rank": None}),
        (
            {"summary": {"score": 2, "rmse": 2, "higher_is_better": False}, "intervals": {"rmse": {"low": 1}}},
            {"score": 2, "metric": "rmse", "higher_is_better": False, "interval": None, "pass": None, "rank": None},
        ),
    ],
)
def test_a_result_is_told_in_one_line(result: Any, line: Any) -> None:
    assert outcome_of(result) == line
    if line is not None:
        assert TaskOutcome.model_validate(line).model_dump(by_alias=True) == line


def page(settings: Settings, name: str) -> list[tuple[TaskRow, StoredResult]]:
    async def work() -> list[tuple[TaskRow, StoredResult]]:
        async with opened(settings) as ledger:
            return (await ledger.page(TaskFilter(name=folded(name)), None, 10))[0]

    return asyncio.run(work())


def test_a_list_shows_the_score_without_the_result(settings: Settings) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            scored, _ = await ledger.add(new("/data/a"))
            failed, _ = await ledger.add(new("/data/b"))
            waiting, _ = await ledger.add(new("/data/c"))
            await ledger.finish([TaskEnd(scored.id, TaskState.COMPLETED, result=RESULT)])
            error = {"code": "MISMATCH", "message": "m", "stage": "scoring", "details": {}}
            await ledger.finish([TaskEnd(failed.id, TaskState.FAILED, result={**RESULT, "error": error}, error=error)])
            rows, total, *_ = await ledger.page(TaskFilter(), None, 10)
            views = [row.view(outcome) for row, outcome in rows]
            assert [view.id for view in views] == [waiting.id, failed.id, scored.id] and total == 3
            assert all(view.result is None for view in views)
            assert [view.outcome and view.outcome.model_dump(by_alias=True) for view in views] == [None, None, LINE]
            assert views[1].error is not None and views[1].error.code == "MISMATCH"
            one = await ledger.view(scored.id)
            assert one.outcome == views[2].outcome and one.result == RESULT

    asyncio.run(work())


def test_a_task_is_found_by_part_of_a_name_of_its_workspace_its_job_or_its_members(settings: Settings) -> None:
    async def work() -> dict[str, str]:
        async with opened(settings) as ledger:
            alone, _ = await ledger.add(new("/data/Team-Ä", job_id="Nightly_1"))
            batch, _ = await ledger.add(
                replace(new("digest", "batch"), workspace=None, request={"workspaces": ["round-1/*", "x%y"]})
            )
            members = [{"workspace": "round-1/team-b"}, {"workspace": "/elsewhere/secret/team-c"}, "?"]
            await ledger.finish([TaskEnd(batch.id, TaskState.COMPLETED, result={"outcomes": members})])
            other, _ = await ledger.add(new("/data/other"))
            await ledger.finish([TaskEnd(other.id, TaskState.COMPLETED, result={**RESULT, "job_id": "found-late"})])
            return {alone.id: "alone", batch.id: "batch", other.id: "other"}

    ids = asyncio.run(work())
    for part, expected in {
        "team-": ["batch", "alone"],
        "TEAM-ä": ["alone"],
        "nightly_": ["alone"],
        "round-1": ["batch"],
        "Team-B": ["batch"],
        "team-c": ["batch"],
        "x%y": ["batch"],
        "late": ["other"],
        # A wildcard is a character, and no path of the host is found.
        "%": ["batch"],
        "secret": [],
        "m_b": [],
    }.items():
        assert [ids[row.id] for row, _ in page(settings, part)] == expected, part


def test_a_submit_token_is_told_the_score_as_a_result_tells_it(settings: Settings) -> None:
    task = TaskView(
        id="t", action="score", state=TaskState.COMPLETED, created_at="now", outcome=TaskOutcome.model_validate(LINE)
    )
    told = Disclosure(settings, "submit").task(task).outcome
    assert told is not None
    assert told.model_dump(by_alias=True) == {
        **LINE,
        "score": 0.1235,
        "interval": {"low": 0.1111, "high": 0.2222, "level": 0.95},
    }
    assert Disclosure(settings, "admin").task(task).outcome == task.outcome


def test_with_a_task_its_names_are_forgotten(settings: Settings) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            task, _ = await ledger.add(new())
            await ledger.finish([TaskEnd(task.id, TaskState.COMPLETED, ended_at=1.0)])
            assert await ledger.prune(1e12) == 1

    asyncio.run(work())
    db = sqlite3.connect(settings.home / "ledger.sqlite3")
    assert db.execute("SELECT count(*) FROM names").fetchone() == (0,)
    db.close()


# --- as it is served ---------------------------------------------------------------------------------------------


def test_the_list_of_the_api_shows_scores_and_is_searched(settings: Settings, tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            for name in ("round-1/Team-A", "round-1/team-b"):
                task, _ = await ledger.add(new(name, request={"workspace": name, "action": "score"}))
                await ledger.finish([TaskEnd(task.id, TaskState.COMPLETED, result=RESULT)])

    asyncio.run(work())
    root = tmp_path / "root"
    write_workspace(root, "waiting")
    with facade(facade_settings(root)) as api:

        def listed(query: str, token: str) -> list[tuple[str, Any]]:
            found = api.call("GET", f"/tasks{query}", token=token).data
            assert found["total"] == len(found["tasks"])
            return [(task["workspace"], task["outcome"]) for task in found["tasks"]]

        api.call("POST", "/submit", {"action": "score", "workspace": "waiting"}, token=SUBMIT)
        rounded = {**LINE, "score": 0.1235, "interval": {"low": 0.1111, "high": 0.2222, "level": 0.95}}
        scored = [("round-1/team-b", rounded), ("round-1/Team-A", rounded)]
        assert listed("", SUBMIT) == [("waiting", None), *scored]
        assert listed("?q=TEAM-", SUBMIT) == scored
        assert listed("?q=team-a&state=completed", ADMIN) == [("round-1/Team-A", LINE)]
        assert listed("?q=nobody", ADMIN) == []
        assert api.call("GET", "/tasks?q=", token=ADMIN).error["code"] == "INVALID_REQUEST"
