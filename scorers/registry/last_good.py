"""What is known of scorer files, in the home: copies of them as they last loaded, and what those registered.

A long-lived process keeps the last good version of a file that no longer loads. A run has a process of its own, which
never saw that version: without a copy it would know no such scorer, while the listing says that one is in use. What a
file registers is kept beside its copy, so that a run can tell which file it needs without running any of them.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import AutoScorerError
from ...core.workspace import write_atomic
from .files import read_source, source_sha256

__all__ = ["GoodCopy", "LastGood"]

# A file that does not load is not tried again before this many times the seconds that it took, unless it changes: one
# that hangs for half a minute costs a run that half a minute once in half an hour.
_RETRY_FACTOR = 60.0
_RETRY_AT_LEAST, _RETRY_AT_MOST = 5.0, 3600.0


@dataclass(frozen=True)
class GoodCopy:
    """A scorer file as it last loaded.

    Args:
        path: The file.
        files: It and its siblings, by path.
        scorers: What it registered, id to version; empty when an earlier version of AutoScorer kept it.
    """

    path: Path
    files: Mapping[Path, bytes]
    scorers: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """As JSON, for another process or home."""
        return {
            "path": str(self.path),
            "scorers": dict(self.scorers),
            "files": {str(name): base64.b64encode(data).decode("ascii") for name, data in self.files.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> GoodCopy:
        """It again, from ``to_dict``."""
        files = {Path(name): base64.b64decode(text) for name, text in data["files"].items()}
        return cls(Path(data["path"]), files, dict(data["scorers"]))

    @property
    def sha256s(self) -> dict[Path, str]:
        """The sha256 of each file."""
        return {name: hashlib.sha256(data).hexdigest() for name, data in self.files.items()}

    def is_present(self) -> bool:
        """Whether these very bytes lie on the disk now."""
        try:
            return all(read_source(name) == data for name, data in self.files.items())
        except OSError:
            return False


class LastGood:
    """The copies of one installation.

    Args:
        home: ``settings.home``.
    """

    def __init__(self, home: Path) -> None:
        self._folder = home / "scorers-good"

    def save(self, path: Path, files: Mapping[Path, str], scorers: Mapping[str, str]) -> None:
        """Keep a file that has just loaded, with all it imports beside it.

        Nothing is kept when a file has changed meanwhile, or the home can't be written: the next load keeps it then.

        Args:
            path: The scorer file.
            files: It and its siblings, with their sha256 ("" for one that is not there).
            scorers: What it registered, id to version.
        """
        known = self.read(path)
        if (
            known is not None
            and dict(known.scorers) == dict(scorers)
            and known.sha256s == {name: sha256 for name, sha256 in files.items() if sha256}
        ):
            return
        with contextlib.suppress(OSError):
            copy = GoodCopy(path, {name: read_source(name) for name, sha256 in files.items() if sha256}, scorers)
            if all(files[name] == sha256 for name, sha256 in copy.sha256s.items()):
                self.keep(copy)

    def keep(self, copy: GoodCopy) -> None:
        """Write a copy down; nothing when the home can't be written."""
        with contextlib.suppress(OSError):
            self.put(copy.path, json.dumps(copy.to_dict(), sort_keys=True).encode())

    def put(self, path: Path, text: bytes, *, untried: bool = False) -> None:
        """Write a copy down as ``text`` says.

        Args:
            path: The scorer file.
            text: What ``text`` gives, of this home or of another.
            untried: It comes from another host, and was never loaded on this one.

        Raises:
            OSError: The home can't be written.
        """
        if untried:
            write_atomic(self._place(path, ".untried"), b"", mode=0o600)
        write_atomic(self._place(path), text, mode=0o600)
        self._place(path, ".failed").unlink(missing_ok=True)
        if not untried:
            self.set_tried(path)

    def is_untried(self, path: Path) -> bool:
        """Whether a copy has come from another host, and nobody on this one knows that it loads."""
        return self._place(path, ".untried").exists()

    def set_tried(self, path: Path) -> None:
        """Note that a copy loads here."""
        with contextlib.suppress(OSError):
            self._place(path, ".untried").unlink(missing_ok=True)

    def text(self, path: Path) -> bytes | None:
        """The copy of a file as it is written; None when there is none."""
        try:
            return self._place(path).read_bytes()
        except OSError:
            return None

    def load(self, path: Path) -> dict[Path, bytes] | None:
        """The files as they last loaded; None when they never did."""
        found = self.read(path)
        return dict(found.files) if found is not None else None

    def read(self, path: Path) -> GoodCopy | None:
        """The copy of a file; None when it never loaded."""
        return _copy(self._place(path), path)

    def all(self) -> dict[Path, GoodCopy]:
        """Every copy, by path."""
        try:
            places = sorted(self._folder.glob("*.json"))
        except OSError:
            return {}
        found = (_copy(place) for place in places)
        return {copy.path: copy for copy in found if copy is not None}

    def forget(self, path: Path) -> None:
        """Drop the copy of a file that has gone."""
        with contextlib.suppress(OSError):
            self._place(path).unlink(missing_ok=True)

    # --- those that do not load --------------------------------------------------------------------------------

    def keep_failure(self, path: Path, state: Mapping[Path, str], error: AutoScorerError, *, seconds: float) -> None:
        """Note that a file does not load as it is, so that not every run tries it again.

        Args:
            path: The scorer file.
            state: It and its siblings, with their sha256 ("" for one that is not there).
            error: Why.
            seconds: How long it took to find out.
        """
        until = time.time() + min(max(_RETRY_FACTOR * seconds, _RETRY_AT_LEAST), _RETRY_AT_MOST)
        note = {"state": {str(n): s for n, s in state.items()}, "error": error.to_dict(), "until": until}
        with contextlib.suppress(OSError):
            write_atomic(self._place(path, ".failed"), json.dumps(note).encode(), mode=0o600)

    def failure(self, path: Path) -> AutoScorerError | None:
        """Why a file did not load the last time, if it is the same still and that was not long ago."""
        try:
            note: dict[str, Any] = json.loads(self._place(path, ".failed").read_bytes())
            left = note["until"] - time.time()
            # A clock that was put back must not make it last for ever.
            if not 0 < left <= _RETRY_AT_MOST or any(
                source_sha256(Path(name)) != sha for name, sha in note["state"].items()
            ):
                return None
            return AutoScorerError.from_dict(note["error"])
        except (OSError, ValueError, TypeError, AttributeError, KeyError):
            return None

    def _place(self, path: Path, suffix: str = ".json") -> Path:
        return self._folder / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}{suffix}"


def _copy(place: Path, path: Path | None = None) -> GoodCopy | None:
    try:
        data = json.loads(place.read_bytes())
        if "files" not in data:  # of an earlier version, which kept the files alone
            data = {"path": str(path), "scorers": {}, "files": data} if path is not None else {}
        copy = GoodCopy.from_dict(data)
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return None
    return copy if copy.path in copy.files else None
