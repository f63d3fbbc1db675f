"""From the ledger to Prefect: every accepted task becomes a flow run, once.

The ledger notes that Prefect is about to be told before it is told, so that a task which is cancelled in between is
never started unseen, and an idempotency key makes telling it twice the same as telling it once.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from dataclasses import dataclass, field
from itertools import groupby

from ...core.backoff import periodic
from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode
from ...core.flowruns import wake
from ...schemas.task import Action
from ..ledger.ledger import Ledger
from ..ledger.records import TaskEnd, TaskRow
from ..prefect.client import PrefectApi, PrefectAway, PrefectRefused
from ..prefect.model import QUEUES, Json
from .deployments import DeploymentIds, deployment_for
from .follower import Follower

__all__ = ["Dispatcher"]

logger = logging.getLogger(__name__)

# Flow runs in one request. It is one transaction of Prefect's, and with SQLite everybody else waits for it: 25 take a
# quarter of a second, and cost hardly more each than 100 would. Fewer while Prefect's database is busy, because all of
# a request may be in vain.
_BULK, _BULK_BUSY = 25, 3
# Seconds until the next look when nobody wakes us, and between two attempts when Prefect is away.
_LOOK, _FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 0.2, 5.0
# The same where other processes accept tasks too, who can't wake us.
_LOOK_FOR_OTHERS = 0.5
# Seconds until a deployment that was missing is looked for again.
_MISSING = 3.0
# Seconds for which Prefect may answer one task with a fault of its own, and take others meanwhile, before the task is
# given up; and seconds until such a task, which holds up the others, is tried again.
_HOPELESS, _REST = 3600.0, 60.0
_REFUSED = "Parameter validation failed"
# With SQLite, Prefect reads before it writes in one transaction, and gives up at once when somebody else has written in
# between. The next attempt is as good as the first; only not all at the same moment again.
_BUSY, _BUSY_PAUSE = "database is locked", 0.2


class _Busy(Exception):
    """Prefect's database was written by somebody else at that moment."""


@dataclass(slots=True)
class _Strikes:
    """When Prefect's server failed on a task last, and the seconds for which it failed on that one alone."""

    last: float
    alone: float = 0.0
    rests_until: float = 0.0


@dataclass(eq=False)
class Dispatcher:
    """Tells Prefect of the ledger's tasks; the follower is told of those that have a flow run now, or ended instead."""

    settings: Settings
    ledger: Ledger
    prefect: PrefectApi
    ids: DeploymentIds
    follower: Follower
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _away: bool = False
    _bulk: int = _BULK
    _missing: dict[Action, float] = field(default_factory=dict)
    _strikes: dict[str, _Strikes] = field(default_factory=dict)
    # When Prefect took a task last.
    _took_at: float = float("-inf")

    def wake(self) -> None:
        """There is a task to tell of."""
        self._woken.set()

    async def run(self) -> None:
        """Tell Prefect of tasks, until cancelled."""
        await periodic(
            "dispatch",
            self._look,
            _LOOK,
            woken=self._woken,
            away=PrefectAway,
            when_away="Tasks are kept until Prefect is back",
            pauses=(_FIRST_PAUSE, _LONGEST_PAUSE),
        )

    async def _look(self) -> float:
        try:
            await self._all()
        except PrefectAway:
            self._away = True
            raise
        except _Busy:
            self._bulk = max(self._bulk // 3, _BULK_BUSY)
            await asyncio.sleep(random.uniform(0.02, _BUSY_PAUSE))  # noqa: S311 - not a secret
            return 0
        return min(_LOOK_FOR_OTHERS if self.ledger.is_shared else _LOOK, self._next_missing())

    async def _all(self) -> None:
        if self._away:
            # Before anything is claimed: what Prefect surely does not know of can be cancelled at once.
            await self.prefect.call("GET", "/ready")
        now = time.monotonic()
        self._missing = {action: until for action, until in self._missing.items() if until > now}
        while rows := await self.ledger.claim_undispatched(
            self._bulk, without=list(self._missing), resting=self._resting()
        ):
            for action, group in groupby(sorted(rows, key=lambda row: row.action), key=lambda row: row.action):
                await self._tell(action, list(group))
        if self._away:  # it answers, and could write
            logger.warning("Prefect is back.")
            self._away = False

    def _resting(self) -> list[str]:
        now = time.monotonic()
        return [task_id for task_id, strikes in self._strikes.items() if strikes.rests_until > now]

    def _next_missing(self) -> float:
        return max(min(self._missing.values(), default=float("inf")) - time.monotonic(), 0.1)

    async def _tell(self, action: Action, rows: list[TaskRow]) -> None:
        try:
            deployment = await self.ids.of(action)
        except PrefectAway:
            await self._unclaim(rows)
            raise
        if deployment is None:
            wanted = deployment_for(action)
            name = f"{wanted.flow}/{wanted.name}"
            logger.warning("Prefect has no deployment %s; `autoscorer deploy` makes it.", name)
            self._missing[action] = time.monotonic() + _MISSING
            await self._unclaim(rows, f"Waiting: Prefect has no deployment {name}; autoscorer deploy makes it.")
            return
        await self._create(action, deployment, rows)

    async def _create(self, action: Action, deployment: str, rows: list[TaskRow]) -> None:
        try:
            answers = await self.prefect.create_flow_runs(deployment, [_body(row) for row in rows])
        except PrefectRefused as error:
            if error.status == 404:
                self.ids.forget(action)  # and the next round looks it up
                await self._unclaim(rows)
            elif error.status in (401, 403):  # the fault of the installation and of no task
                await self._unclaim(rows)
                raise PrefectAway(self.prefect.url, f"status {error.status}") from None
            elif len(rows) > 1:
                await self._one_by_one(action, deployment, rows)
            else:
                await self._refuse(rows[0], error.message)
            return
        except PrefectAway as error:
            if error.details.get("why") == "status 500":
                if len(rows) > 1:
                    await self._one_by_one(action, deployment, rows)
                    return
                if await self._strike(rows[0], error.message):
                    return
            elif error.details.get("why") in ("ConnectError", "ConnectTimeout"):
                await self._unclaim(rows)
            raise
        await self._note(rows, answers)

    async def _one_by_one(self, action: Action, deployment: str, rows: list[TaskRow]) -> None:
        """What Prefect refuses as a whole, it may refuse for the sake of one."""
        away: PrefectAway | _Busy | None = None
        for row in rows:
            try:
                await self._create(action, deployment, [row])
            except (PrefectAway, _Busy) as error:
                away = error
        if away is not None:
            raise away

    async def _note(self, rows: list[TaskRow], answers: list[Json]) -> None:
        made = []
        failed: Exception | None = None
        if any(answer["status"] == "CREATED" for answer in answers):
            self._took_at = time.monotonic()
        for row, answer in zip(rows, answers, strict=True):
            if answer["status"] == "CREATED":
                made.append((row, answer["flow_run_id"]))
                self._strikes.pop(row.id, None)
            elif str(answer["error"]).startswith(_REFUSED):
                await self._refuse(row, answer["error"])
            elif _BUSY in str(answer["error"]):
                failed = failed or _Busy()
            elif not await self._strike(row, str(answer["error"])):
                failed = PrefectAway(self.prefect.url, "it could not store a flow run")
        if made:
            await self.ledger.dispatched(made)
            await self.follower.follow(row.id for row, _ in made)
            wake(self.settings.home)
            self._bulk = min(self._bulk * 2, _BULK)
        if failed is not None:
            raise failed

    async def _unclaim(self, rows: list[TaskRow], reason: str | None = None) -> None:
        # Of one that was claimed before, an earlier request may have reached Prefect.
        fresh = [row.id for row in rows if not row.dispatching]
        await self.follower.finish(await self.ledger.unclaim(fresh, reason))

    async def _strike(self, row: TaskRow, why: str) -> bool:
        """Note that the server failed on a task; whether that is the task's own fault, as far as can be seen.

        A server that can't write fails on every task, and none of them is to blame, however long it takes.
        """
        now = time.monotonic()
        strikes = self._strikes.setdefault(row.id, _Strikes(now))
        if self._took_at > strikes.last:
            strikes.alone += min(now - strikes.last, 2 * _REST)
        strikes.last = now
        if not strikes.alone:
            return False
        strikes.rests_until = now + _REST
        fields = {"fields": {"task_id": row.id}}
        logger.warning("Prefect's server fails on task %s, and takes others: %s", row.id, why[:1000], extra=fields)
        if strikes.alone >= _HOPELESS:
            del self._strikes[row.id]
            error = AutoScorerError(
                ErrorCode.INTERNAL_ERROR,
                "Prefect's server failed on this task again and again, and took others meanwhile. Submit it again; "
                "what the server answered is in the API's log.",
            )
            await self.follower.finish([TaskEnd.by(row.id, error)])
        return True

    async def _refuse(self, row: TaskRow, why: str) -> None:
        self._strikes.pop(row.id, None)
        error = AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            f"Prefect did not take the task: {why[:1000]}. Correct the request and submit it again; if the deployments "
            "were changed by hand, autoscorer deploy restores them.",
        )
        await self.follower.finish([TaskEnd.by(row.id, error)])


def _body(row: TaskRow) -> Json:
    parameters = json.loads(row.parameters)
    what = row.workspace or next(iter(parameters.get("workspaces") or [f"{row.action} {row.id[-8:]}"]))
    body: Json = {
        "idempotency_key": row.idempotency_key,
        "name": what.rstrip("/").rpartition("/")[2][:200] or row.action,
        "parameters": parameters,
        "tags": ["autoscorer", row.action],
        "labels": {"autoscorer.task": row.id},
    }
    if row.priority != "normal":
        # Looking a queue up takes Prefect time in which its transaction can fail; the deployment's own needs none.
        body["work_queue_name"] = QUEUES[row.priority].name
    if row.cancel_requested:
        # A request that got no answer may have made the flow run. If it did, this changes nothing and the run is
        # cancelled as any other; if not, no worker ever sees it.
        body["state"] = {"type": "CANCELLED", "message": "Cancelled before work on it began."}
    return body
