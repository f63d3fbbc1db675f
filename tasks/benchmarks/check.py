"""Is this benchmark one that submissions can be scored by? Every problem at once."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

from ...core.benchmark import BenchmarkFolder
from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode, InvalidWorkspace
from ...core.exposure import exposures, ground_truths, refuse_links, visible_inputs
from ...executors.limits import check_limits
from ...schemas.benchmark import Benchmark
from ...schemas.job import Job
from ...scorers.registry import get_registry
from ..scorer_call import call_scorer, make_scorer
from ..submissions.parts import usage_of
from ..submissions.version import current_version

__all__ = ["validate_benchmark"]


def validate_benchmark(folder: BenchmarkFolder, settings: Settings) -> dict[str, Any]:
    """Check a benchmark.

    Args:
        folder: The benchmark.
        settings: The configuration.

    Returns:
        ``name``, ``benchmark`` (the folder), ``scorer``, ``version``, ``digest``, ``submissions`` (how many there are),
        ``withheld`` (rows of each part, or None) and ``notes``.

    Raises:
        AutoScorerError: The problem, or ``InvalidWorkspace`` with all of them in ``details["problems"]``.
    """
    spec = folder.read()
    problems: list[AutoScorerError] = []

    @contextlib.contextmanager
    def collected() -> Iterator[None]:
        try:
            yield
        except AutoScorerError as error:
            problems.append(error)

    space = folder.as_workspace()
    with collected():
        visible_inputs(space)
        refuse_links(space)
    with collected():
        for truth in ground_truths(space):
            if found := exposures(space, truth, code=False):
                raise AutoScorerError(
                    ErrorCode.GROUND_TRUTH_EXPOSED,
                    f"Models could read the ground truth: {', '.join(found[:5])} leads to the same bytes as "
                    f"input/{truth.name}. Remove it.",
                    details={"files": found},
                )
    job = Job(scorer=spec.scorer, resources=spec.resources, timeout=spec.timeout, data=spec.data)
    problems += check_limits(job, settings)
    version, withheld = None, None
    with collected():
        entry = get_registry().get(spec.scorer)
        # There is no output beside it, so the ground truth alone is looked at.
        call_scorer(entry, make_scorer(entry, job, settings).validate, folder.root, dict(spec.params))
        version = current_version(folder, spec, entry)
    with collected():
        withheld = dict(Counter(usage_of(folder, spec).values())) if spec.withheld is not None else None
    if problems:
        raise InvalidWorkspace.of(problems)
    assert version is not None
    return {
        "name": spec.name,
        "benchmark": str(folder.root),
        "scorer": spec.scorer,
        "version": version.number,
        "digest": version.digest,
        "submissions": sum(1 for _ in folder.submissions()),
        "withheld": withheld,
        "notes": [*_notes(folder, spec)],
    }


def _notes(folder: BenchmarkFolder, spec: Benchmark) -> Iterator[str]:
    if folder.root.name != spec.name:
        yield f"The folder is called {folder.root.name!r}: the API and its tokens name the benchmark by its folder."
    closed = next((path for path, mode in _modes(folder) if not mode & 0o004), None)
    if closed is not None and os.geteuid() == 0:
        yield (
            f"{closed} can't be read by others, and so not by models, which run as users of their own: such files are "
            "copied for every run. `chmod -R a+rX input/data` avoids that."
        )


def _modes(folder: BenchmarkFolder) -> Iterator[tuple[str, int]]:
    for parent, _, names in os.walk(folder.input / "data"):
        for name in names:
            path = os.path.join(parent, name)
            yield os.path.relpath(path, folder.root), os.lstat(path).st_mode
