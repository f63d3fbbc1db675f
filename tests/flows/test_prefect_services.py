"""What Prefect does in the background of this process ends with the test that ran a flow here.

Its connection for events is pinged every few seconds, with a number from the generator that all of Python shares.
Hypothesis minds whoever draws from it while it makes up examples, so another file's test would fail, now and then.
"""

from __future__ import annotations

import asyncio

import pytest

from ..support.prefect_server import PrefectServer, eventually, server

__all__ = ["server"]

pytestmark = pytest.mark.prefect


def _pinged() -> list[str]:
    """What keeps a connection alive in the loop that Prefect runs in a thread of this process."""
    from prefect._internal.concurrency.threads import get_global_loop

    tasks = asyncio.all_tasks(get_global_loop()._loop)
    return [name for task in tasks if "keepalive" in (name := task.get_coro().__qualname__)]  # type: ignore[union-attr]


def test_a_flow_run_here_keeps_a_connection_to_the_server(server: PrefectServer) -> None:
    from prefect import flow

    @flow
    def nothing() -> None:
        """Only its events matter."""

    nothing()
    eventually(_pinged)


def test_and_it_does_so_no_longer_than_its_test() -> None:
    assert not _pinged()
