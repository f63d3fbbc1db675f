"""``autoscorer submit``."""

from __future__ import annotations

import argparse
from typing import Any

from ..client import Client
from ..schemas.task import TaskView
from .api_client import add_api, as_json, connect
from .arguments import add_backend, add_scorer, given_params
from .output import say
from .task_views import print_task
from .waiting import add_wait, concluded, exit_code, showing, wait

__all__ = ["add_arguments", "exit_code", "render", "run"]

Json = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "workspace", metavar="WORKSPACE", help="folder with meta.json: here, or relative to a workspace root of the API"
    )
    parser.add_argument(
        "--action",
        choices=("pipeline", "validate", "run", "score"),
        default="pipeline",
        help="what to do with it (default: pipeline)",
    )
    add_scorer(parser)
    add_backend(parser)
    add_submission(parser)


def add_submission(parser: argparse.ArgumentParser) -> None:
    """What ``submit`` and ``batch`` share."""
    parser.add_argument(
        "--priority",
        choices=("high", "normal", "low"),
        default="normal",
        help="queue that it waits in (default: normal)",
    )
    parser.add_argument("--callback-url", metavar="URL", help="gets a signed POST of the task when it has ended")
    parser.add_argument(
        "--idempotency-key", metavar="KEY", help="submitting again with the same key answers with the same task"
    )
    add_wait(parser)
    add_api(parser)


def submission(args: argparse.Namespace) -> Json:
    """What ``submit`` and ``batch`` hand on to the client in the same way."""
    return {
        "action": args.action,
        "scorer": args.scorer,
        "params": given_params(args) or None,
        "backend": args.backend,
        "priority": args.priority,
        "callback_url": args.callback_url,
        "idempotency_key": args.idempotency_key,
        "on_known": say_known,
    }


def say_known(task: TaskView) -> None:
    """There is no second task."""
    say(f"task {task.id} was submitted before; there is no second one")


def run(args: argparse.Namespace) -> Json:
    given = submission(args)
    with connect(args) as client:
        return waited(client, client.submit(args.workspace, **given), args)


def waited(client: Client, accepted: TaskView, args: argparse.Namespace) -> Json:
    """The task that was accepted; with ``--wait`` how it is when that is over.

    Raises:
        AutoScorerError: As ``wait`` and ``concluded``.
    """
    task = as_json(accepted)
    if args.wait is None:
        return task
    with showing(args) as shown:
        task = wait(client, task, shown, seconds=args.wait)
    return concluded(task)


def render(data: Json, args: argparse.Namespace) -> None:
    print_task(data)
    if args.wait is None:
        print(f"autoscorer status {data['id']} --watch   waits for its end")
