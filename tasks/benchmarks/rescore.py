"""Scoring all kept predictions of a benchmark again, without running a model: after its truth or scorer was mended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.benchmark import BenchmarkFolder
from ...core.config import Settings
from ...core.errors import AutoScorerError
from ...core.submissions import number_of, team_of
from ...core.workspace import Workspace
from ...scorers.registry import get_registry
from ..scoring.guarded import Scoring
from ..submissions.version import Version, current_version

__all__ = ["Rescored", "rescore"]

Json = dict[str, Any]


@dataclass(frozen=True)
class Rescored:
    """What became of one submission.

    Attributes:
        team: Whose it is.
        number: Which of theirs.
        state: ``scored``; ``failed``; ``current``, where its Result is of this version already; ``skipped``, where it
            has no predictions.
        before: Its score until now; None where it had none.
        after: Its score now.
        error: Why it has none, as JSON.
    """

    team: str
    number: int
    state: str
    before: float | None
    after: float | None
    error: Json | None = None

    @property
    def moved(self) -> bool:
        """Whether the score is another one."""
        return self.before != self.after


def rescore(
    folder: BenchmarkFolder,
    settings: Settings,
    scoring: Scoring,
    *,
    team: str | None = None,
    everything: bool = False,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[Rescored]:
    """Score the kept predictions again, one submission after the other.

    What is of the benchmark's version now is left as it is, so a run that was interrupted goes on where it was. Earlier
    Results stay in each submission's history.

    Args:
        folder: The benchmark.
        settings: The configuration.
        scoring: Who scores.
        team: Of this team alone.
        everything: Also what is of the version now.
        cancelled: Asked before each; True ends it.

    Raises:
        AutoScorerError: ``INVALID_BENCHMARK``, ``SCORER_NOT_FOUND``; what is wrong with one submission is told of it.
    """
    spec = folder.read()
    version = current_version(folder, spec, get_registry().get(spec.scorer))
    for root in folder.submissions(team):
        if cancelled():
            return
        yield _one(root, version, scoring, everything=everything)


def _one(root: Path, version: Version, scoring: Scoring, *, everything: bool) -> Rescored:
    space = Workspace(root)
    whose, number = str(team_of(root)), number_of(root)
    standing = space.read_result()
    before = standing.summary.score if standing is not None else None
    try:
        space.predictions()
    except AutoScorerError:
        return Rescored(whose, number, "skipped", before, before)
    of = standing.versioning.benchmark if standing is not None else None
    if not everything and of is not None and of.digest == version.digest and before is not None:
        return Rescored(whose, number, "current", before, before)
    try:
        result = scoring.score(root)
    except AutoScorerError as error:
        # It is held by another process, for one: what stands there stays.
        return Rescored(whose, number, "failed", before, before, error.to_dict())
    if result.error is not None:
        return Rescored(whose, number, "failed", before, None, result.error.model_dump())
    return Rescored(whose, number, "scored", before, result.summary.score)
