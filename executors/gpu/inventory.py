"""Which devices of this host may be leased, by the configuration and by what NVML and the CDI specifications tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode
from ..base import Gpu
from .cdi import SPEC_DIRS, shared_devices
from .nvml import NoNvml, list_gpus, nvml

__all__ = ["Inventory", "take_inventory"]


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """What may be leased.

    Args:
        gpus: The devices; the smallest first, so that large ones stay for those that need them.
        left_out: Those that may not be, each with the reason, as a reader knows them.
        is_seen: Whether NVML tells of them; else nothing but their UUIDs is known.
    """

    gpus: tuple[Gpu, ...]
    left_out: tuple[str, ...] = ()
    is_seen: bool = True


def take_inventory(settings: Settings, *, spec_dirs: Sequence[Path] = SPEC_DIRS) -> Inventory:
    """Look at the devices of this host.

    Args:
        settings: The configuration; ``executors.gpu.devices`` says which are meant.
        spec_dirs: Where CDI specifications lie.

    Raises:
        AutoScorerError: ``BACKEND_UNAVAILABLE`` where nobody says which devices there are, or NVML fails.
    """
    configured = settings.executors.gpu.devices
    try:
        with nvml() as nv:
            found = list_gpus(nv)
    except NoNvml as error:
        if configured == "auto":
            error.message += " Or name the devices in executors.gpu.devices."
            raise
        return _unseen(configured)
    if configured == "auto":
        wanted = [gpu for gpu in found.gpus if gpu.uuid not in found.sliced]
        left_out = dict(found.unfit)
    else:
        # A GPU that is named is leased as a whole, also where it is in MIG mode.
        wanted = [gpu for gpu in found.gpus if gpu.uuid in configured]
        there = {gpu.uuid for gpu in found.gpus}
        left_out = {uuid: "it is in executors.gpu.devices, and not here" for uuid in configured if uuid not in there}
        left_out |= {name: why for name, why in found.unfit.items() if name in configured or name not in there}
    shared = shared_devices(spec_dirs)
    wanted = [replace(gpu, shared=gpu.shared or shared.get(gpu.uuid) or shared.get(gpu.parent)) for gpu in wanted]
    if not settings.security.allow_shared_gpu:
        left_out |= {
            gpu.uuid: f"it is shared by {gpu.shared}, which security.allow_shared_gpu does not allow"
            for gpu in wanted
            if gpu.shared is not None
        }
    gpus = sorted((gpu for gpu in wanted if gpu.uuid not in left_out), key=lambda gpu: gpu.memory or 0)
    return Inventory(gpus=tuple(gpus), left_out=tuple(f"{name}: {why}" for name, why in sorted(left_out.items())))


def _unseen(configured: Sequence[str]) -> Inventory:
    slices = [uuid for uuid in configured if uuid.startswith("MIG-")]
    if slices:
        raise AutoScorerError(
            ErrorCode.BACKEND_UNAVAILABLE,
            f"executors.gpu.devices names MIG slices ({slices[0]}, …), and only NVML knows of which GPU they are. "
            "Install its module (pip install 'autoscorer[gpu]').",
        )
    return Inventory(gpus=tuple(Gpu(uuid=uuid) for uuid in configured), is_seen=False)
