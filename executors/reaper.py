"""Clearing up after processes that died: their containers and Jobs, their staged folders, their run records.

A container is an orphan when its owner is certainly dead, or when it outlived its deadline by far, whoever owns it
(an owner on another host can't be asked). The same holds for a run's record and its staged folder, as long as nobody
holds the workspace.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.config import Settings
from ..core.errors import AutoScorerError
from ..core.processes import ProcessIdentity
from .bubblewrap.group import remove_group
from .bubblewrap.sandbox import kill_by_name
from .files import remove_tree
from .process import kill_staged
from .records import RunRecord, RunRecords

Connect = Callable[[Settings], Any]

__all__ = [
    "OwnContainer",
    "Reaped",
    "clear_flow_run",
    "gpus_of_containers",
    "own_containers",
    "reap",
    "reap_if_needed",
    "remove_by_label",
]


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
    """A container of ours, or a Job in a cluster; the labels without our prefix."""

    id: str
    name: str
    labels: Mapping[str, str]


def reap_if_needed(settings: Settings) -> Reaped | None:
    """Reap only when a record of a dead run lies there: a glance at one folder for every command."""
    dead = RunRecords(settings.home).dead()
    return reap(settings) if dead else None


def reap(settings: Settings, *, connect: Connect | None = None) -> Reaped:
    """Remove what dead owners left.

    Args:
        settings: The configuration; ``home`` holds the records.
        connect: How to reach the Docker Engine; tests give their own.

    Returns:
        What was removed; a Docker Engine or a cluster that does not answer is a problem listed, not an error.
    """
    done = Reaped()
    records = RunRecords(settings.home).dead()
    dead = {record.run_id for record in records}
    silent = set()
    for engine in _engines(settings, connect):
        try:
            for container in engine.list():
                if container.labels.get("run") in dead or _orphaned(container.labels):
                    engine.remove(container)
                    done.containers.append(container.name)
        except AutoScorerError as error:
            done.problems.append(error.message)
            silent.add(engine.backend)
        finally:
            engine.close()
    for record in records:
        if record.backend in silent:
            continue  # its record must outlive its container
        _clear(record, done)
    return done


def clear_flow_run(settings: Settings, flow_run_id: str, *, connect: Connect | None = None) -> Reaped:
    """Remove what a flow run left that nobody works on any more, wherever its processes were.

    Args:
        settings: The configuration.
        flow_run_id: The flow run.
        connect: How to reach the Docker Engine; tests give their own.

    Raises:
        AutoScorerError: ``BACKEND_UNAVAILABLE`` when the Docker Engine or the cluster does not answer; what needs none
            is removed.
    """
    done = Reaped()
    records = RunRecords(settings.home).of_flow_run(flow_run_id)
    done.containers, silent = _remove_by_label(settings, "flow_run", flow_run_id, connect)
    for record in records:
        if record.backend not in silent:
            _clear(record, done)
    for error in silent.values():
        raise error
    return done


def remove_by_label(settings: Settings, key: str, value: str, *, connect: Connect | None = None) -> list[str]:
    """Remove our containers and Jobs that carry a label, whoever owns them and however they are doing.

    Args:
        settings: The configuration.
        key: The label's name without our prefix, such as ``flow_run``.
        value: Its value.
        connect: How to reach the Docker Engine; tests give their own.

    Returns:
        The names of the containers and Jobs that were removed.

    Raises:
        AutoScorerError: ``BACKEND_UNAVAILABLE`` when the Docker Engine or the cluster does not answer.
    """
    removed, silent = _remove_by_label(settings, key, value, connect)
    for error in silent.values():
        raise error
    return removed


def own_containers(settings: Settings, *, connect: Connect | None = None) -> list[OwnContainer]:
    """Our containers on this host and in the cluster, of every installation.

    Args:
        settings: The configuration.
        connect: How to reach the Docker Engine; tests give their own.

    Raises:
        AutoScorerError: ``BACKEND_UNAVAILABLE`` when the Docker Engine or the cluster does not answer.
    """
    found: list[OwnContainer] = []
    for engine in _engines(settings, connect, must_answer=True):
        try:
            found += engine.list()
        finally:
            engine.close()
    return found


def gpus_of_containers(settings: Settings, *, required: bool, connect: Connect | None = None) -> frozenset[str]:
    """UUIDs of the GPUs that containers of ours have on this host, of every home and whether or not their owners live.

    Args:
        settings: The configuration.
        required: Whether there must be a Docker Engine: else there is nothing where none is to be reached.
        connect: How to reach the Docker Engine; tests give their own.

    Raises:
        AutoScorerError: ``BACKEND_UNAVAILABLE``.
    """
    engine = _Docker(settings, connect, is_sure=required)
    try:
        found = [container.labels.get("gpus", "") for container in engine.list("gpus")]
    finally:
        engine.close()
    return frozenset(uuid for text in found for uuid in text.split(",") if uuid)


def _remove_by_label(
    settings: Settings, key: str, value: str, connect: Connect | None
) -> tuple[list[str], dict[str, AutoScorerError]]:
    """What was removed, and by its backend why something could not be."""
    removed: list[str] = []
    silent: dict[str, AutoScorerError] = {}
    for engine in _engines(settings, connect):
        try:
            for container in engine.list(f"{key}={value}"):
                engine.remove(container)
                removed.append(container.name)
        except AutoScorerError as error:
            silent[engine.backend] = error
        finally:
            engine.close()
    return removed, silent


def _engines(settings: Settings, connect: Connect | None, *, must_answer: bool = False) -> list[_Engine]:
    """Where runs may be: what the configuration says, and whatever a record is of.

    Args:
        settings: The configuration.
        connect: How to reach the Docker Engine.
        must_answer: Whether a Docker Engine that may be there, and does not answer, is an error in any case.
    """
    used = {record.backend for record in RunRecords(settings.home).all()}
    found: list[_Engine] = []
    default = settings.executors.default
    # An installation in a cluster or of bubblewrap has no Docker Engine, and nobody waits for the word that there is
    # none; elsewhere there may be one.
    if connect is not None or "docker" in used or default not in ("kubernetes", "bubblewrap"):
        sure = must_answer or connect is not None or "docker" in used or default == "docker"
        found.append(_Docker(settings, connect, is_sure=sure))
    if settings.executors.uses_kubernetes or "kubernetes" in used:
        found.append(_Kubernetes(settings))
    return found


class _Engine(ABC):
    """Where containers of ours may be. What it does raises ``BACKEND_UNAVAILABLE`` when nobody answers."""

    backend: str

    @abstractmethod
    def list(self, *labels: str) -> Sequence[OwnContainer]:
        """Those that carry labels (``key=value``, without our prefix)."""

    @abstractmethod
    def remove(self, container: OwnContainer) -> None:
        """Remove one with everything that it has; one that is gone is fine."""

    def close(self) -> None:  # noqa: B027 - a connection that is shared stays
        """Let go of connections."""


class _Docker(_Engine):
    backend = "docker"

    def __init__(self, settings: Settings, connect: Connect | None, *, is_sure: bool) -> None:
        self._settings, self._connect = settings, connect
        # Whether there is an engine at all: one that was never used, and does not answer, has nothing of ours.
        self._is_sure = is_sure
        self._made: Any = None

    @property
    def _client(self) -> Any:
        from .docker.engine import connect

        if self._made is None:
            self._made = (self._connect or connect)(self._settings)
        return self._made

    def list(self, *labels: str) -> Sequence[OwnContainer]:
        from .docker.container_config import LABEL, NAME
        from .docker.engine import engine_errors

        try:
            client = self._client
        except AutoScorerError:
            if self._is_sure:
                raise
            return []
        with engine_errors("list the containers"):
            found = client.containers(all=True, filters={"label": [LABEL + label for label in ("run", *labels)]})
        own = []
        for container in found:
            carried = container.get("Labels") or {}
            told = {key.removeprefix(LABEL): text for key, text in carried.items() if key.startswith(LABEL)}
            name = NAME + told.get("run", "")
            # The name as well: an image can carry labels like ours, and whoever runs it by hand is no run of ours.
            if f"/{name}" in (container.get("Names") or []):
                own.append(OwnContainer(container["Id"], name, told))
        return own

    def remove(self, container: OwnContainer) -> None:
        from .docker.executor import remove_container

        remove_container(self._client, container.id)

    def close(self) -> None:
        if self._made is not None:
            self._made.close()


class _Kubernetes(_Engine):
    backend = "kubernetes"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def list(self, *labels: str) -> Sequence[OwnContainer]:
        from .kubernetes.reaping import own_jobs

        return [OwnContainer(name, name, told) for name, told in own_jobs(self._settings, *labels).items()]

    def remove(self, container: OwnContainer) -> None:
        from .kubernetes.reaping import remove_job

        remove_job(self._settings, container.id)


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
        elif record.backend == "bubblewrap":
            kill_by_name(record.run_id)
            remove_group(record.run_id)
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
