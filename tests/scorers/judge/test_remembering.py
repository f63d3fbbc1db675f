"""Answers that are there already or under way: none is asked for twice, and none is taken for another."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from autoscorer.scorers.judge.cache import Cache, key_of
from autoscorer.scorers.judge.flights import Flights
from autoscorer.scorers.judge.prompt import Prompt
from autoscorer.scorers.judge.runtime import JudgeRuntime
from autoscorer.scorers.judge.usage import Usage

from ...support.judges import SCHEMA, ask, prompt, run, settings_of
from ...support.stub_judge import Faults, StubJudge
from ...support.stub_judge import stub as stub


def test_a_second_run_makes_no_call_and_costs_nothing(home: Path, stub: StubJudge) -> None:
    stub.refused_forms = frozenset({"json_schema"})  # what the first run learned is no part of the key
    settings = settings_of(home, stub.url, judge={"price": {"prompt": 1, "completion": 1}})
    first, second = Usage(), Usage()
    one = run(settings, lambda runtime: ask(runtime, usage=first))
    calls = stub.calls
    other = run(settings, lambda runtime: ask(runtime, usage=second))
    assert one == other and stub.calls == calls
    assert first.calls == 1 and second == Usage(cached=1)
    assert stat.S_IMODE((home / "judge-cache.sqlite3").stat().st_mode) == 0o600


def test_another_question_model_vote_or_wording_is_another_answer(home: Path, stub: StubJudge) -> None:
    async def all_kinds(runtime: JudgeRuntime) -> None:
        usage = Usage()
        large, small = runtime.session().judge, runtime.session(judge="small").judge
        assert large is not None and small is not None
        for judge, question, vote in [
            (large, prompt(), 0),
            (large, prompt("Another?"), 0),
            (large, Prompt("You judge well.", "Is it so?", "1"), 0),
            (large, prompt(version="2"), 0),
            (large, prompt(), 1),
            (small, prompt(), 0),
        ]:
            for _ in range(2):
                await judge.ask(question, SCHEMA, usage=usage, vote=vote)
        assert (usage.calls, usage.cached) == (6, 6)

    run(settings_of(home, stub.url), all_kinds)
    assert {body["seed"] for body in stub.bodies} == {0, 1}


def test_without_a_cache_each_run_asks(home: Path, stub: StubJudge) -> None:
    settings = settings_of(home, stub.url, cache=0)
    run(settings, ask)
    run(settings, ask)
    assert stub.calls == 2 and not (home / "judge-cache.sqlite3").exists()


def test_an_answer_that_could_not_be_used_is_not_kept(home: Path, stub: StubJudge) -> None:
    settings = settings_of(home, stub.url)
    stub.answer = lambda asked, schema: {}
    run(settings, ask)
    stub.answer = None
    assert isinstance(run(settings, ask), dict)


@pytest.mark.parametrize("broken", [b"no database at all" * 100, None])
def test_a_broken_cache_is_moved_aside_and_begun_anew(
    home: Path, stub: StubJudge, broken: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_of(home, stub.url)
    run(settings, ask)
    file = home / "judge-cache.sqlite3"
    whole = file.read_bytes()
    # The head stays what it was, and the pages behind it are no pages.
    file.write_bytes(broken or whole[:200] + b"\xff" * (len(whole) - 200))
    assert isinstance(run(settings, lambda runtime: ask(runtime, "Another?")), dict)
    assert isinstance(run(settings, lambda runtime: ask(runtime, "Another?")), dict)
    run(settings, lambda runtime: ask(runtime, "A third?"))
    calls = stub.calls
    run(settings, lambda runtime: ask(runtime, "A third?"))
    assert stub.calls == calls
    assert "judge-cache.sqlite3 in the home is broken" in caplog.text
    assert (home / "judge-cache.sqlite3.broken").exists()


def test_a_cache_that_can_not_be_used_is_no_reason_to_fail(
    home: Path, stub: StubJudge, caplog: pytest.LogCaptureFixture
) -> None:
    (home / "judge-cache.sqlite3").mkdir()
    assert isinstance(run(settings_of(home, stub.url), ask), dict)
    assert caplog.text.count("judge-cache.sqlite3 in the home can't be used") == 1


def test_the_least_used_answers_go_when_there_are_too_many(tmp_path: Path) -> None:
    async def story() -> list[bool]:
        cache = Cache(tmp_path / "cache.sqlite3", 100_000)
        for number in range(200):
            cache.put(key_of(str(number)), b"x" * 1000)
        kept = [value is not None for value in await cache.get_all([key_of(str(number)) for number in range(200)])]
        await cache.close()
        return kept

    kept = asyncio.run(story())
    assert kept[-50:] == [True] * 50 and kept[:50] == [False] * 50
    with sqlite3.connect(tmp_path / "cache.sqlite3") as connection:
        assert connection.execute("SELECT SUM(LENGTH(value)) FROM answers").fetchone()[0] <= 110_000
    connection.close()


def test_two_processes_share_the_file(tmp_path: Path) -> None:
    async def story() -> None:
        one, other = (Cache(tmp_path / "cache.sqlite3", 10**6) for _ in range(2))
        for number in range(50):
            one.put(key_of("one", str(number)), b"1")
            other.put(key_of("other", str(number)), b"2")
        await one.get(b"")
        await other.get(b"")
        found = [await one.get(key_of("other", str(number))) for number in range(50)]
        found += [await other.get(key_of("one", str(number))) for number in range(50)]
        assert found == [b"2"] * 50 + [b"1"] * 50
        await one.close()
        await other.close()

    asyncio.run(story())


def test_keys_of_other_parts_differ() -> None:
    assert key_of("a", "b") != key_of("ab") != key_of("ab", "") and key_of("ab") != key_of("b", "a")


# --- under way ------------------------------------------------------------------------------------------------------


def test_equal_questions_at_the_same_time_are_one_call(home: Path, stub: StubJudge) -> None:
    stub.latency = 0.1
    usages = [Usage() for _ in range(5)]

    async def many(runtime: JudgeRuntime) -> list[Any]:
        return await asyncio.gather(*(ask(runtime, usage=usage) for usage in usages))

    answers = run(settings_of(home, stub.url, cache=0), many)
    assert stub.calls == 1 and not stub.twins
    assert all(answer == answers[0] for answer in answers) and answers[0] is not answers[1]
    assert sorted((usage.calls, usage.cached) for usage in usages) == [(0, 1)] * 4 + [(1, 0)]


def test_one_who_goes_does_not_end_the_call_of_the_others(home: Path, stub: StubJudge) -> None:
    stub.latency = 0.3

    async def two(runtime: JudgeRuntime) -> Any:
        first = asyncio.ensure_future(ask(runtime))
        await asyncio.sleep(0.1)
        second = asyncio.ensure_future(ask(runtime))
        await asyncio.sleep(0.1)
        first.cancel()
        return await second

    assert isinstance(run(settings_of(home, stub.url), two), dict) and stub.calls == 1


@pytest.mark.slow
def test_a_deadline_of_one_is_not_that_of_the_others(home: Path, stub: StubJudge) -> None:
    stub.latency = 1.5

    async def two(runtime: JudgeRuntime) -> list[Any]:
        return await asyncio.gather(ask(runtime, deadline=0.1), ask(runtime, deadline=30))

    error, answer = run(settings_of(home, stub.url), two)
    assert error.details["reason"] == "deadline" and isinstance(answer, dict) and stub.calls == 1


def test_a_call_that_nobody_waits_for_ends(home: Path, stub: StubJudge) -> None:
    stub.faults = Faults(hang=1)

    async def story(runtime: JudgeRuntime) -> Any:
        task = asyncio.ensure_future(ask(runtime))
        while not stub.calls:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        stub.faults = Faults()
        return await ask(runtime)

    answer = run(settings_of(home, stub.url, judge={"concurrency": 1}), story)
    assert isinstance(answer, dict) and stub.calls == 2


def test_a_failure_is_told_to_all_who_wait_and_is_not_kept() -> None:
    async def story() -> None:
        flights: Flights[int] = Flights()
        calls = 0

        async def fails() -> int:
            nonlocal calls
            calls += 1
            await asyncio.sleep(0.01)
            raise ValueError("no")

        found = await asyncio.gather(*(flights.join(b"k", fails) for _ in range(3)), return_exceptions=True)
        assert [str(each) for each in found] == ["no"] * 3 and calls == 1
        assert not flights.is_under_way(b"k")

    asyncio.run(story())


# --- many -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_with_many_faults_all_answers_come(home: Path, stub: StubJudge) -> None:
    stub.faults = Faults(rate_limited=0.1, truncated=0.05, wrong_schema=0.02, server_error=0.03)
    stub.retry_after = "0"
    usage = Usage()

    def answer(asked: str, schema: Mapping[str, Any]) -> Any:
        return {"verdict": len(asked) % 2 == 0, "reason": "it is"}

    stub.answer = answer

    async def many(runtime: JudgeRuntime) -> list[Any]:
        return await asyncio.gather(*(ask(runtime, f"{number}?", usage=usage) for number in range(100)))

    answers = run(settings_of(home, stub.url), many)
    assert [answer for answer in answers if not isinstance(answer, dict)] == []
    assert usage.calls == stub.statuses.count(200) > 100 and 429 in stub.statuses
