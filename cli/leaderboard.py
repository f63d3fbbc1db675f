"""``autoscorer leaderboard``: who of a batch is best, also while it goes on."""

from __future__ import annotations

import argparse
from typing import Any

from .api_client import add_api, as_json, connect
from .batch import check_writable, write_csv
from .task_views import print_leaderboard

Json = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task_id", metavar="BATCH", help="a batch's task, as batch and status show it")
    parser.add_argument("--csv", metavar="FILE", help="write it there, too")
    add_api(parser)
    parser.epilog = "Examples: autoscorer leaderboard TASK_ID; autoscorer leaderboard TASK_ID --csv board.csv"


def run(args: argparse.Namespace) -> Json:
    if args.csv is not None:
        check_writable(args.csv)
    with connect(args) as client:
        view = as_json(client.batch_view(args.task_id))
    if args.csv is not None:
        write_csv(args.csv, view["leaderboard"])
    return {
        "task_id": view["task"]["id"],
        "state": view["task"]["state"],
        "summary": view["summary"],
        "leaderboard": view["leaderboard"],
    }


def render(data: Json, args: argparse.Namespace) -> None:
    print(f"{data['task_id']}  {data['state']}")
    print_leaderboard(data)
