"""``autoscorer score``."""

from __future__ import annotations

import argparse
from typing import Any

from .arguments import add_scorer, add_workspace, given_params, raise_failure
from .output import print_result
from .progress import progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_workspace(parser)
    add_scorer(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    from .custom import command_scoring

    with progress(not args.json) as observer, command_scoring(args) as scoring:
        result = scoring.score(args.workspace, scorer=args.scorer, params=given_params(args), observer=observer)
    raise_failure(result)
    return result.to_dict()


def render(data: dict[str, Any], args: argparse.Namespace) -> None:
    print_result(data, args.workspace)
