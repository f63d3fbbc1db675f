"""meta.json: the job. Every accepted spelling ends in one model; an unknown key never passes silently.

``Job.model_validate`` takes the parsed JSON. The spellings of the system's first version (``time_limit``,
``gpus``, ``scorer_params``, ``network_policy``, ``input_uri``) are folded into today's names first; giving
one thing twice with two values is an error.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

__all__ = ["DEFAULT_TIMEOUT", "KNOWN_KEYS", "Bytes", "Container", "Job", "ResourceRequest", "parse_bytes"]

DEFAULT_TIMEOUT = 300.0

_UNITS = {
    "": 1, "b": 1,
    "k": 1024, "kb": 1024, "ki": 1024, "kib": 1024,
    "m": 1024**2, "mb": 1024**2, "mi": 1024**2, "mib": 1024**2,
    "g": 1024**3, "gb": 1024**3, "gi": 1024**3, "gib": 1024**3,
    "t": 1024**4, "tb": 1024**4, "ti": 1024**4, "tib": 1024**4,
}  # fmt: skip
_SIZE = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]*)\s*$")


def parse_bytes(value: Any) -> int:
    """Read a size as Kubernetes (``4Gi``) or Docker (``4g``) writes it; a bare number is bytes.

    Args:
        value: An int of bytes, or text.

    Returns:
        Bytes, at least 1. Docker's and Kubernetes' letters alike are powers of 1024 here, as in Docker.

    Raises:
        ValueError: Not a positive size.
    """
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError(f"expected a size such as '512Mi' or '4g', got {value!r}")
    match = _SIZE.match(str(value))
    unit = _UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise ValueError(f"expected a size such as '512Mi' or '4g', got {value!r}")
    size = int(float(match[1]) * unit)
    if size < 1:
        raise ValueError(f"expected a positive size, got {value!r}")
    return size


Bytes = Annotated[int, BeforeValidator(parse_bytes)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Container(_Strict):
    """The model's container."""

    image: str | None = Field(None, min_length=1, description="Image reference; may be absent with a Dockerfile.")
    cmd: tuple[str, ...] = Field((), description="Command; the image's own when empty.")
    env: dict[str, str] = Field(default_factory=dict, description="Environment of the model; nothing else is passed.")
    shm_size: Bytes | None = Field(None, description="/dev/shm in bytes; the operator's default when absent.")

    @field_validator("env", mode="before")
    @classmethod
    def _env_values_are_text(cls, value: Any) -> Any:
        if isinstance(value, dict):
            for key, item in value.items():
                if not isinstance(key, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", key):
                    raise ValueError(f"{key!r} is no name for an environment variable")
                if not isinstance(item, str) or "\0" in item:
                    raise ValueError(f"the value of {key} must be text, got {item!r}")
        return value


class ResourceRequest(_Strict):
    """What the model may use. None means the operator's default."""

    cpu: float | None = Field(None, gt=0, description="CPUs, may be a fraction.")
    memory: Bytes | None = Field(None, description="Bytes; swap is never added.")
    gpu: int | None = Field(None, ge=0, description="GPUs.", strict=True)
    disk: Bytes | None = Field(None, description="Bytes the model may write to output.")


class Job(_Strict):
    """meta.json in today's names."""

    job_id: str | None = Field(None, pattern=r"^[^/\\\x00-\x1f]{1,200}$")
    task_type: str | None = Field(None, min_length=1)
    scorer: str | None = Field(None, min_length=1)
    params: dict[str, Any] = Field(default_factory=dict)
    container: Container = Field(default_factory=lambda: Container())
    resources: ResourceRequest = Field(default_factory=lambda: ResourceRequest())
    timeout: float = Field(DEFAULT_TIMEOUT, gt=0, description="Seconds the model may run.")
    network_policy: str = Field("none", description="'none' (or 'restricted'); others only where allowed.")
    input_uri: str | None = None
    output_uri: str | None = None
    version: str | None = None
    description: str | None = None

    @field_validator("version", mode="before")
    @classmethod
    def _labels_may_be_numbers(cls, value: Any) -> Any:
        return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value

    @field_validator("timeout", mode="before")
    @classmethod
    def _timeout_is_a_number(cls, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"expected seconds as a number, got {value!r}")
        return value

    @field_validator("input_uri", "output_uri")
    @classmethod
    def _only_the_workspace(cls, value: str | None, info: Any) -> str | None:
        folder = info.field_name.split("_")[0]
        allowed = {f"file://./{folder}", f"file://./{folder}/", f"./{folder}", folder}
        if value is not None and value not in allowed:
            raise ValueError(f"only 'file://./{folder}' is supported, got {value!r}")
        return value

    @field_validator("network_policy")
    @classmethod
    def _restricted_means_none(cls, value: str) -> str:
        return "none" if value == "restricted" else value

    @model_validator(mode="before")
    @classmethod
    def _fold_spellings(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            raise ValueError(f"expected an object, got {type(data).__name__}")
        data = dict(data)
        container = dict(data["container"]) if isinstance(data.get("container"), dict) else data.get("container")
        resources = dict(data["resources"]) if isinstance(data.get("resources"), dict) else data.get("resources")
        _fold(data, "time_limit", data, "timeout")
        _fold(data, "scorer_params", data, "params")
        if resources is None and isinstance(container, dict) and "gpus" in container:
            resources = {}
        if isinstance(resources, dict):
            _fold(resources, "gpus", resources, "gpu", prefix="resources.")
            if isinstance(container, dict):
                _fold(container, "gpus", resources, "gpu", prefix="container.", into="resources.")
        if isinstance(container, dict):
            _fold(container, "network_policy", data, "network_policy", prefix="container.")
            if isinstance(container.get("cmd"), str):
                raise ValueError("container.cmd: expected a list of strings, such as ['python', 'predict.py']")
        for key, value in (("container", container), ("resources", resources)):
            if value is not None:
                data[key] = value
            else:
                data.pop(key, None)
        return data


def _fold(source: dict[str, Any], old: str, target: dict[str, Any], new: str, prefix: str = "", into: str = "") -> None:
    if old not in source or (source is target and old == new):
        return
    value = source.pop(old)
    if new in target and target[new] != value:
        raise ValueError(
            f"{prefix}{old} and {into or prefix}{new} mean the same and differ: {value!r}, {target[new]!r}"
        )
    target[new] = value


# What an unknown key is compared with, by the object that holds it.
KNOWN_KEYS: dict[str, tuple[str, ...]] = {
    "": (*Job.model_fields, "time_limit", "scorer_params"),
    "container": (*Container.model_fields, "gpus", "network_policy"),
    "resources": (*ResourceRequest.model_fields, "gpus"),
}
