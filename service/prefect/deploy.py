"""Registers work pools and deployments with Prefect: what prefect.yaml says, by a few REST calls.

``prefect deploy --all`` reads the same file and does the same to the deployments. This is faster, makes the pools and
their queues, and leaves alone what an operator has changed by hand: schedules, parameters, job variables, limits.
"""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode
from .automations import ensure_crash_automation
from .client import PrefectApi
from .model import Json
from .pools import Pool, PoolType, ensure_pool

__all__ = ["Nightly", "declared", "deploy"]


PREFECT_YAML = Path(__file__).resolve().parents[2] / "prefect.yaml"
# How prefect.yaml calls the pools; settings.service says what they are called here.
POOL, SCORE_POOL, RAG_POOL = "autoscorer", "autoscorer-score", "autoscorer-rag"
NIGHTLY = "nightly-batch"


@dataclass(frozen=True)
class Nightly:
    """When and on what ``nightly-batch`` runs.

    Args:
        timezone: Whose time that is, such as Europe/Berlin.
        workspaces: What it works on; empty to keep what is set.
    """

    cron: str
    timezone: str = "UTC"
    workspaces: tuple[str, ...] = ()


@dataclass(frozen=True)
class Declared:
    """One deployment of prefect.yaml with what its flow says about itself."""

    flow: str
    name: str
    pool: str
    body: Json
    schedules: list[Json]
    paused: bool


def declared(pool: str, score_pool: str, rag_pool: str) -> list[Declared]:
    """The deployments of prefect.yaml, for these pools. Imports the flows, and so Prefect.

    Raises:
        AutoScorerError: ``INTERNAL_ERROR`` when prefect.yaml is not there.
    """
    import yaml
    from prefect.utilities.callables import parameter_schema

    try:
        content = yaml.safe_load(PREFECT_YAML.read_text(encoding="utf-8"))
    except OSError as error:
        raise AutoScorerError(
            ErrorCode.INTERNAL_ERROR, f"prefect.yaml is missing from this installation: {error.strerror}"
        ) from None
    pools = {POOL: pool, SCORE_POOL: score_pool, RAG_POOL: rag_pool}
    found = []
    for item in content["deployments"]:
        module, _, attribute = item["entrypoint"].rpartition(".")
        flow = getattr(importlib.import_module(module), attribute)
        name = pools[item["work_pool"]["name"]]
        body = {
            "version": flow.version,
            "description": item.get("description") or flow.description,
            "tags": item.get("tags", []),
            "entrypoint": item["entrypoint"],
            "path": None,
            "pull_steps": content["pull"],
            "parameter_openapi_schema": parameter_schema(flow).model_dump(exclude_unset=True),
            "enforce_parameter_schema": True,
            "work_pool_name": name,
            "work_queue_name": item["work_pool"]["work_queue_name"],
        }
        schedules = [_schedule(schedule) for schedule in item.get("schedules", [])]
        found.append(Declared(flow.name, item["name"], name, body, schedules, item.get("paused", False)))
    return found


async def deploy(
    settings: Settings,
    *,
    pool: str | None = None,
    score_pool: str | None = None,
    type: PoolType | None = None,
    variables: Mapping[str, Any] | None = None,
    nightly: Nightly | None = None,
    patience: float = 0.0,
) -> Json:
    """Make or update the pools and the deployments.

    Args:
        pool: Pool of pipeline, run and batch; ``service.pool`` when None.
        score_pool: Pool of score and validate; ``service.score_pool`` when None.
        type: Type of the first pool; that of the existing one, or process, when None.
        variables: Defaults in its job template, such as ``image``.
        nightly: When ``nightly-batch`` runs; as it is when None.
        patience: Seconds to wait for a server that is only starting.

    Returns:
        ``{prefect, pools, deployments, seconds}``; each deployment is ``{name, id, pool, change}``.

    Raises:
        PrefectRefused: The server refuses, a cron line for instance.
        AutoScorerError: ``CONFLICT`` or ``INVALID_REQUEST``, as ``ensure_pool`` says.
    """
    if nightly is not None:
        _check(nightly)
    first = Pool(pool or settings.service.pool, type, settings.service.pool_concurrency, variables or {})
    second = Pool(score_pool or settings.service.score_pool, None, settings.service.score_concurrency)
    third = Pool(settings.service.rag_pool, None, settings.service.rag_concurrency)
    # While the server may still be starting.
    wanted = await asyncio.to_thread(declared, first.name, second.name, third.name)
    async with PrefectApi(settings) as prefect:
        await _wait_for(prefect, patience)
        started = time.monotonic()
        # One pool may be several; then the first says how it is.
        named = {each.name: each for each in (third, second, first)}
        pools = [await ensure_pool(prefect, settings, each) for each in reversed(named.values())]
        deployments = [await _ensure(prefect, each, nightly) for each in wanted]
        await ensure_crash_automation(prefect)
        return {
            "prefect": prefect.url,
            "pools": pools,
            "deployments": deployments,
            "seconds": round(time.monotonic() - started, 3),
        }


async def _wait_for(prefect: PrefectApi, patience: float) -> None:
    deadline = time.monotonic() + patience
    while not await prefect.is_healthy():
        if time.monotonic() >= deadline:
            await prefect.call("GET", "/ready")  # says why
            return
        await asyncio.sleep(0.2)


async def _ensure(prefect: PrefectApi, wanted: Declared, nightly: Nightly | None) -> Json:
    there = await prefect.deployment(wanted.flow, wanted.name)
    if there is None:
        flow = await prefect.call("POST", "/flows/", {"name": wanted.flow})
        at_first = {"name": wanted.name, "flow_id": flow["id"], "paused": wanted.paused, "schedules": wanted.schedules}
        body = {**wanted.body, **at_first}
        there = await prefect.call("POST", "/deployments/", body)
        change = "created"
    else:
        # A fork's description or tag is the operator's, and so are schedules, parameters and job variables.
        different = {
            key: value
            for key, value in wanted.body.items()
            if key not in ("description", "tags") and there.get(key) != value
        }
        # What the server adds of its own is no difference.
        if _same_schema(there.get("parameter_openapi_schema"), wanted.body["parameter_openapi_schema"]):
            different.pop("parameter_openapi_schema", None)
        if different:
            # A queue belongs to its pool.
            pool = {key: wanted.body[key] for key in ("work_pool_name", "work_queue_name")}
            await prefect.call("PATCH", f"/deployments/{there['id']}", {**different, **pool})
        change = "updated" if different else "unchanged"
    if wanted.name == NIGHTLY and nightly is not None:
        await _set_nightly(prefect, there, nightly)
        change = "updated" if change == "unchanged" else change
    return {"name": f"{wanted.flow}/{wanted.name}", "id": there["id"], "pool": wanted.pool, "change": change}


def _same_schema(there: Json | None, wanted: Json) -> bool:
    def bare(schema: Json | None) -> Json:
        return {key: value for key, value in (schema or {}).items() if value}

    return bare(there) == bare(wanted)


async def _set_nightly(prefect: PrefectApi, there: Json, nightly: Nightly) -> None:
    parameters = dict(there["parameters"])
    if nightly.workspaces:
        parameters["workspaces"] = list(nightly.workspaces)
    if not parameters.get("workspaces"):
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            "nightly-batch has no workspaces to work on; give --workspaces too, such as --workspaces /data/round-1.",
        )
    schedule = _schedule({"slug": "nightly", "cron": nightly.cron, "timezone": nightly.timezone, "active": True})
    change: Json = {"parameters": parameters, "paused": False, "schedules": [schedule]}
    if any(not each.get("slug") for each in there["schedules"]):
        # Made by hand, without a slug: the server would mix both kinds up.
        for each in there["schedules"]:
            await prefect.call("DELETE", f"/deployments/{there['id']}/schedules/{each['id']}")
    await prefect.call("PATCH", f"/deployments/{there['id']}", change)


def _schedule(item: Json) -> Json:
    schedule = {"cron": item["cron"], "timezone": item.get("timezone", "UTC"), "day_or": True}
    return {"schedule": schedule, "active": item.get("active", True), "slug": item["slug"]}


def _check(nightly: Nightly) -> None:
    """Refuse what the server would refuse, in words.

    Raises:
        AutoScorerError: ``INVALID_REQUEST``.
    """
    from prefect.client.schemas.schedules import CronSchedule
    from pydantic import ValidationError

    try:
        CronSchedule(cron=nightly.cron, timezone=nightly.timezone)
    except ValidationError as error:
        why = "; ".join(str(item["msg"]).removeprefix("Value error, ") for item in error.errors())
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            f"--cron {nightly.cron!r} with --timezone {nightly.timezone!r} is not a schedule: {why}. Five fields are "
            'expected, such as "0 2 * * *", and a timezone such as Europe/Berlin.',
        ) from None
