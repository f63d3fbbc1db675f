"""What the processes of one installation tell each other about a flow run, as files under ``<home>/flow-runs``.

Prefect holds a flow run's state. What it does not hold lies here: which process works on it (so that a dead one is
noticed at once and for certain), at which stage it is, what a batch has already done (so that a second attempt goes
on where the first was killed), that it is to be cancelled (which its worker learns here also while Prefect is away),
and an outcome that Prefect could not be told yet.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from .processes import ProcessIdentity
from .worker_names import has_died
from .workspace import write_atomic

__all__ = ["Claim", "FlowRunFiles", "wake", "wake_file", "was_cancelling"]

# How a flow run ended; and the name that an earlier AutoScorer gave the same file. A worker of that version may go on
# beside this one, so the newer of the two counts.
_OUTCOME, _FORMER_OUTCOME = "outcome.json", "ending.json"


@dataclass(frozen=True)
class Claim:
    """Who works on a flow run: the worker's process, and the process it started for the run (None before that)."""

    worker: ProcessIdentity
    child: ProcessIdentity | None = None
    child_pid: int | None = None
    # The worker's name, by which it is known to be dead when another process has that name.
    name: str | None = None
    # The number of the attempt, where several hosts share a ledger: it counts there.
    attempt: int | None = None


class FlowRunFiles:
    """The files of one flow run.

    Args:
        home: The installation's folder.
        flow_run_id: The flow run's UUID.

    Raises:
        ValueError: ``flow_run_id`` is no UUID, and would be some other path.
    """

    def __init__(self, home: Path, flow_run_id: str) -> None:
        self.flow_run_id = str(UUID(str(flow_run_id)))
        self.folder = home / "flow-runs" / self.flow_run_id
        self._home = home

    @classmethod
    def all(cls, home: Path) -> Iterator[FlowRunFiles]:
        """Every flow run that has left files."""
        try:
            names = sorted(os.listdir(home / "flow-runs"))
        except OSError:
            return
        for name in names:
            with contextlib.suppress(ValueError):
                yield cls(home, name)

    # --- who works on it ------------------------------------------------------------------------------------

    def claim(self, claim: Claim) -> None:
        """Note who works on it, before any work begins; on disk when this returns."""
        self._write_durably(
            "claim.json",
            {
                "worker": claim.worker.text,
                "child": claim.child.text if claim.child else None,
                "child_pid": claim.child_pid,
                "name": claim.name,
                "attempt": claim.attempt,
            },
        )

    def read_claim(self) -> Claim | None:
        """Who works on it; None when nobody of this installation does."""
        return self._claim_in("claim.json")

    def _claim_in(self, name: str) -> Claim | None:
        data = self._read(name)
        if data is None or not isinstance(data.get("worker"), str):
            return None
        child, pid, called, attempt = (data.get(key) for key in ("child", "child_pid", "name", "attempt"))
        return Claim(
            ProcessIdentity(data["worker"]),
            ProcessIdentity(child) if isinstance(child, str) else None,
            pid if isinstance(pid, int) else None,
            called if isinstance(called, str) else None,
            attempt if isinstance(attempt, int) else None,
        )

    def is_lost(self, claim: Claim) -> bool:
        """Whether nobody is left who would finish the run or say how it ended."""
        return has_died(self._home, claim.worker, claim.name)

    def release(self, only: Claim | None = None) -> None:
        """Nobody works on it any more.

        Args:
            only: Whose claim is meant. One that somebody else has laid there meanwhile stays.
        """
        path = self.folder / "claim.json"
        aside = self.folder / f".claim.{uuid4()}"
        try:
            path.rename(aside)
        except FileNotFoundError:
            return
        try:
            if only is not None and self._claim_in(aside.name) != only:
                # Not over one that was laid there since: that is the newer one.
                with contextlib.suppress(FileExistsError):
                    os.link(aside, path)
        finally:
            aside.unlink(missing_ok=True)

    # --- how far it is --------------------------------------------------------------------------------------

    def set_stage(self, name: str, detail: str = "") -> None:
        """Note what it is doing. For people who watch; nothing depends on it, so it is not synced."""
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary = self.folder / f".stage.{os.getpid()}"
            temporary.write_text(json.dumps({"stage": name, "detail": detail}), encoding="utf-8")
            temporary.replace(self.folder / "stage.json")

    def read_stage(self) -> str | None:
        """What it was doing last."""
        data = self._read("stage.json")
        stage = data.get("stage") if data else None
        return stage if isinstance(stage, str) else None

    # --- what a batch has done ------------------------------------------------------------------------------

    def set_total(self, total: int) -> None:
        """Note how many workspaces a batch has."""
        self._write_durably("batch.json", {"total": total})

    def read_total(self) -> int | None:
        """How many workspaces a batch has; None before it knows."""
        data = self._read("batch.json")
        total = data.get("total") if data else None
        return total if isinstance(total, int) else None

    def add_member_outcome(self, outcome: dict[str, Any]) -> None:
        """Add the outcome of one workspace of a batch. Several threads and processes may."""
        self.folder.mkdir(parents=True, exist_ok=True)
        line = self._line(outcome)
        fd = os.open(self.folder / "outcomes.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.write(fd, line)
        finally:
            os.close(fd)

    def keep_member_outcomes(self, outcomes: Iterable[dict[str, Any]]) -> None:
        """Begin the journal anew with these: a second attempt does the others again. On disk when this returns."""
        write_atomic(self.folder / "outcomes.jsonl", b"".join(map(self._line, outcomes)))

    @staticmethod
    def _line(outcome: dict[str, Any]) -> bytes:
        # ASCII: a folder's name may hold bytes that are no UTF-8, and must come back as it was.
        return json.dumps(outcome, allow_nan=False).encode() + b"\n"

    def member_outcomes(self) -> list[dict[str, Any]]:
        """The outcomes so far, in the order they came. A line that a crash cut short is left out."""
        try:
            lines = (self.folder / "outcomes.jsonl").read_bytes().split(b"\n")
        except OSError:
            return []
        found = []
        for line in lines:
            with contextlib.suppress(ValueError):
                value = json.loads(line)
                if isinstance(value, dict):
                    found.append(value)
        return found

    def journal_identity(self) -> tuple[int, int] | None:
        """Which journal it is, and its size; None where there is none."""
        try:
            status = (self.folder / "outcomes.jsonl").stat()
        except OSError:
            return None
        return status.st_ino, status.st_size

    # --- whether it is to end -------------------------------------------------------------------------------

    def request_cancel(self) -> None:
        """Let whoever works on it know that it is to be cancelled. Not synced: the ledger has the wish."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "cancel").touch()

    def is_cancel_requested(self) -> bool:
        """Whether it is to be cancelled."""
        return (self.folder / "cancel").exists()

    # --- how it ended ---------------------------------------------------------------------------------------

    def save_outcome(self, outcome: dict[str, Any]) -> None:
        """Keep how it ended until Prefect has been told; on disk when this returns."""
        self._write_durably(_OUTCOME, outcome)

    def read_outcome(self) -> dict[str, Any] | None:
        """How it ended, where Prefect may not know yet."""
        found = self._outcome()
        return self._read(found[1]) if found else None

    def has_outcome(self) -> bool:
        """Whether an outcome was saved."""
        return self._outcome() is not None

    def outcome_saved_at(self) -> float | None:
        """When the outcome was saved, in seconds since the epoch; None where there is none."""
        found = self._outcome()
        return found[0] if found else None

    def forget_outcome(self) -> None:
        """It begins anew: how it ended before is not how it ends."""
        for name in (_OUTCOME, _FORMER_OUTCOME):
            (self.folder / name).unlink(missing_ok=True)

    def _outcome(self) -> tuple[float, str] | None:
        found = []
        for name in (_FORMER_OUTCOME, _OUTCOME):
            with contextlib.suppress(OSError):
                found.append(((self.folder / name).stat().st_mtime, name))
        return max(found, default=None)

    def remove(self) -> None:
        """Nobody needs to know any more."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write_durably(self, name: str, value: dict[str, Any]) -> None:
        write_atomic(self.folder / name, json.dumps(value, allow_nan=False).encode())

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            value = json.loads((self.folder / name).read_bytes())
        except (OSError, ValueError):
            return None
        return value if isinstance(value, dict) else None


def wake_file(home: Path) -> Path:
    """A file whose change tells the workers of this installation that there may be something to do."""
    return home / "wake"


def wake(home: Path) -> None:
    """Let the workers look at once instead of at their next regular look."""
    with contextlib.suppress(OSError):
        home.mkdir(parents=True, exist_ok=True)
        wake_file(home).write_bytes(b"")


def was_cancelling(types: Iterable[str]) -> bool:
    """Whether a run that crashed was being cancelled, or was cancelled already, before it did.

    Args:
        types: Of the flow run's states in Prefect, such as ``RUNNING``, oldest first.
    """
    before = [each for each in types if each != "CRASHED"]
    return before[-1:] in (["CANCELLING"], ["CANCELLED"])
