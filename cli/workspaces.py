"""``autoscorer workspaces``: the workspaces under the roots of the API."""

from __future__ import annotations

import argparse
from typing import Any

from .api_client import add_api, connect
from .arguments import positive
from .task_views import workspace_table
from .terminal import console

Json = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", metavar="TEXT", help="only workspaces that have it in their name")
    parser.add_argument("--limit", metavar="N", type=positive, help="at most so many (default: all)")
    add_api(parser)
    parser.epilog = "Examples: autoscorer workspaces; autoscorer workspaces --name round-1 --json"


def run(args: argparse.Namespace) -> Json:
    with connect(args) as client:
        return {"workspaces": client.workspaces(search=args.name, limit=args.limit)}


def render(data: Json, args: argparse.Namespace) -> None:
    console().print(workspace_table(data["workspaces"]))
    found = len(data["workspaces"])
    print(f"{found} workspace{'' if found == 1 else 's'}")
