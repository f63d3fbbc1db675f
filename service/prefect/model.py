"""What Prefect's REST API answers, as far as the service reads it; and the one table of what is ours in Prefect."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict, overload

from ...schemas.task import Action, Priority

__all__ = [
    "AWAITING_RETRY",
    "AWAITING_ROOM",
    "DEPLOYMENTS",
    "DIRECT_FLOWS",
    "ENGINE_FLOWS",
    "FINAL_TYPES",
    "FLOW_NAMES",
    "JOURNALED_FLOWS",
    "JUDGED_FLOWS",
    "PLAIN_NAMES",
    "QUEUES",
    "SETTLED_TYPES",
    "Deployment",
    "FlowRun",
    "Json",
    "Queue",
    "State",
    "StateType",
    "seconds_of",
]

Json = dict[str, Any]

StateType = Literal[
    "SCHEDULED", "PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED", "CRASHED", "PAUSED", "CANCELLING"
]
# Final for Prefect; and final for us as well, who may put a crashed run back.
FINAL_TYPES: frozenset[StateType] = frozenset({"COMPLETED", "FAILED", "CANCELLED", "CRASHED"})
SETTLED_TYPES: frozenset[StateType] = FINAL_TYPES - {"CRASHED"}
# Names of states in which a run waits for another attempt: so many times was it put back; and in which it waits for
# room on a disk, which may take days and costs none of its attempts.
AWAITING_RETRY, AWAITING_ROOM = "AwaitingRetry", "AwaitingRoom"
# Names that Prefect gives the states of a run that goes its plain way; their messages say nothing.
PLAIN_NAMES = frozenset({"Scheduled", "Late", "Pending", "Running"})


class State(TypedDict):
    """A state of a flow run; times are ISO 8601."""

    id: str
    type: StateType
    name: str
    message: str | None
    timestamp: str
    state_details: NotRequired[Json | None]


class FlowRun(TypedDict):
    """A flow run; the client leaves out those that are being deleted and have no state any more."""

    id: str
    name: str
    flow_id: str
    deployment_id: str | None
    idempotency_key: str | None
    state: State
    run_count: int
    parameters: Json | None
    labels: Json | None
    created: str
    expected_start_time: str | None
    start_time: str | None
    end_time: str | None
    auto_scheduled: bool
    infrastructure_pid: str | None
    work_pool_name: str | None
    work_queue_name: str | None


class Deployment(NamedTuple):
    """One of our deployments, as prefect.yaml has it.

    ``action`` is what its runs do, ``flow`` and ``name`` what Prefect calls its flow and itself. The plain function of
    a ``direct`` one runs in the worker's child, that of a ``judged`` one in the process that asks the worker's judges;
    Prefect's engine runs the others.
    """

    action: Action
    flow: str
    name: str
    entrypoint: str
    direct: bool = False
    judged: bool = False


DEPLOYMENTS = (
    Deployment("validate", "validate-only", "validate", "autoscorer.flows.pipeline.validate_only", direct=True),
    Deployment("run", "run-only", "run", "autoscorer.flows.pipeline.run_only"),
    Deployment("score", "score-only", "score", "autoscorer.flows.pipeline.score_only", direct=True),
    Deployment("pipeline", "pipeline", "pipeline", "autoscorer.flows.pipeline.pipeline"),
    Deployment("pipeline", "evaluate", "evaluate", "autoscorer.flows.evaluate.evaluate"),
    Deployment("batch", "batch", "batch", "autoscorer.flows.batch.batch"),
    Deployment("rag-score", "rag-score", "rag-score", "autoscorer.flows.rag_score.rag_score", judged=True),
    # A schedule starts it, and no task of ours; its runs are tasks all the same.
    Deployment("batch", "batch", "nightly-batch", "autoscorer.flows.batch.batch"),
)
FLOW_NAMES = tuple(dict.fromkeys(each.flow for each in DEPLOYMENTS))
# By entrypoint: what a worker's child runs itself, what its judges' process does, what is left to Prefect's engine.
DIRECT_FLOWS = {each.entrypoint: each.action for each in DEPLOYMENTS if each.direct}
JUDGED_FLOWS = frozenset(each.entrypoint for each in DEPLOYMENTS if each.judged)
ENGINE_FLOWS = frozenset(each.entrypoint for each in DEPLOYMENTS if not (each.direct or each.judged))
# Of which a second attempt goes on where the first one ended, by what that has noted.
JOURNALED_FLOWS = frozenset(each.entrypoint for each in DEPLOYMENTS if each.action in ("batch", "rag-score"))


class Queue(NamedTuple):
    """A queue of every work pool of ours; ``rank`` is its priority in Prefect, 1 is served first."""

    name: str
    rank: int


QUEUES: dict[Priority, Queue] = {"high": Queue("high", 1), "normal": Queue("default", 2), "low": Queue("low", 3)}


@overload
def seconds_of(time: str) -> float: ...
@overload
def seconds_of(time: None) -> None: ...
@overload
def seconds_of(time: str | None) -> float | None: ...
def seconds_of(time: str | None) -> float | None:
    """A time of Prefect's as seconds since the epoch; None stays None."""
    return None if time is None else datetime.fromisoformat(time).timestamp()
