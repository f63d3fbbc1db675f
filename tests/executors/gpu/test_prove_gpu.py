"""``scripts/prove-gpu``: what it says where there is no GPU, and how it judges what a program has seen."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from autoscorer.executors.base import Gpu

from ...support.gpus import Host, gpu
from ...support.markdown import ROOT

ONE, TWO = "GPU-11111111-aaaa-bbbb-cccc-0123456789ab", "GPU-22222222-aaaa-bbbb-cccc-0123456789ab"
SLICE = "MIG-33333333-aaaa-bbbb-cccc-0123456789ab"


def prove(*arguments: str) -> Any:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "prove_gpu.py"), *arguments], capture_output=True, text=True, cwd="/"
    )


@pytest.mark.slow
def test_without_a_gpu_it_says_so(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    done = prove()
    assert (done.returncode, done.stdout) == (1, "There is no GPU here that may be leased.\n")
    monkeypatch.delenv("FAKE_NVML")
    done = prove()
    assert done.returncode == 1 and done.stdout.startswith("There is no GPU here: ")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_program_that_sees_nothing_is_told(host: Host, tmp_path: Path) -> None:
    """There is no CUDA here: the run itself fails, and says why."""
    host.has({**gpu(0), "uuid": ONE})
    done = prove()
    assert done.returncode == 1
    assert f"{ONE} (A100-SXM4-80GB): the run failed" in done.stdout and "libcuda" in done.stdout


@pytest.mark.parametrize(
    ("leased", "text", "told"),
    [
        (Gpu(uuid=ONE), f"GPU 0: NVIDIA A100 (UUID: {ONE})", None),
        (Gpu(uuid=ONE), f"GPU 0: NVIDIA A100 (UUID: {ONE})\nGPU 1: NVIDIA A100 (UUID: {TWO})", "OTHER"),
        (Gpu(uuid=ONE), f"GPU 0: NVIDIA A100 (UUID: {TWO})", "NOT seen"),
        (Gpu(uuid=ONE), "", "NOT seen; what was: nothing"),
        (Gpu(uuid=SLICE, parent=ONE), f"GPU 0: (UUID: {ONE})\n  MIG 1g.10gb Device 0: (UUID: {SLICE})", None),
        (Gpu(uuid=SLICE, parent=ONE), f"GPU 0: (UUID: {ONE})", "NOT seen"),
        (Gpu(uuid=SLICE, parent=ONE), SLICE.replace("MIG-", "GPU-"), None),
    ],
)
def test_what_was_seen_is_judged(leased: Gpu, text: str, told: str | None) -> None:
    found = runpy.run_path(str(ROOT / "scripts" / "prove_gpu.py"))["judge"](leased, text)
    assert found is None if told is None else told in found
