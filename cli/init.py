"""``autoscorer init``: a small workspace, or a small benchmark, that runs as it is."""

from __future__ import annotations

import argparse
from typing import Any

from .workspace_templates import TASKS, write_workspace

__all__ = ["add_arguments", "render", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", help="where to write; made when it is not there")
    parser.add_argument(
        "--task", choices=list(TASKS), default="classification", help="kind of example (default: %(default)s)"
    )
    parser.add_argument("--force", action="store_true", help="write into a folder that is not empty, over its files")
    parser.add_argument(
        "--benchmark", action="store_true", help="write a benchmark, as `autoscorer benchmark new` does, in its place"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    if args.benchmark:
        from .benchmark_templates import write_benchmark

        return write_benchmark(args.directory, args.task)
    return write_workspace(args.directory, args.task, force=args.force)


def render(data: dict[str, Any], args: argparse.Namespace) -> None:
    if args.benchmark:
        from .benchmark_templates import print_new

        print_new(data)
        return
    from rich.text import Text

    from .output import printable
    from .terminal import console

    shown = console()

    def say(text: str, style: str = "") -> None:
        shown.print(Text(printable(text), style=style), soft_wrap=True)

    say(f"{data['workspace']}: a {data['task_type']} workspace that runs as it is", "bold")
    for name in data["files"]:
        say(f"  {name}")
    say("\nNext:")
    width = max(len(item["command"]) for item in data["next"])
    for item in data["next"]:
        say(f"  {item['command']:{width}}  # {item['does']}")
