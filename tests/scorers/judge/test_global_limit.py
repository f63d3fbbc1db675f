"""A global concurrency limit of Prefect holds over hosts: each of them is a home of its own here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings
from autoscorer.core.errors import AutoScorerError, ErrorCode, Stage
from autoscorer.scorers.judge.runtime import open_judges

from ...support.judges import ask, settings_of
from ...support.ports import free_port
from ...support.prefect_server import PrefectServer, eventually
from ...support.prefect_server import server as server
from ...support.stub_judge import StubJudge
from ...support.stub_judge import stub as stub

pytestmark = pytest.mark.prefect


@pytest.fixture
def limit(server: PrefectServer) -> Iterator[str]:
    """One of three slots."""
    name = "judge-of-all"
    made = server.call("POST", "/v2/concurrency_limits/", {"name": name, "limit": 3, "active": True})
    yield name
    server.call("DELETE", f"/v2/concurrency_limits/{made['id']}")


def host(folder: Path, server_url: str, stub: StubJudge, limit: str, **section: Any) -> Settings:
    folder.mkdir()
    judge = {"concurrency": 16, "global_limit": limit}
    settings = settings_of(folder, stub.url, judge=judge, **section)
    return settings.model_copy(update={"prefect": settings.prefect.model_copy(update={"api_url": server_url})})


async def many(settings: Settings, whose: str, number: int = 10) -> list[Any]:
    async with open_judges(settings) as runtime:
        return await asyncio.gather(*(ask(runtime, f"{whose} {each}?") for each in range(number)))


def test_no_more_calls_are_under_way_than_all_hosts_together_may_have(
    tmp_path: Path, server: PrefectServer, stub: StubJudge, limit: str
) -> None:
    stub.latency = 0.2
    hosts = [host(tmp_path / name, server.api_url, stub, limit) for name in ("one", "other")]

    async def together() -> list[list[Any]]:
        return await asyncio.gather(*(many(settings, settings.home.name) for settings in hosts))

    answers = asyncio.run(together())
    assert all(isinstance(answer, dict) for each in answers for answer in each)
    assert stub.calls == 20 and 2 <= stub.most <= 3
    # Each host gives back what it has when it is done.
    eventually(lambda: server.call("GET", f"/v2/concurrency_limits/{limit}")["active_slots"] == 0, within=300)


def test_slots_that_nobody_uses_go_back_while_the_process_lives(
    tmp_path: Path, server: PrefectServer, stub: StubJudge, limit: str
) -> None:
    settings = host(tmp_path / "one", server.api_url, stub, limit)

    def slots() -> int:
        found: int = server.call("GET", f"/v2/concurrency_limits/{limit}")["active_slots"]
        return found

    async def story() -> tuple[int, int]:
        async with open_judges(settings) as runtime:
            await ask(runtime, "One?")
            used = await asyncio.to_thread(slots)
            await asyncio.to_thread(eventually, lambda: slots() == 0, within=300)
            await ask(runtime, "Two?")
            return used, await asyncio.to_thread(slots)

    assert asyncio.run(story()) == (1, 1)


def test_a_limit_that_there_is_not_is_said_and_nothing_is_asked(
    tmp_path: Path, server: PrefectServer, stub: StubJudge
) -> None:
    (error,) = asyncio.run(many(host(tmp_path / "one", server.api_url, stub, "nobody made it"), "?", 1))
    assert isinstance(error, AutoScorerError)
    assert (error.code, error.stage) == (ErrorCode.INVALID_REQUEST, Stage.CONFIG)
    assert "prefect gcl create" in error.message and stub.calls == 0


def test_while_prefects_server_is_away_calls_wait_until_their_deadline(
    tmp_path: Path, stub: StubJudge, caplog: pytest.LogCaptureFixture
) -> None:
    away = f"http://127.0.0.1:{free_port()}/api"
    errors = asyncio.run(many(host(tmp_path / "one", away, stub, "judge", deadline=1.5), "?", 3))
    assert [error.details["reason"] for error in errors] == ["deadline"] * 3 and stub.calls == 0
    assert [record.message for record in caplog.records].count(
        "Calls to judges wait for Prefect's server, which does not answer. It gives slots of 'judge'."
    ) == 1
