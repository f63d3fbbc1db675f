"""The seal: everything that is asked of the cluster for one run."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...core.config import Settings
from ...core.config_kubernetes import KubernetesExecutor
from ..base import CONTAINER_ROOT, ROOT_VARIABLE, RunSpec
from ..docker.container_config import GRACE, NAME
from ..files import MAX_DEPTH
from .gpus import gpu_variables, node_requirements
from .names import INPUT, KEEPER, MODEL, job_name, labels_and_annotations
from .scripts import KEEP, WAIT, shell

__all__ = ["Seal", "job_manifest", "probe_manifest"]

Json = dict[str, Any]

Mi = 1024**2
# What a helper's container may use. Its CPU is only asked for in small: it works before and after the model.
HELPER_MEMORY, HELPER_DISK = 64 * Mi, 32 * Mi
HELPER_CPU, HELPER_CPU_LIMIT = "10m", "1"
# Room for the model's log on its node, which keeps it until the pod is gone.
LOG_ROOM = 64 * Mi
# Folders take room on a node, and its kubelet counts it.
FOLDER_ROOM = 4 * Mi
# Seconds after its end at which the cluster itself removes a Job that nobody has removed.
LEFT_OVER = 900
# Seconds after which a probe is over for sure.
PROBE_ENDS = 300
# Seconds that sending the input and reading the output may take, for the pod's own deadline.
TRANSFER_ROOM = 1800


@dataclass(frozen=True, kw_only=True)
class Seal:
    """What is known of a run beside its spec.

    Args:
        image: Reference that the node pulls.
        uid: Of every process of the pod.
        gid: The same.
        own_users: Whether the pod gets a user namespace of its own.
        input_size: Bytes of the input on the node; with ``stream``.
        deadline: Seconds since the epoch at which the run is over for sure, for whoever finds it.
        told: Our labels, without the prefix.
    """

    image: str
    uid: int
    gid: int
    own_users: bool
    input_size: int
    deadline: int
    told: dict[str, str]


def job_manifest(spec: RunSpec, seal: Seal, settings: Settings) -> Json:
    """The Job of one run. docs/sealed-run.md says why each line is there.

    Args:
        spec: The run.
        seal: What else is known of it.
        settings: The configuration; ``helper_image`` is set with ``transfer: stream``.
    """
    configured = settings.executors.kubernetes
    labels, annotations = labels_and_annotations(seal.told)
    streamed = configured.transfer == "stream"
    volumes = [
        {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": str(spec.limits.tmp)}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": str(_shm(spec))}},
    ]
    if streamed:
        volumes += [
            {"name": "staged", "emptyDir": {"sizeLimit": str(seal.input_size + FOLDER_ROOM)}},
            {"name": "output", "emptyDir": {"sizeLimit": str(spec.limits.disk + FOLDER_ROOM)}},
            {"name": "control", "emptyDir": {"sizeLimit": str(Mi)}},
        ]
    else:
        volumes.append({"name": "runs", "persistentVolumeClaim": {"claimName": configured.volume.claim}})
    pod: Json = {
        "restartPolicy": "Never",
        # The keeper first: a node starts them in this order, and a model may end before the next one is there.
        "containers": [*([_keeper(spec, seal, settings)] if streamed else []), _model(spec, seal, settings)],
        "volumes": volumes,
        # What ends it where nobody of ours does any more. The pod's, not the Job's, which would take the log along.
        "activeDeadlineSeconds": int(configured.start_timeout + spec.limits.timeout + TRANSFER_ROOM + GRACE),
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        # No name is looked up: there is nothing to reach.
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["127.0.0.1"]},
        "hostname": "model",
        "hostNetwork": False,
        "hostPID": False,
        "hostIPC": False,
        "shareProcessNamespace": False,
        "securityContext": {
            "runAsUser": seal.uid,
            "runAsGroup": seal.gid,
            "runAsNonRoot": True,
            "seccompProfile": _seccomp(configured.seccomp_profile),
        },
    }
    if streamed:
        pod["initContainers"] = [_helper(INPUT, shell(WAIT), seal, settings, ["staged", "control"])]
    if seal.own_users:
        pod["hostUsers"] = False
    pod.update(_placement(configured))
    if wanted := node_requirements(spec, settings):
        terms = [{"matchExpressions": wanted}]
        pod["affinity"] = {
            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
        }
    metadata = {"labels": labels, "annotations": annotations}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": job_name(spec.run_id), **metadata},
        "spec": {
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "ttlSecondsAfterFinished": LEFT_OVER,
            "template": {"metadata": metadata, "spec": pod},
        },
    }


def probe_manifest(name: str, settings: Settings, script: str, arguments: Sequence[str]) -> Json:
    """A Job of the helper image alone, with the same seal as a model's, for ``autoscorer doctor --probe``.

    Args:
        name: Its name, as that of a run.
        settings: The configuration; ``helper_image`` is set.
        script: What its container runs.
        arguments: The script's.
    """
    configured = settings.executors.kubernetes
    told = {"run": name.removeprefix(NAME), "deadline": str(int(time.time()) + PROBE_ENDS), "probe": "network"}
    labels, annotations = labels_and_annotations(told)
    uid, gid = (int(part) for part in (configured.user or "65534:65534").split(":"))
    seal = Seal(image="", uid=uid, gid=gid, own_users=False, input_size=0, deadline=0, told=told)
    pod: Json = {
        "restartPolicy": "Never",
        "containers": [_helper(INPUT, shell(script, *arguments), seal, settings, [])],
        "activeDeadlineSeconds": PROBE_ENDS,
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsUser": uid,
            "runAsGroup": gid,
            "runAsNonRoot": True,
            "seccompProfile": _seccomp(configured.seccomp_profile),
        },
        **_placement(configured),
    }
    metadata = {"labels": labels, "annotations": annotations}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, **metadata},
        "spec": {
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": LEFT_OVER,
            "template": {"metadata": metadata, "spec": pod},
        },
    }


def _placement(configured: KubernetesExecutor) -> Json:
    """Where the operator wants pods, and how their images come."""
    found: Json = {}
    if configured.runtime_class:
        found["runtimeClassName"] = configured.runtime_class
    if configured.image_pull_secrets:
        found["imagePullSecrets"] = [{"name": name} for name in configured.image_pull_secrets]
    if configured.node_selector:
        found["nodeSelector"] = dict(configured.node_selector)
    if configured.tolerations:
        found["tolerations"] = [dict(each) for each in configured.tolerations]
    return found


def _model(spec: RunSpec, seal: Seal, settings: Settings) -> Json:
    configured, limits, job = settings.executors.kubernetes, spec.limits, spec.job
    amounts = {
        "cpu": f"{math.ceil(limits.cpu * 1000)}m",
        "memory": str(limits.memory),
        "ephemeral-storage": str((limits.disk if configured.transfer == "stream" else 0) + LOG_ROOM + FOLDER_ROOM),
    }
    if limits.gpu:
        amounts[configured.gpu_resource] = str(limits.gpu)
    told = {ROOT_VARIABLE: CONTAINER_ROOT, "HOME": "/tmp", "USER": "model", **_NO_SERVICE, **job.container.env}
    told = gpu_variables(told, spec, settings)
    if configured.transfer == "stream":
        mounts: list[Json] = [
            {"name": "staged", "mountPath": CONTAINER_ROOT, "readOnly": True},
            {"name": "output", "mountPath": f"{CONTAINER_ROOT}/output"},
        ]
    else:
        folder = job_name(spec.run_id)
        mounts = [
            {"name": "runs", "mountPath": CONTAINER_ROOT, "subPath": f"{folder}/workspace", "readOnly": True},
            {"name": "runs", "mountPath": f"{CONTAINER_ROOT}/output", "subPath": f"{folder}/output"},
        ]
    mounts += [_seen_at(place, part, *mounts) for place, part in spec.places.items()]
    container: Json = {
        "name": MODEL,
        "image": seal.image,
        "imagePullPolicy": _POLICIES[settings.images.pull_policy],
        "env": [{"name": key, "value": _literal(value)} for key, value in told.items()],
        "resources": {"requests": amounts, "limits": amounts},
        "volumeMounts": [
            *mounts,
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
        "securityContext": _CONFINED,
        # What it says last is in its log, and nowhere else.
        "terminationMessagePolicy": "File",
    }
    if job.container.cmd:
        # The image's entrypoint stays, as with Docker.
        container["args"] = [_literal(part) for part in job.container.cmd]
    if job.container.working_dir:
        container["workingDir"] = job.container.working_dir
    return container


def _seen_at(place: str, part: str, staged: Json, output: Json) -> Json:
    """The mount of one part of ``CONTAINER_ROOT`` at another path."""
    if part == "output":
        return {**output, "mountPath": place}
    return {**staged, "mountPath": place, "subPath": f"{staged['subPath']}/{part}" if "subPath" in staged else part}


def _keeper(spec: RunSpec, seal: Seal, settings: Settings) -> Json:
    limits = spec.limits
    kib = str(math.ceil((limits.disk + FOLDER_ROOM) / 1024))
    keeper = _helper(
        KEEPER,
        shell(KEEP, kib, str(limits.output_files + 2), str(MAX_DEPTH + 1)),
        seal,
        settings,
        ["output", "control"],
    )
    keeper["env"] = [{"name": "KEEP", "value": _literal(KEEP)}]
    return keeper


def _helper(name: str, command: list[str], seal: Seal, settings: Settings, mounts: list[str]) -> Json:
    # The node counts the input among what the containers' limits allow together.
    disk = str(HELPER_DISK + seal.input_size + FOLDER_ROOM)
    fixed = {"memory": str(HELPER_MEMORY), "ephemeral-storage": disk}
    return {
        "name": name,
        "image": settings.executors.kubernetes.helper_image,
        # It is the operator's own, so it is not asked for again and again.
        "imagePullPolicy": "Never" if settings.images.pull_policy == "never" else "IfNotPresent",
        "command": [_literal(part) for part in command],
        "resources": {
            "requests": {"cpu": HELPER_CPU, **fixed},
            "limits": {"cpu": HELPER_CPU_LIMIT, **fixed},
        },
        "volumeMounts": [{"name": each, "mountPath": f"/{each}"} for each in mounts],
        "securityContext": _CONFINED,
    }


# Kubernetes tells every container where its API server is, whatever else is turned off. Nobody there can reach it.
_NO_SERVICE = dict.fromkeys(
    (
        "KUBERNETES_PORT",
        "KUBERNETES_PORT_443_TCP",
        "KUBERNETES_PORT_443_TCP_ADDR",
        "KUBERNETES_PORT_443_TCP_PORT",
        "KUBERNETES_PORT_443_TCP_PROTO",
        "KUBERNETES_SERVICE_HOST",
        "KUBERNETES_SERVICE_PORT",
        "KUBERNETES_SERVICE_PORT_HTTPS",
    ),
    "",
)
_POLICIES = {"always": "Always", "ifnotpresent": "IfNotPresent", "never": "Never"}
_CONFINED = {
    "privileged": False,
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
}


def _seccomp(profile: str | None) -> Json:
    return {"type": "Localhost", "localhostProfile": profile} if profile else {"type": "RuntimeDefault"}


def _shm(spec: RunSpec) -> int:
    return min(spec.limits.shm_size, spec.limits.memory)


def _literal(text: str) -> str:
    """Text that Kubernetes gives on as it stands: ``$(NAME)`` would be a variable, and ``$$`` a sign."""
    return text.replace("$", "$$")
