"""``autoscorer cancel``."""

from __future__ import annotations

import argparse
from typing import Any

from .api_client import add_api, as_json, connect
from .task_views import print_task


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task_id", metavar="TASK_ID", help="as submit and status show it")
    add_api(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    with connect(args) as client:
        return as_json(client.cancel(args.task_id))


def render(data: dict[str, Any], args: argparse.Namespace) -> None:
    print_task(data)
