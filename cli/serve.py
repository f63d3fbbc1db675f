"""``autoscorer serve``."""

from __future__ import annotations

import argparse
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", metavar="HOST", help="address to listen on (default: configuration, api.host)")
    parser.add_argument("--port", metavar="PORT", type=int, help="port, 0 for any (default: configuration, api.port)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    from ..api.server import serve

    api = args.settings.api
    host = args.host if args.host is not None else api.host
    port = args.port if args.port is not None else api.port
    serve(args.settings, host, port)
    return {"host": host, "port": port}


def render(data: dict[str, Any], args: argparse.Namespace) -> None:
    print("The API has stopped.")
