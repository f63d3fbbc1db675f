"""A list of tasks by any of its columns: whole, in order, a page at a time, and no more told than its rows tell."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from math import inf, isfinite, nextafter
from pathlib import Path
from typing import Any, get_args

import pytest
from autoscorer.core.config import Settings, load_settings
from autoscorer.core.disclosed import rounded, told_alike
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.schemas.task import TaskSort, TaskState
from autoscorer.service.ledger.derived import sort_name
from autoscorer.service.ledger.ledger import Ledger, in_ledger
from autoscorer.service.ledger.maintenance import upgrade_ledger
from autoscorer.service.ledger.records import Order, Place, TaskEnd, TaskFilter, TaskRow
from autoscorer.service.ledger.sqlite import SqliteDatabase
from autoscorer.service.policy import Scope
from autoscorer.service.task_query import TaskQuery, cursor_of, place_of
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import text

from ..support.facade import ADMIN, SUBMIT, facade, facade_settings
from ..support.ledger import new, opened
from ..support.postgres import postgres as postgres

SORTS: tuple[TaskSort, ...] = get_args(TaskSort)
FINAL = (TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED)


def order_of(sort: TaskSort) -> Order:
    return TaskQuery(sort=sort).order


def scored(score: float | None, *, passed: bool | None = None, board_only: bool = False) -> dict[str, Any]:
    result: dict[str, Any] = {"summary": {"score": score, "f1": score, "pass": passed, "higher_is_better": True}}
    return result | ({"versioning": {"benchmark": {"board_only": True}}} if board_only else {})


# --- every order ----------------------------------------------------------------------------------------------


class Known:
    """A task as the test made it."""

    def __init__(self, row: TaskRow, score: float | None, board_only: bool) -> None:
        self.row, self.score, self.board_only = row, score, board_only

    def value(self, by: str, digits: int | None) -> Any:
        row = self.row
        match by:
            case "ended":
                return row.ended_at
            case "seconds":
                return None if row.started_at is None or row.ended_at is None else row.ended_at - row.started_at
            case "score":
                if digits is None or self.score is None:
                    return self.score
                return None if self.board_only else rounded(self.score, digits)
            case "name":
                return sort_name(json.loads(row.request))
            case "state" | "scorer":
                return getattr(row, by)
        return row.id


def sorted_out(tasks: Sequence[Known], order: Order, digits: int | None) -> list[str]:
    """The ids in an order, as plainly as it can be said."""
    values = [(task.value(order.by, digits), task.row.id) for task in tasks]
    some = sorted((each for each in values if each[0] is not None), reverse=order.descending)
    none = sorted((task_id for value, task_id in values if value is None), reverse=order.descending)
    return [task_id for _, task_id in some] + none


async def made(ledger: Ledger, asked: Sequence[Any]) -> list[Known]:
    found = []
    for number, (score, name, scorer, took, state, board_only) in enumerate(asked):
        request = {"workspace": name} if name else {"workspaces": ["x", "Ä"]} if name is None else {}
        task = new(f"/{number}", request=request, scorer=scorer, created_at=1e9)
        row, _ = await ledger.add(task)
        if state is not None:
            result = None if score is None else scored(score, board_only=board_only)
            end = TaskEnd(row.id, state, result, started_at=None if took is None else 1e9, ended_at=1e9 + (took or 0))
            await ledger.finish([end])
        has_score = state is not None and score is not None
        found.append(Known(await ledger.row(row.id), score if has_score else None, board_only))
    return found


async def check(settings: Settings, asked: Sequence[Any], size: int) -> None:
    await in_ledger(settings, lambda db: [db.execute(text(f"DELETE FROM {t}")) for t in ("outcomes", "names", "tasks")])
    async with opened(settings) as ledger:
        tasks = await made(ledger, asked)
        for sort in SORTS:
            for digits in (None, 2):
                order, wanted = order_of(sort), TaskFilter(digits=digits, scope=Scope(owner="someone"))
                expected = sorted_out(tasks, order, digits)
                found: list[str] = []
                after: Place | None = None
                while len(found) <= len(expected):
                    page = await ledger.page(wanted, after, size, order)
                    assert (page.total, page.before) == (len(expected), len(found)), (sort, digits)
                    found += [row.id for row, _ in page.rows]
                    if page.next is None:
                        break
                    # As it goes to whoever asks, and comes back.
                    after = place_of(cursor_of(page.next, wanted, order), wanted, order)
                assert found == expected, (sort, digits)


scores = st.one_of(
    st.none(),
    st.sampled_from([0.0, -0.0, 1, 0.125, 0.1249, 0.1251, 0.995, 0.9949, 1.0, -0.125, 5e-324, 1e308, 2**53]),
    st.floats(0.12, 0.13),
    st.floats(allow_nan=False, allow_infinity=False),
)
several = st.lists(
    st.tuples(
        scores,
        st.sampled_from(["round-1/Team-a", "round-1/team-B", "Ähre", "zebra", "", None, "_", "😀", "w" * 300]),
        st.sampled_from([None, "classification_f1", "rag"]),
        st.sampled_from([None, 0, 1.5, -1.0, 20]),
        st.sampled_from([None, *FINAL]),
        st.booleans(),
    ),
    max_size=14,
)
DIGITS = [(score, "a", None, 1, TaskState.COMPLETED, False) for score in (0.1249, 0.121, 0.119, 0.1201, 0.1249, 0.13)]


@hypothesis_settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(asked=several, size=st.integers(1, 6))
@example(asked=DIGITS, size=2)
def test_pages_of_any_size_make_the_whole_list_in_its_order(settings: Settings, asked: Any, size: int) -> None:
    asyncio.run(upgrade_ledger(settings))
    asyncio.run(check(settings, asked, size))


@pytest.mark.slow
def test_in_postgresql(request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOSCORER_LEDGER_URL", request.getfixturevalue("postgres").ledger_url())
    settings = load_settings()
    asyncio.run(upgrade_ledger(settings))
    schema = str(settings.ledger_url.get_secret_value() if settings.ledger_url else "").rpartition("=")[2]

    @hypothesis_settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
    @given(asked=several, size=st.integers(1, 6))
    @example(asked=DIGITS, size=2)
    def works(asked: Any, size: int) -> None:
        assert schema.startswith("ledger_")
        asyncio.run(check(settings, asked, size))

    works()


@given(value=st.floats(allow_nan=False, allow_infinity=False), digits=st.integers(1, 15))
@example(value=1.0, digits=4)
@example(value=sys.float_info.max, digits=4)
@example(value=-1.7975e308, digits=3)
@example(value=5e-324, digits=2)
@example(value=-0.12345, digits=4)
def test_what_is_told_alike_lies_between_two_numbers(value: float, digits: int) -> None:
    least, greatest = told_alike(value, digits)
    assert least <= value <= greatest and isfinite(rounded(value, digits) or 0)
    assert rounded(least, digits) == rounded(greatest, digits) == rounded(value, digits)
    for beyond in (nextafter(least, -inf), nextafter(greatest, inf)):
        assert not isfinite(beyond) or rounded(beyond, digits) != rounded(value, digits)


# --- what an order costs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("sort", SORTS)
def test_an_index_has_every_order(settings: Settings, sort: TaskSort) -> None:
    """However many tasks there are, a page in the middle reads those of the page."""

    async def work() -> None:
        async with opened(settings) as ledger:
            asked: list[str] = []
            assert isinstance(ledger._database, SqliteDatabase)
            scanner: Any = ledger._database._scanner.connection.dbapi_connection
            order = order_of(sort)
            value: Any = 1.0 if order.by in ("ended", "score", "seconds") else "x"
            scanner.set_trace_callback(asked.append)
            await ledger.page(TaskFilter(), None, 10, order)
            await ledger.page(TaskFilter(), Place(value, "f" * 32), 10, order)
            scanner.set_trace_callback(None)
            for statement in [each for each in asked if "LIMIT" in each and "IS NULL" not in each]:
                plan = [str(each[3]) for each in scanner.execute("EXPLAIN QUERY PLAN " + statement)]
                assert len(plan) == 1 and "USING COVERING INDEX" in plan[0], (statement, plan)

    asyncio.run(work())


def test_what_was_there_before_is_sorted_too(settings: Settings) -> None:
    """The columns of a ledger that is brought up to date say what they would say had it always had them."""

    async def fill() -> list[str]:
        async with opened(settings) as ledger:
            asked = [(0.5, "Team-B", None, 1, FINAL[0], False), (2, "a", None, 1, FINAL[0], True)]
            ids = [task.row.id for task in await made(ledger, asked)]
            end = TaskEnd((await ledger.add(new("/c", request={"question": "Why?"})))[0].id, TaskState.COMPLETED)
            await ledger.finish([replace(end, result=scored(0.7, passed=True))])
            return [*ids, end.task_id, (await ledger.add(new("/d", request={})))[0].id]

    ids = asyncio.run(fill())
    columns = "SELECT id, sort_name, score, passed, board_only, seconds FROM tasks ORDER BY id"
    before = asyncio.run(in_ledger(settings, lambda db: db.execute(text(columns)).all()))
    assert [tuple(row) for row in before] == [
        (ids[0], "team-b", 0.5, None, None, 1.0),
        (ids[1], "a", 2.0, None, 1, 1.0),
        (ids[2], "why?", 0.7, 1, None, None),
        (ids[3], None, None, None, None, None),
    ]
    asyncio.run(in_ledger(settings, _back_to("0005")))
    assert asyncio.run(upgrade_ledger(settings))["from"] == "0005"
    assert asyncio.run(in_ledger(settings, lambda db: db.execute(text(columns)).all())) == before


def _back_to(revision: str) -> Any:
    from alembic import command
    from alembic.config import Config
    from autoscorer.service.ledger import revisions

    def downgrade(db: Any) -> None:
        config = Config()
        config.set_main_option("script_location", str(Path(revisions.__file__).parent / "migrations"))
        config.attributes["connection"] = db
        command.downgrade(config, revision)

    return downgrade


# --- cursors --------------------------------------------------------------------------------------------------

HERE = TaskQuery(sort="-score", scorers=("a",))
PLACE = Place(0.5, "0190f2d4-9c0e-7d11-8a6b-5c4d3e2f1a0b")
MINE, ALL = Scope(owner="someone"), Scope(everything=True)


def filter_of(query: TaskQuery, scope: Scope = MINE, digits: int | None = 4) -> TaskFilter:
    return query.filter(None, scope, digits)


def test_a_cursor_is_good_for_its_own_list() -> None:
    cursor = cursor_of(PLACE, filter_of(HERE), HERE.order)
    same = [HERE, replace(HERE, limit=3), replace(HERE, scorers=("a", "a")), replace(HERE, cursor=cursor)]
    assert [place_of(cursor, filter_of(each), each.order) for each in same] == [PLACE] * 4


@pytest.mark.parametrize(
    ("query", "scope", "digits"),
    [
        (replace(HERE, sort="score"), MINE, 4),
        (replace(HERE, sort="-seconds"), MINE, 4),
        (replace(HERE, scorers=("a", "b")), MINE, 4),
        (replace(HERE, passed=False), MINE, 4),
        (replace(HERE, name="a"), MINE, 4),
        (replace(HERE, team="a"), MINE, 4),
        (HERE, ALL, 4),
        (HERE, Scope(owner="another"), 4),
        (HERE, MINE, None),
    ],
)
def test_a_cursor_of_another_list_is_refused(query: TaskQuery, scope: Scope, digits: int | None) -> None:
    cursor = cursor_of(PLACE, filter_of(HERE), HERE.order)
    with pytest.raises(AutoScorerError, match="the same sort, the same filters") as caught:
        place_of(cursor, filter_of(query, scope, digits), query.order)
    assert caught.value.code is ErrorCode.INVALID_REQUEST


def written(*parts: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode()


DIGEST = json.loads(base64.urlsafe_b64decode(cursor_of(PLACE, filter_of(HERE), HERE.order)))[0]


@pytest.mark.parametrize(
    "cursor",
    [
        "", "' OR 1", "ä", PLACE.id, "=" * 300, written(), written(DIGEST, PLACE.id), written(DIGEST, 3, 0.5),
        written(DIGEST, PLACE.id, "0.5"), written(DIGEST, PLACE.id, float("inf")), written(DIGEST, PLACE.id, True),
        written(DIGEST, PLACE.id, float("nan")), written(DIGEST, PLACE.id, [0.5]), written([], {}, None),
        written(DIGEST, PLACE.id + "\0", 0.5), base64.urlsafe_b64encode(b"[" * 900).decode(),
    ],
)  # fmt: skip
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(AutoScorerError) as caught:
        place_of(cursor, filter_of(HERE), HERE.order)
    assert caught.value.code is ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize("name", ["\0", "\ud800", 3.0])
def test_a_name_that_no_database_takes_is_no_place(name: Any) -> None:
    query = TaskQuery(sort="name")
    digest = json.loads(base64.urlsafe_b64decode(cursor_of(PLACE, filter_of(query), query.order)))[0]
    with pytest.raises(AutoScorerError) as caught:
        place_of(written(digest, PLACE.id, name), filter_of(query), query.order)
    assert caught.value.code is ErrorCode.INVALID_REQUEST


# --- as it is served -------------------------------------------------------------------------------------------

HIDDEN = (0.90001, 0.90004, 0.90002, 0.90003)


def test_whoever_is_told_four_digits_learns_no_more_of_them_from_an_order(settings: Settings, tmp_path: Path) -> None:
    async def fill() -> None:
        async with opened(settings) as ledger:
            for number, score in enumerate((*HIDDEN, 0.5)):
                task, _ = await ledger.add(new(f"w{number}", request={"workspace": f"w{number}", "action": "score"}))
                await ledger.finish([TaskEnd(task.id, TaskState.COMPLETED, scored(score, passed=score > 0.900025))])

    asyncio.run(fill())
    (tmp_path / "root").mkdir()
    with facade(facade_settings(tmp_path / "root")) as api:

        def listed(query: str, token: str) -> list[str]:
            found, cursor = [], ""
            while True:
                page = api.call("GET", f"/tasks?limit=2&{query}{cursor}", token=token).data
                found += [task["workspace"] for task in page["tasks"]]
                if page["next_cursor"] is None:
                    assert page["total"] == len(found)
                    return found
                if token == SUBMIT:
                    told = base64.urlsafe_b64decode(page["next_cursor"])
                    assert not any(str(score).encode() in told for score in HIDDEN), told
                cursor = f"&cursor={page['next_cursor']}"

        assert listed("sort=-score", ADMIN) == ["w1", "w3", "w2", "w0", "w4"]
        assert listed("sort=score", ADMIN) == ["w4", "w0", "w2", "w3", "w1"]
        assert listed("sort=-score", SUBMIT) == ["w3", "w2", "w1", "w0", "w4"]
        assert listed("sort=score", SUBMIT) == ["w4", "w0", "w1", "w2", "w3"]
        assert listed("pass=true", SUBMIT) == ["w3", "w1"]
        assert listed("pass=false&sort=name", ADMIN) == ["w0", "w2", "w4"]
        # A place between two that are told as the same is a place before or behind both.
        asked = TaskQuery(sort="-score")
        with_token = api.call("GET", "/tasks?limit=1&sort=-score", token=SUBMIT).data["next_cursor"]
        digest, task_id, _ = json.loads(base64.urlsafe_b64decode(with_token))
        counted = {
            api.call("GET", f"/tasks?sort={asked.sort}&cursor={written(digest, task_id, value)}", token=SUBMIT).data[
                "before"
            ]
            for value in (0.9, 0.900015, 0.900025, 0.900035, 0.90004)
        }
        assert len(counted) == 1


def test_a_list_is_asked_for_by_several_and_refuses_what_it_does_not_know(settings: Settings, tmp_path: Path) -> None:
    async def fill() -> None:
        async with opened(settings) as ledger:
            for name, action, scorer in (("a", "score", "s1"), ("b", "run", None), ("c", "pipeline", "s2")):
                await ledger.add(new(name, action, scorer=scorer, request={"workspace": name}))
            await ledger.add(new("d", benchmark="flowers", team="team-a", request={"workspace": "d"}))

    asyncio.run(fill())
    (tmp_path / "root").mkdir()
    with facade(facade_settings(tmp_path / "root")) as api:

        def listed(query: str, token: str = ADMIN) -> list[str]:
            return [task["workspace"] for task in api.call("GET", f"/tasks?{query}", token=token).data["tasks"]]

        assert listed("scorer=s1&scorer=s2") == ["c", "a"]
        assert listed("action=run&action=pipeline&sort=created") == ["b", "c"]
        assert listed("benchmark=flowers") == listed("team=team-a") == ["d"]
        assert listed("benchmark=flowers", SUBMIT) == listed("team=team-a", SUBMIT) == []
        assert listed("sort=-created") == listed("") == ["d", "c", "b", "a"]
        assert listed("sort=scorer") == ["a", "c", "b", "d"] and listed("sort=-scorer") == ["c", "a", "d", "b"]
        assert listed("state=queued&state=queued&sort=name") == ["a", "b", "c", "d"]
        assert api.call("GET", "/tasks?state=queued&state=queued", token=ADMIN).data["total"] == 4
        for wrong in (
            "sort=rank",
            "sort=--score",
            "sort=",
            "pass=maybe",
            "scorer=",
            "action=dance",
            "team=",
            "cursor=x",
        ):
            assert api.call("GET", f"/tasks?{wrong}", token=ADMIN).error["code"] == "INVALID_REQUEST", wrong


def test_a_team_learns_nothing_of_what_its_leaderboard_alone_tells(settings: Settings) -> None:
    """Neither the order of its scores nor which of them passed."""

    async def work() -> None:
        async with opened(settings) as ledger:
            ids = []
            for number, score in enumerate((0.2, 0.9, 0.5)):
                task, _ = await ledger.add(new(f"/{number}", benchmark="flowers", team="a"))
                result = scored(score, passed=score > 0.4, board_only=True)
                await ledger.finish([TaskEnd(task.id, TaskState.COMPLETED, result)])
                ids.append(task.id)
            team = TaskFilter(scope=Scope(team="a"), digits=4)
            organiser = TaskFilter(scope=Scope(benchmarks=frozenset({"flowers"})))
            for wanted, expected in ((team, ids), (organiser, [ids[0], ids[2], ids[1]])):
                page = await ledger.page(wanted, None, 10, Order("score", descending=False))
                assert [row.id for row, _ in page.rows] == expected
            for passed, there in ((True, 2), (False, 1)):
                assert (await ledger.page(replace(team, passed=passed), None, 10)).total == 0
                assert (await ledger.page(replace(organiser, passed=passed), None, 10)).total == there
            # Nor where such a place would be.
            after = await ledger.page(team, Place(0.4, ids[0]), 10, Order("score", descending=False))
            assert (after.before, [row.id for row, _ in after.rows]) == (0, ids)

    asyncio.run(work())
