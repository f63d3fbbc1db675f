"""What our objects in the cluster are called, and what they carry."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from ..docker.container_config import LABEL, NAME
from .errors import ApiError

__all__ = [
    "INPUT",
    "KEEPER",
    "LABEL",
    "MODEL",
    "carried",
    "job_name",
    "job_path",
    "jobs_path",
    "labels_and_annotations",
    "pod_path",
    "pods_path",
    "process_label",
    "was_refused_for_quota",
]

# The pod's containers.
INPUT, MODEL, KEEPER = "input", "model", "keeper"

_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_LABEL_KEY = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


def job_name(run_id: str) -> str:
    """The name of a run's Job: made twice, it is one Job."""
    return NAME + run_id


def jobs_path(namespace: str) -> str:
    return f"/apis/batch/v1/namespaces/{namespace}/jobs"


def job_path(namespace: str, name: str) -> str:
    return f"{jobs_path(namespace)}/{name}"


def pods_path(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods"


def pod_path(namespace: str, name: str) -> str:
    return f"{pods_path(namespace)}/{name}"


def process_label(owner: str) -> str:
    """What the pods of one process carry, so that it watches its own and nobody else's."""
    return hashlib.sha256(owner.encode()).hexdigest()[:32]


def labels_and_annotations(told: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """What a Job and its pod carry: everything as annotations, and as labels what can be one.

    Args:
        told: Our labels, without the prefix.
    """
    annotations = {LABEL + key: value for key, value in told.items() if _LABEL_KEY.fullmatch(LABEL + key)}
    labels = {key: value for key, value in annotations.items() if _LABEL_VALUE.fullmatch(value)}
    labels["app.kubernetes.io/managed-by"] = "autoscorer"
    labels["app.kubernetes.io/component"] = "model"
    return labels, annotations


def carried(found: Mapping[str, Any]) -> dict[str, str]:
    """Our labels of a Job or a pod, without the prefix."""
    metadata = found.get("metadata") or {}
    every = {**(metadata.get("labels") or {}), **(metadata.get("annotations") or {})}
    return {key.removeprefix(LABEL): str(text) for key, text in every.items() if key.startswith(LABEL)}


def was_refused_for_quota(error: ApiError) -> bool:
    """Whether the namespace had no room for one more object just then."""
    return error.status == 403 and "exceeded quota" in error.message
