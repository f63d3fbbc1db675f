"""What containers and pods are given of GPUs: read before it is sent, because no engine here has one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import load_settings
from autoscorer.core.workspace import Workspace
from autoscorer.executors.base import Gpu, Image, RunSpec, Staged
from autoscorer.executors.docker.container_config import container_config
from autoscorer.executors.docker.gpus import gpu_request
from autoscorer.executors.kubernetes.manifest import Seal, job_manifest
from autoscorer.executors.limits import effective_limits
from autoscorer.executors.reaper import gpus_of_containers
from autoscorer.schemas.job import Job
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st

Json = dict[str, Any]

TWO = (Gpu(uuid="GPU-aa"), Gpu(uuid="MIG-bb", parent="GPU-cc"))
HOSTILE = {
    "LD_PRELOAD": "/proc/self/cwd/poc.so",
    "LD_LIBRARY_PATH": "/evil",
    "LD_AUDIT": "/evil.so",
    "NVIDIA_VISIBLE_DEVICES": "all",
    "NVIDIA_DRIVER_CAPABILITIES": "all",
    "NVIDIA_MIG_CONFIG_DEVICES": "all",
    "NVIDIA_REQUIRE_CUDA": "cuda>=99",
}


def environment(config: Json, image: list[str]) -> dict[str, str]:
    """The variables of a container: the image's, each overridden by one of the same name in the request."""
    return dict(each.split("=", 1) for each in [*image, *config["Env"]])


@pytest.fixture
def request_of(tmp_path: Path) -> Callable[..., Json]:
    """The create request of a run with some devices."""

    def make(gpus: tuple[Gpu, ...], info: Json, env: dict[str, str] | None = None, image: list[str] | None = None):
        settings = load_settings()
        job = Job.model_validate({"container": {"env": env or {}}, "resources": {"gpu": len(gpus)}})
        limits = effective_limits(job, settings)
        spec = RunSpec(run_id="x", workspace=Workspace(tmp_path), job=job, limits=limits, gpus=gpus)
        return container_config(
            spec, Image(reference="x", id="x", digest="x"), Staged(tmp_path, {}), (1, 1), [],
            gpus=gpu_request(gpus, info), image_env=image or (),
        )  # fmt: skip

    return make


# --- Docker: which devices --------------------------------------------------------------------------------------


# As an engine of 20.10 tells of itself, one of 27 whose folders hold no specification, and one of 28 without devices.
@pytest.mark.parametrize(
    "info",
    [
        {"ServerVersion": "20.10.24+dfsg1"},
        {"ServerVersion": "27.5.1", "CDISpecDirs": []},
        {"ServerVersion": "27.5.1", "CDISpecDirs": ["/nowhere/cdi"]},
        {"ServerVersion": "28.3.2", "CDISpecDirs": ["/etc/cdi"], "DiscoveredDevices": []},
        {"ServerVersion": "28.3.2", "DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=GPU-aa"}]},
        {"ServerVersion": "28.3.2", "DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=all"}]},
        {"DiscoveredDevices": [{"Source": "x", "ID": f"nvidia.com/gpu={gpu.uuid}"} for gpu in TWO]},
    ],
)
def test_devices_are_asked_for_by_their_uuids_of_nvidias_driver(request_of: Callable[..., Json], info: Json) -> None:
    config = request_of(TWO, info)
    assert config["HostConfig"]["DeviceRequests"] == [
        {"Driver": "nvidia", "DeviceIDs": ["GPU-aa", "MIG-bb"], "Capabilities": [["gpu"]]}
    ]
    assert environment(config, [])["NVIDIA_VISIBLE_DEVICES"] == "GPU-aa,MIG-bb"


def test_by_cdi_where_the_engine_lists_all_of_them(request_of: Callable[..., Json]) -> None:
    listed = [{"Source": "cdi", "ID": f"nvidia.com/gpu={name}"} for name in ("0", "1", "GPU-aa", "MIG-bb", "all")]
    config = request_of(TWO, {"ServerVersion": "28.3.2", "CDISpecDirs": ["/etc/cdi"], "DiscoveredDevices": listed})
    assert config["HostConfig"]["DeviceRequests"] == [
        {"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=GPU-aa", "nvidia.com/gpu=MIG-bb"]}
    ]
    # The devices do not come by the variable, so nothing else may either.
    assert environment(config, ["NVIDIA_VISIBLE_DEVICES=all"])["NVIDIA_VISIBLE_DEVICES"] == "void"


def test_by_cdi_where_a_specification_lies_for_an_engine_that_lists_none(
    request_of: Callable[..., Json], tmp_path: Path
) -> None:
    """Engines from 25 to 28.2 tell where they look, and not what they have found."""
    cdi = tmp_path / "cdi"
    cdi.mkdir()
    devices = [{"name": gpu.uuid, "containerEdits": {"deviceNodes": [{"path": "/dev/null"}]}} for gpu in TWO]
    (cdi / "autoscorer-test.json").write_text(
        json.dumps({"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": devices})
    )
    config = request_of(TWO, {"ServerVersion": "27.5.1", "CDISpecDirs": [str(cdi)]})
    assert [request["Driver"] for request in config["HostConfig"]["DeviceRequests"]] == ["cdi"]
    (cdi / "autoscorer-test.json").write_text('{"kind": "autoscorer.test/gpu", "devices": [{"name": "GPU-aa"}]}')
    config = request_of(TWO, {"ServerVersion": "27.5.1", "CDISpecDirs": [str(cdi)]})
    assert [request["Driver"] for request in config["HostConfig"]["DeviceRequests"]] == ["nvidia"]


@given(count=st.integers(0, 4), cdi=st.booleans())
@profile(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_container_is_ever_given_a_number_of_gpus(request_of: Callable[..., Json], count: int, cdi: bool) -> None:
    """By ``Count`` each gets the same ones."""
    gpus = tuple(Gpu(uuid=f"GPU-{number}") for number in range(count))
    listed = [{"Source": "cdi", "ID": f"nvidia.com/gpu={gpu.uuid}"} for gpu in gpus] if cdi else []
    config = request_of(gpus, {"DiscoveredDevices": listed})
    asked = config["HostConfig"]["DeviceRequests"]
    assert len(asked) == min(count, 1)
    assert all("Count" not in request and len(request["DeviceIDs"]) == count for request in asked)


# --- Docker: the environment ------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["image", "meta"])
@pytest.mark.parametrize("cdi", [False, True])
def test_the_environment_of_a_hostile_image_or_job_is_overridden(
    request_of: Callable[..., Json], by: str, cdi: bool
) -> None:
    listed = [{"Source": "cdi", "ID": f"nvidia.com/gpu={gpu.uuid}"} for gpu in TWO] if cdi else []
    image = [f"{key}={value}" for key, value in HOSTILE.items()] if by == "image" else []
    meta = {**(HOSTILE if by == "meta" else {}), "MODE": "fast"}
    seen = environment(request_of(TWO, {"DiscoveredDevices": listed}, meta, [*image, "PATH=/bin", "ODD"][:-1]), image)
    assert seen["NVIDIA_VISIBLE_DEVICES"] == ("void" if cdi else "GPU-aa,MIG-bb")
    assert seen["NVIDIA_DRIVER_CAPABILITIES"] == "compute,utility"
    assert {seen[key] for key in ("LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT")} == {""}
    assert seen["NVIDIA_MIG_CONFIG_DEVICES"] == "" and seen["NVIDIA_REQUIRE_CUDA"] == ""
    assert seen["MODE"] == "fast"


NAMES = st.from_regex(r"(LD|NVIDIA)_[A-Z_]{1,12}", fullmatch=True)


@given(meta=st.dictionaries(NAMES, st.just("x"), max_size=4), image=st.dictionaries(NAMES, st.just("x"), max_size=4))
@profile(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_value_of_theirs_reaches_the_hooks(
    request_of: Callable[..., Json], meta: dict[str, str], image: dict[str, str]
) -> None:
    listed = [f"{key}={value}" for key, value in image.items()]
    assert "x" not in environment(request_of(TWO, {}, meta, listed), listed).values()


def test_a_run_without_gpus_gets_none_by_its_image(request_of: Callable[..., Json]) -> None:
    """Where NVIDIA's runtime is the engine's default, the variable alone would give it all of them."""
    image = ["NVIDIA_VISIBLE_DEVICES=all", "LD_PRELOAD=/usr/lib/libjemalloc.so.2"]
    config = request_of((), {}, {"NVIDIA_VISIBLE_DEVICES": "0"}, image)
    seen = environment(config, image)
    assert seen["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert seen["LD_PRELOAD"] == "/usr/lib/libjemalloc.so.2", "it is the image's own matter"
    assert config["HostConfig"]["DeviceRequests"] == []


def test_a_container_tells_which_devices_it_has(request_of: Callable[..., Json], tmp_path: Path) -> None:
    labels = request_of(TWO, {})["Labels"]
    assert labels["io.autoscorer.gpus"] == "GPU-aa,MIG-bb"
    assert "io.autoscorer.gpus" not in request_of((), {})["Labels"]

    class Engine:
        """Answers as an engine whose only container that run's is."""

        def containers(self, *, all: bool, filters: dict[str, list[str]]) -> list[Json]:
            assert all and filters == {"label": ["io.autoscorer.run", "io.autoscorer.gpus"]}
            return [{"Id": "1", "Names": ["/autoscorer-x"], "Labels": labels}]

        def close(self) -> None:
            pass

    assert gpus_of_containers(load_settings(), required=True, connect=lambda settings: Engine()) == {
        "GPU-aa",
        "MIG-bb",
    }


# --- Kubernetes -------------------------------------------------------------------------------------------------


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Json]:
    """The pod of a run."""
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__KUBERNETES__HELPER_IMAGE", "helper:1")

    def make(resources: Json, env: dict[str, str] | None = None) -> Json:
        settings = load_settings()
        job = Job.model_validate({"container": {"image": "m:1", "env": env or {}}, "resources": resources})
        spec = RunSpec(
            run_id="0123456789ab", workspace=Workspace(tmp_path), job=job, limits=effective_limits(job, settings)
        )
        seal = Seal(image="m:1", uid=1, gid=1, own_users=False, input_size=0, deadline=1, told={"run": "0123456789ab"})
        found: Json = job_manifest(spec, seal, settings)["spec"]["template"]["spec"]
        return found

    return make


def model_of(pod: Json) -> Json:
    (found,) = (each for each in pod["containers"] if each["name"] == "model")
    return found


def requirements(pod: Json) -> dict[str, tuple[str, list[str]]]:
    (term,) = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    return {each["key"]: (each["operator"], each["values"]) for each in term["matchExpressions"]}


def test_a_pod_goes_where_the_labels_say_what_the_job_asks_for(
    pod: Callable[..., Json], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"gpu": 1, "gpu_types": ["A100-SXM4-80GB", "NVIDIA H100 PCIe"], "gpu_memory": "40Gi"}
    wanted = requirements(pod(asked))
    assert wanted["nvidia.com/gpu.product"] == (
        "In",
        ["A100-SXM4-80GB", "NVIDIA-A100-SXM4-80GB", "H100-PCIe", "NVIDIA-H100-PCIe"],
    )
    assert wanted["nvidia.com/gpu.memory"] == ("Gt", ["40959"]), "in MiB: 40960 is enough"
    assert wanted["nvidia.com/gpu.sharing-strategy"] == ("NotIn", ["mps", "time-slicing"])
    assert model_of(pod(asked))["resources"]["limits"]["nvidia.com/gpu"] == "1"
    monkeypatch.setenv("AUTOSCORER_SECURITY__ALLOW_SHARED_GPU", "true")
    assert not [key for key in requirements(pod(asked)) if "sharing" in key]
    assert "affinity" not in pod({"gpu": 1}) and "affinity" not in pod({})


def test_a_pod_has_the_same_environment(pod: Callable[..., Json], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {each["name"]: each["value"] for each in model_of(pod({"gpu": 1}, {**HOSTILE, "MODE": "fast"}))["env"]}
    assert {seen[key] for key in ("LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT")} == {""}
    assert seen["NVIDIA_DRIVER_CAPABILITIES"] == "compute,utility" and seen["MODE"] == "fast"
    # The node's device plugin says which; what a pod says would win over it.
    assert "NVIDIA_VISIBLE_DEVICES" not in seen and "NVIDIA_MIG_CONFIG_DEVICES" not in seen
    without = {each["name"]: each["value"] for each in model_of(pod({}, {"NVIDIA_VISIBLE_DEVICES": "all"}))["env"]}
    assert without["NVIDIA_VISIBLE_DEVICES"] == "void"
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__KUBERNETES__GPU_RESOURCE", "amd.com/gpu")
    others = {each["name"]: each["value"] for each in model_of(pod({"gpu": 1}))["env"]}
    assert others["NVIDIA_VISIBLE_DEVICES"] == "void"
