"""What the service asks Prefect's REST API: few calls, asynchronous, without importing Prefect.

Prefect's own client costs seconds of import and milliseconds of CPU a call, and has no word for creating many flow
runs at once. The service makes thousands of these calls, against the one version of Prefect that is pinned.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Self, cast

import httpx

from ...core.backoff import delays
from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode
from ...core.prefect_address import prefect_headers, prefect_url
from .model import FlowRun, Json, State, StateType

__all__ = ["BULK", "PAGE", "PrefectApi", "PrefectAway", "PrefectRefused"]

# SQLite answers "database is locked" as a 503 under load; a moment later it serves.
_BUSY = frozenset({429, 502, 503, 504})
_BUSY_PAUSES = tuple(islice(delays(0.1, 1.0, factor=3.0), 3))
# Requests that change something, at a time. SQLite has one writer: more of them only wait there, and those of Prefect's
# transactions that read before they write are refused when they were overtaken.
_WRITES = 1
# Most that the server takes in one call.
BULK = 100
PAGE = 200


class PrefectAway(AutoScorerError):
    """The server does not answer; ask again later."""

    def __init__(self, url: str, why: str) -> None:
        message = f"The Prefect server does not answer: {why}."
        super().__init__(ErrorCode.BACKEND_UNAVAILABLE, message, details={"why": why})
        self.url = url


class PrefectRefused(AutoScorerError):
    """The server answered that it will not do this; asking again changes nothing."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(
            ErrorCode.INTERNAL_ERROR,
            f"The Prefect server refused a request of the service with status {status}: {detail}",
            details={"status": status},
        )
        self.status = status


class PrefectApi:
    """A connection to the server; use it with ``async with``, in one event loop.

    Every method raises ``PrefectAway`` when the server does not answer and ``PrefectRefused`` when it will not do what
    it is asked for.

    Args:
        timeout: Seconds for one request.
    """

    def __init__(self, settings: Settings, *, timeout: float = 30.0) -> None:
        self.url = prefect_url(settings)
        self._writing = asyncio.Semaphore(_WRITES)
        self._client = httpx.AsyncClient(
            base_url=self.url,
            headers=prefect_headers(settings),
            timeout=timeout,
            # The server is ours: no proxy of the environment stands in between.
            trust_env=False,
            # Before the server gives an idle connection up, after 5 s: a request that meets that is lost.
            limits=httpx.Limits(max_connections=20, max_keepalive_connections=10, keepalive_expiry=3),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def call(self, method: str, path: str, body: Any = None, *, missing_ok: bool = False) -> Any:
        """One request; the answer's JSON, or None for an empty answer and, with ``missing_ok``, for a 404."""
        reads = method == "GET" or path.endswith("/filter")
        for pause in (*_BUSY_PAUSES, None):
            try:
                async with contextlib.nullcontext() if reads else self._writing:
                    response = await self._client.request(method, path, json=body)
            except httpx.HTTPError as error:
                raise PrefectAway(self.url, type(error).__name__) from None
            if response.status_code not in _BUSY:
                break
            if pause is None:
                raise PrefectAway(self.url, f"status {response.status_code}")
            await asyncio.sleep(pause)
        if response.status_code == 404 and missing_ok:
            return None
        if response.status_code >= 500:
            raise PrefectAway(self.url, f"status {response.status_code}")
        if response.status_code >= 400:
            raise PrefectRefused(response.status_code, response.text[:500])
        try:
            return response.json() if response.content else None
        except ValueError:
            # A proxy's page, or another server at that address.
            raise PrefectAway(self.url, "the server there did not answer with JSON") from None

    async def is_healthy(self) -> bool:
        """Whether the server answers and can use its database."""
        try:
            await self.call("GET", "/ready")
        except (PrefectAway, PrefectRefused):
            return False
        return True

    # --- flow runs ------------------------------------------------------------------------------------------

    async def deployment(self, flow: str, name: str) -> Json | None:
        """The deployment ``flow/name``; None when there is none."""
        found: Json | None = await self.call("GET", f"/deployments/name/{flow}/{name}", missing_ok=True)
        return found

    async def create_flow_runs(self, deployment_id: str, runs: Sequence[Json]) -> list[Json]:
        """Create flow runs of one deployment, at most ``BULK`` at once.

        Args:
            runs: Each with ``idempotency_key`` (the same key never makes a second run), ``parameters``, ``name``,
                ``tags``, ``labels``, ``work_queue_name``.

        Returns:
            In the same order ``{flow_run_id, status, error}``; status is CREATED or FAILED.
        """
        assert len(runs) <= BULK
        answer = await self.call("POST", f"/deployments/{deployment_id}/create_flow_run/bulk", list(runs))
        results: list[Json] = answer["results"]
        return results

    async def flow_run(self, flow_run_id: str) -> FlowRun | None:
        """One flow run; None when the server knows none of that id, or is deleting it."""
        found: FlowRun | None = await self.call("GET", f"/flow_runs/{flow_run_id}", missing_ok=True)
        return found if found is not None and _has_state(found) else None

    async def flow_runs(self, ids: Iterable[str]) -> dict[str, FlowRun]:
        """The flow runs of these ids, by id; those that the server does not know are left out."""
        wanted = list(ids)
        pages = [wanted[start : start + PAGE] for start in range(0, len(wanted), PAGE)]
        return {run["id"]: run for page in pages for run in await self.find_flow_runs({"id": {"any_": page}})}

    async def find_flow_runs(
        self,
        flow_runs: Json,
        *,
        sort: str = "EXPECTED_START_TIME_ASC",
        limit: int = PAGE,
        offset: int = 0,
        **more: Json,
    ) -> list[FlowRun]:
        """Flow runs by Prefect's own filters (``more``: deployments, work_pools, …), but those being deleted."""
        body = {"flow_runs": flow_runs, "sort": sort, "limit": limit, "offset": offset, **more}
        runs: list[FlowRun] = await self.call("POST", "/flow_runs/filter", body)
        return [run for run in runs if _has_state(run)]

    async def flow_run_pages(self, flow_runs: Json, **more: Json) -> AsyncIterator[list[FlowRun]]:
        """All flow runs of such filters, a page at a time."""
        offset, number = 0, PAGE
        while number == PAGE:
            body = {"flow_runs": flow_runs, "sort": "EXPECTED_START_TIME_ASC", "limit": PAGE, "offset": offset, **more}
            runs: list[FlowRun] = await self.call("POST", "/flow_runs/filter", body)
            yield [run for run in runs if _has_state(run)]
            offset, number = offset + PAGE, len(runs)

    async def set_state(
        self,
        flow_run_id: str,
        type: StateType,
        *,
        name: str | None = None,
        message: str | None = None,
        scheduled_time: datetime | None = None,
        force: bool = False,
    ) -> tuple[bool, State | None]:
        """Propose a state.

        Args:
            name: Shown instead of the type's own, such as AwaitingRetry.
            scheduled_time: For SCHEDULED: not before then.
            force: Past Prefect's rules of what may follow what.

        Returns:
            Whether it was accepted, and the state that the run is in now (None when the server does not say).
            A run that is gone is (False, None).
        """
        state: Json = {"type": type, "name": name, "message": message}
        if type == "SCHEDULED":
            state["state_details"] = {"scheduled_time": (scheduled_time or datetime.now(UTC)).isoformat()}
        answer = await self.call(
            "POST", f"/flow_runs/{flow_run_id}/set_state", {"state": state, "force": force}, missing_ok=True
        )
        if answer is None:
            return False, None
        return answer["status"] == "ACCEPT", answer.get("state")

    async def states(self, flow_run_id: str) -> list[State]:
        """Every state that a flow run was in, the first first."""
        found: list[State] = await self.call("GET", f"/flow_run_states/?flow_run_id={flow_run_id}")
        return sorted(found, key=lambda state: str(state["timestamp"]))

    # --- logs -----------------------------------------------------------------------------------------------

    async def logs(self, flow_run_id: str, *, offset: int = 0, limit: int = PAGE) -> list[Json]:
        """A flow run's log records, oldest first."""
        of_run = {"flow_run_id": {"any_": [flow_run_id]}}
        body = {"logs": of_run, "sort": "TIMESTAMP_ASC", "limit": limit, "offset": offset}
        records: list[Json] = await self.call("POST", "/logs/filter", body)
        return records

    # --- work pools and workers -----------------------------------------------------------------------------

    async def work_pool(self, name: str) -> Json | None:
        """A work pool; None when there is none."""
        found: Json | None = await self.call("GET", f"/work_pools/{name}", missing_ok=True)
        return found

    async def workers(self, pool: str) -> list[Json]:
        """The workers that have ever looked at a pool, each with ``status`` ONLINE or OFFLINE."""
        found: list[Json] = await self.call("POST", f"/work_pools/{pool}/workers/filter", {"limit": PAGE})
        return found

    async def heartbeat(self, pool: str, worker: str, every: float) -> None:
        """Say that a worker is alive, and how often it will say so."""
        body = {"name": worker, "heartbeat_interval_seconds": every}
        await self.call("POST", f"/work_pools/{pool}/workers/heartbeat", body)

    async def scheduled(self, pool: str, limit: int) -> list[FlowRun]:
        """Flow runs of a pool that are due, by queue priority and time, within the pool's concurrency limit."""
        body = {"limit": limit, "scheduled_before": datetime.now(UTC).isoformat()}
        found = await self.call("POST", f"/work_pools/{pool}/get_scheduled_flow_runs", body, missing_ok=True)
        return [item["flow_run"] for item in found or []]


def _has_state(run: FlowRun) -> bool:
    """Whether a flow run is one: while Prefect deletes one, its state goes first, and it is answered without any."""
    return cast(Any, run)["state"] is not None
