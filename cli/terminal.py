"""What the commands show on a terminal, alike in all of them. Rich is imported when it is used: it takes a while."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

__all__ = ["VERDICT", "console", "counting_bar", "is_watched", "table"]

# A Result's ``pass``, in a word.
VERDICT = {True: "pass", False: "fail", None: ""}


def is_watched(args: argparse.Namespace) -> bool:
    """Whether a person sees what the command writes on stderr while it works."""
    return not args.json and sys.stderr.isatty()


def console(*, stderr: bool = False) -> Console:
    """Where a view is printed."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


def table(*columns: str, right: Collection[str] = (), **more: Any) -> Table:
    """A table without lines.

    Args:
        columns: Their heads.
        right: Heads of those that are aligned to the right.
        more: As rich's ``Table`` takes it.
    """
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="dim", **more)
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left")
    return made


def counting_bar(**more: Any) -> Progress:
    """A bar of the workspaces of a batch; its tasks have the field ``counts``.

    Args:
        more: As rich's ``Progress`` takes it.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[counts]}"),
        **more,
    )
