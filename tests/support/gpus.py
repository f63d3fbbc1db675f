"""A host with GPUs that are none: a file of devices, which the stand-in for ``pynvml`` reads."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

__all__ = ["A100", "T4", "GiB", "Host", "gpu", "mig"]

GiB = 1024**3
FAKE = Path(__file__).parent / "fake_nvml"
A100, T4 = "A100-SXM4-80GB", "Tesla-T4"


def gpu(number: int, *, name: str = "NVIDIA A100-SXM4-80GB", memory: int = 80 * GiB, **more: Any) -> dict[str, Any]:
    """A GPU: ``used`` (bytes), ``pids``, ``mps``, ``busy`` (percent), ``mode``, ``slices`` and ``lost`` say more."""
    return {"uuid": f"GPU-{number}", "name": name, "memory": memory, "minor": number, **more}


def mig(number: int, *slices: int, **more: Any) -> dict[str, Any]:
    """A GPU in MIG mode, whose slices are called after their numbers."""
    made = [
        {
            "uuid": f"MIG-{number}-{each}",
            "name": "NVIDIA A100-SXM4-80GB MIG 1g.10gb",
            "memory": 10 * GiB,
            "instance": [each + 7, 0],
        }
        for each in slices
    ]
    return gpu(number, slices=made, **more)


class Host:
    """The devices of this host, as every process that this one starts sees them too."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._file = folder / "devices.json"
        monkeypatch.setenv("FAKE_NVML", str(self._file))
        monkeypatch.setenv("AUTOSCORER_EXECUTORS__GPU__LEASE_DIR", str(folder))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FAKE), *filter(None, [os.environ.get("PYTHONPATH")])]))
        monkeypatch.syspath_prepend(str(FAKE))
        monkeypatch.delitem(sys.modules, "pynvml", raising=False)
        self.has()

    def has(self, *devices: dict[str, Any]) -> None:
        """Have these devices and no others from now on."""
        made = self._file.with_suffix(".new")
        made.write_text(json.dumps(devices))
        made.replace(self._file)
