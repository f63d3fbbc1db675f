"""Tasks as the facade knows them: accepted, followed, cancelled, repeated."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ..core.backoff import periodic
from ..core.config import Settings
from ..core.errors import AutoScorerError, ErrorCode
from ..core.flowruns import wake
from ..schemas.benchmark import Quota
from ..schemas.quota import QuotaLeft
from ..schemas.task import BatchRequest, Progress, SubmitRequest, TaskList, TaskState, TaskView
from .flow_runs import FlowRuns, LedgerAway, RunProgress
from .ledger.ledger import Ledger
from .ledger.queries import task_not_found
from .ledger.records import NewTask, StoredResult, TaskRow
from .member_results import whole
from .policy import EVERYTHING, Act, Caller, Scope, check
from .prefect.client import PrefectApi, PrefectAway
from .recovery.dead_workers import recover
from .recovery.stuck_runs import Reconciler
from .shared_secrets import share_secrets
from .submissions import check_caller, check_key, check_params, hash_of, new_task, quota_of, request_of
from .sync.adopter import Adopter
from .sync.deployments import DeploymentIds
from .sync.dispatcher import Dispatcher
from .sync.follower import Follower
from .sync.leadership import Leadership
from .task_query import TaskQuery, cursor_of, place_of
from .webhooks.delivery import CallbackDelivery
from .workspaces.replacing import means
from .workspaces.roots import WorkspaceRoots

__all__ = ["Submitted", "TaskQuery", "TaskService"]

logger = logging.getLogger(__name__)
T = TypeVar("T")

# Tasks on one page at most.
_PAGE = 500
# Seconds that an answer waits for what Prefect says at this moment; the ledger's word is never old.
_PATIENCE = 2.0
# Seconds between two questions to the ledger for how a task ended that another process follows.
_ASK = 0.5
# Seconds between two looks for what got stuck, and between two rounds of forgetting.
_TEND, _PRUNE = 5.0, 3600.0


@dataclass(frozen=True)
class Submitted:
    """A task, and whether this request made it or found it."""

    task: TaskView
    created: bool
    # Of a team's submission: what it has left then.
    left: QuotaLeft | None = None


class TaskService:
    """Accepts tasks, hands them to Prefect, follows them to their end. Made by ``running``.

    Attributes:
        settings: The configuration.
        roots: Where workspaces may lie.
        ledger: Every task that was accepted.
        prefect: The connection to the server.
        flow_runs: What the workers say of the flow runs under way.
        on_finished: Called with each task that has ended.
    """

    def __init__(self, settings: Settings, roots: WorkspaceRoots, ledger: Ledger, prefect: PrefectApi) -> None:
        self.settings = settings
        self.roots = roots
        self.ledger = ledger
        self.prefect = prefect
        self.on_finished: Callable[[TaskView], None] | None = None
        # Of our own: folders on a network may hang, and what hangs must not keep all else from being read.
        self._disk = ThreadPoolExecutor(8, thread_name_prefix="workspaces")
        ids = DeploymentIds(prefect)
        self.flow_runs = FlowRuns(settings, ledger)
        self._follower = Follower(
            settings, roots, ledger, prefect, self.flow_runs, lost=lambda: self._dispatcher.wake(), ended=self._ended
        )
        self._dispatcher = Dispatcher(settings, ledger, prefect, ids, self._follower)
        self._adopter = Adopter(roots, ledger, prefect, ids, self._follower)
        self._reconciler = Reconciler(self.flow_runs, prefect)
        self._callbacks = CallbackDelivery(settings, ledger, roots)
        self._leadership = Leadership(ledger, self._lead)

    @classmethod
    @asynccontextmanager
    async def running(cls, settings: Settings, roots: WorkspaceRoots) -> AsyncIterator[TaskService]:
        """Open the ledger and work on its tasks until the end of the block.

        Raises:
            AutoScorerError: ``CONFLICT`` when another process serves this home, ``INVALID_REQUEST`` when its ledger
                can't be used.
        """
        ledger = await Ledger.open(settings)
        try:
            await share_secrets(ledger, settings)
            async with PrefectApi(settings) as prefect:
                service = cls(settings, roots, ledger, prefect)
                leading = asyncio.create_task(service._leadership.run())
                try:
                    yield service
                finally:
                    leading.cancel()
                    await asyncio.gather(leading, return_exceptions=True)
                    service._disk.shutdown(wait=False, cancel_futures=True)
        finally:
            await ledger.close()

    # --- what callers ask for -------------------------------------------------------------------------------

    async def submit(
        self,
        request: SubmitRequest | BatchRequest,
        *,
        caller: Caller,
        act: Act = Act.WORK,
        idempotency_key: str | None = None,
        request_hash: str | None = None,
        retry_of: str | None = None,
    ) -> Submitted:
        """Accept a task: it is on disk when this returns, whether Prefect answers or not.

        A team's submission counts for its quota, and is taken while a phase of its benchmark is open.

        Args:
            request: What to do.
            caller: Who asks; a key of one caller is none of another's.
            act: What that is, as ``policy.may`` judges it.
            idempotency_key: The same key with the same request gives the same task, for
                ``api.idempotency_hours``.
            request_hash: What is the same for two requests that ask for the same; told by ``request`` when None.
            retry_of: The task that this one repeats.

        Returns:
            The new task; or the one of that key, or the active one of that action and workspace.

        Raises:
            AutoScorerError: ``WORKSPACE_NOT_FOUND``, ``FORBIDDEN``, ``INVALID_REQUEST``, ``PAYLOAD_TOO_LARGE``;
                ``CONFLICT`` when the key stands for another request; ``BACKEND_UNAVAILABLE`` when the ledger can't be
                written; ``PHASE_CLOSED``, ``QUOTA_EXCEEDED``.
        """
        key = idempotency_key
        check_key(key)
        check_params(request)
        request_hash = hash_of(request) if request_hash is None else request_hash
        try:
            task, quota = await self._on_disk(lambda: self._new(request, caller, act, retry_of))
        except AutoScorerError:
            # An answer that got lost is repeated also when the workspace has gone since.
            if key is None or (known := await self.ledger.keyed(caller.name, key, request_hash)) is None:
                raise
            return Submitted(await self._view(known), False)
        left = None
        if quota is None:
            row, created = await self.accept(task, key=key, request_hash=request_hash)
        else:
            row, created, left = await self.ledger.add_submission(task, quota, key=key, request_hash=request_hash)
            self._dispatcher.wake()
        return Submitted(row.view() if created else await self._view(row), created, left)

    def _new(
        self, request: SubmitRequest | BatchRequest, caller: Caller, act: Act, retry_of: str | None
    ) -> tuple[NewTask, Quota | None]:
        """The task that a request asks for; of a team also the quota that it counts for."""
        task = new_task(self.settings, self.roots, request, caller=caller, act=act, retry_of=retry_of)
        return task, None if caller.team is None else quota_of(task)

    async def known(self, caller: Caller, key: str, request_hash: str) -> Submitted | None:
        """The task that a caller's key stands for, if it came with this request."""
        row = await self.ledger.keyed(caller.name, key, request_hash)
        return None if row is None else Submitted(await self._view(row), False)

    async def accept(
        self, task: NewTask, *, key: str | None, request_hash: str, keep: float | None = None
    ) -> tuple[TaskRow, bool]:
        """Accept a task that was checked, and have Prefect told of it.

        Args:
            task: What to do.
            key: Of the request, which stands for one task for ``keep`` seconds; ``api.idempotency_hours`` when None.
            request_hash: What is the same for two requests that ask for the same.

        Returns:
            The task of that key, or the active one of its action and subject, or the new one; and whether it is new.

        Raises:
            AutoScorerError: ``CONFLICT`` when the key stands for another request; ``BACKEND_UNAVAILABLE`` when the
                ledger can't be written.
        """
        row, created = await self.ledger.add(task, key=key, request_hash=request_hash, keep=keep)
        if created:
            self._dispatcher.wake()
        return row, created

    async def get(self, task_id: str) -> TaskView:
        """One task, asked of Prefect afresh while it is active. Raises ``NOT_FOUND``."""
        row = await self.ledger.row(task_id)
        if not row.is_final:
            with contextlib.suppress(PrefectAway, TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    await self._follower.refresh(task_id)
            row = await self.ledger.row(task_id)
        return await self._view(row)

    async def check(self, task_id: str, caller: Caller, act: Act) -> TaskRow:
        """See that somebody may do this to a task.

        Raises:
            AutoScorerError: ``NOT_FOUND``, also for a task that the caller may not see; ``FORBIDDEN``.
        """
        row = await self.ledger.row(task_id)
        check(caller, act, row.subject_of, hidden=task_not_found(task_id))
        return row

    async def wait(self, task_id: str, seconds: float) -> TaskView:
        """The task once it has ended, or as it is after ``seconds``. Raises ``NOT_FOUND``."""
        with self._follower.watching(task_id) as ended:
            if not (await self.ledger.row(task_id)).is_final:
                await self._hear(task_id, ended, seconds)
        return await self._view(await self.ledger.row(task_id))

    async def _hear(self, task_id: str, ended: asyncio.Event, seconds: float) -> None:
        """Wait for the end of a task; where another process may hear of it, the ledger is asked as well."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.ledger.is_shared and not self._leadership.leads:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_ASK):
                            await ended.wait()
                    if ended.is_set() or (await self.ledger.row(task_id)).is_final:
                        return
                await ended.wait()

    async def list(self, query: TaskQuery, *, scope: Scope = EVERYTHING, digits: int | None = None) -> TaskList:
        """Some tasks, without their ``result``: ``get`` has it.

        Args:
            query: Which, and in which order.
            scope: Which of them whoever asks may see.
            digits: How many digits of a score they are told; None for all.

        Raises:
            AutoScorerError: ``INVALID_REQUEST`` for a cursor of another list and as ``WorkspaceRoots.locate``.
        """
        workspace = None if query.workspace is None else await self._located(query.workspace)
        wanted, order = query.filter(workspace, scope, digits), query.order
        after = None if query.cursor is None else place_of(query.cursor, wanted, order)
        page = await self.ledger.page(wanted, after, min(max(query.limit, 1), _PAGE), order)
        tasks = await self.in_list(page.rows)
        cursor = None if page.next is None else cursor_of(page.next, wanted, order)
        return TaskList(tasks=[*tasks], next_cursor=cursor, total=page.total, before=page.before)

    async def cancel(self, task_id: str) -> TaskView:
        """End a task; one that was cancelled before is answered as it is.

        What Prefect was never told of ends at once. Else the worker learns it from the home that it shares, or from
        Prefect, which is told now or when it is back; and it ends the work.

        Raises:
            AutoScorerError: ``NOT_FOUND``, and ``CONFLICT`` when it has ended otherwise, or is a member of a batch.
        """
        row, ended = await self.ledger.request_cancel(task_id)
        if ended:
            await self._follower.tell([task_id])
        elif row.parent is not None:
            raise AutoScorerError(
                ErrorCode.CONFLICT,
                f"The task {task_id} is what became of one workspace of the batch {row.parent}, and has ended. "
                f"What the batch has still to do ends by POST /tasks/{row.parent}/cancel.",
                details={"state": row.state, "parent": row.parent},
            )
        elif row.is_final:
            if row.state != TaskState.CANCELLED:
                raise AutoScorerError(
                    ErrorCode.CONFLICT,
                    f"The task {task_id} has ended as {row.state} already; there is nothing left to cancel.",
                    details={"state": row.state},
                )
        elif row.flow_run_id is None:
            self._dispatcher.wake()
        else:
            with contextlib.suppress(PrefectAway, TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    await self._follower.cancel(row)
            wake(self.settings.home)
        return await self._view(await self.ledger.row(task_id))

    async def retry(self, task_id: str, *, caller: Caller, idempotency_key: str | None = None) -> Submitted:
        """A new task that repeats one that ended; or the active one of that action and workspace.

        Its ``callback_url`` is repeated only for the caller who gave it: nobody else's receiver is told of it.

        Raises:
            AutoScorerError: ``NOT_FOUND``, ``CONFLICT`` while it is active, and as ``submit``.
        """
        row = await self.check(task_id, caller, Act.RETRY)
        act = Act.RETRY if row.benchmark is not None else Act.WORK
        if caller.role != "admin":
            await self._on_disk(lambda: check_caller(self.roots, request_of(row.action, row.request), caller, act))
        if not row.is_final:
            raise AutoScorerError(
                ErrorCode.CONFLICT,
                f"The task {task_id} is {row.state}. Wait for its end, or cancel it first.",
                details={"state": row.state},
            )
        request = request_of(row.action, row.request)
        if caller.name != row.caller:
            request = request.model_copy(update={"callback_url": None})
        return await self.submit(request, caller=caller, act=act, idempotency_key=idempotency_key, retry_of=task_id)

    async def active_on(self, workspace: Path) -> tuple[str, ...]:
        """The tasks that work on a workspace or are about to, batches among them."""
        found = []
        for row in await self.ledger.active():
            items = json.loads(row.parameters).get("workspaces") or () if row.action == "batch" else ()
            if row.workspace == str(workspace) or means(items, workspace):
                found.append(row.id)
        return tuple(found)

    # --- views ----------------------------------------------------------------------------------------------

    async def in_list(self, found: Sequence[tuple[TaskRow, StoredResult]]) -> Sequence[TaskView]:
        """Tasks as a list shows them."""
        progress = await self._progress(row for row, _ in found)
        return [self._shown(row, progress, outcome) for row, outcome in found]

    async def view(self, task_id: str) -> TaskView:
        """One task as ``get`` shows it, as far as the ledger knows by now. Raises ``NOT_FOUND``."""
        return await self._view(await self.ledger.row(task_id))

    async def _view(self, row: TaskRow) -> TaskView:
        if row.is_final:
            left = await self.ledger.outcome(row.id)
            return row.view(left if row.parent is None else await self._on_disk(lambda: whole(left, row, self.roots)))
        if row.flow_run_id is None or row.state == TaskState.QUEUED:
            return row.waiting_for(await self.ledger.waits_for(row)).view()
        return self._shown(row, await self._progress([row]))

    async def _progress(self, rows: Iterable[TaskRow]) -> Mapping[str, RunProgress]:
        """How far those of these tasks are that are under way, by their flow runs."""
        under_way = [row for row in rows if not row.is_final and row.state != TaskState.QUEUED]
        return await self.flow_runs.progress([row.flow_run_id for row in under_way if row.flow_run_id is not None])

    def _shown(
        self, row: TaskRow, under_way: Mapping[str, RunProgress], outcome: StoredResult | None = None
    ) -> TaskView:
        """A task, with how far it is."""
        found = under_way.get(row.flow_run_id or "", RunProgress())
        progress = None if found.total is None else Progress(done=found.done, total=found.total)
        return row.view(outcome, stage=found.stage, progress=progress)

    async def _located(self, name: str) -> str:
        return str(await self._on_disk(lambda: self.roots.locate(name)))

    def _on_disk(self, work: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._disk, work)

    # --- what goes on meanwhile -----------------------------------------------------------------------------

    async def _lead(self) -> None:
        """What one process of an installation does, until it is cancelled."""
        async with asyncio.TaskGroup() as loops:
            for loop in (
                self._follower.run(),
                self._dispatcher.run(),
                self._adopter.run(),
                periodic("callbacks", self._callbacks.run, 1.0),
                periodic("tend", self._tend, _TEND, away=(PrefectAway, LedgerAway), pauses=(_TEND, _TEND)),
                periodic("prune", self._prune, _PRUNE),
            ):
                loops.create_task(loop)

    async def _ended(self, task_ids: Sequence[str]) -> None:
        self._callbacks.wake()
        self._dispatcher.wake()  # others may have waited for their workspaces
        for task_id in task_ids:
            row = await self.ledger.find(task_id)
            if row is None:
                continue
            logger.info(
                "task %s ended: %s", task_id, row.state, extra={"fields": {"task_id": task_id, "state": row.state}}
            )
            if self.on_finished is not None:
                self.on_finished(row.view(await self.ledger.outcome(task_id)))

    async def _tend(self) -> None:
        """Settle what dead workers left and what is stuck."""
        for line in await recover(self.prefect, self.flow_runs):
            logger.warning("%s", line)
        for line in await self._reconciler.look(self._follower.runs()):
            logger.warning("%s", line)

    async def _prune(self) -> None:
        while await self.ledger.prune(time.time()) or await self.ledger.forget_changes():
            await asyncio.sleep(0.1)  # others write, too
