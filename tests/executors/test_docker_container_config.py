"""What is asked of the Engine for one container, read before it is sent."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings
from autoscorer.core.workspace import Workspace
from autoscorer.executors.base import Image, RunSpec, Staged
from autoscorer.executors.docker.container_config import container_config
from autoscorer.executors.limits import effective_limits
from autoscorer.executors.seccomp import seccomp_profile
from autoscorer.schemas.job import Job
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st

# System calls that models have no use for, and by which kernels were broken into or containers left.
NEVER = [
    "acct",
    "add_key",
    "bpf",
    "chroot",
    "clock_settime",
    "delete_module",
    "fanotify_init",
    "finit_module",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "init_module",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "ioperm",
    "iopl",
    "kcmp",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "lookup_dcookie",
    "mount",
    "mount_setattr",
    "move_mount",
    "nfsservctl",
    "open_by_handle_at",
    "open_tree",
    "perf_event_open",
    "pidfd_getfd",
    "pivot_root",
    "quotactl",
    "reboot",
    "request_key",
    "setdomainname",
    "sethostname",
    "setns",
    "settimeofday",
    "swapoff",
    "swapon",
    "syslog",
    "umount",
    "umount2",
    "unshare",
    "userfaultfd",
    "vhangup",
]


def _rules() -> list[dict[str, Any]]:
    """The rules that hold for a container without any capability, on some kernel and architecture."""
    profile = json.loads(seccomp_profile())
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO", "what is not named must be refused"
    return [rule for rule in profile["syscalls"] if not rule.get("includes", {}).get("caps")]


@pytest.mark.parametrize("name", NEVER)
def test_a_model_may_never_make_the_system_call(name: str) -> None:
    assert [rule for rule in _rules() if name in rule["names"] and rule["action"] != "SCMP_ACT_ERRNO"] == []


def test_what_a_model_may_do_under_conditions_has_them() -> None:
    rules = {name: [rule for rule in _rules() if name in rule["names"]] for name in ("clone", "clone3", "socket")}
    # No flag that makes a namespace (CLONE_NEW*: 0x7e020000).
    assert {rule["args"][0]["value"] for rule in rules["clone"]} == {0x7E020000}
    assert {rule["args"][0]["op"] for rule in rules["clone"]} == {"SCMP_CMP_MASKED_EQ"}
    # clone3 hides its flags in memory: it is told as missing, and libraries use clone then.
    assert {(rule["action"], rule["errnoRet"]) for rule in rules["clone3"]} == {("SCMP_ACT_ERRNO", 38)}
    # Neither AF_ALG (38) nor AF_VSOCK (40).
    families = [(rule["args"][0]["op"], rule["args"][0]["value"]) for rule in rules["socket"]]
    assert families == [("SCMP_CMP_LT", 38), ("SCMP_CMP_EQ", 39), ("SCMP_CMP_GT", 40)]


def test_tracing_needs_a_kernel_on_which_it_can_not_get_around_the_profile() -> None:
    found = [rule for rule in _rules() if "ptrace" in rule["names"]]
    assert [rule["includes"] for rule in found] == [{"minKernel": "4.8"}]


def test_the_profile_holds_for_every_way_into_a_kernel_of_64_bits() -> None:
    """A filter without i386 and x32 would end in a kill of honest programs, one that allowed them in a hole."""
    architectures = {
        item["architecture"]: item["subArchitectures"] for item in json.loads(seccomp_profile())["archMap"]
    }
    assert architectures["SCMP_ARCH_X86_64"] == ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    assert architectures["SCMP_ARCH_AARCH64"] == ["SCMP_ARCH_ARM"]


@given(cpu=st.floats(0.01, 64))
@profile(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_cpu_that_a_job_may_use_is_never_without_a_limit(tmp_path: Path, settings: Settings, cpu: float) -> None:
    """``NanoCpus: 0`` means no limit to Docker."""
    job = Job.model_validate({"resources": {"cpu": cpu}})
    spec = RunSpec(run_id="x", workspace=Workspace(tmp_path), job=job, limits=effective_limits(job, settings))
    config = container_config(spec, Image(reference="x", id="x", digest="x"), Staged(tmp_path, {}), (1, 1), [])
    most = min(cpu, os.cpu_count() or 1) * 1e9
    assert 10_000_000 <= config["HostConfig"]["NanoCpus"] <= most
    assert most - config["HostConfig"]["NanoCpus"] < 1


def test_a_part_of_the_workspace_is_seen_at_another_path_as_well(tmp_path: Path, settings: Settings) -> None:
    job = Job.model_validate({})
    places = {"/app/input": "input", "/app/program": "input/program", "/app/output": "output"}
    limits = effective_limits(job, settings)
    spec = RunSpec(run_id="x", workspace=Workspace(tmp_path), job=job, limits=limits, places=places)
    inputs = {"program": tmp_path / "p", "ref": tmp_path / "r"}
    config = container_config(spec, Image(reference="x", id="x", digest="x"), Staged(tmp_path, inputs), (1, 1), [])
    mounts = {mount["Target"]: mount for mount in config["HostConfig"]["Mounts"]}
    ours = {target for target in mounts if target.startswith("/app")}
    assert ours == {"/app/input", "/app/input/program", "/app/input/ref", "/app/program", "/app/output"}
    assert {target for target in ours if not mounts[target]["ReadOnly"]} == {"/app/output"}
    for target, same in (("/app/program", "input/program"), ("/app/input/ref", "input/ref"), ("/app/output", "output")):
        assert mounts[target]["Source"] == mounts[f"/workspace/{same}"]["Source"]
