"""One sealed run from beginning to end: stage, prepare, start, watch, remove, audit, deliver.

The same for every backend. Whatever happens in between, an exception, Ctrl-C, a full disk, the backend's
``remove`` and the clearing of the staged folder are reached.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..core.errors import AutoScorerError, ErrorCode, Fault
from ..core.exposure import input_digest
from ..core.processes import ProcessIdentity
from ..core.provenance import current_flow_run, sha256_file, utc_now
from ..core.storage import no_room
from ..core.workspace import TABLE_SUFFIXES, Workspace, write_atomic
from ..schemas.job import Job
from ..schemas.result import Resources
from .base import Executor, Gpu, Image, KillReason, Observer, RunLimits, RunSpec, Staged, Watched
from .files import Audit, audit, measure, remove_tree
from .gpu.usage import GpuUse, watched_gpus
from .log import CappedLog
from .records import RunRecords
from .run_clock import RunClock
from .stage import clear, deliver, stage_run, staged_at
from .verdict import verdict

__all__ = ["RunReport", "new_run_id", "run_sealed"]

# How often the run is looked at: short at first, so that a quick model costs little, then calmer.
POLL_FIRST, POLL_MOST = 0.01, 0.1
# How long a kill may take before the engine itself counts as broken.
KILL_PATIENCE = 30.0
# The limits that are not held where something can't be watched, as a reader of the Result knows them.
UNWATCHED = {
    Watched.DELETED_FILES: "the disk that files take which it deletes and keeps open (resources.disk)",
    Watched.REFUSED_PROCESSES: "processes that it was refused",
    Watched.PROCESS_LIMIT: "the number of its processes (security.limits.pids)",
    Watched.OPEN_FILES: "the number of its open files (security.limits.nofile)",
    Watched.FILE_SIZE: "the size of each single file (resources.disk holds for all of them together)",
}
# A model that was refused this many processes is a fork bomb, not one that was unlucky once.
FORK_BOMB = 2000


# A Result of such a run says so: its number is worth what the model's honesty is.
UNSEALED = (
    "Run without isolation (backend process): the model had the rights of AutoScorer itself, and could read the ground "
    "truth. The backend docker seals it."
)


@dataclass
class RunReport:
    """What a run did. ``error`` is None when the model succeeded and its output was delivered."""

    run_id: str
    backend: str
    image: Image | None = None
    # uid and gid that the model ran as.
    owner: tuple[int, int] | None = None
    # Devices of this host that were the run's alone.
    gpus: tuple[Gpu, ...] = ()
    # Whether the model could not read where the workspace lies; None when nothing was staged.
    neutral_paths: bool | None = None
    resources: Resources = field(default_factory=Resources)
    # Of waiting for GPUs and for one of the places that executors.<backend>.concurrency gives; None without both.
    queue_seconds: float | None = None
    pull_seconds: float | None = None
    run_seconds: float | None = None
    input_sha256: str | None = None
    predictions_sha256: str | None = None
    # What could not be watched from where AutoScorer ran, so that those limits were not held.
    unwatched: list[str] = field(default_factory=list)
    error: AutoScorerError | None = None
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """What ``logs/run_info.json`` holds."""
        return {
            "run_id": self.run_id,
            "backend": self.backend,
            "image": asdict(self.image) if self.image else None,
            "uid": self.owner[0] if self.owner else None,
            "gid": self.owner[1] if self.owner else None,
            "gpus": [{"uuid": gpu.uuid, "type": gpu.type, "memory": gpu.memory} for gpu in self.gpus],
            "neutral_paths": self.neutral_paths,
            "resources": self.resources.model_dump(mode="json"),
            "queue_seconds": self.queue_seconds,
            "pull_seconds": self.pull_seconds,
            "run_seconds": self.run_seconds,
            "input_sha256": self.input_sha256,
            "predictions_sha256": self.predictions_sha256,
            "unwatched": self.unwatched,
            "error": self.error.to_dict() if self.error else None,
            "notes": self.notes,
        }


def new_run_id() -> str:
    """A short id that no other run has."""
    return uuid.uuid4().hex[:12]


def run_sealed(
    executor: Executor,
    workspace: Workspace,
    job: Job,
    limits: RunLimits,
    *,
    records: RunRecords,
    observer: Observer,
    cancelled: Callable[[], bool] = lambda: False,
    labels: Mapping[str, str] | None = None,
    places: Mapping[str, str] | None = None,
    gpus: tuple[Gpu, ...] = (),
    queue_seconds: float | None = None,
) -> RunReport:
    """Run a workspace's model and deliver what it wrote.

    The caller holds the workspace's lock.

    Args:
        executor: A fresh backend.
        workspace: The workspace.
        job: Its meta.json.
        limits: What the run may use.
        records: Where this run is noted, so that it can be reaped if this process dies.
        observer: Who watches.
        cancelled: Asked again and again; True ends the run.
        labels: Laid on the container.
        places: As in ``RunSpec``.
        gpus: The same.
        queue_seconds: How long the caller waited before this, for the report.

    Returns:
        The report; a failure of the submission is in its ``error``, not raised. ``logs/run_info.json`` holds
        it too.

    Raises:
        AutoScorerError: What is not the submission's fault (``BACKEND_UNAVAILABLE``, ``IMAGE_PULL_FAILED``).
    """
    run_id = new_run_id()
    spec = RunSpec(
        run_id=run_id,
        workspace=workspace,
        job=job,
        limits=limits,
        network=job.network_policy,
        labels={**(labels or {}), "owner": ProcessIdentity.current().text},
        places=places or {},
        gpus=gpus,
        cancelled=cancelled,
    )
    report = RunReport(run_id, executor.name, gpus=gpus, queue_seconds=queue_seconds)
    if not executor.sealed:
        report.notes.append(UNSEALED)
    staged: Staged | None = None
    removed = False
    began = utc_now()
    workspace.logs.mkdir(exist_ok=True)
    roots = executor.stage_roots(workspace)
    outside = [*(staged_at(root, run_id) for root in roots), *executor.leaves(run_id)]
    record = records.add(run_id, workspace, executor.name, outside)
    try:
        with CappedLog(workspace.logs / "container.log", limits.log, observer.log, observer.left_out) as log:
            try:
                started = time.monotonic()
                report.image = executor.prepare(spec, observer)
                report.pull_seconds = time.monotonic() - started
                _need_room(workspace, limits)
                report.owner = executor.owner()
                # Where the model is elsewhere, this process alone reads and writes what is staged.
                here = (os.geteuid(), os.getegid()) if executor.remote else report.owner
                staged = stage_run(spec, here, roots)
                report.neutral_paths = staged.neutral or executor.remote
                record = records.begin(record, limits.timeout + executor.start_patience)
                observer.stage("run", report.image.reference)
                with ThreadPoolExecutor(1, "autoscorer-digest") as pool:
                    # The data is hashed while the model runs, so that it costs a long run nothing.
                    digest = pool.submit(input_digest, workspace)
                    with watched_gpus(gpus) as gpu_use:
                        _watch(executor, spec, report, staged, log, cancelled)
                report.input_sha256 = digest.result()
                _of_gpus(report, gpu_use)
            finally:
                executor.remove()
                removed = True
        if report.error is None:
            observer.stage("collect")
            report.error = _collect(staged, limits, report)
        if report.error is not None:
            # A failed run leaves no predictions behind: old ones would be scored as if they were this run's.
            _empty(staged)
        deliver(staged, workspace)
    except AutoScorerError as error:
        report.error = error
        if error.spec.fault.exit_code != 1:
            raise
        if staged is not None:  # it could not be started, or was cancelled
            _empty(staged)
            deliver(staged, workspace)
    finally:
        if staged is not None:
            clear(staged)
        info = {**report.to_dict(), "began": began, "ended": utc_now(), "limits": asdict(limits)}
        info["flow_run_id"] = current_flow_run.get()
        write_atomic(workspace.logs / "run_info.json", json.dumps(info, indent=2).encode() + b"\n")
        if removed:
            record.remove()
        executor.close()
    return report


def _watch(
    executor: Executor,
    spec: RunSpec,
    report: RunReport,
    staged: Staged,
    log: CappedLog,
    cancelled: Callable[[], bool],
) -> None:
    limits = spec.limits
    assert report.image is not None
    asked = time.monotonic()
    executor.start(spec, report.image, staged, log.write)
    started = time.monotonic()
    if executor.remote:  # it is there that the image was got
        report.pull_seconds = (report.pull_seconds or 0) + started - asked
    killed_for: KillReason | None = None
    with RunClock() as clock:
        deadline = limits.timeout
        pause, next_measure, next_flush = POLL_FIRST, started, started
        while not executor.poll(max(min(pause, deadline - clock.elapsed()), 0)):
            pause = min(pause * 1.5, POLL_MOST)
            now = time.monotonic()
            late = clock.elapsed() >= deadline
            if killed_for is None:
                if late:
                    # It may have ended in time, and only the news of it be late.
                    if executor.has_ended():
                        break
                    killed_for = KillReason.DEADLINE
                elif cancelled():
                    killed_for = KillReason.CANCELLED
                elif executor.usage().forks_denied >= FORK_BOMB:
                    killed_for = KillReason.PROCESSES
                elif (exceeded := executor.exceeded()) is not None:
                    killed_for = exceeded
                elif now >= next_measure:
                    killed_for = _measure(executor, staged, limits)
                    # A tenth of the time at most goes into looking, however many files there are.
                    took = time.monotonic() - now
                    next_measure = now + max(pause, 10 * took)
                if killed_for is not None:
                    executor.kill()
                    deadline = clock.elapsed() + KILL_PATIENCE
            elif late:
                # Not our submission's fault any more: a kernel or an engine that can't end a process.
                raise AutoScorerError(
                    ErrorCode.BACKEND_UNAVAILABLE,
                    f"The {executor.name} backend could not end the run it was told to kill.",
                )
            if now >= next_flush:
                log.flush()
                next_flush = now + 1
        report.run_seconds = time.monotonic() - started
        if (stood_still := clock.stood_still) >= 1:
            report.notes.append(
                f"AutoScorer itself stood still for {stood_still:.0f} s while the model ran; they do not count against "
                "the model's timeout."
            )
    ending = executor.ending()
    usage = executor.usage()
    report.image = executor.ran(report.image)
    report.notes.extend(executor.notes())
    report.error = verdict(
        replace(
            ending,
            killed_for=killed_for or ending.killed_for,
            forks_denied=usage.forks_denied,
            log_tail=log.tail(),
        ),
        limits,
    )
    if report.error is None:
        try:
            executor.collect(staged, limits)
        except AutoScorerError as error:
            report.error = error
    executor.remove()
    report.resources = Resources(
        peak_memory_bytes=usage.peak_memory,
        cpu_seconds=usage.cpu_seconds,
        exit_code=ending.exit_code,
        backend=executor.name,
    )
    if unwatched := sorted(executor.unwatched()):
        report.unwatched = [str(what) for what in unwatched]
        report.notes.append(
            f"Not watched in this run, so not held: {'; '.join(UNWATCHED[what] for what in unwatched)}. "
            f"{executor.unwatched_why}"
        )
    if report.error is not None and report.error.spec.fault is Fault.SYSTEM:
        raise report.error
    if ending.oom_killed and report.error is None:
        report.notes.append(
            "The kernel ended a process of the model for memory; the model itself went on and succeeded."
        )


def _of_gpus(report: RunReport, use: GpuUse) -> None:
    report.resources = report.resources.model_copy(update=use.to_dict())
    report.notes.extend(use.notes)
    left = use.error()
    if left is None:
        return
    if report.error is None:
        raise left
    # The submission's own failure stands: a model that leaves its device in this state is not run again for it.
    report.notes.append(left.message)


def _measure(executor: Executor, staged: Staged, limits: RunLimits) -> KillReason | None:
    # Files that were deleted while open fill the disk as well, and no folder shows them.
    output = executor.output_in_use(staged)
    hidden = executor.hidden_bytes(os.stat(output).st_dev)
    # The last line of defence, whatever hides where: the host keeps some room.
    if _free(output) < limits.free_disk:
        return KillReason.DISK
    if executor.hides():
        return KillReason.HIDING
    return measure(output, limits, hidden)


def _need_room(workspace: Workspace, limits: RunLimits) -> None:
    if (free := _free(workspace.root)) < limits.free_disk:
        raise no_room(free, limits.free_disk)


def _free(path: Path) -> int:
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def _collect(staged: Staged, limits: RunLimits, report: RunReport) -> AutoScorerError | None:
    try:
        found: Audit = audit(staged.output, limits)
    except AutoScorerError as error:
        return error
    report.resources = report.resources.model_copy(update={"output_bytes": found.size, "output_files": found.files})
    predictions = [staged.output / f"pred{suffix}" for suffix in TABLE_SUFFIXES]
    present = [path for path in predictions if path.is_file()]
    if len(present) == 1:
        report.predictions_sha256 = sha256_file(present[0]).hex()
    report.notes.extend(found.notes)
    return None


def _empty(staged: Staged) -> None:
    remove_tree(staged.output)
    staged.output.mkdir()
