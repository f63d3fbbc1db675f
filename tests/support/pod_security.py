"""Pod Security's level `restricted`, as its standard has it: what a pod would be refused for."""

from __future__ import annotations

from typing import Any

__all__ = ["violations"]

_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def violations(spec: dict[str, Any]) -> list[str]:
    """Why a namespace that enforces `restricted` refuses this pod; empty where it takes it."""
    found = [f"{name} is set" for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    found += [
        f"volume {each['name']} is of a kind that is not allowed"
        for each in spec.get("volumes", [])
        if not (set(each) - {"name"}) <= _VOLUMES
    ]
    pod = spec.get("securityContext", {})
    if pod.get("runAsUser") == 0:
        found.append("the pod runs as root")
    if pod.get("sysctls"):
        found.append("the pod sets sysctls")
    for each in [*spec.get("initContainers", []), *spec["containers"], *spec.get("ephemeralContainers", [])]:
        own = each.get("securityContext", {})
        wrong = {
            "may be root": own.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True,
            "runs as root": own.get("runAsUser") == 0,
            "may gain privileges": own.get("allowPrivilegeEscalation") is not False,
            "is privileged": bool(own.get("privileged")),
            "keeps capabilities": own.get("capabilities", {}).get("drop") != ["ALL"],
            "adds capabilities": not set(own.get("capabilities", {}).get("add", [])) <= {"NET_BIND_SERVICE"},
            "has no seccomp profile": own.get("seccompProfile", pod.get("seccompProfile", {})).get("type")
            not in ("RuntimeDefault", "Localhost"),
            "has a port of the node": any(port.get("hostPort") for port in each.get("ports", [])),
            "mounts /proc unmasked": own.get("procMount", "Default") != "Default",
        }
        found += [f"{each['name']} {text}" for text, is_so in wrong.items() if is_so]
    return found
