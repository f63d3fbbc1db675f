"""``autoscorer logs``: what a task's flow run recorded, and what its model wrote."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

from ..schemas.task import TaskState
from .api_client import ApiAway, ApiClient, add_api, connect, task_path
from .output import printable
from .waiting import stops_watching, until

Json = dict[str, Any]

_FINAL = frozenset(state.value for state in TaskState if state.is_final)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task_id", metavar="TASK_ID", help="as submit and status show it")
    parser.add_argument("--follow", action="store_true", help="go on until the task has ended; lines come on stderr")
    add_api(parser)


def run(args: argparse.Namespace) -> Json:
    with connect(args) as client:
        if not args.follow:
            return {"task_id": args.task_id, "records": _records(client, args.task_id)}
        with stops_watching(args.task_id):
            return _follow(client, args.task_id, lambda record: print(_line(record), file=sys.stderr, flush=True))


def render(data: Json, args: argparse.Namespace) -> None:
    if args.follow:
        return  # shown as they came
    for record in data["records"]:
        print(_line(record))


def _records(client: ApiClient, task_id: str) -> list[Json]:
    records: list[Json] = []
    offset: int | None = 0
    while offset is not None:
        page = client.get(task_path(task_id, "/logs"), {"offset": offset})
        records += page["records"]
        offset = page["next_offset"]
    return records


def _follow(client: ApiClient, task_id: str, show: Callable[[Json], None]) -> Json:
    """All records, shown as they come, through an API that is started anew."""
    records: list[Json] = []

    def look() -> tuple[Json, bool]:
        # A stream begins at the beginning. What comes again need not come in the same order or with the same time.
        known = Counter(_identity(record) for record in records)
        began = False
        try:
            for event in client.stream(task_path(task_id, "/logs"), {"follow": "true"}):
                began, kind = True, event.pop("type", None)
                identity = _identity(event)
                if kind == "log" and known[identity] > 0:
                    known[identity] -= 1
                elif kind == "log":
                    records.append(event)
                    show(event)
                elif kind == "end":
                    return {"task_id": task_id, "state": event["state"], "records": records}, event["state"] in _FINAL
        except ApiAway:
            if not began:
                raise
        return {"task_id": task_id, "state": None, "records": records}, False

    return until(look)


def _identity(record: Json) -> tuple[Any, ...]:
    return record.get("source"), record.get("workspace"), record.get("message")


def _line(record: Json) -> str:
    clock = record["time"][11:19]
    whose = f"{record['workspace']}  " if record.get("workspace") else ""
    mark = "│ " if record["source"] == "model" else ""
    level = record["level"].upper() + " " if record["level"] not in ("info", "debug") else ""
    return printable(f"{clock} {whose}{mark}{level}{record['message']}".expandtabs())
