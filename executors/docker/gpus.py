"""How the Docker Engine is asked for the devices that a run has leased: always by their UUIDs, never by a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..base import Gpu
from ..gpu.cdi import qualified, spec_devices
from ..gpu.environment import NO_DEVICE

__all__ = ["NO_GPUS", "GpuRequest", "gpu_request"]


class GpuRequest(NamedTuple):
    """What goes into the create request.

    Args:
        devices: The ``DeviceRequests``.
        visible: ``NVIDIA_VISIBLE_DEVICES``; None for a run without GPUs.
    """

    devices: tuple[dict[str, Any], ...]
    visible: str | None


NO_GPUS = GpuRequest((), None)


def gpu_request(gpus: Sequence[Gpu], info: Mapping[str, Any]) -> GpuRequest:
    """Ask for devices by CDI where the engine knows all of them so, and of NVIDIA's driver otherwise.

    Args:
        gpus: The run's devices.
        info: What the engine says of itself.
    """
    if not gpus:
        return NO_GPUS
    names = [qualified(gpu.uuid) for gpu in gpus]
    if set(names) <= _cdi_devices(info):
        # Not by the variable do the devices come then, and nothing else may come by it.
        return GpuRequest(({"Driver": "cdi", "DeviceIDs": names},), NO_DEVICE)
    uuids = [gpu.uuid for gpu in gpus]
    # By ``Count`` every container would get the same GPUs, the first ones.
    return GpuRequest(({"Driver": "nvidia", "DeviceIDs": uuids, "Capabilities": [["gpu"]]},), ",".join(uuids))


def _cdi_devices(info: Mapping[str, Any]) -> frozenset[str]:
    """What the engine lists (from 28.3 on), or what lies where it looks for specifications (from 25 on)."""
    listed = info.get("DiscoveredDevices")
    if isinstance(listed, list):
        return frozenset(
            str(each.get("ID")) for each in listed if isinstance(each, Mapping) and each.get("Source") == "cdi"
        )
    return spec_devices([Path(folder) for folder in info.get("CDISpecDirs") or ()])
