"""The rights in the runs' namespace that a service account needs; the manifests' Role is compared with them."""

from __future__ import annotations

from typing import NamedTuple

from ...core.config_kubernetes import KubernetesExecutor

__all__ = ["RIGHTS", "Right", "needed_rights"]


class Right(NamedTuple):
    """One verb on one resource of the namespace."""

    group: str
    resource: str
    subresource: str
    verb: str
    # Whether models run without it, too.
    optional: bool = False

    def __str__(self) -> str:
        below = f"/{self.subresource}" if self.subresource else ""
        return f"{self.verb} {self.resource}{below}" + (f".{self.group}" if self.group else "")


RIGHTS: tuple[Right, ...] = (
    *(Right("batch", "jobs", "", verb) for verb in ("create", "get", "list", "delete")),
    *(Right("", "pods", "", verb) for verb in ("get", "list", "watch", "delete")),
    Right("", "pods", "log", "get"),
    # A WebSocket begins with a GET; which of the two verbs a server asks for has changed.
    *(Right("", "pods", "exec", verb) for verb in ("create", "get")),
    Right("", "events", "", "list"),
    # For the peak of a model's memory, where the cluster measures it.
    Right("metrics.k8s.io", "pods", "", "list", optional=True),
)


def needed_rights(settings: KubernetesExecutor) -> tuple[Right, ...]:
    """Those that these settings need: nothing is executed in a pod where a volume carries the files."""
    return tuple(right for right in RIGHTS if settings.transfer == "stream" or right.subresource != "exec")
