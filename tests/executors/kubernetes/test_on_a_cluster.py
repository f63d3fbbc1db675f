"""How runs end on the real cluster of ``scripts/test-kubernetes``; elsewhere nothing of this is collected."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from autoscorer.core.config import load_settings
from autoscorer.core.errors import AutoScorerError
from autoscorer.executors.kubernetes.session import close_sessions
from autoscorer.executors.supervise import RunReport
from autoscorer.tasks.run import run_workspace

from ...support.prefect_server import eventually
from ...support.relay import Relay
from ...support.sealed_backends import KubernetesBackend
from .test_runs import Telling, code_of

Run = Callable[..., RunReport]


@pytest.fixture(scope="module")
def real(busybox: str) -> Iterator[KubernetesBackend]:
    with KubernetesBackend.with_namespace(busybox) as cluster:
        yield cluster


@pytest.fixture
def run(
    real: KubernetesBackend,
    busybox: str,
    make_workspace: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    home: Path,
) -> Iterator[Run]:
    for key, value in real.environment.items():
        monkeypatch.setenv(key, value)

    def run_script(script: str, *, image: str = busybox, timeout: float = 60, **more: Any) -> RunReport:
        keywords = {key: more.pop(key) for key in ("cancelled", "observer") if key in more}
        fill = more.pop("fill", None)
        resources = {"memory": "64Mi", "disk": "20Mi", "cpu": 0.2, **more.pop("resources", {})}
        container = {"image": image, "cmd": ["sh", "-c", script]}
        root = make_workspace(more.pop("name", "ws"), container=container, resources=resources, timeout=timeout)
        if fill is not None:
            fill(root)
        return run_workspace(root, settings=load_settings(), backend="kubernetes", **keywords)

    yield run_script
    eventually(lambda: real.left() == [])
    assert not list((home / "runs").glob("*"))


def refused(run: Run, *arguments: Any, **keywords: Any) -> AutoScorerError:
    with pytest.raises(AutoScorerError) as caught:
        run(*arguments, **keywords)
    return caught.value


def set_key(monkeypatch: pytest.MonkeyPatch, key: str, value: str) -> None:
    monkeypatch.setenv(f"AUTOSCORER_EXECUTORS__KUBERNETES__{key}", value)


def test_sixty_four_mebibytes_go_both_ways_with_their_checksum(run: Run, tmp_path: Path) -> None:
    data = os.urandom(2**20) * 64

    def fill(root: Path) -> None:
        (root / "input" / "data" / "big").write_bytes(data)

    script = "cp /workspace/input/data/big /workspace/output/pred.csv"
    report = run(script, fill=fill, resources={"memory": "256Mi", "disk": "100Mi"})
    assert report.error is None
    got = hashlib.sha256((tmp_path / "ws" / "output" / "pred.csv").read_bytes()).hexdigest()
    assert got == hashlib.sha256(data).hexdigest()


def test_an_image_that_no_node_has(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOSCORER_IMAGES__PULL_POLICY", "never")
    report = run("true", image="autoscorer-test-not-there:1")
    assert code_of(report) == "IMAGE_NOT_FOUND" and report.error and "never" in report.error.message


def test_no_room_and_no_node(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    set_key(monkeypatch, "START_TIMEOUT", "5")
    error = refused(run, "true", resources={"cpu": 60})
    assert error.code == "BACKEND_UNAVAILABLE" and "Insufficient cpu" in error.message
    set_key(monkeypatch, "NODE_SELECTOR", '{"no-such": "node"}')
    error = refused(run, "true", name="elsewhere")
    assert error.code == "BACKEND_UNAVAILABLE" and "nodes are available" in error.message


def test_a_quota(run: Run, real: KubernetesBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    set_key(monkeypatch, "START_TIMEOUT", "6")
    path = f"/api/v1/namespaces/{real.namespace}/resourcequotas"
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": {"pods": "0"}}}
    real.api.request("POST", path, "set a quota", body=quota)
    try:
        eventually(lambda: real.api.get(f"{path}/q", "look")["status"].get("hard"))
        error = refused(run, "true")
        assert error.code == "BACKEND_UNAVAILABLE" and "exceeded quota" in error.message
    finally:
        real.api.request("DELETE", f"{path}/q", "remove the quota")


@pytest.mark.parametrize("kind", ["pods", "jobs"])
def test_somebody_deletes_it(run: Run, real: KubernetesBackend, kind: str) -> None:
    def delete() -> None:
        place = "/api/v1" if kind == "pods" else "/apis/batch/v1"
        path = f"{place}/namespaces/{real.namespace}/{kind}"
        (found,) = real.api.get(path, "look")["items"]
        body = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        real.api.request("DELETE", f"{path}/{found['metadata']['name']}", "delete it", body=body)

    error = refused(run, "echo begun; sleep 60", observer=Telling("begun", delete))
    assert error.code == "BACKEND_UNAVAILABLE" and "deleted" in error.message


@pytest.mark.parametrize("script", ["exit 0", "exit 3", "sh -c 'kill -9 $$'; exit $?"])
def test_its_own_ends(run: Run, script: str) -> None:
    report = run(script)
    assert report.resources.exit_code == {"exit 0": 0, "exit 3": 3}.get(script, 137)
    assert code_of(report) == (None if script == "exit 0" else "CONTAINER_FAILED")


def test_a_cancelled_run(run: Run) -> None:
    word = threading.Event()
    report = run("echo begun; sleep 60", cancelled=word.is_set, observer=Telling("begun", word.set))
    assert code_of(report) == "CANCELLED"


class _ToTheCluster(Relay):
    """A way to the API server that can be closed for a while."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self.is_closed = False
        super().__init__()

    def reach(self) -> socket.socket:
        if self.is_closed:
            raise ConnectionRefusedError
        return socket.create_connection(self._address)

    def cut(self) -> None:
        self.is_closed = True
        for end in self._open[1:]:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


def test_an_api_server_that_is_away_for_twenty_seconds(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    cluster = config["clusters"][0]["cluster"]
    url = urlsplit(cluster["server"])
    relay = _ToTheCluster((str(url.hostname), url.port or 443))
    cluster["server"] = f"https://127.0.0.1:{relay.port}"
    cluster.setdefault("tls-server-name", url.hostname)
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    set_key(monkeypatch, "KUBECONFIG", str(tmp_path / "kubeconfig"))

    def away() -> None:
        relay.cut()
        time.sleep(20)
        relay.is_closed = False

    script = "echo begun; for i in 1 2 3 4 5 6 7 8 9 10; do echo $i; sleep 1; done; echo x > /workspace/output/pred.csv"
    try:
        report = run(script, observer=Telling("begun", away))
        assert report.error is None
        log = (tmp_path / "ws" / "logs" / "container.log").read_bytes()
        assert log == b"begun\n" + b"".join(b"%d\n" % n for n in range(1, 11))
    finally:
        close_sessions()
        relay.close()


def test_kill_9_and_the_next_command_clears_up(
    run: Run, real: KubernetesBackend, busybox: str, make_workspace: Callable[..., Path], home: Path
) -> None:
    script = "trap '' TERM; echo begun; while true; do sleep 1; done"
    container = {"image": busybox, "cmd": ["sh", "-c", script]}
    root = make_workspace("killed", container=container, resources={"cpu": 0.1, "memory": "32Mi"}, timeout=300)
    command = [sys.executable, "-m", "autoscorer"]
    process = subprocess.Popen([*command, "run", str(root), "--backend", "kubernetes"], stdout=subprocess.PIPE)
    log = root / "logs" / "container.log"
    eventually(lambda: log.is_file() and log.stat().st_size)
    process.kill()
    process.communicate()
    path = f"/apis/batch/v1/namespaces/{real.namespace}/jobs"
    assert real.api.get(path, "look")["items"], "the Job should have outlived its owner"
    done = subprocess.run([*command, "reap"], capture_output=True, timeout=300)
    assert done.returncode == 0, done
    assert not real.api.get(path, "look")["items"]
    assert not real.api.get(f"/api/v1/namespaces/{real.namespace}/pods", "look")["items"]
    assert not list((home / "runs").glob("*"))
