"""A leaderboard that is shown without a token costs little, however often it is asked for."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from autoscorer.service.benchmarks.public import PublicBoards
from autoscorer.service.workspaces.roots import WorkspaceRoots

from ..support.benchmarks import change_spec, rows, submit, write_benchmark
from ..support.facade import facade_settings


def test_it_is_made_anew_every_ten_seconds_at_most_and_at_once_when_its_rules_change(tmp_path: Path) -> None:
    flowers = write_benchmark(tmp_path, leaderboard={"public": True})
    submit(flowers, rows("xyxx"))
    settings = facade_settings(tmp_path)
    now = 100.0
    boards = PublicBoards(settings, WorkspaceRoots(settings), clock=lambda: now)

    async def scores(part: str = "public") -> list[float]:
        return [row["score"] for row in (await boards.look("flowers", part)).board.rows]  # type: ignore[arg-type]

    async def work() -> None:
        nonlocal now
        assert await asyncio.gather(*(scores() for _ in range(8))) == [[0.75]] * 8
        await asyncio.to_thread(submit, flowers, rows("xyxy"))
        now += 9.0
        assert await scores() == [0.75]
        now += 1.0
        assert await scores() == [1.0]
        await asyncio.to_thread(submit, flowers, rows("xyxy"), team="team-b")
        change_spec(flowers, title="Other rules")
        assert await scores() == [1.0, 1.0]

    asyncio.run(work())


@pytest.mark.parametrize("change", [{"leaderboard": {}}, {"leaderboard": {"public": True}, "scorer": ""}])
def test_one_that_is_public_no_more_is_not_there(tmp_path: Path, change: dict[str, object]) -> None:
    flowers = write_benchmark(tmp_path, leaderboard={"public": True})
    settings = facade_settings(tmp_path)

    async def work() -> None:
        boards = PublicBoards(settings, WorkspaceRoots(settings))
        assert (await boards.look("flowers", "public")).board.rows == []
        change_spec(flowers, **change)
        with pytest.raises(Exception, match="There is no public leaderboard of 'flowers'"):
            await boards.look("flowers", "public")

    asyncio.run(work())
