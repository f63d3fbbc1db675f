"""What is to be done with a flow run, as a pure function of what is known of it.

This is the whole of the policy: ``observations`` finds out, ``transitions.apply`` acts.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from ...core.config import Settings
from ..prefect.model import SETTLED_TYPES, StateType

__all__ = ["ClaimStatus", "RecoveryAction", "RunObservation", "Timeouts", "WorkerState", "decide"]

# A worker that is there may have its reasons: as many times ``stuck_after`` does it get for the start of a process, and
# for what takes longer (an image that is pulled, a pod that waits for a node).
_FOR_PROCESS, _FOR_OTHERS = 5, 30


class ClaimStatus(StrEnum):
    """What a run's claim says of the worker of ours that has it."""

    NONE = "none"
    ALIVE = "alive"
    DEAD = "dead"
    # On another host, or in another container.
    OUT_OF_SIGHT = "out of sight"
    # Its worker said for too long nothing, wherever it is: dead, or as good as dead.
    EXPIRED = "expired"
    # Prefect says that it runs, and hosts say in their ledger that the last one of them has let go of it.
    RELEASED = "released"


class WorkerState(StrEnum):
    """The plain Prefect worker that took a run, by the label it lays on it."""

    UNKNOWN = "unknown"
    ONLINE = "online"
    OFFLINE = "offline"


class RecoveryAction(StrEnum):
    """What to do."""

    LEAVE = "leave"
    # Its containers, staged folders and claim go; what Prefect says of it is right.
    CLEAR = "clear"
    # Prefect is told the outcome that was saved.
    REPORT = "report"
    # It goes back into its queue, or ends when that was done often enough.
    REQUEUE = "requeue"
    CANCEL = "cancel"
    # Prefect does not know it: nothing of it is needed but an outcome.
    FORGET = "forget"


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """How long what is waited for."""

    # Seconds that nobody may have worked on a run (service.stuck_after).
    stuck: float
    # Seconds that a crashed run's own worker has to clear up after it.
    crashed: float = 5.0
    # Seconds after which a workspace that is still held keeps nothing waiting any more (security.limits.timeout).
    longest: float = 24 * 3600.0

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """As configured."""
        stuck = settings.service.stuck_after
        return cls(stuck=stuck, crashed=min(cls.crashed, stuck), longest=settings.security.limits.timeout)


@dataclass(frozen=True, kw_only=True)
class RunObservation:
    """What is known of a run.

    ``state`` is the type of Prefect's state, None where Prefect does not know the run; ``seconds`` is its age.
    ``outcome_age`` is the age in seconds of the outcome that was saved by this attempt, None without one. ``busy``
    says that somebody holds the run's workspace.
    """

    state: StateType | None
    seconds: float = 0.0
    claim: ClaimStatus = ClaimStatus.NONE
    outcome_age: float | None = None
    busy: bool = False
    # Whether somebody was cancelling it when it crashed.
    cancelling: bool = False
    # Whether it came from a deployment; nobody would take up another one.
    deployed: bool = True
    worker: WorkerState = WorkerState.UNKNOWN
    # Whether the pool's runs are processes of the worker, and whether the run's container or pod exists by now.
    process_pool: bool = True
    infrastructure: bool = False


def decide(run: RunObservation, timeouts: Timeouts) -> RecoveryAction:
    """Say what to do with a run."""
    if run.claim in (ClaimStatus.ALIVE, ClaimStatus.OUT_OF_SIGHT):
        return RecoveryAction.LEAVE  # whoever has it ends it, or dies
    dead = run.claim in (ClaimStatus.DEAD, ClaimStatus.EXPIRED)
    if run.state is None:
        return RecoveryAction.FORGET if dead else RecoveryAction.LEAVE
    if run.state in SETTLED_TYPES:
        return RecoveryAction.CLEAR if dead else RecoveryAction.LEAVE
    if run.outcome_age is not None and run.state not in ("SCHEDULED", "PAUSED"):
        # Without a claim its process may be about to say so itself.
        return (
            RecoveryAction.REPORT
            if dead or run.state == "CRASHED" or run.outcome_age >= timeouts.stuck
            else RecoveryAction.LEAVE
        )
    match run.state:
        case "SCHEDULED" | "PAUSED":
            return RecoveryAction.CLEAR if dead else RecoveryAction.LEAVE
        case "CANCELLING":
            return RecoveryAction.CANCEL if dead or run.seconds >= timeouts.stuck else RecoveryAction.LEAVE
        case "PENDING":
            lost = dead or run.seconds >= _start_timeout(run, timeouts)
        case "RUNNING":
            # Without a claim its heartbeats tell, by making it CRASHED. A worker that stood still before it began may
            # say that it begins after another host has put the run back: then nobody has it, and nothing beats.
            lost = dead or (run.claim is ClaimStatus.RELEASED and run.seconds >= timeouts.stuck)
        case "CRASHED":
            if not dead and not run.deployed:
                return RecoveryAction.LEAVE  # a run of somebody's own process (--track); Crashed is how it ended
            lost = dead or run.seconds >= timeouts.crashed
        case _:
            return RecoveryAction.LEAVE
    if not lost:
        return RecoveryAction.LEAVE
    if run.cancelling:
        return RecoveryAction.CANCEL
    # Its process may be dying still, or was taken for dead and is not: never two at once on one workspace.
    if run.busy and run.seconds < timeouts.longest:
        return RecoveryAction.LEAVE
    return RecoveryAction.REQUEUE


def _start_timeout(run: RunObservation, timeouts: Timeouts) -> float:
    if run.worker is not WorkerState.ONLINE:
        return timeouts.stuck
    if run.process_pool:
        return timeouts.stuck * _FOR_PROCESS
    # What exists will start some day, and a second one beside it would be worse than waiting.
    return float("inf") if run.infrastructure else timeouts.stuck * _FOR_OTHERS
