"""Prefect's server as `autoscorer up` starts it takes many writers at once."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx
import pytest

from ..support.installation import Installation

pytestmark = [pytest.mark.prefect, pytest.mark.slow]

WRITERS, RUNS = 6, 12


def test_no_writer_is_turned_away_by_a_locked_database(installation: Installation) -> None:
    """Plain Prefect answers many of these with 503, and its client waits for seconds before it asks again."""
    with httpx.Client(base_url=installation.prefect_url, timeout=60, trust_env=False) as client:

        def write(number: int) -> list[int]:
            statuses = []
            for _ in range(RUNS):
                flow = {"flow_id": flow_id, "state": {"type": "SCHEDULED"}, "name": f"writer-{number}"}
                answer = client.post("/flow_runs/", json=flow)
                statuses.append(answer.status_code)
                if answer.status_code == 201:
                    made = answer.json()["id"]
                    for state in ("PENDING", "RUNNING", "COMPLETED"):
                        body = {"state": {"type": state}, "force": True}
                        statuses.append(client.post(f"/flow_runs/{made}/set_state", json=body).status_code)
            return statuses

        flow_id = client.post("/flows/", json={"name": f"writers-{uuid4().hex[:8]}"}).json()["id"]
        with ThreadPoolExecutor(WRITERS) as pool:
            counts = Counter(status for statuses in pool.map(write, range(WRITERS)) for status in statuses)
        assert set(counts) <= {200, 201}, counts
        assert counts[201] >= WRITERS * RUNS
        client.delete(f"/flows/{flow_id}")
