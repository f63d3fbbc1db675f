"""``autoscorer worker``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from ..core.errors import AutoScorerError, ErrorCode


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pool",
        metavar="NAME",
        action="append",
        default=[],
        dest="pools",
        help="work pool to take runs from; may be given several times (default: both of the configuration)",
    )
    parser.add_argument("--name", metavar="NAME", help="the worker's name in Prefect (default: host and process)")
    parser.add_argument(
        "--limit", metavar="N", type=int, help="runs at a time (default: what the pools may have together)"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    if args.limit is not None and args.limit < 1:
        raise AutoScorerError(ErrorCode.INVALID_REQUEST, f"--limit expects 1 or more, got {args.limit}.")
    if args.config:
        # The processes that work on the runs read the configuration themselves.
        os.environ["AUTOSCORER_CONFIG"] = str(Path(args.config).expanduser().absolute())
    from ..core.logs import log_to_stderr
    from ..service.logs import tell_configuration
    from ..worker.worker import run_worker

    log_to_stderr(as_json=args.json or not sys.stderr.isatty())
    tell_configuration(args.settings)
    return run_worker(args.settings, pools=args.pools, name=args.name, limit=args.limit)


def render(data: dict[str, Any], args: argparse.Namespace) -> None:
    print(f"{data['worker']} has stopped; it took {data['runs']} runs.")
