"""Waits grow from attempt to attempt up to a limit, and a loop goes on whatever happens in it."""

from __future__ import annotations

import asyncio
import logging
from itertools import islice
from typing import Any

import pytest
from autoscorer.core.backoff import delay, delays, periodic
from autoscorer.core.errors import AutoScorerError, ErrorCode
from hypothesis import given
from hypothesis import strategies as st


class Away(AutoScorerError):
    def __init__(self, why: str) -> None:
        super().__init__(ErrorCode.BACKEND_UNAVAILABLE, why)


def test_a_wait_doubles_up_to_its_limit() -> None:
    assert [delay(attempt, 0.5, 5.0) for attempt in range(1, 7)] == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    assert delay(3, 10.0) == 40.0
    assert list(islice(delays(0.5, 5.0), 6)) == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    assert list(islice(delays(9.0, 5.0), 2)) == [5.0, 5.0]


@given(
    attempt=st.integers(1, 10**9),
    first=st.floats(0.001, 1e3),
    longest=st.floats(0.001, 1e6),
    factor=st.floats(1.0, 10.0),
)
def test_no_wait_is_longer_than_the_limit_or_shorter_than_the_one_before(
    attempt: int, first: float, longest: float, factor: float
) -> None:
    wait = delay(attempt, first, longest, factor=factor)
    assert 0 < wait <= longest
    assert wait <= delay(attempt + 1, first, longest, factor=factor)


@given(first=st.floats(0.001, 1e3), longest=st.floats(0.001, 1e3), factor=st.sampled_from([1.5, 2.0, 3.0]))
def test_the_generator_gives_the_waits_of_the_formula(first: float, longest: float, factor: float) -> None:
    expected = [delay(attempt, first, longest, factor=factor) for attempt in range(1, 9)]
    assert list(islice(delays(first, longest, factor=factor), 8)) == pytest.approx(expected)


async def _run_until(done: asyncio.Event, *args: Any, **more: Any) -> None:
    task = asyncio.create_task(periodic(*args, **more))
    async with asyncio.timeout(300):
        await done.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.slow
def test_a_fault_is_logged_and_the_loop_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        done, calls = asyncio.Event(), []

        async def look() -> None:
            calls.append(1)
            if len(calls) == 1:
                raise RuntimeError("a fault of ours")
            done.set()

        await _run_until(done, "tests", look, 0.0)

    asyncio.run(work())
    assert "the loop tests failed and goes on" in caplog.text and "a fault of ours" in caplog.text


def test_that_something_is_away_is_said_once_each_time_it_goes(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        done, answers = asyncio.Event(), [Away("1"), Away("2"), None, Away("3"), None]

        async def look() -> None:
            answer = answers.pop(0)
            if not answers:
                done.set()
            if answer is not None:
                raise answer

        await _run_until(done, "tests", look, 0.0, away=Away, when_away="Waiting", pauses=(0.001, 0.002))

    caplog.set_level(logging.WARNING)
    asyncio.run(work())
    assert [record.getMessage() for record in caplog.records] == ["Waiting: 1", "Waiting: 3"]


def test_a_loop_waits_for_as_long_as_it_was_told_and_is_woken_before_that() -> None:
    async def work() -> list[int]:
        done, woken, pauses = asyncio.Event(), asyncio.Event(), [3600.0, 0.0, None]
        asked: list[int] = []

        async def look() -> float | None:
            asked.append(1)
            if len(asked) == 1:
                asyncio.get_running_loop().call_later(0.01, woken.set)
            if len(asked) == 3:
                done.set()
            return pauses[len(asked) - 1]

        await _run_until(done, "tests", look, 3600.0, woken=woken)
        return asked

    assert len(asyncio.run(work())) == 3
