"""Which devices may be leased: by NVML, by CDI specifications, and by what the operator says."""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import json
import sys
from pathlib import Path

import pytest
from autoscorer.core.config import load_settings
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.executors.gpu import nvml as asked
from autoscorer.executors.gpu.cdi import spec_devices
from autoscorer.executors.gpu.inventory import Inventory, take_inventory
from autoscorer.schemas.gpu import gpu_type

from ...support.gpus import A100, FAKE, T4, GiB, Host, gpu, mig


def look(*folders: Path) -> Inventory:
    return take_inventory(load_settings(), spec_dirs=folders)


def uuids(inventory: Inventory) -> list[str]:
    return [gpu.uuid for gpu in inventory.gpus]


def refused() -> AutoScorerError:
    with pytest.raises(AutoScorerError) as caught:
        look()
    assert caught.value.code is ErrorCode.BACKEND_UNAVAILABLE
    return caught.value


def test_the_stand_in_has_what_the_library_has() -> None:
    """Else the tests below would say nothing of the library: names, parameters, constants."""
    (real,) = [path for path in importlib.metadata.files("nvidia-ml-py") or () if path.name == "pynvml.py"]

    def signatures(text: str) -> dict[str, list[str]]:
        return {
            node.name: [argument.arg for argument in node.args.args]
            for node in ast.parse(text).body
            if isinstance(node, ast.FunctionDef) and node.name.startswith("nvml")
        }

    text = real.locate().read_text()
    ours, theirs = signatures((FAKE / "pynvml.py").read_text()), signatures(text)
    assert ours == {name: theirs[name] for name in ours}
    used = {name for name in inspect.getsource(asked).replace("(", " ").split() if name.startswith("nv.nvml")}
    assert {name.removeprefix("nv.").rstrip(",)") for name in used} <= set(ours)
    for constant in ("NVML_COMPUTEMODE_PROHIBITED", "NVML_DEVICE_MIG_ENABLE"):
        values = [line.split("=")[1].split("#")[0] for line in text.splitlines() if line.startswith(f"{constant} ")]
        assert [int(value, 0) for value in values] == [{"NVML_COMPUTEMODE_PROHIBITED": 2}.get(constant, 1)]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("NVIDIA A100-SXM4-80GB", A100),
        ("NVIDIA-A100-SXM4-80GB", A100),
        ("A100-SXM4-80GB", A100),
        ("Tesla T4", T4),
        ("NVIDIA GeForce RTX 4090", "GeForce-RTX-4090"),
        ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", "A100-SXM4-80GB-MIG-1g.10gb"),
    ],
)
def test_a_type_has_one_name_however_it_is_written(name: str, kind: str) -> None:
    assert gpu_type(name) == kind == gpu_type(kind)


def test_all_that_nvml_lists_the_smallest_first(host: Host) -> None:
    host.has(gpu(0), gpu(1, name="Tesla T4", memory=16 * GiB))
    assert [(each.uuid, each.type, each.memory, each.minor) for each in look().gpus] == [
        ("GPU-1", T4, 16 * GiB, 1),
        ("GPU-0", A100, 80 * GiB, 0),
    ]
    assert look().left_out == ()


def test_of_a_gpu_in_mig_mode_its_slices(host: Host) -> None:
    host.has(mig(0, 1, 2), gpu(1))
    found = look().gpus
    assert [each.uuid for each in found] == ["MIG-0-1", "MIG-0-2", "GPU-1"]
    assert (found[0].parent, found[0].minor, found[0].instance) == ("GPU-0", 0, (8, 0))
    assert found[0].type == "A100-SXM4-80GB-MIG-1g.10gb"
    host.has(mig(0))
    assert uuids(look()) == [], "a GPU in MIG mode that has no slice computes nothing"


def test_the_devices_that_the_operator_names_and_no_others(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.has(mig(0, 1, 2), gpu(1), gpu(2))
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__GPU__DEVICES", '["MIG-0-2", "GPU-2", "GPU-9"]')
    assert uuids(look()) == ["MIG-0-2", "GPU-2"]
    assert look().left_out == ("GPU-9: it is in executors.gpu.devices, and not here",)
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__GPU__DEVICES", '["GPU-0"]')
    assert uuids(look()) == ["GPU-0"], "as a whole"
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__GPU__DEVICES", "[]")
    assert uuids(look()) == []


def test_a_device_that_is_lost_or_prohibited_is_left_out_and_the_others_go_on(host: Host) -> None:
    host.has(gpu(0, lost=True), gpu(1, mode=2), mig(2, 1, mode=2), gpu(3))
    found = look()
    assert uuids(found) == ["GPU-3"]
    told = " ".join(found.left_out)
    assert "GPU number 0: NVML says: GPU is lost" in told
    assert "GPU-1: its compute mode is Prohibited" in told and "MIG-2-1: its compute mode is Prohibited" in told


def test_shared_gpus_are_left_out_unless_they_are_allowed(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.has(gpu(0), gpu(1), mig(2, 1), gpu(3))
    spec = {
        "cdiVersion": "0.5.0",
        "kind": "nvidia.com/gpu",
        "devices": [
            {"name": "GPU-0::0", "containerEdits": {"deviceNodes": [{"path": "/dev/nvidia0"}]}},
            {"name": "GPU-1", "containerEdits": {"env": ["CUDA_MPS_PIPE_DIRECTORY=/mps"]}},
            {"name": "GPU-2", "containerEdits": {"env": ["CUDA_MPS_PIPE_DIRECTORY=/mps"]}},
            {"name": "GPU-3"},
        ],
    }
    (tmp_path / "a.json").write_text(json.dumps(spec))
    (tmp_path / "b.yaml").write_text("kind: [")  # one that nobody can read
    (tmp_path / "c.json").write_text('{"kind": "other.com/x", "devices": [{"name": "GPU-3::1"}]}')
    found = look(tmp_path)
    assert uuids(found) == ["GPU-3"]
    assert "GPU-0: it is shared by time-slicing, which security.allow_shared_gpu does not allow" in found.left_out
    assert "MIG-2-1: it is shared by MPS, which security.allow_shared_gpu does not allow" in found.left_out
    monkeypatch.setenv("AUTOSCORER_SECURITY__ALLOW_SHARED_GPU", "true")
    shared = {each.uuid: each.shared for each in look(tmp_path).gpus}
    assert shared == {"GPU-0": "time-slicing", "GPU-1": "MPS", "MIG-2-1": "MPS", "GPU-3": None}


def test_mps_that_runs_shares_every_device(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.has(gpu(0))
    monkeypatch.setattr(asked, "_MPS_NAME", Path(f"/proc/{__import__('os').getpid()}/comm").read_text().strip()[:15])
    assert "it is shared by MPS" in look().left_out[0]


def test_what_a_specification_describes(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text('kind: nvidia.com/gpu\ndevices: [{name: "0"}, {name: GPU-1}, 7, {name: 3}]\n')
    (tmp_path / "y.json").write_text('{"kind": "nvidia.com/gpu", "devices": "none"}')
    assert spec_devices([tmp_path, tmp_path / "missing"]) == {"nvidia.com/gpu=0", "nvidia.com/gpu=GPU-1"}


def test_without_a_driver_there_is_no_gpu(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FAKE_NVML")
    assert "There is no driver of NVIDIA here" in refused().message


def test_without_the_module_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "pip install 'autoscorer[gpu]'" in refused().message
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__GPU__DEVICES", '["GPU-1"]')
    found = look()
    assert uuids(found) == ["GPU-1"] and not found.is_seen
    assert found.gpus[0].type is None and found.gpus[0].memory is None
    # Of which GPU a slice is, nobody knows then, and the two would be given out at the same time.
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__GPU__DEVICES", '["GPU-1", "MIG-2"]')
    assert "MIG" in refused().message and "pip install 'autoscorer[gpu]'" in refused().message


def test_what_nvml_raises_reaches_nobody(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    import pynvml

    def fail() -> None:
        raise pynvml.NVMLError("Unknown Error")

    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", fail)
    assert "Unknown Error" in refused().message
    monkeypatch.setattr(pynvml, "nvmlInit", fail)
    assert "Unknown Error" in refused().message


def test_the_real_library_on_a_host_without_a_driver() -> None:
    """Where a test runs on a host with a driver, the devices are told instead."""
    sys.modules.pop("pynvml", None)
    try:
        look()
    except AutoScorerError as error:
        assert error.code is ErrorCode.BACKEND_UNAVAILABLE
        assert "NVML Shared Library Not Found" in error.message or "Driver" in error.message
