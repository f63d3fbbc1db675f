"""Scorers: which there are, and changing that while everything runs."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Annotated, Any, ClassVar, TypeVar

from fastapi import Body, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, field_validator, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from starlette.responses import Response

from ...core.errors import AutoScorerError, ErrorCode
from ...schemas.aliases import BODY_KEYS, in_our_words
from ...schemas.json_values import plain_text
from ...service.policy import Act
from ...service.scorers.hot_reload import ScorerService
from ...service.scorers.views import (
    LoadedView,
    ReloadedView,
    ScorerList,
    ScorerView,
    TrialView,
    UnloadedView,
    WatchedPath,
    WatchList,
)
from ..auth import require
from ..caller import Caller
from ..envelope import envelope, failure
from ..openapi_examples import RELOADED_EXAMPLE, SCORER_EXAMPLE, TRIAL_EXAMPLE, WATCHED_EXAMPLE
from ..routing import ApiRouter, answers, served

__all__ = ["router"]

router = ApiRouter("scorers")
_anybody = [Depends(require())]
_admin = [Depends(require(Act.CHANGE))]

T = TypeVar("T", bound=BaseModel)

# The file that was named, or the scorer that was tried, is what is wrong with the request; nothing of ours failed.
_OF_THE_REQUEST = (ErrorCode.SCORER_LOAD_ERROR, ErrorCode.SCORER_ERROR)


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    # Those of the first system's keys that this body takes as well.
    aliases: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _in_our_words(cls, given: Any) -> Any:
        known = {theirs: ours for theirs, ours in BODY_KEYS.items() if theirs in cls.aliases}
        return in_our_words(given, known) if known and isinstance(given, dict) else given

    @field_validator("path", "scorer", "workspace", "id", check_fields=False)
    @classmethod
    def _plain_text(cls, value: str | None) -> str | None:
        return plain_text(value)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        told = handler(schema)
        found = handler.resolve_ref_schema(told)
        properties, required = found["properties"], found.get("required", [])
        for theirs in sorted(cls.aliases):
            ours = BODY_KEYS[theirs]
            said = f"The first system's name of `{ours}`; give one of the two."
            same = {key: value for key, value in properties[ours].items() if key not in ("default", "examples")}
            properties[theirs] = {**same, "title": theirs, "description": said, "deprecated": True}
            if ours in required:
                found["required"] = [key for key in required if key != ours]
                found["anyOf"] = [{"required": [ours]}, {"required": [theirs]}]
        if not found.get("required"):
            found.pop("required", None)
        return told


class LoadRequest(_Request):
    """A file on the machine that the API runs on."""

    aliases = frozenset({"file_path", "auto_watch"})

    path: str = Field(min_length=1, max_length=4096, examples=["/srv/scorers/my_scorer.py"])
    watch: bool = Field(True, strict=True, description="Load it anew whenever it changes.")


class WatchRequest(_Request):
    """A file or folder on the machine that the API runs on."""

    aliases = frozenset({"file_path"})

    path: str = Field(min_length=1, max_length=4096, examples=["/srv/scorers/my_scorer.py"])
    check_interval: float | None = Field(
        None,
        gt=0,
        deprecated=True,
        description="Of the first system, which looked every so many seconds. Changes are in use within 2 seconds, "
        "whatever it says.",
    )


class ReloadRequest(_Request):
    """What to run again."""

    id: str | None = Field(
        None,
        max_length=100,
        description="A scorer, whose file is run again; all files when absent.",
        examples=["my_scorer"],
    )


class TestRequest(_Request):
    """What to try on what."""

    __test__ = False
    aliases = frozenset({"scorer_name"})

    scorer: str = Field(min_length=1, max_length=100, examples=["classification_f1"])
    workspace: str = Field(min_length=1, max_length=4096, examples=["team-a"])
    params: dict[str, Any] | None = Field(None, description="Scorer params; they win over meta.json's.")


class UnwatchRequest(_Request):
    """What to stop following."""

    aliases = frozenset({"file_path"})

    path: str | None = Field(
        None,
        max_length=4096,
        description="As it was given, or as GET /scorers/watch shows it.",
        examples=["scorers/mine.py"],
    )
    id: str | None = Field(None, max_length=100, description="Its id in GET /scorers/watch.")

    @model_validator(mode="after")
    def _one(self) -> UnwatchRequest:
        if (self.path is None) == (self.id is None):
            raise ValueError("give either path or id")
        return self


def _service(request: Request) -> ScorerService:
    service: ScorerService = request.app.state.scorers
    return service


@contextlib.contextmanager
def _refused() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise AutoScorerError(ErrorCode.INVALID_REQUEST, f"The request is not valid: {error}.") from None


async def _answer(request: Request, work: Callable[[], T], *, slow: bool = False) -> Response:
    try:
        return envelope(request, await _service(request).in_thread(work, slow=slow))
    except AutoScorerError as error:
        if error.code in _OF_THE_REQUEST:
            return failure(request, error, status=422)
        raise


@router.get(
    "/scorers",
    summary="List the scorers",
    dependencies=_anybody,
    responses={
        **served(200, ScorerList, "Every scorer, and what does not load.", {"scorers": [SCORER_EXAMPLE], "errors": []})
    },
)
async def list_scorers(request: Request) -> Response:
    """Built-in scorers, those of installed packages, and those of files that were loaded or are watched."""
    return await _answer(request, _service(request).listing)


@router.get(
    "/scorers/watch",
    summary="What is watched",
    dependencies=_admin,
    responses={**served(200, WatchList, "Files and folders that are followed.", {"watched": [WATCHED_EXAMPLE]})},
)
async def list_watched(request: Request) -> Response:
    """Files and folders whose scorers are loaded anew when they change. *admin*"""
    return await _answer(request, _service(request).watched)


@router.post(
    "/scorers/watch",
    summary="Watch a file or folder",
    dependencies=_admin,
    responses={**served(200, WatchedPath, "It is watched; `errors` has what does not load.", WATCHED_EXAMPLE)},
)
async def watch(request: Request, body: WatchRequest) -> Response:
    """Load what is there, and load it anew whenever it changes: here, and in every worker. *admin*"""
    return await _answer(request, lambda: _service(request).watch(body.path))


@router.delete(
    "/scorers/watch",
    summary="Stop watching a file or folder",
    dependencies=_admin,
    responses={
        **served(200, WatchList, "What is still followed.", {"watched": [WATCHED_EXAMPLE]}),
        **answers(404, 409),
    },
)
async def unwatch(
    request: Request,
    path: Annotated[str | None, Query(max_length=4096, description="As in the body, for clients without one.")] = None,
    file_path: Annotated[
        str | None, Query(max_length=4096, deprecated=True, description="The first system's name of `path`.")
    ] = None,
    id: Annotated[str | None, Query(max_length=100, description="As in the body.")] = None,
    body: Annotated[UnwatchRequest | None, Body()] = None,
) -> Response:
    """Stop loading it anew when it changes, everywhere. Its scorers stay loaded as they are, until the file is loaded
    again or unloaded (`DELETE /scorers/{id}`). *admin*"""
    with _refused():
        query = {key: value for key, value in {"path": path, "file_path": file_path}.items() if value is not None}
        path = in_our_words(query, BODY_KEYS).get("path")
    given = [value for value in (path, id, *((body.path, body.id) if body else ())) if value is not None]
    if len(given) != 1:
        raise AutoScorerError(ErrorCode.INVALID_REQUEST, "Give one path or one id, in the body or in the query.")
    return await _answer(request, lambda: _service(request).unwatch(given[0]))


@router.get(
    "/scorers/{id}",
    summary="One scorer",
    dependencies=_anybody,
    responses={**served(200, ScorerView, "The scorer.", SCORER_EXAMPLE), **answers(404)},
)
async def get_scorer(request: Request, id: str) -> Response:
    """Its params as a JSON schema, where it comes from, and whether its file still loads."""
    return await _answer(request, lambda: _service(request).get(id))


@router.delete(
    "/scorers/{id}",
    summary="Unload a scorer's file",
    dependencies=_admin,
    responses={
        **served(200, UnloadedView, "It is forgotten.", {"file": "…/my_scorer.py", "unloaded": ["my_scorer"]}),
        **answers(404, 409),
    },
)
async def unload(request: Request, id: str) -> Response:
    """Forget the file that registers this scorer, and all that it registers, everywhere; the file itself stays.
    *admin*"""
    return await _answer(request, lambda: _service(request).unload(id))


@router.post(
    "/scorers/load",
    summary="Load a scorer file",
    dependencies=_admin,
    responses={**served(200, LoadedView, "It is loaded.", {"file": "…/my_scorer.py", "scorers": [SCORER_EXAMPLE]})},
)
async def load(request: Request, body: LoadRequest) -> Response:
    """Run a Python file that registers scorers; from the next run on every worker knows them, on every host.
    *admin*

    The file is tried in a process of its own first. It stays where it is, and is loaded anew when it changes, unless
    `watch` is false.
    """
    return await _answer(request, lambda: _service(request).load(body.path, watch=body.watch))


@router.post(
    "/scorers/reload",
    summary="Reload scorers",
    dependencies=_admin,
    responses={
        **served(200, ReloadedView, "What that changed.", RELOADED_EXAMPLE),
        **answers(404),
    },
)
async def reload(request: Request, body: Annotated[ReloadRequest | None, Body()] = None) -> Response:
    """Run a scorer's file again, or all files, even unchanged ones: a package they import may have changed. *admin*"""
    return await _answer(request, lambda: _service(request).reload(body.id if body else None))


@router.post(
    "/scorers/test",
    summary="Try a scorer on a workspace",
    responses={
        **served(200, TrialView, "What its Result would hold.", TRIAL_EXAMPLE),
        **answers(404, 409, 502),
    },
)
async def test(request: Request, body: TestRequest, caller: Annotated[Caller, Depends(require())]) -> Response:
    """Validate and score, and write nothing into the workspace. It runs in a process of its own, for a while."""
    work = functools.partial(_service(request).test, body.scorer, body.workspace, body.params or {}, caller=caller)
    return await _answer(request, work, slow=True)
