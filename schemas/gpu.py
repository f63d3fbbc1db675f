"""How a type of GPU is called: one name for what NVML, labels of Kubernetes and people write differently."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

__all__ = ["GpuType", "gpu_type"]

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._+-]{0,61}[A-Za-z0-9])?")
_VENDOR = re.compile(r"^NVIDIA[ -]+(?=\S)", re.IGNORECASE)


def gpu_type(name: str) -> str:
    """``NVIDIA A100-SXM4-80GB MIG 1g.10gb`` as ``A100-SXM4-80GB-MIG-1g.10gb``: no vendor, and no spaces."""
    return re.sub(r"\s+", "-", _VENDOR.sub("", name.strip()))


def _checked(value: str) -> str:
    name = gpu_type(value)
    if not _NAME.fullmatch(name):
        raise ValueError(f"expected a type of GPU such as 'A100-SXM4-80GB', got {value[:80]!r}")
    return name


def _text(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError(f"expected a type of GPU such as 'A100-SXM4-80GB', got {value!r}")
    return value


GpuType = Annotated[str, BeforeValidator(_text), AfterValidator(_checked)]
