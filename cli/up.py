"""``autoscorer up``."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from typing import Any

DATABASE = "PREFECT_API_DATABASE_CONNECTION_URL"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", metavar="ADDRESS", help="address of the API (default: api.host, 127.0.0.1)")
    parser.add_argument(
        "--api-port", metavar="N", type=_port, help="port of the API, 0 for any free one (default: api.port, 8000)"
    )
    parser.add_argument(
        "--prefect-port", metavar="N", type=_port, default=4200, help="port of Prefect's server (default: 4200)"
    )
    parser.add_argument(
        "--database",
        metavar="URL",
        help=f"database of Prefect's server, postgresql+asyncpg://… (default: {DATABASE}, or SQLite)",
    )
    parser.add_argument("--workers", metavar="N", type=_count, default=1, help="worker processes (default: 1)")


def run(args: argparse.Namespace) -> None:
    import asyncio

    from pydantic import SecretStr

    from ..api.access import access_of
    from ..service.installation.supervisor import Options, up
    from ..service.logs import tell_configuration

    if args.database is not None:
        _hide(args.database)
    _log_to_stderr()
    tell_configuration(args.settings)
    database = os.environ.get(DATABASE)
    arguments = [] if args.config is None else ["--config", os.path.abspath(args.config)]
    for folder in args.scorers_dirs:
        arguments += ["--scorers", os.path.abspath(folder)]
    options = Options(
        host=args.settings.api.host if args.host is None else args.host,
        api_port=args.settings.api.port if args.api_port is None else args.api_port,
        prefect_port=args.prefect_port,
        workers=args.workers,
        database=SecretStr(database) if database else None,
        arguments=tuple(arguments),
    )
    # Here, before the API does it in a process whose words go into a log: a new token is shown by this command.
    access = access_of(args.settings)

    def announce(data: dict[str, Any]) -> None:
        link = access.sign_in(data["api"])
        args.announce({**data, "access": access.sentence, **({"sign_in": link} if link is not None else {})})

    asyncio.run(up(args.settings, options, announce))


def render(data: dict[str, Any], args: argparse.Namespace) -> None:
    print(f"AutoScorer is up after {data['seconds']:.0f} s. Ctrl-C stops it.")
    for name, what in (
        ("api", "API"),
        ("records", "Records"),
        ("prefect", "Prefect UI"),
        ("logs", "Logs"),
        ("access", "Serves"),
        ("sign_in", "Sign in"),
    ):
        if name in data:
            print(f"  {what:<11}{data[name]}")


def _hide(url: str) -> None:
    """Begin again with the address in the environment: it holds a password, and arguments are seen by ``ps``."""
    os.environ[DATABASE] = url
    shown = [argument for argument in sys.orig_argv if url in argument]
    if not shown:
        return
    kept: list[str] = []
    arguments = iter(sys.orig_argv)
    for argument in arguments:
        if argument == "--database":
            next(arguments, None)
        elif not (argument.startswith("--database=") or argument in shown):
            kept.append(argument)
    os.execv(sys.executable, [sys.executable, *kept[1:]])  # noqa: S606 - no shell is what we want


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    for name in ("autoscorer.up", "autoscorer.configuration"):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False


def _port(text: str) -> int:
    return _number(text, 0, 65535)


def _count(text: str) -> int:
    return _number(text, 1, 64)


def _number(text: str, low: int, high: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(f"expected a number from {low} to {high}, got {text!r}")
    return value
