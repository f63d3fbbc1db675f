"""Runs with GPUs from end to end: what the model sees of them, what the Result says, what happens to what is left."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import load_settings
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.executors.gpu import usage
from autoscorer.executors.supervise import RunReport
from autoscorer.tasks.run import run_workspace

from ...support.gpus import A100, GiB, Host, gpu, mig
from ...support.workspaces import result_of

WRITES = "echo id,label > $AUTOSCORER_WORKSPACE/output/pred.csv"


@pytest.fixture
def run(make_workspace: Callable[..., Path]) -> Callable[..., RunReport]:
    """Run a script as a model of the process backend."""
    names = iter(range(100))

    def go(script: str, **meta: Any) -> RunReport:
        meta = {"resources": {"gpu": 1}, "timeout": 60, **meta}
        container = {"cmd": ["sh", "-c", script], **meta.pop("container", {})}
        root = make_workspace(f"ws{next(names)}", container=container, **meta)
        go.root = root  # type: ignore[attr-defined]
        return run_workspace(root, settings=load_settings(), backend="process")

    return go


def becomes(host: Host, folder: Path, *devices: dict[str, Any]) -> str:
    """A command of a model that does something to its devices."""
    folder.joinpath("next.json").write_text(json.dumps(devices))
    return f"cp {folder}/next.json {folder}/moved.json && mv {folder}/moved.json {folder}/host/devices.json"


def test_a_model_sees_the_devices_that_it_leased_and_no_other(
    host: Host, run: Callable[..., RunReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    host.has(gpu(0), gpu(1), mig(2, 1))
    says = f"echo $CUDA_VISIBLE_DEVICES > $AUTOSCORER_WORKSPACE/output/seen; {WRITES}"
    seen = {}
    asked: dict[str, dict[str, Any]] = {
        "two": {"gpu": 2},
        "slice": {"gpu": 1, "gpu_types": ["NVIDIA A100-SXM4-80GB MIG 1g.10gb"]},
        "none": {},
    }
    for name, resources in asked.items():
        report = run(says, resources=resources, container={"env": {"CUDA_VISIBLE_DEVICES": "0,1,2"}})
        assert report.error is None
        seen[name] = (run.root / "output" / "seen").read_text().strip()  # type: ignore[attr-defined]
    assert seen == {"two": "GPU-0,GPU-1", "slice": "MIG-2-1", "none": ""}


def test_what_was_used_of_the_devices_is_in_the_result(
    host: Host, run: Callable[..., RunReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "PAUSE", 0.02)
    idle = [gpu(0, used=GiB), gpu(1, used=GiB)]
    busy = [gpu(0, used=5 * GiB, busy=50, pids=[1]), gpu(1, used=2 * GiB, busy=100, pids=[1])]
    host.has(*idle)
    at_work = becomes(host, tmp_path, *busy)
    (tmp_path / "idle.json").write_text(json.dumps(idle))
    done = f"mv {tmp_path}/idle.json {tmp_path}/host/devices.json"
    report = run(f"{at_work}; sleep 1; {done}; {WRITES}", resources={"gpu": 2})
    assert report.error is None
    assert report.resources.gpu_memory_bytes == 5 * GiB, "of both together, above what was in use before"
    assert report.resources.gpu_seconds == pytest.approx(1.5, rel=0.4)
    assert [each.uuid for each in report.gpus] == ["GPU-0", "GPU-1"]
    info = json.loads((run.root / "logs" / "run_info.json").read_text())  # type: ignore[attr-defined]
    assert info["gpus"][0] == {"uuid": "GPU-0", "type": A100, "memory": 80 * GiB}
    assert info["resources"]["gpu_memory_bytes"] == 5 * GiB


def test_a_process_with_gpus_may_reserve_addresses_as_cuda_does(host: Host, run: Callable[..., RunReport]) -> None:
    host.has(gpu(0))
    small = {"memory": "64Mi"}
    report = run(f"ulimit -v > $AUTOSCORER_WORKSPACE/output/most; {WRITES}", resources={**small, "gpu": 1})
    assert (run.root / "output" / "most").read_text() == "unlimited\n"  # type: ignore[attr-defined]
    assert any("memory was not limited" in note for note in report.notes)
    report = run(f"ulimit -v > $AUTOSCORER_WORKSPACE/output/most; {WRITES}", resources=small)
    assert (run.root / "output" / "most").read_text() == "65536\n"  # type: ignore[attr-defined]
    assert not any("memory was not limited" in note for note in report.notes)


def test_a_run_without_gpus_says_nothing_of_them(host: Host, run: Callable[..., RunReport]) -> None:
    report = run(WRITES, resources={})
    assert report.resources.gpu_memory_bytes is None and report.resources.gpu_seconds is None
    assert report.gpus == () and report.queue_seconds is None


def test_a_slice_tells_its_memory_and_no_seconds(host: Host, run: Callable[..., RunReport]) -> None:
    host.has(mig(0, 1))
    report = run(WRITES)
    assert report.error is None
    assert (report.resources.gpu_memory_bytes, report.resources.gpu_seconds) == (0, None)


def test_what_is_left_on_a_device_is_the_operators_error_and_the_device_is_not_given_out(
    host: Host, run: Callable[..., RunReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr(usage, "LEAVING", 0.3)
    host.has(gpu(0), gpu(1))
    with pytest.raises(AutoScorerError) as caught:
        run(f"{becomes(host, tmp_path, gpu(0, pids=[4711]), gpu(1))}; {WRITES}")
    error = caught.value
    assert error.code is ErrorCode.BACKEND_UNAVAILABLE and error.exit_code == 3, "ours, so that it is run again"
    assert error.details["devices"] == {"GPU-0": "processes 4711 compute on it"}
    assert "GPU-0: processes 4711 compute on it" in error.message
    assert "4711" in caplog.text
    assert result_of(run.root)["error"]["code"] == "BACKEND_UNAVAILABLE"  # type: ignore[attr-defined]
    report = run(WRITES)
    assert [each.uuid for each in report.gpus] == ["GPU-1"]


def test_a_model_that_fails_has_failed_whatever_it_leaves_on_its_device(
    host: Host, run: Callable[..., RunReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a hostile one would be run again and again."""
    monkeypatch.setattr(usage, "LEAVING", 0.3)
    host.has(gpu(0))
    report = run(f"{becomes(host, tmp_path, gpu(0, pids=[4711]))}; exit 7")
    assert report.error is not None and report.error.code is ErrorCode.CONTAINER_FAILED
    assert any("GPU-0: processes 4711 compute on it" in note for note in report.notes)


def test_what_takes_a_moment_to_leave_is_waited_for(host: Host, run: Callable[..., RunReport], tmp_path: Path) -> None:
    host.has(gpu(0))
    leaves = tmp_path / "leaves.sh"
    (tmp_path / "idle.json").write_text(json.dumps([gpu(0)]))
    leaves.write_text(f"sleep 0.7; mv {tmp_path}/idle.json {tmp_path}/host/devices.json\n")
    # As a driver that tidies up: outside of the run's session, so that the run's end does not end it.
    script = f"{becomes(host, tmp_path, gpu(0, pids=[9]))}; env -i setsid sh {leaves} >/dev/null 2>&1 & {WRITES}"
    assert run(script).error is None


def test_on_a_shared_device_nobody_can_say_whose_what_is_left_is(
    host: Host, run: Callable[..., RunReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOSCORER_SECURITY__ALLOW_SHARED_GPU", "true")
    host.has(gpu(0, pids=[4711]))
    assert run(WRITES).error is None


def test_nvml_that_fails_meanwhile_costs_no_run(
    host: Host, run: Callable[..., RunReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "PAUSE", 0.02)
    host.has(gpu(0))
    (tmp_path / "idle.json").write_text(json.dumps([gpu(0)]))
    back = f"mv {tmp_path}/idle.json {tmp_path}/host/devices.json"
    report = run(f"{becomes(host, tmp_path, gpu(0, lost=True))}; sleep 0.5; {back}; {WRITES}")
    assert report.error is None
    assert "What the model used of its GPUs was not measured to its end: GPU is lost." in report.notes


def test_a_device_that_fails_for_good_is_the_operators_error(
    host: Host, run: Callable[..., RunReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "LEAVING", 0.3)
    host.has(gpu(0))
    with pytest.raises(AutoScorerError) as caught:
        run(f"{becomes(host, tmp_path, gpu(0, lost=True))}; {WRITES}")
    assert caught.value.code is ErrorCode.BACKEND_UNAVAILABLE and "GPU is lost" in caught.value.message


def test_without_nvml_the_result_says_that_nobody_looked(
    run: Callable[..., RunReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__GPU__DEVICES", '["GPU-5"]')
    monkeypatch.setenv("AUTOSCORER_EXECUTORS__GPU__LEASE_DIR", str(tmp_path))
    report = run(WRITES)
    assert report.error is None and [each.uuid for each in report.gpus] == ["GPU-5"]
    assert any("NVML is not there" in note for note in report.notes)
    assert report.resources.gpu_memory_bytes is None


def test_a_host_without_a_gpu_refuses_the_run_and_leaves_a_result(
    host: Host, run: Callable[..., RunReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FAKE_NVML")
    with pytest.raises(AutoScorerError) as caught:
        run(WRITES)
    assert caught.value.code is ErrorCode.BACKEND_UNAVAILABLE
    assert result_of(run.root)["error"]["code"] == "BACKEND_UNAVAILABLE"  # type: ignore[attr-defined]
