"""The leaderboard that an organiser shows to anybody, without a token.

It is the one that a token sees which is of no team: rounded, frozen and by the Ladder where benchmark.json says so,
with the names that ``visibility`` allows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from pydantic import BaseModel, ConfigDict, Field

from ...core.benchmark import BenchmarkFolder
from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode
from ...schemas.benchmark import Benchmark, Board, Phase
from ..disclosure import Disclosure
from ..policy import Caller
from ..workspaces.roots import WorkspaceRoots
from .board import BoardView, Part, leaderboard
from .catalogue import WithheldView, benchmark_named, view_benchmark

__all__ = ["PublicBoardView", "PublicBoards"]

# Seconds that a board is shown before it is made anew: whoever asks without a token must cost little.
_KEPT = 10.0
_STRANGER = Caller("public", "submit")


class PublicBoardView(BaseModel):
    """A benchmark as anybody may see it, and its leaderboard."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="Its path below the workspace roots.")
    title: str | None = None
    description: str | None = None
    phases: list[Phase] = Field(default_factory=list)
    is_open: bool = Field(description="Whether submissions are taken at this moment.")
    leaderboard: Board
    withheld: WithheldView | None = Field(None, description="Null where no part is withheld.")
    board: BoardView


class PublicBoards:
    """The public leaderboards under the workspace roots.

    Args:
        settings: The configuration.
        roots: The workspace roots.
        clock: Seconds, monotonic.
    """

    def __init__(self, settings: Settings, roots: WorkspaceRoots, clock: Callable[[], float] = time.monotonic) -> None:
        # As to a team: what `api.show_errors` shows to all tokens is for nobody without one.
        self._disclosure = Disclosure(settings, _STRANGER.role, team="")
        self._roots, self._clock = roots, clock
        self._kept: dict[tuple[str, Part], tuple[float, Benchmark, BoardView]] = {}
        self._making = asyncio.Lock()

    async def look(self, name: str, part: Part) -> PublicBoardView:
        """A public leaderboard; who asks at the same time waits for the one that is being made.

        Args:
            name: The benchmark's.
            part: Which scores.

        Raises:
            AutoScorerError: ``BENCHMARK_NOT_FOUND`` where there is none, or it is not public; as ``leaderboard``.
        """
        folder, spec = await asyncio.to_thread(self._public, name)
        view = await asyncio.to_thread(view_benchmark, self._roots, folder, _STRANGER)
        async with self._making:
            until, rules, board = self._kept.get((view.name, part), (0.0, None, None))
            # What an organiser has changed of the rules holds at once.
            if board is None or rules != spec or until <= self._clock():
                board = await asyncio.to_thread(
                    leaderboard, folder, spec, view.name, _STRANGER, part, self._disclosure.number
                )
                self._kept[view.name, part] = (self._clock() + _KEPT, spec, board)
        told = {key: getattr(view, key) for key in ("name", "title", "description", "phases", "is_open", "withheld")}
        return PublicBoardView(**told, leaderboard=spec.leaderboard, board=board)

    def _public(self, name: str) -> tuple[BenchmarkFolder, Benchmark]:
        # Whether there is such a benchmark is as little known without a token as what it is about.
        hidden = AutoScorerError(
            ErrorCode.BENCHMARK_NOT_FOUND,
            f"There is no public leaderboard of {name[:200]!r}. Its organiser makes it public by leaderboard.public in "
            "benchmark.json; with a token, GET /benchmarks lists what it may see.",
        )
        try:
            folder = benchmark_named(self._roots, name)
            spec = folder.read()
        except AutoScorerError:
            raise hidden from None
        if not spec.leaderboard.public:
            raise hidden
        return folder, spec
