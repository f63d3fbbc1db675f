"""Metrics for Prometheus."""

from __future__ import annotations

from fastapi import Depends
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from ...service.policy import Act
from ..auth import require
from ..metrics import Metrics
from ..routing import ApiRouter

__all__ = ["router"]

router = ApiRouter("service")


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    dependencies=[Depends(require(Act.READ_METRICS))],
    responses={
        200: {
            "description": "Tasks by state, seconds by stage, queue depth, containers, requests; no envelope.",
            "content": {
                "text/plain": {
                    "schema": {"type": "string"},
                    "example": '# TYPE autoscorer_tasks gauge\nautoscorer_tasks{state="running"} 2.0\n',
                }
            },
        }
    },
)
async def metrics(request: Request) -> Response:
    """Prometheus's text format. Any valid token may read it (`authorization` in the scrape configuration)."""
    known: Metrics = request.app.state.metrics
    return Response(await known.render(), headers={"Content-Type": CONTENT_TYPE_LATEST})
