"""The OpenAPI document and the running facade say the same: schemathesis asks everything it can think of.

No answer is a fault of ours, every status is one that the document lists, and every answer is an envelope, but for
those that the document describes as something else.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from autoscorer.api.app import create_app
from autoscorer.core.config import Settings
from autoscorer.schemas.envelope import Envelope, ErrorEnvelope
from autoscorer.service.prefect.client import PrefectApi
from autoscorer.service.prefect.deploy import deploy
from hypothesis import HealthCheck, settings
from schemathesis.config import (
    CoveragePhaseConfig,
    GenerationConfig,
    PhasesConfig,
    ProjectConfig,
    ProjectsConfig,
    SchemathesisConfig,
)

from ..support.facade import ADMIN, SUBMIT, Facade, facade, facade_settings
from ..support.prefect_server import PrefectServer, eventually, server
from ..support.workspaces import write_workspace

__all__ = ["server"]

pytestmark = pytest.mark.prefect

POOLS = {"pool": "openapi-tests", "score_pool": "openapi-tests-score", "rag_pool": "openapi-tests-rag"}
PUBLIC = {"/healthz", "/readyz"}


def _document() -> dict[str, Any]:
    document: dict[str, Any] = create_app(Settings()).openapi()
    return document


DOCUMENT = _document()
OPERATIONS = [
    (method.upper(), path, operation)
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
]

schema = schemathesis.openapi.from_dict(
    DOCUMENT,
    config=SchemathesisConfig(
        projects=ProjectsConfig(
            default=ProjectConfig(
                generation=GenerationConfig(deterministic=True, max_examples=10, no_shrink=True, database="none"),
                # Methods that a route does not have are tried once below, for all of them.
                phases=PhasesConfig(coverage=CoveragePhaseConfig(unexpected_methods=set())),
            )
        )
    ),
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One installation for the module."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOSCORER_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def api(home: Path, server: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Facade]:
    root = tmp_path_factory.mktemp("workspaces")
    write_workspace(root, "team-a")
    known = facade_settings(
        root,
        service=POOLS,
        prefect={"api_url": server.api_url},
        # Nobody works here, so nothing is worth waiting for; and nobody is to be held back.
        api={"max_wait": 0.05, "rate_limit": 1e6, "rate_burst": 1_000_000},
    )

    async def prepare() -> None:
        await deploy(known)
        async with PrefectApi(known) as prefect:
            for pool in POOLS.values():
                await prefect.heartbeat(pool, "a-worker", 600)

    asyncio.run(prepare())
    with facade(known) as running:
        running.token = ADMIN
        yield running


@pytest.fixture(scope="module")
def ended(api: Facade) -> dict[str, str]:
    """Tasks that there are, so that not every id is unknown: by the part of the path that asks for them."""
    ids = {
        "tasks": api.call("POST", "/submit", {"workspace": "team-a", "action": "run"}).data["id"],
        "batch": api.call("POST", "/batch", {"workspaces": ["team-a"]}).data["id"],
    }
    for task_id in ids.values():
        api.call("POST", f"/tasks/{task_id}/cancel")
        eventually(lambda i=task_id: api.call("GET", f"/tasks/{i}").data["state"] == "cancelled")
    return ids


@schema.parametrize()
@settings(deadline=None, suppress_health_check=list(HealthCheck))
def test_the_facade_answers_as_its_document_says(case: Any, api: Facade, ended: dict[str, str]) -> None:
    task_id = (case.path_parameters or {}).get("task_id")
    if isinstance(task_id, str) and len(task_id) % 2:
        case.path_parameters["task_id"] = next(ended[part] for part in case.path.split("/") if part in ended)
    if case.path == "/events":  # it has no end, but for a task that is not there; tests/api/test_events.py has the rest
        case.query = {**(case.query or {}), "task": "none"}
    # Instead of a token that schemathesis made up, with which it would see nothing but 401.
    case.headers["Authorization"] = f"Bearer {ADMIN}"
    response = case.call(base_url=api.url, timeout=60)
    assert response.status_code < 500, response.text
    # It leaves the token out once for each route.
    assert (response.status_code == 401) == ("Authorization" not in response.request.headers), response.text
    case.validate_response(
        response,
        checks=[
            schemathesis.checks.not_a_server_error,
            schemathesis.checks.CHECKS.get_one("status_code_conformance"),
            schemathesis.checks.CHECKS.get_one("content_type_conformance"),
            schemathesis.checks.CHECKS.get_one("response_schema_conformance"),
            schemathesis.checks.CHECKS.get_one("response_headers_conformance"),
        ],
    )
    if response.status_code == 304:
        assert not response.content and response.headers["etag"]
        return
    content_type = response.headers["content-type"][0].partition(";")[0]
    described = case.operation.definition.raw["responses"][str(response.status_code)]["content"]
    if content_type != "application/json":
        assert content_type in described
        return
    # Jobs that score one answer have the first system's shapes, whose clients know of no envelope.
    if response.status_code >= 400 or not case.path.startswith("/api/score"):
        (Envelope[Any] if response.status_code < 400 else ErrorEnvelope).model_validate(response.json())


def _references(schema: dict[str, Any]) -> list[str]:
    return re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(schema))


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=lambda value: str(value)[:40])
def test_every_route_is_described(method: str, path: str, operation: dict[str, Any]) -> None:
    assert operation["summary"]
    assert operation["tags"][0] in {tag["name"] for tag in DOCUMENT["tags"]}
    answers = operation["responses"]
    # Whatever the route: who asks, how large, how often, and what is away.
    assert {"400", "401", "403", "405", "413", "422", "429", "500", "503"} <= set(answers)
    assert any(status.startswith("2") for status in answers)
    for status, answer in answers.items():
        assert answer["description"]
        # A redirect has none.
        assert "content" in answer or status.startswith("3")
        for content in answer.get("content", {}).values():
            assert "example" in content or "examples" in content or not content["schema"].get("$ref"), status
    for content in operation.get("requestBody", {}).get("content", {}).values():
        # Of the whole, or of the fields of the model that it refers to.
        names = _references(content["schema"])
        model = json.dumps([content["schema"], *(DOCUMENT["components"]["schemas"][name] for name in names)])
        assert "example" in content or "examples" in content or '"example' in model
    # A signature stands for the token of whoever asked for the link.
    assert (operation.get("security") == []) == (
        path in PUBLIC or path.startswith(("/signed/{signature}/", "/public/"))
    )


def test_the_document_is_served_as_it_is_and_names_the_token(api: Facade) -> None:
    served = api.call("GET", "/openapi.json", headers={"Authorization": f"Bearer {SUBMIT}"}).json
    assert served == json.loads(json.dumps(DOCUMENT))
    assert served["components"]["securitySchemes"]["bearer"] == {"type": "http", "scheme": "bearer"}
    assert served["security"] == [{"bearer": []}]
    assert "HTTPValidationError" not in served["components"]["schemas"]


def test_a_method_that_a_route_does_not_have_is_told_so(api: Facade) -> None:
    for path, operations in DOCUMENT["paths"].items():
        for method in {"get", "put", "post", "delete", "patch", "options", "trace"} - set(operations):
            answer = api.call(method.upper(), path.replace("{", "").replace("}", ""))
            # Another route may match: /scorers/watch is also a /scorers/{id}.
            if answer.status != 405:
                assert answer.status < 500
                continue
            assert method.upper() not in answer.headers["allow"].split(", ")
            assert answer.error["code"] == "INVALID_REQUEST"
