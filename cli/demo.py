"""``autoscorer demo``: the three examples end to end, on a copy."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from ..core.errors import AutoScorerError, ErrorCode
from ..schemas.result import Result
from .progress import progress

EXAMPLES = ("classification", "regression", "detection")
_NOT_COPIED = shutil.ignore_patterns("output", "logs", ".*", "__*")
_BEST_FIRST = ("docker", "bubblewrap", "process")
# What says that a backend can't run the examples on this machine, and not that an example is broken.
_NOT_HERE = (ErrorCode.BACKEND_UNAVAILABLE, ErrorCode.IMAGE_PULL_FAILED, ErrorCode.IMAGE_BUILD_FAILED)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dir", metavar="DIR", default="autoscorer-demo", help="where the copies go (default: ./autoscorer-demo)"
    )
    parser.add_argument(
        "--backend",
        choices=("auto", "bubblewrap", "docker", "process"),
        help="auto: docker where it works, else bubblewrap, else process (default)",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    target = Path(args.dir)
    rows: list[dict[str, Any]] = []
    note = ""
    asked = args.backend or "auto"
    backends = [*_BEST_FIRST] if asked == "auto" else [asked]
    for name in EXAMPLES:
        workspace = _copy(name, target)
        started = time.monotonic()
        result, told = _first_that_works(workspace, backends, args)
        note = told or note
        used = backends[0]
        if result.error is not None:
            error = result.error
            raise AutoScorerError(
                error.code, f"The example {name} failed: {error.message}", stage=error.stage, details=error.details
            )
        data = result.to_dict()
        print(f"{name}: {data['summary']['score']:.4f} ({data['versioning']['scorer']}, {used})", file=sys.stderr)
        rows.append(
            {
                "example": name,
                "backend": used,
                "scorer": data["versioning"]["scorer"],
                "score": data["summary"]["score"],
                "interval": _main_interval(data),
                "pass": data["summary"]["pass"],
                "seconds": round(time.monotonic() - started, 2),
                "report": str((workspace / data["artifacts"]["report"]["path"]).absolute()),
            }
        )
    return {"examples": rows, "note": note or None}


def _first_that_works(workspace: Path, backends: list[str], args: argparse.Namespace) -> tuple[Result, str]:
    """Run an example on the first backend that can, and say what that means; those that can't go from the list."""
    note = ""
    while True:
        result = _pipeline(workspace, backends[0], args)
        if result.error is None or result.error.code not in _NOT_HERE or len(backends) == 1:
            return result, note
        why = f"{backends.pop(0)} can't run them here. {result.error.code}: {result.error.message}"
        how = "sealed by bubblewrap" if backends[0] == "bubblewrap" else "UNSEALED, as processes"
        note = f"The examples ran {how}, because {why}"
        print(note, file=sys.stderr)


def _pipeline(workspace: Path, backend: str, args: argparse.Namespace) -> Result:
    from ..tasks.pipeline import run_pipeline

    with progress(not args.json) as observer:
        return run_pipeline(workspace, settings=args.settings, backend=backend, observer=observer)


def _copy(name: str, target: Path) -> Path:
    """A fresh copy of an example: nobody's installation is written to, and a second demo starts like the first."""
    workspace = target / name
    source = Path(__file__).resolve().parent.parent / "examples" / name
    try:
        if (workspace / "meta.json").exists():
            for part in ("input", "output", "logs"):
                shutil.rmtree(workspace / part, ignore_errors=True)
        shutil.copytree(
            source, workspace, dirs_exist_ok=True, ignore=shutil.ignore_patterns("output", "logs", ".*", "__*")
        )
    except OSError as error:
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            f"The demo can't write to {str(target)!r}: {error.strerror or error}. Give --dir.",
        ) from error
    return workspace


def _main_interval(data: dict[str, Any]) -> list[float] | None:
    for name, interval in data["intervals"].items():
        if name in data["summary"]:
            return [interval["low"], interval["high"]]
    return None


def render(data: dict[str, Any], args: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    from .output import number

    # Fits the 80 columns that a terminal has at least.
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for column in ("example", "scorer", "backend"):
        table.add_column(column, no_wrap=True)
    for column in ("score", "95 % interval", "time"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("pass")
    for row in data["examples"]:
        low, high = row["interval"] or (None, None)
        table.add_row(
            row["example"],
            row["scorer"],
            row["backend"],
            number(row["score"]),
            f"{number(low)} – {number(high)}" if row["interval"] else "–",
            f"{row['seconds']:.1f} s",
            {True: "yes", False: "no", None: "–"}[row["pass"]],
        )
    console = Console(highlight=False)
    console.print(table)
    console.print("Reports:")
    for row in data["examples"]:
        # Not through the console, which would break a long path.
        print(f"  {row['report']}")
    if data["note"]:
        console.print(data["note"], style="yellow")
