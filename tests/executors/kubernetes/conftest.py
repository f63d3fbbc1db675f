"""A cluster for every test: a fake one over real HTTP, whose pods are processes of this host."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings, load_settings
from autoscorer.executors.kubernetes.session import close_sessions
from autoscorer.executors.supervise import RunReport
from autoscorer.tasks.run import run_workspace

from ...support.fake_kubernetes import FakeKubernetes
from ...support.sealed_backends import HOSTILE_BACKENDS

# Not skipped where there is no cluster, but not there: CI fails when a test is skipped.
collect_ignore = [] if "kubernetes" in HOSTILE_BACKENDS else ["test_on_a_cluster.py"]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKubernetes]:
    """A fake cluster, which the configuration names."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    one = FakeKubernetes(folder)
    for key, value in {
        "KUBECONFIG": str(one.kubeconfig),
        "HELPER_IMAGE": "helper:1",
        "NAMESPACE": "runs",
        # Of a busy machine; a start that must fail has its own.
        "START_TIMEOUT": "300",
    }.items():
        monkeypatch.setenv(f"AUTOSCORER_EXECUTORS__KUBERNETES__{key}", value)
    yield one
    close_sessions()
    one.close()


@pytest.fixture
def in_cluster(home: Path, cluster: FakeKubernetes) -> Settings:
    """The configuration with that cluster."""
    return load_settings()


@pytest.fixture
def run(
    in_cluster: Settings, cluster: FakeKubernetes, make_workspace: Callable[..., Path]
) -> Iterator[Callable[..., RunReport]]:
    """Run a shell script as the model, and check afterwards that nothing of it is left in the cluster."""

    def run_script(script: str, *, timeout: float = 30, image: str = "model:1", **more: Any) -> RunReport:
        fill = more.pop("fill", None)
        resources = {"memory": "64Mi", "disk": "20Mi", **more.pop("resources", {})}
        keywords = {key: more.pop(key) for key in ("cancelled", "observer", "labels") if key in more}
        container = {"image": image, "cmd": ["sh", "-c", script], **more.pop("container", {})}
        root = make_workspace(more.pop("name", "ws"), container=container, resources=resources, timeout=timeout, **more)
        if fill is not None:
            fill(root)
        settings = load_settings()
        return run_workspace(root, settings=settings, backend="kubernetes", **keywords)

    yield run_script
    assert cluster.jobs() == [] and cluster.pods() == [], "something was left in the cluster"
    assert not list((in_cluster.home / "runs").glob("*")), "a run record was left"
