"""What anybody may ask: whether tasks can be worked on, and nothing of how the host is set up."""

from __future__ import annotations

import asyncio
import logging
import socket
from pathlib import Path

import pytest
from autoscorer.core.config import load_settings
from autoscorer.service.prefect.client import PrefectApi
from autoscorer.service.readiness import Readiness

from ..support.ledger import opened


def test_an_engine_that_is_not_there_is_told_without_where_it_was_looked_for(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = home / "hidden" / "docker.sock"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")

    async def look() -> str:
        settings = load_settings()
        async with PrefectApi(settings) as prefect, opened(settings) as ledger:
            view = await Readiness(settings, prefect, ledger).look()
        assert view.ledger.state == "ok"
        assert view.executors["docker"].state == "unavailable"
        return view.model_dump_json()

    with caplog.at_level(logging.WARNING, "autoscorer"):
        told = asyncio.run(look())
    assert not any(word in told for word in ("hidden", ".sock", "Errno"))
    assert "No such file" in caplog.text


@pytest.mark.slow
def test_whether_tasks_are_accepted_is_told_while_prefects_server_hangs(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask(port: int) -> None:
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{port}/api")
        settings = load_settings()
        async with PrefectApi(settings) as prefect, opened(settings) as ledger:
            readiness = Readiness(settings, prefect, ledger)
            whole = asyncio.create_task(readiness.look())
            accepts = await readiness.accepts()
            assert accepts.ready and accepts.ledger.state == "ok"
            assert not whole.done()
            assert (await whole).server.state == "unavailable"

    with socket.create_server(("127.0.0.1", 0)) as silent:
        asyncio.run(ask(silent.getsockname()[1]))
