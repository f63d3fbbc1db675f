"""Where submissions lie: ``BENCHMARK/submissions/TEAM/NUMBER``, and nowhere else.

A workspace is a submission by its place and by nothing that it says itself, so nobody can make one that refers to
another one's benchmark.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path

from ..schemas.benchmark import NAME

__all__ = ["BENCHMARK_FILE", "INPUT_LINK", "SUBMISSIONS", "benchmark_of", "link_input", "number_of", "team_of"]

BENCHMARK_FILE = "benchmark.json"
SUBMISSIONS = "submissions"
# What ``input`` of a submission is: a link, for scorers that open input/ by its path.
INPUT_LINK = os.path.join("..", "..", "..", "input")

_TEAM, _NUMBER = re.compile(NAME), re.compile(r"[0-9]{4,9}")


def benchmark_of(root: Path) -> Path | None:
    """The benchmark's folder, of a workspace that is a submission; None of any other one.

    Args:
        root: The workspace's folder, absolute, links resolved.
    """
    team = root.parent
    if team.parent.name != SUBMISSIONS or not _TEAM.fullmatch(team.name) or not _NUMBER.fullmatch(root.name):
        return None
    benchmark = team.parent.parent
    return benchmark if os.path.lexists(benchmark / BENCHMARK_FILE) else None


def team_of(root: Path) -> str | None:
    """Whose a submission is; None of a workspace that is none."""
    return root.parent.name if benchmark_of(root) is not None else None


def number_of(root: Path) -> int:
    """Which of its team's a submission is, from 1 on."""
    return int(root.name)


def link_input(root: Path) -> None:
    """Have ``input`` lead to the benchmark's, for scorers that open it by its path."""
    link = root / "input"
    with contextlib.suppress(OSError):
        if os.readlink(link) == INPUT_LINK:
            return
    if os.path.lexists(link):
        _remove(link)
    link.symlink_to(INPUT_LINK)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
