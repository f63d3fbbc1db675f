"""``autoscorer logs``: what a task's flow run recorded, and what its model wrote."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from .api_client import add_api, connect
from .output import printable
from .waiting import stops_watching

Json = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task_id", metavar="TASK_ID", help="as submit and status show it")
    parser.add_argument("--follow", action="store_true", help="go on until the task has ended; lines come on stderr")
    add_api(parser)


def run(args: argparse.Namespace) -> Json:
    with connect(args) as client:
        if not args.follow:
            return {"task_id": args.task_id, "records": list(client.logs(args.task_id))}
        records: list[Json] = []
        with stops_watching(args.task_id):
            for record in client.logs(args.task_id, follow=True):
                records.append(record)
                print(_line(record), file=sys.stderr, flush=True)
            return {"task_id": args.task_id, "state": str(client.wait(args.task_id).state), "records": records}


def render(data: Json, args: argparse.Namespace) -> None:
    if args.follow:
        return  # shown as they came
    for record in data["records"]:
        print(_line(record))


def _line(record: Json) -> str:
    clock = record["time"][11:19]
    whose = f"{record['workspace']}  " if record.get("workspace") else ""
    mark = "│ " if record["source"] == "model" else ""
    level = record["level"].upper() + " " if record["level"] not in ("info", "debug") else ""
    return printable(f"{clock} {whose}{mark}{level}{record['message']}".expandtabs())
