"""The Docker backend: one sealed container a run, spoken to through the Engine's API."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode
from ...core.workspace import Workspace
from ..base import Ending, Executor, Image, Observer, RunSpec, Staged, Usage, Watched
from ..stage import usual_stage_roots
from ..uids import DEFAULT_RANGE, UidLease, can_give, lease_uid, parse_range
from .attach import AttachedOutput
from .container_config import LABEL, NAME, container_config
from .end import ContainerEnd, patiently
from .engine import connect, engine_errors, engine_exceptions, knock, short
from .gpus import NO_GPUS, gpu_request
from .host_paths import engine_paths, own_container
from .images import DockerImages
from .watch import BLIND_ADVICE, DockerWatch, unwatched_here

__all__ = ["DockerExecutor", "remove_container"]


class DockerExecutor(Executor):
    """Runs one model in one container."""

    name = "docker"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: Any = None
        self._container: str | None = None
        self._end: ContainerEnd | None = None
        self._watch: DockerWatch | None = None
        self._output: AttachedOutput | None = None
        self._reader: threading.Thread | None = None
        self._lease: UidLease | None = None
        self._killed = False

    @property
    def client(self) -> Any:
        """The Engine's client, made on first use."""
        if self._client is None:
            self._client = connect(self._settings)
        return self._client

    def check(self) -> str:
        with engine_errors("ask the Docker Engine"):
            info = self.client.info()
        if "Rootless" in info:  # Docker says it among the security options
            raise AutoScorerError(
                ErrorCode.BACKEND_UNAVAILABLE,
                "What answers is Podman, which AutoScorer does not support: over its Docker-compatible socket it takes "
                "no seccomp profile, and where it is rootless it maps the model's user to one whose files the caller "
                "can't read. Use Docker Engine, or the backend bubblewrap, which needs no engine.",
            )
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
        self._uids()
        return f"Docker Engine {info.get('ServerVersion')} (API {self.client.api_version}), {info.get('NCPU')} CPUs"

    def missing_limits(self) -> list[str]:
        """Which limits of a sealed run this engine's kernel can't hold."""
        with engine_errors("ask the Docker Engine"):
            info = self.client.info()
        needed = {"MemoryLimit": "memory", "SwapLimit": "swap", "PidsLimit": "processes", "CpuCfsQuota": "CPU"}
        # Engines of 2026 leave out what they can't know; only a plain False is bad news.
        return [name for key, name in needed.items() if info.get(key) is False]

    def unwatched_here(self) -> frozenset[Watched]:
        """What can't be watched of a model from where this process runs."""
        with engine_errors("ask the Docker Engine"):
            return unwatched_here(self.client, self._settings)

    def owner(self) -> tuple[int, int]:
        uids = self._uids()
        if isinstance(uids, tuple):
            return uids
        if self._lease is None:
            self._lease = lease_uid(self._settings.home, uids, self._is_in_use)
        return self._lease.uid, self._lease.uid

    def _uids(self) -> range | tuple[int, int]:
        """The range that each model gets a uid of its own from, or the uid and gid that all of them share.

        Raises:
            AutoScorerError: ``BACKEND_UNAVAILABLE`` when this process can't hand a folder to such a user.
        """
        mine = (os.geteuid(), os.getegid())
        configured = self._settings.executors.docker
        if configured.uid_range is not None:
            uids = parse_range(configured.uid_range)
            if not can_give(uids):
                raise AutoScorerError(
                    ErrorCode.BACKEND_UNAVAILABLE,
                    f"executors.docker.uid_range is {configured.uid_range}, but this is uid {mine[0]}, which can't "
                    "hand folders to all of them: only root can, and in a user namespace only for uids that are mapped "
                    "there. Remove the setting.",
                )
            return uids
        if configured.user is None:
            if mine[0] != 0:
                return mine
            return DEFAULT_RANGE if can_give(DEFAULT_RANGE) else (65534, 65534)
        uid, gid = (int(part) for part in configured.user.split(":"))
        if mine[0] not in (0, uid):
            raise AutoScorerError(
                ErrorCode.BACKEND_UNAVAILABLE,
                f"executors.docker.user is {configured.user}, but only root can hand a folder to another user, and "
                f"this is uid {mine[0]}. Remove the setting.",
            )
        return uid, gid

    def _is_in_use(self, uid: int) -> bool:
        with engine_errors("list the containers"):
            return bool(self.client.containers(all=True, filters={"label": f"{LABEL}uid={uid}"}))

    def stage_roots(self, workspace: Workspace) -> tuple[Path, ...]:
        configured = self._settings.executors.docker.stage_dir
        if configured is not None:
            return (configured,)
        return usual_stage_roots(self._settings.home, workspace)

    def prepare(self, spec: RunSpec, observer: Observer) -> Image:
        return DockerImages(self.client, self._settings).resolve(spec.workspace, spec.job, observer)

    def start(self, spec: RunSpec, image: Image, staged: Staged, on_log: Callable[[bytes], None]) -> None:
        import docker.errors

        with engine_errors("create the container"):
            inside = self.client.inspect_image(image.id).get("Config") or {}
            volumes = sorted(inside.get("Volumes") or {})
            folder = inside.get("WorkingDir") or ""
            config = container_config(
                spec,
                image,
                staged,
                self.owner(),
                volumes,
                folder,
                engine_paths(self.client, own_container()),
                gpu_request(spec.gpus, self.client.info()) if spec.gpus else NO_GPUS,
                inside.get("Env") or (),
            )
            chosen_by_image = [*volumes, config["WorkingDir"]]
            config["HostConfig"]["Runtime"] = self._settings.executors.docker.runtime
            # By its name until its id is known: an engine that dies now may have made it all the same.
            self._container = NAME + spec.run_id
            try:
                self._container = self.client.create_container_from_config(config, NAME + spec.run_id)["Id"]
            except docker.errors.ImageNotFound as error:
                raise AutoScorerError(
                    ErrorCode.IMAGE_NOT_FOUND, f"The image {image.reference} vanished before it could be run."
                ) from error
            except docker.errors.APIError as error:
                # The image or the command is unusable, not the engine.
                if error.status_code == 400 or _blames(error, chosen_by_image):
                    raise self._unstartable(error) from error
                raise
            # Attached before the start, so that no byte of the log is missed and none lies on the engine's disk.
            self._attach(on_log)
            try:
                self.client.start(self._container)
            except docker.errors.APIError as error:
                # The command does not exist or is no program, or the image wants a folder where none can be.
                if error.status_code in (400, 404) or _blames(error, chosen_by_image):
                    raise self._unstartable(error) from error
                raise
            self._end = ContainerEnd(self.client, self._container, lambda: self._attach(on_log))
            self._watch = DockerWatch(self.client, self._settings, self._container)
        if self._watch.unwatched and self._settings.executors.docker.require_full_watch:
            raise AutoScorerError(
                ErrorCode.BACKEND_UNAVAILABLE,
                "What the model does can't be watched in full from here, and executors.docker.require_full_watch is "
                f"set, so it was ended at once. {BLIND_ADVICE}",
                details={"unwatched": sorted(self._watch.unwatched)},
            )

    def _attach(self, on_log: Callable[[bytes], None]) -> None:
        patient = connect(self._settings, timeout=None, version=self.client.api_version)
        if self._output is not None:
            self._output.close()
        self._output = AttachedOutput(patient, str(self._container))
        self._reader = threading.Thread(target=_pump, args=(self._output, on_log), name="autoscorer-log", daemon=True)
        self._reader.start()

    @staticmethod
    def _unstartable(error: Any) -> AutoScorerError:
        if "bind source path does not exist" in str(error.explanation):
            return AutoScorerError(
                ErrorCode.BACKEND_UNAVAILABLE,
                "The Docker Engine does not see the folder that the run was staged in. It must see the workspaces, and "
                "executors.docker.stage_dir (by default /var/tmp), under the same paths as AutoScorer does; or, where "
                "AutoScorer runs in a container of this engine, both must lie on volumes or mounts of that container.",
            )
        return AutoScorerError(
            ErrorCode.CONTAINER_FAILED,
            f"The model's container could not be started: {short(error.explanation)}.",
            details={"exit_code": 127, "log": []},
        )

    def poll(self, seconds: float) -> bool:
        assert self._end is not None and self._watch is not None
        self._watch.usage()
        return self._end.wait(seconds)

    def has_ended(self) -> bool:
        assert self._end is not None
        return self._end.ask()

    def usage(self) -> Usage:
        return self._watch.usage() if self._watch is not None else Usage()

    def hidden_bytes(self, device: int) -> int:
        return self._watch.hidden_bytes(device) if self._watch is not None else 0

    def hides(self) -> bool:
        return self._watch is not None and self._watch.hides

    def unwatched(self) -> frozenset[Watched]:
        return self._watch.unwatched if self._watch is not None else frozenset()

    def kill(self) -> None:
        if self._container is not None:
            self._killed = True
            patiently(self._kill)

    def _kill(self) -> None:
        import docker.errors

        with engine_errors("kill the container"):
            knock(self.client)
            try:
                self.client.kill(self._container)
            except docker.errors.APIError as error:
                if error.status_code not in (404, 409):  # gone, or not running
                    raise

    def ending(self) -> Ending:
        assert self._end is not None
        ending = self._end.ending(killed=self._killed)
        if self._reader is not None:
            # The end of the stream follows the end of the container at once; a stuck stream must not hold us.
            self._reader.join(5)
        return ending

    def remove(self) -> None:
        if self._watch is not None:
            self._watch.stop()
        if self._container is None:
            return
        patiently(self._remove)
        if self._end is not None:
            self._end.give_up()
        self._container = None

    def _remove(self) -> None:
        with engine_errors("remove the container"):
            knock(self.client)
        remove_container(self.client, str(self._container))

    def close(self) -> None:
        if self._output is not None:
            self._output.close()
            self._output = None
        if self._reader is not None:
            self._reader.join(5)
        if self._client is not None:
            self._client.close()
            self._client = None
        if self._lease is not None:
            # Also where the container could not be removed: as long as it is there, the engine tells of its uid.
            self._lease.release()
            self._lease = None


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


def _blames(error: Any, paths: list[str]) -> bool:
    """Whether the engine failed at a path that the image chose: a volume over a file, a working folder that can't be.

    It answers 500 to these as to its own faults.
    """
    why = str(error.explanation or "")
    if not re.search("OCI runtime create failed|cannot mount volume over existing file", why):
        return False
    if re.search("no space left|cannot allocate memory|too many open files", why, re.IGNORECASE):
        return False
    return any(
        len(path) > 1 and re.search(rf"(?<![\w./-]){re.escape(path)}(?![\w./-])", why) is not None for path in paths
    )


def _pump(output: AttachedOutput, on_log: Callable[[bytes], None]) -> None:
    # The stream ends with the container; the engine may also cut it, and then the log just ends.
    with contextlib.suppress(*engine_exceptions(), ValueError):
        for data in output:
            on_log(data)
