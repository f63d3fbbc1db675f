"""Work pools: made from the job templates in ``deployments/``, with their queues and concurrency limits.

What was set by AutoScorer is noted inside the pool's template (``autoscorer``), so that a later deploy brings it up to
date, and leaves alone what an operator has changed by hand since then.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode, suggest
from .client import PrefectApi
from .model import QUEUES, Json

__all__ = ["Pool", "PoolType", "ensure_pool", "job_template"]

PoolType = Literal["process", "docker", "kubernetes"]

TEMPLATES = Path(__file__).resolve().parents[2] / "deployments"
SOCKET = "/var/run/docker.sock"
# The host's processes and control groups, at the default place of executors.docker.host_mount.
HOST_VIEW = ("/proc:/host/proc:ro", "/sys/fs/cgroup:/host/sys/fs/cgroup:ro")
_MARK = "autoscorer"
# Sections of the configuration that validating, running and scoring read, and where their links lead.
_READ_BY_RUNS = frozenset({"EXECUTORS", "IMAGES", "SECURITY", "SCORERS", "API_URL", "WORKSPACE_ROOTS"})


@dataclass(frozen=True)
class Pool:
    """A work pool as it is to be.

    Args:
        type: Of Prefect; None takes an existing pool as it is, and makes a new one of type ``process``.
        concurrency: Flow runs at a time.
        variables: Defaults in its job template, such as ``image``, stronger than those of ``deployments/``.
    """

    name: str
    type: PoolType | None
    concurrency: int
    variables: Mapping[str, Any] = field(default_factory=dict)


def job_template(settings: Settings, type: str, variables: Mapping[str, Any]) -> Json:
    """The base job template of that type, with this installation's home and workspaces.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` when a variable is none of the template's, when a Docker pool would not
            know which workspaces to mount, or when a pod would not see the configuration file.
    """
    template: Json = json.loads((TEMPLATES / f"{type}.json").read_text(encoding="utf-8"))
    properties = template["variables"]["properties"]
    properties["env"]["default"]["AUTOSCORER_HOME"] = str(settings.home)
    if type != "process":  # a process has its worker's environment
        properties["env"]["default"] |= _operators_environment(settings, type)
    if type == "docker" and "volumes" not in variables:
        if not settings.workspace_roots:
            raise AutoScorerError(
                ErrorCode.INVALID_REQUEST,
                "A Docker pool mounts the workspaces into its containers, and no workspace_roots are configured; set "
                "them (AUTOSCORER_WORKSPACE_ROOTS), or give --variable 'volumes=[…]'.",
            )
        properties["volumes"]["default"] = _volumes(settings)
    for name, value in variables.items():
        if name not in properties:
            raise AutoScorerError(
                ErrorCode.INVALID_REQUEST,
                f"{name} is not a variable of a pool of type {type}{suggest(name, properties)}; it has "
                f"{', '.join(sorted(properties))}.",
            )
        if name in ("env", "container_create_kwargs") and isinstance(value, dict):
            # Added: who names a group must not lose the user, or the init process, by that.
            value = {**(properties[name]["default"] or {}), **value}
        properties[name]["default"] = value
    return template


def _volumes(settings: Settings) -> list[str]:
    """What a flow run's container needs of the host to run a model in a container beside it, and to watch that.

    Home and workspaces lie under their own paths, because the engine mounts from there.
    """
    host = os.environ.get("DOCKER_HOST", "")
    socket = host.removeprefix("unix://") if host.startswith("unix://") else SOCKET
    folders: list[Path] = []
    for path in sorted({settings.home, *settings.workspace_roots}):
        if not any(path.is_relative_to(other) for other in folders):
            folders.append(path)
    own = _file_outside(settings)
    file = [f"{own}:{own}:ro"] if own is not None else []
    return [f"{socket}:{SOCKET}", *HOST_VIEW, *(f"{path}:{path}" for path in folders), *file]


def _operators_environment(settings: Settings, type: str) -> dict[str, str]:
    """What this host's operator has set that counts for a flow run, which has an environment of its own.

    Only what a run reads, none of which holds a secret: job variables are shown in Prefect.
    """
    found = {
        name.upper(): value
        for name, value in os.environ.items()
        if name.upper().removeprefix("AUTOSCORER_").partition("__")[0] in _READ_BY_RUNS
        and name.upper().startswith("AUTOSCORER_")
    }
    own = _file_outside(settings)
    if own is None:
        return found
    if type == "kubernetes":
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            f"A pod does not see the configuration {own.name}, which lies outside of the home. Put it there as "
            "config.yaml, in the volume that the pods mount, and deploy without --config and AUTOSCORER_CONFIG.",
        )
    return {**found, "AUTOSCORER_CONFIG": str(own)}


def _file_outside(settings: Settings) -> Path | None:
    """The configuration file, where it does not lie in the home, in which every run looks for it."""
    source = settings.source
    return None if source is None or source.parent == settings.home else source


async def ensure_pool(prefect: PrefectApi, settings: Settings, pool: Pool) -> Json:
    """Make the pool and its queues, or bring them up to date.

    Returns:
        ``{name, type, concurrency_limit, change, kept}``: change is created, updated or unchanged; kept names what was
        changed by hand and left so.

    Raises:
        AutoScorerError: ``CONFLICT`` when the pool is of another type than asked for; ``INVALID_REQUEST`` as
            ``job_template`` says.
    """
    there = await prefect.work_pool(pool.name)
    if there is None:
        kind = pool.type or "process"
        template = _marked(job_template(settings, kind, pool.variables), pool, pool.variables)
        body: Json = {"name": pool.name, "type": kind, "description": "AutoScorer's flow runs."}
        body |= {"base_job_template": template, "concurrency_limit": pool.concurrency}
        await prefect.call("POST", "/work_pools/", body)
        await _ensure_queues(prefect, pool.name, fresh=True)
        return _answer(pool.name, kind, pool.concurrency, "created", [])
    if pool.type is not None and there["type"] != pool.type:
        raise AutoScorerError(
            ErrorCode.CONFLICT,
            f"The work pool {pool.name} is of type {there['type']}, not {pool.type}. Name another pool, or delete that "
            f"one (prefect work-pool delete {pool.name}).",
        )
    change, kept = _difference(settings, pool, there)
    if change:
        await prefect.call("PATCH", f"/work_pools/{pool.name}", change)
    queues = await _ensure_queues(prefect, pool.name, fresh=False)
    return _answer(
        pool.name,
        there["type"],
        change.get("concurrency_limit", there["concurrency_limit"]),
        "updated" if change or queues else "unchanged",
        kept,
    )


def _difference(settings: Settings, pool: Pool, there: Json) -> tuple[Json, list[str]]:
    """What to change in an existing pool, and what was changed by hand."""
    template = there["base_job_template"]
    mark = template.get(_MARK) or {}
    change: Json = {}
    kept: list[str] = []
    if there["type"] in get_args(PoolType):
        variables = {**mark.get("variables", {}), **pool.variables}
        if not template or mark.get("sha256") == _digest(template):
            wanted = _marked(job_template(settings, there["type"], variables), pool, variables)
        else:
            # Made by Prefect's own worker or command, or edited: only what is asked for by name is set.
            kept.append("base_job_template")
            wanted = copy.deepcopy(template)
            for name, value in pool.variables.items():
                if name not in wanted["variables"]["properties"]:
                    job_template(settings, there["type"], pool.variables)  # refuses it, naming those there are
                wanted["variables"]["properties"].setdefault(name, {})["default"] = value
        if mark.get("concurrency_limit") != there["concurrency_limit"] and mark:
            kept.append("concurrency_limit")
            if _MARK in wanted:
                wanted[_MARK]["concurrency_limit"] = mark["concurrency_limit"]
        elif mark and pool.concurrency != there["concurrency_limit"]:
            change["concurrency_limit"] = pool.concurrency
            wanted[_MARK]["concurrency_limit"] = pool.concurrency
        if wanted != template:
            change["base_job_template"] = wanted
    return change, kept


def _marked(template: Json, pool: Pool, variables: Mapping[str, Any]) -> Json:
    mark = {"sha256": _digest(template), "concurrency_limit": pool.concurrency, "variables": dict(variables)}
    return {**template, _MARK: mark}


def _digest(template: Json) -> str:
    parts = [template.get("job_configuration"), template.get("variables")]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


async def _ensure_queues(prefect: PrefectApi, pool: str, *, fresh: bool) -> bool:
    """Create the queues that are missing; the priorities of those that are there are the operator's."""
    found = await prefect.call("POST", f"/work_pools/{pool}/queues/filter", {})
    missing = [queue for queue in QUEUES.values() if queue.name not in {each["name"] for each in found}]
    for queue in missing:
        await prefect.call("POST", f"/work_pools/{pool}/queues", {"name": queue.name, "priority": queue.rank})
    if fresh or len(missing) == len(QUEUES) - 1:
        # A new pool's default queue has priority 1, and each new one pushed the others about.
        for queue in QUEUES.values():
            await prefect.call("PATCH", f"/work_pools/{pool}/queues/{queue.name}", {"priority": queue.rank})
    return bool(missing)


def _answer(name: str, type: str, concurrency: int | None, change: str, kept: list[str]) -> Json:
    return {"name": name, "type": type, "concurrency_limit": concurrency, "change": change, "kept": kept}
