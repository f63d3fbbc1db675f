"""``autoscorer cancel``."""

from __future__ import annotations

import argparse
from typing import Any

from .api_client import add_api, connect, task_path
from .task_views import print_task


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task_id", metavar="TASK_ID", help="as submit and status show it")
    add_api(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    with connect(args) as client:
        task: dict[str, Any] = client.post(task_path(args.task_id, "/cancel"))
    return task


def render(data: dict[str, Any], args: argparse.Namespace) -> None:
    print_task(data)
