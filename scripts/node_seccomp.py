"""Write the seccomp profiles for a cluster's nodes, from the one that is sent to the Docker Engine.

The engine's form has conditions: rules for an architecture, for a capability, from a kernel on. A kubelet passes a
profile to the runtime as it is, and containerd reads it in the form of the OCI, which has no conditions: it would take
every rule, those for CAP_SYS_ADMIN among them. So the conditions are settled here, for a container without any
capability on a kernel from 4.8 on, and for one architecture of the nodes in each file.

    .venv/bin/python scripts/node_seccomp.py            writes deployments/kubernetes/seccomp/{amd64,arm64}.json
    .venv/bin/python scripts/node_seccomp.py --check    only says which are out of date
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "executors" / "seccomp" / "profile.json"
FOLDER = ROOT / "deployments" / "kubernetes" / "seccomp"
ARCHITECTURES = {"amd64": "SCMP_ARCH_X86_64", "arm64": "SCMP_ARCH_AARCH64"}
_KERNEL = (4, 8)


def main(arguments: list[str]) -> int:
    """Write or check the profiles; the exit code is 1 where a checked one is out of date."""
    parser = argparse.ArgumentParser(prog="scripts/node_seccomp.py", description="Writes seccomp profiles for nodes.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a profile is out of date")
    check = parser.parse_args(arguments).check
    source = json.loads(SOURCE.read_text(encoding="utf-8"))
    stale = False
    for name in ARCHITECTURES:
        path = FOLDER / f"{name}.json"
        text = json.dumps(settled(source, name), indent=2) + "\n"
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale = True
        print(f"{path.relative_to(ROOT)} {'is out of date; run scripts/node_seccomp.py' if check else 'written'}")
        if not check:
            path.write_text(text, encoding="utf-8")
    return 1 if check and stale else 0


def settled(profile: dict[str, Any], architecture: str) -> dict[str, Any]:
    """The profile without conditions, for a container without capabilities.

    Args:
        profile: In the engine's form.
        architecture: Of the nodes, as Go calls it.
    """
    (entry,) = [each for each in profile["archMap"] if each["architecture"] == ARCHITECTURES[architecture]]
    return {
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile["defaultErrnoRet"],
        "architectures": [entry["architecture"], *entry["subArchitectures"]],
        "syscalls": [
            {key: rule[key] for key in ("names", "action", "errnoRet", "args") if key in rule}
            for rule in profile["syscalls"]
            if _holds(rule, architecture)
        ],
    }


def _holds(rule: dict[str, Any], architecture: str) -> bool:
    """Whether a rule holds for a container without capabilities.

    Raises:
        ValueError: For a condition that is not known here; leaving it out could open what it closes.
    """
    includes, excludes = rule.get("includes", {}), rule.get("excludes", {})
    unknown = {*(includes.keys() - {"caps", "arches", "minKernel"}), *(excludes.keys() - {"caps", "arches"})}
    if unknown:
        raise ValueError(f"conditions that are not known here: {', '.join(sorted(unknown))}")
    if includes.get("caps"):
        return False
    if includes.get("arches") and architecture not in includes["arches"]:
        return False
    if "minKernel" in includes and tuple(map(int, includes["minKernel"].split("."))) > _KERNEL:
        raise ValueError(f"a rule needs kernel {includes['minKernel']}, and nodes may have an earlier one")
    return architecture not in excludes.get("arches", [])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
