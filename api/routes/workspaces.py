"""Workspaces: which there are, uploading one, and what may be read of one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Depends, Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from ...core.errors import AutoScorerError, ErrorCode
from ...schemas.result import Result
from ...service.policy import Act
from ...service.workspaces import listing, ownership, reading
from ...service.workspaces.history import HistoryPage, list_history, past_result
from ...service.workspaces.listing import WorkspacePage
from ...service.workspaces.origins import name_tasks
from ...service.workspaces.reading import ArtifactFile, RunLog, WorkspaceView
from ...service.workspaces.replacing import DeletedWorkspace, refuse_root
from ...service.workspaces.roots import WorkspaceRoots
from ...service.workspaces.uploads import UploadedWorkspace, Uploads
from ..auth import require
from ..caller import Caller
from ..context import tasks_of
from ..envelope import envelope
from ..files import FILE, file_answer, result_answer, result_text
from ..multipart import receive_form
from ..openapi_examples import HISTORY_EXAMPLE, LOG_EXAMPLE, RESULT_EXAMPLE, UPLOADED_EXAMPLE, WORKSPACE_EXAMPLE
from ..outgoing import outgoing
from ..routing import ApiRouter, answers, served
from ..seeing import seen_workspace
from .tasks import Anybody

__all__ = ["router"]

router = ApiRouter("workspaces")

WorkspaceName = Annotated[
    str,
    Query(
        min_length=1,
        max_length=4096,
        description="The workspace: absolute, or relative to a workspace root.",
        examples=["team-a"],
    ),
]


def _form(file: str, fields: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """The body of an upload: the field ``file``, as it is described, and others."""
    schema = {
        "type": "object",
        "required": ["file"],
        "additionalProperties": False,
        "properties": {"file": {"type": "string", "format": "binary", "description": file}, **(fields or {})},
        **more,
    }
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


_UPLOAD_BODY = _form(
    "One workspace as .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz: meta.json at its top, or in the one folder at its top.",
    {
        "name": {
            "type": "string",
            "minLength": 1,
            "maxLength": 100,
            "description": "What it is to be called; by default as that folder, or as the archive.",
            "example": "team-a",
        }
    },
)
_REPLACE_BODY = _form("One workspace, as `POST /workspaces` takes it.", example={"file": "@team-a.zip"})


def _roots(request: Request) -> WorkspaceRoots:
    roots: WorkspaceRoots = request.app.state.roots
    return roots


def _uploads(request: Request) -> Uploads:
    uploads: Uploads = request.app.state.uploads
    return uploads


@router.get(
    "/workspaces",
    summary="List the workspaces",
    responses={
        **served(
            200,
            WorkspacePage,
            "One page, in the order of their names.",
            {"workspaces": [WORKSPACE_EXAMPLE], "next_cursor": None},
        )
    },
)
async def list_workspaces(
    request: Request,
    caller: Anybody,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[str | None, Query(max_length=8192, description="`next_cursor` of the page before.")] = None,
    search: Annotated[str | None, Query(max_length=200, description="Only names that hold this text.")] = None,
) -> Response:
    """Folders with a meta.json under the workspace roots that the token may see, each with what its last Result
    says."""
    roots = _roots(request)
    page = await asyncio.to_thread(listing.list_workspaces, roots, caller, limit=limit, cursor=cursor, search=search)
    return envelope(request, page)


@router.post(
    "/workspaces",
    summary="Upload a workspace",
    dependencies=[Depends(require(Act.UPLOAD))],
    status_code=201,
    openapi_extra={"requestBody": _UPLOAD_BODY},
    responses={
        **served(201, UploadedWorkspace, "It is in place and may be submitted.", UPLOADED_EXAMPLE),
        **answers(409, 413, 503),
    },
)
async def upload_workspace(request: Request) -> Response:
    """Put one workspace under the first workspace root, whole or not at all.

    Refused is an archive with a path that escapes, a link, a device, a name that appears twice, an encrypted member,
    more files or bytes than allowed, or one that unpacks to a great many times its size. Results, artifacts and logs
    in it are left out: they would pass for ones that were made here.
    """
    async with _uploads(request).begin() as upload:
        form = await receive_form(request, "file", frozenset({"name"}), upload.write)
        uploaded = await upload.place(name=form.fields.get("name"), filename=form.filename)
    return envelope(
        request, uploaded, status=201, headers={"Location": f"/workspaces/{quote(uploaded.workspace.name)}"}
    )


@router.put(
    "/workspaces/{name:path}",
    summary="Replace a workspace",
    dependencies=[Depends(require(Act.CHANGE))],
    openapi_extra={"requestBody": _REPLACE_BODY},
    responses={
        **served(200, UploadedWorkspace, "The new one is in its place.", UPLOADED_EXAMPLE),
        **answers(404, 409, 413, 503),
    },
)
async def replace_workspace(request: Request, name: str) -> Response:
    """Put another workspace in the place of this one, whole or not at all. Its Results stay in the history, with their
    artifacts; `CONFLICT` while a task of it has not ended. The archive is as for `POST /workspaces`. *admin*"""
    target = await asyncio.to_thread(_changeable, _roots(request), name)
    await _refuse_active(request, name, target)
    async with _uploads(request).begin(replacing=target) as upload:
        form = await receive_form(request, "file", frozenset(), upload.write)
        # Once more: an upload may take long.
        await _refuse_active(request, name, target)
        uploaded = await upload.place(name=None, filename=form.filename)
    return envelope(request, uploaded)


@router.delete(
    "/workspaces/{name:path}",
    summary="Delete a workspace",
    dependencies=[Depends(require(Act.CHANGE))],
    responses={
        **served(200, DeletedWorkspace, "It is deleted.", {"name": "team-a"}),
        **answers(404, 409, 503),
    },
)
async def delete_workspace(request: Request, name: str) -> Response:
    """Delete a workspace with its data, Results and artifacts; its tasks keep what they say. `CONFLICT` while a task of
    it has not ended. *admin*"""
    target = await asyncio.to_thread(_changeable, _roots(request), name)
    await _refuse_active(request, name, target)
    return envelope(request, await _uploads(request).delete(target))


def _changeable(roots: WorkspaceRoots, name: str) -> Path:
    target = roots.workspace(name)
    refuse_root(roots, target)
    return target


async def _refuse_active(request: Request, name: str, target: Path) -> None:
    active = await tasks_of(request).active_on(target)
    if active:
        raise AutoScorerError(
            ErrorCode.CONFLICT,
            f"The workspace {name[:200]!r} has {len(active)} tasks that have not ended, such as {active[0]}. Wait for "
            "them, or cancel them first.",
            details={"tasks": [*active[:20]]},
        )


@router.get(
    "/workspaces/{name:path}/history",
    summary="The Results of a workspace",
    responses={
        **served(
            200,
            HistoryPage,
            "One page, newest first; the Result that stands is among them.",
            {"workspace": "team-a", "results": [HISTORY_EXAMPLE], "next_cursor": None, "total": 1},
        ),
        **answers(404),
    },
)
async def get_history(
    request: Request,
    caller: Anybody,
    name: str,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[str | None, Query(max_length=100, description="`next_cursor` of the page before.")] = None,
) -> Response:
    """All Results that a workspace has had: each in short, with the id under which all of it can be read."""
    roots = _roots(request)

    def read() -> BaseModel:
        # A workspace may be called history, and then lies in a folder that is not a workspace.
        if (view := _called(roots, caller, f"{name}/history")) is not None:
            return view
        root, _ = ownership.seen_workspace(roots, name, caller, Act.SEE)
        return list_history(root, roots.name(root), limit=limit, cursor=cursor)

    found = await asyncio.to_thread(read)
    if isinstance(found, HistoryPage):
        folder = await asyncio.to_thread(roots.locate, found.workspace)
        found = await name_tasks(found, folder, tasks_of(request).ledger, caller)
    return envelope(request, found)


@router.get(
    "/workspaces/{name:path}/history/{item}",
    summary="One Result of the history",
    responses={**served(200, Result, "The Result, whole.", RESULT_EXAMPLE), **answers(404)},
)
async def get_past_result(request: Request, caller: Anybody, name: str, item: str) -> Response:
    """A Result that a workspace has had, by its id in the history."""
    roots = _roots(request)

    def read() -> BaseModel:
        if (view := _called(roots, caller, f"{name}/history/{item}")) is not None:
            return view
        root, _ = ownership.seen_workspace(roots, name, caller, Act.SEE)
        return past_result(root, roots.name(root), item)

    return envelope(request, await asyncio.to_thread(read))


def _called(roots: WorkspaceRoots, caller: Caller, name: str) -> WorkspaceView | None:
    """The workspace of that name; None where there is none, or none that the caller may see."""
    try:
        folder, _ = ownership.seen_workspace(roots, name, caller, Act.SEE)
    except AutoScorerError:
        return None
    return reading.view_workspace(roots, folder)


@router.get(
    "/workspaces/{name:path}/output/{path:path}",
    summary="One artifact of a workspace, by an address that its links work under",
    response_class=Response,
    responses={**FILE, **answers(404)},
)
async def get_output(request: Request, caller: Anybody, name: str, path: str) -> Response:
    """As `/artifacts/{path}`, and `result.json` beside it in no envelope: what a report links to lies where it says."""
    roots = _roots(request)
    leaving = outgoing(request)

    def read() -> BaseModel | ArtifactFile | bytes:
        # A workspace may lie in a folder that is called output.
        if (view := _called(roots, caller, f"{name}/output/{path}")) is not None:
            return view
        ownership.seen_workspace(roots, name, caller, Act.READ_ARTIFACTS)
        if path == "result.json":
            result = reading.read_result(roots, name)
            return result_text(leaving.result(result.to_dict()))
        return reading.open_artifact(roots, name, f"output/{path}", everything=leaving.sees_truth)

    found = await asyncio.to_thread(read)
    if isinstance(found, ArtifactFile):
        return file_answer(request, found)
    return result_answer(found) if isinstance(found, bytes) else envelope(request, found)


@router.get(
    "/workspaces/{name:path}",
    summary="One workspace",
    responses={**served(200, WorkspaceView, "The workspace.", WORKSPACE_EXAMPLE), **answers(404)},
)
async def get_workspace(request: Request, caller: Anybody, name: str) -> Response:
    """What the listing says of one workspace."""
    folder = await seen_workspace(request, caller, name)
    return envelope(request, await asyncio.to_thread(reading.view_workspace, _roots(request), folder))


@router.get(
    "/result",
    summary="The Result of a workspace",
    responses={
        **served(200, Result, "What output/result.json holds.", RESULT_EXAMPLE),
        **answers(404),
    },
)
async def get_result(request: Request, caller: Anybody, workspace: WorkspaceName) -> Response:
    """The last Result, also when it is an error; 404 where nothing has been scored yet."""
    await seen_workspace(request, caller, workspace)
    return envelope(request, await asyncio.to_thread(reading.read_result, _roots(request), workspace))


@router.get(
    "/logs",
    summary="The container's log of a workspace",
    responses={**served(200, RunLog, "The end of the log.", LOG_EXAMPLE), **answers(404)},
)
async def get_logs(
    request: Request,
    caller: Anybody,
    workspace: WorkspaceName,
    tail: Annotated[int, Query(ge=0, le=100_000, description="Most lines.")] = 1000,
) -> Response:
    """What the last model wrote on stdout and stderr, also while it runs, and how its container ran."""
    await seen_workspace(request, caller, workspace, Act.READ_LOGS)
    return envelope(request, await asyncio.to_thread(reading.read_logs, _roots(request), workspace, tail))


@router.get(
    "/artifacts/{path:path}",
    summary="One artifact of a workspace",
    response_class=Response,
    responses={
        **FILE,
        307: {"description": "A page that a browser opens: to the address under which its links work."},
        **answers(404),
    },
)
async def get_artifact(
    request: Request,
    caller: Anybody,
    path: str,
    workspace: WorkspaceName,
) -> Response:
    """A plot, a table or the report, by its path as the Result lists it, or by its name in output/artifacts.

    A token of the role submit gets what stands for it where the ground truth may not be seen: counts in steps, of no
    few rows, and a report made of these alone. What has no such version, as errors.csv and files of scorers of your
    own, takes the role admin, unless the setting `api.show_errors` allows it to all.
    """
    everything = outgoing(request).sees_truth
    roots = _roots(request)
    await seen_workspace(request, caller, workspace, Act.READ_ARTIFACTS)
    artifact = await asyncio.to_thread(reading.open_artifact, roots, workspace, path, everything=everything)
    if artifact.media_type.startswith("text/html") and _is_opened(request):
        artifact.file.close()
        # Relative links of a page know nothing of a query.
        name = roots.name(await asyncio.to_thread(roots.workspace, workspace))
        below = path if path.startswith("output/") else f"output/artifacts/{path}"
        return Response(
            status_code=307, headers={"Location": f"/workspaces/{quote(name)}/{quote(below)}", "Vary": "Accept"}
        )
    return file_answer(request, artifact)


def _is_opened(request: Request) -> bool:
    """Whether a browser is to show the answer as a page; programs that ask for the bytes name no HTML."""
    return "text/html" in request.headers.get("accept", "")
