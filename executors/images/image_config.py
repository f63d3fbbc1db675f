"""What an image says of how it is run: its configuration, checked."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["ImageConfig", "check_digest", "machine", "read_config"]

# More than any image needs, and less than the kernel takes for a process.
_MOST = 1000
_LONGEST = 64 * 1024
_MOST_BYTES = 1024 * 1024
_MOST_LAYERS = 500
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
# As Go, and so every image, names the machines that Python's ``platform`` calls otherwise.
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "armv6l": "arm", "i686": "386", "i386": "386"}


@dataclass(frozen=True)
class ImageConfig:
    """How an image wants to be run.

    Attributes:
        env: ``NAME=value``.
        entrypoint: What is run, before ``cmd``; empty where it says none.
        cmd: The arguments, or the program where there is no entrypoint.
        working_dir: Empty where it says none.
        volumes: Paths as they are written, which any text may be.
        user: ``uid:gid`` or names; nothing of it has to be obeyed.
    """

    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    working_dir: str = ""
    volumes: tuple[str, ...] = ()
    user: str = ""


def read_config(data: bytes) -> tuple[ImageConfig, list[str], str]:
    """Read an image's configuration.

    Args:
        data: JSON, as it is stored.

    Returns:
        The configuration; the digest of each layer's tar, in order; which machine it is for, empty where it says none.

    Raises:
        ValueError: It is not one.
    """
    content = _object(json.loads(data), "its configuration")
    system = _text(content.get("os"), "os")
    if system not in ("", "linux"):
        raise ValueError(f"it is an image for {system[:50]}, and linux was expected")
    inner = _object(content.get("config"), "config")
    layers = _object(content.get("rootfs"), "rootfs").get("diff_ids")
    if not isinstance(layers, list) or not 0 < len(layers) <= _MOST_LAYERS:
        raise ValueError(f"rootfs.diff_ids must list the 1 to {_MOST_LAYERS} layers")
    env = _texts(inner.get("Env"), "Env")
    for line in env:
        if line.find("=") < 1:
            raise ValueError("Env must hold NAME=value")
    config = ImageConfig(
        env=env,
        entrypoint=_texts(inner.get("Entrypoint"), "Entrypoint"),
        cmd=_texts(inner.get("Cmd"), "Cmd"),
        working_dir=_text(inner.get("WorkingDir"), "WorkingDir"),
        volumes=_texts(list(_object(inner.get("Volumes"), "Volumes")), "Volumes"),
        user=_text(inner.get("User"), "User"),
    )
    return config, [check_digest(layer) for layer in layers], _text(content.get("architecture"), "architecture")


def check_digest(value: Any) -> str:
    """A digest as it is written: ``sha256:`` and 64 hexadecimal digits.

    Raises:
        ValueError: It is not one, or of another algorithm.
    """
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise ValueError("a digest must be 'sha256:' and 64 hexadecimal digits")
    return value


def machine() -> str:
    """What images call this machine's processor."""
    name = platform.machine()
    return _MACHINES.get(name, name)


def _object(value: Any, name: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be an object")
    return value


def _texts(value: Any, name: str) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [value]  # as engines wrote it once
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > _MOST:
        raise ValueError(f"{name} must be a list of at most {_MOST:,} texts")
    if None in value:
        raise ValueError(f"{name} must hold texts")
    texts = tuple(_text(item, name) for item in value)
    if sum(len(text) for text in texts) > _MOST_BYTES:
        raise ValueError(f"{name} holds more than {_MOST_BYTES:,} characters")
    return texts


def _text(value: Any, name: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or "\0" in value or len(value) > _LONGEST:
        raise ValueError(f"{name} must hold text of at most {_LONGEST:,} characters without NUL")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} holds an escape such as \\ud800 that stands for no character") from None
    return value
