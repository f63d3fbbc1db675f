"""Scoring a submission: by its benchmark as it is now, and the withheld part apart."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ...core.benchmark import BenchmarkFolder
from ...core.errors import AutoScorerError, ErrorCode
from ...core.scores import record_private
from ...core.submissions import link_input
from ...core.workspace import Workspace
from ...schemas.benchmark import Benchmark
from ...schemas.job import DataFiles, Job
from ...schemas.result import BenchmarkRef, Disclosed, Result
from ...scorers.registry.entry import ScorerEntry
from ..results.metadata import add_provenance
from .parts import divided
from .version import Version, current_version

__all__ = ["as_checked", "check_backend", "refuse_own_choice", "score_submission"]

Params = dict[str, Any]


def score_submission(
    space: Workspace,
    job: Job,
    entry: ScorerEntry,
    params: Params,
    check: Callable[[Path, Job, Params], None],
    compute: Callable[[Path, Job, Params], Result],
) -> Result:
    """Score a submission.

    Args:
        space: The submission, held.
        job: What it is asked to do.
        entry: The benchmark's scorer.
        params: Its params.
        check: Has the scorer check a workspace, with the params.
        compute: Has the scorer score a workspace, with the params.

    Returns:
        The Result that teams may see: of all rows, or of the public ones where a part is withheld. The other part's is
        kept where no team's token reaches.

    Raises:
        AutoScorerError: As the scorer; ``INVALID_BENCHMARK``.
    """
    assert space.benchmark is not None
    folder = BenchmarkFolder(space.benchmark)
    spec = folder.read()
    version = current_version(folder, spec, entry)
    link_input(space.root)
    if spec.withheld is None:
        result = compute(space.root, job, params)
        _mark(result, spec, version)
        return result
    with divided(space, spec) as parts:
        # The parts are written in UTF-8, whatever the files are.
        own = job.model_copy(update={"data": DataFiles()})
        check(parts.both, own, params)
        result = compute(parts.public, own, params)
        private = compute(parts.private, own, {**params, "artifacts": False})
        parts.take_artifacts(space)
    for each, part in ((result, "public"), (private, "private")):
        _mark(each, spec, version, part)
        # Of the files that were handed in, not of the parts.
        each.versioning.ground_truth_sha256 = version.ground_truth_sha256
        each.versioning.predictions_sha256 = None
    add_provenance(private)
    record_private(space, private)
    return result


@contextlib.contextmanager
def as_checked(space: Workspace, job: Job) -> Iterator[tuple[Path, Job]]:
    """What a scorer checks of a workspace: where predictions are there, without the rows that nobody scores.

    Args:
        space: The workspace.
        job: What it is asked to do.

    Returns:
        The folder to check, for as long as the block lasts, and the job that goes with its files.
    """
    spec = BenchmarkFolder(space.benchmark).read() if space.benchmark is not None else None
    if spec is None or spec.withheld is None or not _has_predictions(space):
        yield space.root, job
        return
    with divided(space, spec) as parts:
        # The parts are written in UTF-8, whatever the files are.
        yield parts.both, job.model_copy(update={"data": DataFiles()})


def refuse_own_choice(space: Workspace, scorer: str | None, params: Any) -> None:
    """See that nobody has a submission scored in another way than its benchmark says.

    Raises:
        AutoScorerError: ``INVALID_REQUEST``.
    """
    if space.benchmark is not None and (scorer is not None or params):
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            "A submission is scored as its benchmark says, so that it can be compared with the others: give no scorer "
            "and no params. benchmark.json holds them.",
        )


def check_backend(space: Workspace, backend: str) -> None:
    """See that a submission's model runs where its benchmark lets models run.

    Args:
        space: The workspace.
        backend: As it was asked for or is configured; ``auto`` is Docker.

    Raises:
        AutoScorerError: ``INVALID_REQUEST``, ``INVALID_BENCHMARK``.
    """
    if space.benchmark is None:
        return
    spec = BenchmarkFolder(space.benchmark).read()
    name = "docker" if backend == "auto" else backend
    if name not in spec.backends:
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            f"{spec.name} lets models run on {' and '.join(spec.backends)}, and not on {name}. Name one of them with "
            '--backend, or add it to "backends" in benchmark.json.',
            details={"backends": list(spec.backends)},
        )


def _has_predictions(space: Workspace) -> bool:
    try:
        return space.predictions() is not None
    except AutoScorerError as error:
        return error.code is not ErrorCode.MISSING_FILE


def _mark(result: Result, spec: Benchmark, version: Version, part: Any = None) -> None:
    board_only = spec.leaderboard.margin is not None
    result.versioning.benchmark = BenchmarkRef(
        name=spec.name, version=version.number, digest=version.digest, part=part, board_only=board_only
    )
    if board_only:
        # The Ladder holds only while nothing but the leaderboard tells a team how good a submission was.
        result.disclosed = Disclosed()
    result.versioning.input_sha256 = version.input_sha256
