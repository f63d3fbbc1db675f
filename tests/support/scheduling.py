"""Which tests run in one process: those of a file, and those of files that share a server."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from xdist.scheduler import LoadFileScheduling

__all__ = ["Together"]

# A server of the session is started by each process that has a test with it, and costs its share of the processor to
# the end, also while nobody asks it anything. By what tests and fixtures call it, which have it as a parameter.
_SHARED = {
    name: re.compile(rf"^def \w+\([^)]*\b{parameter}\b", re.MULTILINE)
    for name, parameter in {"installation": "installation: Installation", "server": "server: PrefectServer"}.items()
}


class Together(LoadFileScheduling):
    """Gives a process a file at a time, or all files that share a server."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return _shares(file) or file


@cache
def _shares(file: str) -> str | None:
    # A test's name is relative to the checkout, from which scripts/test starts pytest.
    path = Path(__file__).parents[2] / file
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return next((name for name, used in _SHARED.items() if used.search(text)), None)
