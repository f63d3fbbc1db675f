"""Which benchmarks there are, and what may be told of each."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ...core.benchmark import BenchmarkFolder
from ...core.benchmark import find_benchmarks as below
from ...core.errors import AutoScorerError, ErrorCode
from ...schemas.benchmark import Benchmark, Board, Phase, Quota, Visibility
from ...schemas.quota import QuotaLeft
from ...tasks.benchmarks.adding import open_phase
from ...tasks.benchmarks.release import is_released
from ..policy import SEES_TRUTH, Act, Caller, Subject, may
from ..workspaces.listing import MAX_DEPTH, is_text
from ..workspaces.ownership import benchmark_around
from ..workspaces.roots import WorkspaceRoots

__all__ = [
    "BenchmarkPage",
    "BenchmarkView",
    "WithheldView",
    "benchmark_named",
    "find_benchmarks",
    "list_benchmarks",
    "view_benchmark",
]


class WithheldView(BaseModel):
    """That a part of the ground truth is withheld."""

    model_config = ConfigDict(extra="forbid")

    released: bool = Field(description="Whether its scores may be seen.")
    release: str | None = Field(None, description="When they may be: ISO 8601, UTC; null when nobody has said so.")


class BenchmarkView(BaseModel):
    """A benchmark."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="Its path below the workspace roots, as tokens and addresses name it.")
    title: str | None = None
    description: str | None = None
    task_type: str | None = None
    scorer: str | None = None
    params: dict[str, Any] | None = Field(None, description="The scorer's; told to its organisers and to admins alone.")
    resources: dict[str, Any] = Field(default_factory=dict, description="What a submission may ask for at most.")
    timeout: float | None = Field(None, description="Seconds that a model may run at most.")
    backends: list[str] = Field(default_factory=list, description="Where models may run.")
    phases: list[Phase] = Field(default_factory=list)
    is_open: bool = Field(False, description="Whether submissions are taken at this moment.")
    quota: Quota = Field(default_factory=Quota, description="Of each team.")
    left: QuotaLeft | None = Field(None, description="Of a team's token: what it has left.")
    visibility: Visibility | None = None
    leaderboard: Board | None = None
    withheld: WithheldView | None = Field(None, description="Null where no part is withheld.")
    error: str | None = Field(None, description="INVALID_BENCHMARK where its benchmark.json can't be used.")


class BenchmarkPage(BaseModel):
    """All benchmarks, by their names."""

    model_config = ConfigDict(extra="forbid")

    benchmarks: list[BenchmarkView]


def find_benchmarks(roots: WorkspaceRoots) -> Iterator[BenchmarkFolder]:
    """The benchmarks under the roots, in the order of their paths; none in a workspace, in another or in a hidden
    folder."""
    seen = set()
    for root in roots.paths:
        for folder in below(root, MAX_DEPTH):
            # A root may lie in another one; or in a benchmark, and then no name leads to that.
            path = folder.root
            if path not in seen and is_text(path) and benchmark_around(roots, path) == path:
                seen.add(path)
                yield folder


def benchmark_named(roots: WorkspaceRoots, name: str) -> BenchmarkFolder:
    """The benchmark of that name.

    Raises:
        AutoScorerError: ``BENCHMARK_NOT_FOUND``, and as ``WorkspaceRoots.locate``.
    """
    path = roots.locate(name)
    if benchmark_around(roots, path) != path:
        raise AutoScorerError(
            ErrorCode.BENCHMARK_NOT_FOUND,
            f"There is no benchmark {name[:200]!r}; GET /benchmarks lists those that there are.",
        )
    return BenchmarkFolder(path)


def list_benchmarks(roots: WorkspaceRoots, caller: Caller) -> BenchmarkPage:
    """All benchmarks that somebody may know of."""
    found = [view_benchmark(roots, folder, caller) for folder in find_benchmarks(roots)]
    told = [view for view in found if may(caller, Act.DESCRIBE, Subject(view.name))]
    return BenchmarkPage(benchmarks=sorted(told, key=lambda view: view.name))


def view_benchmark(
    roots: WorkspaceRoots, folder: BenchmarkFolder, caller: Caller, left: QuotaLeft | None = None
) -> BenchmarkView:
    """What may be told of a benchmark: nothing of its ground truth.

    Args:
        roots: The workspace roots.
        folder: The benchmark.
        caller: Who asks.
        left: What a team has left.
    """
    name = roots.name(folder.root)
    try:
        spec = folder.read()
    except AutoScorerError as error:
        return BenchmarkView(name=name, error=error.code.value)
    # How it is compared may tell what the truth is like.
    is_theirs = caller.role in SEES_TRUTH and may(caller, Act.SEE_TRUTH, Subject(name))
    return BenchmarkView(
        name=name,
        title=spec.title,
        description=spec.description,
        task_type=spec.task_type,
        scorer=spec.scorer,
        params=spec.params if is_theirs else None,
        resources=spec.resources.model_dump(exclude_none=True),
        timeout=spec.timeout,
        backends=[*spec.backends],
        phases=[*spec.phases],
        is_open=_is_open(spec),
        quota=spec.quota,
        left=left,
        visibility=spec.visibility,
        leaderboard=spec.leaderboard,
        withheld=_withheld(folder, spec),
    )


def _withheld(folder: BenchmarkFolder, spec: Benchmark) -> WithheldView | None:
    if spec.withheld is None:
        return None
    date = spec.withheld.release
    return WithheldView(
        released=is_released(folder, spec),
        release=date.astimezone(UTC).isoformat().replace("+00:00", "Z") if date is not None else None,
    )


def _is_open(spec: Benchmark) -> bool:
    try:
        open_phase(spec, datetime.now(UTC))
    except AutoScorerError:
        return False
    return True
