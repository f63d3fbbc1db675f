"""What is known of a flow run beyond Prefect: who has it, how far it is, how it ended.

It lies in the home, as ``core/flowruns.py`` writes it. Where hosts share a ledger, their homes are their own, and a
worker says the same in the ledger. There it has a run for a time only, and renews that: a worker that is silent for
longer is dead, or as good as dead, and another one takes its run. An attempt's number tells whose word counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Self, TypeVar, cast

from ..core.config import Settings
from ..core.errors import AutoScorerError, ErrorCode
from ..core.flowruns import Claim, FlowRunFiles
from ..core.processes import ProcessIdentity
from .ledger.flow_runs import KnownRun
from .ledger.ledger import Ledger
from .workspaces.redaction import PathRedactor

__all__ = ["CLAIM", "FlowRuns", "LedgerAway", "RunProgress"]

Json = dict[str, Any]
T = TypeVar("T")

# Seconds for which a worker has its runs, counted from when it last said that it lives.
CLAIM = 60.0


class LedgerAway(AutoScorerError):
    """The ledger's database does not answer; ask again later."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.BACKEND_UNAVAILABLE, "The ledger's database does not answer.")


@dataclass(frozen=True)
class RunProgress:
    """How far a flow run is: its stage, and how many of a batch's workspaces have ended."""

    stage: str | None = None
    done: int = 0
    total: int | None = None


class FlowRuns:
    """Says and asks what there is to know of flow runs.

    Every method that asks a shared ledger raises ``LedgerAway`` while that does not answer.

    Args:
        settings: Of this host.
        ledger: The installation's; None where this process has none open, because it is a file of the API's.
    """

    def __init__(self, settings: Settings, ledger: Ledger | None = None) -> None:
        self.settings = settings
        # The ledger that hosts share, where they do.
        self.ledger = ledger if ledger is not None and ledger.is_shared else None
        # An API knows the paths of its own host alone. Workspaces have the same ones everywhere.
        self._redact = PathRedactor([(root, str(root)) for root in settings.workspace_roots], settings)

    @classmethod
    @asynccontextmanager
    async def opened(cls, settings: Settings) -> AsyncIterator[Self]:
        """For a process that is no API: its ledger is opened where it is one that hosts share.

        Raises:
            AutoScorerError: As ``Ledger.open``.
        """
        if not settings.has_shared_ledger:
            yield cls(settings)
            return
        ledger = await Ledger.open(settings)
        try:
            yield cls(settings, ledger)
        finally:
            await ledger.close()

    @property
    def is_shared(self) -> bool:
        """Whether other hosts may have the installation's runs."""
        return self.ledger is not None

    def files(self, flow_run_id: str) -> FlowRunFiles:
        """What lies of a run in this home. Raises ``ValueError``."""
        return FlowRunFiles(self.settings.home, flow_run_id)

    # --- a worker has it --------------------------------------------------------------------------------------

    async def take(self, flow_run_id: str, owner: ProcessIdentity, name: str) -> int | None:
        """Have a run for ``CLAIM`` seconds; the attempt's number, None while another worker has the run."""
        assert self.ledger is not None
        return await _answered(self.ledger.take_run(flow_run_id, owner.text, name, CLAIM))

    async def renew(self, owner: ProcessIdentity) -> dict[str, int]:
        """Have every run of a worker for another ``CLAIM`` seconds; those that it has, with their attempts' numbers."""
        assert self.ledger is not None
        return await _answered(self.ledger.renew_runs(owner.text, CLAIM))

    async def wanted_cancelled(self, flow_run_ids: Collection[str]) -> list[str]:
        """Those of these runs that somebody has cancelled."""
        assert self.ledger is not None
        return await _answered(self.ledger.wanted_cancelled(flow_run_ids))

    async def note_stage(self, flow_run_id: str, attempt: int, stage: str | None, total: int | None) -> None:
        """Say to other hosts what an attempt is doing."""
        assert self.ledger is not None
        await _answered(self.ledger.note_stage(flow_run_id, attempt, stage, total))

    async def add_members(self, flow_run_id: str, attempt: int, first: int, outcomes: list[Json]) -> None:
        """Say to other hosts what became of a batch's workspaces, from the number ``first`` on."""
        assert self.ledger is not None
        await _answered(self.ledger.add_members(flow_run_id, attempt, first, self._redact(outcomes)))

    async def is_current(self, claim: Claim | None, flow_run_id: str) -> bool:
        """Whether it is still for the holder of a claim to say what becomes of a run: it is no other attempt's."""
        if self.ledger is None:
            return True
        known = await self.known_run(flow_run_id)
        if claim is None or claim.attempt is None:
            return known is None or known.remaining is None or known.remaining < 0
        return known is not None and known.attempt == claim.attempt

    async def is_held(self, flow_run_id: str) -> bool:
        """Whether somebody works on a run, as far as is known."""
        files = self.files(flow_run_id)
        known = await self.known_run(flow_run_id)
        if known is not None and known.remaining is not None:
            return known.remaining >= 0
        claim = await asyncio.to_thread(files.read_claim)
        return claim is not None and not await asyncio.to_thread(files.is_lost, claim)

    async def release(self, flow_run_id: str, claim: Claim | None) -> None:
        """Nobody has the run any more. Another's claim stays: whoever takes the run next lays its own at once."""
        if claim is None:
            return
        await asyncio.to_thread(self.files(flow_run_id).release, claim)
        if self.ledger is not None and claim.attempt is not None:
            await _answered(self.ledger.release_run(flow_run_id, claim.attempt))

    # --- its worker is lost -----------------------------------------------------------------------------------

    async def known(self, flow_run_ids: Collection[str]) -> dict[str, KnownRun]:
        """What the workers said of runs, whatever host they are on; nothing where hosts share no ledger."""
        if self.ledger is None or not flow_run_ids:
            return {}
        return await _answered(self.ledger.known_runs(flow_run_ids))

    async def known_run(self, flow_run_id: str) -> KnownRun | None:
        """The same of one run; None where no worker said anything."""
        return (await self.known([flow_run_id])).get(flow_run_id)

    async def take_over(self, run: KnownRun) -> Claim | None:
        """Take a run from a worker that was silent for too long; None where it has spoken since."""
        assert self.ledger is not None
        attempt = await _answered(self.ledger.take_over_run(run.flow_run_id, run.attempt))
        if attempt is None:
            return None
        return Claim(ProcessIdentity(run.worker or ""), name=run.worker_name, attempt=attempt)

    async def fetch(self, flow_run_id: str) -> None:
        """Lay into this home what attempts on other hosts have left, for who goes on with the run or ends it."""
        known = await self.known_run(flow_run_id)
        if known is None or self.ledger is None:
            return
        outcomes = await _answered(self.ledger.members(flow_run_id)) if known.done else []
        await asyncio.to_thread(_lay, self.files(flow_run_id), known, outcomes)

    # --- how it ended -----------------------------------------------------------------------------------------

    async def publish_outcome(self, flow_run_id: str, claim: Claim | None) -> Json | None:
        """How a run ended, once all hosts can read it; None where nobody has said so.

        What this home has saved is the outcome, unless it comes too late: another attempt's then.
        """
        files = self.files(flow_run_id)
        own = await asyncio.to_thread(files.read_outcome)
        if self.ledger is None:
            return own
        if own is not None:
            own = cast(Json, self._redact(own))
            if claim is not None and claim.attempt is not None:
                kept = await _answered(self.ledger.keep_outcome(flow_run_id, claim.attempt, own))
            else:
                kept = await _answered(self.ledger.end_by_force(flow_run_id, own))
            if kept:
                return own
            await asyncio.to_thread(files.forget_outcome)
        return await _answered(self.ledger.run_outcome(flow_run_id))

    async def outcome(self, flow_run_id: str) -> Json | None:
        """How a run ended, as its worker saved it."""
        found = await _answered(self.ledger.run_outcome(flow_run_id)) if self.ledger is not None else None
        return found if found is not None else await asyncio.to_thread(self.files(flow_run_id).read_outcome)

    # --- for people -------------------------------------------------------------------------------------------

    async def progress(self, flow_run_ids: Collection[str]) -> Mapping[str, RunProgress]:
        """How far runs are."""
        known = await self.known(flow_run_ids)
        found = {run.flow_run_id: RunProgress(run.stage, run.done, run.total) for run in known.values()}
        rest = [each for each in flow_run_ids if each not in found]
        if rest:
            found |= await asyncio.to_thread(lambda: {each: _progress(self.files(each)) for each in rest})
        return found

    async def members(self, flow_run_id: str) -> list[Json]:
        """What became of the workspaces of a batch so far."""
        if self.ledger is not None and (found := await _answered(self.ledger.members(flow_run_id))):
            return found
        return await asyncio.to_thread(self.files(flow_run_id).member_outcomes)

    async def members_mark(self, flow_run_id: str) -> tuple[int, int] | None:
        """What is another one when more is known of a batch's workspaces; None where nothing is."""
        if (known := await self.known_run(flow_run_id)) is not None and known.done:
            return known.attempt, known.done
        return await asyncio.to_thread(self.files(flow_run_id).journal_identity)


def _progress(files: FlowRunFiles) -> RunProgress:
    total = files.read_total()
    done = 0 if total is None else _members_of(files.folder, files.journal_identity())
    return RunProgress(files.read_stage(), done, total)


@lru_cache(maxsize=256)
def _members_of(folder: Path, journal: tuple[int, int] | None) -> int:
    """How many outcomes a batch's journal holds; they may be thousands, and are read again only when they grow."""
    return 0 if journal is None else len(FlowRunFiles(folder.parent.parent, folder.name).member_outcomes())


def _lay(files: FlowRunFiles, known: KnownRun, outcomes: list[Json]) -> None:
    if known.total is not None:
        files.set_total(known.total)
    if outcomes:
        files.keep_member_outcomes(outcomes)
    if known.stage is not None:
        files.set_stage(known.stage)


async def _answered(asked: Awaitable[T]) -> T:
    try:
        return await asked
    except AutoScorerError as error:
        if error.code is ErrorCode.BACKEND_UNAVAILABLE:
            raise LedgerAway() from None
        raise
