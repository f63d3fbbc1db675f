"""``autoscorer evaluate``: make a submission to a benchmark, run it and score it, here."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from ..core.errors import AutoScorerError, ErrorCode
from .api_client import add_api
from .arguments import add_backend, raise_failure
from .output import print_result
from .progress import progress
from .waiting import add_wait

__all__ = ["add_arguments", "render", "run"]

Json = dict[str, Any]

# Whose a submission is that somebody makes here and does not say.
_LOCAL = "local"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("benchmark", metavar="BENCHMARK", help="folder with benchmark.json and input/")
    parser.add_argument("directory", metavar="DIR", nargs="?", help="submit a folder with a Dockerfile")
    what = parser.add_argument_group("what is submitted in its place")
    what.add_argument("--image", metavar="IMAGE", help="an image, by its reference")
    what.add_argument("--archive", metavar="FILE", help="an image, as docker save writes it")
    what.add_argument("--predictions", metavar="FILE", help="predictions alone: CSV, JSON, JSON lines or Parquet")
    parser.add_argument("--cmd", metavar="COMMAND", help="what is run in the image (default: the image's own command)")
    parser.add_argument("--team", metavar="TEAM", help="whose it is (default: local, or the token's)")
    parser.add_argument("--label", metavar="TEXT", help="your own words for it")
    add_backend(parser)
    parser.add_argument(
        "--remote", action="store_true", help="hand it to the API, which names BENCHMARK; a team's token says the team"
    )
    parser.add_argument(
        "--idempotency-key", metavar="KEY", help="with --remote: the same key again stands for the same submission"
    )
    add_wait(parser)
    add_api(parser)
    parser.epilog = (
        "Examples: autoscorer evaluate iris --predictions pred.csv --team team-a; "
        "autoscorer evaluate iris ./my-model --team team-a --label 'deeper trees'; "
        "autoscorer evaluate iris --predictions pred.csv --remote --wait"
    )


def run(args: argparse.Namespace) -> Json:
    return _handed_in(args) if args.remote else _evaluated(args)


def _handed_in(args: argparse.Namespace) -> Json:
    """The submission that the API has accepted; with ``--wait`` with its task as it is when that is over."""
    from .api_client import connect
    from .submit import waited

    if args.directory is not None:
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            "A folder is built where it lies: hand in an image, its archive or predictions, or leave out --remote.",
        )
    source = _source(args)
    with connect(args) as client:
        handed = client.hand_in(
            args.benchmark,
            image=args.image,
            cmd=source.container.get("cmd"),
            predictions=args.predictions,
            archive=args.archive,
            team=args.team,
            label=args.label,
            backend=args.backend,
            idempotency_key=args.idempotency_key,
        )
        return {**handed, "task": waited(client, client.task(handed["task"]["id"]), args)}


def _evaluated(args: argparse.Namespace) -> Json:
    for option in ("api", "wait", "idempotency_key"):
        if getattr(args, option) is not None:
            raise AutoScorerError(ErrorCode.INVALID_REQUEST, f"--{option.replace('_', '-')} goes with --remote.")
    from ..tasks.benchmarks.evaluate import evaluate
    from .custom import command_scoring

    source = _source(args)
    with progress(not args.json) as observer, command_scoring(args) as scoring:
        root, result = evaluate(
            args.benchmark,
            source,
            team=args.team or _LOCAL,
            label=args.label,
            backend=args.backend,
            settings=args.settings,
            observer=observer,
            scoring=scoring,
        )
    raise_failure(result)
    made = {"team": root.parent.name, "number": int(root.name), "workspace": str(root)}
    return {**result.to_dict(), "submission": made}


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
    if args.remote:
        from .submit import render as render_task

        render_task(data["task"], args)
        left = data["quota"] or {}
        told = {"today": left.get("left_today"), "in all": left.get("left"), "at once": left.get("at_once_left")}
        shown = ", ".join(f"{count} {what}" for what, count in told.items() if count is not None)
        print(f"{data['workspace']}" + (f"; left: {shown}" if shown else ""))
        return
    submission = data["submission"]
    print_result(data, submission["workspace"])
    print(f"submission {submission['number']} of {submission['team']}: {submission['workspace']}")
