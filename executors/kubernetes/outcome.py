"""How a pod is, and how it ended: pure functions of what the cluster says, with tables of cases as their tests.

A submission is blamed for its own doing alone: its exit, memory or disk beyond its own limits, an image that is not
there, a command that can't be started. Everything else is the cluster's: no room, no node, a quota, an eviction.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...core.errors import AutoScorerError, ErrorCode
from ..base import Ending, Interruption, KillReason
from .errors import short, unavailable
from .names import INPUT, KEEPER, MODEL
from .scripts import OUT_OF_DISK, OUT_OF_FILES

__all__ = [
    "cannot_start",
    "container",
    "ending_of",
    "exceeded_of",
    "has_ended",
    "has_stopped",
    "image_digest",
    "is_running",
    "is_the_images_fault",
    "is_waiting",
    "never_started",
    "node_is_lost",
    "refused_for_good",
    "unstartable",
]

Json = Mapping[str, Any]

# What a registry says of an image that is not there, or that one may not have.
_NO_IMAGE = re.compile(
    r"not found|manifest unknown|name unknown|repository does not exist|access denied|no match for platform"
    r"|no matching manifest|insufficient_scope",
    re.IGNORECASE,
)
# A registry that is away is told by words of the same kind.
_AWAY = re.compile(
    r"no such host|timeout|timed out|connection refused|too many requests|toomanyrequests", re.IGNORECASE
)
# A runtime says these of what the image or the job chose: its command, its working folder.
_CHOSEN = re.compile(
    r"no such file or directory|executable file not found|permission denied|exec format error|not a directory"
    r"|is a directory|no command specified|chdir to cwd|container init: mkdir [^:]*: read-only file system",
    re.IGNORECASE,
)
# A volume that the image declares, at a place where none can be; Kubernetes' own volumes lie elsewhere on a node.
_IMAGE_VOLUME = re.compile(r"mounting \"[^\"]*/volumes/(?!kubernetes\.io~)[^\"]*\"")
_NODES_FAULT = re.compile(r"no space left|cannot allocate memory|too many open files|cgroup", re.IGNORECASE)
_INIT_OOM = re.compile(r"OOM-killed|memory limit too low", re.IGNORECASE)
# What a kubelet says of a pod that took more than its own limits; the volumes and the container are the model's.
_OWN_LIMIT = re.compile(
    r"Usage of EmptyDir volume \"(output|tmp|shm)\" exceeds the limit"
    r"|Container model exceeded its local ephemeral storage limit"
    r"|Pod ephemeral local storage usage exceeds the total limit of containers"
)
# Reasons of a pod that failed for what was done to it.
_EVICTED = frozenset(
    {"Evicted", "Preempted", "Preempting", "Terminated", "Shutdown", "NodeShutdown", "UnexpectedAdmissionError"}
)
_REASONS_OF_DISRUPTION = {
    "DeletionByTaintManager": Interruption.NODE_LOST,
    "DeletionByPodGC": Interruption.NODE_LOST,
    "PreemptionByScheduler": Interruption.EVICTED,
    "PreemptionByKubeScheduler": Interruption.EVICTED,
    "EvictionByEvictionAPI": Interruption.EVICTED,
    "TerminationByKubelet": Interruption.EVICTED,
}
_CANNOT_START = frozenset({"StartError", "ContainerCannotRun", "RunContainerError"})


def container(pod: Json, name: str) -> Json:
    """The status of one container of a pod; empty where there is none yet."""
    status = pod.get("status") or {}
    for kind in ("containerStatuses", "initContainerStatuses"):
        for found in status.get(kind) or ():
            if found.get("name") == name:
                return found  # type: ignore[no-any-return]
    return {}


def _state(pod: Json, name: str, state: str) -> Json | None:
    found = (container(pod, name).get("state") or {}).get(state)
    return found if isinstance(found, Mapping) else None


def is_running(pod: Json, name: str) -> bool:
    """Whether a container of the pod runs."""
    return _state(pod, name, "running") is not None


def is_waiting(pod: Json, name: str) -> bool:
    """Whether a container of the pod was not started yet."""
    return not (container(pod, name).get("state") or {}).keys() & {"running", "terminated"}


def _phase(pod: Json) -> str:
    return str((pod.get("status") or {}).get("phase") or "")


def _reason(pod: Json) -> str:
    return str((pod.get("status") or {}).get("reason") or "")


def _told(pod: Json) -> str:
    return short((pod.get("status") or {}).get("message") or "")


def _condition(pod: Json, kind: str) -> Json:
    for found in (pod.get("status") or {}).get("conditions") or ():
        if found.get("type") == kind:
            return found  # type: ignore[no-any-return]
    return {}


def has_ended(pod: Json) -> bool:
    """Whether the model has ended, or never will begin. The pod's other containers may go on."""
    return _state(pod, MODEL, "terminated") is not None or _phase(pod) in ("Failed", "Succeeded")


def has_stopped(pod: Json) -> bool:
    """Whether every container of the pod has ended, so that nothing of it runs any more."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    ended = [(each.get("state") or {}).get("terminated") for each in statuses]
    return _phase(pod) in ("Failed", "Succeeded") and bool(ended) and all(ended)


def image_digest(pod: Json) -> str | None:
    """The digest of the image that the model's container was made from: of the registry, or of its configuration."""
    text = str(container(pod, MODEL).get("imageID") or "")
    found = re.search(r"sha256:[0-9a-f]{64}", text)
    return found[0] if found else None


def node_is_lost(pod: Json) -> bool:
    """Whether nothing is heard of the node that the pod is on.

    The kubelet writes what a pod's containers do. When it is silent, the cluster itself marks the pod as not ready, and
    leaves the rest as it was last: containers that are said to be ready in a pod that is not.
    """
    if _reason(pod) == "NodeLost" or _phase(pod) == "Unknown":
        return True
    ready, statuses = _condition(pod, "Ready"), (pod.get("status") or {}).get("containerStatuses") or ()
    return (
        ready.get("status") in ("False", "Unknown")
        and ready.get("reason") not in ("ContainersNotReady", "PodCompleted", "PodFailed")
        and bool(statuses)
        and all(each.get("ready") for each in statuses)
    )


def exceeded_of(pod: Json) -> KillReason | None:
    """What of its output's limits the model has passed, as the keeper saw it."""
    ended = _state(pod, KEEPER, "terminated") or {}
    return {OUT_OF_DISK: KillReason.DISK, OUT_OF_FILES: KillReason.FILES}.get(ended.get("exitCode", 0))


# --- before the model runs -------------------------------------------------------------------------------------------


def cannot_start(pod: Json, pull_error: str = "") -> AutoScorerError | None:
    """Why the model of a pod will never start, where that is certain; None while it may.

    Args:
        pod: The pod.
        pull_error: What the node said last of an image that it could not pull.
    """
    for name in (INPUT, KEEPER, MODEL):
        waiting = _state(pod, name, "waiting") or {}
        said = " ".join(str(waiting.get("message") or "").split())
        error = _waits_in_vain(pod, name, str(waiting.get("reason") or ""), said, pull_error)
        if error is not None:
            return error
    for name in (INPUT, KEEPER):
        ended = _state(pod, name, "terminated") or {}
        code = ended.get("exitCode")
        if code and exceeded_of(pod) is None and _phase(pod) != "Failed":
            why = short(ended.get("message") or ended.get("reason") or f"exit code {code}")
            return unavailable(f"The helper's container {name!r} beside the model failed: {why}. {_HELPER_ADVICE}")
    return None


_HELPER_ADVICE = "Check executors.kubernetes.helper_image; `autoscorer doctor --probe` tries it."


def _waits_in_vain(pod: Json, name: str, reason: str, said: str, pull_error: str) -> AutoScorerError | None:
    image, message = str(container(pod, name).get("image") or ""), short(said)
    helps = name != MODEL
    if reason in ("ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable"):
        why = message if reason == "ErrImagePull" else pull_error or message
        if not _NO_IMAGE.search(why) or _AWAY.search(why):
            return None  # the node tries again
        if helps:
            return unavailable(f"The helper image {image!r} can't be pulled: {why}. {_HELPER_ADVICE}")
        return AutoScorerError(
            ErrorCode.IMAGE_NOT_FOUND, f"No registry has the image {image!r}: {why}", details={"image": image}
        )
    if reason in ("InvalidImageName", "ErrImageNeverPull"):
        if helps:
            return unavailable(f"The helper image {image!r} can't be used: {message or reason}. {_HELPER_ADVICE}")
        more = " It is not on the node, and images.pull_policy is 'never'." if reason == "ErrImageNeverPull" else ""
        return AutoScorerError(
            ErrorCode.IMAGE_NOT_FOUND,
            f"The image {image!r} can't be used: {message or reason}.{more}",
            details={"image": image},
        )
    if reason == "CreateContainerConfigError":
        return unavailable(f"The cluster can't configure the container {name!r}: {message or reason}.")
    if reason in ("CreateContainerError", *_CANNOT_START):
        if not helps and is_the_images_fault(said):
            return unstartable(said)
        if reason in _CANNOT_START:
            return unavailable(f"The node can't start the container {name!r}: {message or reason}.")
    return None


def is_the_images_fault(message: str) -> bool:
    """Whether a runtime failed at what the image or the job chose, by its own words."""
    if _IMAGE_VOLUME.search(message) or _INIT_OOM.search(message):
        return True
    return bool(_CHOSEN.search(message)) and not _NODES_FAULT.search(message)


def unstartable(message: str) -> AutoScorerError:
    """The error of a model whose command can't be started."""
    message = short(message)
    if _INIT_OOM.search(message):
        return AutoScorerError(
            ErrorCode.RESOURCE_ERROR,
            f"The model's container could not be started with so little memory: {message}. Ask for more.",
            details={"resource": "memory", "exit_code": None, "log": []},
        )
    return AutoScorerError(
        ErrorCode.CONTAINER_FAILED,
        f"The model's container could not be started: {message}.",
        details={"exit_code": 127, "log": []},
    )


def never_started(
    pod: Json | None,
    job_events: Sequence[Json],
    pod_events: Sequence[Json],
    seconds: float,
    pull_error: str = "",
) -> AutoScorerError:
    """Why a model has not started in time, as well as can be told.

    Args:
        pod: The pod; None where the cluster has made none.
        job_events: Events of the Job, and
        pod_events: of the pod.
        seconds: How long was waited.
        pull_error: What the node said last of an image that it could not pull.
    """
    waited = f"The model did not start within {seconds:g} s (executors.kubernetes.start_timeout)"
    if pod is None:
        why = _last_warning(job_events)
        if not why:
            return unavailable(f"{waited}: the cluster made no pod for its Job.")
        return unavailable(f"{waited}: the cluster refuses its pod: {why}", reason=why)
    unscheduled = _condition(pod, "PodScheduled")
    if unscheduled.get("status") == "False":
        why = short(unscheduled.get("message") or unscheduled.get("reason"))
        return unavailable(f"{waited}: no node takes it: {why}.", reason=why)
    for name in (INPUT, KEEPER, MODEL):
        waiting = _state(pod, name, "waiting") or {}
        image = str(container(pod, name).get("image") or "")
        if waiting.get("reason") in ("ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError"):
            why = pull_error or short(waiting.get("message"))
            if name == MODEL:
                return AutoScorerError(
                    ErrorCode.IMAGE_PULL_FAILED,
                    f"The image {image!r} could not be pulled within {seconds:g} s: {why}",
                    details={"image": image},
                )
            return unavailable(f"The helper image {image!r} can't be pulled: {why}. {_HELPER_ADVICE}")
    why = _last_warning(pod_events)
    if why:
        return unavailable(f"{waited}: {why}", reason=why)
    return unavailable(f"{waited}, and the cluster says no reason.")


def _last_warning(events: Iterable[Json]) -> str:
    warnings = [event for event in events if event.get("type") == "Warning"]
    warnings.sort(key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))
    return short(warnings[-1].get("message")) if warnings else ""


def refused_for_good(job_events: Iterable[Json]) -> str:
    """Why the cluster will never make the Job's pod; empty where it may yet, as with a quota that others use up."""
    why = _last_warning(job_events)
    never = re.search(r"violates PodSecurity|is forbidden|denied the request|is invalid", why)
    return why if never and "exceeded quota" not in why else ""


# --- after it ------------------------------------------------------------------------------------------------------


def ending_of(pod: Json | None, *, is_gone: bool, killed: bool) -> Ending:
    """How a model ended.

    Args:
        pod: The pod as it was seen last; None where it was never seen.
        is_gone: Whether it is not there any more.
        killed: Whether it was us who deleted it, which is no interruption.
    """
    if pod is None:
        return Ending(exit_code=None, interrupted=None if killed else Interruption.DELETED, forks_unseen=True)
    ended = _state(pod, MODEL, "terminated")
    reason, why = _reason(pod), _told(pod)
    code = ended.get("exitCode") if ended is not None else None
    oom_killed = ended is not None and ended.get("reason") == "OOMKilled"
    if reason == "Evicted" and _OWN_LIMIT.search(why):
        return Ending(exit_code=code, killed_for=KillReason.DISK, why=why, forks_unseen=True)
    if (exceeded := exceeded_of(pod)) is not None:
        return Ending(exit_code=code, oom_killed=oom_killed, killed_for=exceeded, forks_unseen=True)
    if reason == "DeadlineExceeded":
        # Far behind the supervisor's own deadline: it could not end it.
        return Ending(exit_code=None, killed_for=KillReason.DEADLINE, why=why, forks_unseen=True)
    if killed:
        lost = Interruption.NODE_LOST if code is None and node_is_lost(pod) else None
        return Ending(exit_code=code, oom_killed=oom_killed, interrupted=lost, forks_unseen=True)
    interrupted = None
    if code != 0 and not oom_killed:
        interrupted, told = _interruption(pod, ended, is_gone)
        why = why or told
    return Ending(exit_code=code, oom_killed=oom_killed, interrupted=interrupted, why=why, forks_unseen=True)


def _interruption(pod: Json, ended: Json | None, is_gone: bool) -> tuple[Interruption | None, str]:
    """Who came between a model and its own end, where it did not end well."""
    reason = _reason(pod)
    disruption = _condition(pod, "DisruptionTarget")
    if disruption.get("status") == "True":
        kind = _REASONS_OF_DISRUPTION.get(str(disruption.get("reason")), Interruption.EVICTED)
        return kind, short(disruption.get("message") or disruption.get("reason"))
    if ended is not None and ended.get("reason") == "ContainerStatusUnknown":
        return Interruption.NODE_LOST, short(ended.get("message"))
    if node_is_lost(pod):
        return Interruption.NODE_LOST, reason
    if reason in _EVICTED or reason.startswith(("OutOf", "Node")):
        return Interruption.EVICTED, reason
    # One that ended by itself, and was deleted then, has another end than 143 or 137.
    stopped = ended is None or ended.get("exitCode") in (137, 143)
    if stopped and (is_gone or (pod.get("metadata") or {}).get("deletionTimestamp")):
        return Interruption.DELETED, ""
    if ended is None and _phase(pod) == "Failed":
        return Interruption.EVICTED, reason
    return None, ""
