"""The Job of one run: made once, looked at, and gone with its pod at the end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ...core.errors import AutoScorerError, ErrorCode
from ..base import RunSpec
from .api import PATIENCE
from .errors import ApiError, short, unavailable
from .names import (
    INPUT,
    KEEPER,
    LABEL,
    carried,
    job_name,
    job_path,
    jobs_path,
    pod_path,
    pods_path,
    was_refused_for_quota,
)
from .outcome import container, has_stopped, is_running, is_waiting, node_is_lost, refused_for_good
from .session import Session

__all__ = ["RunJob", "delete_job", "delete_pod", "pods_of"]

# Seconds after which a cluster that has made no pod is asked why; then twice as long, and so on.
NO_POD = 4.0
# Seconds for a pod to go that was deleted, and between two looks beside the watch's.
REMOVAL, LOOK = 60.0, 10.0
# Seconds for the helper to end by itself once it may.
GENTLY = 5.0
# Seconds for a pod that has ended to go by itself.
FORGET_AFTER = 2.0


class RunJob:
    """One Job, and the pod that it makes.

    Args:
        session: The cluster.
        spec: The run.
        start_timeout: Seconds for which a quota may refuse it.
    """

    def __init__(self, session: Session, spec: RunSpec, start_timeout: float) -> None:
        self._session, self._spec = session, spec
        self.api, self.namespace = session.api, session.namespace
        self._start_timeout = start_timeout
        self.name = job_name(spec.run_id)
        self.tracked = session.watch.track(spec.run_id)
        self._may_exist = self._is_deleted = False
        self._uid: str | None = None
        self._ask_next, self._asked_every = time.monotonic() + NO_POD, NO_POD
        self.last_pull_error = ""

    @property
    def pod_name(self) -> str | None:
        pod = self.tracked.pod
        return str(pod["metadata"]["name"]) if pod is not None else None

    @property
    def has_input(self) -> bool:
        """Whether the container that takes the input has all of it, and has ended well."""
        pod = self.tracked.pod
        ended = ((container(pod, INPUT).get("state") or {}).get("terminated") or {}) if pod is not None else {}
        return bool(ended.get("exitCode") == 0)

    @property
    def has_keeper(self) -> bool:
        """Whether the container that holds the output runs."""
        return self.tracked.pod is not None and is_running(self.tracked.pod, KEEPER)

    def await_keeper(self, seconds: float) -> bool:
        """Wait for that container to be started, where the news of the model's end came first; whether it runs."""
        self._await(lambda: self._is_gone() or not is_waiting(self.tracked.pod or {}, KEEPER), seconds)
        return self.has_keeper and not self._is_gone()

    def is_cancelled(self) -> bool:
        return self._spec.cancelled()

    def create(self, body: Mapping[str, Any]) -> None:
        """Make it. One that is there already is ours: the answer to an earlier attempt was lost.

        Raises:
            AutoScorerError: ``BACKEND_UNAVAILABLE``, ``CANCELLED``.
        """
        end = time.monotonic() + self._start_timeout
        self._may_exist = True
        while True:
            self.refuse_cancelled()
            try:
                made = self.api.request(
                    "POST",
                    jobs_path(self.namespace),
                    "create the model's Job",
                    body=body,
                    cancelled=self._spec.cancelled,
                )
                self._uid = made["metadata"]["uid"]
                return
            except ApiError as error:
                if error.status == 409:
                    self._take_over(error)
                    return
                if not was_refused_for_quota(error) or time.monotonic() > end:
                    raise
            time.sleep(1)  # others may end meanwhile

    def _take_over(self, error: ApiError) -> None:
        found = self.api.get(job_path(self.namespace, self.name), "look at the model's Job")
        if carried(found).get("owner") != self._spec.labels.get("owner"):
            self._may_exist = False  # and so it is not removed
            raise unavailable(f"There is a Job {self.name} in the cluster that is not this run's.") from error
        self._uid = found["metadata"]["uid"]

    # --- looking ---

    def refuse_cancelled(self) -> None:
        """Raise ``CANCELLED`` where somebody wants the run to end."""
        if self._spec.cancelled():
            raise AutoScorerError(ErrorCode.CANCELLED, "The run was cancelled.")

    def refuse_absence(self) -> None:
        """Raise ``BACKEND_UNAVAILABLE`` where the API server has been away for longer than a run waits for it."""
        watch = self._session.watch
        since, problem = watch.away_since, watch.problem
        if since is not None and problem is not None:
            if not problem.is_passing:
                raise problem
            if time.monotonic() - since > PATIENCE:
                raise problem

    def refuse_no_pod(self) -> None:
        """Raise ``BACKEND_UNAVAILABLE`` where the cluster will never make a pod; asked now and then alone."""
        if time.monotonic() < self._ask_next:
            return
        why = refused_for_good(self.events())
        if why:
            raise unavailable(f"The cluster refuses the model's pod: {why}.", reason=why)
        self._asked_every *= 2
        self._ask_next = time.monotonic() + self._asked_every

    def events(self, *, of_pod: bool = False) -> list[dict[str, Any]]:
        """What the cluster noted of the Job, or of its pod; nothing where it can't be asked."""
        pod = self.tracked.pod
        uid = self._uid if not of_pod else pod["metadata"]["uid"] if pod is not None else None
        if uid is None:
            return []
        query: dict[str, str | int] = {"fieldSelector": f"involvedObject.uid={uid}", "limit": 100}
        try:
            found = self.api.get(
                f"/api/v1/namespaces/{self.namespace}/events", "read the events of the run", query=query, patience=5
            )
        except AutoScorerError:
            return []
        return list(found.get("items") or ())

    def pull_error(self, pod: Mapping[str, Any]) -> str:
        """What the node said last of an image that it could not pull.

        While it waits for its next attempt the pod's status says just that, and the events say the rest.
        """
        statuses = pod.get("status") or {}
        for each in (*(statuses.get("initContainerStatuses") or ()), *(statuses.get("containerStatuses") or ())):
            waiting = (each.get("state") or {}).get("waiting") or {}
            if waiting.get("reason") == "ErrImagePull":
                self.last_pull_error = short(waiting.get("message"))
            elif waiting.get("reason") == "ImagePullBackOff" and not self.last_pull_error:
                failed = [str(event.get("message")) for event in self.events(of_pod=True)]
                told = [text for text in failed if "pull" in text and "Back-off" not in text and "rror" in text]
                self.last_pull_error = short(told[-1] if told else waiting.get("message"))
        return self.last_pull_error

    def look(self, patience: float) -> None:
        """Ask the API server itself how the pod is.

        Raises:
            ApiError: It does not answer.
        """
        if self.pod_name is None:
            return
        try:
            pod = self.api.get(pod_path(self.namespace, self.pod_name), "look at the model's pod", patience=patience)
        except ApiError as error:
            if error.status != 404:
                raise
            self.tracked.take(None)
        else:
            self.tracked.take(pod)

    # --- the end ---

    def delete(self) -> None:
        """Delete the Job, and so its pod; one that is gone is fine.

        Raises:
            AutoScorerError: ``BACKEND_UNAVAILABLE``.
        """
        if self._may_exist and not self._is_deleted:
            delete_job(self._session, self.name)
            self._is_deleted = True

    def remove(self, *, gently: bool) -> None:
        """Delete the Job, and wait until its pod is gone.

        Args:
            gently: Whether the pod is about to end by itself; one that has ended goes at once.

        Raises:
            AutoScorerError: ``BACKEND_UNAVAILABLE``.
        """
        if not self._may_exist:
            return
        if gently:
            self._await(lambda: self._is_gone() or has_stopped(self.tracked.pod or {}), GENTLY)
        self.delete()
        if self.tracked.pod is None:
            # It may have been made a moment before.
            for pod in pods_of(self._session, f"{LABEL}run={self._spec.run_id}"):
                self.tracked.take(pod)
        began = time.monotonic()
        if not self._await(self._is_gone, FORGET_AFTER) and has_stopped(self.tracked.pod or {}):
            # Every process of it has ended, and some kubelets take ten more seconds to let go of what is left.
            delete_pod(self._session, str(self.pod_name), now=True)
        while not self._is_gone() and time.monotonic() - began < self._patience():
            if not self._await(self._is_gone, LOOK):
                self.look(PATIENCE)
        if not self._is_gone():
            # A node that does not answer: the cluster forgets the pod, and the node ends it when it comes back.
            delete_pod(self._session, str(self.pod_name), now=True)
            self.tracked.take(None)
        self._may_exist = False

    def forget(self) -> None:
        """Let go of what was shared for this run."""
        self._session.watch.untrack(self._spec.run_id)
        self._session.metrics.untrack(self._spec.run_id)

    def _patience(self) -> float:
        """Seconds to wait for the pod to go: a node that is not heard of will not say so."""
        return LOOK if self.tracked.pod is not None and node_is_lost(self.tracked.pod) else REMOVAL

    def _is_gone(self) -> bool:
        return self.tracked.pod is None or self.tracked.is_gone

    def _await(self, condition: Any, seconds: float) -> bool:
        end = time.monotonic() + seconds
        seen = 0
        while not condition():
            left = end - time.monotonic()
            if left <= 0:
                return False
            seen = self.tracked.wait(seen, left)
        return True


def delete_job(session: Session, name: str) -> None:
    """Delete a Job with its pods; one that is gone is fine.

    Raises:
        AutoScorerError: ``BACKEND_UNAVAILABLE``.
    """
    # Without a policy the pod of a Job would stay.
    body = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
    try:
        session.api.request("DELETE", job_path(session.namespace, name), "delete the model's Job", body=body)
    except ApiError as error:
        if error.status != 404:
            raise


def delete_pod(session: Session, name: str, *, now: bool) -> None:
    """Delete a pod; one that is gone is fine.

    Args:
        session: The cluster.
        name: The pod's.
        now: Whether the cluster forgets it without hearing from its node.

    Raises:
        AutoScorerError: ``BACKEND_UNAVAILABLE``.
    """
    body = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0 if now else 1}
    try:
        session.api.request("DELETE", pod_path(session.namespace, name), "delete the model's pod", body=body)
    except ApiError as error:
        if error.status != 404:
            raise


def pods_of(session: Session, selector: str) -> list[dict[str, Any]]:
    """The pods that carry labels.

    Raises:
        AutoScorerError: ``BACKEND_UNAVAILABLE``.
    """
    query: dict[str, str | int] = {"labelSelector": selector}
    return list(session.api.get(pods_path(session.namespace), "list the pods", query=query).get("items") or ())
