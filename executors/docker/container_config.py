"""The seal: everything that is asked of the Engine for one container."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from ..base import CONTAINER_ROOT, ROOT_VARIABLE, Image, RunSpec, Staged
from ..gpu.environment import gpu_environment
from ..seccomp import seccomp_profile
from ..volumes import memory_volumes
from .gpus import NO_GPUS, GpuRequest

__all__ = ["LABEL", "NAME", "container_config"]

# Prefix of our labels and of our containers' names; reaping goes by both.
LABEL = "io.autoscorer."
NAME = "autoscorer-"
# Seconds past its deadline after which a container is orphaned, whoever owns it.
GRACE = 120


def container_config(
    spec: RunSpec,
    image: Image,
    staged: Staged,
    owner: tuple[int, int],
    volumes: list[str],
    image_folder: str = "",
    engine_path: Callable[[Path], Path] = lambda path: path,
    gpus: GpuRequest = NO_GPUS,
    image_env: Sequence[str] = (),
) -> dict[str, Any]:
    """The whole seal, as the body of the Engine's create request. docs/sealed-run.md says why each line is there.

    Args:
        spec: The run.
        image: Its image.
        staged: Its folder.
        owner: uid and gid of the model.
        volumes: Paths that the image declares as volumes; they become small folders in memory, because a volume is
            writable without limit on the host's disk.
        image_folder: The image's own working folder; empty where it names none.
        engine_path: How the engine names a folder of this process.
        gpus: How its devices are asked for.
        image_env: The image's own variables, as NAME=VALUE.

    Raises:
        AutoScorerError: ``CONTAINER_FAILED`` for a volume that no container can have.
    """
    limits, job = spec.limits, spec.job
    mounts = [
        _mount(engine_path, staged.folder / "input", "/input"),
        *(_mount(engine_path, path, f"/input/{name}") for name, path in sorted(staged.inputs.items())),
        _mount(engine_path, staged.meta, "/meta.json"),
        _mount(engine_path, staged.output, "/output", read_only=False),
    ]
    mounts += [copy for place, part in spec.places.items() for copy in _seen_at(place, part, mounts)]
    tmpfs = {"/tmp": f"rw,nosuid,nodev,exec,size={limits.tmp},mode=1777"}
    ours = {mount["Target"] for mount in mounts}
    for path in memory_volumes(volumes, ours):
        tmpfs.setdefault(path, f"rw,nosuid,nodev,noexec,size={limits.tmp},mode=1777")
    environment = {ROOT_VARIABLE: CONTAINER_ROOT, "HOME": "/tmp", "USER": "model", **job.container.env}
    named = [*environment, *(each.partition("=")[0] for each in image_env)]
    deadline = int(time.time() + limits.timeout + GRACE)
    config: dict[str, Any] = {
        "Image": image.id,
        "User": f"{owner[0]}:{owner[1]}",
        # The user has no entry in the image, and libraries ask for its name and want a place for their caches.
        "Env": [f"{key}={value}" for key, value in {**environment, **gpu_environment(named, gpus.visible)}.items()],
        "Labels": {
            LABEL + "run": spec.run_id,
            LABEL + "deadline": str(deadline),
            LABEL + "workspace": spec.workspace.name,
            LABEL + "uid": str(owner[0]),
            **({LABEL + "gpus": ",".join(gpu.uuid for gpu in spec.gpus)} if spec.gpus else {}),
            **{LABEL + key: value for key, value in spec.labels.items()},
        },
        # BuildKit notes / for every image that does not say.
        "WorkingDir": job.container.working_dir or (image_folder if image_folder not in ("", "/") else CONTAINER_ROOT),
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
            "SecurityOpt": ["no-new-privileges:true", f"seccomp={seccomp_profile()}"],
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
            "DeviceRequests": list(gpus.devices),
        },
    }
    if job.container.cmd:
        config["Cmd"] = list(job.container.cmd)
    return config


def fsize(spec: RunSpec) -> int:
    """The largest file, in bytes, that the model may write anywhere."""
    return max(spec.limits.disk, spec.limits.tmp, spec.limits.shm_size)


def _mount(engine_path: Callable[[Path], Path], path: Path, target: str, *, read_only: bool = True) -> dict[str, Any]:
    source = engine_path(path)
    return {
        "Type": "bind",
        "Source": str(source),
        "Target": CONTAINER_ROOT + target,
        "ReadOnly": read_only,
        # What the container mounts is seen by nobody else either way. The engine wants to unmount what lies in its own
        # folder, as volumes do, and refuses rprivate there.
        "BindOptions": {"Propagation": "rprivate" if source == path else "rslave"},
    }


def _seen_at(place: str, part: str, mounts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mounts once more, those of one part of ``CONTAINER_ROOT``, for another path."""
    root = f"{CONTAINER_ROOT}/{part}"
    return [
        {**mount, "Target": place + mount["Target"].removeprefix(root)}
        for mount in mounts
        if PurePosixPath(mount["Target"]).is_relative_to(root)
    ]
