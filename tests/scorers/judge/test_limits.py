"""How many calls are under way: in a process, in all processes of a home, and after one of them was killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.core.locks import is_locked
from autoscorer.scorers.judge.limits import Places
from autoscorer.scorers.judge.runtime import JudgeRuntime

from ...support.judges import ask, run, settings_of
from ...support.stub_judge import StubJudge
from ...support.stub_judge import stub as stub

PATIENCE = 300.0

HOLDER = """
import asyncio, sys
from pathlib import Path
from autoscorer.scorers.judge.limits import Places

async def hold():
    places = Places(Path(sys.argv[1]), "judge.main", 2)
    await places.take(), await places.take()
    print("holds", flush=True)
    if sys.argv[2] == "waits":
        await places.take()
    await asyncio.sleep(3600)

asyncio.run(hold())
"""


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not done():
            await asyncio.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("profile", "total", "most"), [(3, 64, 3), (16, 2, 2)])
def test_no_more_calls_are_under_way_than_a_profile_and_all_together_may_have(
    home: Path, stub: StubJudge, profile: int, total: int, most: int
) -> None:
    stub.latency = 0.2

    async def many(runtime: JudgeRuntime) -> list[Any]:
        return await asyncio.gather(*(ask(runtime, f"{number}?") for number in range(12)))

    answers = run(settings_of(home, stub.url, judge={"concurrency": profile}, concurrency=total), many)
    assert all(isinstance(answer, dict) for answer in answers)
    assert stub.most == most


def test_who_came_first_is_asked_for_first(home: Path, stub: StubJudge) -> None:
    async def many(runtime: JudgeRuntime) -> None:
        await asyncio.gather(*(ask(runtime, f"{number}?") for number in range(8)))

    run(settings_of(home, stub.url, judge={"concurrency": 1}, cache=0), many)
    assert [body["messages"][1]["content"] for body in stub.bodies] == [f"{number}?" for number in range(8)]


def test_a_place_is_kept_for_a_moment_and_then_free_for_others(tmp_path: Path) -> None:
    async def story() -> None:
        places = Places(tmp_path, "p", 1)
        file = tmp_path / "p~0"
        place = await places.take()
        places.give(place)
        assert is_locked(file)
        assert await places.take() == place
        places.give(place)
        await until(lambda: not is_locked(file))
        assert (await places.take()).number == 0
        places.give(place)
        places.close()
        assert not is_locked(file)

    asyncio.run(story())


def test_two_processes_have_the_places_in_common_and_both_get_on(tmp_path: Path) -> None:
    # Two that lock files of their own are to each other what two processes are.
    async def story() -> None:
        both = [Places(tmp_path, "p", 2) for _ in range(2)]
        busy, most, done = 0, 0, [0, 0]

        async def work(which: int) -> None:
            nonlocal busy, most
            while done[1 - which] < 5 or done[which] < 5:  # the busy one may not keep all for itself
                place = await both[which].take()
                busy += 1
                most = max(most, busy)
                await asyncio.sleep(0.02)
                busy -= 1
                done[which] += 1
                both[which].give(place)

        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(work(which) for which in (0, 0, 0, 1, 1, 1)))
        for places in both:
            places.close()
        assert most <= 2 and min(done) >= 5
        assert not list((tmp_path / "waiting").iterdir())

    asyncio.run(story())


@pytest.mark.parametrize("state", ["holds", "waits"])
def test_kill_9_of_a_process_frees_its_places_and_its_wish_for_more(tmp_path: Path, state: str) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path), state]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "holds\n"

        async def story() -> None:
            places = Places(tmp_path, "judge.main", 2)
            waiting = asyncio.ensure_future(places.take())
            await until(lambda: len(list((tmp_path / "waiting").glob("*"))) == (2 if state == "waits" else 1))
            assert not waiting.done()
            os.kill(holder.pid, signal.SIGKILL)
            async with asyncio.timeout(PATIENCE):
                one, other = await waiting, await places.take()
            # The mark of the dead one is found to be nobody's, and keeps nothing from being kept.
            await asyncio.sleep(0.3)
            places.give(one)
            places.give(other)
            assert await places.take() in (one, other)
            assert not list((tmp_path / "waiting").iterdir())
            places.close()

        asyncio.run(story())


def test_whoever_gives_up_waiting_keeps_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        places = Places(tmp_path, "p", 1)
        place = await places.take()
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await places.take()
        places.give(place)
        async with asyncio.timeout(PATIENCE):
            assert await places.take() == place
        places.close()

    asyncio.run(story())


def test_a_home_that_can_not_be_written_is_told(home: Path, stub: StubJudge) -> None:
    (home / "judge-slots").write_text("in the way")
    error = run(settings_of(home, stub.url, cache=0), ask)
    assert isinstance(error, AutoScorerError) and error.code is ErrorCode.INVALID_REQUEST
    assert stub.calls == 0


def test_calls_that_follow_each_other_open_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda *a, **k: (opened.append(a), real(*a, **k))[1])

    async def story() -> None:
        places = Places(tmp_path, "p", 4)
        started = time.monotonic()
        for _ in range(100):
            places.give(await places.take())
        # A look for others who wait is a scan, and opens nothing where nobody does.
        if time.monotonic() - started < 0.2:
            assert len(opened) == 1
        places.close()

    asyncio.run(story())
