"""Whatever the way to the API server raises, as one error of the catalogue."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ...core.errors import AutoScorerError, ErrorCode

__all__ = ["ApiError", "api_errors", "library_exceptions", "refused", "short", "unavailable"]

# What a server or a proxy before it says while it is being restarted, or has too much to do.
_PASSING = frozenset({429, 500, 502, 503, 504})


class ApiError(AutoScorerError):
    """The API server could not be asked, or said no. ``status`` is its HTTP status; None where nobody answered."""

    status: int | None = None
    reason: str = ""
    # Seconds that the server asks to wait.
    retry_after: float | None = None

    @property
    def is_passing(self) -> bool:
        """Whether the same request may be answered a moment later."""
        return self.status is None or self.status in _PASSING


def unavailable(message: str, **details: Any) -> AutoScorerError:
    """The cluster can't run a model now, which is no submission's fault."""
    return AutoScorerError(ErrorCode.BACKEND_UNAVAILABLE, message, details=details)


def refused(action: str, status: int, body: Any, retry_after: str | None = None) -> ApiError:
    """What a status that is no success says, in one sentence.

    Args:
        action: What was asked for, as an infinitive: ``create the Job``.
        status: The HTTP status.
        body: The answer's ``Status`` object, or whatever came.
        retry_after: The header of that name.
    """
    told = body if isinstance(body, dict) else {}
    why = short(told.get("message") or body or "no reason given")
    advice = {
        401: "Check the credentials of executors.kubernetes.kubeconfig, or those of the pod's service account.",
        403: "`autoscorer doctor` says which rights are missing in the namespace.",
    }.get(status, "")
    error = ApiError(
        ErrorCode.BACKEND_UNAVAILABLE, f"Kubernetes refused to {action} (HTTP {status}): {why}. {advice}".rstrip()
    )
    error.status = status
    error.reason = str(told.get("reason") or "")
    with contextlib.suppress(ValueError):
        error.retry_after = float(retry_after) if retry_after else None
    return error


@contextlib.contextmanager
def api_errors(action: str) -> Iterator[None]:
    """Map everything that httpx, websockets, TLS or a socket raise to ``BACKEND_UNAVAILABLE``."""
    try:
        yield
    except library_exceptions() as error:
        raise ApiError(
            ErrorCode.BACKEND_UNAVAILABLE,
            f"Could not {action}: {short(error) or type(error).__name__}. Check that the API server of the cluster "
            "answers (executors.kubernetes).",
        ) from error


def library_exceptions() -> tuple[type[Exception], ...]:
    """What the libraries below raise, and what is below them."""
    import httpx
    from websockets.exceptions import WebSocketException

    return (
        httpx.HTTPError,
        httpx.InvalidURL,
        httpx.CookieConflict,
        httpx.StreamError,
        WebSocketException,
        OSError,
        EOFError,
    )


def short(why: Any) -> str:
    """An explanation as one line of at most 400 characters."""
    text = why.decode("utf-8", "replace") if isinstance(why, bytes) else str(why)
    return " ".join(text.split())[:400].rstrip(".")
