"""Schedules fire, as `autoscorer deploy` and as `prefect deploy` register them; /readyz says when none does."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from autoscorer.core.config import load_settings
from autoscorer.service.prefect import schedules
from autoscorer.service.prefect.client import PrefectApi
from autoscorer.service.prefect.schedules import always_has_a_next_run
from autoscorer.service.readiness import Check, Readiness

from ..support.installation import Installation
from ..support.ledger import opened
from ..support.prefect_server import PrefectServer, eventually, running_server

ROOT = Path(__file__).parents[2]
# The next full minute, the scheduler's own minute, and a batch.
FIRES = 180.0


def run(live: Installation, *arguments: str) -> str:
    """A command as the installation's operator types it, in the checkout."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env={
            **live.environment,
            "PREFECT_API_URL": live.prefect_url,
            "PREFECT_HOME": str(live.home / "operator"),
            "DO_NOT_TRACK": "1",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def nightly(installation: Installation) -> Iterator[Any]:
    """Asks for nightly-batch; afterwards it sleeps again, for the tests that share this installation."""

    def look() -> dict[str, Any]:
        found: dict[str, Any] = installation.prefect("GET", "/deployments/name/batch/nightly-batch")
        return found

    yield look
    there = look()
    for each in there["schedules"]:
        installation.prefect("DELETE", f"/deployments/{there['id']}/schedules/{each['id']}")
    installation.prefect("PATCH", f"/deployments/{there['id']}", {"paused": True, "parameters": {}})
    run(installation, "autoscorer", "deploy")


def batches(live: Installation, workspace: str) -> list[dict[str, Any]]:
    """Batches on a workspace that a schedule made and that have ended, with their Results.

    Those that only scored: where the full minute comes between registering the schedule and changing its parameters,
    its first run is one of pipelines, for which these workspaces have no image.
    """
    _, envelope = live.call("GET", "/tasks?action=batch&limit=100")
    ended = [task for task in envelope["data"]["tasks"] if task["origin"] == "prefect" and task["ended_at"]]
    whole = [live.call("GET", f"/batch/{task['id']}")[1]["data"] for task in ended]
    scored = [each for each in whole if (each["task"]["result"] or {}).get("action") == "score"]
    return [each for each in scored if any(workspace in row["workspace"] for row in each["leaderboard"])]


def check_batch(batch: dict[str, Any]) -> None:
    assert batch["task"]["state"] == "completed", batch["task"]
    assert [row["score"] for row in batch["leaderboard"]] == [1.0]


@pytest.mark.prefect
@pytest.mark.slow
def test_nightly_batch_fires_as_autoscorer_deploys_it(installation: Installation, nightly: Any) -> None:
    folder = installation.workspace("cron-round/team-a").parent
    run(installation, "autoscorer", "deploy", "--cron", "* * * * *", "--workspaces", str(folder))
    deployment = nightly()
    installation.prefect("PATCH", f"/deployments/{deployment['id']}", {"parameters": score_only(folder)})
    check_batch(eventually(lambda: batches(installation, "cron-round"), within=FIRES)[0])
    status, envelope = installation.call("GET", "/readyz", role=None)
    assert status == 200
    assert envelope["data"]["scheduler"]["state"] == "ok", envelope["data"]["scheduler"]


@pytest.mark.prefect
@pytest.mark.slow
def test_nightly_batch_fires_as_prefect_deploys_it(installation: Installation, nightly: Any, tmp_path: Path) -> None:
    """With a schedule of one's own in prefect.yaml, as a person who only knows Prefect writes it."""
    folder = installation.workspace("interval-round/team-a").parent
    content = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    (own,) = [each for each in content["deployments"] if each["name"] == "nightly-batch"]
    own |= {"paused": False, "schedules": [{"slug": "nightly", "interval": 5}], "parameters": score_only(folder)}
    (tmp_path / "prefect.yaml").write_text(yaml.safe_dump({**content, "deployments": [own]}))
    run(installation, "prefect", "deploy", "--all", "--prefect-file", str(tmp_path / "prefect.yaml"))
    check_batch(eventually(lambda: batches(installation, "interval-round"), within=FIRES)[0])


def score_only(folder: Path) -> dict[str, Any]:
    return {"workspaces": [str(folder)], "action": "score"}


# --- a scheduler that stands still ----------------------------------------------------------------------------


@pytest.fixture
def without_scheduler(tmp_path: Path) -> Iterator[PrefectServer]:
    """A server that answers everything and schedules nothing, as one whose scheduler fails every minute."""
    with running_server(tmp_path / "prefect", PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED="false") as server:
        yield server


def scheduler_of(server: PrefectServer, monkeypatch: pytest.MonkeyPatch) -> Check:
    monkeypatch.setenv("AUTOSCORER_PREFECT__API_URL", server.api_url)

    async def look() -> Check:
        settings = load_settings()
        async with PrefectApi(settings) as prefect, opened(settings) as ledger:
            return (await Readiness(settings, prefect, ledger).look()).scheduler

    return asyncio.run(look())


@pytest.mark.prefect
@pytest.mark.slow
def test_readyz_says_that_the_scheduler_stands_still(
    without_scheduler: PrefectServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from autoscorer.cli.main import main

    monkeypatch.setenv("AUTOSCORER_PREFECT__API_URL", without_scheduler.api_url)
    assert main(["deploy", "--json"]) == 0
    assert scheduler_of(without_scheduler, monkeypatch).state == "ok", "nightly-batch is paused"
    assert main(["deploy", "--json", "--cron", "* * * * *", "--workspaces", "/data/a"]) == 0
    assert scheduler_of(without_scheduler, monkeypatch).state == "ok", "the scheduler has had no time yet"
    monkeypatch.setattr(schedules, "GRACE", schedules.GRACE * 0)
    check = scheduler_of(without_scheduler, monkeypatch)
    assert check.state == "degraded"
    assert "stands still" in check.detail
    # Somebody makes the run by hand, as the scheduler should have.
    deployment = without_scheduler.call("GET", "/deployments/name/batch/nightly-batch")
    without_scheduler.call("POST", f"/deployments/{deployment['id']}/schedule", {})
    eventually(lambda: scheduler_of(without_scheduler, monkeypatch).state == "ok")


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({"cron": "0 2 * * *", "timezone": "UTC"}, True),
        ({"cron": "0 2 31 * 1-5"}, True),
        ({"cron": "0 2 1 1 *"}, False),
        ({"interval": 5.0}, True),
        ({"interval": 86400.0 * 89}, True),
        ({"interval": 86400.0 * 120}, False),
        ({"rrule": "FREQ=DAILY;COUNT=1"}, False),
    ],
)
def test_only_schedules_that_always_have_a_next_run_tell_of_the_scheduler(
    schedule: dict[str, Any], expected: bool
) -> None:
    assert always_has_a_next_run({"active": True, "schedule": schedule}) is expected
    assert always_has_a_next_run({"active": False, "schedule": schedule}) is False


def test_users_and_the_pins_get_a_prefect_whose_scheduler_works() -> None:
    """3.8.8 fails with SQLAlchemy 2.1, which users get who install from pyproject."""
    import tomllib

    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    pinned = (ROOT / "requirements" / "runtime.txt").read_text().split()
    (prefect,) = [line for line in asked if line.startswith("prefect==")]
    assert prefect in pinned
    assert tuple(map(int, prefect.removeprefix("prefect==").split("."))) >= (3, 9, 1)
