"""The section of GPUs: which of this host's devices models get, and how many of a type at a time."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ..schemas.gpu import GpuType, gpu_type

__all__ = ["GpuDevices"]

# A GPU, a slice of one, and a slice as drivers before 470 call it. No replica of a shared device (``GPU-…::0``).
_UUID = re.compile(r"GPU-[0-9A-Za-z-]{1,80}|MIG-[0-9A-Za-z-]{1,80}(/[0-9]{1,3}/[0-9]{1,3})?")


class GpuDevices(BaseModel):
    """Devices of this host that are leased to models, one model each (docs/gpus.md)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    devices: Literal["auto"] | tuple[str, ...] = Field(
        "auto",
        description="UUIDs of the GPUs and MIG slices of this host that models get (`nvidia-smi -L`); `auto`: all that "
        "NVML lists, and of a GPU in MIG mode its slices.",
    )
    max_per_type: dict[GpuType, Annotated[int, Field(ge=0)]] = Field(
        default_factory=dict,
        description='Most devices of a type that models of this home have at a time, such as `{"A100-SXM4-80GB": 2}`; '
        "a job that asks for more is refused.",
    )
    lease_dir: Path | None = Field(
        None,
        description="Folder of the leases, the same for all that share these devices; when absent `/run/lock`, or "
        "`/dev/shm` where not everybody may write there, and in a container the home.",
    )

    @field_validator("devices", mode="before")
    @classmethod
    def _auto_or_uuids(cls, value: Any) -> Any:
        if value == "auto":
            return value
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"expected auto, or a list of UUIDs as `nvidia-smi -L` shows them, got {value!r}")
        for each in value:
            if not isinstance(each, str) or not _UUID.fullmatch(each):
                raise ValueError(f"expected UUIDs as `nvidia-smi -L` shows them (GPU-…, MIG-…), got {each!r}")
        if len(set(value)) != len(value):
            raise ValueError("a device is given twice")
        return value

    @field_validator("max_per_type", mode="before")
    @classmethod
    def _one_number_a_type(cls, value: Any) -> Any:
        if isinstance(value, dict):
            names = [gpu_type(key) for key in value if isinstance(key, str)]
            for name in names:
                if names.count(name) > 1:
                    raise ValueError(f"the type {name[:80]!r} is given twice")
        return value

    @field_validator("lease_dir")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_absolute():
            raise ValueError("expected a path from the root, such as /run/lock")
        return value
