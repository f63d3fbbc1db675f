"""What may be spent: by a job, by a caller today, by all today, also in several processes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings
from autoscorer.core.errors import AutoScorerError, ErrorCode, Stage
from autoscorer.scorers.judge.budget import Budget, Spend
from autoscorer.scorers.judge.runtime import JudgeRuntime
from autoscorer.scorers.judge.usage import Usage

from ...support.judges import SCHEMA, ask, prompt, run, settings_of
from ...support.stub_judge import Faults, StubJudge
from ...support.stub_judge import stub as stub

FREE = {"price": {"prompt": 0}}
PRICE = {"price": {"prompt": 1_000_000, "completion": 1_000_000}}  # 1 for each token
# Tokens of one answered call of the stub to these questions, at least and at most.
FEW, MANY = 5, 40

SPENDER = """
import asyncio, sys
from pathlib import Path
from autoscorer.scorers.judge.budget import Spend
from autoscorer.scorers.judge.usage import Usage

async def spend():
    file = Spend(Path(sys.argv[1]))
    for number in range(100):
        await file.add(sys.argv[2], Usage(calls=1, prompt_tokens=2, completion_tokens=1, cost=0.5))
    await file.close()

asyncio.run(spend())
"""


def exceeded(error: Any, budget: str) -> dict[str, Any]:
    assert isinstance(error, AutoScorerError), error
    assert (error.code, error.stage) == (ErrorCode.BUDGET_EXCEEDED, Stage.SCORING)
    assert error.details["budget"] == budget and f"judge.budget.{budget}" in error.message
    assert error.details["spent"] >= error.details["limit"]
    # What all together have spent is not for whoever reads the reason of a metric.
    assert (f"{error.details['spent']:,.6g} of " in error.message) == (not budget.startswith(("tokens", "cost")))
    return error.details


async def one_by_one(runtime: JudgeRuntime, number: int = 12, start: int = 0, **session: Any) -> list[Any]:
    """Answers and errors of one job's questions."""
    judge = runtime.session(**session).judge
    assert judge is not None
    found: list[Any] = []
    for each in range(start, start + number):
        try:
            found.append(await judge.ask(prompt(f"{each}?"), SCHEMA, usage=Usage()))
        except AutoScorerError as error:
            found.append(error)
    return found


@pytest.mark.parametrize("budget", ["job_tokens", "job_cost"])
def test_a_job_stops_when_its_budget_is_used_up(home: Path, stub: StubJudge, budget: str) -> None:
    settings = settings_of(home, stub.url, judge=PRICE, embeddings=FREE, budget={budget: 60})
    found = run(settings, one_by_one)
    answered = [each for each in found if isinstance(each, dict)]
    assert 60 / MANY <= len(answered) == stub.calls < 12
    details = exceeded(found[-1], budget)
    assert 60 <= details["spent"] < 60 + MANY and details["limit"] == 60


def test_each_job_has_a_budget_of_its_own(home: Path, stub: StubJudge) -> None:
    settings = settings_of(home, stub.url, budget={"job_tokens": 1})

    async def two(runtime: JudgeRuntime) -> list[Any]:
        return [await one_by_one(runtime, 2), await one_by_one(runtime, 2, start=2)]

    for first, second in run(settings, two):
        assert isinstance(first, dict)
        exceeded(second, "job_tokens")


def test_what_an_earlier_attempt_spent_counts(home: Path, stub: StubJudge) -> None:
    budget = Budget(tokens=100, spent=Usage(calls=3, prompt_tokens=90, completion_tokens=10))
    error = run(settings_of(home, stub.url), lambda runtime: ask(runtime, budget=budget))
    exceeded(error, "job_tokens")
    assert stub.calls == 0


def test_a_budget_of_nothing_allows_nothing_but_what_is_there_already(home: Path, stub: StubJudge) -> None:
    run(settings_of(home, stub.url), ask)
    settings = settings_of(home, stub.url, budget={"tokens_per_day": 0})
    assert isinstance(run(settings, ask), dict)
    exceeded(run(settings, lambda runtime: ask(runtime, "Another?")), "tokens_per_day")
    assert stub.calls == 1


def test_calls_that_wait_for_a_place_are_held_to_it_too(home: Path, stub: StubJudge) -> None:
    settings = settings_of(home, stub.url, judge={"concurrency": 2}, budget={"job_tokens": 60})

    async def at_once(runtime: JudgeRuntime) -> tuple[list[Any], Budget]:
        session = runtime.session()
        assert session.judge is not None
        asked = (session.judge.ask(prompt(f"{each}?"), SCHEMA, usage=Usage()) for each in range(30))
        return await asyncio.gather(*asked, return_exceptions=True), session.budget

    found, budget = run(settings, at_once)
    # Those that were under way when it was met are finished, and no others begun.
    assert budget.spent.calls == stub.calls and 60 <= budget.spent.tokens < 60 + 2 * MANY
    assert len([each for each in found if isinstance(each, dict)]) == stub.calls


def test_tries_again_are_held_to_it_too(home: Path, stub: StubJudge) -> None:
    stub.faults = Faults(truncated=1)
    error = run(settings_of(home, stub.url, budget={"job_tokens": 1}), ask)
    exceeded(error, "job_tokens")
    assert stub.calls == 1


@pytest.mark.parametrize(
    ("budget", "stops"),
    [
        ("caller_tokens_per_day", False),
        ("caller_cost_per_day", False),
        ("tokens_per_day", True),
        ("cost_per_day", True),
    ],
)
def test_a_day_has_a_budget_over_jobs_processes_and_callers(
    home: Path, stub: StubJudge, budget: str, stops: bool
) -> None:
    settings = settings_of(home, stub.url, judge=PRICE, embeddings=FREE, budget={budget: FEW})
    assert isinstance(run(settings, lambda runtime: ask(runtime, "One?", caller="a")), dict)
    exceeded(run(settings, lambda runtime: ask(runtime, "Two?", caller="a")), budget)
    other = run(settings, lambda runtime: ask(runtime, "Three?", caller="b"))
    if stops:
        exceeded(other, budget)
    else:
        assert isinstance(other, dict)


def test_another_caller_whose_budget_is_left_asks_for_itself(home: Path, stub: StubJudge) -> None:
    stub.latency = 0.2
    settings = settings_of(home, stub.url, budget={"job_tokens": 1000})

    async def two(runtime: JudgeRuntime) -> list[Any]:
        spent = Budget(tokens=1, spent=Usage(prompt_tokens=1))
        return await asyncio.gather(ask(runtime, budget=spent), ask(runtime))

    first, second = run(settings, two)
    exceeded(first, "job_tokens")
    assert isinstance(second, dict)


@pytest.mark.slow
def test_each_answered_call_is_counted_once(home: Path, stub: StubJudge) -> None:
    stub.faults = Faults(rate_limited=0.3, truncated=0.2)
    stub.retry_after = "0"
    usage = Usage()

    async def many(runtime: JudgeRuntime) -> None:
        jobs = (ask(runtime, f"{each % 10}?", usage=usage, caller="a") for each in range(20))
        await asyncio.gather(*jobs)

    run(settings_of(home, stub.url, judge=PRICE), many)
    calls, tokens, cost, unknown = asyncio.run(today(home, "a"))
    assert (calls, tokens, unknown) == (usage.calls, usage.tokens, 0) and calls == stub.statuses.count(200)
    assert cost == pytest.approx(usage.cost)


def test_two_processes_count_right_together(home: Path) -> None:
    file = home / "judge-spend.sqlite3"
    started = [subprocess.Popen([sys.executable, "-c", SPENDER, str(file), name]) for name in ("a", "a", "b")]
    assert [process.wait(300) for process in started] == [0, 0, 0]
    assert asyncio.run(today(home, "a")) == (200, 600, 100.0, 0)
    assert asyncio.run(today(home, None)) == (300, 900, 150.0, 0)


def test_a_file_of_costs_that_can_not_be_used_is_told_without_a_path(home: Path, stub: StubJudge) -> None:
    (home / "judge-spend.sqlite3").mkdir()
    error = run(settings_of(home, stub.url), ask)
    assert error.code is ErrorCode.INTERNAL_ERROR and "judge-spend.sqlite3 in the home can't be used" in error.message
    assert str(home) not in str(error.to_dict())


def test_what_has_no_known_cost_is_counted_as_that(home: Path, stub: StubJudge) -> None:
    run(settings_of(home, stub.url), ask)
    calls, tokens, cost, unknown = asyncio.run(today(home, ""))
    assert (calls, cost, unknown) == (1, 0.0, 1) and tokens > 0


@pytest.mark.parametrize("budget", ["job_cost", "caller_cost_per_day", "cost_per_day"])
def test_a_budget_of_money_is_refused_where_no_price_is_known(home: Path, stub: StubJudge, budget: str) -> None:
    settings = settings_of(home, stub.url, budget={budget: 1})
    error = refused(settings)
    assert (error.code, error.stage) == (ErrorCode.INVALID_REQUEST, Stage.CONFIG)
    assert "set judge.profiles.main.price (0 for a model that costs nothing)" in error.message
    assert (
        "set embeddings.profiles.main.price"
        in refused(settings_of(home, stub.url, judge=PRICE, budget={budget: 1})).message
    )


def test_so_is_that_of_one_job(home: Path, stub: StubJudge) -> None:
    assert "judge.profiles.main.price" in refused(settings_of(home, stub.url), budget=Budget(cost=1)).message


def test_no_budget_holds_where_a_server_does_not_report_tokens(home: Path, stub: StubJudge) -> None:
    stub.tells_usage = False
    first, second = run(
        settings_of(home, stub.url, budget={"job_tokens": 10**6}), lambda runtime: one_by_one(runtime, 2)
    )
    assert isinstance(first, dict)
    assert (second.code, second.details["reason"]) == (ErrorCode.JUDGE_ERROR, "budget")
    without = run(settings_of(home, stub.url), lambda runtime: one_by_one(runtime, 3, start=5))
    assert all(isinstance(each, dict) for each in without)


def refused(settings: Settings, **session: Any) -> AutoScorerError:
    async def begin(runtime: JudgeRuntime) -> AutoScorerError:
        with pytest.raises(AutoScorerError) as caught:
            runtime.session(**session)
        return caught.value

    return run(settings, begin)


async def today(home: Path, caller: str | None) -> tuple[int, int, float, int]:
    spend = Spend(home / "judge-spend.sqlite3")
    found = await spend.today(caller)
    await spend.close()
    return found
