"""``autoscorer evaluate``: make a submission to a benchmark, run it and score it, here."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from ..core.errors import AutoScorerError, ErrorCode
from .arguments import add_backend, raise_failure
from .output import print_result
from .progress import progress

__all__ = ["add_arguments", "render", "run"]

Json = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("benchmark", metavar="BENCHMARK", help="folder with benchmark.json and input/")
    parser.add_argument("directory", metavar="DIR", nargs="?", help="submit a folder with a Dockerfile")
    what = parser.add_argument_group("what is submitted in its place")
    what.add_argument("--image", metavar="IMAGE", help="an image, by its reference")
    what.add_argument("--archive", metavar="FILE", help="an image, as docker save writes it")
    what.add_argument("--predictions", metavar="FILE", help="predictions alone: CSV, JSON, JSON lines or Parquet")
    parser.add_argument("--cmd", metavar="COMMAND", help="what is run in the image (default: the image's own command)")
    parser.add_argument("--team", metavar="TEAM", default="local", help="whose it is (default: %(default)s)")
    parser.add_argument("--label", metavar="TEXT", help="your own words for it")
    add_backend(parser)
    parser.epilog = (
        "Examples: autoscorer evaluate iris --predictions pred.csv --team team-a; "
        "autoscorer evaluate iris ./my-model --team team-a --label 'deeper trees'"
    )


def run(args: argparse.Namespace) -> Json:
    from ..tasks.benchmarks.evaluate import evaluate
    from .custom import command_scoring

    source = _source(args)
    with progress(not args.json) as observer, command_scoring(args) as scoring:
        root, result = evaluate(
            args.benchmark,
            source,
            team=args.team,
            label=args.label,
            backend=args.backend,
            settings=args.settings,
            observer=observer,
            scoring=scoring,
        )
    raise_failure(result)
    return {**result.to_dict(), "submission": {"team": args.team, "number": int(root.name), "workspace": str(root)}}


def _source(args: argparse.Namespace) -> Any:
    from ..tasks.benchmarks.adding import Source

    given = [name for name in ("directory", "image", "archive", "predictions") if getattr(args, name) is not None]
    if len(given) != 1:
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            "Submit one of DIR, --image IMAGE, --archive FILE and --predictions FILE"
            + (f"; got {' and '.join(given)}." if given else "."),
        )
    container: Json = {}
    if args.cmd is not None:
        if given == ["predictions"]:
            raise AutoScorerError(ErrorCode.INVALID_REQUEST, "--cmd is for a model; predictions run nothing.")
        container["cmd"] = shlex.split(args.cmd)
    match given[0]:
        case "image":
            return Source("image", container={"image": args.image, **container})
        case "archive":
            return Source("archive", Path(args.archive), container)
        case "predictions":
            return Source("predictions", Path(args.predictions))
        case _:
            return Source("dockerfile", Path(args.directory), container)


def render(data: Json, args: argparse.Namespace) -> None:
    submission = data["submission"]
    print_result(data, submission["workspace"])
    print(f"submission {submission['number']} of {submission['team']}: {submission['workspace']}")
