"""``autoscorer status``: one task, or the list of them."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from ..client import Client
from ..client.polling import poll
from ..core.errors import AutoScorerError, ErrorCode
from ..schemas.task import TaskState
from .api_client import add_api, as_json, away, connect
from .arguments import positive
from .batch_views import concluded_batch, showing_batch, with_batch
from .task_views import print_leaderboard, print_task, task_table
from .terminal import console, is_watched
from .waiting import Lines, concluded, ended, exit_code, showing, wait

__all__ = ["add_arguments", "exit_code", "render", "run"]

Json = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task_id", metavar="TASK_ID", nargs="?", help="one task; the newest ones when absent")
    parser.add_argument(
        "--state",
        action="append",
        default=[],
        choices=[state.value for state in TaskState],
        help="only tasks in this state; may be given several times",
    )
    parser.add_argument("--workspace", metavar="NAME", help="only tasks of this workspace")
    parser.add_argument(
        "--name", metavar="TEXT", help="only tasks whose workspace, job or batch's member has it in its name"
    )
    parser.add_argument("--parent", metavar="TASK_ID", help="only members of this batch, the best first")
    parser.add_argument("--members", action="store_true", help="members of batches too")
    parser.add_argument("--limit", metavar="N", type=positive, help="at most so many tasks (default: 20)")
    parser.add_argument("--watch", action="store_true", help="until the task, or each of the list, has ended")
    add_api(parser)
    parser.epilog = "Examples: autoscorer status --state failed --name team-a; autoscorer status TASK_ID --watch"


def run(args: argparse.Namespace) -> Json:
    chosen = (args.state, args.workspace, args.name, args.parent, args.members, args.limit)
    if args.task_id is not None and any(chosen):
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            "--state, --workspace, --name, --parent, --members and --limit choose from the list of tasks; leave out "
            "either them or TASK_ID.",
        )
    with connect(args) as client:
        if args.task_id is None:
            return _watch_list(client, args) if args.watch else _list(client, args)
        task = as_json(client.task(args.task_id))
        is_batch = task["action"] == "batch"
        if not args.watch:
            return with_batch(client, task) if is_batch else task
        with showing_batch(client, args) if is_batch else showing(args) as shown:
            task = wait(client, task, shown)
        return concluded_batch(client, task, args) if is_batch else concluded(task)


def render(data: Json, args: argparse.Namespace) -> None:
    if args.task_id is not None:
        print_task(data)
        if "batch" in data:
            print_leaderboard(data["batch"])
        return
    console().print(task_table(data["tasks"], data["total"]))


def _list(client: Client, args: argparse.Namespace) -> Json:
    """The newest tasks, or a batch's members."""
    return as_json(
        client.tasks(
            states=args.state,
            workspace=args.workspace,
            q=args.name,
            parent=args.parent,
            members=args.members,
            sort=None if args.parent is None else "-score",
            limit=args.limit or 20,
        )
    )


def _watch_list(client: Client, args: argparse.Namespace) -> Json:
    with _showing_list(args) as show:

        def look() -> tuple[Json, bool]:
            page = _list(client, args)
            show(page)
            return page, all(ended(task) for task in page["tasks"])

        return poll(look, on_away=away)


@contextlib.contextmanager
def _showing_list(args: argparse.Namespace) -> Iterator[Callable[[Json], None]]:
    """The list drawn again and again on a terminal, a line for each task that changes elsewhere."""
    if not is_watched(args):
        lines: dict[str, Lines] = {}

        def tell(page: Json) -> None:
            for task in reversed(page["tasks"]):
                lines.setdefault(task["id"], Lines()).update(task)

        yield tell
        return
    from rich.live import Live

    with Live(console=console(stderr=True), transient=True, auto_refresh=False) as live:
        yield lambda page: live.update(task_table(page["tasks"], page["total"]), refresh=True)
