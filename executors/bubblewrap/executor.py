"""The bubblewrap backend: one model in namespaces of its own, without an engine."""

from __future__ import annotations

import contextlib
import math
import os
import re
import resource
import sys
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode
from ...core.workspace import Workspace
from ..base import (
    CONTAINER_ROOT,
    Ending,
    Executor,
    Image,
    KillReason,
    Observer,
    RunSpec,
    Staged,
    Usage,
    Watched,
)
from ..cgroup import PROC
from ..deleted_files import DeletedFiles
from ..gpu.binds import device_binds
from ..images.mounts import mount_points
from ..images.policy import archive_of, sandbox_source
from ..images.registry import RegistryImages
from ..images.unpacked import ImageStore, UnpackedImage
from ..seccomp import seccomp_program
from ..stage import no_such_folder, stage_code, usual_stage_roots
from ..uids import DEFAULT_RANGE, UidLease, can_give, lease_uid
from .command import Bubblewrap, find_bubblewrap, unavailable
from .group import RunGroup
from .root import Root, environment_of, host_root
from .sandbox import Plan, Sandbox, memory_file
from .seal import needed_mount_points, seal, system
from .watch import TreeWatch

__all__ = ["BubblewrapExecutor", "limits_held"]

NOBODY = (65534, 65534)
_GROUP_HELD = "Limits were held by control groups."
_WATCH_HELD = (
    "Limits were held by rlimits and by looking at the model's processes again and again, because this user can't make "
    "control groups: memory is counted some fifty times a second, and the CPU share is a number of whole CPUs."
)
# Of what bubblewrap says when there is no such program, or it may not be run.
_NO_PROGRAM = re.compile(r"^bwrap: execvp .*: (No such file or directory|Not a directory)$", re.MULTILINE)
_NO_EXECUTABLE = re.compile(r"^bwrap: execvp .*: (Permission denied|Exec format error|Is a directory)$", re.MULTILINE)
# Commands that were probed, in this process: what the kernel allows does not change under a run.
_proven: set[str] = set()


class BubblewrapExecutor(Executor):
    """Runs one model in one sandbox."""

    name = "bubblewrap"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lease: UidLease | None = None
        self._held = contextlib.ExitStack()
        self._root: Root | None = None
        self._sandbox: Sandbox | None = None
        self._group: RunGroup | None = None
        self._watch: TreeWatch | None = None
        self._deleted: DeletedFiles | None = None
        self._meta: int | None = None
        self._usage = Usage()
        self._notes: list[str] = []

    def check(self) -> str:
        found = find_bubblewrap(self._settings)
        if seccomp_program() is None:
            raise unavailable("There is no seccomp program for this kind of processor.")
        user = "own user" if os.geteuid() else "a user of each model's own"
        if str(found.path) not in _proven:
            self._prove(found)
            _proven.add(str(found.path))
        return f"bubblewrap {found.version} at {found.path}, {user}"

    def _prove(self, found: Bubblewrap) -> None:
        """Have it seal a program that does nothing."""
        program, info = memory_file(seccomp_program() or b""), os.pipe()
        mounts, root = _Mounts(found), host_root(())
        options = ["--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--clearenv"]
        options += ["--seccomp", str(program), "--info-fd", str(info[1]), "--tmpfs", "/", *system(root, mounts.seen)]
        options += ["--proc", "/proc", "--dev", "/dev", "--chdir", "/"]
        user = NOBODY if os.geteuid() == 0 else None
        try:
            plan = Plan("probe", mounts.command, tuple(mounts.pairs), user)
            sandbox = Sandbox(plan, options, ["/usr/bin/env", "true"], (program,), info, lambda _: None)
        finally:
            os.close(program)
        try:
            ended = sandbox.has_ended(60)
            sandbox.kill()
            code = sandbox.end()
        finally:
            sandbox.close()
        if code != 0 or not ended:
            raise unavailable(f"bubblewrap ({found.path}) can't seal here.", sandbox.heard or f"exit code {code}")

    def owner(self) -> tuple[int, int]:
        if os.geteuid() != 0:
            return os.geteuid(), os.getegid()
        if not can_give(DEFAULT_RANGE):
            return NOBODY
        if self._lease is None:
            self._lease = lease_uid(self._settings.home, DEFAULT_RANGE, _is_in_use)
        return self._lease.uid, self._lease.uid

    def stage_roots(self, workspace: Workspace) -> tuple[Path, ...]:
        return usual_stage_roots(self._settings.home, workspace)

    def prepare(self, spec: RunSpec, observer: Observer) -> Image:
        source = sandbox_source(spec.workspace, spec.job, self._settings)
        if source == "host":
            named = self._settings.executors.bubblewrap.python
            self._root = host_root(environment_of(named))
            version = "python" if named else f"python-{sys.version.split()[0]}"
            return Image(reference="host", id="host", digest=version, source="host")
        found, image = self._unpacked(source, spec, observer)
        self._notes = [*image.notes]
        config = image.config
        self._root = Root(
            image=image.rootfs,
            environment=dict(each.partition("=")[::2] for each in config.env),
            working_dir=config.working_dir,
            volumes=config.volumes,
            entrypoint=config.entrypoint,
            command=config.cmd,
        )
        return found

    def _unpacked(self, source: str, spec: RunSpec, observer: Observer) -> tuple[Image, UnpackedImage]:
        """The image on the disk, kept there until ``close``."""
        settings, workspace = self._settings, spec.workspace
        store = ImageStore(settings.home, settings.images.store_size)
        if source == "reference":
            return self._held.enter_context(
                RegistryImages(store, settings).image(str(spec.job.container.image), observer)
            )
        archive = archive_of(workspace)
        assert archive is not None
        observer.stage("load", archive.name)
        image = self._held.enter_context(store.archive(archive, settings.images.max_archive, observer.progress))
        return Image(reference=archive.name, id=image.id, digest=image.id, source=source), image

    def start(self, spec: RunSpec, image: Image, staged: Staged, on_log: Callable[[bytes], None]) -> None:
        assert self._root is not None
        found = find_bubblewrap(self._settings)
        mounts = _Mounts(found)
        command, code, gpus = self._command(spec), None, device_binds(spec.gpus)
        if self._root.image is None:
            code = _lay_out_code(spec, staged, self._root)
        else:
            mount_points(self._root.image, *needed_mount_points(spec, self._root, staged))
        self._group = RunGroup.make(spec.run_id, spec.limits)
        self._meta = os.open(staged.meta, os.O_RDONLY | os.O_CLOEXEC)
        program, info = memory_file(seccomp_program() or b""), os.pipe()
        options = seal(
            spec,
            self._root,
            staged,
            seen=mounts.seen,
            code=code,
            gpus=gpus,
            meta=self._meta,
            seccomp=program,
            info=info[1],
        )
        plan = Plan(
            spec.run_id,
            mounts.command,
            tuple(mounts.pairs),
            self.owner() if os.geteuid() == 0 else None,
            tuple(self._group.joins) if self._group is not None else (),
            tuple(_rlimits(spec, self.owner()[0], is_alone=self._group is None)),
            None if self._group is not None else max(math.ceil(spec.limits.cpu), 1),
        )
        try:
            self._sandbox = Sandbox(plan, options, command, (self._meta, program), info, on_log)
        finally:
            os.close(program)
        if self._group is None and self._sandbox.first is not None:
            self._watch = TreeWatch(self._sandbox.first, spec.limits)
        if (watched := self._group or self._watch) is not None:
            self._deleted = DeletedFiles(watched.processes)

    def _command(self, spec: RunSpec) -> list[str]:
        assert self._root is not None
        command = [*self._root.entrypoint, *(spec.job.container.cmd or self._root.command)]
        if not command:
            raise AutoScorerError(
                ErrorCode.CONTAINER_FAILED,
                "The image names no command, and meta.json has no container.cmd. Give one of them.",
                details={"exit_code": 127, "log": []},
            )
        if self._root.image is None and command[0] in ("python", "python3"):
            named = self._settings.executors.bubblewrap.python
            command[0] = str(named / "bin" / command[0]) if named else sys.executable
        return command

    def poll(self, seconds: float) -> bool:
        assert self._sandbox is not None
        if self._watch is not None:
            self._watch.look()
            if self._watch.is_out_of_memory:
                self.kill()
        return self._sandbox.has_ended(seconds if self._watch is None else min(seconds, 0.02))

    def has_ended(self) -> bool:
        return self.poll(0)

    def exceeded(self) -> KillReason | None:
        return self._watch.exceeds if self._watch is not None else None

    def usage(self) -> Usage:
        if self._group is not None:
            self._usage = self._group.reader.read(self._usage)
        elif self._watch is not None:
            cpu = self._sandbox.cpu_seconds if self._sandbox is not None else None
            self._usage = Usage(peak_memory=self._watch.peak_memory, cpu_seconds=cpu)
        return self._usage

    def hidden_bytes(self, device: int) -> int:
        return self._deleted.bytes_on(device) if self._deleted is not None else 0

    def unwatched(self) -> frozenset[Watched]:
        blind = set() if self._group is not None else {Watched.REFUSED_PROCESSES}
        if self._deleted is None or self._deleted.hiding:
            blind.add(Watched.DELETED_FILES)
        return frozenset(blind)

    def notes(self) -> list[str]:
        notes = [*self._notes, _GROUP_HELD if self._group is not None else _WATCH_HELD]
        if self._root is not None and self._root.image is None:
            notes.append(
                "The workspace has no image that bubblewrap can run, so the model ran on the host's own system, "
                "read-only."
            )
        return notes

    def kill(self) -> None:
        if self._sandbox is not None:
            self._sandbox.kill()
        if self._group is not None:
            self._group.kill()

    def ending(self) -> Ending:
        assert self._sandbox is not None
        self.usage()
        out_of_memory = self._group.was_out_of_memory() if self._group is not None else False
        out_of_memory = out_of_memory or (self._watch is not None and self._watch.is_out_of_memory)
        self.kill()
        code = self._sandbox.end()
        heard = self._sandbox.heard
        if not self._was_complete() and not out_of_memory and code != 137:
            raise unavailable("bubblewrap could not build the model's sandbox.", heard)
        if code == 1 and _NO_PROGRAM.search(heard):
            code = 127
        elif code == 1 and _NO_EXECUTABLE.search(heard):
            code = 126
        return Ending(exit_code=code, oom_killed=out_of_memory, forks_unseen=self._group is None)

    def _was_complete(self) -> bool:
        """Whether all was mounted when the model began: the last thing to be mounted was read."""
        return self._meta is not None and os.lseek(self._meta, 0, os.SEEK_CUR) > 0

    def remove(self) -> None:
        if self._sandbox is not None:
            self.kill()
            self._sandbox.end()
            self._sandbox.close()
            self._sandbox = None
        if self._group is not None:
            self._usage = self._group.reader.read(self._usage)
            self._group.remove()
        if self._meta is not None:
            os.close(self._meta)
            self._meta = None

    def close(self) -> None:
        self._held.close()
        if self._lease is not None:
            self._lease.release()
            self._lease = None


def limits_held() -> str:
    """What would hold the limits of a run of this process, in a few words."""
    if RunGroup.can_be_made():
        return "control groups"
    return "rlimits and a watch, because this user can't make control groups"


class _Mounts:
    """How bubblewrap reaches paths of this process: as they are, or, from root, by a private mount of each.

    Args:
        bubblewrap: Its own files are among them.
    """

    def __init__(self, bubblewrap: Bubblewrap) -> None:
        self.pairs: list[tuple[str, str]] = []
        self.command = str(bubblewrap.path)
        if os.geteuid() == 0:
            top = bubblewrap.folders[0].parent
            for folder in bubblewrap.folders:
                self.pairs.append((str(folder), f"bubblewrap/{folder.name}"))
            self.command = f"/tmp/bubblewrap/{bubblewrap.path.relative_to(top)}"

    def seen(self, path: Path) -> str:
        """The path by which bubblewrap finds it."""
        if os.geteuid() != 0:
            return str(path)
        name = f"seen/{len(self.pairs)}"
        self.pairs.append((str(path), name))
        return f"/tmp/{name}"


def _lay_out_code(spec: RunSpec, staged: Staged, root: Root) -> Path:
    """The workspace's own files beside the mount points, as a folder that is ``/workspace``."""
    code = stage_code(spec, staged)
    for name in ("input", "output"):
        (code / name).mkdir(exist_ok=True)
    for folder in root.folders:
        if folder.is_relative_to(CONTAINER_ROOT):  # this host has a folder of that name
            (code / folder.relative_to(CONTAINER_ROOT)).mkdir(parents=True, exist_ok=True)
    (code / "meta.json").touch()
    for path in [code, *code.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
    begins = PurePosixPath(spec.job.container.working_dir or CONTAINER_ROOT)
    inside = begins.relative_to(CONTAINER_ROOT) if begins.is_relative_to(CONTAINER_ROOT) else None
    if inside is None or not (code / inside).is_dir():
        raise no_such_folder(spec)
    return code


def _rlimits(spec: RunSpec, uid: int, *, is_alone: bool) -> Iterable[tuple[int, int]]:
    """Limits of each process; where nothing else holds them, those of all together as well as they go."""
    limits = spec.limits
    yield resource.RLIMIT_CORE, 0
    yield resource.RLIMIT_NOFILE, limits.nofile
    # One file at a time is held to the limit by the kernel, all together by the supervisor.
    yield resource.RLIMIT_FSIZE, max(limits.disk, limits.tmp, limits.shm_size)
    if is_alone:
        if not spec.gpus:  # CUDA reserves many times what it uses
            # Libraries reserve more than they use; what is used is counted.
            yield resource.RLIMIT_DATA, 2 * limits.memory + 256 * 1024**2
        # The kernel counts the user's other processes and threads as well.
        yield resource.RLIMIT_NPROC, _threads_of(uid) + limits.pids


def _threads_of(uid: int) -> int:
    found = 0
    for process in PROC.iterdir():
        with contextlib.suppress(OSError):
            if process.name.isdigit() and process.stat().st_uid == uid:
                found += len(os.listdir(process / "task"))
    return found


def _is_in_use(uid: int) -> bool:
    return _threads_of(uid) > 0
