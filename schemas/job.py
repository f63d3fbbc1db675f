"""meta.json: the job. Every accepted spelling ends in one model; an unknown key never passes silently.

``Job.model_validate`` takes the parsed JSON. The spellings of the system's first version (``time_limit``,
``gpus``, ``scorer_params``, ``network_policy``, ``input_uri``) are folded into today's names first; giving
one thing twice with two values is an error.
"""

from __future__ import annotations

import codecs
import posixpath
import re
from difflib import get_close_matches
from fractions import Fraction
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from .aliases import META_KEYS, META_URIS, our_scorer
from .gpu import GpuType
from .image_reference import parse_image
from .json_values import is_plain

__all__ = [
    "DEFAULT_TIMEOUT",
    "KNOWN_KEYS",
    "MIN_CPU",
    "Bytes",
    "Container",
    "DataFiles",
    "Job",
    "Memory",
    "ResourceRequest",
    "fold_spellings",
    "parse_bytes",
]

DEFAULT_TIMEOUT = 300.0
# Docker takes no less; what is smaller it reads as "no limit", or the kernel refuses it when the model starts.
MIN_CPU = 0.01
MIN_MEMORY = 6 * 1024**2

_UNITS = {
    "": 1, "b": 1,
    "k": 1024, "kb": 1024, "ki": 1024, "kib": 1024,
    "m": 1024**2, "mb": 1024**2, "mi": 1024**2, "mib": 1024**2,
    "g": 1024**3, "gb": 1024**3, "gi": 1024**3, "gib": 1024**3,
    "t": 1024**4, "tb": 1024**4, "ti": 1024**4, "tib": 1024**4,
}  # fmt: skip
_SIZE = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]*)\s*$")
# Escapes and codes of host names: codecs of Python's that no file is written in.
_NO_ENCODINGS = frozenset({"idna", "punycode", "raw_unicode_escape", "undefined", "unicode_escape"})
# Kernels and engines count bytes in a signed 64-bit number.
_MAX_SIZE = 2**63 - 1


def parse_bytes(value: Any) -> int:
    """Read a size as Kubernetes (``4Gi``) or Docker (``4g``) writes it; a bare number is bytes.

    Args:
        value: An int of bytes, or text.

    Returns:
        Bytes, at least 1 and below 8 EiB. Docker's and Kubernetes' letters alike are powers of 1024 here, as in
        Docker.

    Raises:
        ValueError: Not a positive size.
    """
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError(f"expected a size such as '512Mi' or '4g', got {value!r}")
    match = _SIZE.match(str(value))
    unit = _UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise ValueError(f"expected a size such as '512Mi' or '4g', got {value!r}")
    size = int(Fraction(match[1]) * unit)  # exact: a float would round from 2^53 on
    if not 1 <= size <= _MAX_SIZE:
        raise ValueError(f"expected a size from 1 byte to 8 EiB, got {value!r}")
    return size


def _enough_memory(value: int) -> int:
    if value < MIN_MEMORY:
        raise ValueError(f"expected at least 6Mi ({MIN_MEMORY:,} bytes), below which no container starts")
    return value


def _number(value: Any) -> Any:
    # pydantic would read true as 1 and "2" as 2.
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"expected a number, got {value!r}")
    return value


def _env_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", value):
        raise ValueError(f"{value!r} is not a name for an environment variable")
    return value


def _program_text(value: Any) -> Any:
    if not isinstance(value, str) or not is_plain(value):
        raise ValueError(f"expected text without NUL or lone surrogates, got {value!r}")
    return value


def _encoding(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError(f"expected the name of an encoding, such as 'utf-8' or 'gbk', got {value!r}")
    # A name is looked for among Python's modules: nothing else than a name may get there.
    known = value if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_. -]{0,39}", value) else None
    try:
        found = codecs.lookup(known) if known is not None else None
    except LookupError:
        found = None
    # Transformations such as hex are codecs of Python's, too.
    if found is None or not found._is_text_encoding or found.name.replace("-", "_") in _NO_ENCODINGS:
        from encodings.aliases import aliases

        near = get_close_matches(value.lower(), {*aliases, *aliases.values()} - _NO_ENCODINGS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"expected an encoding that Python knows, such as 'utf-8' or 'gbk', got {value!r}{hint}")
    return value


Bytes = Annotated[int, BeforeValidator(parse_bytes, json_schema_input_type=int | str)]
Memory = Annotated[Bytes, AfterValidator(_enough_memory)]
Number = Annotated[float, BeforeValidator(_number)]
EnvName = Annotated[str, AfterValidator(_env_name)]
ProgramText = Annotated[str, BeforeValidator(_program_text)]
Encoding = Annotated[str, BeforeValidator(_encoding)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Container(_Strict):
    """The model's container."""

    image: str | None = Field(None, description="Image reference; may be absent with a Dockerfile.")
    cmd: tuple[ProgramText, ...] = Field((), description="Command; the image's own when empty.")
    env: dict[EnvName, ProgramText] = Field(
        default_factory=dict, description="Environment of the model; nothing else is passed."
    )
    shm_size: Bytes | None = Field(None, description="/dev/shm in bytes; the operator's default when absent.")
    working_dir: str | None = Field(
        None, description="Folder that the command begins in; the image's own, or the workspace, when absent."
    )

    @field_validator("image")
    @classmethod
    def _names_an_image(cls, value: str | None) -> str | None:
        if value is not None:
            parse_image(value)
        return value

    @field_validator("working_dir")
    @classmethod
    def _a_plain_folder(cls, value: str | None) -> str | None:
        if value is not None and (
            not value.startswith("/")
            or posixpath.normpath(value) != (value.rstrip("/") or "/")
            or not value.isprintable()
            or len(value.encode()) > 512
        ):
            raise ValueError("expected a folder's path from the root, such as /workspace")
        return value if value is None else value.rstrip("/") or "/"

    @field_validator("cmd", mode="before")
    @classmethod
    def _no_shell(cls, value: Any) -> Any:
        if isinstance(value, str):
            raise ValueError("expected a list of strings, such as ['python', 'predict.py']")
        return value


class ResourceRequest(_Strict):
    """What the model may use. None means the operator's default."""

    cpu: Number | None = Field(None, ge=MIN_CPU, description="CPUs, may be a fraction.")
    memory: Memory | None = Field(None, description="Bytes; swap is never added.")
    gpu: int | None = Field(None, ge=0, description="GPUs.", strict=True)
    gpu_types: tuple[GpuType, ...] | None = Field(
        None, max_length=64, description="Types of GPU, any of which will do; any type when absent."
    )
    gpu_memory: Bytes | None = Field(None, description="Bytes of memory that each GPU must have.")
    disk: Bytes | None = Field(None, description="Bytes the model may write to output.")

    @field_validator("gpu_types", mode="before")
    @classmethod
    def _a_list(cls, value: Any) -> Any:
        if isinstance(value, str) or value == []:
            raise ValueError("expected a list of one type or more, such as ['A100-SXM4-80GB']")
        return value


class DataFiles(_Strict):
    """What the tables and boxes are written in."""

    encoding: Encoding | None = Field(None, description="Of the ground truth and the predictions; UTF-8 when absent.")
    input_encoding: Encoding | None = Field(None, description="Of the ground truth, where it is another one.")
    output_encoding: Encoding | None = Field(None, description="Of the predictions, where it is another one.")
    input_format: str | None = Field(None, description="A label: a file's name says its format.")
    output_format: str | None = Field(None, description="A label, too.")
    has_header: bool = Field(True, strict=True, description="Tables have one, always.")
    custom_fields: dict[str, Any] = Field(default_factory=dict, description="For the model, which reads meta.json.")

    @field_validator("has_header")
    @classmethod
    def _tables_have_one(cls, value: bool) -> bool:
        if not value:
            raise ValueError("expected true: columns are found by their names, so a table's first line must hold them")
        return value

    @property
    def encodings(self) -> tuple[str, str]:
        """Of the ground truth and of the predictions."""
        both = self.encoding or "utf-8"
        return self.input_encoding or both, self.output_encoding or both


class Job(_Strict):
    """meta.json in today's names."""

    job_id: str | None = Field(None, pattern=r"^[^/\\\x00-\x1f\x7f]{1,200}$")
    task_type: str | None = Field(None, min_length=1)
    scorer: str | None = Field(None, min_length=1)
    params: dict[str, Any] = Field(default_factory=dict)
    container: Container = Field(default_factory=lambda: Container())
    resources: ResourceRequest = Field(default_factory=lambda: ResourceRequest())
    timeout: Number = Field(DEFAULT_TIMEOUT, gt=0, description="Seconds the model may run.")
    network_policy: str = Field("none", description="'none' (or 'restricted'); others only where allowed.")
    data: DataFiles = Field(default_factory=lambda: DataFiles(), description="What the files are written in.")
    input_uri: str | None = None
    output_uri: str | None = None
    version: str | None = None
    description: str | None = None

    @field_validator("scorer")
    @classmethod
    def _in_our_spelling(cls, value: str | None) -> str | None:
        return our_scorer(value)

    @field_validator("version", mode="before")
    @classmethod
    def _labels_may_be_numbers(cls, value: Any) -> Any:
        return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value

    @field_validator("job_id")
    @classmethod
    def _names_a_folder(cls, value: str | None) -> str | None:
        if value in (".", ".."):
            raise ValueError("expected a name that could be a folder's")
        return value

    @field_validator("input_uri", "output_uri")
    @classmethod
    def _only_the_workspace(cls, value: str | None, info: Any) -> str | None:
        folder = info.field_name.split("_")[0]
        allowed = {spelling.format(folder) for spelling in META_URIS}
        if value is not None and value.removesuffix("/") not in allowed:
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
        folded, conflicts = fold_spellings(data)
        if conflicts:
            raise ValueError("; ".join(conflicts.values()))
        return folded


def fold_spellings(data: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Write a job in today's names.

    Args:
        data: The object of meta.json, not checked yet.

    Returns:
        The same with every older spelling under its name of today, and for each key that contradicts another
        what is wrong with it.
    """
    data = dict(data)
    conflicts: dict[str, str] = {}

    def fold(source: dict[str, Any], old: str, target: dict[str, Any], new: str, was: str, now: str) -> None:
        if old not in source:
            return
        value = source.pop(old)
        if new in target and target[new] != value:
            conflicts[was] = f"{was} and {now} mean the same and differ: {value!r}, {target[new]!r}"
        else:
            target[new] = value

    for section in ("container", "resources", "data"):
        if isinstance(data.get(section), dict):
            data[section] = dict(data[section])
        elif data.get(section, 0) is None:
            del data[section]
    if isinstance(data.get("container"), dict) and "gpus" in data["container"]:
        data.setdefault("resources", {})

    def place(path: str) -> tuple[dict[str, Any], str]:
        section, _, key = path.rpartition(".")
        # Where a section is no object, that is the problem to tell of, not what would have been folded into it.
        found = data.get(section) if section else data
        return (found if isinstance(found, dict) else {}), key

    for was, now in META_KEYS.items():
        fold(*place(was), *place(now), was, now)
    return data, conflicts


# What an unknown key is compared with, by the object that holds it.
KNOWN_KEYS: dict[str, tuple[str, ...]] = {
    section: (
        *model.model_fields,
        *(key for where, _, key in (path.rpartition(".") for path in META_KEYS) if where == section),
    )
    for section, model in (("", Job), ("container", Container), ("resources", ResourceRequest), ("data", DataFiles))
}
