"""What every outcome shares: who made it, from which run, which artifacts; and the Result of a failure."""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Mapping

from .. import __version__
from ..core.config import Settings, load_settings
from ..core.errors import AutoScorerError, ErrorCode
from ..core.kept import keep_artifacts, restore_artifacts
from ..core.provenance import current_flow_run, hostname, sha256_file, utc_now
from ..core.workspace import SHARED, Workspace
from ..executors.files import remove_tree
from ..schemas.job import Job
from ..schemas.result import Artifact, ErrorInfo, Resources, Result, Timing
from .reports import write_reports

__all__ = [
    "REFUSALS",
    "located",
    "measured",
    "remove_stale_artifacts",
    "replaces",
    "save",
    "save_failure",
    "stamp",
    "take_run_facts",
    "timing_fields",
]

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
        ErrorCode.STORAGE_FULL,
        ErrorCode.CANCELLED,
        ErrorCode.CONFLICT,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.FORBIDDEN,
        ErrorCode.NOT_FOUND,
    }
)


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
    job: Job | None = None,
    timing: Mapping[str, float | None] | None = None,
    ran: bool = False,
    refused: bool = False,
    settings: Settings | None = None,
) -> Result:
    """Make the Result that says why there is no score; write it, with its report, unless the standing one is to stay.

    Which of them stays, ``replaces`` says.

    Args:
        space: The workspace.
        error: Why.
        job: Its meta.json, where it could be read.
        timing: Seconds of the stages that were done.
        ran: Whether ``logs/run_info.json`` tells of the run that failed, and not of an earlier one.
        refused: Whether a check found it before anything was run or scored.
        settings: How much is kept of earlier artifacts; None: nothing is let go of now.
    """
    standing = space.read_result()
    result = Result(error=ErrorInfo(**located(space, error).to_dict()), timing=Timing(**timing_fields(timing or {})))
    if job is not None:
        result.job_id, result.task_type = job.job_id, job.task_type
        result.versioning.scorer, result.versioning.params = job.scorer, dict(job.params)
        result.versioning.image = job.container.image
    stamp(result)
    if ran:
        take_run_facts(space, result, always=True)
        result.disclosed.notes = list(result.notes)
    if not replaces(error, standing, ran=ran, refused=refused):
        assert standing is not None
        # A scoring that was given up may have written over the artifacts of the Result that stands.
        restore_artifacts(space, standing)
        remove_stale_artifacts(space, standing)
        return _unwritten(result, standing)
    write_reports(space, result, settings or _settings())
    save(space, result, settings)
    return result


def save(space: Workspace, result: Result, settings: Settings | None) -> None:
    """Write a Result whose artifacts are written and measured; they are kept first, so that it never stands without.

    Args:
        space: The workspace, held.
        result: The Result.
        settings: How much is kept of earlier ones; None: nothing is let go of now.
    """
    remove_stale_artifacts(space, result)
    most = settings.api.keep_artifacts if settings is not None else None
    seconds = settings.api.keep_days * 86400 if settings is not None else None
    keep_artifacts(space, result, most_bytes=most, keep_seconds=seconds)
    space.save_result(result)


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


def _settings() -> Settings:
    """Where the configuration itself is what failed, a report is written all the same."""
    try:
        return load_settings()
    except AutoScorerError:
        return Settings()


def stamp(result: Result) -> None:
    versioning = result.versioning
    versioning.autoscorer, versioning.timestamp, versioning.hostname = __version__, utc_now(), hostname()
    versioning.flow_run_id = current_flow_run.get()


def take_run_facts(space: Workspace, result: Result, *, always: bool = False) -> None:
    """Add what is known of the run, if these predictions are that run's: by sha256, not by belief."""
    try:
        info = json.loads((space.logs / "run_info.json").read_text(encoding="utf-8"))
        same = info["predictions_sha256"] is not None and (
            info["predictions_sha256"] == result.versioning.predictions_sha256
        )
        if not (same or always):
            result.notes.append("These predictions are not from the last run in this workspace: no image is known.")
            return
        image = info.get("image") or {}
        result.versioning.image = image.get("reference", result.versioning.image)
        result.versioning.image_digest = image.get("digest")
        result.versioning.input_sha256 = info.get("input_sha256")
        result.resources = Resources(**info["resources"])
        result.timing = result.timing.model_copy(
            update={
                "queue": info.get("queue_seconds"),
                "pull": info.get("pull_seconds"),
                "run": info.get("run_seconds"),
            }
        )
        result.notes.extend(note for note in info.get("notes", []) if note not in result.notes)
    except (OSError, ValueError, KeyError, TypeError):
        return  # no run of ours: predictions that came from elsewhere


def timing_fields(timing: Mapping[str, float | None]) -> dict[str, float | None]:
    return {"validate_" if key == "validate" else key: value for key, value in timing.items()}


def measured(space: Workspace, artifact: Artifact) -> Artifact:
    path = (space.root / artifact.path).resolve()
    if not path.is_relative_to(space.output.resolve()) or not path.is_file():
        raise AutoScorerError(
            ErrorCode.SCORER_ERROR, f"The scorer lists the artifact {artifact.path!r}, which is no file under output/."
        )
    media = artifact.media_type or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return artifact.model_copy(
        update={"size": path.stat().st_size, "sha256": sha256_file(path).hex(), "media_type": media}
    )


def remove_stale_artifacts(space: Workspace, result: Result) -> None:
    """Artifacts of an earlier scoring would pass for this one's."""
    listed = [*result.artifacts.values(), *result.disclosed.artifacts.values()]
    kept = {(space.root / artifact.path).resolve() for artifact in listed}
    if not space.artifacts.is_dir():
        return
    shared = space.artifacts / SHARED
    inside = sorted(shared.iterdir()) if shared.is_dir() and not shared.is_symlink() else []
    for path in [*inside, *sorted(space.artifacts.iterdir())]:
        if path.resolve() not in kept and not any(keep.is_relative_to(path.resolve()) for keep in kept):
            remove_tree(path)
