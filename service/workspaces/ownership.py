"""Whose a workspace is, by where it lies and by nothing that it says itself: so nobody can make it another's."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from ...core.config_tokens import TEAM
from ...core.errors import AutoScorerError
from ...core.submissions import BENCHMARK_FILE, SUBMISSIONS
from ...flows.batches.expand import fixed_folder
from ..policy import SEVERAL, Act, Caller, Subject, check
from .roots import WorkspaceRoots, workspace_not_found

__all__ = [
    "benchmark_around",
    "in_common",
    "seen_workspace",
    "subject_of",
    "subject_of_item",
]


def benchmark_around(roots: WorkspaceRoots, path: Path) -> Path | None:
    """The benchmark that a path is, or lies in: the outermost one, which lies in no workspace.

    Args:
        roots: The workspace roots; one of them may lie in a benchmark itself.
        path: Absolute, links resolved.
    """
    for folder in reversed([path, *path.parents]):
        # What lies in a workspace came with it, and makes nothing of a workspace.
        if os.path.lexists(folder / "meta.json") and roots.holds(folder):
            return None
        if os.path.lexists(folder / BENCHMARK_FILE):
            return folder
    return None


def subject_of(roots: WorkspaceRoots, path: Path) -> Subject:
    """Whose a path is.

    Args:
        roots: The workspace roots.
        path: Absolute, links resolved; of what need not be there.
    """
    benchmark = benchmark_around(roots, path)
    if benchmark is None:
        return Subject()
    try:
        name = roots.name(benchmark)
    except AutoScorerError:  # a root lies in it: no token can name it
        return Subject(SEVERAL)
    folder, team = (*path.relative_to(benchmark).parts, "", "")[:2]
    is_teams = folder == SUBMISSIONS and TEAM.fullmatch(team) is not None
    return Subject(name, team if is_teams else None)


def subject_of_item(roots: WorkspaceRoots, item: str) -> Subject:
    """Whose an entry of a batch is: a folder or a pattern, absolute as a flow is called with it, or below a root.

    Raises:
        AutoScorerError: As ``WorkspaceRoots.locate``, for one that is not absolute.
    """
    if not os.path.isabs(item):
        return subject_of(roots, roots.locate_item(item))
    base = Path(item) if os.path.isdir(item) else fixed_folder(Path(item))
    return subject_of(roots, Path(os.path.realpath(base)))


def in_common(subjects: Collection[Subject]) -> Subject:
    """Whose a thing is that is about several: of admins alone where those are not of one benchmark."""
    if len(subjects) == 1:
        return next(iter(subjects))
    benchmarks = {each.benchmark for each in subjects}
    return Subject(SEVERAL if len(benchmarks) > 1 else next(iter(benchmarks), None))


def seen_workspace(roots: WorkspaceRoots, text: str, caller: Caller, act: Act) -> tuple[Path, Subject]:
    """The workspace that a text means, for somebody who wants to do something to it.

    Args:
        roots: The workspace roots.
        text: As ``WorkspaceRoots.workspace`` takes it.
        caller: Who asks.
        act: For what.

    Returns:
        The folder, and whose it is.

    Raises:
        AutoScorerError: As ``WorkspaceRoots.workspace``, and ``WORKSPACE_NOT_FOUND`` for what the caller may not see:
            whether it is there is not told; ``FORBIDDEN`` for what it may see and not do this to.
    """
    subject = subject_of(roots, roots.locate(text))
    check(caller, act, subject, hidden=workspace_not_found(text))
    return roots.workspace(text), subject
