"""The process backend: runs TRUSTED code as a child of this process, with rlimits and nothing else around it.

For examples, courses on one's own code and machines without Docker. It seals nothing: the code runs as the
caller, sees the network and every file the caller sees. Hence it must be asked for by name.
"""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from ..core.errors import AutoScorerError, ErrorCode
from ..core.processes import die_with_parent, has_exited, kill_processes, kill_session
from .base import CONTAINER_ROOT, ROOT_VARIABLE, Ending, Executor, Image, Observer, RunSpec, Staged, Usage
from .stage import no_such_folder, stage_code

__all__ = ["ProcessExecutor", "kill_staged"]

# What of the caller's environment a program needs to start at all.
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "OPENBLAS_CORETYPE")


class ProcessExecutor(Executor):
    """Runs one model as a child process in a session of its own."""

    name = "process"
    sealed = False

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._staged: Path | None = None
        self._reader: threading.Thread | None = None
        self._before = resource.getrusage(resource.RUSAGE_CHILDREN)
        self._usage = Usage()
        self._has_gpus = False

    def check(self) -> str:
        return "process: runs trusted code only, unsealed"

    def owner(self) -> tuple[int, int]:
        return os.geteuid(), os.getegid()

    def prepare(self, spec: RunSpec, observer: Observer) -> Image:
        if not spec.job.container.cmd:
            raise AutoScorerError(
                ErrorCode.INVALID_META,
                "The process backend has no image to take a command from: give container.cmd in meta.json.",
                details={"key": "container.cmd"},
            )
        return Image(reference="process", id="process", digest=f"python-{sys.version.split()[0]}", source="process")

    def start(self, spec: RunSpec, image: Image, staged: Staged, on_log: Callable[[bytes], None]) -> None:
        for name, path in staged.inputs.items():
            point = staged.folder / "input" / name
            point.rmdir() if point.is_dir() else point.unlink()
            point.symlink_to(path)
        code = stage_code(spec, staged)
        # The program finds its data and its output beside itself, as in a container that begins in the workspace.
        for name in ("input", "output", "meta.json"):
            (code / name).symlink_to(Path("..", name))
        folder = code / _below_workspace(spec.job.container.working_dir)
        if not folder.is_dir():
            raise no_such_folder(spec)
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        environment.update({"HOME": str(code), "PYTHONDONTWRITEBYTECODE": "1", **spec.job.container.env})
        # Of the devices of this host it sees those that it has leased, and without a lease none.
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpu.uuid for gpu in spec.gpus)
        # Last, because it is also the mark by which the run's processes are found.
        environment[ROOT_VARIABLE] = str(staged.folder)
        self._has_gpus = bool(spec.gpus)
        self._staged = staged.folder
        command = list(spec.job.container.cmd)
        if command[0] in ("python", "python3"):
            command[0] = sys.executable
        limits, parent = spec.limits, os.getpid()

        def confine() -> None:
            # A killed parent takes its model along; without this kill -9 would leave it running.
            die_with_parent(parent)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            for kind, value in (
                # CUDA reserves addresses for the memory of the host and of all devices, far beyond what it uses.
                *([] if spec.gpus else [(resource.RLIMIT_AS, limits.memory)]),
                (resource.RLIMIT_FSIZE, limits.disk),
                (resource.RLIMIT_NOFILE, limits.nofile),
                (resource.RLIMIT_CPU, int(limits.timeout * max(limits.cpu, 1)) + 60),
            ):
                hard = resource.getrlimit(kind)[1]
                most = value if hard == resource.RLIM_INFINITY else min(value, hard)
                resource.setrlimit(kind, (most, most))

        try:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=confine,
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            raise AutoScorerError(
                ErrorCode.CONTAINER_FAILED,
                f"The command {command[0]!r} could not be started: {error}.",
                details={"exit_code": 127, "log": []},
            ) from error
        self._reader = threading.Thread(target=self._pump, args=(on_log,), name="autoscorer-log", daemon=True)
        self._reader.start()

    def _pump(self, on_log: Callable[[bytes], None]) -> None:
        assert self._process is not None and self._process.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            while data := os.read(self._process.stdout.fileno(), 65536):
                on_log(data)

    def notes(self) -> list[str]:
        if not self._has_gpus:
            return []
        return ["The model's memory was not limited: CUDA needs more addresses than such a limit leaves it."]

    def poll(self, seconds: float) -> bool:
        assert self._process is not None
        deadline = time.monotonic() + seconds
        while True:
            # It stays a zombie, so that its session can't be reused before we have killed what is left of it.
            if has_exited(self._process.pid):
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(left, 0.005))

    def usage(self) -> Usage:
        return self._usage

    def kill(self) -> None:
        if self._process is None:
            return
        if self._process.returncode is None:  # once it is waited for, another process may get its number
            kill_session(self._process.pid)
        if self._staged is not None:
            kill_staged(self._staged)  # those that opened a session of their own

    def ending(self) -> Ending:
        assert self._process is not None
        self.kill()
        code = self._process.wait()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - self._before.ru_utime - self._before.ru_stime
        # ru_maxrss is the largest child this process ever had; it says something of this one only if it grew.
        grew = after.ru_maxrss > self._before.ru_maxrss
        self._usage = Usage(peak_memory=after.ru_maxrss * 1024 if grew else None, cpu_seconds=cpu)
        if self._reader is not None:
            self._reader.join(5)
        return Ending(exit_code=code if code >= 0 else 128 - code)

    def remove(self) -> None:
        if self._process is None:
            return
        self.kill()
        self._process.wait()
        if self._reader is not None:
            self._reader.join(5)
        if self._process.stdout is not None and (self._reader is None or not self._reader.is_alive()):
            self._process.stdout.close()
        self._process = None


def _below_workspace(folder: str | None) -> PurePosixPath:
    """A working folder, relative to the copied files; there is no image, so no other folder than theirs."""
    path = PurePosixPath(folder or CONTAINER_ROOT)
    return path.relative_to(CONTAINER_ROOT) if path.is_relative_to(CONTAINER_ROOT) else PurePosixPath()


def kill_staged(staged: Path) -> None:
    """Kill what a run left: every process whose environment names the run's staged folder."""
    mark = f"{ROOT_VARIABLE}={staged}".encode()
    kill_processes(lambda entry: mark in (entry / "environ").read_bytes().split(b"\0"))
