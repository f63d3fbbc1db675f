"""What CDI specifications say: which devices a container engine can give by name, and which of them are shared."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

__all__ = ["KIND", "SPEC_DIRS", "qualified", "shared_devices", "spec_devices"]

KIND = "nvidia.com/gpu"
# Where specifications lie by default; the second one is what programs make at run time.
SPEC_DIRS = (Path("/etc/cdi"), Path("/var/run/cdi"))
# One for a host with sixteen GPUs has some hundred KiB.
_MOST = 8 * 1024 * 1024
# Between a device's name and the number of a replica of it.
_REPLICA = "::"


def qualified(uuid: str) -> str:
    """The name by which an engine is asked for a device."""
    return f"{KIND}={uuid}"


def spec_devices(folders: Sequence[Path]) -> frozenset[str]:
    """Qualified names of all devices that the specifications in some folders describe."""
    return frozenset(
        f"{spec['kind']}={device['name']}" for spec in _specs(folders) for device in _devices(spec) if "kind" in spec
    )


def shared_devices(folders: Sequence[Path]) -> dict[str | None, str]:
    """UUIDs of GPUs that several containers get at the same time, and how: as far as specifications say it."""
    found: dict[str | None, str] = {}
    for spec in _specs(folders):
        if spec.get("kind") != KIND:
            continue
        for device in _devices(spec):
            uuid, replica, _ = device["name"].partition(_REPLICA)
            if replica:
                found[uuid] = "time-slicing"
            if _uses_mps(spec) or _uses_mps(device):
                found[uuid] = "MPS"
    return found


def _devices(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    listed = spec.get("devices")
    for device in listed if isinstance(listed, list) else ():
        if isinstance(device, dict) and isinstance(device.get("name"), str):
            yield device


def _uses_mps(holder: dict[str, Any]) -> bool:
    edits = holder.get("containerEdits")
    variables = edits.get("env") if isinstance(edits, dict) else None
    return isinstance(variables, list) and any(str(each).startswith("CUDA_MPS_") for each in variables)


def _specs(folders: Sequence[Path]) -> Iterator[dict[str, Any]]:
    import yaml

    paths = [path for folder in folders for suffix in ("json", "yaml") for path in sorted(folder.glob(f"*.{suffix}"))]
    for path in paths:
        # One that nobody can read is none that an engine uses.
        with contextlib.suppress(OSError, ValueError, yaml.YAMLError, RecursionError):
            with path.open(encoding="utf-8") as file:
                text = file.read(_MOST)
            spec = yaml.safe_load(text)  # JSON is YAML
            if isinstance(spec, dict):
                yield spec
