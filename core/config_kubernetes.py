"""The section of the backend kubernetes: which cluster, how files travel, and what its pods look like."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ..schemas.image_reference import parse_image
from .config_user import ModelUser

__all__ = ["KubernetesExecutor", "KubernetesVolume"]

# With a user namespace of its own, a pod has these uids alone.
MOST_UID_IN_USER_NAMESPACE = 65535

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_DNS_NAME = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")
_LABEL_NAME = re.compile(r"([a-z0-9]([-.a-z0-9]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_TOLERATION = {
    "key": (str,),
    "operator": (str,),
    "value": (str,),
    "effect": (str,),
    "tolerationSeconds": (int,),
}


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class KubernetesVolume(_Section):
    """The volume that runs are on, for `transfer: volume`."""

    claim: str | None = Field(
        None,
        description="Name of a PersistentVolumeClaim in `namespace` for the runs alone: each pod mounts the folder of "
        "its own run. No ground truth lies on it.",
    )
    path: Path | None = Field(None, description="The folder at which AutoScorer itself sees that volume.")

    @field_validator("claim")
    @classmethod
    def _names_an_object(cls, value: str | None) -> str | None:
        return value if value is None else _name(value)

    @field_validator("path")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_absolute():
            raise ValueError("expected a path from the root, such as /srv/autoscorer-runs")
        return value

    @model_validator(mode="after")
    def _both_or_none(self) -> KubernetesVolume:
        if (self.claim is None) != (self.path is None):
            raise ValueError("claim and path name one volume, for the cluster and for AutoScorer; give both")
        return self


class KubernetesExecutor(_Section):
    """Models run as Jobs of a Kubernetes cluster (docs/backends.md)."""

    enabled: bool | None = Field(
        None,
        description="Whether models may run there, and what is left there is looked for. When absent: where `default` "
        "is `kubernetes`, or `helper_image` or `volume` is set.",
    )
    namespace: str = Field("autoscorer-runs", description="Where the Jobs are made; best one for them alone.")
    kubeconfig: Path | None = Field(
        None,
        description="File that says where the cluster is; when absent the service account of the pod that AutoScorer "
        "runs in, else `KUBECONFIG`, else `~/.kube/config`.",
    )
    context: str | None = Field(None, description="Context of that file; its current one when absent.")
    transfer: Literal["stream", "volume"] = Field(
        "stream",
        description="How input and output travel: `stream` through the API server, with `helper_image`; `volume` by a "
        "volume that both sides see.",
    )
    volume: KubernetesVolume = Field(default_factory=KubernetesVolume)
    helper_image: str | None = Field(
        None,
        description="Image with busybox, or with sh, tar and GNU's core and find utilities, for the two containers "
        "beside the model that take the input and hand out the output; `stream` needs it.",
    )
    start_timeout: float = Field(
        300,
        gt=0,
        le=24 * 3600,
        description="Seconds that a run may wait in the cluster until its model starts: for room on a node, the "
        "image, and the input.",
    )
    concurrency: int | None = Field(
        None, ge=1, description="Models at a time, in all processes of the home; no limit when absent."
    )
    user: ModelUser | None = Field(
        None,
        description="`uid:gid` of every model, neither of them 0. When absent one of 2100000000-2100065535 by the "
        "run's id, or `65534:65534` where the pod has a user namespace of its own.",
    )
    node_selector: dict[str, str] = Field(default_factory=dict, description="Labels of the nodes that models run on.")
    tolerations: tuple[dict[str, str | int], ...] = Field(
        (), description="Taints of nodes that models may run on all the same, as Kubernetes writes them."
    )
    runtime_class: str | None = Field(None, description="RuntimeClass of the pods, such as `gvisor` or `kata`.")
    image_pull_secrets: tuple[str, ...] = Field(
        (), description="Names of Secrets in `namespace` that the nodes pull images with."
    )
    seccomp_profile: str | None = Field(
        None,
        description="Seccomp profile that lies on every node, as its path below the kubelet's `seccomp/` folder; the "
        "runtime's default when absent.",
    )
    gpu_resource: str = Field("nvidia.com/gpu", description="Name of the resource that a GPU is.")
    gpu_type_label: str = Field("nvidia.com/gpu.product", description="Label of nodes that says which GPU they have.")
    gpu_types: tuple[str, ...] = Field(
        (), description="Values of that label: models that ask for GPUs run on such nodes alone; on any when empty."
    )
    host_users: bool | Literal["auto"] = Field(
        "auto",
        description="Kubernetes' `hostUsers`: `false` gives each pod a user namespace of its own; `auto` does where "
        "every node says that it can, which takes the right to list nodes.",
    )

    @property
    def is_used(self) -> bool:
        """Whether this section, alone, says that the cluster is used."""
        if self.enabled is not None:
            return self.enabled
        return self.helper_image is not None or self.volume.claim is not None

    @field_validator("namespace")
    @classmethod
    def _names_a_namespace(cls, value: str) -> str:
        if not _DNS_LABEL.fullmatch(value):
            raise ValueError(f"expected a namespace such as 'autoscorer-runs', got {value[:80]!r}")
        return value

    @field_validator("helper_image")
    @classmethod
    def _names_an_image(cls, value: str | None) -> str | None:
        if value is not None:
            parse_image(value)
        return value

    @field_validator("node_selector")
    @classmethod
    def _labels(cls, value: dict[str, str]) -> dict[str, str]:
        for key, text in value.items():
            if not _LABEL_NAME.fullmatch(key) or not _LABEL_VALUE.fullmatch(text):
                raise ValueError(f"{key[:80]!r}: {text[:80]!r} is not a label of Kubernetes")
        return value

    @field_validator("gpu_types")
    @classmethod
    def _values(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            if not text or not _LABEL_VALUE.fullmatch(text):
                raise ValueError(f"{text[:80]!r} is not the value of a label of Kubernetes")
        return value

    @field_validator("gpu_resource", "gpu_type_label")
    @classmethod
    def _label_name(cls, value: str) -> str:
        if not _LABEL_NAME.fullmatch(value):
            raise ValueError(f"expected a name such as 'nvidia.com/gpu', got {value[:80]!r}")
        return value

    @field_validator("runtime_class")
    @classmethod
    def _names_an_object(cls, value: str | None) -> str | None:
        return value if value is None else _name(value)

    @field_validator("image_pull_secrets")
    @classmethod
    def _name_objects(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_name(text) for text in value)

    @field_validator("tolerations")
    @classmethod
    def _as_kubernetes_writes_them(cls, value: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
        for each in value:
            for key, content in each.items():
                if key not in _TOLERATION:
                    raise ValueError(f"a toleration has {', '.join(_TOLERATION)}, and not {key[:80]!r}")
                if not isinstance(content, _TOLERATION[key]):
                    raise ValueError(f"{key}: got {content!r}, which is no {_TOLERATION[key][0].__name__}")
            if each.get("operator", "Equal") not in ("Equal", "Exists"):
                raise ValueError(f"operator: expected Equal or Exists, got {each['operator']!r}")
            if each.get("effect", "NoSchedule") not in ("NoSchedule", "PreferNoSchedule", "NoExecute"):
                raise ValueError(f"effect: expected NoSchedule, PreferNoSchedule or NoExecute, got {each['effect']!r}")
        return value

    @field_validator("seccomp_profile")
    @classmethod
    def _below_the_kubelets_folder(cls, value: str | None) -> str | None:
        parts = (value or "x").split("/")
        if "" in parts or "." in parts or ".." in parts:
            raise ValueError("expected a path below the kubelet's seccomp folder, such as profiles/autoscorer.json")
        return value

    @model_validator(mode="after")
    def _a_user_that_the_pod_has(self) -> KubernetesExecutor:
        numbers = [int(part) for part in (self.user or "1:1").split(":")]
        if self.host_users is False and max(numbers) > MOST_UID_IN_USER_NAMESPACE:
            raise ValueError(
                f"user: with host_users: false a pod has the uids and gids up to {MOST_UID_IN_USER_NAMESPACE} alone"
            )
        if self.transfer == "volume" and self.volume.claim is None:
            raise ValueError("transfer: volume needs volume.claim and volume.path")
        return self


def _name(value: str) -> str:
    if not _DNS_NAME.fullmatch(value):
        raise ValueError(f"expected the name of an object of Kubernetes, got {value[:80]!r}")
    return value
