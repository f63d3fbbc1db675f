"""What the commands show on a terminal: the same everywhere, and rich only where something is shown."""

from __future__ import annotations

import argparse
import io
import subprocess
import sys

import pytest
from autoscorer.cli import terminal
from autoscorer.cli.output import bounds
from rich.console import Console


def test_rich_is_imported_when_something_is_shown_and_not_before() -> None:
    program = "import sys, autoscorer.cli.output, autoscorer.cli.terminal; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


@pytest.mark.parametrize(
    ("interval", "shown"),
    [
        ({"low": 0.25, "high": 0.5}, "[0.25, 0.5]"),
        ({"low": None, "high": None}, ""),
        ({}, ""),
        (None, ""),
    ],
)
def test_an_interval_is_shown_where_there_is_one(interval: dict[str, float] | None, shown: str) -> None:
    assert bounds(interval) == shown


@pytest.mark.parametrize(
    ("json", "is_tty", "watched"), [(False, True, True), (True, True, False), (False, False, False)]
)
def test_a_command_is_watched_by_a_person_at_a_terminal(
    json: bool, is_tty: bool, watched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stderr = io.StringIO()
    stderr.isatty = lambda: is_tty  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", stderr)
    assert terminal.is_watched(argparse.Namespace(json=json)) is watched


def test_a_batch_is_counted_in_a_bar() -> None:
    out = io.StringIO()
    with terminal.counting_bar(console=Console(file=out, width=100)) as bar:
        bar.add_task("running", total=4, completed=3, counts="2 completed, 1 failed")
    assert all(piece in out.getvalue() for piece in ("running", "3/4", "2 completed, 1 failed"))
