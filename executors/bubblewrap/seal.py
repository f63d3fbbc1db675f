"""The seal: everything that bubblewrap is told for one model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from ..base import CONTAINER_ROOT, ROOT_VARIABLE, RunSpec, Staged
from ..gpu.binds import NO_DEVICES, DeviceBinds
from ..volumes import memory_volumes
from .root import Root

__all__ = ["needed_mount_points", "seal", "system"]

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Where an image finds the driver: in a folder that is there in any case and made anew for each run.
_LIBRARIES = "/dev/nvidia-libraries"
_CPUS = Path("/sys/devices/system/cpu")
# What container engines hide of /proc: it tells of the whole machine, or leads into its memory.
_HIDDEN_FILES = ("kcore", "keys", "latency_stats", "sched_debug", "timer_list")
_HIDDEN_FOLDERS = ("acpi", "scsi")


def seal(
    spec: RunSpec,
    root: Root,
    staged: Staged,
    *,
    seen: Callable[[Path], str],
    code: Path | None,
    gpus: DeviceBinds = NO_DEVICES,
    meta: int,
    seccomp: int,
    info: int,
) -> list[str]:
    """Bubblewrap's options. docs/sealed-run.md says why each line is there.

    Args:
        spec: The run.
        root: The model's system.
        staged: The staged folder.
        seen: How bubblewrap reaches a path of this process.
        code: Folder that ``/workspace`` is, where no image has one; it holds the mount points.
        gpus: Device nodes of the run's GPUs, and what an image lacks of their driver.
        meta: Descriptor of the model's meta.json. It is the last thing that is mounted, so that whether it was read
            tells whether the sandbox was complete.
        seccomp: Descriptor of the program of system calls.
        info: Descriptor that bubblewrap tells the first process to.

    Raises:
        AutoScorerError: ``CONTAINER_FAILED`` for a volume that can't be.
    """
    limits = spec.limits
    mounts = _mounts(spec, staged)
    options = [
        # User, PID, IPC, UTS, network and mount namespaces, and of control groups where the kernel has them.
        *("--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session", "--clearenv"),
        *("--hostname", "model", "--seccomp", str(seccomp), "--info-fd", str(info)),
        *_top(root, seen),
        *(
            "--dev",
            "/dev",
            *_devices(root, gpus, seen),
            *_memory("/dev/shm", min(limits.shm_size, limits.memory)),
            "--remount-ro",
            "/dev",
        ),
        *("--proc", "/proc", *_hidden(), *_memory("/tmp", limits.tmp)),
        *_cpus(),
    ]
    if code is not None:
        options += ["--ro-bind", seen(code), CONTAINER_ROOT]
    # After what covers them: a Python environment may well lie below /tmp.
    options += system(root, seen)
    for path in memory_volumes(root.volumes, [*_covered(mounts)]):
        options += _memory(path, limits.tmp) if path != "/dev/shm" else []
    for source, target, writable in mounts:
        options += ["--bind" if writable else "--ro-bind", seen(source), target]
    if root.image is None:
        options += ["--remount-ro", "/"]
    options += ["--perms", "0644", "--ro-bind-data", str(meta), f"{CONTAINER_ROOT}/meta.json"]
    for name, value in environment(spec, root, gpus).items():
        options += ["--setenv", name, value]
    return [*options, "--chdir", working_dir(spec, root)]


def environment(spec: RunSpec, root: Root, gpus: DeviceBinds = NO_DEVICES) -> Mapping[str, str]:
    """The model's variables: the image's, ours, and the job's over both."""
    # The user has no entry in the image, and libraries ask for its name and want a place for their caches.
    ours = {ROOT_VARIABLE: CONTAINER_ROOT, "HOME": "/tmp", "USER": "model"}
    found = {"PATH": DEFAULT_PATH, **root.environment, **ours, **spec.job.container.env}
    if gpus.devices:
        found["CUDA_VISIBLE_DEVICES"] = ",".join(gpu.uuid for gpu in spec.gpus)
        if root.image is not None:
            found["LD_LIBRARY_PATH"] = ":".join(filter(None, (_LIBRARIES, found.get("LD_LIBRARY_PATH"))))
    return found


def working_dir(spec: RunSpec, root: Root) -> str:
    """Where the model begins, as on Docker."""
    image = root.working_dir
    return spec.job.container.working_dir or (image if image not in ("", "/") else CONTAINER_ROOT)


def needed_mount_points(spec: RunSpec, root: Root, staged: Staged) -> tuple[list[str], list[str]]:
    """Folders and files that a read-only root must have for the seal.

    They stay in the image for other workspaces, so none of them is called after anything of this one: what is mounted
    inside of ``input`` has its place in the staged folder.
    """
    folders = ["/dev", "/proc", "/sys", "/tmp", CONTAINER_ROOT, working_dir(spec, root)]
    files = [f"{CONTAINER_ROOT}/meta.json"]
    tops = [target for source, target, _ in _mounts(spec, staged) if source == staged.folder / "input"]
    for source, target, _ in _mounts(spec, staged):
        if not any(PurePosixPath(top) in PurePosixPath(target).parents for top in tops):
            (folders if source.is_dir() else files).append(target)
    volumes = memory_volumes(root.volumes, [*_covered(_mounts(spec, staged))])
    return folders + [path for path in volumes if path != "/dev/shm"], files


def _mounts(spec: RunSpec, staged: Staged) -> Sequence[tuple[Path, str, bool]]:
    """What is seen where, and whether it can be written."""
    mounts = [
        (staged.folder / "input", f"{CONTAINER_ROOT}/input", False),
        *((path, f"{CONTAINER_ROOT}/input/{name}", False) for name, path in sorted(staged.inputs.items())),
        (staged.output, f"{CONTAINER_ROOT}/output", True),
    ]
    for place, part in spec.places.items():
        top = f"{CONTAINER_ROOT}/{part}"
        seen = [*mounts, (staged.meta, f"{CONTAINER_ROOT}/meta.json", False)]
        mounts += [
            (source, place + target.removeprefix(top), writable)
            for source, target, writable in seen
            if PurePosixPath(target).is_relative_to(top)
        ]
    return mounts


def _covered(mounts: Sequence[tuple[Path, str, bool]]) -> Iterator[str]:
    """Where something is mounted in any case, so that a volume of the image gives way."""
    yield from (target for _, target, _ in mounts)
    yield from ("/tmp", f"{CONTAINER_ROOT}/meta.json")


def system(root: Root, seen: Callable[[Path], str]) -> list[str]:
    """Options that mount the folders of the host that the model's system is made of; none where it is an image.

    Args:
        root: It.
        seen: As ``seal``.
    """
    options = []
    for folder in root.folders:
        options += ["--ro-bind", seen(folder), str(folder)]
    for path, target in root.links:
        options += ["--symlink", target, path]
    return options


def _devices(root: Root, gpus: DeviceBinds, seen: Callable[[Path], str]) -> list[str]:
    options = [part for node in gpus.devices for part in ("--dev-bind", seen(node), str(node))]
    if root.image is not None:  # the host's own system has them
        for library in gpus.libraries:
            options += ["--ro-bind", seen(library.resolve()), f"{_LIBRARIES}/{library.name}"]
    return options


def _top(root: Root, seen: Callable[[Path], str]) -> list[str]:
    if root.image is not None:
        return ["--ro-bind", seen(root.image), "/"]
    return ["--size", "1048576", "--perms", "0755", "--tmpfs", "/"]


def _memory(path: str, size: int) -> list[str]:
    return ["--size", str(size), "--perms", "1777", "--tmpfs", path]


def _cpus() -> list[str]:
    # Libraries for linear algebra ask how many there are; nothing else of the host's devices is to be seen.
    options = ["--size", "65536", "--perms", "0755", "--tmpfs", "/sys"]
    return [*options, "--ro-bind-try", str(_CPUS), str(_CPUS), "--remount-ro", "/sys"]


def _hidden() -> list[str]:
    options = []
    for name in _HIDDEN_FILES:
        if Path("/proc", name).exists():
            options += ["--ro-bind", "/dev/null", f"/proc/{name}"]
    for name in _HIDDEN_FOLDERS:
        if Path("/proc", name).exists():
            options += [
                "--size",
                "4096",
                "--perms",
                "0555",
                "--tmpfs",
                f"/proc/{name}",
                "--remount-ro",
                f"/proc/{name}",
            ]
    return options
