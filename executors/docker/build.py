"""One build of a workspace's Dockerfile on the engine: the context, the limits, and what becomes of a failure."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import secrets
import tarfile
import time
from pathlib import Path
from typing import IO, Any

from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode
from ...core.exposure import build_context
from ...core.text import strip
from ...core.workspace import Workspace
from ..base import Observer
from .build_limits import ProcessLimit
from .engine import engine_errors

__all__ = ["build_failed", "pack", "run_build"]

BASE_HINT = (
    "Where no registry can be reached, name a base image that is here in images.build_args; "
    "scripts/build-base-image makes one from Debian packages."
)
_LINES = 30
_CPU_PERIOD = 100_000  # microseconds


def pack(workspace: Workspace, dockerfile: bytes, target: IO[bytes], *also: str) -> str:
    """Write the build context as a tar with fixed times and owners.

    Args:
        workspace: Its folder.
        dockerfile: What stands for its Dockerfile.
        target: Is written to, and open at its beginning afterwards.
        also: What the image depends on besides the context.

    Returns:
        A hash of all of it, 32 hexadecimal digits.
    """
    digest = hashlib.sha256(repr(also).encode())
    own = workspace.root / "Dockerfile"
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in build_context(workspace):
            _add(tar, path, str(path.relative_to(workspace.root)), dockerfile if path == own else None)
    target.seek(0)
    while block := target.read(1 << 20):
        digest.update(block)
    target.seek(0)
    return digest.hexdigest()[:32]


def _add(tar: tarfile.TarFile, path: Path, name: str, content: bytes | None) -> None:
    info = tar.gettarinfo(path, arcname=name)
    if content is None and not (info.isreg() or info.issym()):
        return
    info.type = tarfile.SYMTYPE if info.issym() and content is None else tarfile.REGTYPE
    info.uid = info.gid = info.mtime = 0
    info.uname = info.gname = ""
    info.mode = 0o755 if info.mode & 0o111 else 0o644
    if info.issym():
        tar.addfile(info)
    elif content is not None:
        info.size, info.linkname = len(content), ""
        tar.addfile(info, io.BytesIO(content))
    else:
        info.size = path.stat().st_size
        with path.open("rb") as file:
            tar.addfile(info, file)


def run_build(client: Any, settings: Settings, context: IO[bytes], tag: str, observer: Observer) -> None:
    """Build an image.

    Args:
        client: The engine's client.
        settings: The configuration.
        context: As ``pack`` wrote it.
        tag: The only name that the image gets.
        observer: Is told the lines of the build.

    Raises:
        AutoScorerError: ``IMAGE_BUILD_FAILED``, ``IMAGE_PULL_FAILED`` or ``BACKEND_UNAVAILABLE``.
    """
    import docker.errors
    import urllib3.exceptions

    images = settings.images
    late = f"not done after {images.build_timeout:g} s"
    deadline = time.monotonic() + images.build_timeout
    lines: list[str] = []
    mark = f"autoscorer-build-{secrets.token_hex(16)}"
    with engine_errors("build the image"), ProcessLimit(settings, mark, settings.security.limits.pids) as limit:
        try:
            events = _start(client, settings, context, tag, mark)
            # Leaving early closes the connection, and the engine then cancels the build.
            with contextlib.closing(events):
                for event in events:
                    limit.check()
                    line = strip(str(event.get("stream") or event.get("error") or "")).strip()
                    if line:
                        lines.append(line)
                        observer.log(line)
                    if "error" in event:
                        limit.check()
                        raise build_failed(" ".join(event["error"].split())[:300], lines)
                    if time.monotonic() > deadline:
                        raise build_failed(late, lines)
        except docker.errors.APIError as error:
            raise build_failed(" ".join(str(error.explanation or error).split())[:300], lines) from error
        except urllib3.exceptions.TimeoutError as error:
            raise build_failed(late, lines) from error


def _start(client: Any, settings: Settings, context: IO[bytes], tag: str, mark: str) -> Any:
    """Ask for the build; docker-py's own ``build`` knows neither CPU quotas nor ulimits."""
    images, limits = settings.images, settings.security.limits
    cpus = min(limits.cpu, client.info().get("NCPU") or 1)
    ulimits = [
        {"Name": "nofile", "Soft": limits.nofile, "Hard": limits.nofile},
        {"Name": "core", "Soft": 0, "Hard": 0},
    ]
    parameters: dict[str, Any] = {
        # The classic builder, always: what a Dockerfile may do was judged by how that one reads it.
        "version": "1",
        "t": tag,
        "rm": True,
        "forcerm": True,
        "buildargs": json.dumps(images.build_args),
        "labels": json.dumps({"io.autoscorer.built": "1"}),
        # Swap is never added.
        "memory": limits.memory,
        "memswap": limits.memory,
        "cpuperiod": _CPU_PERIOD,
        "cpuquota": max(int(cpus * _CPU_PERIOD), 1000),
        "shmsize": min(settings.security.defaults.shm_size, limits.memory),
        "ulimits": json.dumps(ulimits),
        "extrahosts": [f"{mark}:127.0.0.1"],
    }
    if images.build_network == "none":
        parameters["networkmode"] = "none"
    headers = {"Content-Type": "application/tar"}
    client._set_auth_headers(headers)
    response = client._post(
        client._url("/build"),
        data=context,
        params=parameters,
        headers=headers,
        stream=True,
        timeout=images.build_timeout,
    )
    client._raise_for_status(response)
    return client._stream_helper(response, decode=True)


def build_failed(why: str, lines: list[str]) -> AutoScorerError:
    """What the engine said, told as the registry's failure or as the Dockerfile's."""
    # What the engine itself says of a registry it can't reach; a RUN step's own words never begin an error.
    if re.match(r'(Get|Head) "https?://|error pulling image|toomanyrequests|net/http', why):
        return AutoScorerError(
            ErrorCode.IMAGE_PULL_FAILED,
            f"The Dockerfile's base image could not be pulled: {why}. {BASE_HINT}",
            details={"log": lines[-_LINES:]},
        )
    return AutoScorerError(
        ErrorCode.IMAGE_BUILD_FAILED,
        f"The Dockerfile does not build: {why}. The last lines of the build are in details.",
        details={"log": lines[-_LINES:]},
    )
