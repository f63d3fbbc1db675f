"""One column of the matrix: every attack on one backend."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode
from ...executors.base import Observer, SilentObserver
from ...executors.supervise import RunReport
from ..run import run_workspace
from .attacks import ATTACKS, EVERYTHING, LIMIT, NEIGHBOURS, Attack
from .judgement import Facts, Outcome, State, judged, outcome
from .outside import Outside

__all__ = ["Column", "attack_backend"]

_MIB = 1 << 20
# Small, so that a limit is met in a moment; never more than the operator allows.
_MEMORY, _DISK, _PIDS, _FILES = 256 * _MIB, 16 * _MIB, 256, 500
# Runs at a time: each takes a second, and much of that is waiting.
_AT_ONCE = 3
# Seconds that two models must be seen to run together, and that the second one may take to come.
_TOGETHER, _PATIENCE = 1.5, 45.0


@dataclass
class Column:
    """What came of a backend's attacks.

    Args:
        backend: Its name.
        detail: What it says of itself, or why it could not be tried.
        runtime: The container runtime that is configured, where one is.
        image: What the model's system is.
        is_there: Whether it could be tried.
        counts: Whether it has to hold.
    """

    backend: str
    detail: str
    runtime: str | None = None
    image: str | None = None
    is_there: bool = True
    counts: bool = True
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def breaks(self, attack: Attack) -> bool:
        """Whether something that is promised does not hold."""
        done = self.outcomes.get(attack.name)
        promised = self.counts and self.backend not in attack.unpromised
        return promised and done is not None and done.state is State.NOT_HELD


def attack_backend(
    column: Column, settings: Settings, around: Outside, *, image: str | None, archive: Path | None
) -> None:
    """Try everything on a backend that answers, and note it in its column.

    Args:
        column: Its column.
        settings: The configuration.
        around: What is outside.
        image: The image to run in, by reference.
        archive: The image to run in, as a file.

    Raises:
        AutoScorerError: ``CANCELLED``.
    """
    began = time.monotonic()
    stop = threading.Event()
    runs = _Runs(column.backend, _settings(settings, image, archive), around, image, archive, stop)
    pool = ThreadPoolExecutor(_AT_ONCE, "autoscorer-prove")
    try:
        answers, why = runs.everything()
        if answers is None:  # nor would the other runs do anything
            column.outcomes = {attack.name: Outcome(State.NOT_TRIED, why) for attack in ATTACKS}
            return
        tried: dict[str, Future[Outcome]] = {
            attack.name: pool.submit(runs.limit, attack) for attack in ATTACKS if attack.run == LIMIT
        }
        for attack in ATTACKS:
            if attack.run == EVERYTHING:
                said = answers.get(attack.name)
                done = outcome(said, attack.judge, runs.facts, silence_holds=attack.silence_holds)
            else:
                done = runs.neighbours(attack) if attack.run == NEIGHBOURS else tried[attack.name].result()
            column.outcomes[attack.name] = done
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
        column.image = runs.image_used
        column.notes = runs.notes
        column.seconds = time.monotonic() - began


def _settings(settings: Settings, image: str | None, archive: Path | None) -> Settings:
    """The operator's, with what this command itself allows: its own image, and no more than it needs."""
    top = settings.security.limits
    limits = top.model_copy(update={"pids": min(top.pids, _PIDS), "output_files": min(top.output_files, _FILES)})
    changes: dict[str, Any] = {"limits": limits}
    if image is not None:
        changes |= {"allowed_images": ("*",), "allow_image_ids": True}
    if archive is not None:
        changes["allow_image_archive"] = True
    return settings.model_copy(update={"security": settings.security.model_copy(update=changes)})


class _Runs:
    """The runs of one column."""

    def __init__(
        self,
        backend: str,
        settings: Settings,
        around: Outside,
        image: str | None,
        archive: Path | None,
        stop: threading.Event,
    ) -> None:
        self._backend, self._settings, self._around, self._stop = backend, settings, around, stop
        self._image, self._archive = image, archive
        self.facts: Facts = replace(around.facts, closed_by_rules=backend == "kubernetes")
        self.image_used: str | None = None
        self.notes: list[str] = []

    def everything(self) -> tuple[Mapping[str, Any] | None, str]:
        """The answers of all attacks that need no limit; or None, and why there are none."""
        tries = {attack.name: (attack.tries, attack.asks) for attack in ATTACKS if attack.run == EVERYTHING}
        root = self._lay_out(EVERYTHING, (EVERYTHING,), seconds=120, told={"tries": tries})
        try:
            report = self._run(root)
            if report.error is not None and report.error.code is ErrorCode.CANCELLED:
                raise report.error
        except AutoScorerError as error:
            if error.code is ErrorCode.CANCELLED:  # by a signal: nothing else ends this run
                raise AutoScorerError(ErrorCode.CANCELLED, error.message) from None
            return None, f"{error.code}: {error.message}"
        self.image_used = report.image.reference if report.image is not None else None
        self.notes = report.notes
        if report.error is not None:
            log = report.error.details.get("log") or []
            return None, f"{report.error.code}: {report.error.message} {' '.join(log[-1:])}".strip()
        answers: dict[str, Any] = json.loads((root / "output" / "answers.json").read_text())
        return answers, ""

    def limit(self, attack: Attack) -> Outcome:
        """One run that takes more than it may."""
        root = self._lay_out(attack.name, (attack.tries,), seconds=attack.seconds)
        try:
            report = self._run(root)
        except AutoScorerError as error:
            return Outcome(State.NOT_TRIED, f"{error.code}: {error.message}")
        answer: dict[str, Any] = {"code": None}
        if report.error is not None:
            answer = {"code": report.error.code.value, "resource": report.error.details.get("resource")}
        return judged(answer, attack.judge, self.facts)

    def neighbours(self, attack: Attack) -> Outcome:
        """Two runs at once; both are ended as soon as they have looked for each other long enough."""
        if self._concurrency() == 1:
            return Outcome(State.NOT_TRIED, f"executors.{self._backend}.concurrency is 1: no two models run at once")
        own, other = self._around.keys
        enough = threading.Event()
        heard = (_Heard(), _Heard())
        roots = [
            self._lay_out(f"two-{name}", ("meet", name), seconds=attack.seconds, told={"own": name, "other": its})
            for name, its in ((own, other), (other, own))
        ]

        def cancelled() -> bool:
            return enough.is_set() or self._stop.is_set()

        with ThreadPoolExecutor(2, "autoscorer-prove-two") as two:
            runs = [two.submit(self._ended, root, each, cancelled) for root, each in zip(roots, heard, strict=True)]
            try:
                until = time.monotonic() + _PATIENCE
                while _together(*heard) < _TOGETHER and time.monotonic() < until:
                    if all(run.done() for run in runs):
                        break
                    time.sleep(0.05)
            finally:
                enough.set()
            whys = [why for run in runs if (why := run.result())]
        seen = sorted({what for each in heard for what in each.seen})
        answer = {"together": _together(*heard), "seen": seen, "why": "; ".join(whys)}
        return judged(answer, attack.judge, self.facts)

    def _ended(self, root: Path, observer: Observer, cancelled: Callable[[], bool]) -> str:
        """Run one of two to its end; why it ended, where that was not ours to say."""
        try:
            error = self._run(root, observer, cancelled).error
        except AutoScorerError as failed:
            error = failed
        return "" if error is None or error.code is ErrorCode.CANCELLED else f"{error.code}: {error.message}"

    def _concurrency(self) -> int | None:
        sections: dict[str, Any] = {
            "bubblewrap": self._settings.executors.bubblewrap,
            "docker": self._settings.executors.docker,
            "kubernetes": self._settings.executors.kubernetes,
            "process": self._settings.executors.process,
        }
        number: int | None = sections[self._backend].concurrency
        return number

    def _lay_out(
        self,
        name: str,
        program: tuple[str, ...],
        *,
        seconds: float,
        told: Mapping[str, Any] | None = None,
    ) -> Path:
        top = self._settings.security.limits
        most, disk, timeout = min(_MEMORY, top.memory), min(_DISK, top.disk), min(seconds, top.timeout)
        job: dict[str, Any] = {"timeout": timeout, "resources": {"memory": most, "disk": disk, "cpu": 1}}
        job["container"] = {"shm_size": min(most, top.shm_size)}
        if self._image is not None:
            job["container"]["image"] = self._image
        used = {"memory": most, "disk": disk, "pids": top.pids, "output_files": top.output_files, "timeout": timeout}
        return self._around.workspace(f"{self._backend}-{name}", program, job, {**used, **(told or {})}, self._archive)

    def _run(
        self, root: Path, observer: Observer | None = None, cancelled: Callable[[], bool] | None = None
    ) -> RunReport:
        return run_workspace(
            root,
            settings=self._settings,
            backend=self._backend,
            observer=observer,
            cancelled=cancelled or self._stop.is_set,
            labels={"purpose": "proof"},
        )


class _Heard(SilentObserver):
    """What one of two models says while it runs."""

    def __init__(self) -> None:
        self.first: float | None = None
        self.last = 0.0
        self.seen: set[str] = set()

    def log(self, line: str) -> None:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            told = json.loads(line)
            self.first = told["at"] if self.first is None else self.first
            self.last = told["at"]
            self.seen |= set(told["seen"])


def _together(one: _Heard, other: _Heard) -> float:
    """For how many seconds both are known to have run."""
    if one.first is None or other.first is None:
        return 0.0
    return min(one.last, other.last) - max(one.first, other.first)
