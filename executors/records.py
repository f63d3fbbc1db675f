"""A note on disk for every run under way, so that whoever starts next can clear up after one that died."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import AutoScorerError, ErrorCode, Stage
from ..core.provenance import Owner
from ..core.storage import naming_full_disks
from ..core.workspace import Workspace, write_atomic

__all__ = ["RunRecord", "RunRecords"]


@dataclass(frozen=True)
class RunRecord:
    """One run: who owns it, and where it left things."""

    path: Path
    run_id: str
    backend: str
    owner: Owner
    workspace: Path

    @property
    def staged(self) -> Path:
        return self.workspace / ".autoscorer" / f"run-{self.run_id}"

    def remove(self) -> None:
        """The run has ended and nothing of it is left."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()


class RunRecords:
    """The records of this installation, under ``<home>/runs``."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "runs"

    def add(self, run_id: str, workspace: Workspace, backend: str) -> RunRecord:
        """Note a run of this process before anything of it exists.

        Raises:
            AutoScorerError: ``STORAGE_FULL``; ``INVALID_REQUEST`` at stage ``config`` when the home can't be written
                for another reason.
        """
        record = RunRecord(self._folder / f"{run_id}.json", run_id, backend, Owner.current(), workspace.root)
        try:
            with naming_full_disks(home=self._folder.parent):
                write_atomic(record.path, json.dumps(_content(record)).encode())
        except OSError as error:
            raise AutoScorerError(
                ErrorCode.INVALID_REQUEST,
                f"AutoScorer's own folder {str(self._folder.parent)!r} can't be written: {error.strerror}. Set "
                "AUTOSCORER_HOME to a folder you may write.",
                stage=Stage.CONFIG,
            ) from None
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
            except (OSError, ValueError, KeyError, TypeError, RecursionError):
                continue
            if all(isinstance(field, str) for field in fields):
                run_id, backend, owner, workspace = fields
                yield RunRecord(path, run_id, backend, Owner(owner), Path(workspace))

    def dead(self) -> list[RunRecord]:
        """Records whose owner certainly lives no more."""
        return [record for record in self.all() if record.owner.is_dead()]


def _content(record: RunRecord) -> dict[str, Any]:
    return {
        "run_id": record.run_id,
        "backend": record.backend,
        "owner": record.owner.text,
        "workspace": str(record.workspace),
    }
