"""``autoscorer validate``."""

from __future__ import annotations

import argparse
from typing import Any

from .arguments import add_backend, add_scorer, add_workspace, given_params


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_workspace(parser)
    add_scorer(parser)
    add_backend(parser)
    parser.add_argument(
        "--for",
        choices=("score", "pipeline"),
        dest="purpose",
        help="what it is to be valid for (default: scoring where there are predictions and nothing to run, else a "
        "pipeline)",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    from .custom import command_scoring

    with command_scoring(args) as scoring:
        return scoring.validate(
            args.workspace,
            scorer=args.scorer,
            params=given_params(args),
            backend=args.backend,
            purpose=args.purpose,
        )


def render(data: dict[str, Any], args: argparse.Namespace) -> None:
    image = {"reference": "named in meta.json", "archive": "the archive in the workspace", "build": "the Dockerfile"}
    words = {"score": "scoring", "pipeline": "a pipeline"}
    print(f"{data['job_id']}: valid for {' and '.join(words[each] for each in data['valid_for'])}")
    print(f"  scorer  {data['scorer']}")
    if data["valid_for"] == ["score"] and args.purpose is None:
        print("  image   none: to run it, give it one (container.image, image.tar or a Dockerfile)")
    if data["image"]:
        print(f"  image   {image[data['image']]}")
