"""A batch of the API on a terminal: its counts and who is best, while it goes on and at its end."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterator
from typing import Any

from ..client import Client
from ..core.errors import AutoScorerError
from .api_client import as_json
from .output import say
from .task_views import counts, leaderboard_table, print_leaderboard
from .terminal import console, counting_bar, is_watched
from .waiting import Lines, Shown, concluded, ended

__all__ = ["concluded_batch", "print_what_was_done", "showing_batch", "with_batch"]

Json = dict[str, Any]

# Rows of the leaderboard while the batch goes on: it is drawn again and again.
_FIRST = 10


def with_batch(client: Client, task: Json) -> Json:
    """A batch's task, and under ``batch`` its ``summary`` and ``leaderboard``."""
    view = as_json(client.batch_view(task["id"]))
    return {**task, "batch": {"summary": view["summary"], "leaderboard": view["leaderboard"]}}


def concluded_batch(client: Client, task: Json, args: argparse.Namespace) -> Json:
    """What a command that waited for a batch answers with; of one that failed a person sees what was done.

    Raises:
        AutoScorerError: As ``concluded``.
    """
    if not ended(task):
        return concluded(task)
    data = with_batch(client, task)
    if task["error"] is not None:
        print_what_was_done(data["batch"], args)
    concluded(task)
    return data


def print_what_was_done(batch: Json, args: argparse.Namespace) -> None:
    """Show a person what a batch that failed or was cancelled has done before, beside its error."""
    if batch["leaderboard"] and is_watched(args):
        print_leaderboard(batch, to_stderr=True)


@contextlib.contextmanager
def showing_batch(client: Client, args: argparse.Namespace) -> Iterator[Shown]:
    """Show a batch: a bar, its counts and the first of its leaderboard on a terminal, plain lines elsewhere."""
    if not is_watched(args):
        yield _Counted(client)
        return
    from rich.live import Live

    bar = counting_bar()
    with Live(bar, console=console(stderr=True), refresh_per_second=5) as live:
        yield _Board(client, bar, live)


class _Asked:
    """The counts cost the API more than the progress, so large batches show them seldom, but always at their end."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._counted, self._next = -1, 0.0

    def view(self, task: Json) -> Json | None:
        """The batch, where there is news of it and it is time."""
        done, total = _how_far(task)
        over = ended(task)
        if not over and (done == self._counted or time.monotonic() < self._next):
            return None
        self._counted, self._next = done, time.monotonic() + 1 + (total or 0) / 500
        with contextlib.suppress(AutoScorerError):  # only what is shown meanwhile
            return as_json(self._client.batch_view(task["id"]))
        return None


class _Counted(_Asked):
    """Lines, and one of the counts at the end."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._lines = Lines()

    def update(self, task: Json) -> None:
        self._lines.update(task)
        if ended(task) and (view := self.view(task)) is not None:
            say(f"task {task['id']}: {counts(view['summary']) or 'nothing done'}")


class _Board(_Asked):
    def __init__(self, client: Client, bar: Any, live: Any) -> None:
        super().__init__(client)
        self._bar, self._live = bar, live
        self._row = bar.add_task("queued", total=None, counts="")

    def update(self, task: Json) -> None:
        done, total = _how_far(task)
        if not ended(task):
            self._bar.update(self._row, description=task["state"], completed=done, total=total)
            self._live.refresh()
        if (view := self.view(task)) is None:
            return
        summary = view["summary"]
        # A task that has ended has no progress any more; how far it came stands in the summary.
        self._bar.update(
            self._row,
            description=task["state"],
            completed=summary["done"],
            total=summary["total"],
            counts=counts(summary),
        )
        from rich.console import Group

        over = ended(task) or not view["leaderboard"]
        # At the end the whole of it is printed.
        self._live.update(self._bar if over else Group(self._bar, leaderboard_table(view["leaderboard"], first=_FIRST)))


def _how_far(task: Json) -> tuple[int, int | None]:
    progress = task["progress"] or {}
    return progress.get("done", 0), progress.get("total")
