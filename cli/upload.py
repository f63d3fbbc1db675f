"""``autoscorer upload``: a folder or an archive becomes a workspace of the API."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from .api_client import add_api, connect
from .output import printable
from .terminal import console, is_watched

Json = dict[str, Any]

_SHOWN = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path",
        metavar="PATH",
        help="a workspace's folder, which is packed while it is sent (without links, result.json, artifacts, history "
        "and logs), or an archive of one (.zip, .tar, .tar.gz, .tar.bz2, .tar.xz)",
    )
    parser.add_argument("--name", metavar="NAME", help="what it is to be called (default: as the folder or archive)")
    add_api(parser)
    parser.epilog = "Examples: autoscorer upload flowers; autoscorer upload team-a.tar.gz --name team-a"


def run(args: argparse.Namespace) -> Json:
    with connect(args) as client, _showing(args) as on_progress:
        return client.upload(args.path, name=args.name, on_progress=on_progress)


def render(data: Json, args: argparse.Namespace) -> None:
    name = printable(data["workspace"]["name"])
    print(f"{name}  {data['files']} files, {data['size']:,} bytes")
    left_out = data["left_out"]
    for item in left_out[:_SHOWN]:
        print("left out: " + printable(item))
    if len(left_out) > _SHOWN:
        print(f"left out: {len(left_out) - _SHOWN} more; --json names all of them")
    print(f"autoscorer submit {name}   hands it to the API")


@contextlib.contextmanager
def _showing(args: argparse.Namespace) -> Iterator[Callable[[int, int], None] | None]:
    """A bar of the bytes on a terminal, nothing elsewhere."""
    if not is_watched(args):
        yield None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description:<10}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console(stderr=True)) as bar:
        row = bar.add_task("sending", total=None)

        def told(done: int, total: int) -> None:
            # All is sent: what is left is the API's.
            bar.update(row, completed=done, total=total, description="sending" if done < total else "unpacking")

        yield told
