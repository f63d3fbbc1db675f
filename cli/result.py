"""``autoscorer result``: the Result that stands in a workspace, and those before it. Needs no service."""

from __future__ import annotations

import argparse
import os
from typing import Any

from ..core.errors import AutoScorerError, ErrorCode
from .arguments import add_workspace
from .output import number, print_result, printable

Json = dict[str, Any]

_PAGE = 500


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_workspace(parser)
    parser.add_argument("--history", action="store_true", help="a table of all Results, newest first")
    parser.add_argument("--id", metavar="ID", help="one of the history, as --history shows it")


def run(args: argparse.Namespace) -> Json:
    from ..core.workspace import Workspace
    from ..service.workspaces.history import list_history, past_result

    if args.history and args.id is not None:
        raise AutoScorerError(ErrorCode.INVALID_REQUEST, "--history shows all of them and --id one; give one of both.")
    space = Workspace(args.workspace)
    if args.id is not None:
        return past_result(space.root, space.name, args.id).to_dict()
    if args.history:
        results: list[Json] = []
        cursor: str | None = None
        while True:
            page = list_history(space.root, space.name, limit=_PAGE, cursor=cursor)
            results += [each.model_dump(by_alias=True) for each in page.results]
            if (cursor := page.next_cursor) is None:
                return {"workspace": space.name, "results": results}
    result = space.read_result()
    if result is None:
        there = os.path.lexists(space.result_file)
        raise AutoScorerError(
            ErrorCode.BAD_FORMAT if there else ErrorCode.NOT_FOUND,
            "output/result.json can't be read as a Result; score the workspace again."
            if there
            else f"The workspace {space.name!r} has no Result yet. `autoscorer pipeline` or `score` makes one.",
        )
    return result.to_dict()


def render(data: Json, args: argparse.Namespace) -> None:
    if args.history:
        _print_history(data)
    elif data["error"] is None:
        print_result(data, args.workspace)
    else:
        error = data["error"]
        print(
            f"{printable(str(data['job_id']))}  {error['code']} ({error['stage']})  {data['versioning']['timestamp']}"
        )
        print(printable(error["message"]))
        report = data["artifacts"].get("report")
        if report and args.id is None:
            print("report: " + printable(os.path.join(args.workspace, report["path"])))


def _print_history(data: Json) -> None:
    from rich.text import Text

    from . import terminal

    console = terminal.console()
    if not data["results"]:
        console.print(Text(f"{printable(data['workspace'])} has no Result yet."))
        return
    table = terminal.table("time", "score", "metric", "pass", right=("score",))
    for column in table.columns:
        column.no_wrap = True
    for name in ("scorer", "error", "id"):
        table.add_column(name, overflow="fold")
    for each in data["results"]:
        cells = [
            each["time"] or "",
            number(each["score"]) if each["error"] is None else "",
            each["metric"] or "",
            terminal.VERDICT[each["pass"]],
            each["scorer"] or "",
            each["error"] or "",
            each["id"] + ("  (stands)" if each["stands"] else ""),
        ]
        table.add_row(*(Text(printable(str(cell))) for cell in cells), style="bold" if each["stands"] else "")
    console.print(table)
