"""The seal: everything that bubblewrap is told for one model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from ..base import CONTAINER_ROOT, ROOT_VARIABLE, RunSpec, Staged
from ..volumes import memory_volumes
from .root import Root

__all__ = ["needed_mount_points", "seal", "system"]

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
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
        *system(root, seen),
        *("--dev", "/dev", *_memory("/dev/shm", min(limits.shm_size, limits.memory)), "--remount-ro", "/dev"),
        *("--proc", "/proc", *_hidden(), *_memory("/tmp", limits.tmp)),
        *_cpus(),
    ]
    if code is not None:
        options += ["--ro-bind", seen(code), CONTAINER_ROOT]
    for path in memory_volumes(root.volumes, [*_covered(mounts)]):
        options += _memory(path, limits.tmp) if path != "/dev/shm" else []
    for source, target, writable in mounts:
        options += ["--bind" if writable else "--ro-bind", seen(source), target]
    if root.image is None:
        options += ["--remount-ro", "/"]
    options += ["--perms", "0644", "--ro-bind-data", str(meta), f"{CONTAINER_ROOT}/meta.json"]
    for name, value in environment(spec, root).items():
        options += ["--setenv", name, value]
    return [*options, "--chdir", working_dir(spec, root)]


def environment(spec: RunSpec, root: Root) -> Mapping[str, str]:
    """The model's variables: the image's, ours, and the job's over both."""
    # The user has no entry in the image, and libraries ask for its name and want a place for their caches.
    ours = {ROOT_VARIABLE: CONTAINER_ROOT, "HOME": "/tmp", "USER": "model"}
    return {"PATH": DEFAULT_PATH, **root.environment, **ours, **spec.job.container.env}


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
    """Options that mount the model's system.

    Args:
        root: It.
        seen: As ``seal``.
    """
    if root.image is not None:
        return ["--ro-bind", seen(root.image), "/"]
    options = ["--size", "1048576", "--perms", "0755", "--tmpfs", "/"]
    for folder in root.folders:
        options += ["--ro-bind", seen(folder), str(folder)]
    for path, target in root.links:
        options += ["--symlink", target, path]
    return options


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
