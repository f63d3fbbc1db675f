"""What of ``/dev`` and of the driver's libraries a sandbox without a container engine needs for leased GPUs."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import AutoScorerError, ErrorCode
from ..base import Gpu

__all__ = ["NO_DEVICES", "DeviceBinds", "device_binds"]

# Of the driver, what programs that compute load. What draws, encodes or decodes is left out.
_LIBRARIES = re.compile(
    r"lib(cuda|cudadebugger|nvidia-(allocator|compiler|gpucomp|ml|nvvm|nvvm70|opencl|pkcs11|pkcs11-openssl3|"
    r"ptxjitcompiler))\.so(\.[0-9]+)*"
)
_CACHED = re.compile(r"^\s*(?P<name>\S+) \((?P<kind>[^)]*)\) => (?P<path>/.*)$", re.MULTILINE)
# How ldconfig calls what this machine's own programs load.
_KINDS = {"x86_64": "x86-64", "aarch64": "AArch64"}


@dataclass(frozen=True)
class DeviceBinds:
    """Paths of the host, each to be seen at the same path or, of a library, wherever the model looks for it.

    Args:
        devices: Device nodes, to be bound as such.
        libraries: Files, to be bound read-only; links are to be followed.
    """

    devices: tuple[Path, ...]
    libraries: tuple[Path, ...]


NO_DEVICES = DeviceBinds((), ())


def device_binds(
    gpus: Sequence[Gpu],
    *,
    dev: Path = Path("/dev"),
    proc: Path = Path("/proc"),
    cache: Callable[[], str] | None = None,
) -> DeviceBinds:
    """The nodes of some devices and of no other one, and the driver's libraries.

    Args:
        gpus: What a run has leased.
        dev: The folder of the nodes.
        proc: Where the driver says which device has which number.
        cache: Gives what ``ldconfig -p`` prints.

    Raises:
        AutoScorerError: ``BACKEND_UNAVAILABLE`` where a node, its number or the library of CUDA is not to be found.
    """
    if not gpus:
        return NO_DEVICES
    nodes = [dev / name for name in ("nvidiactl", "nvidia-uvm")]
    for gpu in gpus:
        nodes.append(dev / f"nvidia{_minor(gpu, proc)}")
        nodes.extend(_slice_nodes(gpu, dev, proc))
    for node in nodes:
        if not node.exists():
            raise _missing(f"{node} is not there", "`nvidia-modprobe -u -c 0` makes the nodes.")
    # Only profilers need this one.
    nodes += [path for path in (dev / "nvidia-uvm-tools",) if path.exists()]
    libraries = tuple(_libraries((cache or _ldconfig)()))
    if not any(path.name.startswith("libcuda.so") for path in libraries):
        raise _missing("ldconfig knows no libcuda.so of this machine's kind", "Install NVIDIA's driver libraries.")
    return DeviceBinds(tuple(dict.fromkeys(nodes)), libraries)


def _minor(gpu: Gpu, proc: Path) -> int:
    if gpu.minor is not None:
        return gpu.minor
    for path in sorted(proc.glob("driver/nvidia/gpus/*/information")):
        facts = dict(re.findall(r"^([^:\n]+):\s*(.*?)\s*$", path.read_text(), re.MULTILINE))
        if facts.get("GPU UUID") == (gpu.parent or gpu.uuid) and facts.get("Device Minor", "").isdigit():
            return int(facts["Device Minor"])
    raise _missing(f"the driver does not say which number {gpu.uuid} has", "Install pip install 'autoscorer[gpu]'.")


def _slice_nodes(gpu: Gpu, dev: Path, proc: Path) -> Iterator[Path]:
    """The nodes that give the right to a MIG slice: one of its GPU instance, one of its compute instance."""
    if gpu.instance is None:
        return
    instance, compute = gpu.instance
    table = proc / "driver/nvidia-caps/mig-minors"
    try:
        numbers = dict(line.split() for line in table.read_text().splitlines() if len(line.split()) == 2)
    except OSError as error:
        raise _missing(f"{table} can't be read: {error.strerror}", "It tells the nodes of MIG slices.") from None
    for right in (f"gpu{gpu.minor}/gi{instance}/access", f"gpu{gpu.minor}/gi{instance}/ci{compute}/access"):
        if right not in numbers:
            raise _missing(f"{table} has no line for {right}", f"It tells the node of the MIG slice {gpu.uuid}.")
        yield dev / "nvidia-caps" / f"nvidia-cap{numbers[right]}"


def _libraries(cached: str) -> Iterator[Path]:
    kind = _KINDS.get(platform.machine(), "")
    for found in _CACHED.finditer(cached):
        if _LIBRARIES.fullmatch(found["name"]) and kind in found["kind"]:
            yield Path(found["path"])


def _ldconfig() -> str:
    # It lies in a folder that an ordinary user's PATH need not have.
    program = shutil.which("ldconfig", path=f"{os.environ.get('PATH', os.defpath)}:/sbin:/usr/sbin")
    if program is None:
        raise _missing("there is no ldconfig", "It tells where the driver's libraries are.")
    done = subprocess.run([program, "-p"], capture_output=True, text=True, errors="replace")
    return done.stdout


def _missing(what: str, advice: str) -> AutoScorerError:
    return AutoScorerError(ErrorCode.BACKEND_UNAVAILABLE, f"The GPU can't be given to a sealed run: {what}. {advice}")
