"""What a pod's status means: the tables are the promise. Statuses as servers from 1.20 to 1.36 write them."""

from __future__ import annotations

from typing import Any

import pytest
from autoscorer.core.errors import AutoScorerError
from autoscorer.executors.base import Interruption, KillReason, RunLimits
from autoscorer.executors.kubernetes.outcome import (
    cannot_start,
    ending_of,
    has_ended,
    has_stopped,
    image_digest,
    is_the_images_fault,
    never_started,
    node_is_lost,
    refused_for_good,
)
from autoscorer.executors.verdict import verdict

Json = dict[str, Any]
LIMITS = RunLimits(
    cpu=1, memory=2 * 1024**3, gpu=0, disk=1024**3, shm_size=64 * 1024**2, timeout=60, pids=256, nofile=1024,
    tmp=256 * 1024**2, output_files=100, log=1024,
)  # fmt: skip
RUNNING = {"running": {"startedAt": "2026-11-29T19:00:00Z"}}


def pod(
    model: Json | None = None,
    keeper: Json | None = None,
    *,
    init: Json | None = None,
    conditions: tuple[Json, ...] = (),
    deleted: bool = False,
    **status: Any,
) -> Json:
    def container(name: str, state: Json) -> Json:
        return {
            "name": name,
            "state": state,
            "ready": "running" in state,
            "image": f"{name}:1",
            "imageID": "docker.io/library/x@sha256:" + "0a" * 32,
        }

    found = [(name, state) for name, state in (("model", model), ("keeper", keeper)) if state is not None]
    status = {"phase": "Running", "conditions": [*conditions], **status}
    status["containerStatuses"] = [container(name, state) for name, state in found]
    if init is not None:
        status["initContainerStatuses"] = [container("input", init)]
    return {"metadata": {"name": "p", **({"deletionTimestamp": "x"} if deleted else {})}, "status": status}


def ended(code: int, reason: str = "Error", message: str = "") -> Json:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


def waiting(reason: str, message: str = "") -> Json:
    return {"waiting": {"reason": reason, "message": message}}


DISRUPTED = {"type": "DisruptionTarget", "status": "True", "message": "why"}
SILENT = {"type": "Ready", "status": "False"}  # what the cluster writes when the kubelet is silent, up to 1.2x
PRESSURE = "The node was low on resource: ephemeral-storage. Container model was using 123Ki, request is 0."

# (id, pod, is_gone, killed, code of the catalogue, word of the message or resource)
ENDS: list[tuple[str, Json | None, bool, bool, str | None, str]] = [
    ("success", pod(ended(0, "Completed"), RUNNING), False, False, None, ""),
    ("success, and the keeper ended, too", pod(ended(0), ended(0), phase="Succeeded"), False, False, None, ""),
    ("success, deleted right after", pod(ended(0), RUNNING, deleted=True), True, False, None, ""),
    ("exit 1", pod(ended(1), RUNNING), False, False, "CONTAINER_FAILED", "code 1"),
    ("a signal of its own", pod(ended(139), RUNNING), False, False, "CONTAINER_FAILED", "SIGSEGV"),
    ("killed by itself", pod(ended(137), RUNNING), False, False, "CONTAINER_FAILED", "SIGKILL"),
    ("out of memory", pod(ended(137, "OOMKilled"), RUNNING), False, False, "RESOURCE_ERROR", "memory"),
    (
        "out of memory, told by its parent",
        pod(ended(1, "OOMKilled"), RUNNING),
        False,
        False,
        "RESOURCE_ERROR",
        "memory",
    ),
    ("a worker out of memory, success", pod(ended(0, "OOMKilled"), RUNNING), False, False, None, ""),
    (
        "evicted for its output",
        pod(
            ended(137),
            ended(137),
            phase="Failed",
            reason="Evicted",
            message='Usage of EmptyDir volume "output" exceeds the limit "20Mi". ',
        ),
        False,
        False,
        "RESOURCE_ERROR",
        "disk",
    ),
    (
        "evicted for its own container's disk",
        pod(
            phase="Failed",
            reason="Evicted",
            message='Container model exceeded its local ephemeral storage limit "64Mi". ',
        ),
        False,
        False,
        "RESOURCE_ERROR",
        "disk",
    ),
    (
        "evicted for all of its disk",
        pod(
            phase="Failed",
            reason="Evicted",
            message="Pod ephemeral local storage usage exceeds the total limit of containers 100Mi. ",
        ),
        False,
        False,
        "RESOURCE_ERROR",
        "disk",
    ),
    (
        "evicted for the helper's volume",
        pod(
            phase="Failed",
            reason="Evicted",
            message='Usage of EmptyDir volume "control" exceeds the limit "1Mi". ',
        ),
        False,
        False,
        "BACKEND_UNAVAILABLE",
        "control",
    ),
    (
        "evicted for the node's sake",
        pod(ended(137), ended(137), phase="Failed", reason="Evicted", message=PRESSURE),
        False,
        False,
        "BACKEND_UNAVAILABLE",
        "low on resource",
    ),
    (
        "the node was shut down",
        pod(ended(143), phase="Failed", reason="Terminated", message="imminent node shutdown"),
        False,
        False,
        "BACKEND_UNAVAILABLE",
        "shutdown",
    ),
    (
        "refused by the node",
        pod(phase="Failed", reason="OutOfmemory", message="Pod Node didn't have enough resource"),
        False,
        False,
        "BACKEND_UNAVAILABLE",
        "enough resource",
    ),
    (
        "preempted (1.26 and later)",
        pod(ended(143), RUNNING, conditions=({**DISRUPTED, "reason": "PreemptionByScheduler"},), deleted=True),
        False,
        False,
        "BACKEND_UNAVAILABLE",
        "off its node",
    ),
    (
        "drained (1.26 and later)",
        pod(ended(143), RUNNING, conditions=({**DISRUPTED, "reason": "EvictionByEvictionAPI"},), deleted=True),
        False,
        False,
        "BACKEND_UNAVAILABLE",
        "off its node",
    ),
    (
        "its node was given up (1.26 and later)",
        pod(RUNNING, RUNNING, conditions=({**DISRUPTED, "reason": "DeletionByTaintManager"},), deleted=True),
        True,
        False,
        "BACKEND_UNAVAILABLE",
        "not heard of",
    ),
    (
        "its node was given up (before 1.26)",
        pod(RUNNING, RUNNING, conditions=(SILENT,), deleted=True),
        True,
        False,
        "BACKEND_UNAVAILABLE",
        "not heard of",
    ),
    (
        "a lost node, of old",
        pod(RUNNING, RUNNING, reason="NodeLost"),
        False,
        False,
        "BACKEND_UNAVAILABLE",
        "not heard of",
    ),
    (
        "the kubelet forgot it",
        pod(ended(137, "ContainerStatusUnknown", "could not be located"), RUNNING, phase="Failed"),
        False,
        False,
        "BACKEND_UNAVAILABLE",
        "could not be located",
    ),
    ("deleted by somebody", pod(ended(137), ended(137), deleted=True), True, False, "BACKEND_UNAVAILABLE", "deleted"),
    ("deleted, and its end not seen", pod(RUNNING, RUNNING), True, False, "BACKEND_UNAVAILABLE", "deleted"),
    ("exit 3, deleted right after", pod(ended(3), RUNNING, deleted=True), True, False, "CONTAINER_FAILED", "code 3"),
    ("failed for no reason that is told", pod(phase="Failed"), False, False, "BACKEND_UNAVAILABLE", "off its node"),
    (
        "the pod's own deadline (1.36)",
        pod(ended(137), ended(137), phase="Failed", reason="DeadlineExceeded", message="Pod was active"),
        False,
        False,
        "TIMEOUT_ERROR",
        "60 s",
    ),
    (
        "the pod's own deadline (1.20, where its containers seem to run)",
        pod(RUNNING, RUNNING, phase="Failed", reason="DeadlineExceeded"),
        False,
        False,
        "TIMEOUT_ERROR",
        "60 s",
    ),
    ("the keeper saw too much", pod(ended(0), ended(41)), False, False, "RESOURCE_ERROR", "disk"),
    ("the keeper saw too many files", pod(RUNNING, ended(42)), False, True, "RESOURCE_ERROR", "files"),
    ("the keeper was killed", pod(ended(0), ended(137, "OOMKilled")), False, False, None, ""),
]


@pytest.mark.parametrize(
    ("case", "is_gone", "killed", "code", "word"), [each[1:] for each in ENDS], ids=[each[0] for each in ENDS]
)
def test_the_table_of_ends(case: Json | None, is_gone: bool, killed: bool, code: str | None, word: str) -> None:
    error = verdict(ending_of(case, is_gone=is_gone, killed=killed), LIMITS)
    assert (error.code.value if error else None) == code
    if error is not None:
        assert word in error.message or error.details.get("resource") == word, error.message


def test_what_we_killed_was_interrupted_by_nobody() -> None:
    ending = ending_of(pod(ended(137), ended(137), deleted=True), is_gone=True, killed=True)
    assert ending.interrupted is None and ending.exit_code == 137
    assert ending_of(None, is_gone=False, killed=True).interrupted is None


def test_what_we_killed_on_a_lost_node_is_not_judged() -> None:
    """The model may have ended well before its deadline, and nobody could say so."""
    from dataclasses import replace

    ending = ending_of(pod(RUNNING, RUNNING, conditions=(SILENT,)), is_gone=False, killed=True)
    error = verdict(replace(ending, killed_for=KillReason.DEADLINE), LIMITS)
    assert error is not None and error.code == "BACKEND_UNAVAILABLE"
    cancelled = verdict(replace(ending, killed_for=KillReason.CANCELLED), LIMITS)
    assert cancelled is not None and cancelled.code == "CANCELLED"


@pytest.mark.parametrize(
    ("conditions", "model", "keeper", "lost"),
    [
        ((), RUNNING, RUNNING, False),
        (({"type": "Ready", "status": "True"},), RUNNING, RUNNING, False),
        ((SILENT,), RUNNING, RUNNING, True),
        (({**SILENT, "reason": "ContainersNotReady"},), ended(0), RUNNING, False),
        ((SILENT,), ended(0), RUNNING, False),
        (({**SILENT, "reason": "PodCompleted"},), ended(0), ended(0), False),
        (({"type": "Ready", "status": "Unknown"},), RUNNING, RUNNING, True),
    ],
)
def test_a_node_that_is_silent(conditions: tuple[Json, ...], model: Json, keeper: Json, lost: bool) -> None:
    assert node_is_lost(pod(model, keeper, conditions=conditions)) is lost


# --- before it runs ------------------------------------------------------------------------------------------------

EXEC = 'failed to create containerd task: OCI runtime create failed: exec: "/no": stat /no: no such file or directory'
# (id, pod, what the node said of a pull, code, word); no code: it may start yet
STARTS: list[tuple[str, Json, str, str | None, str]] = [
    ("nothing yet", pod(), "", None, ""),
    ("creating", pod(waiting("ContainerCreating"), waiting("PodInitializing")), "", None, ""),
    ("running", pod(RUNNING, RUNNING, init=ended(0, "Completed")), "", None, ""),
    ("no such image", pod(waiting("ErrImagePull", "rpc error: manifest unknown")), "", "IMAGE_NOT_FOUND", "manifest"),
    (
        "no such image, seen late",
        pod(waiting("ImagePullBackOff", 'Back-off pulling image "model:1"')),
        "pull access denied, repository does not exist",
        "IMAGE_NOT_FOUND",
        "access denied",
    ),
    (
        "no such image (1.36 says so in the back-off)",
        pod(waiting("ImagePullBackOff", 'Back-off pulling image "x": ErrImagePull: not found')),
        "",
        "IMAGE_NOT_FOUND",
        "not found",
    ),
    ("a registry that is away", pod(waiting("ErrImagePull", "dial tcp: lookup r.example: no such host")), "", None, ""),
    ("a registry that is busy", pod(waiting("ErrImagePull", "toomanyrequests: rate limit, not found")), "", None, ""),
    ("never pulled", pod(waiting("ErrImageNeverPull", "not present")), "", "IMAGE_NOT_FOUND", "never"),
    ("no name", pod(waiting("InvalidImageName", "couldn't parse")), "", "IMAGE_NOT_FOUND", "parse"),
    ("no helper", pod(None, waiting("ErrImagePull", "not found")), "", "BACKEND_UNAVAILABLE", "helper_image"),
    ("no helper first", pod(init=waiting("ErrImageNeverPull", "no")), "", "BACKEND_UNAVAILABLE", "helper_image"),
    ("the helper failed", pod(init=ended(1)), "", "BACKEND_UNAVAILABLE", "input"),
    ("no command", pod(waiting("CreateContainerError", "no command specified")), "", "CONTAINER_FAILED", "command"),
    ("no program", pod(waiting("RunContainerError", EXEC)), "", "CONTAINER_FAILED", "no such file"),
    (
        "no room on the node",
        pod(waiting("RunContainerError", "no space left on device")),
        "",
        "BACKEND_UNAVAILABLE",
        "room|space",
    ),
    ("tried again", pod(waiting("CreateContainerError", "context deadline exceeded")), "", None, ""),
    (
        "a Secret that is not there",
        pod(waiting("CreateContainerConfigError", 'secret "x" not found')),
        "",
        "BACKEND_UNAVAILABLE",
        "secret",
    ),
    (
        "too little memory to begin",
        pod(waiting("RunContainerError", "container init was OOM-killed (memory limit too low?)")),
        "",
        "RESOURCE_ERROR",
        "memory",
    ),
]


@pytest.mark.parametrize(
    ("case", "pull", "code", "word"), [each[1:] for each in STARTS], ids=[each[0] for each in STARTS]
)
def test_the_table_of_starts(case: Json, pull: str, code: str | None, word: str) -> None:
    error = cannot_start(case, pull)
    assert (error.code.value if error else None) == code
    if error is not None:
        assert any(each in error.message for each in word.split("|")), error.message


def event(message: str, kind: str = "Warning", when: str = "2026-11-29T19:00:00Z") -> Json:
    return {"type": kind, "message": message, "lastTimestamp": when}


UNSCHEDULED = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes: 3 taints."}


@pytest.mark.parametrize(
    ("case", "job_events", "pod_events", "code", "word"),
    [
        (None, [], [], "BACKEND_UNAVAILABLE", "no pod"),
        (None, [event("exceeded quota: pods=1")], [], "BACKEND_UNAVAILABLE", "exceeded quota"),
        (pod(phase="Pending", conditions=(UNSCHEDULED,)), [], [], "BACKEND_UNAVAILABLE", "3 taints"),
        (pod(waiting("ImagePullBackOff", "Back-off: i/o timeout")), [], [], "IMAGE_PULL_FAILED", "i/o timeout"),
        (
            pod(waiting("ContainerCreating")),
            [],
            [
                event("Created pod", "Normal"),
                event("MountVolume.SetUp failed", when="2026-11-29T19:00:09Z"),
                event("old", when="2026-11-29T18:00:00Z"),
            ],
            "BACKEND_UNAVAILABLE",
            "MountVolume",
        ),
        (pod(waiting("ContainerCreating")), [], [], "BACKEND_UNAVAILABLE", "no reason"),
    ],
)
def test_what_did_not_start_in_time_says_why(
    case: Json | None, job_events: list[Json], pod_events: list[Json], code: str, word: str
) -> None:
    error: AutoScorerError = never_started(case, job_events, pod_events, 30)
    assert error.code == code and word in error.message and "30 s" in error.message


@pytest.mark.parametrize(
    ("message", "for_good"),
    [
        ('pods "x" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation', True),
        ('pods "x" is forbidden: exceeded quota: runs, requested: pods=1', False),
        ('admission webhook "policy" denied the request: no', True),
        ('pods "x" is forbidden: maximum memory usage per Container is 1Gi, but limit is 2Gi', True),
        ("Internal error occurred: failed calling webhook", False),
    ],
)
def test_what_the_cluster_refuses_for_good(message: str, for_good: bool) -> None:
    assert bool(refused_for_good([event(message)])) is for_good


def test_the_digest_is_that_of_the_models_container() -> None:
    case = pod(RUNNING, RUNNING)
    assert image_digest(case) == "sha256:" + "0a" * 32
    assert image_digest(pod()) is None
    case["status"]["containerStatuses"][0]["imageID"] = "sha256:" + "0b" * 32
    assert image_digest(case) == "sha256:" + "0b" * 32


def test_the_model_may_have_ended_and_the_pod_go_on() -> None:
    case = pod(ended(0), RUNNING)
    assert has_ended(case) and not has_stopped(case)
    assert has_stopped(pod(ended(0), ended(0), phase="Succeeded"))
    # A pod that fails is not one whose processes are gone.
    assert not has_stopped(pod(RUNNING, RUNNING, phase="Failed", reason="DeadlineExceeded"))
    assert not has_stopped(pod(phase="Failed")) and not has_ended(pod(RUNNING, RUNNING))


def test_interruptions_are_told_in_words_of_their_own() -> None:
    from autoscorer.executors.verdict import INTERRUPTED

    assert set(INTERRUPTED) == set(Interruption) and len({*INTERRUPTED.values()}) == len(Interruption)


@pytest.mark.parametrize(
    ("message", "images"),
    [
        (
            'error mounting "/var/lib/containerd/io.containerd.grpc.v1.cri/containers/0a/volumes/0b" to rootfs at '
            '"/workspace/input/gt.csv": mkdir /run/containerd/rootfs/workspace/input/gt.csv: read-only file system',
            True,
        ),
        (
            'error mounting "/var/lib/kubelet/pods/0a/volumes/kubernetes.io~empty-dir/tmp" to rootfs at "/tmp"',
            False,
        ),
        (EXEC, True),
        ("cgroup: permission denied", False),
        ("fork/exec: cannot allocate memory: no such file or directory", False),
    ],
)
def test_whose_fault_a_container_is_that_no_runtime_starts(message: str, images: bool) -> None:
    assert is_the_images_fault(message) is images
