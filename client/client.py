"""``Client``: submit, wait, read Results, from Python."""

from __future__ import annotations

import glob
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel

from ..core.config import Settings, load_settings
from ..core.errors import AutoScorerError, ErrorCode
from ..core.home_token import home_token
from ..schemas.result import Result
from ..schemas.task import (
    Action,
    BackendName,
    BatchView,
    Priority,
    SingleAction,
    TaskList,
    TaskSort,
    TaskState,
    TaskView,
)
from .benchmarks import BenchmarkCalls
from .connection import ANSWER, LOOPBACK, Connection, checked_host, task_path
from .events import Event, follow_events, follow_task
from .logs import follow_log, read_log
from .paging import pages
from .polling import poll
from .records import RecordCalls, identifier, read_model

__all__ = ["Client", "error_of", "sendable"]

Json = dict[str, Any]
Model = TypeVar("Model", bound=BaseModel)


class Client(BenchmarkCalls, RecordCalls):
    """The REST API of an installation, for Python. Use it with ``with``, or ``close`` it.

    Every error is an ``AutoScorerError`` with a code of the catalogue: what the API answered, or ``ApiAway``
    (``BACKEND_UNAVAILABLE``) when nobody answers. A submission whose answer was lost is sent again under the same
    ``Idempotency-Key``, so it is accepted once.

    Args:
        url: Address of the API, such as ``http://127.0.0.1:8000``; by default that of the configuration (``api_url``),
            else this machine's.
        token: What it is shown; by default that of the configuration (``AUTOSCORER_API_TOKEN``), for this machine's API
            also the one in the home.
        timeout: Seconds that one answer may take; not how long ``wait`` waits.
        settings: The configuration; loaded as the commands do when None.
        on_away: Called each time that the API stops answering while ``wait``, ``result`` or ``logs`` go on asking,
            for up to ten minutes.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` when the address is not a plain http(s) address, or the configuration is
            wrong.

    Example:
        >>> with Client() as client:  # doctest: +SKIP
        ...     task = client.submit("team-a", action="score")
        ...     print(client.result(task).summary.score)
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        timeout: float = ANSWER,
        settings: Settings | None = None,
        on_away: Callable[[], None] | None = None,
    ) -> None:
        settings = settings if settings is not None else load_settings()
        url = url or settings.api_url or f"http://127.0.0.1:{settings.api.port}"
        if token is None and settings.api_token is not None:
            token = settings.api_token.get_secret_value()
        if not token and not settings.tokens and checked_host(url) in LOOPBACK:
            # Made by an API that has no tokens; it is shown to nobody but this machine.
            token = home_token(settings)
        self._api = Connection(url, token, timeout=timeout)
        self._on_away = on_away

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *what: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._api.close()

    @property
    def url(self) -> str:
        """Address of the API."""
        return self._api.url

    # --- submitting -----------------------------------------------------------------------------------------

    def submit(
        self,
        workspace: str | os.PathLike[str],
        *,
        action: SingleAction = "pipeline",
        scorer: str | None = None,
        params: Mapping[str, Any] | None = None,
        backend: BackendName | None = None,
        priority: Priority = "normal",
        callback_url: str | None = None,
        idempotency_key: str | None = None,
        on_known: Callable[[TaskView], None] | None = None,
    ) -> TaskView:
        """Hand a workspace to the API.

        Args:
            workspace: A folder that is here, which the API must see under the same path; else a name relative to a
                workspace root of the API.
            action: What to do with it.
            scorer: Scorer id instead of meta.json's.
            params: Scorer params; they add to meta.json's and win over them.
            backend: As the worker is configured when None.
            priority: high, normal or low.
            callback_url: Gets a signed POST of the task when it has ended.
            idempotency_key: The same key with the same request gives the same task; one of its own when None.
            on_known: Called with the task when it was there already and this made no second one.

        Returns:
            The task: a new one, or the active one of that action and workspace.

        Raises:
            AutoScorerError: ``WORKSPACE_NOT_FOUND``, ``FORBIDDEN``, ``INVALID_REQUEST``, ``CONFLICT``, …
        """
        body = {
            "action": action,
            "workspace": sendable(workspace),
            **_given(
                scorer=scorer, params=params, backend=backend, priority=priority, callback_url=callback_url
            ),
        }  # fmt: skip
        return self._submit("/submit", body, idempotency_key, on_known)

    def batch(
        self,
        workspaces: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        *,
        action: Literal["pipeline", "score"] = "pipeline",
        scorer: str | None = None,
        params: Mapping[str, Any] | None = None,
        backend: BackendName | None = None,
        concurrency: int | None = None,
        priority: Priority = "normal",
        callback_url: str | None = None,
        idempotency_key: str | None = None,
        on_known: Callable[[TaskView], None] | None = None,
    ) -> TaskView:
        """Hand many workspaces to the API as one task.

        Args:
            workspaces: Each a workspace, a folder of workspaces, or a pattern; as ``submit`` takes one.
            action: pipeline or score.
            scorer: As ``submit`` takes it.
            params: As ``submit`` takes it.
            backend: As ``submit`` takes it.
            concurrency: Workspaces at the same time.
            priority: As ``submit`` takes it.
            callback_url: As ``submit`` takes it.
            idempotency_key: As ``submit`` takes it.
            on_known: As ``submit`` takes it.

        Returns:
            The task; ``batch_view`` and ``leaderboard`` tell of it.

        Raises:
            AutoScorerError: As ``submit``.
        """
        given = [workspaces] if isinstance(workspaces, (str, os.PathLike)) else list(workspaces)
        body = {
            "workspaces": [sendable(workspace) for workspace in given],
            "action": action,
            **_given(
                scorer=scorer, params=params, backend=backend, priority=priority, callback_url=callback_url,
                concurrency=concurrency,
            ),
        }  # fmt: skip
        return self._submit("/batch", body, idempotency_key, on_known)

    def retry(
        self,
        task: TaskView | str,
        *,
        idempotency_key: str | None = None,
        on_known: Callable[[TaskView], None] | None = None,
    ) -> TaskView:
        """Do once more what a task that has ended was asked for.

        Args:
            task: The task, or its id.
            idempotency_key: As ``submit`` takes it.
            on_known: As ``submit`` takes it.

        Returns:
            The new task.

        Raises:
            AutoScorerError: ``NOT_FOUND``; ``CONFLICT`` while the task has not ended.
        """
        return self._submit(task_path(identifier(task), "/retry"), None, idempotency_key, on_known)

    def _submit(
        self, path: str, body: Json | None, key: str | None, on_known: Callable[[TaskView], None] | None
    ) -> TaskView:
        data, created = self._api.submit(path, body, key)
        task = self._read(TaskView, data)
        if not created and on_known is not None:
            on_known(task)
        return task

    # --- one task -------------------------------------------------------------------------------------------

    def task(self, task: TaskView | str) -> TaskView:
        """A task as it is now.

        Args:
            task: The task, or its id.

        Raises:
            AutoScorerError: ``NOT_FOUND``.
        """
        return self._read(TaskView, self._api.get(task_path(identifier(task))))

    def wait(
        self,
        task: TaskView | str,
        *,
        timeout: float = math.inf,
        on_update: Callable[[TaskView], None] | None = None,
    ) -> TaskView:
        """Wait until a task has ended, also through a restart of the API.

        Args:
            task: The task, or its id.
            timeout: Seconds, at most.
            on_update: Called with the task each time that it was asked for.

        Returns:
            The task once it has ended, however it did (``state``, ``error``); as it is then when the time is over:
            ``task.state.is_final`` tells.

        Raises:
            AutoScorerError: ``NOT_FOUND``; ``BACKEND_UNAVAILABLE`` when the API stays away for ten minutes.
        """

        def look() -> tuple[TaskView, bool]:
            now = self.task(task)
            if on_update is not None:
                on_update(now)
            return now, now.state.is_final

        return poll(look, timeout=timeout, on_away=self._on_away)

    def result(self, task: TaskView | str, *, timeout: float = math.inf) -> Result:
        """Wait for a task's end, and its Result.

        Args:
            task: The task, or its id; of the action score or pipeline.
            timeout: Seconds, at most.

        Raises:
            AutoScorerError: The task's own error when it failed or was cancelled, with ``task_id`` in the details;
                ``CONFLICT`` when it has not ended in time, ``INVALID_REQUEST`` when its action makes no Result, and
                as ``wait``.
        """
        ended = self.wait(task, timeout=timeout)
        if not ended.state.is_final:
            raise AutoScorerError(
                ErrorCode.CONFLICT,
                f"The task {ended.id} has not ended within {timeout:g} s: it is {ended.state}. Wait longer.",
                stage="api",
                details={"task_id": ended.id},
            )
        error = error_of(ended)
        if error is not None:
            raise error
        if ended.action not in ("score", "pipeline") or ended.result is None:
            raise AutoScorerError(
                ErrorCode.INVALID_REQUEST,
                f"The task {ended.id} is of the action {ended.action} and makes no Result; score and pipeline do. "
                "What it left is in task(…).result.",
                stage="api",
                details={"task_id": ended.id},
            )
        return self._read(Result, ended.result)

    def cancel(self, task: TaskView | str) -> TaskView:
        """End a task; its container is gone within ten seconds. Twice is no error.

        Args:
            task: The task, or its id.

        Raises:
            AutoScorerError: ``NOT_FOUND``; ``CONFLICT`` when it has ended otherwise.
        """
        return self._read(TaskView, self._api.post(task_path(identifier(task), "/cancel")))

    def logs(self, task: TaskView | str, *, follow: bool = False) -> Iterator[Json]:
        """A task's log.

        Args:
            task: The task, or its id.
            follow: Go on until the task has ended, also through a restart of the API.

        Yields:
            Records: ``time`` (ISO 8601, UTC), ``level``, ``source`` (flow or model), ``message``.

        Raises:
            AutoScorerError: ``NOT_FOUND``.
        """
        path = task_path(identifier(task), "/logs")
        return follow_log(self._api, path, self._on_away) if follow else read_log(self._api, path)

    def events(self, task: TaskView | str | None = None, *, after: str | None = None) -> Iterator[Event]:
        """What happens to tasks, as it happens, also through a restart of the API: without an end, or to one task until
        it has ended.

        Args:
            task: The task, or its id; None for all that the token may see.
            after: ``Event.id`` of the last one that is known: what has changed since comes first. Not with ``task``.

        Yields:
            ``hello`` first, and whenever the connection was made anew. ``task`` with a task as ``tasks`` lists it;
            ``gone`` with the ``id`` of one that is no more; ``reset`` where more has changed than is told: ``tasks``
            tells what there is. With ``task`` it is shown as ``task`` shows it; each line of its log comes once, as
            ``log``; and ``end`` is the last one.

        Raises:
            AutoScorerError: ``NOT_FOUND``, ``UNAUTHORIZED``.
        """
        if task is not None:
            return follow_task(self._api, identifier(task), self._on_away)
        return follow_events(self._api, after, self._on_away)

    # --- many tasks -----------------------------------------------------------------------------------------

    def tasks(
        self,
        *,
        states: Sequence[TaskState | str] = (),
        workspace: str | os.PathLike[str] | None = None,
        q: str | None = None,
        scorer: str | Sequence[str] | None = None,
        action: Action | Sequence[Action] | None = None,
        passed: bool | None = None,
        benchmark: str | None = None,
        team: str | None = None,
        flow_run: str | None = None,
        parent: TaskView | str | None = None,
        members: bool = False,
        since: datetime | None = None,
        until: datetime | None = None,
        sort: TaskSort | None = None,
        limit: int = 50,
    ) -> TaskList:
        """The first tasks for which everything given holds, by default the newest.

        Args:
            states: In one of these.
            workspace: Of this workspace.
            q: Part of a name: of a workspace, a job, a batch's member.
            scorer: Of this scorer, or of one of these.
            action: Of this action, or of one of these.
            passed: Whose Result has this verdict.
            benchmark: Of this benchmark's submissions.
            team: Of this team's submissions.
            flow_run: The one of this flow run of Prefect's.
            parent: Members of this batch, each what became of a workspace.
            members: Members of batches among the rest; without it they are left out.
            since: Created then or later.
            until: Created before then.
            sort: By what, with a ``-`` from the greatest down; the newest first when None.
            limit: Most tasks; as many pages are read as it takes.

        Returns:
            ``tasks``, without their ``result`` but with their ``outcome``; ``total`` of all that there are;
            ``next_cursor`` is None when these are all.

        Raises:
            AutoScorerError: ``INVALID_REQUEST``, ``FORBIDDEN``.
        """
        asked = {
            "q": q,
            "state": [str(state) for state in states] or None,
            "workspace": None if workspace is None else sendable(workspace),
            "scorer": scorer,
            "action": action,
            "pass": passed,
            "benchmark": benchmark,
            "team": team,
            "flow_run": flow_run,
            "parent": None if parent is None else identifier(parent),
            "members": members or None,
            "since": since and since.isoformat(),
            "until": until and until.isoformat(),
            "sort": sort,
        }
        params = _given(**asked)
        found: list[TaskView] = []
        for page in pages(self._api, "/tasks", params, "tasks", limit):
            listed = self._read(TaskList, page)
            found += listed.tasks
        return listed.model_copy(update={"tasks": found[:limit]})

    def batch_view(self, task: TaskView | str) -> BatchView:
        """A batch as it is now: its counts, what became of each workspace so far, and its leaderboard.

        Args:
            task: The batch's task, or its id.

        Raises:
            AutoScorerError: ``NOT_FOUND``, also for a task that is not a batch.
        """
        return self._read(BatchView, self._api.get(task_path(identifier(task)).replace("/tasks/", "/batch/", 1)))

    def leaderboard(self, task: TaskView | str) -> list[Json]:
        """Who of a batch is best, so far.

        Args:
            task: The batch's task, or its id.

        Returns:
            Rows, best first: ``place``, ``workspace``, ``state``, ``metric``, ``score``, ``low``, ``high``, ``pass``,
            ``rank``, ``seconds``, ``error``.

        Raises:
            AutoScorerError: As ``batch_view``.
        """
        return self.batch_view(task).leaderboard

    # --- workspaces -----------------------------------------------------------------------------------------

    def workspaces(self, *, search: str | None = None, limit: int | None = None) -> list[Json]:
        """The workspaces under the API's roots, in the order of their names.

        Args:
            search: Only names that hold this text.
            limit: Most of them; all when None.

        Returns:
            Of each ``name``, ``job_id``, ``task_type``, ``scorer``, ``has_ground_truth``, ``has_predictions``, and of
            its last Result ``score``, ``pass``, ``rank``, ``scored_at``, ``error``.

        Raises:
            AutoScorerError: As the API answers.
        """
        listed = pages(self._api, "/workspaces", _given(search=search), "workspaces", limit)
        return [workspace for page in listed for workspace in page["workspaces"]][:limit]

    def upload(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Json:
        """Send a workspace to the API, as it is read: a folder is packed on its way.

        Of a folder, links and special files are left out, and what an earlier run or scoring has made: result.json,
        artifacts, history, logs.

        Args:
            path: A folder with meta.json, or an archive (.zip, .tar, .tar.gz, .tar.bz2, .tar.xz).
            name: What it is to be called; by default as the folder or the archive.
            on_progress: Told how many bytes of how many were read.

        Returns:
            ``workspace`` (as in ``workspaces``), ``files``, ``size``, ``left_out``.

        Raises:
            AutoScorerError: ``INVALID_META`` when it is not a workspace, ``CONFLICT`` when there is one of that name,
                ``PAYLOAD_TOO_LARGE``, ``INVALID_REQUEST``; ``BACKEND_UNAVAILABLE`` when the connection broke: it is
                not sent again, and ``workspaces`` tells whether it has arrived.
        """
        from .packing import send

        return send(self._api, Path(os.path.abspath(path)), name, on_progress)

    def _read(self, model: type[Model], data: Any) -> Model:
        return read_model(self._api, model, data)


def error_of(task: TaskView) -> AutoScorerError | None:
    """Why a task that has ended did not do what was asked for, with its id in the details; None when it did."""
    if task.state is TaskState.COMPLETED:
        return None
    if task.error is None:
        return AutoScorerError(ErrorCode.CANCELLED, f"The task was {task.state}.", details={"task_id": task.id})
    error = AutoScorerError.from_dict(task.error.model_dump())
    error.details["task_id"] = task.id
    return error


def _given(**values: Any) -> Json:
    return {name: value for name, value in values.items() if value is not None}


def sendable(workspace: str | os.PathLike[str]) -> str:
    """As it is sent: absolute when it is here (a folder, or a pattern of folders), else as it stands."""
    text = os.fspath(workspace)
    here = os.path.isdir(text) or (glob.has_magic(text) and any(True for _ in glob.iglob(text)))
    return os.path.abspath(text) if here else text
