"""``autoscorer pipeline``."""

from __future__ import annotations

import argparse
from typing import Any

from .arguments import add_backend, add_scorer, add_workspace, given_params, raise_failure
from .output import print_result
from .progress import progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_workspace(parser)
    add_scorer(parser)
    add_backend(parser)
    parser.add_argument("--track", action="store_true", help="record the run at the configured Prefect server")


def run(args: argparse.Namespace) -> dict[str, Any]:
    params = given_params(args)
    if args.track:
        from .tracked import run_tracked

        result = run_tracked(args, params)
    else:
        from ..tasks.pipeline import run_pipeline
        from .custom import command_scoring

        with progress(not args.json) as observer, command_scoring(args) as scoring:
            result = run_pipeline(
                args.workspace,
                settings=args.settings,
                backend=args.backend,
                scorer=args.scorer,
                params=params,
                observer=observer,
                scoring=scoring,
            )
    raise_failure(result)
    return result.to_dict()


def render(data: dict[str, Any], args: argparse.Namespace) -> None:
    print_result(data, args.workspace)
