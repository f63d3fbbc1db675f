"""Handing in a submission: its workspace is made, and an ordinary task is accepted that works on it."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Coroutine
from pathlib import Path, PurePath
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ...core.benchmark import BenchmarkFolder
from ...core.errors import AutoScorerError, ErrorCode
from ...core.scores import read_submission
from ...core.workspace import TABLE_SUFFIXES
from ...executors.files import remove_tree
from ...schemas.benchmark import Kind, Quota, Submission
from ...schemas.quota import QuotaLeft
from ...schemas.task import BackendName, SubmitRequest, TaskView
from ...tasks.benchmarks.adding import Source, add_submission, open_phase
from ...tasks.benchmarks.evaluate import action_of
from ..ledger.quotas import check_left, left_of
from ..policy import Act, Caller, Subject, check
from ..submissions import check_key
from ..tasks import Submitted, TaskService
from .incoming import writing_to

__all__ = [
    "Handed",
    "HandedIn",
    "ImageSubmission",
    "kind_of",
    "left_of_team",
    "quota_left",
    "refuse_in_vain",
    "submit",
    "team_for",
]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")

    team: str | None = Field(
        None, max_length=64, description="Whose it is, where the token is no team's; an organiser's may name any."
    )
    label: str | None = Field(None, max_length=200, description="The team's own words for it.")
    backend: BackendName | None = Field(None, description="As the worker is configured when absent.")
    callback_url: str | None = Field(
        None, max_length=2000, description="http(s) address that gets the envelope when the task has ended."
    )


class ImageSubmission(_Asked):
    """A submission that is an image of a registry."""

    image: str = Field(min_length=1, max_length=1000, description="Image reference.", examples=["registry/model:1"])
    cmd: list[str] = Field(default_factory=list, max_length=1000, description="Command; the image's own when empty.")
    env: dict[str, str] = Field(default_factory=dict, description="Environment of the model.")


class Handed(_Asked):
    """A submission that is a file: what its form says beside it."""

    kind: Kind | None = Field(
        None, description="`predictions` or `archive` (of an image); told by the file's name when absent."
    )


class HandedIn(BaseModel):
    """A submission that was accepted, or was there already."""

    model_config = ConfigDict(extra="forbid")

    benchmark: str
    submission: Submission | None = Field(description="What it is; null where it is not there any more.")
    workspace: str | None
    task: TaskView
    quota: QuotaLeft | None = Field(description="What the team has left; null where the token is no team's.")


def kind_of(filename: str | None, given: Kind | None) -> tuple[Kind, str]:
    """What a file is, and the name that it is handed in under.

    Args:
        filename: As the caller gave it.
        given: What the caller says it is.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` where neither says it.
    """
    name = PurePath(filename or "")
    suffix = name.suffix.lower()
    is_archive = suffix in (".tar", ".tgz") or name.name.lower().endswith(".tar.gz")
    kind: Kind | None = given or ("predictions" if suffix in TABLE_SUFFIXES else "archive" if is_archive else None)
    if kind == "predictions" and suffix in TABLE_SUFFIXES:
        return kind, f"pred{suffix}"
    if kind == "archive":
        return kind, "image.tar"
    if kind == "predictions":
        why = f"predictions are read by their name's ending, which must be one of {', '.join(TABLE_SUFFIXES)}"
    elif kind is not None:
        why = f"a file is predictions or archive, not {kind}; an image is named in JSON"
    else:
        why = f"expected predictions ({', '.join(TABLE_SUFFIXES)}) or the archive of an image (.tar, .tar.gz)"
    raise AutoScorerError(ErrorCode.INVALID_REQUEST, f"The file {name.name[:100]!r} can't be taken: {why}.")


def team_for(caller: Caller, name: str, asked: str | None) -> str:
    """Whose a submission is that somebody hands in.

    Args:
        caller: Who hands it in.
        name: The benchmark's name.
        asked: The team that is named; None for none.

    Raises:
        AutoScorerError: ``FORBIDDEN``; ``INVALID_REQUEST`` where no team is named and the token is none's.
    """
    team = asked if asked is not None else caller.team
    hidden = AutoScorerError(
        ErrorCode.FORBIDDEN, f"This token may make no submission to {name}: that takes one of a team, which it is for."
    )
    check(caller, Act.SUBMIT, Subject(name, team), hidden=hidden)
    if team is None:
        raise AutoScorerError(ErrorCode.INVALID_REQUEST, "team: say whose submission it is; this token is no team's.")
    return team


async def quota_left(tasks: TaskService, folder: BenchmarkFolder, name: str, caller: Caller) -> QuotaLeft | None:
    """What a team has left of a benchmark; None for who is no team. Raises ``INVALID_BENCHMARK``."""
    if caller.team is None:
        return None
    spec = await asyncio.to_thread(folder.read)
    return await left_of_team(tasks, name, spec.quota, caller)


async def left_of_team(tasks: TaskService, name: str, quota: Quota, caller: Caller) -> QuotaLeft | None:
    """What a team has left of a benchmark's quota; None for who is no team."""
    return None if caller.team is None else left_of(await tasks.ledger.spent(name, caller.team), quota)


async def refuse_in_vain(tasks: TaskService, folder: BenchmarkFolder, name: str, caller: Caller) -> None:
    """Refuse a team's submission that would not be accepted, before its file is sent.

    Raises:
        AutoScorerError: ``PHASE_CLOSED``, ``QUOTA_EXCEEDED``, ``INVALID_BENCHMARK``.
    """
    spec = await asyncio.to_thread(folder.read)
    open_phase(spec)
    if caller.team is not None:
        check_left(await tasks.ledger.spent(name, caller.team), spec.quota, caller.team)


async def submit(
    tasks: TaskService,
    folder: BenchmarkFolder,
    name: str,
    asked: ImageSubmission | Handed,
    source: Source,
    *,
    caller: Caller,
    content: str,
    idempotency_key: str | None,
) -> tuple[HandedIn, Submitted]:
    """Make a submission and accept its task; what was not accepted leaves nothing behind.

    Args:
        tasks: Accepts it.
        folder: The benchmark.
        name: Its name.
        asked: What was asked for.
        source: What is handed in.
        caller: Who hands it in.
        content: What tells one file from another: its digest.
        idempotency_key: The same key with the same submission gives the same one.

    Raises:
        AutoScorerError: As ``add_submission`` and ``TaskService.submit``.
    """
    team = team_for(caller, name, asked.team)
    check_key(idempotency_key)
    digest = hashlib.sha256(
        json.dumps([name, team, source.kind, content, asked.model_dump(mode="json")], sort_keys=True).encode()
    ).hexdigest()
    if idempotency_key is not None:
        known = await tasks.known(caller, idempotency_key, digest)
        if known is not None:
            return await _answer(tasks, folder, name, caller, known), known
    submitted = await _accepted(
        _accept(tasks, folder, team, asked, source, caller=caller, digest=digest, key=idempotency_key)
    )
    return await _answer(tasks, folder, name, caller, submitted), submitted


async def _accepted(work: Coroutine[Any, Any, Submitted]) -> Submitted:
    """What becomes of it; whoever stops waiting stops no work: half of it would be a task without its workspace."""
    doing = asyncio.create_task(work)
    doing.add_done_callback(lambda done: done.cancelled() or done.exception())
    return await asyncio.shield(doing)


async def _accept(
    tasks: TaskService,
    folder: BenchmarkFolder,
    team: str,
    asked: ImageSubmission | Handed,
    source: Source,
    *,
    caller: Caller,
    digest: str,
    key: str | None,
) -> Submitted:
    def make() -> Path:
        with writing_to(folder):
            return add_submission(folder, team, source, label=asked.label)

    root = await asyncio.to_thread(make)
    try:
        request = SubmitRequest.model_validate(
            {
                "action": action_of(source.kind),
                "workspace": tasks.roots.name(root),
                "backend": asked.backend,
                "callback_url": asked.callback_url,
            }
        )
        submitted = await tasks.submit(request, caller=caller, act=Act.SUBMIT, idempotency_key=key, request_hash=digest)
    except BaseException as error:
        # A ledger that went away while it wrote may have accepted it.
        if not (isinstance(error, AutoScorerError) and error.code is ErrorCode.BACKEND_UNAVAILABLE):
            await asyncio.to_thread(remove_tree, root)
        raise
    if not submitted.created:  # the same key came twice at the same time, and the other one was first
        await asyncio.to_thread(remove_tree, root)
    return submitted


async def _answer(
    tasks: TaskService, folder: BenchmarkFolder, name: str, caller: Caller, submitted: Submitted
) -> HandedIn:
    workspace = submitted.task.workspace
    about = None
    if workspace is not None:
        about = await asyncio.to_thread(read_submission, tasks.roots.locate(workspace))
    left = submitted.left or await quota_left(tasks, folder, name, caller)
    return HandedIn(benchmark=name, submission=about, workspace=workspace, task=submitted.task, quota=left)
