"""Flow runs of our deployments that came to Prefect without us become tasks, too.

A schedule makes them, ``prefect deployment run``, or somebody in Prefect's own page.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError

from ...core.backoff import periodic
from ...core.errors import AutoScorerError
from ...core.submissions import SUBMISSIONS
from ...schemas.rag import RequestSummary, ScoreRequest
from ...schemas.task import Action, Priority
from ..ledger.ledger import Ledger
from ..ledger.records import NewTask
from ..ledger.task_ids import is_task_id, new_task_id
from ..policy import Subject
from ..prefect.client import PrefectApi, PrefectAway
from ..prefect.model import FINAL_TYPES, QUEUES, SETTLED_TYPES, FlowRun, Json, seconds_of
from ..workspaces.ownership import in_common, subject_of_item
from ..workspaces.roots import WorkspaceRoots
from .deployments import DeploymentIds
from .follower import Follower

__all__ = ["Adopter"]

_LOOK = 3.0
# Seconds that are looked at again, because a run may appear a little later than it says.
_OVERLAP = timedelta(seconds=5)
# Everything is looked at again so often: a run may be made with a time that has passed.
_WHOLE = timedelta(seconds=60)
_PRIORITIES: dict[str, Priority] = {queue.name: priority for priority, queue in QUEUES.items()}


@dataclass(eq=False)
class Adopter:
    """Looks for such flow runs; the follower is told of those that were taken in."""

    roots: WorkspaceRoots
    ledger: Ledger
    prefect: PrefectApi
    ids: DeploymentIds
    follower: Follower
    _since: datetime | None = None
    _whole_at: datetime | None = None

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        await periodic("adopt", self.look, _LOOK, away=PrefectAway, pauses=(_LOOK, _LOOK))

    async def look(self) -> None:
        """Take in what has come since the last look.

        Raises:
            PrefectAway: The server does not answer.
        """
        actions = await self.ids.all()
        if not actions:
            return
        now = datetime.now(UTC)
        if self._since is not None and now < self._since:  # the clock was put back
            self._since, self._whole_at = now, None
        whole = self._whole_at is None or now - self._whole_at > _WHOLE
        # What ended before this ledger first looked is history, and Prefect has it.
        since = self._since or now
        # Scheduled runs may be there long before they are due; until then a schedule may take them back.
        due: Json = {"before_": now.isoformat()}
        if not whole:
            due["after_"] = (since - _OVERLAP).isoformat()
        for states, more in (
            (["PENDING", "RUNNING", "CANCELLING", "PAUSED"], {}),
            (["SCHEDULED"], {"expected_start_time": due}),
            (sorted(FINAL_TYPES), {"end_time": {"after_": (since - _OVERLAP).isoformat()}}),
        ):
            wanted = {"deployment_id": {"any_": list(actions)}, "state": {"type": {"any_": states}}, **more}
            await self._take_in(wanted, actions)
        self._since = now
        self._whole_at = now if whole else self._whole_at

    async def _take_in(self, wanted: Json, actions: dict[str, Action]) -> None:
        async for runs in self.prefect.flow_run_pages(wanted):
            unknown = [run for run in runs if not await self.ledger.known_flow_run(run["id"])]
            new = [run for run in unknown if not await self._is_ours(run)]
            if new:
                tasks = [await asyncio.to_thread(self._task, run, actions[str(run["deployment_id"])]) for run in new]
                await self.follower.follow(await self.ledger.adopt(tasks))

    async def _is_ours(self, run: FlowRun) -> bool:
        """Whether it was made for a task of the ledger: one just handed over, or one that was given up since."""
        task_id = _task_id(run)
        row = await self.ledger.find(task_id) if task_id else None
        if row is None:
            return False
        if row.is_final and run["state"]["type"] not in SETTLED_TYPES:
            # A request that got no answer has reached Prefect after all.
            await self.prefect.set_state(run["id"], "CANCELLING", message="Its task has ended.")
        return True

    def _task(self, run: FlowRun, action: Action) -> NewTask:
        parameters: Json = run["parameters"] or {}
        priority = _PRIORITIES.get(run.get("work_queue_name") or "", "normal")
        created = seconds_of(run["created"]) or 0.0
        if run.get("auto_scheduled"):
            # It was there hours before it was due, and has waited from then on.
            created = max(created, seconds_of(run["expected_start_time"]) or 0.0)
        request: Json = {key: parameters.get(key) for key in ("scorer", "params", "backend") if parameters.get(key)}
        request["priority"] = priority
        path, subject = None, Subject()
        if action == "batch":
            items = parameters.get("workspaces")
            subject = replace(self._whose(items if isinstance(items, list) else []), team=None)
            request["workspaces"] = [self.roots.redact(str(item)) for item in items] if isinstance(items, list) else []
            request |= {key: parameters[key] for key in ("action", "concurrency") if parameters.get(key)}
        elif action == "rag-score":
            request |= _asked(parameters.get("request"))
        else:
            path, name = self._place(parameters.get("workspace"))
            if (submissions := _submissions_of(parameters)) is not None:  # it makes its workspace, in this folder
                name = self._place(submissions)[1]
            request |= {"action": action, "workspace": name}
            subject = self._whose([parameters.get("workspace"), submissions])
            if parameters.get("purpose"):
                request["for"] = parameters["purpose"]
        # One that was made for a task of a ledger that is gone keeps that task's id.
        task_id = _task_id(run)
        scorer = parameters.get("scorer")
        return NewTask(
            id=task_id or new_task_id(created),
            caller="prefect",
            action=action,
            subject=run["id"],
            workspace=path,
            scorer=scorer if isinstance(scorer, str) else None,
            priority=priority,
            request=request,
            parameters=parameters,
            created_at=created,
            origin="prefect",
            flow_run_id=run["id"],
            benchmark=subject.benchmark,
            team=subject.team,
        )

    def _whose(self, items: list[Any]) -> Subject:
        """Whose the workspaces are: of what lies elsewhere nobody's."""
        found = set()
        for item in items:
            if isinstance(item, str) and item and "\0" not in item:
                with contextlib.suppress(AutoScorerError):
                    found.add(subject_of_item(self.roots, item))
        return in_common(found)

    def _place(self, workspace: Any) -> tuple[str | None, str]:
        """The folder, and what it is called. Such a run may work outside of the roots; its folder's name must do."""
        text = workspace if isinstance(workspace, str) and "\0" not in workspace else ""
        path = os.path.realpath(text) if os.path.isabs(text) else None
        try:
            return path, self.roots.name(path) if path else self.roots.redact(text)
        except AutoScorerError:
            return path, os.path.basename(text.rstrip("/"))


def _submissions_of(parameters: Json) -> str | None:
    """Where the submissions lie that a run makes, or works on: those of a benchmark, or of one team to it."""
    benchmark, team = parameters.get("benchmark"), parameters.get("team")
    if not isinstance(benchmark, str):
        return None
    return os.path.join(benchmark, SUBMISSIONS, team if isinstance(team, str) else "")


def _asked(request: Any) -> Json:
    """The summary of a request for one answer; of one that is wrong its flow run says what is wrong."""
    try:
        asked = ScoreRequest.model_validate(request)
    except ValidationError:
        return {}
    return RequestSummary.of(asked, asked.metrics or []).model_dump(mode="json")


def _task_id(run: FlowRun) -> str | None:
    task_id = (run.get("idempotency_key") or "").partition(":")[0]
    return task_id if is_task_id(task_id) and (run.get("labels") or {}).get("autoscorer.task") == task_id else None
