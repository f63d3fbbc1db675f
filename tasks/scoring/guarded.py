"""Validating and scoring in processes below a guard: what the service does, and a command with a custom scorer.

``validate_workspace`` and ``score_workspace`` call the scorer in the process that they are called in. Here the same is
done in a process of its own, with the same outcome; and whatever becomes of that process, the Result says so.
"""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypedDict, Unpack

from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode, Stage, internal_error
from ...core.meta import Meta, read_meta
from ...core.provenance import current_attempt, current_flow_run
from ...core.storage import naming_full_disks
from ...core.workspace import Workspace
from ...executors.base import Observer, SilentObserver
from ...schemas.result import Result
from ...scorers.registry import get_registry
from ...scorers.registry.builtin import BUILTIN_MODULES
from ..memory import limited_memory
from ..results.ensure import definitive_result
from ..results.failures import save_failure
from ..score import STEP_TIMEOUT, score
from ..validate import Purpose, resolve_scorer, validate

__all__ = [
    "NOT_STARTED",
    "GuardedScoring",
    "PlainScoring",
    "ScoreOptions",
    "ScorerChoice",
    "Scoring",
    "ValidateOptions",
]

Json = dict[str, Any]

# What ``details["why"]`` of an error says where no process that scores can be started.
NOT_STARTED = "not started"
# Processes in a row that end before they can work, until it is clear that none ever will.
_STARTS = 3


class ScorerChoice(TypedDict, total=False):
    """Which scorer, where it is not as meta.json says."""

    scorer: str | None
    params: Mapping[str, Any] | None


class ValidateOptions(ScorerChoice, total=False):
    """The keywords of ``validate_workspace``."""

    backend: str | None
    predictions: bool
    purpose: Purpose | None


class ScoreOptions(ScorerChoice, total=False):
    """The keywords of ``score_workspace``."""

    timing: Mapping[str, float | None] | None


class Scoring(ABC):
    """Who validates and scores.

    Args:
        settings: The configuration.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def validate(self, workspace: Path | str, **options: Unpack[ValidateOptions]) -> Json:
        """As ``validate_workspace``."""
        space = Workspace(workspace)
        return self.validate_opened(space, read_meta(space), **options)

    def score(
        self,
        workspace: Path | str,
        *,
        observer: Observer | None = None,
        lock: bool = True,
        **options: Unpack[ScoreOptions],
    ) -> Result:
        """As ``score_workspace``."""
        space = Workspace(workspace)
        # Held here, for as long as a process that scores may live.
        with naming_full_disks(workspace=space.root), space.lock() if lock else contextlib.nullcontext():
            return self.score_held(space, read_meta(space), observer=observer, **options)

    def score_held(
        self, space: Workspace, meta: Meta, *, observer: Observer | None = None, **options: Unpack[ScoreOptions]
    ) -> Result:
        """As ``score_workspace``, of a workspace that is held and whose meta.json was read."""
        observer = observer or SilentObserver()
        observer.stage("score", options.get("scorer") or "")
        return self._score(space, meta, observer.progress, **options)

    def stop(self) -> None:  # noqa: B027 - this process itself has nothing to end
        """End what is under way, where another process does it, and begin nothing more: it is ``CANCELLED``."""

    @abstractmethod
    def validate_opened(self, space: Workspace, meta: Meta, **options: Unpack[ValidateOptions]) -> Json:
        """As ``validate_workspace``, of a workspace whose meta.json was read."""

    @abstractmethod
    def _score(
        self, space: Workspace, meta: Meta, progress: Callable[[str], None], **options: Unpack[ScoreOptions]
    ) -> Result: ...


class PlainScoring(Scoring):
    """In this process."""

    def validate_opened(self, space: Workspace, meta: Meta, **options: Unpack[ValidateOptions]) -> Json:
        """As ``validate_workspace``, of a workspace whose meta.json was read."""
        return validate(space, meta, self._settings, **options)

    def _score(
        self, space: Workspace, meta: Meta, progress: Callable[[str], None], **options: Unpack[ScoreOptions]
    ) -> Result:
        return score(space, meta, self._settings, progress=progress, **options)


class GuardedScoring(Scoring):
    """In processes of their own, under limits of their own. Use it with ``with``; from any thread.

    A scorer that this process has registered or loaded itself is called in this process, because no other has it.

    Args:
        settings: The configuration.
        scorers_dirs: More folders of scorers (``--scorers DIR``).
        builtins_here: Call the built-in scorers in this process, which saves a command the start of another.
        timeout: Seconds that one validation or scoring may take.
        guard: One that was forked already; more are started as they are needed.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        scorers_dirs: tuple[Path, ...] = (),
        builtins_here: bool = False,
        timeout: float = STEP_TIMEOUT,
        guard: Any = None,
    ) -> None:
        super().__init__(settings)
        self._scorers_dirs = scorers_dirs
        self._builtins_here = builtins_here
        self._timeout = timeout
        self._idle: list[Any] = [] if guard is None else [guard]
        self._busy: set[Any] = set()
        self._stopped = False
        self._taking = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the guards that are idle."""
        with self._taking:
            guards, self._idle = self._idle, []
        for guard in guards:
            guard.connection.close()  # all of them end at the same time
        for guard in guards:
            guard.kill()

    def stop(self) -> None:
        """End what is under way, and begin nothing more: it is ``CANCELLED``."""
        with self._taking:
            self._stopped = True
            for guard in self._busy:
                guard.interrupt()

    def validate_opened(self, space: Workspace, meta: Meta, **options: Unpack[ValidateOptions]) -> Json:
        """As ``validate_workspace``; ``SCORER_ERROR`` and ``RESOURCE_ERROR`` besides."""
        if self._is_ours(meta, options.get("scorer")):
            with self._limited():
                return validate(space, meta, self._settings, **options)
        answer = self._ask("validate", space, meta, options)
        if "error" in answer:
            raise AutoScorerError.from_dict(answer["error"])
        checked: Json = answer["checked"]
        return checked

    def _score(
        self, space: Workspace, meta: Meta, progress: Callable[[str], None], **options: Unpack[ScoreOptions]
    ) -> Result:
        if self._is_ours(meta, options.get("scorer")):
            with self._limited():
                return score(space, meta, self._settings, progress=progress, **options)
        nothing_begun = False
        try:
            answer = self._ask("score", space, meta, options, progress)
            if "error" not in answer:
                return Result.model_validate(answer["result"])
            failure = AutoScorerError.from_dict(answer["error"])
            flow_run_id = current_flow_run.get()
            if flow_run_id is not None and (written := definitive_result(space, flow_run_id)) is not None:
                return written  # it came to that before it died
        except AutoScorerError as error:  # a signal, or nobody who could be asked
            failure, nothing_begun = error, True
        return save_failure(
            space,
            failure,
            settings=self._settings,
            job=meta.known,
            timing=options.get("timing"),
            refused=nothing_begun,
        )

    def _is_ours(self, meta: Meta, scorer: str | None) -> bool:
        if meta.asked is None:
            return self._builtins_here
        try:
            scorer_id, _ = resolve_scorer(meta.asked, scorer, None)
        except AutoScorerError:
            # What the work meets, too: without a scorer there is nothing to be afraid of.
            return self._builtins_here
        if scorer_id in BUILTIN_MODULES:
            if self._builtins_here:
                # Before there is a limit: a library that can't have its buffers when it is imported ends the process.
                get_registry().get(scorer_id)
            return self._builtins_here
        return get_registry().has(scorer_id)

    def _limited(self) -> contextlib.AbstractContextManager[None]:
        # Threads that do other things would be limited, too; a command has none.
        return limited_memory(self._settings) if self._builtins_here else contextlib.nullcontext()

    def _ask(
        self,
        do: str,
        space: Workspace,
        meta: Meta,
        options: Mapping[str, Any],
        progress: Callable[[str], None] = lambda told: None,
    ) -> Json:
        from .guard import GuardDied

        request = {
            "do": do,
            "flow_run": current_flow_run.get(),
            "attempt": current_attempt.get(),
            "workspace": str(space.root),
            "meta": meta.to_dict(),
            "options": options,
        }
        for left in reversed(range(_STARTS)):
            try:
                return self._asked(request, progress)
            except GuardDied as died:
                if self._stopped:
                    error = AutoScorerError(ErrorCode.CANCELLED, "Cancelled while this was scored.")
                elif not died.is_ours:
                    error = AutoScorerError(
                        ErrorCode.SCORER_ERROR,
                        f"The process that looked after the scorer {died}, and the scorer with it. A scorer must leave "
                        "other processes alone.",
                    )
                elif left:
                    continue
                else:
                    raise AutoScorerError(
                        ErrorCode.INTERNAL_ERROR,
                        f"The processes that score do not live: {_STARTS} in a row had not begun when the last {died}. "
                        "Their standard error, in the log of the worker, says more.",
                        stage=Stage.SCORING,
                        details={"why": NOT_STARTED},
                    ) from None
                return {"error": error.to_dict()}
        raise AssertionError("unreachable")

    def _asked(self, request: Json, progress: Callable[[str], None]) -> Json:
        guard = self._take()
        with self._taking:
            self._busy.add(guard)
            if self._stopped:
                guard.interrupt()
        try:
            answer: Json = guard.ask(request, progress)
        except BaseException:
            guard.kill()
            raise
        finally:
            with self._taking:
                self._busy.discard(guard)
        with self._taking:
            self._idle.append(guard)
        return answer

    def _take(self) -> Any:
        with self._taking:
            while self._idle:
                guard = self._idle.pop()
                if not guard.is_dead():
                    return guard
                guard.kill()  # somebody has ended it while it had nothing to do
        # Not before it is needed: a command with a built-in scorer has no use for it.
        from .guard import Guard
        from .process import JobConfig

        try:
            return Guard.start(JobConfig(self._settings, self._timeout, self._scorers_dirs))
        except OSError as error:
            raise internal_error(error) from error
