"""Whether the facade lives, and whether the installation can work."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response

from ...core.errors import AutoScorerError, ErrorCode
from ...service.readiness import AcceptView, Readiness, ReadyView
from ..envelope import envelope, failure
from ..models import Alive
from ..routing import ApiRouter, served

__all__ = ["router"]

router = ApiRouter("service")

_READY = {
    "ready": True,
    "ledger": {"state": "ok", "detail": "answers"},
    "server": {"state": "ok", "detail": "answers"},
    "scheduler": {"state": "ok", "detail": "every active schedule has a run ahead"},
    "pools": {"autoscorer": {"state": "ok", "detail": "type process"}},
    "workers": {"autoscorer": {"state": "ok", "detail": "1 online"}},
    "executors": {"docker": {"state": "ok", "detail": "Docker Engine 28.0 (API 1.48), 8 CPUs"}},
}


@router.get(
    "/healthz",
    summary="Whether the API is alive",
    responses=served(200, Alive, "It is.", {"status": "alive"}),
)
async def healthz(request: Request) -> Response:
    """Says that this process answers, and nothing of what is behind it. Needs no token."""
    return envelope(request, Alive())


@router.get(
    "/readyz",
    summary="Whether the installation can work",
    responses={**served(200, ReadyView | AcceptView, "The installation can work.", _READY)},
)
async def readyz(
    request: Request,
    purpose: Annotated[
        Literal["work", "submit"],
        Query(
            alias="for", description="`work`: whether tasks are worked on. `submit`: whether this replica takes them."
        ),
    ] = "work",
) -> Response:
    """Looks at the ledger, the Prefect server, its scheduler, the pools, their workers and the executors, at most once
    a second.

    200 when the ledger, the server and both pools are there and each pool has a worker online; else 503, with the same
    checks in `error.details`. The scheduler and the executors are told and do not decide. With `for=submit` only the
    ledger is asked, which is all that it takes to accept a task, and 503 also says that this replica is being stopped:
    a load balancer asks for that. Needs no token.
    """
    readiness: Readiness = request.app.state.readiness
    if purpose == "submit":
        return await _takes_tasks(request, readiness)
    view = await readiness.look()
    if view.ready:
        return envelope(request, view)
    wrong = [
        f"{kind} {name}: {check.detail}" if name else f"{kind}: {check.detail}"
        for kind, name, check in (
            ("ledger", "", view.ledger),
            ("server", "", view.server),
            *(("pool", name, check) for name, check in view.pools.items()),
            *(("workers of", name, check) for name, check in view.workers.items()),
        )
        if check.state == "unavailable"
    ]
    error = AutoScorerError(
        ErrorCode.BACKEND_UNAVAILABLE, "Not ready: " + "; ".join(wrong) + ".", stage="api", details=view.model_dump()
    )
    return failure(request, error)


async def _takes_tasks(request: Request, readiness: Readiness) -> Response:
    # First, and without a look at anything: a balancer has a few seconds to notice.
    if request.app.state.draining:
        return failure(request, _refusal("it is being stopped"))
    view = await readiness.accepts()
    if view.ready:
        return envelope(request, view)
    return failure(request, _refusal(f"ledger: {view.ledger.detail}", view))


def _refusal(why: str, view: AcceptView | None = None) -> AutoScorerError:
    return AutoScorerError(
        ErrorCode.BACKEND_UNAVAILABLE,
        f"No task is accepted here: {why}.",
        stage="api",
        details=view.model_dump() if view is not None else {},
    )
