"""deployments/kubernetes/seccomp: the profile that nodes are given is the one that the Docker Engine is sent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ..executors.test_docker_container_config import NEVER
from ..support.kustomize import FOLDER, Json, normal, pods, rendered
from ..support.prefect_server import eventually

ROOT = FOLDER.parents[1]
PROFILES = {name: json.loads((FOLDER / "seccomp" / f"{name}.json").read_text()) for name in ("amd64", "arm64")}


def test_the_files_are_what_is_made_of_the_engines_profile() -> None:
    done = subprocess.run([sys.executable, "scripts/seccomp.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", PROFILES)
def test_it_has_no_conditions_which_a_runtime_would_not_read(name: str) -> None:
    profile = PROFILES[name]
    assert set(profile) == {"defaultAction", "defaultErrnoRet", "architectures", "syscalls"}
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    for rule in profile["syscalls"]:
        assert set(rule) <= {"names", "action", "errnoRet", "args"}


@pytest.mark.parametrize("name", PROFILES)
def test_no_model_may_make_a_system_call_that_led_out_of_containers(name: str) -> None:
    allowed = {
        call for rule in PROFILES[name]["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for call in rule["names"]
    }
    assert {"read", "write", "execve", "mmap", "clone"} <= allowed
    assert allowed.isdisjoint(NEVER)
    # A new namespace by no way: clone without these flags alone, and clone3, whose flags can't be seen, is missing.
    (clone,) = [rule for rule in PROFILES[name]["syscalls"] if "clone" in rule["names"]]
    assert clone["args"] == [{"index": 0, "value": 0x7E020000, "op": "SCMP_CMP_MASKED_EQ"}]
    (clone3,) = [rule for rule in PROFILES[name]["syscalls"] if "clone3" in rule["names"]]
    assert (clone3["action"], clone3["errnoRet"]) == ("SCMP_ACT_ERRNO", 38)


def test_every_way_into_a_kernel_of_64_bits_is_filtered() -> None:
    assert PROFILES["amd64"]["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    assert PROFILES["arm64"]["architectures"] == ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]


def test_a_condition_that_is_not_known_is_never_left_out() -> None:
    script: dict[str, Any] = {"__name__": "not-main", "__file__": str(ROOT / "scripts" / "seccomp.py")}
    exec((ROOT / "scripts" / "seccomp.py").read_text(), script)
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": []}],
        "syscalls": [{"names": ["x"], "action": "SCMP_ACT_ALLOW", "includes": {"phaseOfTheMoon": "full"}}],
    }
    with pytest.raises(ValueError, match="phaseOfTheMoon"):
        script["settled"](profile, "amd64")


def _spec() -> Json:
    ((_, template),) = pods(rendered("seccomp"))
    spec: Json = template["spec"]
    return spec


def test_the_pod_writes_to_the_kubelets_folder_and_reaches_nothing_else() -> None:
    spec = _spec()
    host = [volume["hostPath"]["path"] for volume in spec["volumes"] if "hostPath" in volume]
    assert host == ["/var/lib/kubelet/seccomp"]
    found = normal(rendered("seccomp"))
    policy = found["NetworkPolicy", "autoscorer-nodes", "deny-all"]["spec"]
    assert policy == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    # A namespace of its own, so that those of AutoScorer and its models stay restricted.
    assert {namespace for _, namespace, _ in found} == {"", "autoscorer-nodes"}


def test_its_command_lays_the_profile_and_lays_it_again_where_it_was_changed(tmp_path: Path) -> None:
    (container,) = _spec()["containers"]
    profiles, node = tmp_path / "profiles", tmp_path / "node"
    for folder in (profiles, node):
        folder.mkdir()
    for name in PROFILES:
        (profiles / f"{name}.json").write_text(json.dumps(PROFILES[name]))
    text = container["command"][2].replace("/profiles", str(profiles)).replace("/seccomp", str(node))
    text = text.replace("sleep 60", "sleep 1")
    with subprocess.Popen(["sh", "-c", text], stdout=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            wanted = (profiles / ("arm64.json" if os.uname().machine == "aarch64" else "amd64.json")).read_bytes()
            laid = node / "autoscorer.json"
            eventually(lambda: laid.exists() and laid.read_bytes() == wanted, within=300)
            laid.write_text("{}")
            eventually(lambda: laid.read_bytes() == wanted, within=300)
            process.send_signal(signal.SIGTERM)
            assert process.wait(300) == 0
        finally:
            process.poll() is None and os.killpg(process.pid, signal.SIGKILL)
