"""What the hostile suite asks of a sealed backend beside running: images, and that nothing is left."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import threading
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from autoscorer.core.config import Settings, load_settings
from autoscorer.core.processes import ProcessIdentity
from autoscorer.executors.bubblewrap.group import group_name
from autoscorer.executors.bubblewrap.sandbox import process_name
from autoscorer.executors.cgroup import CGROUPS
from autoscorer.executors.docker.container_config import LABEL
from autoscorer.executors.kubernetes.api import KubernetesApi
from autoscorer.executors.kubernetes.kubeconfig import find_access
from autoscorer.executors.kubernetes.names import pods_path, process_label
from autoscorer.executors.kubernetes.session import close_sessions

from .prefect_server import eventually

__all__ = ["HOSTILE_BACKENDS", "BubblewrapBackend", "DockerBackend", "KubernetesBackend", "SealedBackend", "left_of"]

# scripts/test-kubernetes sets it. A cluster is not what every development machine has, nor CI.
HOSTILE_BACKENDS = ("kubernetes",) if os.environ.get("TEST_KUBERNETES") else ("docker", "bubblewrap")


class SealedBackend(ABC):
    """One backend, and what it can't hold: the same attack is tried there, and the Result has to say so."""

    name: str
    # Whether the kernel alone says that there is no network, and not a rule of the cluster's.
    has_no_interface = True
    has_init = True
    measures = True
    # Whether each run has a limit of processes, a sized /tmp, a look at deleted files, and volumes of images in memory.
    limits_each_run = True
    # Seconds that a run may take beside its model.
    overhead = 10.0

    @abstractmethod
    def give(self, root: Path, image: str) -> None:
        """Make an image of the local engine, which a workspace's meta.json names, available to it."""

    @abstractmethod
    def left(self) -> list[Any]:
        """What is there of this process's runs."""


class DockerBackend(SealedBackend):
    name = "docker"

    def __init__(self, client: Any) -> None:
        self._client = client

    def give(self, root: Path, image: str) -> None:
        pass

    def left(self) -> list[Any]:
        return [
            container
            for container in self._client.containers(all=True, filters={"label": LABEL + "run"})
            # Its own: other tests may run beside this one.
            if container["Labels"].get(LABEL + "workspace") == "ws"
            and container["Labels"].get(LABEL + "owner") == ProcessIdentity.current().text
        ]


class BubblewrapBackend(SealedBackend):
    """It has no engine: the image lies in the workspace, as ``docker save`` writes it."""

    name = "bubblewrap"

    def __init__(self, client: Any, folder: Path) -> None:
        self._client, self._folder = client, folder
        self._roots: list[Path] = []
        self._saving = threading.Lock()

    def give(self, root: Path, image: str) -> None:
        self._roots.append(root)
        saved = self._folder / f"{hashlib.sha256(image.encode()).hexdigest()}.tar"
        with self._saving:
            if not saved.exists():
                with saved.open("wb") as file:
                    for chunk in self._client.get_image(image):
                        file.write(chunk)
        os.link(saved, root / "image.tar")
        meta = json.loads((root / "meta.json").read_text())
        del meta["container"]["image"]
        (root / "meta.json").write_text(json.dumps(meta))

    def left(self) -> list[Any]:
        found: list[Any] = []
        while self._roots:
            with suppress(FileNotFoundError):
                info = json.loads((self._roots.pop() / "logs" / "run_info.json").read_text())
                found += left_of(info["run_id"])
        return found


def left_of(run_id: str) -> list[Path]:
    """Processes and control groups of a run of bubblewrap's."""
    found = [path for path in CGROUPS.glob(f"**/{group_name(run_id)}") if path.is_dir()]
    name = process_name(run_id).encode()
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdigit() and (process / "cmdline").read_bytes().split(b"\0")[0] == name:
                found.append(process)
    return found


class KubernetesBackend(SealedBackend):
    """The cluster that ``KUBECONFIG`` names, in a namespace of its own."""

    name = "kubernetes"
    has_no_interface = has_init = measures = limits_each_run = False
    overhead = 240.0

    def __init__(self, namespace: str, helper: str) -> None:
        self.namespace = namespace
        self.environment = {
            "AUTOSCORER_EXECUTORS__KUBERNETES__NAMESPACE": namespace,
            "AUTOSCORER_EXECUTORS__KUBERNETES__HELPER_IMAGE": helper,
            "AUTOSCORER_EXECUTORS__KUBERNETES__START_TIMEOUT": "120",
        }
        self._loaded: set[str] = set()
        self.api = KubernetesApi(find_access(load_settings().executors.kubernetes))
        self.load(helper)

    @classmethod
    @contextmanager
    def with_namespace(cls, helper: str) -> Iterator[KubernetesBackend]:
        """Make a namespace, as the manifests do, and remove it afterwards with all that is in it."""
        one = cls(f"autoscorer-test-{uuid.uuid4().hex[:8]}", helper)
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": one.namespace, "labels": labels}}
        one.api.request("POST", "/api/v1/namespaces", "make a namespace", body=body)
        try:
            # Its service account comes a moment later, and pods are refused until then.
            account = f"/api/v1/namespaces/{one.namespace}/serviceaccounts"
            eventually(lambda: one.api.get(account, "look for the service account")["items"])
            yield one
        finally:
            close_sessions()
            one.api.request("DELETE", f"/api/v1/namespaces/{one.namespace}", "remove the namespace")
            one.api.close()

    def give(self, root: Path, image: str) -> None:
        self.load(image)

    def load(self, image: str) -> None:
        # What a cluster's nodes take images with: such as `kind load docker-image`.
        if image not in self._loaded:
            command = shlex.split(os.environ["KUBERNETES_LOAD_IMAGE"])
            subprocess.run([*command, image], check=True, capture_output=True)
            self._loaded.add(image)

    def left(self) -> list[Any]:
        own = f"{LABEL}process={process_label(ProcessIdentity.current().text)}"
        found: list[Any] = []
        for path in (pods_path(self.namespace), f"/apis/batch/v1/namespaces/{self.namespace}/jobs"):
            found += self.api.get(path, "look what is left", query={"labelSelector": own})["items"]
        return found

    def settings(self) -> Settings:
        return load_settings()
