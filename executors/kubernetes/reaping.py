"""What is in the runs' namespace of ours, and its removal, for whoever clears up after others."""

from __future__ import annotations

import time
from typing import Any

from ...core.config import Settings
from ..docker.container_config import NAME
from .api import PATIENCE_BEFORE
from .errors import unavailable
from .job import delete_job, delete_pod, pods_of
from .names import LABEL, carried, jobs_path
from .session import Session, open_session

__all__ = ["own_jobs", "remove_job"]

# Seconds for the pods of a deleted Job to go, and then for what the cluster is told to forget.
REMOVAL, FORGETTING = 60.0, 10.0
_PAGE = 500


def own_jobs(settings: Settings, *labels: str) -> dict[str, dict[str, str]]:
    """Our Jobs, and pods of ours that are there without one: by the Job's name what they carry, without the prefix.

    Args:
        settings: The configuration.
        labels: ``key=value`` that they carry, without the prefix.

    Raises:
        AutoScorerError: ``BACKEND_UNAVAILABLE``.
    """
    session = open_session(settings)
    selector = ",".join(LABEL + label for label in ("run", *labels))
    found: dict[str, dict[str, str]] = {}
    for path in (jobs_path(session.namespace), f"/api/v1/namespaces/{session.namespace}/pods"):
        for each in _all(session, path, selector):
            told = carried(each)
            name = NAME + told.get("run", "")
            # The name as well: anybody may write labels like ours on what is theirs.
            if each["metadata"]["name"] == name or each["metadata"]["name"].startswith(f"{name}-"):
                found.setdefault(name, told)
    return found


def remove_job(settings: Settings, name: str) -> None:
    """Remove a Job of ours with its pods, and wait until they are gone.

    Args:
        settings: The configuration.
        name: The Job's; it may be gone, and only its pod be there.

    Raises:
        AutoScorerError: ``BACKEND_UNAVAILABLE``.
    """
    session = open_session(settings)
    delete_job(session, name)
    selector = f"{LABEL}run={name.removeprefix(NAME)}"
    end = time.monotonic() + REMOVAL
    pause = 0.2
    while pods := pods_of(session, selector):
        is_late = time.monotonic() > end
        if is_late and time.monotonic() > end + FORGETTING:
            raise unavailable(f"The pod of the Job {name} does not go, though it was deleted.")
        for pod in pods:
            # One that was left without its Job, or whose node does not answer.
            if is_late or not pod["metadata"].get("deletionTimestamp"):
                delete_pod(session, str(pod["metadata"]["name"]), now=is_late)
        time.sleep(pause)
        pause = min(2 * pause, 2.0)


def _all(session: Session, path: str, selector: str) -> list[dict[str, Any]]:
    query: dict[str, str | int] = {"labelSelector": selector, "limit": _PAGE}
    found: list[dict[str, Any]] = []
    while True:
        page = session.api.get(path, "list our Jobs", query=query, patience=PATIENCE_BEFORE)
        found += page.get("items") or ()
        if not (page.get("metadata") or {}).get("continue"):
            return found
        query["continue"] = page["metadata"]["continue"]
