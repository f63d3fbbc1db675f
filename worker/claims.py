"""The runs of a worker in a ledger that hosts share: had for a time, renewed, and told of to the others.

A worker that can't renew its claims ends its work before they are over, because another worker may have the runs then.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from ..core.flowruns import FlowRunFiles
from ..core.processes import ProcessIdentity
from ..service.flow_runs import CLAIM, FlowRuns, LedgerAway
from .run import WorkerRun

__all__ = ["Claims"]

logger = logging.getLogger(__name__)

# Seconds between two looks, between two renewals, and before the end of its claims in which a worker ends its work; and
# for an answer of the database.
_LOOK, _RENEW, _MARGIN, _PATIENCE = 1.0, 10.0, 15.0, 8.0


@dataclass
class _Told:
    """What other hosts know of a run's progress."""

    stage: str | None = None
    total: int | None = None
    journal: tuple[int, int] | None = None
    members: int = 0


@dataclass(eq=False)
class Claims:
    """Keeps the runs of a worker its own, and tells of them.

    Args:
        runs: The installation's.
        owner: The worker.
        ours: Gives its runs.
    """

    runs: FlowRuns
    owner: ProcessIdentity
    ours: Callable[[], Collection[WorkerRun]]
    _told: dict[tuple[str, int], _Told] = field(default_factory=dict)
    _renewed_at: float = field(default_factory=lambda: _now())
    _renew_next: float = float("-inf")
    _is_away: bool = False

    @property
    def are_reachable(self) -> bool:
        """Whether more runs may be taken: not while nobody could be told of them."""
        return not self._is_away

    async def watch(self) -> None:
        """End the work on every run whose claim is about to end, again and again; asks nobody."""
        while True:
            await asyncio.sleep(_LOOK)
            if _now() - self._renewed_at > CLAIM - _MARGIN:
                for run in self.ours():
                    if run.attempt is not None:
                        run.lose()

    async def look(self) -> None:
        """Renew the claims where it is time, hear of runs that were cancelled, tell how far each is."""
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._look()
        except (LedgerAway, TimeoutError):
            if not self._is_away:
                logger.warning("The ledger's database does not answer. No more runs are taken until it does.")
            self._is_away = True
        else:
            if self._is_away:
                logger.info("The ledger's database answers again.")
            self._is_away = False
        await asyncio.sleep(_LOOK)

    async def _look(self) -> None:
        if self._is_away or _now() >= self._renew_next:
            await self._renew()
        ours = {run.id: run for run in self.ours() if run.attempt is not None}
        if ours:
            for flow_run_id in await self.runs.wanted_cancelled(list(ours)):
                ours[flow_run_id].cancel()
            for run in ours.values():
                await self._tell(run)
        known = {(run.id, run.attempt) for run in ours.values()}
        self._told = {key: told for key, told in self._told.items() if key in known}

    async def _renew(self) -> None:
        asked = _now()
        # Before the database is asked: one that is taken meanwhile is not among those that it names.
        ours = [(run, run.attempt) for run in self.ours() if run.attempt is not None]
        had = await self.runs.renew(self.owner)
        self._renewed_at, self._renew_next = asked, asked + _RENEW
        for run, attempt in ours:
            if had.get(run.id) != attempt and not run.is_settled:
                run.lose()

    async def _tell(self, run: WorkerRun) -> None:
        assert run.attempt is not None
        told = self._told.setdefault((run.id, run.attempt), _Told())
        files = self.runs.files(run.id)
        stage, total = await asyncio.to_thread(_progress, files)
        if (stage, total) != (told.stage, told.total):
            await self.runs.note_stage(run.id, run.attempt, stage, total)
            told.stage, told.total = stage, total
        if total is not None:
            await self._tell_members(run.id, run.attempt, files, told)

    async def _tell_members(self, flow_run_id: str, attempt: int, files: FlowRunFiles, told: _Told) -> None:
        journal = await asyncio.to_thread(files.journal_identity)
        if journal is None or journal == told.journal:
            return
        # A journal that was begun anew has another inode, and fewer lines perhaps.
        is_same = told.journal is not None and told.journal[0] == journal[0]
        outcomes = await asyncio.to_thread(files.member_outcomes)
        first = told.members if is_same else 0
        await self.runs.add_members(flow_run_id, attempt, first, outcomes[first:])
        told.journal, told.members = journal, len(outcomes)


def _progress(files: FlowRunFiles) -> tuple[str | None, int | None]:
    return files.read_stage(), files.read_total()


def _now() -> float:
    # Goes on while the machine sleeps.
    return time.clock_gettime(time.CLOCK_BOOTTIME)
