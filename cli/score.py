"""``autoscorer score``: of a workspace, or of two files with nothing around them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..core.errors import AutoScorerError, ErrorCode
from .arguments import add_scorer, given_params, raise_failure
from .output import print_result
from .progress import progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workspace", metavar="WORKSPACE", nargs="?", help="folder with meta.json and input/")
    files = parser.add_argument_group("two files in place of a workspace")
    files.add_argument("--truth", metavar="FILE", help="the ground truth: CSV, JSON, JSON lines or Parquet")
    files.add_argument("--predictions", metavar="FILE", help="what is scored against it")
    files.add_argument(
        "--out", metavar="DIR", help="folder to make: a workspace of both files, with Result, plots and report"
    )
    add_scorer(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    from .custom import command_scoring

    params = given_params(args)
    with progress(not args.json) as observer, command_scoring(args) as scoring:
        if _is_of_files(args):
            from ..tasks.score_files import ScoredFiles

            files = ScoredFiles(Path(args.truth), Path(args.predictions), args.out and Path(args.out))
            with files.workspace(args.scorer, params) as workspace:
                result = files.named(scoring.score(workspace, observer=observer))
        else:
            result = scoring.score(args.workspace, scorer=args.scorer, params=params, observer=observer)
    raise_failure(result)
    return result.to_dict()


def _is_of_files(args: argparse.Namespace) -> bool:
    """Whether two files are to be scored.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` where it is not clear what is.
    """
    given = [option for option in ("truth", "predictions", "out") if getattr(args, option) is not None]
    if args.workspace is not None:
        if given:
            raise _unclear(f"A WORKSPACE was given, and --{given[0]}, which is for two files without one.")
        return False
    if "truth" not in given or "predictions" not in given:
        raise _unclear("Give a WORKSPACE, or --truth FILE and --predictions FILE.")
    if args.scorer is None:
        raise _unclear("Two files do not say how they are scored: give --scorer ID (`autoscorer scorers list`).")
    return True


def _unclear(message: str) -> AutoScorerError:
    return AutoScorerError(ErrorCode.INVALID_REQUEST, message)


def render(data: dict[str, Any], args: argparse.Namespace) -> None:
    print_result(data, args.workspace or args.out or "")
