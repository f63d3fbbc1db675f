"""GPUs and a real Docker Engine that has none: what reaches a container, and what it says that can't be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings, load_settings
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.executors.docker import executor
from autoscorer.executors.docker.container_config import LABEL, NAME
from autoscorer.executors.docker.gpus import GpuRequest
from autoscorer.executors.gpu import lease
from autoscorer.executors.reaper import gpus_of_containers
from autoscorer.tasks.run import run_workspace

from ...support.gpus import Host, gpu

ATTACKS = {"LD_PRELOAD": "/evil.so", "LD_AUDIT": "/evil.so", "NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_REQUIRE_X": "1"}


@pytest.fixture
def image(docker_client: Any, busybox: str) -> Iterator[str]:
    """An image whose variables attack."""
    made = docker_client.create_container(busybox, command=["true"])["Id"]
    tag = "autoscorer-test-hostile-environment"
    changes = [f"ENV {key} {value}" for key, value in ATTACKS.items()]
    docker_client.commit(made, repository=tag, tag="1", changes=changes)
    docker_client.remove_container(made)
    yield f"{tag}:1"
    docker_client.remove_image(f"{tag}:1", force=True)


def environment(root: Path) -> dict[str, str]:
    lines = (root / "logs" / "container.log").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


@pytest.mark.parametrize("by", ["image", "meta"])
def test_a_run_without_gpus_gets_none_by_variables(
    by: str, image: str, busybox: str, make_workspace: Callable[..., Path], settings: Settings
) -> None:
    container: dict[str, Any] = {"image": image if by == "image" else busybox, "cmd": ["env"]}
    if by == "meta":
        container["env"] = {"NVIDIA_VISIBLE_DEVICES": "all"}
    root = make_workspace(container=container)
    assert run_workspace(root, settings=settings, backend="docker").error is None
    assert environment(root)["NVIDIA_VISIBLE_DEVICES"] == "void"


@pytest.mark.parametrize("by", ["image", "meta"])
def test_a_run_with_gpus_has_variables_of_ours_alone(
    by: str, host: Host, image: str, busybox: str, make_workspace: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device alone is left out of the request: this engine could not give it."""
    host.has(gpu(0))
    monkeypatch.setattr(executor, "gpu_request", lambda gpus, info: GpuRequest((), gpus[0].uuid))
    container: dict[str, Any] = {"image": image if by == "image" else busybox, "cmd": ["env"]}
    if by == "meta":
        container["env"] = ATTACKS
    root = make_workspace(container=container, resources={"gpu": 1})
    report = run_workspace(root, settings=load_settings(), backend="docker")
    assert report.error is None and [each.uuid for each in report.gpus] == ["GPU-0"]
    seen = environment(root)
    assert {key: seen[key] for key in ATTACKS} == {
        "LD_PRELOAD": "", "LD_AUDIT": "", "NVIDIA_VISIBLE_DEVICES": "GPU-0", "NVIDIA_REQUIRE_X": ""
    }  # fmt: skip


def test_an_engine_that_can_not_give_the_device_is_not_the_submissions_fault(
    host: Host, busybox: str, docker_client: Any, make_workspace: Callable[..., Path]
) -> None:
    host.has(gpu(0))
    root = make_workspace(container={"image": busybox, "cmd": ["true"]}, resources={"gpu": 1})
    for _ in range(2):  # the device is free again
        with pytest.raises(AutoScorerError) as caught:
            run_workspace(root, settings=load_settings(), backend="docker")
        assert caught.value.code is ErrorCode.BACKEND_UNAVAILABLE and "nvidia" in caught.value.message
    assert gpus_of_containers(load_settings(), required=True) == frozenset()


def test_a_container_that_somebody_left_keeps_its_device(
    host: Host, busybox: str, docker_client: Any, make_workspace: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another home, say: its run died, and nobody has cleared up behind it."""
    host.has(gpu(0))
    monkeypatch.setattr(lease, "STRANGERS_PATIENCE", 0.5)
    labels = {f"{LABEL}run": "gpu-left", f"{LABEL}gpus": "GPU-0,GPU-7"}
    left = docker_client.create_container(busybox, command=["true"], labels=labels, name=f"{NAME}gpu-left")["Id"]
    try:
        assert gpus_of_containers(load_settings(), required=True) == {"GPU-0", "GPU-7"}
        root = make_workspace(container={"cmd": ["true"]}, resources={"gpu": 1})
        with pytest.raises(AutoScorerError) as caught:
            run_workspace(root, settings=load_settings(), backend="process")
        assert "GPU-0 has a container that has outlived its run" in caught.value.message
    finally:
        docker_client.remove_container(left, force=True)
    assert run_workspace(root, settings=load_settings(), backend="process").error is None


def test_without_an_engine_no_container_has_a_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    assert gpus_of_containers(load_settings(), required=False) == frozenset()
    with pytest.raises(AutoScorerError) as caught:
        gpus_of_containers(load_settings(), required=True)
    assert caught.value.code is ErrorCode.BACKEND_UNAVAILABLE
