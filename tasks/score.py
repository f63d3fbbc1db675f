"""Score: from a workspace with predictions to the one standard Result."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.config import Settings, load_settings
from ..core.errors import AutoScorerError, ErrorCode
from ..core.exposure import input_digest
from ..core.meta import Meta, read_meta
from ..core.provenance import sha256_file
from ..core.storage import fault_of, naming_full_disks
from ..core.workspace import Workspace
from ..executors.base import Observer, SilentObserver
from ..schemas.aliases import metric_aliases
from ..schemas.job import Job
from ..schemas.result import Result
from ..scorers.base import BaseScorer, ScorerParams
from ..scorers.registry.registry import ScorerEntry, get_registry
from . import prefect_task
from .memory import out_of_memory, release_memory
from .results.bounds import bound_result
from .results.failures import save_failure
from .results.metadata import add_provenance, take_run_facts, timing_fields, with_digest
from .results.reports import write_reports
from .results.save import save
from .scorer_call import call_scorer, make_scorer
from .submissions.scoring import refuse_own_choice, score_submission
from .validate import resolve_scorer

__all__ = ["STEP_TIMEOUT", "score", "score_workspace"]

# Seconds. A scorer that never ends must not hold a worker for ever; a check may call a scorer, too.
STEP_TIMEOUT = 6 * 3600.0

if TYPE_CHECKING:
    from prefect.tasks import Task

    score_task: Task[..., Any]
else:
    __getattr__ = prefect_task("score_task")


def score_workspace(
    workspace: Path | str,
    *,
    settings: Settings | None = None,
    scorer: str | None = None,
    params: Mapping[str, Any] | None = None,
    observer: Observer | None = None,
    timing: Mapping[str, float | None] | None = None,
    lock: bool = True,
) -> Result:
    """Score the workspace's predictions and write ``output/result.json``.

    Args:
        workspace: The folder.
        settings: The configuration; read from its usual places when None.
        scorer: Scorer id instead of meta.json's.
        params: Scorer params that add to and override meta.json's.
        observer: Told when scoring begins, and how far it is.
        timing: Seconds of stages that ran before, for ``Result.timing``.
        lock: Hold the workspace; False when the caller holds it already.

    Returns:
        The Result, with ``error`` set when it could not be scored; result.json holds the same.

    Raises:
        AutoScorerError: ``WORKSPACE_NOT_FOUND``, ``CONFLICT`` or ``STORAGE_FULL``: nothing was written then.
    """
    settings = settings or load_settings()
    space = Workspace(workspace)
    observer = observer or SilentObserver()
    observer.stage("score", scorer or "")
    with naming_full_disks(workspace=space.root), space.lock() if lock else contextlib.nullcontext():
        return score(
            space,
            read_meta(space),
            settings,
            scorer=scorer,
            params=params,
            timing=timing,
            progress=observer.progress,
        )


def score(
    space: Workspace,
    meta: Meta,
    settings: Settings,
    *,
    scorer: str | None = None,
    params: Mapping[str, Any] | None = None,
    timing: Mapping[str, float | None] | None = None,
    progress: Callable[[str], None] = lambda told: None,
) -> Result:
    """As ``score_workspace``, of a workspace that is held and whose meta.json was read.

    Args:
        space: The workspace.
        meta: Its meta.json.
        settings: The configuration.
        scorer: Scorer id instead of meta.json's.
        params: Scorer params that add to and override meta.json's.
        timing: Seconds of stages that ran before, for ``Result.timing``.
        progress: Told how far the scorer is, once a second at most.
    """
    started = time.monotonic()
    try:
        refuse_own_choice(space, scorer, params)
        job = meta.job
        scorer_id, merged = resolve_scorer(job, scorer, params)
        result = _score(space, job, get_registry().get(scorer_id), merged, settings, progress)
        _complete_artifacts(space, result)
    except AutoScorerError as error:
        return save_failure(space, error, settings=settings, job=meta.known, timing=timing)
    except MemoryError:
        release_memory()
        return save_failure(space, out_of_memory(settings), settings=settings, job=meta.known, timing=timing)
    except Exception as error:  # a fault of ours leaves a Result too, or an old one would pass for this one
        fault = fault_of(error, workspace=space.root)
        return save_failure(space, fault, settings=settings, job=meta.known, timing=timing)
    before = {key: value for key, value in (timing or {}).items() if value is not None}
    total = sum(before.values()) + time.monotonic() - started
    result.timing = result.timing.model_copy(update={**timing_fields(before), "total": total})
    if merged.get("artifacts", True):
        write_reports(space, result, settings)
    save(space, result, settings)
    return result


def _score(
    space: Workspace,
    job: Job,
    entry: ScorerEntry,
    params: dict[str, Any],
    settings: Settings,
    progress: Callable[[str], None],
) -> Result:
    def check(root: Path, job: Job, params: dict[str, Any]) -> None:
        call_scorer(entry, make_scorer(entry, job, settings).validate, root, params)

    def compute(root: Path, job: Job, params: dict[str, Any]) -> Result:
        return _computed(root, job, entry, params, make_scorer(entry, job, settings, progress))

    if space.benchmark is None:
        result = compute(space.root, job, params)
    else:
        result = score_submission(space, job, entry, params, check, compute)
    versioning = result.versioning
    if versioning.ground_truth_sha256 is None:
        versioning.ground_truth_sha256 = sha256_file(space.ground_truth()).hex()
    if versioning.predictions_sha256 is None:
        versioning.predictions_sha256 = sha256_file(space.predictions()).hex()
    add_provenance(result)
    of_the_scorer = len(result.notes)
    take_run_facts(space, result)
    result.disclosed.notes += result.notes[of_the_scorer:]
    if versioning.input_sha256 is None:
        versioning.input_sha256 = input_digest(space)
    return result


def _computed(root: Path, job: Job, entry: ScorerEntry, params: dict[str, Any], scorer: BaseScorer) -> Result:
    """What a scorer makes of the files below a folder, and who it was."""
    checked = call_scorer(entry, scorer.parse_params, params)
    started = time.monotonic()
    result = call_scorer(entry, scorer.score, root, params)
    if not isinstance(result, Result):
        raise AutoScorerError(
            ErrorCode.SCORER_ERROR,
            f"The scorer {entry.id} must return a Result, and returned {type(result).__name__}.",
            details={"scorer": entry.id},
        )
    bound_result(result, entry.id)
    if result.timing.compute is None:
        result.timing.compute = time.monotonic() - started
    result.job_id, result.task_type = job.job_id, job.task_type or scorer.task_type
    result.metric_aliases = metric_aliases(entry.id, result.metrics) if entry.origin == "builtin" else {}
    _judge(result, scorer, checked)
    versioning = result.versioning
    versioning.scorer, versioning.scorer_version, versioning.scorer_sha256 = entry.id, entry.version, entry.sha256
    versioning.scorer_siblings = dict(entry.siblings)
    versioning.params = checked.model_dump(mode="json", exclude_unset=True)
    return result


def _judge(result: Result, scorer: BaseScorer, params: ScorerParams) -> None:
    """Set pass and rank from the score, in the metric's own direction."""
    summary = result.summary
    if summary.score is None or scorer.is_partial or scorer.is_uncalibrated:
        return
    sign = 1 if summary.higher_is_better else -1

    def reaches(threshold: float) -> bool:
        assert summary.score is not None
        return sign * summary.score >= sign * threshold

    if params.pass_threshold is not None and summary.passed is None:
        summary.passed = reaches(params.pass_threshold)
    scale = params.rank_thresholds or scorer.rank_thresholds
    if scale is not None and summary.rank is None:
        summary.rank = next((rank for rank, needed in zip("ABC", scale, strict=True) if reaches(needed)), "D")


def _complete_artifacts(space: Workspace, result: Result) -> None:
    for name, artifact in list(result.artifacts.items()):
        result.artifacts[name] = with_digest(space, artifact)
    for name, artifact in list(result.disclosed.artifacts.items()):
        result.disclosed.artifacts[name] = with_digest(space, artifact)
