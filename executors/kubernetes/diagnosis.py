"""What ``autoscorer doctor`` asks of a cluster: rights, the namespace, and whether its pods really have no network."""

from __future__ import annotations

import contextlib
import random
import time
import uuid
from enum import StrEnum
from typing import Any

from ...core.config import Settings
from ...core.errors import AutoScorerError
from ..docker.container_config import NAME
from .api import PATIENCE_BEFORE, KubernetesApi
from .errors import ApiError, unavailable
from .job import delete_job, pods_of
from .manifest import probe_manifest
from .names import INPUT, LABEL, jobs_path
from .outcome import cannot_start, container, never_started
from .rights import Right, needed_rights
from .session import Session, open_session

__all__ = ["Network", "missing_rights", "namespace_is_missing", "probe_network"]

# Seconds for a probe's pod to end.
PROBE = 120.0
_REACHES = 7

# LISTEN PORT: listens, and tries itself, so that what another pod can't reach is there.
_LISTEN = """
command -v nc >/dev/null || exit 8
(while :; do echo autoscorer | nc -l -p "$1"; done) &
sleep 1
nc -w 2 127.0.0.1 "$1" </dev/null | grep -q autoscorer || exit 9
sleep 90
"""
# CONNECT ADDRESS PORT: tries the other pod, and the API server, whose address every container is told.
_CONNECT = """
command -v nc >/dev/null || exit 8
for try in 1 2 3; do
  if nc -w 3 "$1" "$2" </dev/null | grep -q autoscorer; then exit 7; fi
done
if nc -w 3 "$KUBERNETES_SERVICE_HOST" "$KUBERNETES_SERVICE_PORT" </dev/null >/dev/null 2>&1; then exit 7; fi
exit 0
"""


class Network(StrEnum):
    """What a pod of the namespace reached of another one, and of the API server."""

    CLOSED = "closed"
    OPEN = "open"
    UNKNOWN = "unknown"


def missing_rights(settings: Settings) -> list[Right]:
    """The rights that runs need and this account does not have.

    Raises:
        AutoScorerError: ``BACKEND_UNAVAILABLE``.
    """
    session = open_session(settings)
    return [right for right in needed_rights(settings.executors.kubernetes) if not _may(session, right)]


def _may(session: Session, right: Right) -> bool:
    asked = {"namespace": session.namespace, "verb": right.verb, "group": right.group, "resource": right.resource}
    if right.subresource:
        asked["subresource"] = right.subresource
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": asked},
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    answer = session.api.request("POST", path, "ask what this account may do", body=body, patience=PATIENCE_BEFORE)
    return bool((answer.get("status") or {}).get("allowed"))


def namespace_is_missing(settings: Settings) -> bool:
    """Whether the namespace of the runs is certainly not there; most accounts may not know.

    Raises:
        AutoScorerError: ``BACKEND_UNAVAILABLE``.
    """
    session = open_session(settings)
    try:
        session.api.get(f"/api/v1/namespaces/{session.namespace}", "look for the namespace", patience=PATIENCE_BEFORE)
    except ApiError as error:
        if error.status not in (403, 404):
            raise
        return error.status == 404
    return False


def probe_network(settings: Settings) -> Network:
    """Let one pod of the runs' namespace try to reach another one, which a NetworkPolicy has to prevent.

    Args:
        settings: The configuration; ``helper_image`` is set, and has ``nc`` as busybox does.

    Raises:
        AutoScorerError: ``BACKEND_UNAVAILABLE`` where the pods do not run.
    """
    session = open_session(settings)
    key = uuid.uuid4().hex[:12]
    names = [f"{NAME}{key}", f"{NAME}{key}b"]
    try:
        port = str(random.randint(20_000, 30_000))  # noqa: S311 - no secret
        listener = _Probe(session, settings, names[0], _LISTEN, port)
        address = listener.address()
        time.sleep(2.5)
        if listener.exit_code() is not None:
            return Network.UNKNOWN
        code = _Probe(session, settings, names[1], _CONNECT, address, port).wait()
        if code == _REACHES:
            return Network.OPEN
        # What listened has to be there yet, or nothing was tried.
        return Network.CLOSED if code == 0 and listener.exit_code() is None else Network.UNKNOWN
    finally:
        for name in names:
            with contextlib.suppress(AutoScorerError):
                delete_job(session, name)


class _Probe:
    def __init__(self, session: Session, settings: Settings, name: str, script: str, *arguments: str) -> None:
        self._session, self._timeout = session, settings.executors.kubernetes.start_timeout
        self._selector = f"{LABEL}run={name.removeprefix(NAME)}"
        self._api: KubernetesApi = session.api
        body = probe_manifest(name, settings, script, arguments)
        self._api.request("POST", jobs_path(session.namespace), "create a probe", body=body, patience=PATIENCE_BEFORE)

    def address(self) -> str:
        """Of its pod, once its container runs."""
        pod = self._until(
            lambda pod: bool(pod["status"].get("podIP") and (container(pod, INPUT).get("state") or {}).get("running"))
        )
        return str(pod["status"].get("podIP") or "")

    def wait(self) -> int | None:
        """How its container ended."""
        self._until(lambda pod: bool((container(pod, INPUT).get("state") or {}).get("terminated")))
        return self.exit_code()

    def exit_code(self) -> int | None:
        """None while it runs."""
        for pod in pods_of(self._session, self._selector):
            ended = (container(pod, INPUT).get("state") or {}).get("terminated")
            if ended is not None:
                return int(ended.get("exitCode", -1))
        return None

    def _until(self, condition: Any) -> dict[str, Any]:
        end = time.monotonic() + min(PROBE, self._timeout)
        pod: dict[str, Any] | None = None
        while time.monotonic() < end:
            for pod in pods_of(self._session, self._selector):
                ended = (container(pod, INPUT).get("state") or {}).get("terminated") or {}
                if condition(pod) or ended:
                    return pod
                if (error := cannot_start(pod)) is not None:
                    raise error
            time.sleep(0.5)
        if pod is None:
            raise unavailable("The cluster made no pod for a probe.")
        raise never_started(pod, [], [], min(PROBE, self._timeout))
