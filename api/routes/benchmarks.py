"""Benchmarks: which there are, submitting to them, and who is best."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import Header, Query
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from ...core.benchmark import BenchmarkFolder
from ...service.benchmarks import board, catalogue, submitted, submitting
from ...service.benchmarks.board import BoardView, Part
from ...service.benchmarks.catalogue import BenchmarkPage, BenchmarkView
from ...service.benchmarks.incoming import Incoming
from ...service.benchmarks.public import PublicBoards, PublicBoardView
from ...service.benchmarks.submitted import SubmissionPage
from ...service.benchmarks.submitting import Handed, HandedIn, ImageSubmission
from ...service.workspaces.roots import WorkspaceRoots
from ...tasks.benchmarks.adding import Source
from ...tasks.benchmarks.choice import choose
from ...tasks.benchmarks.leaderboard import to_csv
from ..auth import check_backend
from ..caller import Caller
from ..context import context_of, tasks_of
from ..envelope import envelope, enveloped
from ..errors import invalid_request
from ..models import ChosenBody, ChosenView
from ..multipart import receive_form
from ..openapi_benchmarks import (
    BENCHMARK_EXAMPLE,
    BOARD_EXAMPLE,
    HANDED_EXAMPLE,
    PUBLIC_EXAMPLE,
    SUBMISSION_BODY,
    SUBMITTED_EXAMPLE,
)
from ..outgoing import outgoing
from ..routing import ApiRouter, answers, served
from .tasks import Anybody, IdempotencyKey

__all__ = ["router"]

router = ApiRouter("benchmarks")

_BOARD = served(200, BoardView, "Best first; as CSV with `format=csv` or `Accept: text/csv`.", BOARD_EXAMPLE)
_CSV = (
    "place,team,score,low,high,metric,number,label,submissions,submitted_at,version\r\n"
    "1,team-a,0.93,0.9,0.95,f1_macro,3,with more data,3,2026-11-22T21:00:00Z,1\r\n"
)


@router.get(
    "/benchmarks",
    summary="List the benchmarks",
    responses=served(200, BenchmarkPage, "All of them.", {"benchmarks": [BENCHMARK_EXAMPLE]}),
)
async def list_benchmarks(request: Request, caller: Anybody) -> Response:
    """Folders with a benchmark.json under the workspace roots. Nothing of a ground truth is told."""
    page = await asyncio.to_thread(catalogue.list_benchmarks, _roots(request), caller)
    tasks = tasks_of(request)
    for view in page.benchmarks:
        view.left = await submitting.left_of_team(tasks, view.name, view.quota, caller) if view.error is None else None
    return envelope(request, page)


@router.post(
    "/benchmarks/{name:path}/submissions",
    status_code=202,
    summary="Submit to a benchmark",
    openapi_extra={"requestBody": SUBMISSION_BODY},
    responses={
        **served(202, HandedIn, "Accepted, and on disk; or what was there already.", HANDED_EXAMPLE),
        **answers(404, 409, 413, 503),
    },
)
async def submit(request: Request, caller: Anybody, name: str, idempotency_key: IdempotencyKey = None) -> Response:
    """Hand in an image by its name (JSON), or a file of predictions or the archive of an image (a form).

    The submission gets a workspace of its own, numbered, and a task: `pipeline`, or `score` for predictions. A team's
    token submits for its team, and as often as the benchmark's quota says: `quota` tells what is left, and
    `QUOTA_EXCEEDED` (429) that nothing is. An organiser's or admin's names the team, and no quota counts. *team*
    """
    folder, name = await _benchmark(request, name)
    tasks = tasks_of(request)
    # Before anything is read of what may be a large file.
    submitting.team_for(caller, name, caller.team or "any")
    if idempotency_key is None:
        await submitting.refuse_in_vain(tasks, folder, name, caller)
    if request.headers.get("content-type", "").lower().startswith("multipart/"):
        async with Incoming(folder) as incoming:
            form = await receive_form(request, "file", frozenset(Handed.model_fields), incoming.write)
            handed = _checked(Handed, form.fields)
            kind, filename = submitting.kind_of(form.filename, handed.kind)
            path = await asyncio.to_thread(incoming.named, filename)
            return await _hand_in(
                request, folder, name, handed, Source(kind, path), caller, incoming.sha256, idempotency_key
            )
    asked = _checked(ImageSubmission, await request.json())
    container = asked.model_dump(mode="json", include={"image", "cmd", "env"})
    return await _hand_in(request, folder, name, asked, Source("image", None, container), caller, "", idempotency_key)


async def _hand_in(
    request: Request,
    folder: BenchmarkFolder,
    name: str,
    asked: ImageSubmission | Handed,
    source: Source,
    caller: Caller,
    content: str,
    idempotency_key: str | None,
) -> Response:
    tasks = tasks_of(request)
    check_backend(tasks.settings, caller, asked.backend)
    handed, accepted = await submitting.submit(
        tasks, folder, name, asked, source, caller=caller, content=content, idempotency_key=idempotency_key
    )
    context_of(request).task_id = handed.task.id
    headers = {"Location": f"/tasks/{handed.task.id}", "X-Task-Created": "true" if accepted.created else "false"}
    return envelope(request, handed, status=202, headers=headers)


@router.get(
    "/benchmarks/{name:path}/submissions",
    summary="List the submissions to a benchmark",
    responses={
        **served(
            200,
            SubmissionPage,
            "One page, by team, the newest of each first.",
            {"submissions": [SUBMITTED_EXAMPLE], "next_cursor": None, "total": 1},
        ),
        **answers(404),
    },
)
async def list_submissions(
    request: Request,
    caller: Anybody,
    name: str,
    team: Annotated[str | None, Query(max_length=64, description="Of this team alone.")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[str | None, Query(max_length=100, description="`next_cursor` of the page before.")] = None,
) -> Response:
    """Those that the token may see: a team its own, an organiser and an admin all."""
    folder, name = await _benchmark(request, name)
    page = await submitted.list_submissions(
        _roots(request), tasks_of(request).ledger, folder, name, caller, team=team, limit=limit, cursor=cursor
    )
    return envelope(request, page)


@router.get(
    "/benchmarks/{name:path}/leaderboard",
    summary="A benchmark's leaderboard",
    responses={
        200: {
            **_BOARD[200],
            "content": {**_BOARD[200]["content"], "text/csv": {"schema": {"type": "string"}, "example": _CSV}},
        },
        **answers(404),
    },
)
async def get_leaderboard(
    request: Request,
    caller: Anybody,
    name: str,
    part: Annotated[
        Part, Query(description="`private`: of the withheld part; before its release organisers' alone.")
    ] = ("public"),
    format: Annotated[Literal["json", "csv"] | None, Query()] = None,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> Response:
    """A row a team, best first. Of other teams a token sees what the benchmark's `visibility` says: nothing, the rows
    without names, or the rows."""
    folder, name = await _benchmark(request, name)
    leaving = outgoing(request)

    def look() -> BoardView:
        return board.leaderboard(folder, folder.read(), name, caller, part, leaving.number)

    view = await asyncio.to_thread(look)
    if format == "csv" or (format is None and "text/csv" in accept.lower()):
        content = to_csv(leaving.answer(view)["rows"]).encode("utf-8", "backslashreplace")
        headers = {"Content-Disposition": 'attachment; filename="leaderboard.csv"', "Vary": "Accept"}
        return Response(content, headers=headers, media_type="text/csv")
    return enveloped(request, leaving.answer(view), headers={"Vary": "Accept"})


@router.get(
    "/public/benchmarks/{name:path}",
    summary="A leaderboard that is public",
    responses={**served(200, PublicBoardView, "The board, best first.", PUBLIC_EXAMPLE), **answers(404)},
)
async def get_public_board(request: Request, name: str, part: Part = "public") -> Response:
    """What anybody may see of a benchmark whose `leaderboard.public` is true: its description, and its leaderboard as a
    token sees it that is of no team. Needs no token."""
    boards: PublicBoards = request.app.state.public_boards
    return envelope(request, await boards.look(name, part))


@router.put(
    "/benchmarks/{name:path}/chosen",
    summary="Choose the submission that counts",
    responses={
        **served(200, ChosenView, "It counts.", {"benchmark": "flowers", "team": "team-a", "number": 3}),
        **answers(404),
    },
)
async def put_chosen(request: Request, caller: Anybody, name: str, body: ChosenBody) -> Response:
    """Have one of a team's submissions count on the leaderboard, where the benchmark goes by what teams choose.
    *team*"""
    folder, name = await _benchmark(request, name)
    team = submitting.team_for(caller, name, body.team)
    await asyncio.to_thread(choose, folder, team, body.number)
    return envelope(request, ChosenView(benchmark=name, team=team, number=body.number))


@router.get(
    "/benchmarks/{name:path}",
    summary="One benchmark",
    responses={**served(200, BenchmarkView, "The benchmark.", BENCHMARK_EXAMPLE), **answers(404)},
)
async def get_benchmark(request: Request, caller: Anybody, name: str) -> Response:
    """What it is about, when and how often submissions are taken, and what a team has left."""
    folder, name = await _benchmark(request, name)
    roots = _roots(request)
    view = await asyncio.to_thread(catalogue.view_benchmark, roots, folder, caller)
    if view.error is None:
        view.left = await submitting.quota_left(tasks_of(request), folder, name, caller)
    return envelope(request, view)


def _roots(request: Request) -> WorkspaceRoots:
    roots: WorkspaceRoots = request.app.state.roots
    return roots


async def _benchmark(request: Request, name: str) -> tuple[BenchmarkFolder, str]:
    """The benchmark that a request is about, and what it is called: an address may spell it in several ways."""
    roots = _roots(request)
    folder = await asyncio.to_thread(catalogue.benchmark_named, roots, name)
    return folder, roots.name(folder.root)


def _checked(model: Any, given: Any) -> Any:
    try:
        return model.model_validate(given)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        raise invalid_request({**item, "loc": ("body", *item["loc"])} for item in problems) from None
