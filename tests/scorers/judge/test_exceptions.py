"""Whatever aiohttp raises is a reason; a class that a newer version brings is found here."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import aiohttp
import pytest
from aiohttp import http_exceptions
from autoscorer.scorers.judge.transport import reason_for


def all_below(kind: type[BaseException]) -> Iterator[type[BaseException]]:
    yield kind
    for below in kind.__subclasses__():
        yield from all_below(below)


def made(kind: type[BaseException]) -> BaseException:
    """An exception without what its constructor asks for."""
    error = kind.__new__(kind)
    error.args = ()
    return error


CLASSES = sorted(
    {
        kind
        for base in (aiohttp.ClientError, http_exceptions.HttpProcessingError, OSError)
        for kind in all_below(base)
        if kind.__module__.startswith("aiohttp")
    },
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_exception_of_the_library_has_a_reason(kind: type[Exception]) -> None:
    found = reason_for(made(kind))  # type: ignore[arg-type]
    assert found is not None
    assert found[0] in ("unreachable", "timeout", "bad_answer")


def test_all_that_the_library_names_are_among_them() -> None:
    named = {value for value in vars(aiohttp).values() if isinstance(value, type) and issubclass(value, Exception)}
    others = {kind for kind in named - set(CLASSES) if reason_for(made(kind)) is None}  # type: ignore[arg-type]
    # Warnings, and what the parts for web sockets and for streams that are read otherwise raise.
    assert {kind.__name__ for kind in others} <= {
        "BadContentDispositionHeader",
        "BadContentDispositionParam",
        "EofStream",
        "WSMessageTypeError",
        "WebSocketError",
    }


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TimeoutError(), ("timeout", True)),
        (aiohttp.ServerTimeoutError(), ("timeout", True)),
        (aiohttp.ServerDisconnectedError(), ("unreachable", True)),
        (ConnectionResetError(), ("unreachable", True)),
        (socket.gaierror(), ("unreachable", True)),
        (aiohttp.ClientConnectorError(Mock(), OSError(111, "refused")), ("unreachable", True)),
        (aiohttp.ClientConnectorCertificateError(Mock(), ssl.SSLCertVerificationError()), ("unreachable", False)),
        (aiohttp.ClientPayloadError(), ("unreachable", True)),
        (aiohttp.InvalidURL("x"), ("unreachable", False)),
        (http_exceptions.LineTooLong(b"x", 1), ("bad_answer", True)),
        (KeyError("ours"), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_may_pass_is_told_from_what_stays(error: Exception, expected: Any) -> None:
    assert reason_for(error) == expected
