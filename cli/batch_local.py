"""``autoscorer batch --local``: the batch in this process, without a service."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..core.errors import AutoScorerError, ErrorCode
from ..flows.batches.leaderboard import leaderboard
from ..flows.batches.local import run_batch
from ..schemas.task import BatchSummary
from .arguments import given_params
from .output import number, printable, say
from .terminal import console, counting_bar, is_watched

__all__ = ["check_local", "run_local"]

Json = dict[str, Any]

# Options that are the service's.
_OF_THE_SERVICE = {
    "api": "--api",
    "callback_url": "--callback-url",
    "idempotency_key": "--idempotency-key",
    "wait": "--wait",
}


def check_local(args: argparse.Namespace) -> None:
    """Refuse what means nothing without a service.

    Raises:
        AutoScorerError: ``INVALID_REQUEST``.
    """
    given = [option for name, option in _OF_THE_SERVICE.items() if getattr(args, name) is not None]
    if args.priority != "normal":
        given.append("--priority")
    if given:
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            f"--local works in this process, without the API, and {', '.join(given)} is for the API. Leave out one of "
            "the two.",
        )
    if args.concurrency is not None and not 1 <= args.concurrency <= 64:
        raise AutoScorerError(ErrorCode.INVALID_REQUEST, f"--concurrency expects 1 to 64, got {args.concurrency}.")


def run_local(args: argparse.Namespace) -> tuple[Json, AutoScorerError | None]:
    """Do it.

    Returns:
        ``summary``, ``workspaces`` and ``leaderboard``, as the API shows a batch; and why the batch ended before it
        came to all of its workspaces, if it did.

    Raises:
        AutoScorerError: As ``run_batch``.
    """
    with _showing(args) as shown:
        found = run_batch(
            args.workspaces,
            settings=args.settings,
            action=args.action,
            scorer=args.scorer,
            params=given_params(args) or None,
            backend=args.backend,
            concurrency=args.concurrency or 2,
            scorers_dirs=tuple(Path(folder).absolute() for folder in args.scorers_dirs),
            begun=shown.begun,
            done=shown.done,
        )
    outcomes = [{**outcome, "workspace": _called(outcome["workspace"])} for outcome in found["outcomes"]]
    summary = BatchSummary(
        total=found["total"],
        done=found["total"],
        completed=found["completed"],
        failed=found["failed"],
        cancelled=found["cancelled"],
        duplicates=found["duplicates"],
        seconds=found["seconds"],
    )
    data = {"summary": summary.model_dump(), "workspaces": outcomes, "leaderboard": leaderboard(outcomes)}
    return data, found.error


def _called(path: str) -> str:
    """As a person here would write it."""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative


class _Lines:
    """A line for each workspace."""

    def __init__(self) -> None:
        self.total = 0
        self.counts: Counter[str] = Counter()

    def begun(self, known: list[Json], total: int) -> None:
        self.total = total
        for outcome in known:
            self.done(outcome)

    def done(self, outcome: Json) -> None:
        self.counts[outcome["state"]] += 1
        self.tell(outcome)

    def tell(self, outcome: Json) -> None:
        error = outcome["error"]
        if error is not None:
            what = f"{outcome['state']}  {error['code']}: {error['message']}"
        elif outcome["state"] == "completed":
            what = f"completed  {outcome['metric'] or 'score'} {number(outcome['score'])}"
        else:
            what = outcome["state"]
        say(f"{self.counts.total()} of {self.total}  {_called(outcome['workspace'])}  {what}")


class _Bar(_Lines):
    def __init__(self, bar: Any) -> None:
        super().__init__()
        self._bar = bar
        self._row = bar.add_task("batch", total=None, counts="")

    def begun(self, known: list[Json], total: int) -> None:
        super().begun(known, total)
        self._bar.update(self._row, total=total)

    def tell(self, outcome: Json) -> None:
        counts = ", ".join(f"{count} {state}" for state, count in sorted(self.counts.items()))
        self._bar.update(self._row, completed=self.counts.total(), counts=counts)
        if outcome["state"] == "failed":
            from rich.text import Text

            error = outcome["error"]
            self._bar.console.print(
                Text(printable(f"failed  {_called(outcome['workspace'])}  {error['code']}: {error['message']}"))
            )


@contextlib.contextmanager
def _showing(args: argparse.Namespace) -> Iterator[_Lines]:
    if not is_watched(args):
        yield _Lines()
        return
    with counting_bar(console=console(stderr=True)) as bar:
        yield _Bar(bar)
