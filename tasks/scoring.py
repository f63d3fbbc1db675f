"""Validating and scoring in processes below a guard: what the service does, and a command with a custom scorer.

``validate_workspace`` and ``score_workspace`` call the scorer in the process that they are called in. Here the same is
done in a process of its own, with the same outcome; and whatever becomes of that process, the Result says so.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from ..core.config import Settings
from ..core.errors import AutoScorerError, ErrorCode, internal_error
from ..core.meta import asked_of_scorer, load_job
from ..core.provenance import current_flow_run
from ..core.storage import naming_full_disks
from ..core.workspace import Workspace
from ..executors.base import Observer, SilentObserver
from ..schemas.job import Job
from ..schemas.result import Result
from ..scorers.registry import get_registry
from ..scorers.registry.builtin import BUILTIN_MODULES
from .memory import limited_memory
from .result_metadata import save_failure
from .score import STEP_TIMEOUT, score_workspace
from .validate import Purpose, resolve_scorer, validate_workspace

__all__ = ["GuardedScoring", "PlainScoring", "Scoring"]

Json = dict[str, Any]


class Scoring(Protocol):
    """Who validates and scores; the keywords are those of ``validate_workspace`` and ``score_workspace``."""

    def validate(
        self,
        workspace: Path | str,
        *,
        scorer: str | None = None,
        params: Mapping[str, Any] | None = None,
        backend: str | None = None,
        predictions: bool = True,
        purpose: Purpose | None = None,
    ) -> dict[str, Any]:
        """As ``validate_workspace``."""

    def score(
        self,
        workspace: Path | str,
        *,
        scorer: str | None = None,
        params: Mapping[str, Any] | None = None,
        observer: Observer | None = None,
        timing: Mapping[str, float | None] | None = None,
        lock: bool = True,
    ) -> Result:
        """As ``score_workspace``."""


class PlainScoring:
    """In this process.

    Args:
        settings: The configuration.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def validate(self, workspace: Path | str, **options: Any) -> dict[str, Any]:
        """As ``validate_workspace``."""
        return validate_workspace(workspace, settings=self._settings, **options)

    def score(self, workspace: Path | str, **options: Any) -> Result:
        """As ``score_workspace``."""
        return score_workspace(workspace, settings=self._settings, **options)


class GuardedScoring:
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
        self._settings = settings
        self._scorers_dirs = scorers_dirs
        self._builtins_here = builtins_here
        self._timeout = timeout
        self._plain = PlainScoring(settings)
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
            guard.kill()

    def stop(self) -> None:
        """End what is under way, and begin nothing more: it is ``CANCELLED``."""
        with self._taking:
            self._stopped = True
            for guard in self._busy:
                guard.interrupt()

    def validate(
        self,
        workspace: Path | str,
        *,
        scorer: str | None = None,
        params: Mapping[str, Any] | None = None,
        backend: str | None = None,
        predictions: bool = True,
        purpose: Purpose | None = None,
    ) -> dict[str, Any]:
        """As ``validate_workspace``; ``SCORER_ERROR`` and ``RESOURCE_ERROR`` besides."""
        options: Json = {
            "scorer": scorer,
            "params": params,
            "backend": backend,
            "predictions": predictions,
            "purpose": purpose,
        }
        if self._is_ours(workspace, scorer):
            with self._limited():
                return self._plain.validate(workspace, **options)
        answer = self._ask({"do": "validate", "workspace": os.path.abspath(workspace), **options})
        if "error" in answer:
            raise AutoScorerError.from_dict(answer["error"])
        checked: dict[str, Any] = answer["checked"]
        return checked

    def score(
        self,
        workspace: Path | str,
        *,
        scorer: str | None = None,
        params: Mapping[str, Any] | None = None,
        observer: Observer | None = None,
        timing: Mapping[str, float | None] | None = None,
        lock: bool = True,
    ) -> Result:
        """As ``score_workspace``; ``SCORER_ERROR`` and ``RESOURCE_ERROR`` besides."""
        if self._is_ours(workspace, scorer):
            with self._limited():
                return self._plain.score(
                    workspace, scorer=scorer, params=params, observer=observer, timing=timing, lock=lock
                )
        space = Workspace(workspace)
        (observer or SilentObserver()).stage("score", scorer or "")
        # Held here, for as long as the process that scores may live.
        with naming_full_disks(workspace=space.root), space.lock() if lock else contextlib.nullcontext():
            try:
                answer = self._ask(
                    {
                        "do": "score",
                        "workspace": str(space.root),
                        "scorer": scorer,
                        "params": params,
                        "timing": timing,
                        "lock": False,
                    }
                )
            except AutoScorerError as error:  # a signal
                return save_failure(space, error, job=_job(space), timing=timing, settings=self._settings)
            if "error" not in answer:
                return Result.model_validate(answer["result"])
            failure = AutoScorerError.from_dict(answer["error"])
            return save_failure(space, failure, job=_job(space), timing=timing, settings=self._settings)

    def _is_ours(self, workspace: Path | str, scorer: str | None) -> bool:
        try:
            space = Workspace(workspace)
            job = _job(space) or asked_of_scorer(space)
            if job is None:
                return self._builtins_here
            scorer_id, _ = resolve_scorer(job, scorer, None)
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

    def _ask(self, request: Json) -> Json:
        from .guard import GuardDied

        guard = self._take()
        with self._taking:
            self._busy.add(guard)
            if self._stopped:
                guard.interrupt()
        try:
            answer: Json = guard.ask({**request, "flow_run": current_flow_run.get()})
        except GuardDied as died:
            if self._stopped:
                return {"error": AutoScorerError(ErrorCode.CANCELLED, "Cancelled while this was scored.").to_dict()}
            return {
                "error": AutoScorerError(
                    ErrorCode.SCORER_ERROR,
                    f"The process that looked after the scorer {died}, and the scorer with it. A scorer must leave "
                    "other processes alone.",
                ).to_dict()
            }
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
            if self._idle:
                return self._idle.pop()
        # Not before it is needed: a command with a built-in scorer has no use for it.
        from .guard import Guard
        from .score_process import JobConfig

        try:
            return Guard.start(JobConfig(self._settings, self._timeout, self._scorers_dirs))
        except OSError as error:
            raise internal_error(error) from error


def _job(space: Workspace) -> Job | None:
    with contextlib.suppress(AutoScorerError):
        return load_job(space)
    return None
