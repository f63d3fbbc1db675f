"""From what a caller asked for to a task that can be accepted: checked as far as can be without working on it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core.benchmark import BenchmarkFolder
from ..core.config import Settings
from ..core.errors import AutoScorerError, ErrorCode
from ..core.submissions import BENCHMARK_FILE, benchmark_of
from ..core.workspace import Workspace, open_regular
from ..schemas.aliases import our_scorer
from ..schemas.benchmark import Quota
from ..schemas.json_values import Why, unfit, walk
from ..schemas.task import Action, BatchRequest, SubmitRequest
from ..tasks.benchmarks.adding import open_phase
from .disclosure import check_request
from .ledger.records import NewTask
from .ledger.task_ids import new_task_id
from .policy import Act, Caller, Subject, check
from .prefect.model import Json
from .webhooks.http import check_callback_url
from .workspaces.ownership import in_common, seen_workspace, subject_of
from .workspaces.roots import WorkspaceRoots, workspace_not_found

__all__ = [
    "check_caller",
    "check_key",
    "check_params",
    "check_size",
    "hash_of",
    "job_id_of",
    "new_task",
    "quota_of",
    "request_of",
    "scorer_of",
]

# Prefect takes no more than 512 KiB of parameters for a flow run.
_MOST = 480 * 1024
_DEEPEST = 32
_META = 1024 * 1024
_LONGEST_KEY = 255
_UNFIT = {
    Why.TOO_DEEP: f"is nested more than {_DEEPEST} levels deep",
    Why.NUL: "holds a NUL or half a character",
    Why.SURROGATE: "holds a NUL or half a character",
    Why.NOT_FINITE: "is {}, which JSON has no number for",
    Why.TOO_LARGE: "is an integer of more than 64 bits",
}


def new_task(
    settings: Settings,
    roots: WorkspaceRoots,
    request: SubmitRequest | BatchRequest,
    *,
    caller: Caller,
    act: Act = Act.WORK,
    retry_of: str | None = None,
) -> NewTask:
    """Make the task that a request asks for. Looks at the disk.

    Args:
        settings: The configuration.
        roots: The workspace roots.
        request: What to do.
        caller: Who asks.
        act: What that is: work on what is there, or do so for a submission that is new or is repeated.
        retry_of: The task that this one repeats.

    Raises:
        AutoScorerError: ``INVALID_REQUEST``, ``FORBIDDEN`` (also for what the caller may not ask for),
            ``WORKSPACE_NOT_FOUND``, ``PAYLOAD_TOO_LARGE``.
    """
    subject = check_caller(roots, request, caller, act)
    if request.callback_url is not None:
        check_callback_url(settings, request.callback_url)
    asked = request.model_dump(mode="json", exclude_none=True, by_alias=True)
    if caller.role != "admin":
        asked.pop("scorer", None)  # it is meta.json's, also if that names another one by then
    parameters: Json = {key: asked[key] for key in ("scorer", "params", "backend") if key in asked}
    if "for" in asked:  # no name for a flow's parameter
        parameters["purpose"] = asked["for"]
    path, scorer, job_id = None, request.scorer, None
    action: Action
    if isinstance(request, BatchRequest):
        action = "batch"
        items = [roots.resolve_item(item) for item in request.workspaces]
        asked["workspaces"] = roots.redact(request.workspaces)
        parameters |= {"workspaces": items, "action": request.action, "concurrency": request.concurrency}
        same = _digest([request.action, items])
    else:
        action = request.action
        path = str(roots.workspace(request.workspace))
        asked["workspace"] = roots.name(path)
        parameters["workspace"] = same = path
        job_id = job_id_of(Path(path))
        if action != "run":
            scorer = scorer or scorer_of(Path(path))
    check_size(
        parameters,
        "The workspaces and params make",
        "Name a folder of workspaces or a pattern instead of each workspace, or make several batches.",
    )
    return NewTask(
        id=new_task_id(),
        caller=caller.name,
        role=caller.role,
        action=action,
        subject=same,
        workspace=path,
        scorer=scorer,
        priority=request.priority,
        request=asked,
        parameters=parameters,
        created_at=time.time(),
        retry_of=retry_of,
        callback_url=request.callback_url,
        job_id=job_id,
        benchmark=subject.benchmark,
        team=subject.team,
    )


def quota_of(task: NewTask) -> Quota:
    """The quota that a team's submission counts for. Looks at the disk.

    Raises:
        AutoScorerError: ``PHASE_CLOSED`` where the benchmark takes none now, ``INVALID_BENCHMARK``.
    """
    assert task.workspace is not None
    space = Workspace(task.workspace)
    if space.benchmark is None:  # what lies in a team's folder and is none of its submissions
        raise workspace_not_found(str(task.request.get("workspace")))
    spec = BenchmarkFolder(space.benchmark).read()
    open_phase(spec)
    return spec.quota


def check_key(key: str | None) -> None:
    """See that an Idempotency-Key is one.

    Raises:
        AutoScorerError: ``INVALID_REQUEST``.
    """
    if key is not None and not (0 < len(key) <= _LONGEST_KEY and key.isprintable()):
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            f"The Idempotency-Key must have 1 to {_LONGEST_KEY} printable characters, such as a UUID.",
        )


def check_size(parameters: Json, what: str, advice: str) -> None:
    """Refuse what Prefect would not take.

    Args:
        parameters: What a flow is to be called with.
        what: How the message begins.
        advice: How it ends.

    Raises:
        AutoScorerError: ``PAYLOAD_TOO_LARGE``.
    """
    size = len(json.dumps(parameters))
    if size > _MOST:
        raise AutoScorerError(
            ErrorCode.PAYLOAD_TOO_LARGE,
            f"{what} {size:,} bytes, and at most {_MOST:,} go to a flow run. {advice}",
        )


def check_caller(
    roots: WorkspaceRoots, request: SubmitRequest | BatchRequest, caller: Caller, act: Act = Act.WORK
) -> Subject:
    """Whether somebody may ask for this. Looks at the workspace's meta.json.

    Returns:
        Whose it is.

    Raises:
        AutoScorerError: ``FORBIDDEN``, and as ``roots.workspace``, also for what the caller may not see.
    """
    named: str | None = None
    if isinstance(request, BatchRequest):
        subject = _of_items(roots, request.workspaces, caller, act)
    else:
        place, subject = seen_workspace(roots, request.workspace, caller, act)
        named = scorer_of(place)
    is_batch = isinstance(request, BatchRequest)
    check_request(caller.role, scorer=request.scorer, of_workspace=named, params=request.params, batch=is_batch)
    return subject


def _of_items(roots: WorkspaceRoots, items: Sequence[str], caller: Caller, act: Act) -> Subject:
    found = set()
    for item in items:
        # Before it is looked at, which would tell whether it is there.
        subject = subject_of(roots, roots.locate_item(item))
        check(caller, act, subject, hidden=workspace_not_found(item))
        found.add(subject)
    # A batch is its benchmark's, also where it is about one team: its members' scores are told to no team.
    whole = replace(in_common(found), team=None)
    check(caller, act, whole, hidden=workspace_not_found(items[0]))
    return whole


def request_of(action: str, request: str) -> SubmitRequest | BatchRequest:
    """What was asked for when a task was accepted, from what the ledger keeps.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` where a flow run was started in Prefect with what the API does not take.
    """
    if action == "rag-score":
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            "A job that scores one answer is repeated by POST /api/score/jobs/{job_id}/retry.",
        )
    model: type[SubmitRequest | BatchRequest] = BatchRequest if action == "batch" else SubmitRequest
    try:
        return model.model_validate_json(request)
    except ValueError:
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            "The task was started in Prefect, with parameters that the API does not take. Start it there again.",
        ) from None


def hash_of(request: SubmitRequest | BatchRequest) -> str:
    """What is the same for two requests that ask for the same, in the same words."""
    # Keys that were sent before there was a `for` still name the same requests.
    left_out = {"for_"} if isinstance(request, SubmitRequest) and request.for_ is None else set()
    return _digest([type(request).__name__, request.model_dump(mode="json", by_alias=True, exclude=left_out)])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def scorer_of(workspace: Path) -> str | None:
    """The scorer that meta.json or the benchmark names, for lists; one that is wrong is the task's to tell."""
    benchmark = benchmark_of(workspace)
    return our_scorer(_named(workspace / "meta.json" if benchmark is None else benchmark / BENCHMARK_FILE, "scorer"))


def job_id_of(workspace: Path) -> str | None:
    """What meta.json calls the job, for whoever looks for it in a list."""
    return _named(workspace / "meta.json", "job_id")


def _named(path: Path, key: str) -> str | None:
    try:
        with open_regular(path) as file:
            value: Any = json.loads(file.read(_META)).get(key)
    except (AutoScorerError, OSError, ValueError, AttributeError, RecursionError):
        return None
    return value if isinstance(value, str) and len(value) <= 200 and value.isprintable() else None


def check_params(request: SubmitRequest | BatchRequest) -> None:
    """Refuse what would break on its way to the scorer, where nobody could be told why.

    Raises:
        AutoScorerError: ``INVALID_REQUEST``.
    """
    params = request.params or {}
    for place, why, value in unfit(params, place="params", levels=_DEEPEST):
        raise _wrong(f"{place} {_UNFIT[why].format(value)}")
    for place, _, item in walk(params, place="params", levels=_DEEPEST):
        # Prefect would fill in its variables there, and secrets are among them.
        if isinstance(item, dict) and "__prefect_kind" in item:
            raise _wrong(f"{place} holds the key __prefect_kind, which has a meaning of its own for Prefect")


def _wrong(what: str) -> AutoScorerError:
    shown = what.encode("utf-8", "backslashreplace").decode()
    return AutoScorerError(ErrorCode.INVALID_REQUEST, f"These params can't be sent on: {shown}. Leave it out.")
