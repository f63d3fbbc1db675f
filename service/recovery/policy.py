"""What is to be done with a flow run, as a pure function of what is known of it.

The table is the whole of the policy; ``recover`` and ``reconcile`` find out, ask, and act.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ..prefect.client import FINAL

__all__ = ["ENDED", "Claimed", "Patience", "Situation", "Verdict", "WorkerState", "decide"]

# Never changed by anyone. A crashed run is not: it may be put back.
ENDED = FINAL - {"CRASHED"}
# A worker that is there may have its reasons: as many times ``stuck_after`` does it get for the start of a process, and
# for what takes longer (an image that is pulled, a pod that waits for a node).
_FOR_PROCESS, _FOR_OTHERS = 5, 30


class Claimed(StrEnum):
    """What a run's claim says of the worker of ours that has it."""

    NONE = "none"
    ALIVE = "alive"
    DEAD = "dead"
    # On another host, or in another container.
    OUT_OF_SIGHT = "out of sight"


class WorkerState(StrEnum):
    """The plain Prefect worker that took a run, by the label it lays on it."""

    UNKNOWN = "unknown"
    ONLINE = "online"
    OFFLINE = "offline"


class Verdict(StrEnum):
    """What to do."""

    LEAVE = "leave"
    # Its containers, staged folders and claim go; what Prefect says of it is right.
    CLEAR = "clear"
    # Prefect is told the ending that was saved.
    TELL = "tell"
    # It goes back into its queue, or ends when that was done often enough.
    REQUEUE = "requeue"
    CANCEL = "cancel"
    # Prefect does not know it: nothing of it is needed but an ending.
    FORGET = "forget"


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long what is waited for."""

    # Seconds that nobody may have worked on a run (service.stuck_after).
    stuck: float
    # Seconds that a crashed run's own worker has to clear up after it.
    crashed: float = 5.0
    # Seconds after which a workspace that is still held keeps nothing waiting any more (security.limits.timeout).
    longest: float = 24 * 3600.0


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What is known of a run.

    ``state`` is the type of Prefect's state, None where Prefect does not know the run; ``seconds`` is its age.
    ``ending`` is the age in seconds of the ending that was saved by this attempt, None where there is none. ``busy``
    says that somebody holds the run's workspace.
    """

    state: str | None
    seconds: float = 0.0
    claim: Claimed = Claimed.NONE
    ending: float | None = None
    busy: bool = False
    # Whether it came from a deployment; nobody would take up another one.
    deployed: bool = True
    worker: WorkerState = WorkerState.UNKNOWN
    # Whether the pool's runs are processes of the worker, and whether the run's container or pod exists by now.
    process_pool: bool = True
    infrastructure: bool = False


def decide(run: Situation, patience: Patience) -> Verdict:
    """Say what to do with a run.

    Args:
        run: What is known of it.
        patience: How long what is waited for.
    """
    if run.claim in (Claimed.ALIVE, Claimed.OUT_OF_SIGHT):
        return Verdict.LEAVE  # whoever has it ends it, or dies
    dead = run.claim is Claimed.DEAD
    if run.state is None:
        return Verdict.FORGET if dead else Verdict.LEAVE
    if run.state in ENDED:
        return Verdict.CLEAR if dead else Verdict.LEAVE
    if run.ending is not None and run.state not in ("SCHEDULED", "PAUSED"):
        # Without a claim its process may be about to say so itself.
        return Verdict.TELL if dead or run.state == "CRASHED" or run.ending >= patience.stuck else Verdict.LEAVE
    match run.state:
        case "SCHEDULED" | "PAUSED":
            return Verdict.CLEAR if dead else Verdict.LEAVE
        case "CANCELLING":
            return Verdict.CANCEL if dead or run.seconds >= patience.stuck else Verdict.LEAVE
        case "PENDING":
            lost = dead or run.seconds >= _start_patience(run, patience)
        case "RUNNING":
            lost = dead  # without a claim its heartbeats tell, by making it CRASHED
        case "CRASHED":
            if not dead and not run.deployed:
                return Verdict.LEAVE  # a run of somebody's own process (--track); Crashed is how it ended
            lost = dead or run.seconds >= patience.crashed
        case _:
            return Verdict.LEAVE
    if not lost:
        return Verdict.LEAVE
    # Its process may be dying still, or was taken for dead and is not: never two at once on one workspace.
    if run.busy and run.seconds < patience.longest:
        return Verdict.LEAVE
    return Verdict.REQUEUE


def _start_patience(run: Situation, patience: Patience) -> float:
    if run.worker is not WorkerState.ONLINE:
        return patience.stuck
    if run.process_pool:
        return patience.stuck * _FOR_PROCESS
    # What exists will start some day, and a second one beside it would be worse than waiting.
    return float("inf") if run.infrastructure else patience.stuck * _FOR_OTHERS
