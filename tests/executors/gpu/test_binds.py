"""What a sandbox without an engine is given of ``/dev``, on a host whose nodes and driver are files of the test."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.executors.base import Gpu
from autoscorer.executors.gpu.binds import DeviceBinds, device_binds

KIND = {"x86_64": "x86-64", "aarch64": "AArch64"}[platform.machine()]
CACHED = f"""\
1234 libs found in cache `/etc/ld.so.cache'
\tlibnvidia-ml.so.1 (libc6,{KIND}) => /usr/lib/libnvidia-ml.so.1
\tlibnvidia-glcore.so.550.54 (libc6,{KIND}) => /usr/lib/libnvidia-glcore.so.550.54
\tlibnvidia-ptxjitcompiler.so.1 (libc6,{KIND}) => /usr/lib/libnvidia-ptxjitcompiler.so.1
\tlibcudart.so.12 (libc6,{KIND}) => /usr/local/cuda/lib64/libcudart.so.12
\tlibcuda.so.1 (libc6,{KIND}) => /usr/lib/libcuda.so.1
\tlibcuda.so.1 (libc6) => /usr/lib32/libcuda.so.1
\tlibc.so.6 (libc6,{KIND}, OS ABI: Linux 3.2.0) => /lib/libc.so.6
"""


class Machine:
    """Nodes of three GPUs, two of them cut into slices."""

    def __init__(self, folder: Path) -> None:
        self.dev, self.proc = folder / "dev", folder / "proc"
        (self.dev / "nvidia-caps").mkdir(parents=True)
        for name in ("nvidia0", "nvidia1", "nvidia2", "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset"):
            (self.dev / name).touch()
        for number in (1, 2, 12, 13, 30, 31):
            (self.dev / "nvidia-caps" / f"nvidia-cap{number}").touch()
        caps = self.proc / "driver/nvidia-caps"
        caps.mkdir(parents=True)
        (caps / "mig-minors").write_text(
            "config 1\nmonitor 2\ngpu1/gi7/access 12\ngpu1/gi7/ci0/access 13\n"
            "gpu2/gi7/access 30\ngpu2/gi7/ci0/access 31\n"
        )
        for number in range(3):
            told = self.proc / f"driver/nvidia/gpus/0000:0{number}:00.0/information"
            told.parent.mkdir(parents=True)
            told.write_text(f"Model: \t\t NVIDIA A100\nGPU UUID: \t GPU-{number}\nDevice Minor: \t {2 - number}\n")

    def binds(self, *gpus: Gpu, cached: str = CACHED) -> DeviceBinds:
        return device_binds(gpus, dev=self.dev, proc=self.proc, cache=lambda: cached)

    def names(self, *gpus: Gpu) -> list[str]:
        return sorted(str(path.relative_to(self.dev)) for path in self.binds(*gpus).devices)


COMMON = ["nvidia-uvm", "nvidia-uvm-tools", "nvidiactl"]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_nodes_of_the_leased_gpus_and_of_no_other(machine: Machine) -> None:
    assert machine.names(Gpu(uuid="GPU-1", minor=1)) == [*COMMON[:2], "nvidia1", "nvidiactl"]
    two = machine.names(Gpu(uuid="GPU-0", minor=0), Gpu(uuid="GPU-2", minor=2))
    assert {name for name in two if name[-1].isdigit()} == {"nvidia0", "nvidia2"}
    assert device_binds([]) == DeviceBinds((), ())


def test_a_slice_has_the_rights_of_its_own_instances_alone(machine: Machine) -> None:
    leased = Gpu(uuid="MIG-1", parent="GPU-1", minor=1, instance=(7, 0))
    assert set(machine.names(leased)) == {
        *COMMON, "nvidia1", "nvidia-caps/nvidia-cap12", "nvidia-caps/nvidia-cap13"
    }  # fmt: skip


def test_the_drivers_libraries_of_this_machines_kind(machine: Machine) -> None:
    libraries = machine.binds(Gpu(uuid="GPU-0", minor=0)).libraries
    assert [str(path) for path in libraries] == [
        "/usr/lib/libnvidia-ml.so.1", "/usr/lib/libnvidia-ptxjitcompiler.so.1", "/usr/lib/libcuda.so.1"
    ]  # fmt: skip


def test_without_nvml_the_driver_says_which_number_a_gpu_has(machine: Machine) -> None:
    assert "nvidia2" in machine.names(Gpu(uuid="GPU-0"))


def test_what_is_missing_is_told(machine: Machine) -> None:
    def refused(gpu: Gpu, cached: str = CACHED) -> str:
        with pytest.raises(AutoScorerError) as caught:
            machine.binds(gpu, cached=cached)
        assert caught.value.code is ErrorCode.BACKEND_UNAVAILABLE
        return caught.value.message

    assert "which number GPU-9 has" in refused(Gpu(uuid="GPU-9"))
    assert "nvidia9 is not there" in refused(Gpu(uuid="GPU-9", minor=9))
    assert "libcuda.so" in refused(Gpu(uuid="GPU-0", minor=0), cached="")
    assert "gpu1/gi9" in refused(Gpu(uuid="MIG-1", parent="GPU-1", minor=1, instance=(9, 0)))
    (machine.dev / "nvidia-uvm").unlink()
    assert "nvidia-modprobe" in refused(Gpu(uuid="GPU-0", minor=0))


def test_this_machines_own_cache_can_be_read(machine: Machine) -> None:
    try:
        assert device_binds([Gpu(uuid="GPU-0", minor=0)], dev=machine.dev, proc=machine.proc).libraries
    except AutoScorerError as error:  # where there is no driver
        assert "libcuda.so" in error.message
