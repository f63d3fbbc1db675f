"""The artifacts of a task: listed, read, and opened for a short time by a signed link."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Body, Path, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.responses import Response

from ...core.errors import AutoScorerError, ErrorCode
from ...schemas.task import TaskView
from ...service.links import SignedLinks
from ...service.policy import Act
from ...service.task_artifacts import TaskArtifacts, list_task_artifacts, open_task_artifact, report_of
from ..caller import Caller
from ..context import tasks_of
from ..envelope import envelope
from ..files import FILE, file_answer, result_answer, result_text
from ..models import LinkView
from ..openapi_examples import ARTIFACT_EXAMPLE, LINK_EXAMPLE
from ..outgoing import outgoing
from ..routing import ApiRouter, answers, served
from ..seeing import seen_task
from .tasks import Anybody, TaskId

__all__ = ["router"]

router = ApiRouter("tasks")


class _FileConvertor(StringConvertor):
    """A name with a dot: a file, and none of the verbs below a task."""

    regex = r"[^/]*\.[^/]*"


register_url_convertor("file", _FileConvertor())

Signature = Annotated[str, Path(min_length=1, max_length=2000, description="As POST /tasks/{task_id}/links gave it.")]
FileName = Annotated[
    str,
    Path(
        min_length=1,
        max_length=4096,
        description="The file's name, or its key in the Result.",
        examples=["report.html"],
    ),
]
_RESULT = "result.json"


class LinkBody(BaseModel):
    """Which artifact a link is to open."""

    model_config = ConfigDict(extra="forbid")

    artifact: str | None = Field(
        None,
        max_length=4096,
        description="Its file or its key; the report when absent, else the list.",
        examples=["report.html"],
    )


@router.post(
    "/tasks/{task_id}/links",
    summary="A link to a task's artifacts",
    responses={**served(200, LinkView, "The link.", LINK_EXAMPLE), **answers(404)},
)
async def make_link(
    request: Request, caller: Anybody, task_id: TaskId, body: Annotated[LinkBody | None, Body()] = None
) -> Response:
    """A link that opens the task's artifacts without a token, for ten minutes, as far as this token may see them.

    Links between the files work below it: those of a report to its tables, plots and `result.json`.
    """
    row = await seen_task(request, caller, task_id, Act.READ_ARTIFACTS)
    task = await tasks_of(request).get(task_id)
    everything = outgoing(request).sees_truth
    wanted = body.artifact if body is not None else None
    if wanted is not None:
        opened = await asyncio.to_thread(
            open_task_artifact, tasks_of(request).roots, task, wanted, everything=everything
        )
        opened.file.close()
    name = wanted or report_of(task, everything=everything)
    links: SignedLinks = request.app.state.links
    signature, expires = await asyncio.to_thread(links.sign, task.id, caller, row.subject_of)
    base = f"/signed/{signature}/tasks/{quote(task.id, safe='')}"
    moment = datetime.fromtimestamp(expires, UTC).isoformat().replace("+00:00", "Z")
    url = f"{base}/artifacts/{quote(name)}" if name is not None else f"{base}/artifacts"
    return envelope(request, LinkView(url=url, base=base, expires_at=moment))


@router.get(
    "/tasks/{task_id}/artifacts",
    summary="The artifacts of a task",
    responses={
        **served(
            200,
            TaskArtifacts,
            "What its Result lists; `kept` says whether it can still be had.",
            {"task_id": "0190f2d4a1b37c6e8f0a1b2c3d4e5f60", "workspace": "team-a", "artifacts": [ARTIFACT_EXAMPLE]},
        ),
        **answers(404),
    },
)
async def list_artifacts(request: Request, caller: Anybody, task_id: TaskId) -> Response:
    """The files that the task's own Result lists, with their sha256. A token of the role submit is told of those that
    stand for them where the ground truth may not be seen."""
    task = await _task(request, caller, task_id)
    everything = outgoing(request).sees_truth
    listed = await asyncio.to_thread(list_task_artifacts, tasks_of(request).roots, task, everything=everything)
    return envelope(request, listed)


@router.get(
    "/tasks/{task_id}/artifacts/{name:path}",
    summary="One artifact of a task",
    response_class=Response,
    responses={**FILE, **answers(404)},
)
async def get_task_artifact(request: Request, caller: Anybody, task_id: TaskId, name: FileName) -> Response:
    """The very bytes that the task's Result lists, whatever has been scored in its workspace since; NOT_FOUND says why
    where they are gone."""
    task = await _task(request, caller, task_id)
    return await _artifact(request, task, name)


@router.get(
    "/tasks/{task_id}/{name:file}",
    summary="What a report of a task links to beside its artifacts",
    response_class=Response,
    responses={**FILE, **answers(404)},
)
async def get_beside(request: Request, caller: Anybody, task_id: TaskId, name: FileName) -> Response:
    """`result.json`: the task's own Result, in no envelope. And artifacts that a scorer has put into `output/`."""
    task = await _task(request, caller, task_id)
    if name != _RESULT:
        return await _artifact(request, task, f"output/{name}")
    result: dict[str, Any] = task.result or {}
    if "summary" not in result:
        raise AutoScorerError(
            ErrorCode.NOT_FOUND, f"The task {task.id} has no Result; GET /tasks/{task.id} says what it came to."
        )
    return result_answer(result_text(outgoing(request).result(result)))


async def _signed_list(request: Request, signature: Signature, caller: Anybody, task_id: TaskId) -> Response:
    """As `/tasks/{task_id}/artifacts`, by a signed link."""
    return await list_artifacts(request, caller, task_id)


async def _signed_artifact(
    request: Request, signature: Signature, caller: Anybody, task_id: TaskId, name: FileName
) -> Response:
    """As `/tasks/{task_id}/artifacts/{name}`, by a signed link."""
    return await get_task_artifact(request, caller, task_id, name)


async def _signed_beside(
    request: Request, signature: Signature, caller: Anybody, task_id: TaskId, name: FileName
) -> Response:
    """As `/tasks/{task_id}/{name}`, by a signed link."""
    return await get_beside(request, caller, task_id, name)


for _path, _handler in (
    ("/signed/{signature}/tasks/{task_id}/artifacts", _signed_list),
    ("/signed/{signature}/tasks/{task_id}/artifacts/{name:path}", _signed_artifact),
    ("/signed/{signature}/tasks/{task_id}/{name:file}", _signed_beside),
):
    router.get(_path, summary="By a signed link", response_class=Response, responses={**FILE, **answers(404)})(_handler)


async def _task(request: Request, caller: Caller, task_id: str) -> TaskView:
    await seen_task(request, caller, task_id, Act.READ_ARTIFACTS)
    return await tasks_of(request).get(task_id)


async def _artifact(request: Request, task: TaskView, name: str) -> Response:
    everything = outgoing(request).sees_truth
    opened = await asyncio.to_thread(open_task_artifact, tasks_of(request).roots, task, name, everything=everything)
    return file_answer(request, opened)
