"""Members of a batch in the ledger: each outcome once, with its batch, in both databases."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from autoscorer.core.config import Settings
from autoscorer.core.disclosed import rounded
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.flows.batches.outcome import failed_outcome
from autoscorer.schemas.task import TaskSort, TaskState
from autoscorer.service.ledger.ledger import Ledger, in_ledger
from autoscorer.service.ledger.maintenance import export_ledger, import_ledger, upgrade_ledger
from autoscorer.service.ledger.records import Member, Order, StoredResult, TaskEnd, TaskFilter, TaskRow
from autoscorer.service.ledger.sqlite import SqliteDatabase
from autoscorer.service.ledger.task_ids import is_task_id, member_id, new_task_id
from autoscorer.service.policy import Scope
from autoscorer.service.sync.members import members_of
from autoscorer.service.task_query import TaskQuery
from autoscorer.service.workspaces.roots import WorkspaceRoots
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from ..support.ledger import ledger_of as ledger_of
from ..support.ledger import new, opened
from ..support.postgres import postgres as postgres

SORTS: tuple[TaskSort, ...] = get_args(TaskSort)
SCORER = "classification_f1"


@pytest.fixture
def roots(settings: Settings, tmp_path: Path) -> WorkspaceRoots:
    (tmp_path / "root").mkdir()
    return WorkspaceRoots(settings.model_copy(update={"workspace_roots": (tmp_path / "root",)}))


def scored(roots: WorkspaceRoots, name: str, score: float | None = 0.5, **other: Any) -> dict[str, Any]:
    """What a worker says of a workspace that has a score."""
    return {
        "workspace": str(roots.paths[0] / name), "state": "completed", "score": score, "metric": "f1",
        "higher_is_better": True, "interval": None, "pass": None, "rank": "B", "seconds": 2.0, "error": None,
        "job_id": f"job of {name}", "scorer": SCORER, "benchmark": None, "ended_at": "2026-11-28T10:00:02Z",
        "result_sha256": "ab" * 32, **other,
    }  # fmt: skip


def failed(roots: WorkspaceRoots, name: str, code: ErrorCode = ErrorCode.MISMATCH) -> dict[str, Any]:
    return failed_outcome(roots.paths[0] / name, AutoScorerError(code, "why"), seconds=1.0)


async def batch(ledger: Ledger, **other: Any) -> TaskRow:
    asked = {"workspaces": ["round-1"], "action": "score", "priority": "high", "params": {"k": 1}}
    task = replace(new("many", "batch", request=asked, role="admin", **other), workspace=None)
    return (await ledger.add(task))[0]


async def listed(ledger: Ledger, wanted: TaskFilter, order: Order | None = None) -> list[str]:
    """What the tasks are called that are listed, in their order."""
    page = await ledger.page(wanted, None, 500, order or Order())
    assert page.total == len(page.rows)
    return [_called(row) for row, _ in page.rows]


def _called(row: TaskRow) -> str:
    asked = json.loads(row.request)
    return str(asked.get("workspace") or asked["workspaces"])


async def members(ledger: Ledger, of: TaskRow) -> list[tuple[TaskRow, StoredResult]]:
    return (await ledger.page(TaskFilter(parent=of.id), None, 500, Order("name", False))).rows


# --- which they are -------------------------------------------------------------------------------------------


@given(name=st.text(min_size=1), other=st.text(min_size=1))
def test_a_members_id_is_of_its_batch_and_its_workspace(name: str, other: str) -> None:
    one, two = new_task_id(), new_task_id(1.0)
    made = member_id(one, name)
    assert is_task_id(made) and made == member_id(one, name) != member_id(two, name)
    assert (made == member_id(one, other)) is (name == other)
    # It lies in the list where its batch does.
    assert made[:13] == one[:13] and made[14] == one[14] == "7" and made[19] in "89ab"


def test_a_member_is_a_task_with_what_its_batch_says_of_it(
    ledger_of: Callable[[], Settings], roots: WorkspaceRoots
) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            task = await batch(ledger)
            interval = {"low": 0.4, "high": 0.6, "level": 0.95, "method": "wilson"}
            of = [scored(roots, "a", interval=interval, **{"pass": True}), failed(roots, "b")]
            await ledger.record_members(task.id, members_of(task, of, roots))
            (one, left), (other, why) = await members(ledger, task)
            view = one.view(await ledger.outcome(one.id))
            assert (view.id, view.parent, view.action, view.workspace) == (one.id, task.id, "score", "a")
            assert (view.state, view.scorer, view.priority, view.params) == ("completed", SCORER, "normal", {"k": 1})
            assert (view.ended_at, view.run_seconds, view.attempts) == ("2026-11-28T10:00:02.000Z", 2.0, 1)
            assert (view.started_at, view.created_at) == ("2026-11-28T10:00:00.000Z", task.view().created_at)
            assert view.outcome is not None and view.result is not None and left.outcome is not None
            assert (view.outcome.score, view.outcome.metric, view.outcome.passed, view.outcome.rank) == (
                0.5, "f1", True, "B",
            )  # fmt: skip
            assert view.outcome.interval is not None and view.outcome.interval.low == 0.4
            assert view.result["summary"] == {
                "score": 0.5, "pass": True, "rank": "B", "higher_is_better": True, "f1": 0.5,
            }  # fmt: skip
            assert one.workspace == str(roots.paths[0] / "a") and one.role == "admin" and one.caller == task.caller
            failure = other.view(await ledger.outcome(other.id))
            assert (failure.state, failure.outcome, failure.result) == ("failed", None, None)
            assert failure.error is not None and (failure.error.code, failure.error.message) == ("MISMATCH", "why")
            assert failure.error.details["workspace"] == "b" and why.result is None
            assert task.view().parent is None

    settings = ledger_of()
    asyncio.run(work())


def test_duplicates_and_what_has_no_outcome_have_no_record(
    ledger_of: Callable[[], Settings], roots: WorkspaceRoots
) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            task = await batch(ledger)
            twice = scored(roots, "a", state="duplicate", duplicate_of=0)
            unreadable = [
                None,
                3,
                {},
                {"workspace": "x"},
                {"workspace": "y", "state": "queued"},
                scored(roots, "s", state=[]),
            ]
            found = members_of(task, [scored(roots, "a"), twice, *unreadable], roots)
            assert [each.request["workspace"] for each in found] == ["a"]
            # Of another version, or with numbers that are none: it is a record all the same.
            odd = scored(roots, "odd", score="much", metric=3, seconds="long", ended_at="once", interval={"low": None})
            await ledger.record_members(task.id, [*found, *members_of(task, [odd], roots)])
            assert await listed(ledger, TaskFilter(parent=task.id), Order("name", False)) == ["a", "odd"]
            row, left = (await members(ledger, task))[1]
            assert (row.started_at, row.ended_at, row.state, left.outcome) == (None, None, "completed", None)
            # An interval that is none costs the member no more than that.
            await ledger.record_members(task.id, members_of(task, [scored(roots, "x", interval={"low": 0.1})], roots))
            whole = (await members(ledger, task))[2][1].outcome
            assert whole is not None and (json.loads(whole)["score"], json.loads(whole)["interval"]) == (0.5, None)

    settings = ledger_of()
    asyncio.run(work())


def test_a_folder_whose_name_no_database_takes_is_a_record_too(
    ledger_of: Callable[[], Settings], roots: WorkspaceRoots
) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            task = await batch(ledger)
            names = [os.fsdecode(b"b\xff\xfe"), "a\n\x1b[31m", "日本"]
            await ledger.record_members(task.id, members_of(task, [scored(roots, name) for name in names], roots))
            found = {json.loads(row.request)["workspace"] for row, _ in await members(ledger, task)}
            assert found == {"b\\udcff\\udcfe", "a\n\x1b[31m", "日本"}

    settings = ledger_of()
    asyncio.run(work())


# --- when they are written ------------------------------------------------------------------------------------


def test_writing_them_again_writes_nothing_and_another_outcome_replaces_the_first(
    ledger_of: Callable[[], Settings], roots: WorkspaceRoots
) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            task = await batch(ledger)
            first = [scored(roots, "a"), failed(roots, "b", ErrorCode.CANCELLED)]
            for _ in range(2):
                assert await ledger.record_members(task.id, members_of(task, first, roots))
                before = await versions(settings)
            assert len(before) == 2
            await ledger.record_members(task.id, members_of(task, first, roots))
            assert await versions(settings) == before
            again = [first[0], scored(roots, "b", 0.9)]
            await ledger.finish([end_of(task, again, roots)])
            after = await versions(settings)
            assert after.items() >= {key: value for key, value in before.items() if "/a" in key}.items()
            assert after != before
            (_, one), (row, other) = await members(ledger, task)
            assert (row.state, other.error) == ("completed", None) and other.outcome is not None
            assert one.outcome is not None and json.loads(other.outcome)["score"] == 0.9

    settings = ledger_of()
    asyncio.run(work())


async def versions(settings: Settings) -> dict[str, Any]:
    """What tells of each row of a member whether it was written since."""
    is_shared = settings.ledger_url is not None
    hidden = "t.xmin::text, o.xmin::text" if is_shared else "t.rowid, o.rowid"
    asked = (
        f"SELECT t.workspace, {hidden}, o.result FROM tasks t JOIN outcomes o ON o.task_id = t.id "
        "WHERE t.parent IS NOT NULL"
    )

    def read(db: Connection) -> dict[str, Any]:
        return {str(row[0]): tuple(row[1:]) for row in db.execute(text(asked))}

    if is_shared:
        return await in_ledger(settings, read)
    import sqlite3

    with sqlite3.connect(settings.home / "ledger.sqlite3") as db:
        return {str(row[0]): row[1:] for row in db.execute(asked)}


def end_of(task: TaskRow, outcomes: Sequence[dict[str, Any]], roots: WorkspaceRoots) -> TaskEnd:
    result = {"action": "score", "total": len(outcomes), "outcomes": outcomes}
    return TaskEnd(task.id, TaskState.COMPLETED, result, members=members_of(task, outcomes, roots))


def test_a_batch_that_has_ended_has_the_members_of_its_result_and_what_comes_late_changes_nothing(
    ledger_of: Callable[[], Settings], roots: WorkspaceRoots
) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            task, other = await batch(ledger), (await ledger.add(new("x", "batch", request={"workspaces": ["x"]})))[0]
            await ledger.record_members(other.id, members_of(other, [scored(roots, "of another")], roots))
            # Of a folder that a second attempt did not find.
            early = [scored(roots, name) for name in ("a", "b", "gone")]
            await ledger.record_members(task.id, members_of(task, early, roots))
            many = [scored(roots, f"w{number:04}") for number in range(1100)]
            await ledger.finish([end_of(task, [*early[:2], *many], roots)])
            names = await listed_all(ledger, TaskFilter(parent=task.id))
            assert sorted(names) == sorted(["a", "b", *(f"w{number:04}" for number in range(1100))])
            late = members_of(task, [scored(roots, "a", 0.1), scored(roots, "gone")], roots)
            assert await ledger.record_members(task.id, late) is False
            assert await ledger.record_members(new_task_id(), late) is False
            assert (await members(ledger, task))[0][1].outcome == (await members(ledger, other))[0][1].outcome
            # One that nobody knows the end of keeps what was put down.
            await ledger.finish([TaskEnd(other.id, TaskState.FAILED)])
            assert await listed(ledger, TaskFilter(parent=other.id)) == ["of another"]

    settings = ledger_of()
    asyncio.run(work())


async def listed_all(ledger: Ledger, wanted: TaskFilter) -> list[str]:
    found: list[str] = []
    after = None
    while True:
        page = await ledger.page(wanted, after, 400, Order("name", False))
        found += [_called(row) for row, _ in page.rows]
        if (after := page.next) is None:
            return found


def test_ten_thousand_are_written_with_the_end_of_their_batch(
    ledger_of: Callable[[], Settings], roots: WorkspaceRoots
) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            task = await batch(ledger)
            end = end_of(
                task, [scored(roots, f"round-1/team-{number:05}", number / 1e4) for number in range(10_000)], roots
            )
            before = time.monotonic()
            await ledger.finish([end])
            took = time.monotonic() - before
            page = await ledger.page(TaskFilter(parent=task.id), None, 3, Order("score", True))
            assert page.total == 10_000
            assert [_called(row) for row, _ in page.rows] == [f"round-1/team-0999{digit}" for digit in (9, 8, 7)]
            print(f"10,000 members in {took:.2f} s")

    settings = ledger_of()
    asyncio.run(work())


# --- lists and counts -----------------------------------------------------------------------------------------


async def a_batch_among_others(ledger: Ledger, roots: WorkspaceRoots) -> TaskRow:
    await ledger.add(new("/data/before", request={"action": "score", "workspace": "before"}))
    task = await batch(ledger)
    outcomes = [scored(roots, "team-a", 0.9), scored(roots, "team-b", 0.3), failed(roots, "team-c")]
    await ledger.finish([end_of(task, outcomes, roots)])
    await ledger.add(new("/data/after", request={"action": "score", "workspace": "after"}))
    return task


def test_the_usual_list_and_the_counts_are_of_what_was_asked_for(
    ledger_of: Callable[[], Settings], roots: WorkspaceRoots
) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            task = await a_batch_among_others(ledger, roots)
            asked = ["after", "['round-1']", "before"]
            assert await listed(ledger, TaskFilter()) == asked
            assert await listed(ledger, TaskFilter(states=(TaskState.COMPLETED,))) == ["['round-1']"]
            assert await listed(ledger, TaskFilter(states=(TaskState.FAILED,))) == []
            assert await listed(ledger, TaskFilter(actions=("score",))) == ["after", "before"]
            counts = await ledger.counts()
            assert (counts["queued"], counts["completed"], counts["failed"]) == (2, 1, 0)
            everything = await listed(ledger, TaskFilter(members=True))
            assert sorted(everything) == sorted([*asked, "team-a", "team-b", "team-c"])
            by_score = Order("score", True)
            assert await listed(ledger, TaskFilter(parent=task.id), by_score) == ["team-a", "team-b", "team-c"]
            assert (await listed(ledger, TaskFilter(members=True), by_score))[:2] == ["team-a", "team-b"]
            only = TaskFilter(parent=task.id, states=(TaskState.FAILED,))
            assert await listed(ledger, only) == ["team-c"]
            # A name finds the batch, and its members where they are asked for.
            assert await listed(ledger, TaskFilter(name="team-a")) == ["['round-1']"]
            assert sorted(await listed(ledger, TaskFilter(name="team-a", members=True))) == ["['round-1']", "team-a"]
            assert await listed(ledger, TaskFilter(name="job of team-b", parent=task.id)) == ["team-b"]
            assert await listed(ledger, TaskFilter(parent=new_task_id())) == []
            # What a workspace was asked to do last is no member.
            assert await ledger.latest_of([str(roots.paths[0] / "team-a")]) == {}
            found = await ledger.members_of(str(roots.paths[0] / "team-a"), [task.id, new_task_id()])
            assert [*found] == [task.id] and found[task.id].parent == task.id

    settings = ledger_of()
    asyncio.run(work())


def test_nobody_is_told_of_each_member_but_of_their_batch(
    ledger_of: Callable[[], Settings], roots: WorkspaceRoots
) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            start = (await ledger.changed_since(None, 0)).now.number
            task = await batch(ledger)
            await ledger.record_members(task.id, members_of(task, [scored(roots, "a")], roots))
            await ledger.finish([end_of(task, [scored(roots, "a", 0.7), scored(roots, "b")], roots)])
            await ledger.forget(task.id)
            found = (await ledger.changed_since(start, 10)).found or []
            assert [change.task_id for change in found] == [task.id]
            assert {*(await ledger.counts()).values()} == {0}

    settings = ledger_of()
    asyncio.run(work())


@pytest.mark.parametrize("digits", [None, 2])
def test_pages_of_a_batch_make_its_whole_list_in_any_order(
    ledger_of: Callable[[], Settings], roots: WorkspaceRoots, digits: int | None
) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            task, other = await batch(ledger), await batch(ledger, subject="other")
            values = [0.90001, 0.90004, None, 0.1, 0.90002, 0.5, 0.90003]
            outcomes = [scored(roots, f"w{number}", value) for number, value in enumerate(values)]
            for each in (task, other):
                await ledger.finish([end_of(each, [*outcomes, failed(roots, "w9")], roots)])
            wanted = TaskFilter(parent=task.id, digits=digits, scope=Scope(owner="someone"))
            for sort in SORTS:
                order = TaskQuery(sort=sort).order
                found: list[TaskRow] = []
                after = None
                while True:
                    page = await ledger.page(wanted, after, 3, order)
                    assert (page.total, page.before) == (8, len(found))
                    found += [row for row, _ in page.rows]
                    if (after := page.next) is None:
                        break
                assert len({row.id for row in found}) == 8 and {row.parent for row in found} == {task.id}
                if order.by == "score":
                    told = [(_told(ledger_row, values, digits), ledger_row.id) for ledger_row in found]
                    known = [each for each in told if each[0] is not None]
                    assert known == sorted(known, reverse=order.descending) and len(known) == 6

    settings = ledger_of()
    asyncio.run(work())


def _told(row: TaskRow, values: Sequence[float | None], digits: int | None) -> float | None:
    number = int(_called(row)[1:])
    value = values[number] if number < len(values) else None
    return value if value is None or digits is None else rounded(value, digits)


def test_the_usual_lists_look_at_no_member(settings: Settings) -> None:
    """However many members there are, they are passed over in an index; and a batch's list looks at that batch."""

    async def work() -> None:
        async with opened(settings) as ledger:
            asked: list[str] = []
            assert isinstance(ledger._database, SqliteDatabase)
            scanner: Any = ledger._database._scanner.connection.dbapi_connection
            scanner.set_trace_callback(asked.append)
            for sort in SORTS:
                await ledger.page(TaskFilter(), None, 10, TaskQuery(sort=sort).order)
            await ledger.page(TaskFilter(states=(TaskState.FAILED,)), None, 10)
            scanner.set_trace_callback(None)
            plans = [(each, plan(scanner, each)) for each in asked if "LIMIT" in each]
            assert plans
            for statement, steps in plans:
                assert any("COVERING INDEX" in step or "asked_for" in step for step in steps), (statement, steps)
            asked.clear()
            scanner.set_trace_callback(asked.append)
            for sort in SORTS:
                await ledger.page(TaskFilter(parent="x"), None, 10, TaskQuery(sort=sort).order)
            scanner.set_trace_callback(None)
            for statement in [each for each in asked if "LIMIT" in each]:
                steps = plan(scanner, statement)
                assert any("by_parent" in step or "COVERING INDEX" in step for step in steps), (statement, steps)

    asyncio.run(work())


def plan(scanner: Any, statement: str) -> list[str]:
    return [str(each[3]) for each in scanner.execute("EXPLAIN QUERY PLAN " + statement)]


# --- how they leave -------------------------------------------------------------------------------------------


def test_members_leave_with_their_batch_some_at_a_time(
    ledger_of: Callable[[], Settings], roots: WorkspaceRoots, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoscorer.service.ledger.statements._PRUNE", 3)

    async def work() -> None:
        async with opened(settings) as ledger:
            old, recent = await batch(ledger), await batch(ledger, subject="recent")
            outcomes = [scored(roots, f"w{number}") for number in range(7)]
            ends = [end_of(each, outcomes, roots) for each in (old, recent)]
            await ledger.finish([replace(ends[0], ended_at=1e9), ends[1]])
            gone = []
            while number := await ledger.prune(time.time()):
                gone.append(number)
                assert (await ledger.page(TaskFilter(members=True), None, 1)).total == 16 - sum(gone)
            # No transaction has more of them than there may be, and the batch goes last.
            assert gone == [3, 3, 1, 1]
            assert len(await listed(ledger, TaskFilter(parent=recent.id))) == 7
            assert await ledger.find(old.id) is None
            # A member's own moment is long ago, and it stays as long as its batch does.
            assert (await ledger.counts())["completed"] == 1

    settings = ledger_of()
    asyncio.run(work())


def test_a_batch_that_is_deleted_takes_its_members_and_what_is_said_of_them(
    ledger_of: Callable[[], Settings], roots: WorkspaceRoots
) -> None:
    from autoscorer.service.ledger.notes import NewNote

    async def work() -> None:
        async with opened(settings) as ledger:
            task = await a_batch_among_others(ledger, roots)
            member = (await members(ledger, task))[0][0]
            said: Any = {"of_truth": True, "text": "well", "sample": None, "metric": None, "verdict": None}
            await ledger.add_note(NewNote(member.id, "admin-1", "admin", None, **said), 1)
            await ledger.forget(task.id)
            assert await listed(ledger, TaskFilter(members=True)) == ["after", "before"]

        def left(db: Connection) -> list[int]:
            return [db.scalar(text(f"SELECT count(*) FROM {each}")) or 0 for each in ("outcomes", "notes", "names")]

        assert await in_ledger(settings, left) == [0, 0, 2]

    settings = ledger_of()
    asyncio.run(work())


# --- ledgers from before, and their copies --------------------------------------------------------------------


def test_a_ledger_is_brought_up_to_date_and_back_with_its_counts(
    ledger_of: Callable[[], Settings], roots: WorkspaceRoots
) -> None:
    async def work() -> None:
        async with opened(settings) as ledger:
            await a_batch_among_others(ledger, roots)
        await in_ledger(settings, back_to("0008"))
        assert (await upgrade_ledger(settings))["from"] == "0008"
        async with opened(settings) as ledger:
            # What had ended has none; what comes has.
            assert sorted(await listed(ledger, TaskFilter(members=True))) == ["['round-1']", "after", "before"]
            counts = await ledger.counts()
            assert (counts["queued"], counts["completed"], counts["failed"]) == (2, 1, 0)
            start = (await ledger.changed_since(None, 0)).now.number
            task = await batch(ledger)
            await ledger.finish([end_of(task, [scored(roots, "a"), failed(roots, "b")], roots)])
            assert len(await listed(ledger, TaskFilter(parent=task.id))) == 2
            counts = await ledger.counts()
            assert (counts["queued"], counts["completed"], counts["failed"]) == (2, 2, 0)
            assert [each.task_id for each in (await ledger.changed_since(start, 9)).found or ()] == [task.id]

    settings = ledger_of()
    asyncio.run(work())


def back_to(revision: str) -> Callable[[Connection], None]:
    from alembic import command
    from alembic.config import Config
    from autoscorer.service.ledger import revisions

    def downgrade(db: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(Path(revisions.__file__).parent / "migrations"))
        config.attributes["connection"] = db
        command.downgrade(config, revision)

    return downgrade


def test_a_copy_of_a_ledger_has_them(
    ledger_of: Callable[[], Settings], roots: WorkspaceRoots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a member's id sorts before its batch's: it refers to it."""

    async def work() -> None:
        async with opened(settings) as ledger:
            task = await batch(ledger)
            many = [scored(roots, f"w{number}") for number in range(20)]
            assert any(each.id < task.id for each in members_of(task, many, roots))
            await ledger.finish([end_of(task, many, roots)])
        with (tmp_path / "copy").open("w+") as file:
            written = await export_ledger(settings, file)
            assert (written["tasks"], written["outcomes"]) == (21, 21)
            file.seek(0)
            other = settings.model_copy(update={"home": tmp_path / "other", "ledger_url": None})
            assert await import_ledger(other, file) == written
        async with opened(other) as ledger:
            assert len(await listed(ledger, TaskFilter(parent=task.id))) == 20
            assert (await ledger.counts())["completed"] == 1

    settings = ledger_of()
    asyncio.run(work())


def test_a_member_is_what_the_last_outcome_says(roots: WorkspaceRoots) -> None:
    """A journal that a second attempt went on with may have two of one workspace."""
    task = TaskRow(**{**dict.fromkeys(TaskRow.__slots__), "id": new_task_id(), "request": "{}"})
    found = members_of(task, [failed(roots, "a", ErrorCode.CANCELLED), scored(roots, "a", 0.25)], roots)
    assert [(each.state, isinstance(each, Member)) for each in found] == [(TaskState.COMPLETED, True)]
