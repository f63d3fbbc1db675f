"""What the OpenAPI document says beyond the routes themselves: texts, the token, what every answer may be."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from .auth import PUBLIC, PUBLIC_BELOW, SIGNED

__all__ = ["DESCRIPTION", "TAGS", "describe"]

DESCRIPTION = """\
Runs untrusted models in sealed containers and scores what they wrote.

Every answer is an envelope: `{"ok": true, "data": …, "meta": …}` or
`{"ok": false, "error": {"code", "message", "stage", "details"}, "meta": …}`.
Exceptions are named at their routes: artifacts, streams, CSV, `/metrics`, the page, jobs that score one answer.

**Tokens.** `Authorization: Bearer TOKEN`. The role `submit` may do everything but what is marked *admin*, with what is
of no benchmark. A token of a team sees and makes its own submissions to benchmarks, one of an organiser all of those to
its benchmarks. Without tokens only the server's own user on this machine is served, and may do everything.

**Tasks.** What takes longer than a moment is a *task*. `POST /submit` accepts one (it is on disk by then) and
`GET /tasks/{task_id}` tells of it; `POST /pipeline` and its like also wait for the outcome. There is one active task
for each workspace and action: asking again answers with that one. `Idempotency-Key` makes a repeated request safe.

The page `/docs` shows this document, and tries its requests. It needs no network.
"""

TAGS = [
    {"name": "tasks", "description": "Submit, follow, cancel and repeat."},
    {
        "name": "samples and notes",
        "description": "The rows of a task, two tasks side by side, what people say of them.",
    },
    {"name": "actions", "description": "Submit and wait for the outcome."},
    {"name": "batch", "description": "Many workspaces, and who is best."},
    {
        "name": "score jobs",
        "description": "Score one answer of a retrieval-augmented system; answers have no envelope.",
    },
    {"name": "benchmarks", "description": "Submit to a benchmark as a team, and see who is best."},
    {"name": "workspaces", "description": "Upload workspaces; read Results, logs and artifacts."},
    {"name": "scorers", "description": "What scorers there are; load, reload, test and watch them."},
    {"name": "service", "description": "Whether all is well, and how much there is to do."},
]

_IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "description": "The `ETag` of an answer that you have: 304, and no body, while it would be told the same.",
    "schema": {"type": "string"},
    "example": 'W/"4c1d0f5b8f0c6f2c9a7b3e5d1f806a42"',
}
_TAG = {
    "ETag": {
        "description": "Of what is told and to whom, not of the envelope's `meta`; weak.",
        "schema": {"type": "string"},
    }
}


def describe(app: FastAPI) -> None:
    """Complete what ``app.openapi()`` gives."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _complete(
                get_openapi(
                    title=app.title,
                    version=app.version,
                    description=app.description,
                    tags=app.openapi_tags,
                    routes=app.routes,
                )
            )
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _complete(document: dict[str, Any]) -> dict[str, Any]:
    components = document.setdefault("components", {})
    components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    # FastAPI's own shape of a refused request, which no answer here has.
    for name in ("HTTPValidationError", "ValidationError"):
        components.get("schemas", {}).pop(name, None)
    document["security"] = [{"bearer": []}]
    for path, operations in document["paths"].items():
        if "get" in operations:
            _complete_get(operations["get"])
        for operation in operations.values():
            if path in PUBLIC or path.startswith((*PUBLIC_BELOW, SIGNED)):
                operation["security"] = []
    return document


def _complete_get(operation: dict[str, Any]) -> None:
    """Say that an answer in an envelope has a tag, and need not be sent twice."""
    served = operation["responses"].get("200", {})
    schema = served.get("content", {}).get("application/json", {}).get("schema", {})
    if "/Envelope_" in schema.get("$ref", ""):
        served["headers"] = _TAG | served.get("headers", {})
        operation["responses"]["304"] = {
            "description": "It is what the tag in `If-None-Match` is of; nothing is sent again.",
            "headers": _TAG,
        }
        operation.setdefault("parameters", []).append(_IF_NONE_MATCH)
