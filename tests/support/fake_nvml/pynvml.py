"""A stand-in for NVIDIA's ``pynvml``: the functions that AutoScorer calls, over devices in a file.

The file is that of the variable FAKE_NVML, a list of devices as ``tests/support/gpus.py`` writes it. It is read at each
call, so that a test, or another process of it, changes what is on a device while a run goes on.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

NVML_COMPUTEMODE_PROHIBITED = 2
NVML_DEVICE_MIG_ENABLE = 1


class NVMLError(Exception):
    def __str__(self) -> str:
        return str(self.args[0]) if self.args else type(self).__name__


class NVMLError_LibraryNotFound(NVMLError):
    pass


class NVMLError_DriverNotLoaded(NVMLError):
    pass


class NVMLError_NotSupported(NVMLError):
    pass


class NVMLError_FunctionNotFound(NVMLError):
    pass


class NVMLError_NotFound(NVMLError):
    pass


class NVMLError_InvalidArgument(NVMLError):
    pass


class NVMLError_GpuIsLost(NVMLError):
    pass


def _devices() -> list[dict[str, Any]]:
    text = Path(os.environ["FAKE_NVML"]).read_text()
    found: list[dict[str, Any]] = json.loads(text)
    return found


def _all() -> list[dict[str, Any]]:
    return [each for device in _devices() for each in (device, *(device.get("slices") or ()))]


def _of(uuid: str) -> dict[str, Any]:
    for device in _all():
        if device["uuid"] == uuid:
            if device.get("lost"):
                raise NVMLError_GpuIsLost("GPU is lost")
            return device
    raise NVMLError_NotFound("Not Found")


def nvmlInit():
    if "FAKE_NVML" not in os.environ:
        raise NVMLError_LibraryNotFound("NVML Shared Library Not Found")


def nvmlShutdown():
    pass


def nvmlDeviceGetCount():
    return len(_devices())


def nvmlDeviceGetHandleByIndex(index):
    device = _devices()[index]
    if device.get("lost"):
        raise NVMLError_GpuIsLost("GPU is lost")
    return device["uuid"]


def nvmlDeviceGetHandleByUUID(uuid):
    return _of(uuid)["uuid"]


def nvmlDeviceGetUUID(handle):
    return _of(handle)["uuid"]


def nvmlDeviceGetName(handle):
    return _of(handle)["name"]


def nvmlDeviceGetMemoryInfo(handle, version=None):
    device = _of(handle)
    return SimpleNamespace(total=device["memory"], used=device.get("used", 0))


def nvmlDeviceGetMinorNumber(handle):
    device = _of(handle)
    if "minor" not in device:
        raise NVMLError_NotSupported("Not Supported")
    return device["minor"]


def nvmlDeviceGetComputeMode(handle):
    return _of(handle).get("mode", 0)


def nvmlDeviceGetMigMode(device):
    slices = _of(device).get("slices")
    if slices is None:
        raise NVMLError_NotSupported("Not Supported")
    return [1, 1]


def nvmlDeviceGetMaxMigDeviceCount(device):
    return 7


def nvmlDeviceGetMigDeviceHandleByIndex(device, index):
    slices = _of(device)["slices"]
    if index >= len(slices):
        raise NVMLError_NotFound("Not Found")
    return slices[index]["uuid"]


def nvmlDeviceGetGpuInstanceId(device):
    return _of(device)["instance"][0]


def nvmlDeviceGetComputeInstanceId(device):
    return _of(device)["instance"][1]


def nvmlDeviceGetUtilizationRates(handle):
    device = _of(handle)
    if "instance" in device:
        raise NVMLError_NotSupported("Not Supported")
    return SimpleNamespace(gpu=device.get("busy", 0), memory=0)


def nvmlDeviceGetComputeRunningProcesses(handle):
    return [SimpleNamespace(pid=pid) for pid in _of(handle).get("pids", [])]


def nvmlDeviceGetMPSComputeRunningProcesses(handle):
    device = _of(handle)
    if "instance" in device:
        raise NVMLError_NotSupported("Not Supported")
    return [SimpleNamespace(pid=pid) for pid in device.get("mps", [])]
