"""Work pools that Prefect's own workers serve, set up as docs/prefect.md and docs/service.md say: process and Docker.

Everything is tried on both. What is left behind when something is killed is for the API, and for the automation that
``autoscorer deploy`` makes.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ..support.benchmarks import write_benchmark
from ..support.checkout import checkout, sh
from ..support.prefect_server import PrefectServer, eventually, running_server
from ..support.work_pools import QUICK, WAITING, Site, block_of, containers, go
from ..support.workspaces import result_of

pytestmark = [
    *(pytest.mark.docker, pytest.mark.prefect, pytest.mark.slow),
    pytest.mark.skipif(os.geteuid() != 0, reason="gives folders to the user of the containers"),
]


@dataclass
class Left:
    """A run that was under way when its worker was killed."""

    root: Path
    id: str


class ProcessPool(Site):
    """Two pools of processes, made by Prefect's own commands in a fresh checkout."""

    pool = "autoscorer"
    # Who owns what a run has written, and how many attempts one may take whose worker was killed.
    user = 0
    attempts_without_worker: tuple[int, ...] = (1, 2)

    def set_up(self) -> None:
        repo = checkout(self.folder / "checkout")
        *made, self.worker, self.score_worker, self.example = block_of("docs/prefect.md", "With Prefect alone")
        for line in made:
            self.run(line, cwd=repo)
        # The automation.
        self.run("autoscorer deploy")

    def kill_run(self, flow_run_id: str) -> None:
        """kill -9 of everything that works on the run, but its model."""
        for pid in self.pids(flow_run_id):
            os.kill(pid, signal.SIGKILL)

    def is_at_work(self, flow_run_id: str) -> bool:
        return bool(self.pids(flow_run_id))


class DockerPool(Site):
    """A pool of containers of the AutoScorer image, which run as nobody special."""

    pool = "my-docker"
    user = 10001
    attempts_without_worker = (1,)
    image = ""

    def set_up(self) -> None:
        *commands, self.worker = block_of("docs/service.md", "## Elsewhere than in processes")
        script = "\n".join(["set -e", *commands])
        for said, here in (
            ("/srv/autoscorer", str(self.folder)),
            ("image=autoscorer:latest", f"image={self.image}"),
            ("http://127.0.0.1:4200/api", self.server.api_url),
            ("sudo ", ""),
        ):
            assert said in script, said
            script = script.replace(said, here)
        self.run(script)
        self.example = block_of("docs/prefect.md", "With Prefect alone")[-1]

    def workspace(self, name: str, image: str, command: str = QUICK) -> Path:
        root = super().workspace(name, image, command)
        for path in (root.parent, root, *root.rglob("*")):
            shutil.chown(path, self.user, self.user)
        return root

    def kill_run(self, flow_run_id: str) -> None:
        """kill -9 of the run's container, not of its model's."""
        sh("docker", "kill", *self._containers(flow_run_id))

    def is_at_work(self, flow_run_id: str) -> bool:
        return bool(self._containers(flow_run_id))

    def _containers(self, flow_run_id: str) -> list[str]:
        return sh("docker", "ps", "--all", "--quiet", "--filter", f"label=io.prefect.flow-run-id={flow_run_id}").split()


Pool = ProcessPool | DockerPool


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A server of their own: another worker would take these runs."""
    with running_server(tmp_path_factory.mktemp("prefect")) as one:
        yield one


@pytest.fixture(scope="module", params=["process", "docker"])
def pool(
    request: pytest.FixtureRequest, prefect: PrefectServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pool]:
    """A pool, its deployments, and the API."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "docker":
        DockerPool.image = request.getfixturevalue("root_image")
    one: Pool = {"process": ProcessPool, "docker": DockerPool}[request.param](folder, prefect)
    try:
        one.set_up()
        one.start_api()
        yield one
    finally:
        one.stop()


def start_worker(pool: Pool, name: str, **environment: str) -> None:
    pool.start(name, f"{pool.worker} --name {name}", **environment)
    pool.serves(name, pool.pool)


@pytest.fixture(scope="module")
def left(pool: Pool, busybox: str) -> dict[str, Left]:
    """Runs whose worker was killed, with the run or without it. Afterwards another worker serves the pool.

    It comes before everything else, because silence is noticed after 90 seconds, and the other tests fill these.
    """
    start_worker(pool, "first")
    found = {}
    for name in ("with-its-worker", "alone", "alone-and-cancelled"):
        root = pool.workspace(name, busybox, WAITING)
        found[name] = Left(root, pool.submit("pipeline/pipeline", workspace=root))
    for each in found.values():
        pool.under_way(each.root, each.id)
    pool.kill("first")
    pool.kill_run(found["with-its-worker"].id)
    go(found["with-its-worker"].root)
    pool.cancel(found["alone-and-cancelled"].id)
    start_worker(pool, "second")
    return found


@pytest.fixture(scope="module")
def night(pool: Pool, busybox: str) -> tuple[Path, datetime]:
    """A round of workspaces that is due once, soon, and when."""
    due = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=3)
    root = pool.workspace("round-1/team-a", busybox)
    pool.run(f'autoscorer deploy --pool {pool.pool} --cron "{due.minute} {due.hour} * * *" --workspaces {root.parent}')
    return root, due


@pytest.fixture
def served(pool: Pool, left: dict[str, Left], night: tuple[Path, datetime]) -> Pool:
    """The pool, with a worker that lives."""
    return pool


def gone(pool: Pool, flow_run_id: str) -> None:
    """Nothing of a run that has ended is left."""
    eventually(lambda: not pool.is_at_work(flow_run_id))
    pool.nothing_left(flow_run_id)


def test_a_run_of_prefects_command_is_completed_with_result_task_runs_and_artifacts(served: Pool, busybox: str) -> None:
    name = f"team-{served.pool}"  # the runs of the other pool are on this server, too
    root = served.workspace(name, busybox)
    served.run(served.example.replace("/data/team-a", str(root)))
    run = served.ended(served.server.flow_run(name)["id"], "COMPLETED")
    assert run["state"]["message"].startswith("score 1"), run["state"]
    result = result_of(root)
    assert result["summary"]["score"] == 1.0 and result["versioning"]["flow_run_id"] == run["id"]
    assert json.loads((root / "logs" / "run_info.json").read_text())["unwatched"] == []
    assert (root / "output" / "result.json").stat().st_uid == served.user
    assert sorted(served.server.task_runs(run["id"], 3)) == [f"run {name}", f"score {name}", f"validate {name}"]
    assert {key.rpartition("-")[2] for key in served.server.artifacts(run["id"])} == {"result", "metrics", "report"}
    gone(served, run["id"])


def test_a_submission_that_fails_is_failed_with_its_code(served: Pool, busybox: str) -> None:
    root = served.workspace("fails", busybox, "echo my last words; exit 3")
    run = served.ended(served.submit("pipeline/pipeline", workspace=root), "FAILED")
    assert run["state"]["message"].startswith("CONTAINER_FAILED: "), run["state"]
    assert result_of(root)["error"]["code"] == "CONTAINER_FAILED"
    gone(served, run["id"])


def test_cancelling_ends_the_container(served: Pool, busybox: str) -> None:
    root = served.workspace("cancelled", busybox, WAITING)
    run_id = served.submit("pipeline/pipeline", workspace=root)
    served.under_way(root, run_id)
    served.run(f"prefect flow-run cancel {run_id}")
    served.ended(run_id, "CANCELLED")
    gone(served, run_id)
    assert result_of(root)["error"]["code"] == "CANCELLED"


def test_a_run_that_was_killed_is_put_back_and_nothing_of_its_first_attempt_stays(served: Pool, busybox: str) -> None:
    root = served.workspace("killed", busybox, WAITING)
    run_id = served.submit("pipeline/pipeline", workspace=root)
    served.under_way(root, run_id)
    (container,) = containers(run_id)
    go(root)
    served.kill_run(run_id)
    eventually(lambda: container not in containers(run_id))
    served.ended(run_id, "COMPLETED", attempts=2)
    assert result_of(root)["summary"]["score"] == 1.0
    gone(served, run_id)


def test_each_deployment_works(served: Pool, busybox: str) -> None:
    # The others of the Docker pool are what the schedule and the other tests start.
    names = ["run-only/run"]
    if isinstance(served, ProcessPool):
        served.start("scores", f"{served.score_worker} --name scores")
        served.serves("scores", "autoscorer-score")
        names += ["batch/batch", "validate-only/validate"]
    runs = {}
    for name in names:
        root = served.workspace(name.partition("/")[2], busybox)
        given: dict[str, Any] = {"workspaces": [str(root)]} if name == "batch/batch" else {"workspace": root}
        runs[name] = root, served.submit(name, **given)
    for name, (root, run_id) in runs.items():
        served.ended(run_id, "COMPLETED")
        assert (root / "output" / "pred.csv").exists() is (name != "validate-only/validate")
        assert (root / "output" / "result.json").exists() is (name == "batch/batch")
        gone(served, run_id)
    if isinstance(served, ProcessPool):
        root, _ = runs["run-only/run"]
        run = served.ended(served.submit("score-only/score", workspace=root), "COMPLETED")
        assert result_of(root)["summary"]["score"] == 1.0
        assert sorted(served.server.task_runs(run["id"], 1)) == ["score run"]
        folder = write_benchmark(root.parent, "league", truth=(root / "input" / "gt.csv").read_text())
        handed = {"team": "team-a", "kind": "predictions", "source": str(root / "output" / "pred.csv")}
        served.ended(served.submit("evaluate/evaluate", benchmark=str(folder.root), **handed), "COMPLETED")
        (submission,) = folder.submissions()
        assert result_of(submission)["summary"]["score"] == 1.0


def test_a_run_whose_worker_alone_was_killed_is_completed(served: Pool, left: dict[str, Left]) -> None:
    run = left["alone"]
    # A process whose log has nowhere to go any more may crash as it writes, and is put back; a container goes on.
    go(run.root)
    served.ended(run.id, "COMPLETED", attempts=served.attempts_without_worker)
    assert result_of(run.root)["versioning"]["flow_run_id"] == run.id
    gone(served, run.id)


def test_a_run_whose_worker_was_killed_can_be_cancelled(served: Pool, left: dict[str, Left]) -> None:
    run = left["alone-and-cancelled"]
    served.ended(run.id, "CANCELLED")
    gone(served, run.id)
    assert result_of(run.root)["error"]["code"] == "CANCELLED"


def test_a_run_that_was_killed_with_its_worker_is_put_back_after_its_silence(
    served: Pool, left: dict[str, Left]
) -> None:
    run = left["with-its-worker"]
    served.ended(run.id, "COMPLETED", attempts=2)
    assert result_of(run.root)["versioning"]["flow_run_id"] == run.id
    gone(served, run.id)


def test_a_schedule_starts_its_run(served: Pool, night: tuple[Path, datetime]) -> None:
    root, due = night
    deployment = served.server.call("GET", "/deployments/name/batch/nightly-batch")
    wanted = {
        "deployment_id": {"any_": [deployment["id"]]},
        "expected_start_time": {"before_": due.isoformat(), "after_": due.isoformat()},
    }
    body = {"flow_runs": wanted}
    (run,) = eventually(lambda: served.server.call("POST", "/flow_runs/filter", body))
    assert run["auto_scheduled"] and run["parameters"]["workspaces"] == [str(root.parent)]
    time.sleep(max(0.0, (due - datetime.now(UTC)).total_seconds()))
    served.ended(run["id"], "COMPLETED")
    assert result_of(root)["summary"]["score"] == 1.0


def test_what_its_operator_forbids_is_forbidden_to_its_runs(served: Pool, busybox: str) -> None:
    forbidden = {"AUTOSCORER_SECURITY__ALLOWED_IMAGES": '["nothing/*"]'}
    if isinstance(served, DockerPool):
        served.run(f"autoscorer deploy --pool {served.pool}", **forbidden)
    else:
        served.kill("second")
        start_worker(served, "third", **forbidden)
    root = served.workspace("forbidden", busybox)
    run = served.ended(served.submit("run-only/run", workspace=root), "FAILED")
    assert "is not allowed here, only nothing/*" in run["state"]["message"]
