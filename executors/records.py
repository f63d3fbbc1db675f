"""A note on disk for every run under way, so that whoever starts next can clear up after one that died."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import AutoScorerError, ErrorCode, Stage
from ..core.provenance import Owner
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
    # Where it may be staged outside of the workspace.
    elsewhere: tuple[Path, ...] = ()

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

    def add(self, run_id: str, workspace: Workspace, backend: str, elsewhere: Sequence[Path] = ()) -> RunRecord:
        """Note a run of this process before anything of it exists.

        Raises:
            AutoScorerError: ``INVALID_REQUEST`` at stage ``config`` when the home can't be written.
        """
        path = self._folder / f"{run_id}.json"
        record = RunRecord(path, run_id, backend, Owner.current(), workspace.root, tuple(elsewhere))
        try:
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
                places = data.get("elsewhere")
                known = places if isinstance(places, list) else []
                # What is there will be removed, so nothing counts that is not named after the run.
                elsewhere = [Path(place) for place in known if str(place).endswith(f"/autoscorer-{run_id}")]
                yield RunRecord(path, run_id, backend, Owner(owner), Path(workspace), tuple(elsewhere))

    def dead(self) -> list[RunRecord]:
        """Records whose owner certainly lives no more."""
        return [record for record in self.all() if record.owner.is_dead()]


def _content(record: RunRecord) -> dict[str, Any]:
    return {
        "run_id": record.run_id,
        "backend": record.backend,
        "owner": record.owner.text,
        "workspace": str(record.workspace),
        "elsewhere": [str(path) for path in record.elsewhere],
    }
