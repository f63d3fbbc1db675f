"""``autoscorer batch``: many workspaces as one task of the API, and who is best."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..core.errors import AutoScorerError, ErrorCode
from ..service.leaderboard import to_csv
from .api_client import ApiClient, connect, sendable
from .arguments import add_backend, add_scorer
from .submit import add_submission, optional, send
from .task_views import print_leaderboard, print_task
from .waiting import Lines, Shown, concluded, ended, exit_code, wait

__all__ = ["add_arguments", "exit_code", "render", "run"]

Json = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "workspaces",
        metavar="WORKSPACE",
        nargs="+",
        help="a workspace, a folder of workspaces, or a quoted pattern: here, or relative to a workspace root",
    )
    parser.add_argument("--action", choices=("pipeline", "score"), default="pipeline", help="default: pipeline")
    parser.add_argument("--concurrency", metavar="N", type=int, help="workspaces at the same time (default: 2)")
    parser.add_argument("--csv", metavar="FILE", help="wait for the end, and write the leaderboard there")
    add_scorer(parser)
    add_backend(parser)
    add_submission(parser)


def run(args: argparse.Namespace) -> Json:
    if args.csv is not None:
        _check_writable(args.csv)
        args.wait = math.inf if args.wait is None else args.wait
    body = {
        "workspaces": [sendable(workspace) for workspace in args.workspaces],
        "action": args.action,
        **optional(args),
    }
    if args.concurrency is not None:
        body["concurrency"] = args.concurrency
    with connect(args) as client:
        task = send(client, "/batch", body, args)
        if args.wait is None:
            return task
        with _showing(client, args) as shown:
            task = wait(client, task, shown, seconds=args.wait)
        if not ended(task):
            return concluded(task)
        batch: Json = client.get(f"/batch/{task['id']}")
    if args.csv is not None:
        _write_csv(args.csv, batch["leaderboard"])
    if task["error"] is not None and batch["leaderboard"] and not args.json and sys.stderr.isatty():
        print_leaderboard(batch)  # of what was done before it failed or was cancelled
    concluded(task)
    return batch


def render(data: Json, args: argparse.Namespace) -> None:
    if "leaderboard" in data:
        print_leaderboard(data)
        return
    print_task(data)
    if args.wait is None:
        print(f"autoscorer status {data['id']} --watch   waits for its end")


class _Bar:
    """A bar with counts. The counts cost the API more than the progress, so large batches show them seldom."""

    def __init__(self, client: ApiClient, bar: Any) -> None:
        self._client, self._bar = client, bar
        self._row = bar.add_task("queued", total=None, counts="")
        self._counted, self._next = -1, 0.0

    def update(self, task: Json) -> None:
        if ended(task):
            self._conclude(task)
            return
        done = (task["progress"] or {}).get("done", 0)
        total = (task["progress"] or {}).get("total")
        self._bar.update(self._row, description=task["state"], completed=done, total=total)
        if done != self._counted and time.monotonic() >= self._next:
            with contextlib.suppress(AutoScorerError):  # only the numbers beside the bar
                self._bar.update(self._row, counts=_counts(self._client.get(f"/batch/{task['id']}")["summary"]))
            self._counted, self._next = done, time.monotonic() + 1 + (total or 0) / 500

    def _conclude(self, task: Json) -> None:
        """How far it came in the end: a task that has ended tells no progress."""
        self._bar.update(self._row, description=task["state"])
        with contextlib.suppress(AutoScorerError):
            summary = self._client.get(f"/batch/{task['id']}")["summary"]
            total = summary["total"] if summary["total"] is not None else summary["done"]
            self._bar.update(self._row, completed=summary["done"], total=total, counts=_counts(summary))


def _counts(summary: Json) -> str:
    return ", ".join(f"{summary[name]} {name}" for name in ("completed", "failed", "cancelled") if summary[name])


@contextlib.contextmanager
def _showing(client: ApiClient, args: argparse.Namespace) -> Iterator[Shown]:
    if args.json or not sys.stderr.isatty():
        yield Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[counts]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield _Bar(client, bar)


def _check_writable(file: str) -> None:
    """Before hours of work, not after them."""
    path = Path(file)
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            f"--csv expects a writable file in a folder that is there, got {file!r}.",
        )


def _write_csv(file: str, rows: list[Json]) -> None:
    try:
        Path(file).write_bytes(to_csv(rows).encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            f"The batch has ended, but {file!r} can't be written: {error.strerror}. The API has the leaderboard as CSV "
            "at GET /batch/TASK_ID/leaderboard.",
        ) from None
