"""A benchmark on disk: its folder, its benchmark.json, and its submissions."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ..schemas.benchmark import Benchmark, Board, Phase, Quota, Withheld
from ..schemas.job import DataFiles, Job, ResourceRequest
from .errors import AutoScorerError, ErrorCode, InvalidWorkspace, Stage, suggest
from .strict_json import parse_model, read_text
from .submissions import BENCHMARK_FILE, SUBMISSIONS, benchmark_of
from .workspace import Workspace

__all__ = ["BenchmarkFolder", "find_benchmarks", "job_of_submission", "parse_benchmark"]

# What an unknown key is compared with, by the object that holds it.
_PARTS: dict[str, type[BaseModel]] = {
    "": Benchmark,
    "data": DataFiles,
    "resources": ResourceRequest,
    "phases": Phase,
    "quota": Quota,
    "withheld": Withheld,
    "leaderboard": Board,
}
_KNOWN = {name: tuple(model.model_fields) for name, model in _PARTS.items()}


def parse_benchmark(text: str) -> Benchmark:
    """Parse and check the text of a benchmark.json.

    Raises:
        AutoScorerError: ``INVALID_BENCHMARK``; several problems come as one ``InvalidWorkspace``.
    """
    return parse_model(text, Benchmark, file=BENCHMARK_FILE, code=ErrorCode.INVALID_BENCHMARK, known=_KNOWN)


class BenchmarkFolder:
    """Paths of one benchmark, and what its benchmark.json says.

    Args:
        root: The folder that holds benchmark.json.

    Attributes:
        root: The folder, links resolved.

    Raises:
        AutoScorerError: ``BENCHMARK_NOT_FOUND``.
    """

    def __init__(self, root: Path | str) -> None:
        path = Path(root)
        if not os.path.isdir(path) or not os.path.lexists(path / BENCHMARK_FILE):
            raise AutoScorerError(
                ErrorCode.BENCHMARK_NOT_FOUND,
                f"{str(root)!r} is not a benchmark. Expected a folder with {BENCHMARK_FILE} and input/; "
                "`autoscorer benchmark new` makes one.",
            )
        self.root = path.resolve()

    @property
    def input(self) -> Path:
        """What models see, and beside it the ground truth."""
        return self.root / "input"

    @property
    def state(self) -> Path:
        """Our own folder in the benchmark."""
        return self.root / ".autoscorer"

    def read(self) -> Benchmark:
        """What benchmark.json says now.

        Raises:
            AutoScorerError: ``INVALID_BENCHMARK``; several problems come as one ``InvalidWorkspace``.
        """
        return parse_benchmark(
            read_text(
                self.root / BENCHMARK_FILE, code=ErrorCode.INVALID_BENCHMARK, missing=f"{BENCHMARK_FILE} is missing."
            )
        )

    def as_workspace(self) -> Workspace:
        """The folder as what holds an input, for what looks at one."""
        return Workspace(self.root)

    def submissions(self, team: str | None = None) -> Iterator[Path]:
        """The submissions' folders, by team and number.

        Args:
            team: Of this team alone.
        """
        for folder in _folders(self.root / SUBMISSIONS) if team is None else [self.root / SUBMISSIONS / team]:
            for path in _folders(folder):
                # A number is taken before its meta.json is there; what has none is not a submission yet.
                if benchmark_of(path) == self.root and os.path.lexists(path / "meta.json"):
                    yield path


def find_benchmarks(root: Path, depth: int = 3) -> Iterator[BenchmarkFolder]:
    """The benchmarks at and below a folder, in the order of their names; what lies in one is not looked at.

    Args:
        root: The folder.
        depth: How many folders below it are looked into.
    """
    if os.path.lexists(root / BENCHMARK_FILE):
        yield BenchmarkFolder(root)
    elif depth and not os.path.lexists(root / "meta.json"):
        for path in _folders(root):
            if not path.name.startswith("."):
                yield from find_benchmarks(path, depth - 1)


def job_of_submission(folder: BenchmarkFolder, job: Job) -> Job:
    """What a submission is asked to do: how it is scored says the benchmark, and how it is run says the submission.

    Args:
        folder: The benchmark.
        job: The submission's own meta.json.

    Raises:
        AutoScorerError: ``INVALID_BENCHMARK``; ``INVALID_META`` where it asks for more than the benchmark gives.
    """
    spec = folder.read()
    resources, problems = _within(spec, job)
    if problems:
        raise InvalidWorkspace.of(problems)
    changed: dict[str, Any] = {
        "task_type": spec.task_type,
        "scorer": spec.scorer,
        "params": dict(spec.params),
        "data": spec.data,
        "resources": resources,
        "timeout": job.timeout if "timeout" in job.model_fields_set else spec.timeout,
        "network_policy": "none",
    }
    return job.model_copy(update=changed)


def _within(spec: Benchmark, job: Job) -> tuple[ResourceRequest, list[AutoScorerError]]:
    problems = []
    given: dict[str, Any] = {}
    for name in ResourceRequest.model_fields:
        asked, most = getattr(job.resources, name), getattr(spec.resources, name)
        given[name] = most if asked is None else asked
        if asked is None or most is None:
            continue
        if name == "gpu_types":
            if others := [kind for kind in asked if kind not in most]:
                problems.append(_other_type(others[0], most))
        elif asked > most:
            problems.append(_too_much(f"resources.{name}", asked, most))
    if job.resources.gpu == 0:
        # Which ones the benchmark gives is nothing to a submission that wants none.
        given |= {name: getattr(job.resources, name) for name in ("gpu_types", "gpu_memory")}
    if "timeout" in job.model_fields_set and job.timeout > spec.timeout:
        problems.append(_too_much("timeout", job.timeout, spec.timeout))
    return ResourceRequest.model_construct(**given), problems


def _too_much(key: str, asked: float, most: float) -> AutoScorerError:
    return AutoScorerError(
        ErrorCode.INVALID_META,
        f"{key}: {asked:g} is above the benchmark's maximum of {most:g}. Ask for less.",
        stage=Stage.VALIDATION,
        details={"key": key, "value": asked, "maximum": most},
    )


def _other_type(kind: str, allowed: Sequence[str]) -> AutoScorerError:
    key = "resources.gpu_types"
    return AutoScorerError(
        ErrorCode.INVALID_META,
        f"{key}: the benchmark gives no {kind!r}{suggest(kind, allowed)}. It gives {', '.join(allowed)}.",
        stage=Stage.VALIDATION,
        details={"key": key, "value": kind, "allowed": list(allowed)},
    )


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(folder / entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []
