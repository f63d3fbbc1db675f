"""The Docker backend: one sealed container a run, spoken to through the Engine's API."""

from __future__ import annotations

import contextlib
import json
import os
import posixpath
import socket
import threading
import time
from collections.abc import Callable, Iterator
from importlib import resources as package_files
from pathlib import Path
from typing import Any

from ..core.config import Settings
from ..core.errors import AutoScorerError, ErrorCode
from .base import CONTAINER_ROOT, ROOT_VARIABLE, Executor, Image, Observer, RunSpec, Staged, Usage
from .cgroup import CgroupReader
from .docker_attach import AttachedOutput
from .docker_images import DockerImages

__all__ = ["LABEL", "DockerExecutor", "connect", "engine_errors"]

# Prefix of our labels and of our containers' names; reaping goes by both.
LABEL = "io.autoscorer."
NAME = "autoscorer-"
DEFAULT_SOCKET = "unix:///var/run/docker.sock"
# 1.42 (Engine 23) is the first that takes the name of its own default profile.
SECCOMP_BY_NAME = (1, 42)
# Seconds past its deadline after which a container is orphaned, whoever owns it.
GRACE = 120


def connect(settings: Settings, *, timeout: float | None = 60, version: str = "auto") -> Any:
    """A client of the Engine that the settings or ``DOCKER_HOST`` name.

    Raises:
        AutoScorerError: ``BACKEND_UNAVAILABLE``.
    """
    import docker

    with engine_errors("reach the Docker Engine"):
        base_url = settings.executors.docker.base_url
        environment = {"base_url": base_url} if base_url else docker.utils.kwargs_from_env()
        _knock(environment.get("base_url") or DEFAULT_SOCKET)
        return docker.APIClient(version=version, timeout=timeout, **environment)


def _knock(base_url: str) -> None:
    """Fail at once where no engine listens: docker-py would leave the socket it tried to the garbage collector."""
    if base_url.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(base_url.removeprefix("unix://"))


@contextlib.contextmanager
def engine_errors(action: str) -> Iterator[None]:
    """Map everything that docker, requests, urllib3 or a socket raise to ``BACKEND_UNAVAILABLE``."""
    try:
        yield
    except _engine_exceptions() as error:
        why = getattr(error, "explanation", None) or str(error) or type(error).__name__
        raise AutoScorerError(
            ErrorCode.BACKEND_UNAVAILABLE,
            f"Could not {action}: {_short(why)}. Check that Docker runs and that you may use it (`autoscorer doctor`).",
        ) from error


def _engine_exceptions() -> tuple[type[Exception], ...]:
    import docker.errors
    import requests
    import urllib3.exceptions

    return (
        docker.errors.DockerException,
        docker.errors.StreamParseError,
        requests.RequestException,
        urllib3.exceptions.HTTPError,
        urllib3.exceptions.ProxySchemeUnsupported,
        OSError,
    )


def _short(why: Any) -> str:
    text = why.decode("utf-8", "replace") if isinstance(why, bytes) else str(why)
    return " ".join(text.split())[:300].rstrip(".")


class DockerExecutor(Executor):
    """Runs one model in one container."""

    name = "docker"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: Any = None
        self._container: str | None = None
        self._ended = threading.Event()
        self._exit_code: int | None = None
        self._wait_failed: Exception | None = None
        self._output: AttachedOutput | None = None
        self._reader: threading.Thread | None = None
        self._cgroup: CgroupReader | None = None
        self._usage = Usage()

    @property
    def client(self) -> Any:
        """The Engine's client, made on first use."""
        if self._client is None:
            self._client = connect(self._settings)
        return self._client

    def check(self) -> str:
        with engine_errors("ask the Docker Engine"):
            info = self.client.info()
        options = info.get("SecurityOptions") or []
        if not any("name=seccomp" in option for option in options):
            raise AutoScorerError(
                ErrorCode.BACKEND_UNAVAILABLE,
                "The Docker Engine has no seccomp, so a run would not be sealed. Use a kernel and an engine with it.",
            )
        if any("name=rootless" in option for option in options):
            raise AutoScorerError(
                ErrorCode.BACKEND_UNAVAILABLE,
                "The Docker Engine is rootless, which AutoScorer does not support yet: it maps the model's user to one "
                "whose files the caller can't read. Use a rootful engine.",
            )
        return f"Docker Engine {info.get('ServerVersion')} (API {self.client.api_version}), {info.get('NCPU')} CPUs"

    def missing_limits(self) -> list[str]:
        """Which limits of a sealed run this engine's kernel can't hold."""
        with engine_errors("ask the Docker Engine"):
            info = self.client.info()
        needed = {"MemoryLimit": "memory", "SwapLimit": "swap", "PidsLimit": "processes", "CpuCfsQuota": "CPU"}
        # Engines of 2026 leave out what they can't know; only a plain False is bad news.
        return [name for key, name in needed.items() if info.get(key) is False]

    def owner(self) -> tuple[int, int]:
        configured = self._settings.executors.docker.user
        mine = (os.geteuid(), os.getegid())
        if configured is None:
            return mine if mine[0] != 0 else (65534, 65534)
        uid, gid = (int(part) for part in configured.split(":"))
        if mine[0] not in (0, uid):
            raise AutoScorerError(
                ErrorCode.BACKEND_UNAVAILABLE,
                f"executors.docker.user is {configured}, but only root can hand a folder to another user, and this "
                f"is uid {mine[0]}. Remove the setting.",
            )
        return uid, gid

    def prepare(self, spec: RunSpec, observer: Observer) -> Image:
        return DockerImages(self.client, self._settings).resolve(spec.workspace, spec.job, observer)

    def start(self, spec: RunSpec, image: Image, staged: Staged, on_log: Callable[[bytes], None]) -> None:
        import docker.errors

        with engine_errors("create the container"):
            config = container_config(spec, image, staged, self.owner(), self._seccomp(), self._image_volumes(image))
            config["HostConfig"]["Runtime"] = self._settings.executors.docker.runtime
            try:
                self._container = self.client.create_container_from_config(config, NAME + spec.run_id)["Id"]
            except docker.errors.ImageNotFound as error:
                raise AutoScorerError(
                    ErrorCode.IMAGE_NOT_FOUND, f"The image {image.reference} vanished before it could be run."
                ) from error
            except docker.errors.APIError as error:
                if error.status_code == 400:  # the image or the command is unusable, not the engine
                    raise self._unstartable(error) from error
                raise
            # Attached before the start, so that no byte of the log is missed and none lies on the engine's disk.
            patient = connect(self._settings, timeout=None, version=self.client.api_version)
            self._output = AttachedOutput(patient, self._container)
            self._reader = threading.Thread(
                target=_pump, args=(self._output, on_log), name="autoscorer-log", daemon=True
            )
            self._reader.start()
            try:
                self.client.start(self._container)
            except docker.errors.APIError as error:
                if error.status_code in (400, 404):  # the command does not exist or is no program
                    raise self._unstartable(error) from error
                raise
            self._open_cgroup()
        threading.Thread(target=self._wait, args=(self._container,), name="autoscorer-wait", daemon=True).start()

    @staticmethod
    def _unstartable(error: Any) -> AutoScorerError:
        return AutoScorerError(
            ErrorCode.CONTAINER_FAILED,
            f"The model's container could not be started: {_short(error.explanation)}.",
            details={"exit_code": 127, "log": []},
        )

    def _seccomp(self) -> str:
        version = tuple(int(part) for part in self.client.api_version.split("."))
        if version >= SECCOMP_BY_NAME:
            return "builtin"
        return seccomp_profile()

    def _image_volumes(self, image: Image) -> list[str]:
        found = self.client.inspect_image(image.id).get("Config") or {}
        return sorted(found.get("Volumes") or {})

    def _open_cgroup(self) -> None:
        if not self.client.base_url.startswith("http+docker://"):
            return  # an engine on another host
        state = self.client.inspect_container(self._container)["State"]
        if state.get("Pid"):
            self._cgroup = CgroupReader.of(state["Pid"], str(self._container))

    def _wait(self, container: str) -> None:
        import docker.errors

        failures = 0
        stumbles: tuple[type[Exception], ...] = (*_engine_exceptions(), ValueError)
        while not self._ended.is_set():
            try:
                self._exit_code = self.client.wait(container, timeout=None)["StatusCode"]
                self._ended.set()
            except docker.errors.NotFound:
                self._ended.set()  # somebody removed it: no exit code
            except stumbles as error:
                # The engine restarts, say. It must come back within a minute or the run counts as lost.
                failures += 1
                if failures > 60:
                    self._wait_failed = error
                    self._ended.set()
                time.sleep(1)

    def poll(self, seconds: float) -> bool:
        if self._cgroup is not None:
            self._usage = self._cgroup.read(self._usage)
        return self._ended.wait(seconds)

    def usage(self) -> Usage:
        return self._usage

    def kill(self) -> None:
        import docker.errors

        if self._container is None:
            return
        with engine_errors("kill the container"):
            try:
                self.client.kill(self._container)
            except docker.errors.APIError as error:
                if error.status_code not in (404, 409):  # gone, or not running
                    raise

    def ending(self) -> tuple[int | None, bool]:
        import docker.errors

        with engine_errors("inspect the container"):
            if self._wait_failed is not None:
                raise self._wait_failed
            try:
                state = self.client.inspect_container(self._container)["State"]
            except docker.errors.NotFound:
                return None, False
        if self._reader is not None:
            # The end of the stream follows the end of the container at once; a stuck stream must not hold us.
            self._reader.join(5)
        return (self._exit_code if self._exit_code is not None else state.get("ExitCode")), bool(state.get("OOMKilled"))

    def remove(self) -> None:
        if self._container is None:
            return
        remove_container(self.client, self._container)
        self._ended.set()
        self._container = None

    def close(self) -> None:
        if self._output is not None:
            self._output.close()
            self._output = None
        if self._reader is not None:
            self._reader.join(5)
        if self._client is not None:
            self._client.close()
            self._client = None


def container_config(
    spec: RunSpec, image: Image, staged: Staged, owner: tuple[int, int], seccomp: str, volumes: list[str]
) -> dict[str, Any]:
    """The whole seal, as the body of the Engine's create request. docs/sealed-run.md says why each line is there.

    Args:
        spec: The run.
        image: Its image.
        staged: Its folder.
        owner: uid and gid of the model.
        seccomp: ``builtin`` or the profile as JSON text.
        volumes: Paths that the image declares as volumes; they become small folders in memory, because a volume is
            writable without limit on the host's disk.
    """
    limits, job = spec.limits, spec.job
    mounts = [
        _mount(staged.folder / "input", "/input"),
        *(_mount(path, f"/input/{name}") for name, path in sorted(staged.inputs.items())),
        _mount(staged.meta, "/meta.json"),
        _mount(staged.output, "/output", read_only=False),
    ]
    tmpfs = {"/tmp": f"rw,nosuid,nodev,exec,size={limits.tmp},mode=1777"}
    ours = {mount["Target"] for mount in mounts}
    for path in map(posixpath.normpath, volumes):
        if path not in ours:
            tmpfs.setdefault(path, f"rw,nosuid,nodev,noexec,size={limits.tmp},mode=1777")
    deadline = int(time.time() + limits.timeout + GRACE)
    config: dict[str, Any] = {
        "Image": image.id,
        "User": f"{owner[0]}:{owner[1]}",
        # HOME in /tmp: the user has no entry in the image, and libraries want a place for their caches.
        "Env": [
            f"{key}={value}"
            for key, value in {ROOT_VARIABLE: CONTAINER_ROOT, "HOME": "/tmp", **job.container.env}.items()
        ],
        "Labels": {
            LABEL + "run": spec.run_id,
            LABEL + "deadline": str(deadline),
            LABEL + "workspace": spec.workspace.name,
            **{LABEL + key: value for key, value in spec.labels.items()},
        },
        "Hostname": "model",
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": False,
        "OpenStdin": False,
        "Healthcheck": {"Test": ["NONE"]},
        "Volumes": {},
        "HostConfig": {
            "NetworkMode": spec.network,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges:true", f"seccomp={seccomp}"],
            "Privileged": False,
            "ReadonlyRootfs": True,
            "Tmpfs": tmpfs,
            "Mounts": mounts,
            "IpcMode": "private",
            "PidMode": "",
            "UTSMode": "",
            "CgroupnsMode": "private",
            "Init": True,
            "NanoCpus": int(min(limits.cpu, os.cpu_count() or 1) * 1e9),
            "Memory": limits.memory,
            "MemorySwap": limits.memory,
            "PidsLimit": limits.pids,
            "ShmSize": min(limits.shm_size, limits.memory),
            "Ulimits": [
                {"Name": "nofile", "Soft": limits.nofile, "Hard": limits.nofile},
                {"Name": "core", "Soft": 0, "Hard": 0},
                # One file at a time is held to the limit by the kernel, all together by the supervisor.
                {"Name": "fsize", "Soft": fsize(spec), "Hard": fsize(spec)},
            ],
            "LogConfig": {"Type": "none", "Config": {}},
            "RestartPolicy": {"Name": "no"},
            "AutoRemove": False,
            "OomKillDisable": False,
            "DeviceRequests": [{"Driver": "", "Count": limits.gpu, "Capabilities": [["gpu"]]}] if limits.gpu else [],
        },
    }
    if job.container.cmd:
        config["Cmd"] = list(job.container.cmd)
    return config


def fsize(spec: RunSpec) -> int:
    """The largest file, in bytes, that the model may write anywhere."""
    return max(spec.limits.disk, spec.limits.tmp, spec.limits.shm_size)


def _mount(source: Path, target: str, *, read_only: bool = True) -> dict[str, Any]:
    return {
        "Type": "bind",
        "Source": str(source),
        "Target": CONTAINER_ROOT + target,
        "ReadOnly": read_only,
        "BindOptions": {"Propagation": "rprivate"},
    }


def seccomp_profile() -> str:
    """Moby's default profile as one line of JSON, for engines too old to take it by name."""
    text = package_files.files(__package__).joinpath("seccomp.json").read_text(encoding="utf-8")
    return json.dumps(json.loads(text), separators=(",", ":"))


def remove_container(client: Any, container: str) -> None:
    """Kill and remove a container with its anonymous volumes; one that is gone already is fine.

    Raises:
        AutoScorerError: ``BACKEND_UNAVAILABLE`` when the engine does not do it.
    """
    import docker.errors

    with engine_errors("remove the container"):
        for attempt in range(5):
            try:
                client.remove_container(container, force=True, v=True)
                return
            except docker.errors.NotFound:
                return
            except docker.errors.APIError as error:
                # 409: a removal is under way already; 500: a process that is slow to die.
                if error.status_code not in (409, 500) or attempt == 4:
                    raise
                time.sleep(0.2 * 2**attempt)


def _pump(output: AttachedOutput, on_log: Callable[[bytes], None]) -> None:
    # The stream ends with the container; the engine may also cut it, and then the log just ends.
    with contextlib.suppress(*_engine_exceptions(), ValueError):
        for data in output:
            on_log(data)
