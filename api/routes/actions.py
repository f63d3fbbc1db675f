"""Do one thing with a workspace and wait for the outcome."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Body, Query
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from ...schemas.task import SingleAction, SubmitRequest, TaskView
from ..auth import check_backend
from ..caller import Caller
from ..context import tasks_of
from ..errors import invalid_request
from ..long_polling import outcome, seconds_to_wait
from ..models import TASK_EXAMPLE, ValidateBody, WorkBody
from ..routing import ApiRouter, answers, served
from .tasks import Anybody, IdempotencyKey

__all__ = ["router"]

router = ApiRouter("actions")

Wait = Annotated[
    float | None,
    Query(
        ge=0,
        allow_inf_nan=False,
        description="Seconds to wait for the outcome: 30 when absent, at most what the operator allows.",
    ),
]

_DONE = {**TASK_EXAMPLE, "state": "completed", "attempts": 1, "result": {"summary": {"score": 0.93, "pass": True}}}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    **served(200, TaskView, "It has ended well; `result` holds what came out.", _DONE, of_task=True),
    **served(202, TaskView, "It has not ended yet; `Location` says where to ask.", TASK_EXAMPLE, of_task=True),
    # Those of the catalogue: how a task that was waited for may have failed.
    **answers(404, 409, 502),
}
_WORKSPACE = {"workspace": "team-a"}


@router.post("/validate", summary="Check a workspace", responses=_RESPONSES)
async def validate(
    request: Request,
    body: Annotated[ValidateBody, Body(examples=[_WORKSPACE, {**_WORKSPACE, "for": "score"}])],
    caller: Anybody,
    wait: Wait = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Check a workspace; every problem at once. `valid_for` says for what it is valid. A workspace that is not as it
    must be is an error, and so is its status."""
    return await _do("validate", request, body, caller, wait, idempotency_key)


@router.post("/run", summary="Run a workspace's model", responses=_RESPONSES)
async def run(
    request: Request,
    body: Annotated[WorkBody, Body(examples=[_WORKSPACE])],
    caller: Anybody,
    wait: Wait = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Run the model in its sealed container; score nothing. `result` is the run's report."""
    return await _do("run", request, body, caller, wait, idempotency_key)


@router.post("/score", summary="Score a workspace's predictions", responses=_RESPONSES)
async def score(
    request: Request,
    body: Annotated[WorkBody, Body(examples=[{**_WORKSPACE, "params": {"pass_threshold": 0.8}}])],
    caller: Anybody,
    wait: Wait = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Score the predictions that are there."""
    return await _do("score", request, body, caller, wait, idempotency_key)


@router.post("/pipeline", summary="Validate, run and score a workspace", responses=_RESPONSES)
async def pipeline(
    request: Request,
    body: Annotated[WorkBody, Body(examples=[{**_WORKSPACE, "backend": "docker"}])],
    caller: Anybody,
    wait: Wait = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Validate the workspace, run its model and score what it wrote."""
    return await _do("pipeline", request, body, caller, wait, idempotency_key)


async def _do(
    action: SingleAction,
    request: Request,
    body: WorkBody,
    caller: Caller,
    wait: float | None,
    idempotency_key: str | None,
) -> Response:
    seconds = seconds_to_wait(request, wait)
    try:
        wanted = SubmitRequest(action=action, **body.model_dump(exclude_unset=True, by_alias=True))
    except ValidationError as error:
        raise invalid_request(
            {**item, "loc": ("body", *item["loc"])} for item in error.errors(include_url=False)
        ) from None
    check_backend(tasks_of(request).settings, caller, wanted.backend)
    submitted = await tasks_of(request).submit(wanted, caller=caller, idempotency_key=idempotency_key)
    return await outcome(request, submitted, seconds)
