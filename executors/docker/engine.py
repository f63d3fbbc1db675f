"""Reaching the Docker Engine, and mapping whatever its client raises to one error of the catalogue."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode

__all__ = ["connect", "engine_errors", "engine_exceptions", "knock", "short", "socket_of"]

DEFAULT_SOCKET = "unix:///var/run/docker.sock"


def connect(settings: Settings, *, timeout: float | None = 60, version: str = "auto") -> Any:
    """A client of the Engine that the settings or ``DOCKER_HOST`` name.

    Raises:
        AutoScorerError: ``BACKEND_UNAVAILABLE``.
    """
    import docker

    with engine_errors("reach the Docker Engine"):
        base_url = settings.executors.docker.base_url
        environment = {"base_url": base_url} if base_url else docker.utils.kwargs_from_env()
        _knock((environment.get("base_url") or DEFAULT_SOCKET).removeprefix("unix://"))
        return docker.APIClient(version=version, timeout=timeout, **environment)


def socket_of(client: Any) -> str | None:
    """Path of the socket that a client speaks through; None for an engine on another host."""
    path: str | None = getattr(client.get_adapter(client.base_url), "socket_path", None)
    return path


def knock(client: Any) -> None:
    """Fail at once where the engine has gone: docker-py would leave the socket it tried to the garbage collector.

    Raises:
        OSError: Nobody listens.
    """
    _knock(socket_of(client) or "")


def _knock(path: str) -> None:
    if path.startswith("/"):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(path)


@contextlib.contextmanager
def engine_errors(action: str) -> Iterator[None]:
    """Map everything that docker, requests, urllib3 or a socket raise to ``BACKEND_UNAVAILABLE``."""
    try:
        yield
    except engine_exceptions() as error:
        why = getattr(error, "explanation", None) or str(error) or type(error).__name__
        raise AutoScorerError(
            ErrorCode.BACKEND_UNAVAILABLE,
            f"Could not {action}: {short(why)}. Check that Docker runs and that you may use it.",
        ) from error


def engine_exceptions() -> tuple[type[Exception], ...]:
    import docker.errors
    import requests
    import urllib3.exceptions

    return (
        docker.errors.DockerException,
        docker.errors.StreamParseError,
        requests.RequestException,
        urllib3.exceptions.HTTPError,
        urllib3.exceptions.ProxySchemeUnsupported,
        OSError,
    )


def short(why: Any) -> str:
    """An engine's explanation as one line of at most 300 characters."""
    text = why.decode("utf-8", "replace") if isinstance(why, bytes) else str(why)
    return " ".join(text.split())[:300].rstrip(".")
