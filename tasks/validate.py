"""Validate: is this workspace one that can be run and scored? Every problem at once."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.config import Settings, load_settings
from ..core.errors import AutoScorerError, ErrorCode, InvalidWorkspace
from ..core.exposure import refuse_links, visible_inputs
from ..core.meta import Meta, read_meta
from ..core.workspace import TABLE_SUFFIXES, Workspace
from ..executors.backends import chosen_backend
from ..executors.images.policy import archive_of, image_source, sandbox_source
from ..executors.limits import check_limits
from ..executors.stage import refuse_exposure
from ..schemas.aliases import our_scorer
from ..schemas.job import Job
from ..schemas.task import Purpose
from ..scorers.registry import get_registry
from ..scorers.registry.builtin import BUILTIN_MODULES
from ..scorers.registry.entry import ScorerEntry
from . import prefect_task
from .memory import out_of_memory, release_memory
from .scorer_call import call_scorer, make_scorer
from .submissions.scoring import as_checked, check_backend, refuse_own_choice

__all__ = ["Purpose", "resolve_scorer", "validate", "validate_workspace"]

if TYPE_CHECKING:
    from prefect.tasks import Task

    validate_task: Task[..., Any]
else:
    __getattr__ = prefect_task("validate_task")


def validate_workspace(
    workspace: Path | str,
    *,
    settings: Settings | None = None,
    scorer: str | None = None,
    params: Mapping[str, Any] | None = None,
    backend: str | None = None,
    predictions: bool = True,
    purpose: Purpose | None = None,
) -> dict[str, Any]:
    """Check a workspace and change nothing in it.

    Args:
        workspace: The folder.
        settings: The configuration; read from its usual places when None.
        scorer: Scorer id to check with, instead of meta.json's.
        params: Scorer params that add to and override meta.json's.
        backend: The ``process`` backend needs no image, the others do.
        predictions: Whether to check predictions that are already there.
        purpose: What it is to be valid for: ``score`` wants predictions and nothing to run; ``pipeline`` wants what is
            run. When None, a workspace with predictions and nothing to run is checked for scoring, any other one for a
            pipeline.

    Returns:
        What was checked: ``workspace``, ``job_id``, ``task_type``, ``scorer``, ``image`` (where it will come from; None
        where it was not looked for), ``valid_for`` (``score``, ``pipeline`` or both).

    Raises:
        AutoScorerError: The problem, or ``InvalidWorkspace`` with all of them in ``details["problems"]``.
    """
    settings = settings or load_settings()
    space = Workspace(workspace)
    return validate(
        space,
        read_meta(space),
        settings,
        scorer=scorer,
        params=params,
        backend=backend,
        predictions=predictions,
        purpose=purpose,
    )


def validate(
    space: Workspace,
    meta: Meta,
    settings: Settings,
    *,
    scorer: str | None = None,
    params: Mapping[str, Any] | None = None,
    backend: str | None = None,
    predictions: bool = True,
    purpose: Purpose | None = None,
) -> dict[str, Any]:
    """As ``validate_workspace``, of a workspace whose meta.json was read."""
    found = _Problems()
    image = None
    job = meta.known
    if meta.error is not None:
        with found.collect():
            raise meta.error
    with found.collect():
        refuse_own_choice(space, scorer, params)
    there = _has_predictions(space, scorer or (job.scorer if job is not None else None))
    if purpose is None:
        is_for_score = job is not None and predictions and there and not _names_a_model(space, job, backend, settings)
        purpose = "score" if is_for_score else "pipeline"
    if job is not None and purpose == "pipeline":
        with found.collect():
            check_backend(space, backend or settings.executors.default)
        for problem in check_limits(job, settings):
            found.add(problem)
        with found.collect():
            image = _image(space, job, backend or settings.executors.default, settings)
    with found.collect():
        space.ground_truth()
    if purpose == "pipeline":
        with found.collect():
            visible_inputs(space)
        with found.collect():
            refuse_links(space)
        with found.collect():
            refuse_exposure(space)
    elif not there:
        with found.collect():
            space.predictions()
    if (asked := meta.asked) is not None:
        with found.collect(), _enough_memory(settings):
            scorer_id, merged = resolve_scorer(asked, scorer, params)
            entry = get_registry().get(scorer_id)
            with as_checked(space, asked) if predictions else _without_predictions(space, asked) as (root, of_files):
                _check_scorer(entry, root, of_files, merged, settings, found)
    if found.problems:
        raise InvalidWorkspace.of(found.problems)
    assert job is not None
    return {
        "workspace": str(space.root),
        "job_id": job.job_id,
        "task_type": job.task_type,
        "scorer": our_scorer(scorer) or job.scorer,
        "image": image,
        "valid_for": [*(["score"] if predictions and there else []), *(["pipeline"] if purpose == "pipeline" else [])],
    }


def _image(space: Workspace, job: Job, backend: str, settings: Settings) -> str | None:
    """Where the model's image comes from; None where it runs without one."""
    if backend == "process":
        if not job.container.cmd:
            raise AutoScorerError(ErrorCode.INVALID_META, "container.cmd: the process backend needs a command.")
        return None
    if backend == "auto" and job.container.cmd and not _has_image(space, job):
        # Docker has nothing to run here; what would be taken in its place may do without an image.
        backend = chosen_backend(backend, settings)
    if backend == "bubblewrap":
        source = sandbox_source(space, job, settings)
        return None if source == "host" else source
    return image_source(space, job, settings)


def _has_image(space: Workspace, job: Job) -> bool:
    dockerfile = os.path.lexists(space.root / "Dockerfile")
    return job.container.image is not None or archive_of(space) is not None or dockerfile


def _has_predictions(space: Workspace, scorer: str | None) -> bool:
    """Whether there is something to score. Whether it can be read is told later."""
    try:
        names = {*os.listdir(space.output)}
    except OSError:
        return False
    if scorer in BUILTIN_MODULES:
        return any(f"pred{suffix}" in names for suffix in TABLE_SUFFIXES)
    # Another scorer may read any file that a model writes.
    return bool(names - {space.result_file.name, space.artifacts.name, "history"})


def _names_a_model(space: Workspace, job: Job, backend: str | None, settings: Settings) -> bool:
    """Whether the workspace says at all what to run."""
    if (backend or settings.executors.default) in ("process", "bubblewrap") and job.container.cmd:
        return True
    return (backend or settings.executors.default) != "process" and _has_image(space, job)


def _check_scorer(
    entry: ScorerEntry, root: Path, job: Job, params: dict[str, Any], settings: Settings, found: _Problems
) -> None:
    """Have the scorer check everything; where single params are wrong, the files with the others as well."""
    try:
        call_scorer(entry, make_scorer(entry, job, settings).validate, root, params)
    except AutoScorerError as error:
        found.add(error)
        wrong = {str(name).partition(".")[0] for name in error.details.get("params") or ()}
        rest = {name: value for name, value in params.items() if name not in wrong}
        if error.code is not ErrorCode.BAD_PARAMS or len(rest) == len(params):
            return
        with found.collect():
            try:
                call_scorer(entry, make_scorer(entry, job, settings).validate, root, rest)
            except AutoScorerError as other:
                if other.code is not ErrorCode.BAD_PARAMS:  # without them, others may be missing
                    raise


def resolve_scorer(job: Job, scorer: str | None, params: Mapping[str, Any] | None) -> tuple[str, dict[str, Any]]:
    """Which scorer and which params: what the caller says over what meta.json says.

    Raises:
        AutoScorerError: ``INVALID_META`` when neither names a scorer.
    """
    scorer = our_scorer(scorer)
    scorer_id = scorer or job.scorer
    if scorer_id is None:
        raise AutoScorerError(
            ErrorCode.INVALID_META,
            "scorer: missing. Name a scorer in meta.json or by --scorer; `autoscorer scorers list` shows them.",
            details={"key": "scorer"},
        )
    # Another scorer than meta.json's does not inherit the params that were meant for that one.
    inherited = job.params if scorer in (None, job.scorer) else {}
    return scorer_id, {**inherited, **(params or {})}


class _Problems:
    """Collects problems, each once."""

    def __init__(self) -> None:
        self.problems: list[AutoScorerError] = []

    def add(self, error: AutoScorerError) -> None:
        if all((error.code, error.message) != (known.code, known.message) for known in self.problems):
            self.problems.append(error)

    @contextlib.contextmanager
    def collect(self) -> Iterator[None]:
        try:
            yield
        except InvalidWorkspace as error:
            for item in error.details.get("problems", []):
                self.add(AutoScorerError.from_dict(item))
        except AutoScorerError as error:
            self.add(error)


@contextlib.contextmanager
def _enough_memory(settings: Settings) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        release_memory()
        raise out_of_memory(settings) from None


@contextlib.contextmanager
def _without_predictions(space: Workspace, job: Job) -> Iterator[tuple[Path, Job]]:
    """A view of the workspace with its input and an empty output: what a run is about to replace is not checked."""
    view = Path(tempfile.mkdtemp(prefix="autoscorer-view-"))
    try:
        (view / "input").symlink_to(space.input)
        (view / "meta.json").symlink_to(space.meta)
        (view / "output").mkdir()
        yield view, job
    finally:
        shutil.rmtree(view, ignore_errors=True)
