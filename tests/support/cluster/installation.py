"""An installation on a real cluster that is being used, and the cluster with the images that it needs."""

from __future__ import annotations

import os
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest

from ..calls import Answer, call
from ..checkout import sh
from ..prefect_server import eventually
from ..workspaces import write_workspace
from . import Cluster, Json

__all__ = ["API", "BUSYBOX", "PATIENCE", "Installation", "cluster", "load"]

# Addresses of the overlays beside this file.
API = "http://10.96.0.80:8000"
BUSYBOX = "autoscorer-test-busybox:latest"
# Writes the right answers, after it has waited for so many seconds.
MODEL = "echo ready; sleep {seconds}; printf 'id,label\\na,x\\nb,y\\n' > output/pred.csv"
# The machine may be busy with everything else.
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

        def answer() -> Answer | None:
            try:
                return self.once(path, body)
            except OSError:
                return None

        found = eventually(answer, within=PATIENCE)
        assert found.status < 400, found.body
        return found.data

    def once(self, path: str, body: Json | None = None) -> Answer:
        """The API's answer to one request. Raises ``OSError``."""
        return call(API + path, "GET" if body is None else "POST", body, token=self.token, timeout=PATIENCE)

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
        found: Json = self.ask("/pipeline?wait=0", {"workspace": self.upload(seconds)})
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
            within=300,
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
def cluster(root_image: str, busybox: str) -> Cluster:
    cluster = Cluster(Path(os.environ["KUBECONFIG"]))
    load(f"{root_image}:latest", BUSYBOX)
    return cluster


def load(*images: str) -> None:
    """Copy images of the local engine to the cluster's nodes."""
    sh(*os.environ["KUBERNETES_LOAD_IMAGE"].split(), *images)
