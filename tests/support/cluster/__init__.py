"""A real cluster for tests: an overlay of deployments/kubernetes on one node without DNS and without kube-proxy.

``KUBECONFIG`` names it. Services have addresses there that lead nowhere. Here they lead to the pods behind them, and
that of the API server to it, so that pods use the token and the certificate that every cluster gives them.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from ..kustomize import copy
from ..relay import Relay

__all__ = ["Cluster", "Json", "installed"]

HERE = Path(__file__).parent
Json = dict[str, Any]
# The range of the cluster's services. All of it is this machine's own while a test runs.
_SERVICES = "10.96.0.0/24"
_API_SERVER = "10.96.0.1"
# There is no DNS: the names in the secrets of production, and the addresses of these Services in the overlay here.
_NAMES = {"@postgres:": "@10.96.0.54:", "@redis:": "@10.96.0.63:", "HOST=redis": "HOST=10.96.0.63"}


class Cluster:
    """The cluster that ``KUBECONFIG`` names, through its own kubectl where there is one beside it."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        own = kubeconfig.parents[1] / "debian" / "usr" / "bin" / "kubectl"
        self.program = str(own) if own.exists() else "kubectl"

    def kubectl(
        self, *arguments: str | Path, code: int | None = 0, timeout: float = 300, text: str | None = None
    ) -> str:
        """Run kubectl to its end; what it wrote to stdout."""
        done = subprocess.run(
            [self.program, "--kubeconfig", self.kubeconfig, *arguments],
            input=text, capture_output=True, text=True, timeout=timeout,
        )  # fmt: skip
        assert code is None or done.returncode == code, f"{arguments}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def get(self, *what: str, namespace: str = "autoscorer") -> list[Json]:
        """The objects of a kind, such as ``pods`` with more words of ``kubectl get``."""
        found: Json = json.loads(self.kubectl("get", *what, "--namespace", namespace, "--output", "json"))
        items: list[Json] = found.get("items", [found])
        return items

    def pods(self, component: str) -> list[Json]:
        """The pods of one part, those that are being ended left out."""
        labels = f"app.kubernetes.io/part-of=autoscorer,app.kubernetes.io/component={component}"
        return [pod for pod in self.get("pods", "-l", labels) if "deletionTimestamp" not in pod["metadata"]]

    def secret(self, name: str, key: str) -> str:
        return base64.b64decode(self.get("secret", name)[0]["data"][key]).decode()

    def api_server(self) -> tuple[str, int]:
        """Where the API server really listens."""
        config = yaml.safe_load(self.kubeconfig.read_text())
        address = urlsplit(config["clusters"][0]["cluster"]["server"])
        assert address.hostname and address.port
        return address.hostname, address.port

    def report(self) -> str:
        """What is there, for a test that fails."""
        parts = [
            self.kubectl("get", "all,pvc,events", "-n", namespace, "-o", "wide", code=None)
            for namespace in ("autoscorer", "autoscorer-runs")
        ]
        for pod in self.get("pods"):
            name = pod["metadata"]["name"]
            parts.append(self.kubectl("logs", "-n", "autoscorer", name, "--all-containers", "--tail=40", code=None))
        return "\n".join(parts)[-20000:]


class _Service(Relay):
    """One port of a Service: leads to one of its ready pods after the other."""

    def __init__(self, host: str, port: int) -> None:
        self.targets: list[tuple[str, int]] = []
        self._turn = itertools.count()
        super().__init__(host, port)

    def reach(self) -> socket.socket:
        targets = self.targets
        if not targets:
            raise ConnectionRefusedError("no pod is ready")
        found = socket.create_connection(targets[next(self._turn) % len(targets)], timeout=10)
        found.settimeout(None)  # that was for the connection alone; who is silent is not gone
        return found


class _Services:
    """What kube-proxy would do, for the Services of one namespace."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._open: dict[tuple[str, int], _Service] = {}
        self._end = threading.Event()
        subprocess.run(["ip", "route", "replace", "local", _SERVICES, "dev", "lo"], check=True)
        self._lead(_API_SERVER, 443, [cluster.api_server()])
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        while not self._end.wait(1):
            with contextlib.suppress(AssertionError, subprocess.TimeoutExpired, OSError):
                services = {each["metadata"]["name"]: each["spec"] for each in self._cluster.get("services")}
                for each in self._cluster.get("endpoints"):
                    spec = services.get(each["metadata"]["name"])
                    if spec is None:
                        continue
                    for port in spec["ports"]:
                        targets = [
                            (address["ip"], target["port"])
                            for subset in each.get("subsets", [])
                            for target in subset["ports"]
                            if target.get("name") == port.get("name")
                            for address in subset.get("addresses", [])
                        ]
                        self._lead(spec["clusterIP"], port["port"], targets)

    def _lead(self, host: str, port: int, targets: list[tuple[str, int]]) -> None:
        if (host, port) not in self._open:
            self._open[host, port] = _Service(host, port)
        self._open[host, port].targets = targets

    def close(self) -> None:
        self._end.set()
        self._thread.join(300)
        for each in self._open.values():
            each.close()
        subprocess.run(["ip", "route", "delete", "local", _SERVICES, "dev", "lo"], check=False)


@contextlib.contextmanager
def installed(cluster: Cluster, overlay: str, without: str = "", **words: str) -> Iterator[Path]:
    """An overlay on the cluster, with volumes in a folder of this machine; gone when it is over.

    Args:
        without: A file of the overlay that is left out.
        words: What stands for ``@WORD@`` in the files of ``overlay`` here.

    Yields:
        The folder that was applied, for a second time.
    """
    with tempfile.TemporaryDirectory(prefix="autoscorer-cluster-") as work:
        folder = Path(work)
        for name in ("data", "prefect", "postgres", "redis"):
            (folder / name).mkdir()
            (folder / name).chmod(0o777)  # a folder of the node is not given to the pod's group
        folder.chmod(0o755)
        manifests = copy(folder)
        subprocess.run([manifests / "make-secrets", overlay], check=True, capture_output=True)
        for path in (manifests / overlay / "secrets").glob("*.env"):
            for name, address in _NAMES.items():
                path.write_text(path.read_text().replace(name, address))
        kustomization = manifests / overlay / "kustomization.yaml"
        if without:
            assert f"  - {without}\n" in kustomization.read_text()
            kustomization.write_text(kustomization.read_text().replace(f"  - {without}\n", ""))
        mine = manifests / "test"
        shutil.copytree(HERE / overlay, mine)
        for path in mine.iterdir():
            text = path.read_text()
            for word, value in {"FOLDER": str(folder), **words}.items():
                text = text.replace(f"@{word}@", value)
            path.write_text(text)
        services = _Services(cluster)
        try:
            cluster.kubectl("apply", "-k", mine)
            yield mine
        finally:
            if not os.environ.get("KEEP_INSTALLATION"):
                cluster.kubectl("delete", "-k", mine, "--ignore-not-found", "--wait=true", code=None, timeout=600)
            services.close()
