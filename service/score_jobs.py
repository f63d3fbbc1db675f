"""Jobs that score one answer: tasks of the ledger, in the shapes that the first system's clients know."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from ..core.backoff import periodic
from ..core.errors import AutoScorerError, ErrorCode
from ..core.workspace import write_atomic
from ..schemas.rag import JobPage, JobRecord, JobRequest, JobStatus, RequestSummary, ScoreRequest
from ..schemas.task import TaskView
from ..scorers.judge.runtime import check_models
from ..scorers.rag.catalogue import check_metrics
from ..scorers.rag.evaluate import requested
from ..tasks.rag import known_scores, sample_of
from .job_records import STATUSES, job_record
from .ledger.derived import folded
from .ledger.records import NewTask, Place, StoredResult, TaskFilter, TaskRow
from .ledger.task_ids import first_id_at, is_task_id, new_task_id
from .policy import Act, Caller, may, scope_of
from .submissions import check_size
from .tasks import TaskService
from .webhooks.http import check_callback_url

__all__ = ["JobQuery", "ScoreJobs", "job_file", "remove_old_records"]

logger = logging.getLogger(__name__)

Json = dict[str, Any]

ACTION = "rag-score"
_PAGE = 200
_NOT_KEPT = (
    "It is not known what this job was asked for: it was imported, or started in Prefect with parameters that the API "
    "does not take."
)
# Seconds between two looks for old records.
_PRUNE = 3600.0


@dataclass(frozen=True)
class JobQuery:
    """Which jobs to list; None asks for all.

    ``text`` is a part of a question or an answer. Times are aware; ``since`` is included, ``until`` is not.
    """

    status: JobStatus | None = None
    metric: str | None = None
    text: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    limit: int = 50
    cursor: str | None = None


class ScoreJobs:
    """Accepts, shows, cancels and repeats jobs that score one answer.

    A caller of the role submit sees its own jobs alone: questions and answers are nobody else's.

    Args:
        tasks: Whose tasks the jobs are.
    """

    def __init__(self, tasks: TaskService) -> None:
        self._tasks = tasks
        self._settings = tasks.settings
        self._keeping: set[asyncio.Task[None]] = set()

    async def submit(
        self,
        request: ScoreRequest,
        *,
        caller: Caller,
        idempotency_key: str | None = None,
        retry_of: str | None = None,
        known: Mapping[str, Any] | None = None,
    ) -> tuple[JobRecord, bool]:
        """Accept a job: it is on disk when this returns.

        Args:
            request: What to score.
            caller: Who asks.
            idempotency_key: The same key with the same request gives the same job. Without one the same request of the
                same caller does so for ``api.dedup_seconds``: workflow tools send a request again that seems lost.
            retry_of: The job that this one repeats.
            known: Metrics that need not be scored again.

        Returns:
            The job, and whether this request made it.

        Raises:
            AutoScorerError: ``INVALID_REQUEST`` for a metric, a judge or embeddings that there are not;
                ``PAYLOAD_TOO_LARGE``; and as ``TaskService.accept``.
        """
        metrics = self._checked(request)
        asked = request.model_dump(mode="json", exclude_none=True, exclude={"priority", "callback_url"})
        parameters: Json = {"request": asked, "caller": caller.name}
        if known:
            parameters["known"] = dict(known)
        check_size(parameters, "The request makes", "Send shorter contexts.")
        summary = RequestSummary.of(request, list(metrics))
        job_id = new_task_id()
        task = NewTask(
            id=job_id,
            caller=caller.name,
            role=caller.role,
            action=ACTION,
            # Each is a job of its own: what is the same is told by its key.
            subject=job_id,
            workspace=None,
            scorer=None,
            priority=request.priority,
            request=summary.model_dump(mode="json"),
            parameters=parameters,
            created_at=time.time(),
            retry_of=retry_of,
            callback_url=request.callback_url,
        )
        digest = hashlib.sha256(json.dumps([ACTION, asked, retry_of, request.callback_url]).encode()).hexdigest()
        key, keep = idempotency_key, None
        if key is None and self._settings.api.dedup_seconds:
            key, keep = f"content:{digest}", self._settings.api.dedup_seconds
        row, created = await self._tasks.accept(task, key=key, request_hash=digest, keep=keep)
        record = await self._record(row)
        if created:
            await self.keep(record)
        return record, created

    async def get(self, job_id: str, *, caller: Caller) -> JobRecord:
        """One job, with what is known of each metric so far. Raises ``NOT_FOUND``."""
        return await self._record(await self._row(job_id, caller))

    async def request(self, job_id: str, *, caller: Caller) -> JobRequest:
        """What a job was asked for, in full. Raises ``NOT_FOUND``, also where nobody has kept it."""
        found = _asked(await self._row(job_id, caller))
        if found is None:
            raise AutoScorerError(ErrorCode.NOT_FOUND, _NOT_KEPT)
        return JobRequest.model_validate(found.model_dump())

    async def list(self, query: JobQuery, *, caller: Caller) -> JobPage:
        """Jobs, newest first, without what is known of each metric.

        Raises:
            AutoScorerError: ``INVALID_REQUEST`` for a cursor that no page gave, and for an unknown metric.
        """
        if query.cursor is not None and not is_task_id(query.cursor):
            raise AutoScorerError(ErrorCode.INVALID_REQUEST, "cursor must be the next_cursor of an earlier page.")
        if query.metric is not None:
            with _told_to_the_caller():
                check_metrics([query.metric], "metric")
        wanted = TaskFilter(
            states=tuple(state for state, status in STATUSES.items() if status == query.status),
            name=None if query.text is None else folded(query.text),
            metric=query.metric,
            actions=(ACTION,),
            since=None if query.since is None else first_id_at(query.since.timestamp()),
            until=None if query.until is None else first_id_at(query.until.timestamp()),
            scope=scope_of(caller),
        )
        limit = min(max(query.limit, 1), _PAGE)
        after = None if query.cursor is None else Place(None, query.cursor)
        page = await self._tasks.ledger.page(wanted, after, limit)
        jobs = [job_record(row, left, whole=False) for row, left in page.rows]
        return JobPage(jobs=jobs, total=page.total, next_cursor=None if page.next is None else page.next.id)

    async def remove(self, job_id: str, *, caller: Caller) -> JobRecord:
        """Cancel a job that has not ended, or forget one that has; as it was. Raises ``NOT_FOUND``."""
        row = await self._row(job_id, caller)
        if not row.is_final:
            await self._tasks.cancel(job_id)
            return await self.get(job_id, caller=caller)
        record = await self._record(row)
        await self._tasks.ledger.forget(job_id)
        await asyncio.to_thread(job_file(self._settings.home, job_id).unlink, missing_ok=True)
        return record

    async def retry(self, job_id: str, *, caller: Caller, idempotency_key: str | None = None) -> tuple[JobRecord, bool]:
        """A new job that scores what failed in one that has ended, and takes the rest over from it.

        Raises:
            AutoScorerError: ``NOT_FOUND``; ``CONFLICT`` while it is active; and as ``submit``.
        """
        row = await self._row(job_id, caller)
        if not row.is_final:
            raise AutoScorerError(
                ErrorCode.CONFLICT, f"The job {job_id} is {row.state}. Wait for its end, or cancel it first."
            )
        record = await self._record(row)
        known = {
            name: score.model_dump(mode="json") for name, score in record.metrics.items() if score.status != "failed"
        }
        request = _asked(row)
        if request is None:
            raise AutoScorerError(ErrorCode.INVALID_REQUEST, f"{_NOT_KEPT} Ask for it anew.")
        callback = row.callback_url if caller.name == row.caller else None
        request = request.model_copy(update={"priority": row.priority, "callback_url": callback})
        return await self.submit(request, caller=caller, idempotency_key=idempotency_key, retry_of=job_id, known=known)

    async def keep(self, record: JobRecord) -> None:
        """Lay a record into the home as a file, for people and their scripts; nothing depends on it."""
        path = job_file(self._settings.home, record.job_id)
        text = record.model_dump_json(indent=1) + "\n"
        try:
            await asyncio.to_thread(write_atomic, path, text.encode(), mode=0o600)
        except OSError as error:
            logger.warning("The record of job %s could not be written to the home: %s", record.job_id, error.strerror)

    def finished(self, task: TaskView) -> None:
        """Lay the record of a job that has ended into the home; of other tasks there is none."""
        if task.action == ACTION:
            keeping = asyncio.create_task(self._keep_final(task.id))
            self._keeping.add(keeping)
            keeping.add_done_callback(self._keeping.discard)

    async def _keep_final(self, job_id: str) -> None:
        row = await self._tasks.ledger.find(job_id)
        if row is not None:
            await self.keep(await self._record(row))

    @contextlib.asynccontextmanager
    async def pruning(self) -> AsyncIterator[None]:
        """Remove records of jobs that are not listed any more from the home, until the block ends."""

        async def prune() -> None:
            await asyncio.to_thread(remove_old_records, self._settings.home, self._settings.api.keep_days * 86400)

        loop = asyncio.create_task(periodic("score-jobs", prune, _PRUNE))
        try:
            yield
        finally:
            loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await loop

    def _checked(self, request: ScoreRequest) -> tuple[str, ...]:
        with _told_to_the_caller():
            return self._metrics(request)

    def _metrics(self, request: ScoreRequest) -> tuple[str, ...]:
        check_metrics(request.metrics or ())
        check_metrics(request.weights or (), "weights")
        judge, embeddings = check_models(self._settings, judge=request.judge_model, embeddings=request.embedding_model)
        if request.callback_url is not None:
            check_callback_url(self._settings, request.callback_url)
        return requested(sample_of(request), request.metrics, judge=judge, embeddings=embeddings)

    async def _row(self, job_id: str, caller: Caller) -> TaskRow:
        row = await self._tasks.ledger.find(job_id) if is_task_id(job_id) else None
        if row is None or row.action != ACTION or not may(caller, Act.SEE, row.subject_of):
            raise AutoScorerError(ErrorCode.NOT_FOUND, f"There is no job {job_id[:100]!r}.")
        return row

    async def _record(self, row: TaskRow) -> JobRecord:
        if row.is_final:
            return job_record(row, await self._tasks.ledger.outcome(row.id) or StoredResult(None, None), whole=True)
        entries = [] if row.flow_run_id is None else await self._tasks.flow_runs.members(row.flow_run_id)
        return job_record(row, StoredResult(None, None), whole=True, so_far=known_scores(entries))


def _asked(row: TaskRow) -> ScoreRequest | None:
    """What a job was asked for; None where that is not known."""
    try:
        return ScoreRequest.model_validate(json.loads(row.parameters)["request"])
    except (ValidationError, KeyError):
        return None


def job_file(home: Path, job_id: str) -> Path:
    """Where a job's record lies in a home."""
    return home / "score-jobs" / f"{job_id}.json"


def remove_old_records(home: Path, seconds: float) -> None:
    """Remove the records of jobs from a home that were last written so many seconds ago.

    A record is written once its job has ended, so it goes no earlier than the job. What is no record of ours stays: the
    first system's own files may lie there, which nobody has imported yet.
    """
    # An hour for the job itself, which goes when somebody comes by.
    before = time.time() - seconds - 3600
    with contextlib.suppress(FileNotFoundError), os.scandir(job_file(home, "").parent) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                name, suffix = os.path.splitext(entry.name)
                if (
                    suffix == ".json"
                    and is_task_id(name)
                    and UUID(name).version == 7
                    and entry.stat(follow_symlinks=False).st_mtime < before
                ):
                    os.unlink(entry.path)


@contextlib.contextmanager
def _told_to_the_caller() -> Iterator[None]:
    """What is wrong with a caller's own words, and so may be told: params of a scorer may tell of a ground truth."""
    try:
        yield
    except AutoScorerError as error:
        code = ErrorCode.INVALID_REQUEST if error.code is ErrorCode.BAD_PARAMS else error.code
        raise AutoScorerError(code, error.message, stage="api") from None
