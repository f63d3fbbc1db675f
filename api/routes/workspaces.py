"""Workspaces: which there are, uploading one, and what may be read of one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Depends, Query, Request
from starlette.responses import Response, StreamingResponse

from ...schemas.result import Result
from ...service import browse
from ...service.browse import ArtifactFile, RunLog, WorkspacePage, WorkspaceView
from ...service.roots import WorkspaceRoots
from ...service.uploads import UploadedWorkspace, Uploads
from ..auth import require
from ..context import context_of
from ..disclosed import disclosure_of
from ..envelope import envelope
from ..examples import LOG_EXAMPLE, RESULT_EXAMPLE, UPLOADED_EXAMPLE, WORKSPACE_EXAMPLE
from ..multipart import receive_form
from ..routing import ApiRouter, answers, served

__all__ = ["router"]

router = ApiRouter("workspaces")
_submit = [Depends(require("submit"))]

WorkspaceName = Annotated[
    str,
    Query(
        min_length=1,
        max_length=4096,
        description="The workspace: absolute, or relative to a workspace root.",
        examples=["team-a"],
    ),
]

_CHUNK = 256 * 1024
_DOWNLOAD_SECONDS = 3600.0
# An artifact is made from what a stranger's model wrote: whatever it is, it runs nothing and loads nothing.
_SEALED = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-cache",
}
# What a browser shows by itself; the rest is saved.
_SHOWN = ("text/", "image/", "application/json")

_UPLOAD_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "additionalProperties": False,
                "properties": {
                    "file": {
                        "type": "string",
                        "format": "binary",
                        "description": "One workspace as .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz: meta.json at its "
                        "top, or in the one folder at its top.",
                    },
                    "name": {
                        "type": "string",
                        "minLength": 1,
                        "maxLength": 100,
                        "description": "What it is to be called; by default as that folder, or as the archive.",
                        "example": "team-a",
                    },
                },
            }
        }
    },
}


def _roots(request: Request) -> WorkspaceRoots:
    roots: WorkspaceRoots = request.app.state.roots
    return roots


def _uploads(request: Request) -> Uploads:
    uploads: Uploads = request.app.state.uploads
    return uploads


@router.get(
    "/workspaces",
    summary="List the workspaces",
    dependencies=_submit,
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
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[str | None, Query(max_length=8192, description="`next_cursor` of the page before.")] = None,
    search: Annotated[str | None, Query(max_length=200, description="Only names that hold this text.")] = None,
) -> Response:
    """Folders with a meta.json under the workspace roots, each with what its last Result says."""
    page = await asyncio.to_thread(browse.list_workspaces, _roots(request), limit=limit, cursor=cursor, search=search)
    return envelope(request, page)


@router.post(
    "/workspaces",
    summary="Upload a workspace",
    dependencies=_submit,
    status_code=201,
    openapi_extra={"requestBody": _UPLOAD_BODY},
    responses={
        **served(201, UploadedWorkspace, "It is in place and may be submitted.", UPLOADED_EXAMPLE),
        **answers(409, 413, 503),
    },
)
async def upload_workspace(request: Request) -> Response:
    """Put one workspace under the first workspace root, whole or not at all.

    Refused is an archive with a path that escapes, a link, a device, a name that stands twice, an encrypted member,
    more files or bytes than allowed, or one that unpacks to a great many times its size. Results, artifacts and logs
    in it are left out: they would pass for ones that were made here.
    """
    async with _uploads(request).begin() as upload:
        form = await receive_form(request, "file", frozenset({"name"}), upload.write)
        uploaded = await upload.place(name=form.fields.get("name"), filename=form.filename)
    return envelope(
        request, uploaded, status=201, headers={"Location": f"/workspaces/{quote(uploaded.workspace.name)}"}
    )


@router.get(
    "/workspaces/{name:path}",
    summary="One workspace",
    dependencies=_submit,
    responses={**served(200, WorkspaceView, "The workspace.", WORKSPACE_EXAMPLE), **answers(404)},
)
async def get_workspace(request: Request, name: str) -> Response:
    """What the listing says of one workspace."""
    roots = _roots(request)
    view = await asyncio.to_thread(lambda: browse.view_workspace(roots, roots.workspace(name)))
    return envelope(request, view)


@router.get(
    "/result",
    summary="The Result of a workspace",
    dependencies=_submit,
    responses={
        **served(200, Result, "What output/result.json holds.", RESULT_EXAMPLE),
        **answers(404),
    },
)
async def get_result(request: Request, workspace: WorkspaceName) -> Response:
    """The last Result, also when it is an error; 404 where nothing has been scored yet."""
    return envelope(request, await asyncio.to_thread(browse.read_result, _roots(request), workspace))


@router.get(
    "/logs",
    summary="The container's log of a workspace",
    dependencies=_submit,
    responses={**served(200, RunLog, "The end of the log.", LOG_EXAMPLE), **answers(404)},
)
async def get_logs(
    request: Request,
    workspace: WorkspaceName,
    tail: Annotated[int, Query(ge=0, le=100_000, description="Most lines.")] = 1000,
) -> Response:
    """What the last model wrote on stdout and stderr, also while it runs, and how its container ran."""
    return envelope(request, await asyncio.to_thread(browse.read_logs, _roots(request), workspace, tail))


@router.get(
    "/artifacts/{path:path}",
    summary="One artifact of a workspace",
    dependencies=_submit,
    response_class=Response,
    responses={
        200: {
            "description": "The file itself, in no envelope, with its media type.",
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        },
        **answers(404),
    },
)
async def get_artifact(
    request: Request,
    path: str,
    workspace: WorkspaceName,
) -> Response:
    """A plot, a table or the report, by its path as the Result lists it, or by its name in output/artifacts.

    A token of the role submit gets what stands for it where the ground truth may not be seen: counts in steps, of no
    few rows, and a report made of these alone. What has no such version, as errors.csv and files of scorers of your
    own, takes the role admin, unless the setting `api.show_errors` allows it to all.
    """
    everything = disclosure_of(request).sees_truth
    artifact = await asyncio.to_thread(browse.open_artifact, _roots(request), workspace, path, everything=everything)
    context_of(request).allow(_DOWNLOAD_SECONDS)
    kind = "inline" if artifact.media_type.startswith(_SHOWN) else "attachment"
    headers = {
        **_SEALED,
        "Content-Disposition": f"{kind}; filename*=UTF-8''{quote(artifact.name, safe='')}",
        "Content-Length": str(artifact.size),
    }
    return StreamingResponse(_content(artifact), headers=headers, media_type=artifact.media_type)


async def _content(artifact: ArtifactFile) -> AsyncIterator[Any]:
    # As many bytes as were announced, even if somebody writes to the file meanwhile.
    left = artifact.size
    with artifact.file as file:
        while left and (chunk := await asyncio.to_thread(file.read, min(_CHUNK, left))):
            left -= len(chunk)
            yield chunk
