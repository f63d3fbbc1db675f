"""A note on disk for every run under way, so that whoever starts next can clear up after one that died.

Who owned a run may not be to be seen any more: its host is gone for good, or its container was started again. So a
record also says for which flow run it was, whose worker may be known to be dead, and when the run must be over.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..core.errors import AutoScorerError
from ..core.flowruns import FlowRunFiles
from ..core.processes import ProcessIdentity
from ..core.provenance import current_flow_run
from ..core.storage import writing_home
from ..core.workspace import Workspace, write_atomic
from .docker.container_config import GRACE

__all__ = ["RunRecord", "RunRecords"]

# Seconds that getting the image may take; until then nothing of the run is there.
_PREPARING = 24 * 3600.0
# Seconds past a run's deadline after which its record goes although nobody here sees its workspace; and the age at
# which one goes that an earlier AutoScorer wrote, without a deadline.
_WEEK = 7 * 24 * 3600.0


@dataclass(frozen=True)
class RunRecord:
    """One run: who owns it, and where it left things.

    ``deadline`` is the moment (seconds since the epoch) at which nobody works on it any more, whoever owns it;
    ``flow_run`` the Prefect flow run that it is for.
    """

    path: Path
    run_id: str
    backend: str
    owner: ProcessIdentity
    workspace: Path
    deadline: float
    flow_run: str | None = None
    # Where it may be staged outside of the workspace.
    elsewhere: tuple[Path, ...] = ()

    @property
    def staged(self) -> Path:
        return self.workspace / ".autoscorer" / f"run-{self.run_id}"

    @property
    def is_within_reach(self) -> bool:
        """Whether what it left can be removed from here, or nobody ever will."""
        return self.owner.is_in_sight or self.workspace.is_dir() or time.time() > self.deadline + _WEEK

    @property
    def is_overdue(self) -> bool:
        """Whether the run must be over, and nobody holds its workspace (the clocks of two hosts may disagree)."""
        if time.time() <= self.deadline:
            return False
        try:
            return not Workspace(self.workspace).is_held()
        except AutoScorerError:  # it is not there
            return True

    def remove(self) -> None:
        """The run has ended and nothing of it is left."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()


class RunRecords:
    """The records of this installation, under ``<home>/runs``."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._folder = home / "runs"

    def add(self, run_id: str, workspace: Workspace, backend: str, elsewhere: Sequence[Path] = ()) -> RunRecord:
        """Note a run of this process before anything of it exists.

        Raises:
            AutoScorerError: ``STORAGE_FULL``; ``INVALID_REQUEST`` at stage ``config`` when the home can't be written
                for another reason.
        """
        return self._write(
            RunRecord(
                self._folder / f"{run_id}.json",
                run_id,
                backend,
                ProcessIdentity.current(),
                workspace.root,
                time.time() + _PREPARING,
                current_flow_run.get(),
                tuple(elsewhere),
            )
        )

    def begin(self, record: RunRecord, timeout: float) -> RunRecord:
        """Note that the model of a run is about to start.

        Args:
            record: What ``add`` returned.
            timeout: The job's, in seconds.

        Returns:
            The record with its deadline: that of the run's container.

        Raises:
            AutoScorerError: As ``add``.
        """
        return self._write(replace(record, deadline=time.time() + timeout + GRACE))

    def _write(self, record: RunRecord) -> RunRecord:
        with writing_home(self._home):
            write_atomic(record.path, json.dumps(_content(record)).encode())
        return record

    def all(self) -> Iterator[RunRecord]:
        """Every record that can be read."""
        try:
            paths = sorted(self._folder.glob("*.json"))
        except OSError:
            return
        for path in paths:
            try:
                data = json.loads(path.read_text(encoding="utf-8"))
                fields = [data[key] for key in ("run_id", "backend", "owner", "workspace")]
                deadline = float(data.get("deadline") or path.stat().st_mtime + _WEEK)
            except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
                continue
            flow_run = data.get("flow_run")
            if all(isinstance(field, str) for field in fields):
                run_id, backend, owner, workspace = fields
                places = data.get("elsewhere")
                known = places if isinstance(places, list) else []
                # What is there will be removed, so nothing counts that is not named after the run.
                elsewhere = [Path(place) for place in known if str(place).endswith(f"/autoscorer-{run_id}")]
                yield RunRecord(
                    path,
                    run_id,
                    backend,
                    ProcessIdentity(owner),
                    Path(workspace),
                    deadline,
                    flow_run if isinstance(flow_run, str) else None,
                    tuple(elsewhere),
                )

    def dead(self) -> list[RunRecord]:
        """Records whose owner lives no more, as far as is to be known, and whose leftovers are within reach."""
        return [record for record in self.all() if self._is_dead(record) and record.is_within_reach]

    def of_flow_run(self, flow_run_id: str) -> list[RunRecord]:
        """Records of a flow run that nobody works on any more, apart from those of processes that are seen to live."""
        return [
            record
            for record in self.all()
            if record.flow_run == flow_run_id
            and record.is_within_reach
            and (record.owner.is_dead() or not record.owner.is_in_sight)
        ]

    def _is_dead(self, record: RunRecord) -> bool:
        owner = record.owner
        if owner.is_dead() or owner.is_of_gone_container():
            return True
        return not owner.is_in_sight and (self._worker_has_died(record) or record.is_overdue)

    def _worker_has_died(self, record: RunRecord) -> bool:
        """Whether its worker is known to be dead by its name, which another process has."""
        if record.flow_run is None:
            return False
        try:
            files = FlowRunFiles(self._home, record.flow_run)
        except ValueError:
            return False
        claim = files.read_claim()
        return claim is not None and record.owner in (claim.worker, claim.child) and files.is_lost(claim)


def _content(record: RunRecord) -> dict[str, Any]:
    return {
        "run_id": record.run_id,
        "backend": record.backend,
        "owner": record.owner.text,
        "workspace": str(record.workspace),
        "deadline": record.deadline,
        "flow_run": record.flow_run,
        "elsewhere": [str(path) for path in record.elsewhere],
    }
