"""``autoscorer batch``: many workspaces as one task of the API, or in this process, and who is best."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path
from typing import Any

from ..core.errors import AutoScorerError, ErrorCode
from ..flows.batches.leaderboard import to_csv
from . import submit
from .api_client import as_json, connect
from .arguments import add_backend, add_scorer
from .batch_views import print_what_was_done, showing_batch
from .submit import add_submission, submission
from .task_views import print_leaderboard
from .waiting import concluded, ended, exit_code, wait

__all__ = ["add_arguments", "check_writable", "exit_code", "render", "run", "write_csv"]

Json = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "workspaces",
        metavar="WORKSPACE",
        nargs="+",
        help="a workspace, a folder of workspaces, or a quoted pattern: here, or relative to a workspace root",
    )
    parser.add_argument(
        "--action", choices=("pipeline", "score"), default="pipeline", help="what to do with each (default: pipeline)"
    )
    parser.add_argument("--concurrency", metavar="N", type=int, help="workspaces at the same time (default: 2)")
    parser.add_argument("--csv", metavar="FILE", help="wait for the end, and write the leaderboard there")
    parser.add_argument(
        "--local",
        action="store_true",
        help="in this process, without the API: waits for the end, and shows who is best",
    )
    add_scorer(parser)
    add_backend(parser)
    add_submission(parser)
    parser.epilog = (
        "Examples: autoscorer batch round-1 --wait; autoscorer batch 'round-1/*' --local --action score --csv board.csv"
    )


def run(args: argparse.Namespace) -> Json:
    if args.csv is not None:
        check_writable(args.csv)
    if args.local:
        return _run_here(args)
    if args.csv is not None:
        args.wait = math.inf if args.wait is None else args.wait
    given = submission(args)
    with connect(args) as client:
        task = as_json(client.batch(args.workspaces, concurrency=args.concurrency, **given))
        if args.wait is None:
            return task
        with showing_batch(client, args) as shown:
            task = wait(client, task, shown, seconds=args.wait)
        if not ended(task):
            return concluded(task)
        batch = as_json(client.batch_view(task["id"]))
    _conclude(args, batch, task["error"] is not None)
    concluded(task)
    return batch


def _run_here(args: argparse.Namespace) -> Json:
    from .batch_local import check_local, run_local

    check_local(args)
    batch, error = run_local(args)
    _conclude(args, batch, error is not None)
    if error is not None:
        raise error
    return batch


def _conclude(args: argparse.Namespace, batch: Json, failed: bool) -> None:
    """Write the leaderboard; of a batch that failed or was cancelled, a person sees what was done before."""
    if args.csv is not None:
        write_csv(args.csv, batch["leaderboard"])
    if failed:
        print_what_was_done(batch, args)


def render(data: Json, args: argparse.Namespace) -> None:
    if "leaderboard" in data:
        print_leaderboard(data)
    else:
        submit.render(data, args)


def check_writable(file: str) -> None:
    """Before hours of work, not after them."""
    path = Path(file)
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            f"--csv expects a writable file in a folder that is there, got {file!r}.",
        )


def write_csv(file: str, rows: list[Json]) -> None:
    """Write a leaderboard."""
    try:
        Path(file).write_bytes(to_csv(rows).encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            f"The batch has ended, but {file!r} can't be written: {error.strerror}. The API has the leaderboard as CSV "
            "at GET /batch/TASK_ID/leaderboard.",
        ) from None
