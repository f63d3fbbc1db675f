"""GPUs of a cluster: which nodes a run may go to, and the variables of its container.

The cluster counts the devices and gives each pod its own; what is asked of it is a resource by name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ...core.config import Settings
from ..base import RunSpec
from ..gpu.environment import NO_DEVICE, gpu_environment, is_dangerous

__all__ = ["gpu_variables", "node_requirements"]

Json = dict[str, Any]

Mi = 1024**2
# Labels that NVIDIA's GPU feature discovery lays on nodes. A node without one has no such GPU, or nobody says so.
MEMORY_LABEL = "nvidia.com/gpu.memory"
# What says that several pods get the same GPU: NVIDIA's discovery, and GKE.
_SHARING = {
    "nvidia.com/gpu.sharing-strategy": ["mps", "time-slicing"],
    "cloud.google.com/gke-gpu-sharing-strategy": ["mps", "time-sharing"],
}


def node_requirements(spec: RunSpec, settings: Settings) -> list[Json]:
    """What a node must have for a run's GPUs, as the ``matchExpressions`` of an affinity; empty for a run without.

    Args:
        spec: The run.
        settings: The configuration.
    """
    configured, limits = settings.executors.kubernetes, spec.limits
    wanted: list[Json] = []
    if not limits.gpu:
        return wanted
    if configured.gpu_types:
        wanted.append({"key": configured.gpu_type_label, "operator": "In", "values": list(configured.gpu_types)})
    if limits.gpu_types:
        # Drivers call them with the vendor's name, and older ones without.
        spelled = [spelling for name in limits.gpu_types for spelling in (name, f"NVIDIA-{name}") if len(spelling) < 64]
        wanted.append({"key": configured.gpu_type_label, "operator": "In", "values": spelled})
    if limits.gpu_memory:
        # The label is in MiB, and there is no "at least".
        least = math.ceil(limits.gpu_memory / Mi) - 1
        wanted.append({"key": MEMORY_LABEL, "operator": "Gt", "values": [str(least)]})
    if not settings.security.allow_shared_gpu:
        wanted += [{"key": key, "operator": "NotIn", "values": how} for key, how in _SHARING.items()]
    return wanted


def gpu_variables(told: Mapping[str, str], spec: RunSpec, settings: Settings) -> dict[str, str]:
    """The variables of a model's container.

    Args:
        told: Those of the run, the job's among them.
        spec: The run.
        settings: The configuration.
    """
    if not spec.limits.gpu:
        return {**told, **gpu_environment(told, None)}
    harmless = {name: value for name, value in told.items() if not is_dangerous(name)}
    ours = gpu_environment((), NO_DEVICE)
    if settings.executors.kubernetes.gpu_resource.startswith("nvidia.com/"):
        # The node's device plugin sets it to what it gives, and what stands in a pod would win over that.
        del ours["NVIDIA_VISIBLE_DEVICES"]
    return {**harmless, **ours}
