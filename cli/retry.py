"""``autoscorer retry``: do once more what a task that has ended was asked for."""

from __future__ import annotations

import argparse
from typing import Any

from .api_client import add_api, as_json, connect
from .submit import say_known
from .task_views import print_task
from .waiting import add_wait, concluded, exit_code, showing, wait

__all__ = ["add_arguments", "exit_code", "render", "run"]

Json = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task_id", metavar="TASK_ID", help="a task that has ended, as submit and status show it")
    parser.add_argument(
        "--idempotency-key", metavar="KEY", help="repeating it again with the same key answers with the same task"
    )
    add_wait(parser)
    add_api(parser)
    parser.epilog = "Examples: autoscorer retry TASK_ID; autoscorer retry TASK_ID --wait"


def run(args: argparse.Namespace) -> Json:
    with connect(args) as client:
        task = as_json(client.retry(args.task_id, idempotency_key=args.idempotency_key, on_known=say_known))
        if args.wait is None:
            return task
        with showing(args) as shown:
            task = wait(client, task, shown, seconds=args.wait)
    return concluded(task)


def render(data: Json, args: argparse.Namespace) -> None:
    print_task(data)
    if args.wait is None:
        print(f"autoscorer status {data['id']} --watch   waits for its end")
