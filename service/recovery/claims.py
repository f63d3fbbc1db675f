"""Who took a flow run, in the words of its PENDING state: Prefect keeps them, whatever is lost on the worker's host."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from ...core.processes import ProcessIdentity
from ..prefect.client import PrefectApi
from ..prefect.model import FINAL_TYPES

__all__ = ["WorkerIdentity", "claim_flow_run", "claim_message", "parse_claim"]

_MESSAGE = re.compile(r"Taken by (?P<name>.+) \((?P<owner>[^()]+)\)\.", re.DOTALL)


class WorkerIdentity(NamedTuple):
    """A worker of ours: the name it has in Prefect, and its process."""

    name: str
    owner: ProcessIdentity


def claim_message(worker: WorkerIdentity) -> str:
    """What a worker proposes PENDING with."""
    return f"Taken by {worker.name} ({worker.owner.text})."


def parse_claim(message: Any) -> WorkerIdentity | None:
    """Which worker of ours wrote a state's message; None for another's."""
    found = _MESSAGE.fullmatch(message) if isinstance(message, str) else None
    return WorkerIdentity(found["name"], ProcessIdentity(found["owner"])) if found else None


async def claim_flow_run(prefect: PrefectApi, flow_run_id: str, message: str) -> bool:
    """Make a run that is due this worker's, if it still is to be had.

    Prefect refuses PENDING to a run that another worker has taken, but not to one that the other has completed
    meanwhile: a list of due runs that is a moment old would start a quick run once more.

    Returns:
        Whether it is ours now.
    """
    before = await prefect.flow_run(flow_run_id)
    if before is None or before["state"]["type"] != "SCHEDULED":
        return False
    accepted, _ = await prefect.set_state(flow_run_id, "PENDING", message=message)
    if not accepted:
        return False
    after = await prefect.flow_run(flow_run_id)
    if after is None or after["run_count"] == before["run_count"]:
        return after is not None
    # Another worker began and ended it in between, and ours was the last word. Its ending stands.
    endings = [state for state in await prefect.states(flow_run_id) if state["type"] in FINAL_TYPES]
    if endings:
        last = endings[-1]
        await prefect.set_state(flow_run_id, last["type"], name=last["name"], message=last["message"], force=True)
    return False
