"""Where Prefect's server is, and what it is shown by whoever asks it without Prefect's own client."""

from __future__ import annotations

import base64
import os

from .config import Settings

__all__ = ["prefect_headers", "prefect_url"]

_DEFAULT = "http://127.0.0.1:4200/api"


def prefect_url(settings: Settings) -> str:
    """The server's API: ``prefect.api_url``, else ``PREFECT_API_URL``, else the usual one on this machine."""
    return (settings.prefect.api_url or os.environ.get("PREFECT_API_URL") or _DEFAULT).rstrip("/")


def prefect_headers(settings: Settings) -> dict[str, str]:
    """What says who asks: ``prefect.api_key``, else ``PREFECT_API_AUTH_STRING``; nothing where neither is set."""
    if settings.prefect.api_key is not None:
        return {"authorization": f"Bearer {settings.prefect.api_key.get_secret_value()}"}
    if auth := os.environ.get("PREFECT_API_AUTH_STRING"):
        return {"authorization": "Basic " + base64.b64encode(auth.encode()).decode()}
    return {}
