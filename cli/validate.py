"""``autoscorer validate``."""

from __future__ import annotations

import argparse
from typing import Any

from .arguments import add_backend, add_scorer, add_workspace, parse_params


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_workspace(parser)
    add_scorer(parser)
    add_backend(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    from .custom import command_scoring

    with command_scoring(args) as scoring:
        return scoring.validate(
            args.workspace, scorer=args.scorer, params=parse_params(args.param), backend=args.backend
        )


def render(data: dict[str, Any], args: argparse.Namespace) -> None:
    image = {"reference": "named in meta.json", "archive": "the archive in the workspace", "build": "the Dockerfile"}
    print(f"{data['job_id']}: valid")
    print(f"  scorer  {data['scorer']}")
    if data["image"]:
        print(f"  image   {image[data['image']]}")
