"""Clearing up after processes that died: their containers, their staged folders, their run records.

A container is an orphan when its owner is certainly dead, or when it outlived its deadline by far, whoever owns it
(an owner on another host can't be asked). The same holds for a run's record and its staged folder, as long as nobody
holds the workspace.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.config import Settings
from ..core.errors import AutoScorerError
from ..core.processes import ProcessIdentity
from .files import remove_tree
from .process import kill_staged
from .records import RunRecord, RunRecords

__all__ = ["OwnContainer", "Reaped", "clear_flow_run", "own_containers", "reap", "reap_if_needed", "remove_by_label"]


@dataclass
class Reaped:
    """What was removed, and what could not be."""

    containers: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return {"containers": self.containers, "folders": self.folders, "problems": self.problems}


@dataclass(frozen=True)
class OwnContainer:
    """A container of ours; the labels without our prefix."""

    id: str
    name: str
    labels: Mapping[str, str]


def reap_if_needed(settings: Settings) -> Reaped | None:
    """Reap only when a record of a dead run lies there: a glance at one folder for every command."""
    dead = RunRecords(settings.home).dead()
    return reap(settings) if dead else None


def reap(settings: Settings, *, connect: Callable[[Settings], Any] | None = None) -> Reaped:
    """Remove what dead owners left.

    Args:
        settings: The configuration; ``home`` holds the records.
        connect: How to reach the Docker Engine; tests give their own.

    Returns:
        What was removed; a Docker Engine that does not answer is a problem listed, not an error.
    """
    done = Reaped()
    records = RunRecords(settings.home).dead()
    docker_done = _reap_containers(settings, done, connect, {record.run_id for record in records})
    for record in records:
        if record.backend == "docker" and not docker_done:
            continue  # its record must outlive its container
        _clear(record, done)
    return done


def clear_flow_run(settings: Settings, flow_run_id: str, *, connect: Callable[[Settings], Any] | None = None) -> Reaped:
    """Remove what a flow run left that nobody works on any more, wherever its processes were.

    Args:
        settings: The configuration.
        flow_run_id: The flow run.
        connect: How to reach the Docker Engine; tests give their own.

    Raises:
        AutoScorerError: ``BACKEND_UNAVAILABLE`` when the Docker Engine does not answer; what needs none is removed.
    """
    done = Reaped()
    records = RunRecords(settings.home).of_flow_run(flow_run_id)
    try:
        done.containers = remove_by_label(settings, "flow_run", flow_run_id, connect=connect)
    except AutoScorerError:
        records = [record for record in records if record.backend != "docker"]
        raise
    finally:
        for record in records:
            _clear(record, done)
    return done


def remove_by_label(
    settings: Settings, key: str, value: str, *, connect: Callable[[Settings], Any] | None = None
) -> list[str]:
    """Remove our containers that carry a label, whoever owns them and however they are doing.

    Args:
        settings: The configuration.
        key: The label's name without our prefix, such as ``flow_run``.
        value: Its value.
        connect: How to reach the Docker Engine; tests give their own.

    Returns:
        The names of the containers that were removed.

    Raises:
        AutoScorerError: ``BACKEND_UNAVAILABLE`` when the Docker Engine does not answer.
    """
    from .docker.executor import remove_container

    removed = []
    with _engine(settings, connect) as client:
        for container in _ours(client, f"{key}={value}"):
            remove_container(client, container.id)
            removed.append(container.name)
    return removed


def own_containers(settings: Settings, *, connect: Callable[[Settings], Any] | None = None) -> list[OwnContainer]:
    """Our containers on this host, of every installation.

    Args:
        settings: The configuration.
        connect: How to reach the Docker Engine; tests give their own.

    Raises:
        AutoScorerError: ``BACKEND_UNAVAILABLE`` when the Docker Engine does not answer.
    """
    with _engine(settings, connect) as client:
        return list(_ours(client))


@contextlib.contextmanager
def _engine(settings: Settings, connect: Callable[[Settings], Any] | None) -> Iterator[Any]:
    from .docker.engine import connect as usual

    client = (connect or usual)(settings)
    try:
        yield client
    finally:
        client.close()


def _ours(client: Any, *labels: str) -> Iterator[OwnContainer]:
    from .docker.container_config import LABEL, NAME
    from .docker.engine import engine_errors

    wanted = [LABEL + label for label in ("run", *labels)]
    with engine_errors("list the containers"):
        found = client.containers(all=True, filters={"label": wanted})
    for container in found:
        carried = container.get("Labels") or {}
        own = {key.removeprefix(LABEL): text for key, text in carried.items() if key.startswith(LABEL)}
        name = NAME + own.get("run", "")
        # The name as well: an image can carry labels like ours, and whoever runs it by hand is no run of ours.
        if f"/{name}" in (container.get("Names") or []):
            yield OwnContainer(container["Id"], name, own)


def _reap_containers(
    settings: Settings, done: Reaped, connect: Callable[[Settings], Any] | None, dead: Collection[str]
) -> bool:
    from .docker.executor import remove_container

    try:
        with _engine(settings, connect) as client:
            for container in _ours(client):
                if container.labels.get("run") in dead or _orphaned(container.labels):
                    remove_container(client, container.id)
                    done.containers.append(container.name)
    except AutoScorerError as error:
        done.problems.append(error.message)
        return False
    return True


def _orphaned(labels: Mapping[str, str]) -> bool:
    owner = ProcessIdentity(labels.get("owner", ""))
    if owner.is_dead() or owner.is_of_gone_container():
        return True
    deadline = labels.get("deadline", "")
    return bool(re.fullmatch("[0-9]{1,12}", deadline)) and time.time() > int(deadline)


def _clear(record: RunRecord, done: Reaped) -> None:
    staged = record.staged
    try:
        if record.backend == "process":
            kill_staged(staged)
        for staged in (record.staged, *record.elsewhere):
            if os.path.lexists(staged):
                _restore(record.workspace, staged)
                remove_tree(staged)
                done.folders.append(str(staged))
        record.remove()
    except OSError as error:
        done.problems.append(f"{staged}: {error.strerror}")


def _restore(workspace: Path, staged: Path) -> None:
    """Where a rename in two steps was cut between them, put the old output back."""
    aside = staged / "output.replaced"
    if aside.is_dir() and not (workspace / "output").exists():
        with contextlib.suppress(OSError):
            aside.rename(workspace / "output")
