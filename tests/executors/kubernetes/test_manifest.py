"""The seal of a pod, line by line: a pure function of the run and the configuration."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings, load_settings
from autoscorer.core.errors import AutoScorerError
from autoscorer.core.meta import read_meta
from autoscorer.core.workspace import Workspace
from autoscorer.executors.base import RunSpec
from autoscorer.executors.kubernetes.manifest import Seal, job_manifest, probe_manifest
from autoscorer.executors.limits import effective_limits

Json = dict[str, Any]
Make = Callable[..., Json]


@pytest.fixture
def manifest(make_workspace: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Make:
    """The Job of a workspace; ``environment`` has settings by their names below executors.kubernetes, in capitals."""
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__KUBERNETES__HELPER_IMAGE", "helper:1")
    names = iter(range(100))

    def make(
        *,
        own_users: bool = False,
        environment: dict[str, str] | None = None,
        places: dict[str, str] | None = None,
        **meta: Any,
    ) -> Json:
        for key, value in (environment or {}).items():
            name = key if key.startswith("IMAGES__") else f"EXECUTORS__KUBERNETES__{key}"
            monkeypatch.setenv(f"AUTOSCORER_{name}", value)
        settings = load_settings()
        root = make_workspace(f"ws{next(names)}", **{"container": {"image": "model:1", "cmd": ["run"]}, **meta})
        job = read_meta(Workspace(root)).job
        spec = RunSpec(
            run_id="0123456789ab",
            workspace=Workspace(root),
            job=job,
            limits=effective_limits(job, settings),
            places=places or {},
        )
        seal = Seal(
            image="model:1", uid=2_100_000_001, gid=2_100_000_001, own_users=own_users, input_size=5000, deadline=1,
            told={"run": "0123456789ab", "owner": "h|b|1|m|1|1", "workspace": "ünïcode ws"},
        )  # fmt: skip
        return job_manifest(spec, seal, settings)

    return make


def pod_of(job: Json) -> Json:
    found: Json = job["spec"]["template"]["spec"]
    return found


def containers(job: Json) -> dict[str, Json]:
    pod = pod_of(job)
    return {each["name"]: each for each in [*pod.get("initContainers", ()), *pod["containers"]]}


def everything(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, below in value.items():
            yield key, below
            yield from everything(below)
    elif isinstance(value, list):
        for below in value:
            yield from everything(below)


def test_one_job_makes_one_pod_once_and_is_called_after_its_run(manifest: Make) -> None:
    job = manifest()
    assert job["metadata"]["name"] == "autoscorer-0123456789ab"
    assert job["spec"]["backoffLimit"] == 0 and job["spec"]["completions"] == job["spec"]["parallelism"] == 1
    assert pod_of(job)["restartPolicy"] == "Never"
    # Nets behind our own: the pod's own deadline, which leaves its log, and the Job's removal.
    assert "activeDeadlineSeconds" not in job["spec"] and pod_of(job)["activeDeadlineSeconds"] > 300
    assert job["spec"]["ttlSecondsAfterFinished"] > 0


def test_every_container_is_confined(manifest: Make) -> None:
    job = manifest()
    assert set(containers(job)) == {"input", "model", "keeper"}
    for container in containers(job).values():
        context = container["securityContext"]
        assert context["capabilities"] == {"drop": ["ALL"]} and context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False and context["privileged"] is False
        assert context["runAsNonRoot"] is True
        assert set(container["resources"]) == {"requests", "limits"}
    pod = pod_of(job)
    assert pod["securityContext"]["runAsUser"] == 2_100_000_001 and pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False and pod["enableServiceLinks"] is False
    assert not pod["hostNetwork"] and not pod["hostPID"] and not pod["hostIPC"] and not pod["shareProcessNamespace"]
    assert pod["dnsPolicy"] == "None" and pod["dnsConfig"] == {"nameservers": ["127.0.0.1"]}


def test_nothing_of_the_host_or_of_ours_is_mounted(manifest: Make) -> None:
    job = manifest()
    kinds = {kind for volume in pod_of(job)["volumes"] for kind in volume if kind != "name"}
    assert kinds == {"emptyDir"}
    assert all(volume["emptyDir"]["sizeLimit"] for volume in pod_of(job)["volumes"])
    keys = {key for key, _ in everything(job)}
    assert not keys & {"hostPath", "secret", "configMap", "secretKeyRef", "envFrom", "valueFrom", "serviceAccountName"}


@pytest.mark.parametrize(("transfer", "prefix"), [("stream", ""), ("volume", "autoscorer-0123456789ab/workspace/")])
def test_a_part_of_the_workspace_is_seen_at_another_path_as_well(
    manifest: Make, tmp_path: Path, transfer: str, prefix: str
) -> None:
    volume = {"VOLUME__CLAIM": "runs", "VOLUME__PATH": str(tmp_path)}
    environment = {"TRANSFER": transfer, **(volume if transfer == "volume" else {})}
    places = {"/app/program": "input/program", "/app/output": "output"}
    job = manifest(environment=environment, places=places)
    mounts = {each["mountPath"]: each for each in containers(job)["model"]["volumeMounts"]}
    program = {**mounts["/workspace"], "mountPath": "/app/program", "subPath": f"{prefix}input/program"}
    assert mounts["/app/program"] == program
    assert mounts["/app/output"] == {**mounts["/workspace/output"], "mountPath": "/app/output"}


def test_the_model_has_its_input_read_only_and_nothing_of_the_helpers(manifest: Make) -> None:
    mounts = {each["mountPath"]: each for each in containers(manifest())["model"]["volumeMounts"]}
    assert set(mounts) == {"/workspace", "/workspace/output", "/tmp", "/dev/shm"}
    assert mounts["/workspace"]["readOnly"] is True and mounts["/workspace"]["name"] == "staged"
    helpers = containers(manifest())
    assert {each["name"] for each in helpers["keeper"]["volumeMounts"]} == {"output", "control"}
    assert {each["name"] for each in helpers["input"]["volumeMounts"]} == {"staged", "control"}


def test_limits_are_requests_and_what_the_job_asks_for(manifest: Make) -> None:
    asked = {"cpu": 0.25, "memory": "512Mi", "disk": "10Mi", "gpu": 2}
    model = containers(manifest(resources=asked, environment={"GPU_RESOURCE": "amd.com/gpu"}))["model"]
    limits = model["resources"]["limits"]
    assert model["resources"]["requests"] == limits
    assert limits["cpu"] == "250m" and limits["memory"] == str(512 * 1024**2) and limits["amd.com/gpu"] == "2"
    assert int(limits["ephemeral-storage"]) > 10 * 1024**2
    assert containers(manifest(resources={"cpu": 0.0101}))["model"]["resources"]["limits"]["cpu"] == "11m"


def test_gpus_choose_their_nodes(manifest: Make) -> None:
    environment = {"GPU_TYPES": '["A100", "H100"]'}
    terms = pod_of(manifest(resources={"gpu": 1}, environment=environment))["affinity"]["nodeAffinity"]
    (term,) = terms["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert {"key": "nvidia.com/gpu.product", "operator": "In", "values": ["A100", "H100"]} in term["matchExpressions"]
    assert "affinity" not in pod_of(manifest())


def test_where_the_operator_wants_the_pods(manifest: Make) -> None:
    pod = pod_of(
        manifest(
            own_users=True,
            environment={
                "RUNTIME_CLASS": "gvisor",
                "NODE_SELECTOR": '{"pool": "models"}',
                "TOLERATIONS": '[{"key": "models", "operator": "Exists", "effect": "NoSchedule"}]',
                "IMAGE_PULL_SECRETS": '["registry"]',
                "SECCOMP_PROFILE": "profiles/autoscorer.json",
                "IMAGES__PULL_POLICY": "Always",
            },
        )
    )
    assert pod["runtimeClassName"] == "gvisor" and pod["nodeSelector"] == {"pool": "models"}
    assert pod["tolerations"] == [{"key": "models", "operator": "Exists", "effect": "NoSchedule"}]
    assert pod["imagePullSecrets"] == [{"name": "registry"}] and pod["hostUsers"] is False
    profile = {"type": "Localhost", "localhostProfile": "profiles/autoscorer.json"}
    assert pod["securityContext"]["seccompProfile"] == profile
    assert {each["name"]: each["imagePullPolicy"] for each in pod["containers"]} == {
        "model": "Always",
        "keeper": "IfNotPresent",
    }


def test_a_volume_shows_the_folder_of_the_run_and_no_other(manifest: Make, tmp_path: Path) -> None:
    job = manifest(
        environment={
            "VOLUME__CLAIM": "runs",
            "VOLUME__PATH": str(tmp_path),
            "TRANSFER": "volume",
        }
    )
    assert set(containers(job)) == {"model"}
    mounts = containers(job)["model"]["volumeMounts"]
    on_volume = [each for each in mounts if each["name"] == "runs"]
    assert [(each["mountPath"], each["subPath"], each.get("readOnly", False)) for each in on_volume] == [
        ("/workspace", "autoscorer-0123456789ab/workspace", True),
        ("/workspace/output", "autoscorer-0123456789ab/output", False),
    ]


def test_what_can_be_no_label_is_an_annotation(manifest: Make) -> None:
    job = manifest()
    for metadata in (job["metadata"], job["spec"]["template"]["metadata"]):
        assert metadata["labels"]["io.autoscorer.run"] == "0123456789ab"
        assert "io.autoscorer.owner" not in metadata["labels"]
        assert metadata["annotations"]["io.autoscorer.owner"] == "h|b|1|m|1|1"
        assert metadata["annotations"]["io.autoscorer.workspace"] == "ünïcode ws"


def test_the_image_keeps_its_entrypoint_and_its_folder(manifest: Make) -> None:
    model = containers(manifest())["model"]
    assert model["args"] == ["run"] and "command" not in model and "workingDir" not in model
    folder = {"image": "model:1", "cmd": ["run"], "working_dir": "/app"}
    assert containers(manifest(container=folder))["model"]["workingDir"] == "/app"


def test_nothing_tells_the_model_where_the_api_server_is(manifest: Make) -> None:
    told = {each["name"]: each["value"] for each in containers(manifest())["model"]["env"]}
    assert told["AUTOSCORER_WORKSPACE"] == "/workspace" and told["HOME"] == "/tmp"
    assert told["KUBERNETES_SERVICE_HOST"] == "" and told["KUBERNETES_PORT_443_TCP_ADDR"] == ""


def test_a_probe_is_confined_as_a_model_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__KUBERNETES__HELPER_IMAGE", "helper:1")
    job = probe_manifest("autoscorer-x", load_settings(), "true", ())
    (container,) = pod_of(job)["containers"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert pod_of(job)["automountServiceAccountToken"] is False
    assert job["metadata"]["labels"]["io.autoscorer.run"] == "x"


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"USER": "0:1000"}, "uid or gid 0"),
        ({"USER": "70000:70000", "HOST_USERS": "false"}, "65535"),
        ({"TRANSFER": "volume"}, "volume.claim"),
        ({"VOLUME__CLAIM": "runs"}, "give both"),
        ({"NAMESPACE": "Not_one"}, "namespace"),
        ({"TOLERATIONS": '[{"kee": "x"}]'}, "kee"),
        ({"TOLERATIONS": '[{"effect": "Never"}]'}, "Never"),
        ({"SECCOMP_PROFILE": "../x.json"}, "seccomp"),
        ({"NODE_SELECTOR": '{"a b": "c"}'}, "label"),
        ({"HELPER_IMAGE": "Not An Image"}, "image"),
        ({"ENABLED": "false", "EXECUTORS__DEFAULT": "kubernetes"}, "enabled"),
    ],
)
def test_a_wrong_setting_says_what_is_expected(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], word: str
) -> None:
    for key, value in settings.items():
        name = key if key.startswith("EXECUTORS__") else f"EXECUTORS__KUBERNETES__{key}"
        monkeypatch.setenv(f"AUTOSCORER_{name}", value)
    with pytest.raises(AutoScorerError) as caught:
        load_settings()
    assert word in caught.value.message


def test_the_cluster_is_used_where_something_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def used() -> bool:
        return load_settings().executors.uses_kubernetes

    assert not Settings().executors.uses_kubernetes
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__KUBERNETES__HELPER_IMAGE", "helper:1")
    assert used()
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__KUBERNETES__ENABLED", "false")
    assert not used()
    monkeypatch.delenv("AUTOSCORER_EXECUTORS__KUBERNETES__HELPER_IMAGE")
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__KUBERNETES__ENABLED", "true")
    assert used()
    monkeypatch.delenv("AUTOSCORER_EXECUTORS__KUBERNETES__ENABLED")
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__DEFAULT", "kubernetes")
    assert used()


def test_nothing_heavy_is_imported_for_other_backends() -> None:
    code = (
        "import sys, autoscorer.executors.backends, autoscorer.executors.reaper, autoscorer.tasks.run\n"
        "found = [name for name in sys.modules if name in ('httpx', 'websockets') or 'executors.kube' in name]\n"
        "sys.exit(', '.join(found) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
