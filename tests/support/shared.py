"""Servers that many tests share, and their end: not with the session, but once no later test needs them.

An idle Prefect server takes a tenth of a core, and each of the processes that run the tests has its own, as it has a
Chromium. So the files whose tests share one come first, one after the other, and it ends where they do.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

__all__ = ["end_unneeded", "in_order", "until_unneeded"]

# Fixtures of such servers, in the order in which the files that use them come.
SHARED = ("installation", "server", "chromium")
_HEAVY = "system"
# It waits for minutes, for workers to fall silent and for a schedule: begun last, it would keep everybody waiting.
_FIRST = "test_work_pools.py"

# These take minutes, too, and stand where they would be begun last.
_LONG = ("test_score_jobs.py", "test_scoring_process.py", "test_ledger_model.py", "test_quotas.py", "test_weakened.py")

_ends: dict[str, Callable[[], None]] = {}
_needed: dict[str, set[Path]] = {}


def in_order(items: list[pytest.Item]) -> None:
    """Sort tests: files that share a server together, and each file of ``tests/system`` among lighter ones.

    Whole installations are what those start: three at a time are much for two cores.
    """
    uses: dict[Path, set[str]] = {}
    for item in items:
        uses.setdefault(item.path, set()).update({*SHARED} & {*getattr(item, "fixturenames", ())})
    # One that shares a server, and came late, would keep that and all that goes with it alive for everybody.
    heavy = [path for path, shared in uses.items() if path.parent.name == _HEAVY and not shared]
    heavy.sort(key=lambda path: path.name != _FIRST)
    light = sorted(
        (path for path in uses if path not in heavy),
        key=lambda path: (
            min((SHARED.index(name) for name in uses[path]), default=len(SHARED)),
            path.name not in _LONG,
        ),
    )
    # The first of all at the start, the last one well before the end.
    place = {path: number * len(light) / len(heavy) - 0.5 for number, path in enumerate(heavy)}
    place |= {path: float(number) for number, path in enumerate(light)}
    items.sort(key=lambda item: place[item.path])
    order = sorted(place, key=lambda path: place[path])
    for name in SHARED:
        last = max((order.index(path) for path in order if name in uses[path]), default=-1)
        _needed[name] = {*order[: last + 1]}


def until_unneeded(name: str, end: Callable[[], None]) -> None:
    """Have a server ended before its fixture is; ending it twice must do no harm.

    Args:
        name: Of the fixture.
        end: Ends it.
    """
    # A module that imports the fixture, which all tests have from conftest.py, would start a second one.
    assert name not in _ends, f"there are two of {name}, and the first would idle until the end"
    _ends[name] = end


def end_unneeded(path: Path) -> None:
    """End the servers that no test of this file or of a later one needs."""
    for name in [name for name in _ends if path not in _needed.get(name, {path})]:
        _ends.pop(name)()
