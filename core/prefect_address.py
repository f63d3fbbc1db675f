"""Where Prefect's server is, and what it is shown by whoever asks it without Prefect's own client."""

from __future__ import annotations

import base64
import os
from urllib.parse import urlsplit

from .config import Settings
from .loopback import is_loopback_name

__all__ = ["flow_run_page", "prefect_headers", "prefect_url"]

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


def flow_run_page(settings: Settings, flow_run_id: str, *, asked: str | None) -> str | None:
    """The page of a flow run in Prefect's UI, for a browser; None where nobody said how a browser reaches the UI.

    The server's API is often known by an address that only the installation's own network has. So its UI stands beside
    it only for who is on the server's machine, as this one is.

    Args:
        settings: The configuration: ``prefect.ui_url``, else ``PREFECT_UI_URL``.
        flow_run_id: Of Prefect.
        asked: The host that the browser asked, of which this page is to be a link.
    """
    place = settings.prefect.ui_url or os.environ.get("PREFECT_UI_URL") or ""
    if not place.startswith(("http://", "https://")):
        url = prefect_url(settings)
        if not (is_loopback_name(urlsplit(url).hostname or "") and is_loopback_name(asked or "")):
            return None
        place = url.removesuffix("/api")
    return f"{place.rstrip('/')}/runs/flow-run/{flow_run_id}"
