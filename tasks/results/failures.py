"""Failures: the exception that carries a Result, and the Result that says why there is no score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode
from ...core.kept import restore_artifacts
from ...core.workspace import Workspace
from ...schemas.job import Job
from ...schemas.result import ErrorInfo, Result, Timing
from .metadata import add_provenance, take_run_facts, timing_fields
from .reports import write_reports
from .save import remove_stale_artifacts, save

if TYPE_CHECKING:
    from ...executors.supervise import RunReport

__all__ = ["REFUSALS", "ScoringFailed", "located", "replaces", "save_failure"]

# What ends a request before the model has run and before the predictions were compared. It tells nothing new of what
# lies in output/, so the Result of that stands. docs/result.md says the same to users.
REFUSALS = frozenset(
    {
        ErrorCode.WORKSPACE_NOT_FOUND,
        ErrorCode.INVALID_META,
        ErrorCode.SCORER_NOT_FOUND,
        ErrorCode.SCORER_LOAD_ERROR,
        ErrorCode.BAD_PARAMS,
        # Of predictions or of the ground truth. After a run that left none, no Result stands that could be kept.
        ErrorCode.MISSING_FILE,
        ErrorCode.GROUND_TRUTH_EXPOSED,
        ErrorCode.IMAGE_NOT_ALLOWED,
        ErrorCode.IMAGE_NOT_FOUND,
        ErrorCode.IMAGE_PULL_FAILED,
        ErrorCode.IMAGE_BUILD_FAILED,
        ErrorCode.BACKEND_UNAVAILABLE,
        ErrorCode.JUDGE_ERROR,
        ErrorCode.BUDGET_EXCEEDED,
        ErrorCode.STORAGE_FULL,
        ErrorCode.CANCELLED,
        ErrorCode.CONFLICT,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.FORBIDDEN,
        ErrorCode.NOT_FOUND,
    }
)


class ScoringFailed(AutoScorerError):
    """Why there is no score.

    Attributes:
        result: The Result that says so, as a dict; None where none could be written.
        report: Of the run, where the model has run.
    """

    result: dict[str, Any] | None = None
    report: RunReport | None = None

    @classmethod
    def of(
        cls, error: AutoScorerError, result: Result | None = None, *, report: RunReport | None = None
    ) -> ScoringFailed:
        """The same error, with what it ended in."""
        made = cls.from_dict(error.to_dict())
        made.result = result.to_dict() if result is not None else None
        made.report = report
        return made


def replaces(error: AutoScorerError, standing: Result | None, *, ran: bool = False, refused: bool = False) -> bool:
    """Whether the Result of a failure takes the place of the one that lies in the workspace.

    Args:
        error: The failure.
        standing: The Result that lies there, or None.
        ran: The model has run: output/ is what this run left.
        refused: Nothing had begun yet, whatever the code: a check before it found the error.

    Returns:
        True after work on the submission, and where nothing stands that tells more than a refused request does.
    """
    if ran or standing is None or (standing.error is not None and standing.error.code in REFUSALS):
        return True
    return not refused and error.code not in REFUSALS


def save_failure(
    space: Workspace,
    error: AutoScorerError,
    *,
    settings: Settings,
    job: Job | None = None,
    timing: Mapping[str, float | None] | None = None,
    ran: bool = False,
    refused: bool = False,
) -> Result:
    """Make the Result that says why there is no score; write it, with its report, unless the standing one is to stay.

    Which of them stays, ``replaces`` says.

    Args:
        space: The workspace.
        error: Why.
        settings: The report's language, and how much is kept of earlier artifacts.
        job: Its meta.json, where it could be read.
        timing: Seconds of the stages that were done.
        ran: Whether ``logs/run_info.json`` tells of the run that failed, and not of an earlier one.
        refused: Whether a check found it before anything was run or scored.
    """
    standing = space.read_result()
    result = Result(error=ErrorInfo(**located(space, error).to_dict()), timing=Timing(**timing_fields(timing or {})))
    if job is not None:
        result.job_id, result.task_type = job.job_id, job.task_type
        result.versioning.scorer, result.versioning.params = job.scorer, dict(job.params)
        result.versioning.image = job.container.image
    add_provenance(result)
    if ran:
        take_run_facts(space, result, always=True)
        result.disclosed.notes = list(result.notes)
    if not replaces(error, standing, ran=ran, refused=refused):
        assert standing is not None
        # A scoring that was given up may have written over the artifacts of the Result that stands.
        restore_artifacts(space, standing)
        remove_stale_artifacts(space, standing)
        return _unwritten(result, standing)
    write_reports(space, result, settings)
    save(space, result, settings)
    return result


def _unwritten(result: Result, standing: Result) -> Result:
    """Say of a failure that is not written down what stands in its place."""
    assert result.error is not None
    ended = f"the error {standing.error.code}" if standing.error is not None else "a score"
    note = f"Nothing was run or scored. The Result of {standing.versioning.timestamp} stands: {ended}."
    result.notes.append(note)
    result.disclosed.notes.append(note)
    if result.error.code == ErrorCode.MISSING_FILE and standing.error is not None:
        # Why there is nothing to score.
        why = f" The last run here ended in {standing.error.code}, and its Result stands."
        result.error = result.error.model_copy(update={"message": result.error.message + why})
    return result


def located(space: Workspace, error: AutoScorerError) -> AutoScorerError:
    """The error, with ``details`` that say of which workspace it is, and where its model's log lies (None: nowhere).

    Names as they are seen from the folder that holds the workspace: a Result is shown to strangers, and may move.
    """
    log = space.model_log.relative_to(space.root.parent).as_posix() if space.model_log.is_file() else None
    details = {**error.details, "workspace": space.name, "logs_path": log}
    return AutoScorerError(error.code, error.message, stage=error.stage, details=details)
