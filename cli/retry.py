"""``autoscorer retry``: do once more what a task that has ended was asked for."""

from __future__ import annotations

import argparse
from typing import Any

from .api_client import add_api, connect
from .submit import render, say_known, waited
from .waiting import add_wait, exit_code

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
        task = client.retry(args.task_id, idempotency_key=args.idempotency_key, on_known=say_known)
        return waited(client, task, args)
