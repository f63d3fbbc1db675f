"""Validate: is this workspace one that can be run and scored? Every problem at once."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.config import Settings, load_settings
from ..core.errors import AutoScorerError, ErrorCode, InvalidWorkspace
from ..core.exposure import refuse_links, visible_inputs
from ..core.meta import asked_of_scorer, load_job
from ..core.workspace import Workspace
from ..executors.image_policy import image_source
from ..executors.limits import check_limits
from ..executors.stage import refuse_exposure
from ..schemas.job import Job
from ..scorers.entry import ScorerEntry
from ..scorers.registry import get_registry
from .memory import out_of_memory, release_memory
from .scorer_call import call_scorer

__all__ = ["resolve_scorer", "validate_workspace"]

if TYPE_CHECKING:
    from .prefect_tasks import validate_task as validate_task
else:
    # ``validate_task`` is made on first use: importing Prefect takes seconds that plain users must not pay. Hidden from
    # the type checker, which would otherwise take any name for an attribute of this module.
    def __getattr__(name: str) -> object:
        if name != "validate_task":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from .prefect_tasks import validate_task

        return validate_task


def validate_workspace(
    workspace: Path | str,
    *,
    settings: Settings | None = None,
    scorer: str | None = None,
    params: Mapping[str, Any] | None = None,
    backend: str | None = None,
    predictions: bool = True,
) -> dict[str, Any]:
    """Check a workspace and change nothing in it.

    Args:
        workspace: The folder.
        settings: The configuration; read from its usual places when None.
        scorer: Scorer id to check with, instead of meta.json's.
        params: Scorer params that add to and override meta.json's.
        backend: The ``process`` backend needs no image, the others do.
        predictions: Whether to check predictions that are already there.

    Returns:
        What was checked: ``workspace``, ``job_id``, ``task_type``, ``scorer``, ``image`` (where it will come from).

    Raises:
        AutoScorerError: The problem, or ``InvalidWorkspace`` with all of them in ``details["problems"]``.
    """
    settings = settings or load_settings()
    space = Workspace(workspace)
    found = _Problems()
    job = image = None
    with found.collect():
        job = load_job(space)
    if job is not None:
        for problem in check_limits(job, settings):
            found.add(problem)
        if (backend or settings.executors.default) == "process":
            if not job.container.cmd:
                found.add(
                    AutoScorerError(ErrorCode.INVALID_META, "container.cmd: the process backend needs a command.")
                )
        else:
            with found.collect():
                image = image_source(space, job, settings)
    with found.collect():
        visible_inputs(space)
    with found.collect():
        refuse_links(space)
    with found.collect():
        space.ground_truth()
    with found.collect():
        refuse_exposure(space)
    asked = job or asked_of_scorer(space)
    if asked is not None:
        with found.collect(), _enough_memory(settings):
            scorer_id, merged = resolve_scorer(asked, scorer, params)
            with contextlib.nullcontext(space.root) if predictions else _without_predictions(space) as root:
                _check_scorer(get_registry().get(scorer_id), root, merged, found)
    if found.problems:
        raise InvalidWorkspace.of(found.problems)
    assert job is not None
    return {
        "workspace": str(space.root),
        "job_id": job.job_id,
        "task_type": job.task_type,
        "scorer": scorer or job.scorer,
        "image": image,
    }


def _check_scorer(entry: ScorerEntry, root: Path, params: dict[str, Any], found: _Problems) -> None:
    """Have the scorer check everything; where single params are wrong, the files with the others as well."""
    try:
        call_scorer(entry, call_scorer(entry, entry.create).validate, root, params)
    except AutoScorerError as error:
        found.add(error)
        wrong = {str(name).partition(".")[0] for name in error.details.get("params") or ()}
        rest = {name: value for name, value in params.items() if name not in wrong}
        if error.code is not ErrorCode.BAD_PARAMS or len(rest) == len(params):
            return
        with found.collect():
            try:
                call_scorer(entry, call_scorer(entry, entry.create).validate, root, rest)
            except AutoScorerError as other:
                if other.code is not ErrorCode.BAD_PARAMS:  # without them, others may be missing
                    raise


def resolve_scorer(job: Job, scorer: str | None, params: Mapping[str, Any] | None) -> tuple[str, dict[str, Any]]:
    """Which scorer and which params: what the caller says over what meta.json says.

    Raises:
        AutoScorerError: ``INVALID_META`` when neither names a scorer.
    """
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
def _without_predictions(space: Workspace) -> Iterator[Path]:
    """A view of the workspace with its input and an empty output: what a run is about to replace is not checked."""
    view = Path(tempfile.mkdtemp(prefix="autoscorer-view-"))
    try:
        (view / "input").symlink_to(space.input)
        (view / "meta.json").symlink_to(space.meta)
        (view / "output").mkdir()
        yield view
    finally:
        shutil.rmtree(view, ignore_errors=True)
