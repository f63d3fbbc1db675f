"""``autoscorer deploy``."""

from __future__ import annotations

import argparse
from typing import Any, get_args

from ..core.errors import AutoScorerError, ErrorCode
from ..service.prefect.pools import PoolType
from .arguments import parse_params


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pool", metavar="NAME", help="work pool of pipeline, run and batch (default: configuration)")
    parser.add_argument("--score-pool", metavar="NAME", help="work pool of score and validate (default: configuration)")
    parser.add_argument("--type", choices=get_args(PoolType), help="type of the first pool (default: process)")
    parser.add_argument(
        "--variable",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="default in that pool's job template, such as image=registry/autoscorer:1; may be given several times",
    )
    parser.add_argument("--cron", metavar="CRON", help='when nightly-batch runs, such as "0 2 * * *"')
    parser.add_argument("--timezone", metavar="NAME", help="timezone of --cron (default: UTC)")
    parser.add_argument(
        "--workspaces",
        metavar="PATH",
        action="append",
        default=[],
        help="what nightly-batch works on, as the worker sees it; may be given several times",
    )
    parser.add_argument(
        "--wait", metavar="SECONDS", type=_seconds, default=0.0, help="wait so long for a server that is starting"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    import asyncio

    from ..service.ledger.maintenance import upgrade_if_there
    from ..service.prefect.deploy import Nightly, deploy

    nightly = None
    if args.cron:
        nightly = Nightly(args.cron, args.timezone or "UTC", tuple(args.workspaces))
    elif args.workspaces or args.timezone:
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST, "--workspaces and --timezone are for --cron, which says when; give it too."
        )
    variables = parse_params(args.variable, option="--variable")

    async def upgraded_and_deployed() -> dict[str, Any]:
        await upgrade_if_there(args.settings)
        return await deploy(
            args.settings,
            pool=args.pool,
            score_pool=args.score_pool,
            type=args.type,
            variables=variables,
            nightly=nightly,
            patience=args.wait,
        )

    return asyncio.run(upgraded_and_deployed())


def render(data: dict[str, Any], args: argparse.Namespace) -> None:
    for pool in data["pools"]:
        kept = f", kept as changed by hand: {', '.join(pool['kept'])}" if pool["kept"] else ""
        print(f"{pool['change']:<10} pool {pool['name']} ({pool['type']}, {pool['concurrency_limit']} at a time{kept})")
    for deployment in data["deployments"]:
        print(f"{deployment['change']:<10} {deployment['name']} in {deployment['pool']}")


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86400:  # not a number is refused here, too
        raise argparse.ArgumentTypeError(f"expected seconds from 0 to 86400, got {text!r}")
    return value
