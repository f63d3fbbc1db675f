"""deployments/kubernetes on a real cluster: a model is scored through the API, whatever of the installation is killed.

`scripts/test-kubernetes tests/system/test_cluster.py` runs it, on the cluster that KUBECONFIG names.
"""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..support.calls import call
from ..support.checkout import sh
from ..support.cluster import Cluster, installed
from ..support.prefect_server import eventually
from ..support.workspaces import write_workspace

Json = dict[str, Any]
pytestmark = [pytest.mark.docker, pytest.mark.slow]

# Addresses of the overlays in tests/support/cluster.
API = "http://10.96.0.80:8000"
BUSYBOX = "autoscorer-test-busybox:latest"
# Writes the right answers, after it has waited for so many seconds.
MODEL = "echo ready; sleep {seconds}; printf 'id,label\\na,x\\nb,y\\n' > output/pred.csv"
PATIENCE = 600.0


class Installation:
    """An installation that is being used."""

    def __init__(self, cluster: Cluster, manifests: Path, folder: Path) -> None:
        self.cluster, self.manifests, self.folder = cluster, manifests, folder
        tokens = dict(
            each.split(":")
            for each in reversed(cluster.secret("autoscorer-tokens", "AUTOSCORER_API_TOKENS").split(","))
        )
        self.token = tokens["admin"]
        self.models = {**os.environ, "AUTOSCORER_API_URL": API, "AUTOSCORER_API_TOKEN": self.token}

    def ask(self, path: str, body: Json | None = None) -> Any:
        """The data of the API's answer; asked again while nobody listens."""

        def answer() -> Any:
            try:
                return call(API + path, "GET" if body is None else "POST", body, token=self.token, timeout=PATIENCE)
            except OSError:
                return None

        found = eventually(answer, within=PATIENCE)
        assert found.status < 400, found.body
        return found.data

    def upload(self, seconds: float) -> str:
        """A workspace whose model takes so long; its name."""
        name = f"ws-{uuid.uuid4().hex[:8]}"
        write_workspace(
            self.folder,
            name,
            pred=None,
            container={
                "image": BUSYBOX,
                "cmd": ["sh", "-c", MODEL.format(seconds=seconds)],
                "working_dir": "/workspace",
            },
            resources={"cpu": 0.1, "memory": "64Mi", "disk": "16Mi"},
            timeout=300,
        )
        self.command("upload", str(self.folder / name), "--name", name)
        return name

    def command(self, *arguments: str) -> None:
        done = subprocess.run(["autoscorer", *arguments, "--json"], env=self.models, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def submit(self, seconds: float = 0) -> Json:
        """A task that was accepted."""
        found: Json = self.ask("/pipeline", {"workspace": self.upload(seconds)})
        return found

    def scored(self, task: Json) -> Json:
        """The task when it has ended: completed, with the score of right answers."""
        ended: Json = eventually(lambda: self._ended(task["id"]), within=PATIENCE)
        assert (ended["state"], (ended["outcome"] or {}).get("score")) == ("completed", 1.0), (
            ended,
            self.cluster.report(),
        )
        return ended

    def _ended(self, task_id: str) -> Json | None:
        task: Json = self.ask(f"/tasks/{task_id}?wait=30")
        return task if task["state"] in ("completed", "failed", "cancelled") else None

    def model(self) -> Json:
        """The pod of a model that runs."""

        def running() -> Json | None:
            for pod in self.cluster.get("pods", namespace="autoscorer-runs"):
                if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]:
                    return pod
            return None

        return eventually(running, within=PATIENCE)  # type: ignore[return-value]

    def kill(self, *what: str) -> None:
        """kill -9 of everything in these pods, at once."""
        self.cluster.kubectl("delete", "pod", "-n", "autoscorer", *what, "--grace-period=0", "--force", "--wait=false")

    def nothing_is_left(self) -> None:
        """No Job and no pod of a model is there any more."""
        eventually(
            lambda: not self.cluster.kubectl("get", "jobs,pods", "-n", "autoscorer-runs", "-o", "name").split(),
            within=180,
        )

    def ready(self) -> None:
        """Everything is up and prepared."""
        kubectl = self.cluster.kubectl
        jobs = kubectl("get", "jobs", "-n", "autoscorer", "-o", "name").split()
        ours = [job for job in jobs if job.partition("/")[2] in ("setup", "database")]
        kubectl("wait", "-n", "autoscorer", "--for=condition=complete", "--timeout=900s", *ours, timeout=1000)
        for each in kubectl("get", "deployments", "-n", "autoscorer", "-o", "name").split():
            kubectl("rollout", "status", "-n", "autoscorer", each, "--timeout=600s", timeout=700)


@pytest.fixture(scope="module")
def cluster(root_image: str, busybox_image: str) -> Cluster:
    cluster = Cluster(Path(os.environ["KUBECONFIG"]))
    load = os.environ["KUBERNETES_LOAD_IMAGE"].split()
    sh(*load, f"{root_image}:latest", f"{busybox_image}:latest")
    return cluster


@pytest.fixture(scope="module")
def busybox_image(docker_client: Any) -> str:
    name = BUSYBOX.partition(":")[0]
    assert docker_client.images(name=name), "tests/images/build-busybox makes it"
    return name


@pytest.fixture(scope="module")
def dev(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installed(cluster, "dev") as manifests:
        found = Installation(cluster, manifests, tmp_path_factory.mktemp("workspaces"))
        found.ready()
        yield found


def test_a_model_is_run_sealed_and_scored(dev: Installation) -> None:
    task = dev.submit(seconds=3)
    pod = dev.model()
    # What runs beside no secret, with no right and no way out.
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert not [volume for volume in pod["spec"]["volumes"] if set(volume) - {"name", "emptyDir"}]
    ended = dev.scored(task)
    result = dev.ask(f"/result?workspace={ended['workspace']}")
    assert result["summary"]["score"] == 1.0
    assert result["versioning"]["image"], result
    assert any("Kubernetes" in note for note in result["notes"])
    dev.nothing_is_left()


def test_a_second_apply_changes_nothing(dev: Installation) -> None:
    dev.cluster.kubectl("diff", "-k", dev.manifests)  # exits with 1 where there is a difference
    dev.cluster.kubectl("apply", "-k", dev.manifests)
    dev.cluster.kubectl("diff", "-k", dev.manifests)


def test_what_is_applied_again_after_a_change_runs_with_it(dev: Installation) -> None:
    """The commands of "Upgrading"."""
    kustomization = dev.manifests / "kustomization.yaml"
    kustomization.write_text(kustomization.read_text() + "      - AUTOSCORER_SECURITY__LIMITS__TIMEOUT=1234\n")
    dev.cluster.kubectl("delete", "job", "setup", "database", "-n", "autoscorer", "--ignore-not-found")
    dev.cluster.kubectl("apply", "-k", dev.manifests)
    dev.ready()
    shown = dev.cluster.kubectl(
        "exec", "-n", "autoscorer", "deployment/worker", "--", "autoscorer", "config", "show", "--json"
    )
    assert '"timeout": 1234' in shown, shown
    dev.scored(dev.submit())


@pytest.mark.parametrize("component", ["worker", "api", "prefect-server"])
def test_a_run_ends_scored_although_a_pod_was_killed_meanwhile(dev: Installation, component: str) -> None:
    task = dev.submit(seconds=20)
    dev.model()
    dev.kill("-l", f"app.kubernetes.io/component={component}")
    dev.scored(task)
    dev.nothing_is_left()


def test_flow_runs_are_pods_of_prefects_worker_where_that_is_configured(dev: Installation) -> None:
    dev.cluster.kubectl(
        "exec", "-n", "autoscorer", "deployment/api", "--", "autoscorer", "deploy", "--pool=autoscorer-kubernetes"
    )
    try:
        dev.scored(dev.submit())
        flows = dev.cluster.pods("flow-run")
        assert [pod["status"]["phase"] for pod in flows] == ["Succeeded"]
        # The password of Prefect's server is named in it and not written.
        assert dev.cluster.secret("prefect-auth", "PREFECT_API_AUTH_STRING") not in json.dumps(flows)
        dev.nothing_is_left()

        task = dev.submit(seconds=30)
        dev.model()
        (running,) = [
            pod["metadata"]["name"] for pod in dev.cluster.pods("flow-run") if pod["status"]["phase"] == "Running"
        ]
        dev.kill(running)
        assert dev.scored(task)["attempts"] == 2
        dev.nothing_is_left()
    finally:
        dev.cluster.kubectl("exec", "-n", "autoscorer", "deployment/api", "--", "autoscorer", "deploy")
