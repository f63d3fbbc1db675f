"""The Kubernetes backend: one sealed Job a run, spoken to through the API server."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode
from ..base import (
    Ending,
    Executor,
    Image,
    KillReason,
    Observer,
    RunLimits,
    RunSpec,
    SilentObserver,
    Staged,
    Usage,
    Watched,
)
from ..docker.container_config import GRACE
from ..files import too_much
from ..uids import DEFAULT_RANGE
from .api import PATIENCE
from .errors import ApiError, short, unavailable
from .images import image_of
from .job import RunJob
from .log import LogFollower
from .manifest import TRANSFER_ROOM, Seal, job_manifest
from .names import INPUT, MODEL
from .outcome import (
    cannot_start,
    container,
    ending_of,
    exceeded_of,
    has_ended,
    image_digest,
    is_running,
    is_the_images_fault,
    never_started,
    node_is_lost,
    unstartable,
)
from .pack import PackedInput
from .session import Session, open_session
from .transfer import PodFiles
from .volume import VolumeFolder

__all__ = ["NO_HELPER", "KubernetesExecutor"]

# Of a pod with a user namespace of its own, whose uids are nobody else's on the node.
NOBODY = (65534, 65534)
# Seconds for the keeper to be started, where the model has ended before it.
KEEPER_STARTS = 30.0
# Seconds for the news of who ended a model's container, which comes apart from the news that it was ended.
BEHIND_THE_END = 2.0

NO_HELPER = (
    "executors.kubernetes.helper_image is not set. Without a volume that both sides see, files travel through the API "
    "server and through two small containers beside the model; name an image for them that the nodes can pull and that "
    "has busybox in it, or set executors.kubernetes.transfer to volume."
)


class KubernetesExecutor(Executor):
    """Runs one model in one pod of one Job."""

    name = "kubernetes"
    remote = True
    unwatched_why = (
        "Kubernetes has no such limit for a pod: set podPidsLimit on the nodes, and limits of the container runtime."
    )

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._configured = settings.executors.kubernetes
        self.start_patience = self._configured.start_timeout + TRANSFER_ROOM
        self._observer: Observer = SilentObserver()
        self._spec: RunSpec | None = None
        self._job: RunJob | None = None
        self._log: LogFollower | None = None
        self._folder: VolumeFolder | None = None
        self._killed = self._was_collected = False
        self._seen = 0

    @property
    def _session(self) -> Session:
        return open_session(self._settings)

    def check(self) -> str:
        if not self._settings.executors.uses_kubernetes:
            raise unavailable(
                "The backend kubernetes is not set up here: set executors.kubernetes.helper_image (or volume), or "
                "executors.kubernetes.enabled, in the configuration."
            )
        if self._configured.transfer == "stream" and self._configured.helper_image is None:
            raise unavailable(NO_HELPER)
        return self._described(self._session.version())

    def ask(self) -> str:
        """As ``check``, of a server that answers at this moment: runs of a process ask it once.

        Raises:
            AutoScorerError: ``BACKEND_UNAVAILABLE``.
        """
        self.check()
        return self._described(self._session.version(again=True))

    def _described(self, version: str) -> str:
        return f"Kubernetes {version}, namespace {self._configured.namespace}"

    def prepare(self, spec: RunSpec, observer: Observer) -> Image:
        self._spec, self._observer = spec, observer
        return image_of(spec.workspace, spec.job, self._settings)

    def owner(self) -> tuple[int, int]:
        if self._configured.user is not None:
            uid, gid = (int(part) for part in self._configured.user.split(":"))
            return uid, gid
        if self._configured.transfer == "volume" and os.geteuid() != 0:
            # Nobody but root can give the folder away, and take what was left in it.
            return os.geteuid(), os.getegid()
        if self._session.own_users(self._configured):
            return NOBODY
        assert self._spec is not None
        number = int.from_bytes(hashlib.sha256(self._spec.run_id.encode()).digest()[:4], "big")
        uid = DEFAULT_RANGE[number % len(DEFAULT_RANGE)]
        return uid, uid

    def leaves(self, run_id: str) -> tuple[Path, ...]:
        volume = self._configured.volume.path
        return (VolumeFolder(volume, run_id).folder,) if self._configured.transfer == "volume" and volume else ()

    def start(self, spec: RunSpec, image: Image, staged: Staged, on_log: Callable[[bytes], None]) -> None:
        self._spec = spec
        session, configured = self._session, self._configured
        uid, gid = self.owner()
        packed = None
        if configured.transfer == "stream":
            packed = PackedInput(staged)
        else:
            assert configured.volume.path is not None
            self._folder = VolumeFolder(configured.volume.path, spec.run_id)
            self._folder.fill(staged, (uid, gid))
        deadline = int(time.time() + self.start_patience + spec.limits.timeout + GRACE)
        seal = Seal(
            image=image.id,
            uid=uid,
            gid=gid,
            own_users=session.own_users(configured),
            input_size=packed.size if packed is not None else 0,
            deadline=deadline,
            told={
                "run": spec.run_id,
                "deadline": str(deadline),
                "workspace": spec.workspace.name,
                "uid": str(uid),
                "network": spec.network,
                "process": session.process,
                **spec.labels,
            },
        )
        self._job = RunJob(session, spec, configured.start_timeout)
        self._observer.stage("wait", "for the cluster to start the model")
        self._job.create(job_manifest(spec, seal, self._settings))
        self._await_start(self._job, packed)
        self._observer.stage("run", image.reference)
        session.metrics.track(spec.run_id)
        if self._job.pod_name is not None:
            self._log = LogFollower(session.api, session.namespace, self._job.pod_name, on_log)

    def _await_start(self, job: RunJob, packed: PackedInput | None) -> None:
        """Wait until the model runs, or has ended; send the input as soon as it is waited for.

        Raises:
            AutoScorerError: It will not start, or did not in time; ``CANCELLED``.
        """
        end = time.monotonic() + self._configured.start_timeout
        seen = 0
        while True:
            seen = job.tracked.wait(seen, 0.5)
            job.refuse_cancelled()
            job.refuse_absence()
            pod = job.tracked.pod
            if pod is None:
                job.refuse_no_pod()
            else:
                error = cannot_start(pod, job.pull_error(pod))
                if error is not None:
                    raise error
                if job.tracked.is_gone or has_ended(pod):
                    self._refuse_unstarted()
                    return
                if packed is not None and is_running(pod, INPUT):
                    PodFiles(job.api, job.namespace, str(job.pod_name), job.is_cancelled).send(
                        packed, lambda: job.has_input
                    )
                    packed = None
                if is_running(pod, MODEL):
                    return
            if time.monotonic() > end:
                raise never_started(
                    pod, job.events(), job.events(of_pod=True), self._configured.start_timeout, job.last_pull_error
                )

    def _refuse_unstarted(self) -> None:
        """Refuse a container that its runtime could not start, which ends as if it had run."""
        assert self._job is not None and self._job.tracked.pod is not None
        ended = (container(self._job.tracked.pod, MODEL).get("state") or {}).get("terminated") or {}
        if ended.get("reason") not in ("StartError", "ContainerCannotRun"):
            return
        said = " ".join(str(ended.get("message") or ended["reason"]).split())
        if is_the_images_fault(said):
            raise unstartable(said)
        raise unavailable(f"The node can't start the model's container: {short(said)}.")

    def ran(self, image: Image) -> Image:
        pod = self._job.tracked.pod if self._job is not None else None
        digest = image_digest(pod) if pod is not None else None
        return replace(image, digest=digest) if digest is not None else image

    def output_in_use(self, staged: Staged) -> Path:
        return self._folder.output if self._folder is not None else staged.output

    def exceeded(self) -> KillReason | None:
        pod = self._job.tracked.pod if self._job is not None else None
        return exceeded_of(pod) if pod is not None else None

    def unwatched(self) -> frozenset[Watched]:
        return frozenset(Watched)

    def notes(self) -> list[str]:
        seccomp = (
            f"the node's seccomp profile {self._configured.seccomp_profile}"
            if self._configured.seccomp_profile
            else "the container runtime's default seccomp profile (RuntimeDefault)"
        )
        return [
            f"Run in Kubernetes, with {seccomp}. That the pod has no network is for the NetworkPolicy of the namespace "
            f"{self._configured.namespace} to hold (`autoscorer doctor --probe` tries)."
        ]

    def poll(self, seconds: float) -> bool:
        assert self._job is not None
        if not self._is_over():
            self._seen = self._job.tracked.wait(self._seen, seconds)
            self._job.refuse_absence()
        return self._is_over()

    def _is_over(self) -> bool:
        assert self._job is not None
        tracked = self._job.tracked
        if tracked.pod is None:
            return self._killed
        if tracked.is_gone or has_ended(tracked.pod):
            return True
        # What a node does that nobody hears of is not waited for.
        return self._killed and node_is_lost(tracked.pod)

    def has_ended(self) -> bool:
        assert self._job is not None
        try:
            self._job.look(PATIENCE)
        except ApiError:
            return False  # the server stays away: nobody knows
        return self._is_over()

    def usage(self) -> Usage:
        return Usage(peak_memory=self._session.metrics.peak(self._spec.run_id) if self._spec is not None else None)

    def kill(self) -> None:
        if self._job is not None:
            self._killed = True
            self._job.delete()

    def ending(self) -> Ending:
        assert self._job is not None
        job = self._job
        if not self._killed:
            self._await_news(job)
        if self._log is not None:
            self._log.finish(is_there=not job.tracked.is_gone)
        ending = ending_of(job.tracked.pod, is_gone=job.tracked.is_gone, killed=self._killed)
        if ending.exit_code is None and job.tracked.pod is None and not self._killed:
            raise unavailable("The model's pod was never seen, and is gone.")
        return ending

    def _await_news(self, job: RunJob) -> None:
        """Wait for who ended a model that was ended by a signal."""
        end = time.monotonic() + BEHIND_THE_END
        seen = 0
        while (pod := job.tracked.pod) is not None and not job.tracked.is_gone and time.monotonic() < end:
            ending = ending_of(pod, is_gone=False, killed=False)
            if ending.exit_code not in (137, 143) or ending.interrupted or ending.oom_killed or ending.killed_for:
                return
            seen = job.tracked.wait(seen, 0.2)

    def collect(self, staged: Staged, limits: RunLimits) -> None:
        assert self._job is not None
        if self._folder is not None:
            self._job.remove(gently=False)  # first, so that nothing changes it any more
            self._folder.bring(staged, limits)
            return
        job = self._job
        try:
            if not job.await_keeper(KEEPER_STARTS):
                raise unavailable(
                    "The container that held the model's output has ended, and the output with it. Run it again."
                )
            PodFiles(job.api, job.namespace, str(job.pod_name), job.is_cancelled).bring(staged, limits)
        except AutoScorerError as error:
            if error.code is ErrorCode.BACKEND_UNAVAILABLE and (exceeded := self._exceeded_after_all()) is not None:
                raise too_much(str(exceeded), "more than it may") from error
            raise
        self._was_collected = True

    def _exceeded_after_all(self) -> KillReason | None:
        """Whether the keeper ended for what it saw, which the cluster says a moment after it has ended."""
        assert self._job is not None
        end, seen = time.monotonic() + BEHIND_THE_END, 0
        while (found := self.exceeded()) is None and self._job.has_keeper and time.monotonic() < end:
            seen = self._job.tracked.wait(seen, 0.2)
        return found

    def remove(self) -> None:
        if self._log is not None:
            self._log.close()
        if self._job is not None:
            self._job.remove(gently=self._was_collected)
        if self._folder is not None:
            self._folder.remove()

    def close(self) -> None:
        if self._job is not None:
            self._job.forget()
            self._job = None
        if self._log is not None:
            self._log.close()
            self._log = None
