"""NVIDIA's management library, asked through ``pynvml`` (the extra ``gpu``); its exceptions end here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ...core.errors import AutoScorerError, ErrorCode
from ...schemas.gpu import gpu_type
from ..base import Gpu

__all__ = ["Found", "NoNvml", "compute_processes", "list_gpus", "memory_used", "nvml", "utilisation"]

# As the kernel shortens the names of MPS's control daemon and server.
_MPS_NAME = "nvidia-cuda-mps"


class NoNvml(AutoScorerError):
    """Nothing here can say which GPUs there are: the library or its Python module is not installed."""


@contextlib.contextmanager
def nvml() -> Iterator[Any]:
    """NVML for the time of the block.

    Raises:
        NoNvml: It is not there: ``BACKEND_UNAVAILABLE``.
        AutoScorerError: ``BACKEND_UNAVAILABLE`` with what it says.
    """
    try:
        import pynvml
    except ImportError:
        raise NoNvml(
            ErrorCode.BACKEND_UNAVAILABLE,
            "Nothing here can say which GPUs this host has. Install NVML's module (pip install 'autoscorer[gpu]').",
        ) from None
    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded) as error:
        raise NoNvml(
            ErrorCode.BACKEND_UNAVAILABLE,
            f"There is no driver of NVIDIA here ({error}), so there is no GPU to lease.",
        ) from None
    except pynvml.NVMLError as error:
        raise _unavailable(error) from error
    try:
        yield pynvml
    except pynvml.NVMLError as error:
        raise _unavailable(error) from error
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


class Found(NamedTuple):
    """What NVML lists.

    Args:
        gpus: Every GPU and, behind it, its MIG slices.
        sliced: UUIDs of the GPUs in MIG mode.
        unfit: Why a device can't be used, by its UUID, or by its number where it tells none.
    """

    gpus: list[Gpu]
    sliced: set[str]
    unfit: dict[str, str]


def list_gpus(nv: Any) -> Found:
    """All devices.

    Args:
        nv: What ``nvml`` gave.
    """
    found = Found([], set(), {})
    shared = "MPS" if _mps_is_running() else None
    for index in range(nv.nvmlDeviceGetCount()):
        try:
            handle = nv.nvmlDeviceGetHandleByIndex(index)
            gpu = _device(nv, handle, shared)
            is_sliced = _is_sliced(nv, handle)
            slices = list(_slices(nv, handle, gpu)) if is_sliced else []
            is_prohibited = nv.nvmlDeviceGetComputeMode(handle) == nv.NVML_COMPUTEMODE_PROHIBITED
        except nv.NVMLError as error:
            # It has fallen off the bus, say; the others go on.
            found.unfit[f"GPU number {index}"] = f"NVML says: {error}"
            continue
        found.gpus.extend([gpu, *slices])
        if is_sliced:
            found.sliced.add(gpu.uuid)
        if is_prohibited:
            found.unfit.update({each.uuid: "its compute mode is Prohibited" for each in (gpu, *slices)})
    return found


def compute_processes(nv: Any, uuid: str) -> list[int]:
    """The processes that compute on a device; those that only draw on it are not meant."""
    handle = nv.nvmlDeviceGetHandleByUUID(uuid)
    found = {process.pid for process in nv.nvmlDeviceGetComputeRunningProcesses(handle)}
    # Clients of MPS are in a list of their own, which older drivers and slices do not have.
    found |= {process.pid for process in _or_none(nv, nv.nvmlDeviceGetMPSComputeRunningProcesses, handle) or ()}
    return sorted(found)


def memory_used(nv: Any, uuid: str) -> int:
    """Bytes of a device's memory that are in use."""
    return int(nv.nvmlDeviceGetMemoryInfo(nv.nvmlDeviceGetHandleByUUID(uuid)).used)


def utilisation(nv: Any, uuid: str) -> float | None:
    """The share of the last moment in which a device computed, 0 to 1; None where it can't tell, as a slice."""
    rates = _or_none(nv, nv.nvmlDeviceGetUtilizationRates, nv.nvmlDeviceGetHandleByUUID(uuid))
    return None if rates is None else rates.gpu / 100


def _device(nv: Any, handle: Any, shared: str | None) -> Gpu:
    return Gpu(
        uuid=nv.nvmlDeviceGetUUID(handle),
        type=gpu_type(nv.nvmlDeviceGetName(handle)),
        memory=int(nv.nvmlDeviceGetMemoryInfo(handle).total),
        minor=_or_none(nv, nv.nvmlDeviceGetMinorNumber, handle),
        shared=shared,
    )


def _is_sliced(nv: Any, handle: Any) -> bool:
    modes = _or_none(nv, nv.nvmlDeviceGetMigMode, handle)
    return modes is not None and modes[0] == nv.NVML_DEVICE_MIG_ENABLE


def _slices(nv: Any, handle: Any, parent: Gpu) -> Iterator[Gpu]:
    for index in range(nv.nvmlDeviceGetMaxMigDeviceCount(handle)):
        slice_handle = _or_none(nv, nv.nvmlDeviceGetMigDeviceHandleByIndex, handle, index)
        if slice_handle is None:
            continue  # there are as many as could be, and most are not made
        yield Gpu(
            uuid=nv.nvmlDeviceGetUUID(slice_handle),
            type=gpu_type(nv.nvmlDeviceGetName(slice_handle)),
            memory=int(nv.nvmlDeviceGetMemoryInfo(slice_handle).total),
            minor=parent.minor,
            parent=parent.uuid,
            instance=(
                nv.nvmlDeviceGetGpuInstanceId(slice_handle),
                nv.nvmlDeviceGetComputeInstanceId(slice_handle),
            ),
            shared=parent.shared,
        )


def _or_none(nv: Any, ask: Callable[..., Any], *arguments: Any) -> Any:
    """An answer that not every device or driver has."""
    try:
        return ask(*arguments)
    except (
        nv.NVMLError_NotSupported,
        nv.NVMLError_FunctionNotFound,
        nv.NVMLError_NotFound,
        nv.NVMLError_InvalidArgument,
    ):
        return None


def _mps_is_running(proc: Path = Path("/proc")) -> bool:
    """Whether CUDA's Multi-Process Service runs, which lets processes of all users share what they compute on."""
    for entry in proc.glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            if entry.read_text().startswith(_MPS_NAME):
                return True
    return False


def _unavailable(error: Exception) -> AutoScorerError:
    return AutoScorerError(
        ErrorCode.BACKEND_UNAVAILABLE,
        f"NVIDIA's management library does not answer: {error}. `nvidia-smi` says more; the driver may need a restart.",
    )
