"""Copies of scorer files as they last loaded, in the home.

A long-lived process keeps the last good version of a file that no longer loads. A run has often a process of its own,
which never saw that version: without a copy it would know no such scorer, while the listing says that one is in use.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from ..core.workspace import write_atomic
from .loading import read_source

__all__ = ["LastGood"]


class LastGood:
    """The copies of one installation.

    Args:
        home: ``settings.home``.
    """

    def __init__(self, home: Path) -> None:
        self._folder = home / "scorers-good"

    def save(self, path: Path, files: Mapping[Path, str]) -> None:
        """Keep a file that has just loaded, with all it imports beside it.

        Nothing is kept when a file has changed meanwhile, or the home can't be written: the next load keeps it then.

        Args:
            path: The scorer file.
            files: It and its siblings, with their sha256 ("" for one that is not there).
        """
        known = self._read(path)
        if known is not None and {name: hashlib.sha256(data).hexdigest() for name, data in known.items()} == {
            name: sha256 for name, sha256 in files.items() if sha256
        }:
            return
        try:
            copies = {name: read_source(name) for name, sha256 in files.items() if sha256}
            if any(hashlib.sha256(data).hexdigest() != files[name] for name, data in copies.items()):
                return
            text = json.dumps({str(name): base64.b64encode(data).decode("ascii") for name, data in copies.items()})
            write_atomic(self._place(path), text.encode(), mode=0o600)
        except OSError:
            return

    def load(self, path: Path) -> dict[Path, bytes] | None:
        """The files as they last loaded; None when they never did."""
        found = self._read(path)
        return found if found is not None and path in found else None

    def _read(self, path: Path) -> dict[Path, bytes] | None:
        try:
            data = json.loads(self._place(path).read_bytes())
            return {Path(name): base64.b64decode(text) for name, text in data.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return None

    def _place(self, path: Path) -> Path:
        return self._folder / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}.json"
