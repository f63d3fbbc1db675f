"""Jobs that the first system left as files, taken into the ledger as tasks that have ended."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError

from ..core.config import Settings
from ..core.errors import AutoScorerError, ErrorCode
from ..schemas.json_values import plain_text
from ..schemas.rag import JobStatus, JudgedBy, MetricScore, RequestSummary, SampleScores
from ..schemas.task import TaskState
from ..scorers.rag.catalogue import default_weights, weighted
from ..scorers.rag.sample import Sample
from ..tasks.rag import result_of_scores
from .ledger.maintenance import import_ended
from .ledger.records import NewTask, TaskEnd
from .ledger.task_ids import first_id_at, is_task_id

__all__ = ["ImportedJobs", "import_jobs"]

Json = dict[str, Any]

# Bytes of one record; the first system's have a few thousand.
_LARGEST = 4 * 1024 * 1024
# Jobs in one transaction: APIs that share the ledger accept nothing meanwhile.
_TOGETHER = 500
_NO_REASON = "The record does not say why."
_DIED = "The first system ended while the job was {}, and nobody scored it since. It was imported as failed."


def _finite(value: Any) -> Any:
    # Python's own JSON writes NaN where there is no number.
    return None if isinstance(value, float) and not math.isfinite(value) else value


Text = Annotated[str, AfterValidator(plain_text)]
Number = Annotated[float | None, BeforeValidator(_finite)]


class _Summary(BaseModel):
    question: Text = ""
    answer: Text = ""
    metrics: list[Text] = Field(default_factory=list, max_length=200)
    judge_model: Text | None = None
    embedding_model: Text | None = None
    has_contexts: bool = False
    has_ground_truth: bool = False


class _Record(BaseModel):
    """A record as a file has it: the first system's, or one of ours, which says more."""

    job_id: Annotated[Text, Field(min_length=1, max_length=200)]
    status: JobStatus
    created_at: datetime
    finished_at: datetime | None = None
    request_summary: _Summary = Field(default_factory=_Summary)
    scores: dict[Text, Number] = Field(default_factory=dict, max_length=200)
    weighted_score: Number = None
    coverage: Number = None
    latency_ms: Number = None
    skipped_metrics: list[Text] = Field(default_factory=list, max_length=200)
    skip_reasons: dict[Text, Text] = Field(default_factory=dict)
    error: Text | None = None
    metrics: dict[Text, MetricScore] = Field(default_factory=dict, max_length=200)
    judged_by: JudgedBy | None = None


@dataclass
class ImportedJobs:
    """What became of the files of a folder.

    Attributes:
        imported: Jobs that are in the ledger now, and were not before.
        known: Jobs that were there already.
        too_old: Jobs that ended longer ago than ``api.keep_days``, which the ledger would forget at once.
        skipped: File and reason, of those that hold no record.
    """

    imported: int = 0
    known: int = 0
    too_old: int = 0
    skipped: list[dict[str, str]] = field(default_factory=list)


async def import_jobs(settings: Settings, folder: Path) -> ImportedJobs:
    """Take the records ``folder/*.json`` into the ledger: all that can be read. One that was interrupted is done again.

    A job that has an id of ours keeps it. Others get one by their time, for the list, and the same every time; they are
    found by the old one. They belong to nobody in particular, so that admins alone are shown them.

    Args:
        settings: The configuration.
        folder: Where they lie.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` where the folder can't be read; ``CONFLICT`` while an API has the ledger's
            file open; and as ``import_ended``.
    """
    try:
        files = sorted(each for each in folder.iterdir() if each.suffix == ".json")
    except OSError as error:
        raise AutoScorerError(ErrorCode.INVALID_REQUEST, f"{str(folder)!r} can't be read: {error.strerror}.") from None
    done, begun = ImportedJobs(), False
    jobs = _jobs(files, done, time.time(), settings.api.keep_days * 86400)
    try:
        # At least once, so that a ledger that can't be used is told whatever lies in the folder.
        while (some := list(islice(jobs, _TOGETHER))) or not begun:
            new, known = await import_ended(settings, some)
            begun, done.imported, done.known = True, done.imported + new, done.known + known
    except AutoScorerError as error:
        if error.code is not ErrorCode.CONFLICT:
            raise
        raise AutoScorerError(
            ErrorCode.CONFLICT, "The API has the ledger's file open. Stop it, import the jobs, and start it again."
        ) from None
    return done


def _jobs(files: list[Path], done: ImportedJobs, now: float, keep: float) -> Iterator[tuple[NewTask, TaskEnd]]:
    for path in files:
        try:
            with path.open("rb") as file:
                data = file.read(_LARGEST + 1)
            if len(data) > _LARGEST:
                raise ValueError(f"it has more than {_LARGEST:,} bytes")
            task, end = _ended(_Record.model_validate(json.loads(data)), now)
        except (OSError, ValueError, OverflowError, RecursionError) as error:
            done.skipped.append({"file": path.name, "why": _why(error)})
            continue
        if now - (end.ended_at or now) > keep:
            done.too_old += 1
            continue
        yield task, end


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc'])) or 'the record'}: {first['msg']}"
    return "it is no JSON" if isinstance(error, (json.JSONDecodeError, UnicodeDecodeError)) else str(error)


def _ended(record: _Record, now: float) -> tuple[NewTask, TaskEnd]:
    """A record as a task, and how that ended."""
    created = _seconds(record.created_at)
    ended = now if record.finished_at is None else _seconds(record.finished_at)
    metrics = _metrics(record)
    about = record.request_summary
    summary = RequestSummary(
        **{**about.model_dump(), "question": about.question[:80], "answer": about.answer[:80]}
    ).model_copy(update={"metrics": about.metrics or list(metrics)})
    job_id = _id_of(record.job_id, created)
    task = NewTask(
        id=job_id,
        caller="imported",
        action="rag-score",
        subject=job_id,
        workspace=None,
        scorer=None,
        priority="normal",
        request=summary.model_dump(mode="json"),
        parameters={},
        created_at=created,
        job_id=record.job_id,
    )
    return task, TaskEnd(
        job_id,
        TaskState.COMPLETED if record.status == "completed" else TaskState.FAILED,
        result=_result(record, metrics) if metrics else None,
        error=_error(record),
        attempts=1,
        started_at=None if record.latency_ms is None else max(created, ended - record.latency_ms / 1000),
        ended_at=ended,
    )


def _metrics(record: _Record) -> dict[str, MetricScore]:
    found = {}
    for name, score in record.scores.items():
        none = {"status": "undefined", "reason": _NO_REASON} if score is None else {}
        found[name] = MetricScore(score=score, **none)
    for name in record.skipped_metrics:
        found[name] = MetricScore(status="skipped", reason=record.skip_reasons.get(name) or _NO_REASON)
    return found | record.metrics


def _result(record: _Record, metrics: dict[str, MetricScore]) -> Json:
    """What a flow run of ours would have left."""
    coverage = record.coverage
    if coverage is None:
        # Told by none of the first system's; without other weights its own are ours.
        truth = "there" if record.request_summary.has_ground_truth else None
        named = {name: each.score for name, each in metrics.items()}
        coverage = round(weighted(named, None, default_weights(Sample(ground_truth=truth)))[1], 4)
    scores = SampleScores(metrics=metrics, weighted_score=record.weighted_score, coverage=coverage)
    return result_of_scores(scores, record.latency_ms, record.judged_by)


def _error(record: _Record) -> Json | None:
    if record.status == "completed":
        return None
    if record.status != "failed":
        return AutoScorerError(ErrorCode.INTERNAL_ERROR, _DIED.format(record.status)).to_dict()
    code, colon, message = (record.error or _NO_REASON).partition(": ")
    if colon and code in set(ErrorCode):
        return AutoScorerError(code, message).to_dict()
    return AutoScorerError(ErrorCode.SCORER_ERROR, record.error or _NO_REASON).to_dict()


def _id_of(job_id: str, created: float) -> str:
    """Under which id a job is kept: ids sort by time."""
    first = first_id_at(created)
    # One of ours says the time in milliseconds, and was made a moment before the job was.
    if is_task_id(job_id) and abs((UUID(job_id).int >> 80) - (UUID(first).int >> 80)) < 60_000:
        return job_id
    digest = int.from_bytes(hashlib.sha256(job_id.encode()).digest()[:10])
    return str(UUID(int=UUID(first).int | (digest >> 68 << 64) | (digest & ((1 << 62) - 1))))


def _seconds(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
