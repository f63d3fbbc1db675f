"""Which file a run needs for its scorer, told without running the others.

``<home>/scorers-good`` holds what each file registered when it last loaded. So a run of one scorer runs one file, and
one of a built-in runs no file at all: what somebody saves elsewhere, a file that hangs, ends its process or is half
written, is not met. The file that is needed is tried in a process of its own when it has changed since it last loaded;
the run then gets the bytes that were tried, or those of the last good version.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...core.config import Settings
from ...core.errors import AutoScorerError
from .builtin import BUILTIN_MODULES
from .entry import LoadFailure, ScorerEntry
from .files import is_there, scorer_files
from .last_good import GoodCopy, LastGood
from .loader import load_error
from .manifest import ManifestFile, configured_places, pinned_files
from .registry import ScorerRegistry
from .snapshot import FileOrigin
from .trial import try_import
from .watcher import GONE_AFTER

__all__ = ["Needed", "find_needed"]

logger = logging.getLogger(__name__)

# Seconds between two looks at a file that is being saved.
_LOOK = 0.05
# Seconds for which a run waits at most for a file that is saved again and again.
_PATIENCE = 10.0


@dataclass(frozen=True)
class Needed:
    """What a process has to load before it knows a scorer.

    Args:
        scorer_id: The scorer.
        copy: The file to load, and its bytes; None for a built-in, for a scorer of a package, for one that nobody has.
        origin: How the file is known.
        failure: Why the file on the disk does not load, where ``copy`` is its last good version.
        known: Ids that other files register.
        failures: Other files that do not load.
    """

    scorer_id: str
    copy: GoodCopy | None = None
    origin: FileOrigin = "file"
    failure: AutoScorerError | None = None
    known: tuple[str, ...] = ()
    failures: tuple[LoadFailure, ...] = ()

    def load(self, registry: ScorerRegistry) -> ScorerEntry:
        """Load it, and give the scorer.

        Raises:
            AutoScorerError: ``SCORER_LOAD_ERROR``, or ``SCORER_NOT_FOUND``.
        """
        registry.elsewhere = (self.known, self.failures)
        if self.copy is not None:
            registry.load_copies(self.copy.path, self.copy.files, origin=self.origin, failure=self.failure)
        return registry.get(self.scorer_id)

    def to_dict(self) -> dict[str, Any]:
        """As JSON, for another process."""
        return {
            "scorer_id": self.scorer_id,
            "copy": self.copy and self.copy.to_dict(),
            "origin": self.origin,
            "failure": self.failure and self.failure.to_dict(),
            "known": list(self.known),
            "failures": [[f.source, f.origin, f.error.to_dict()] for f in self.failures],
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Needed:
        """It again, from ``to_dict``."""
        return cls(
            scorer_id=data["scorer_id"],
            copy=data["copy"] and GoodCopy.from_dict(data["copy"]),
            origin=data["origin"],
            failure=data["failure"] and AutoScorerError.from_dict(data["failure"]),
            known=tuple(data["known"]),
            failures=tuple(
                LoadFailure(source, origin, AutoScorerError.from_dict(error))
                for source, origin, error in data["failures"]
            ),
        )


def find_needed(
    settings: Settings,
    scorer_id: str,
    *,
    extra: Sequence[Path] = (),
) -> Needed:
    """Find the file that registers a scorer. No scorer's code runs in this process.

    Args:
        settings: The configuration.
        scorer_id: The scorer.
        extra: More folders (``--scorers DIR``).
    """
    if scorer_id in BUILTIN_MODULES:  # no file may take its id
        return Needed(scorer_id)
    return _Search(settings, scorer_id, extra).find()


@dataclass
class _Search:
    settings: Settings
    scorer_id: str
    extra: Sequence[Path]
    # Files by path, in the order in which they would all be loaded: of two that want one id the first has it.
    files: dict[Path, FileOrigin] = field(default_factory=dict)
    copies: dict[Path, GoodCopy] = field(default_factory=dict)
    failures: dict[Path, AutoScorerError] = field(default_factory=dict)
    # What lies there now does not count.
    pinned: dict[Path, ManifestFile] = field(default_factory=dict)

    def find(self) -> Needed:
        self.last_good = LastGood(self.settings.home)
        self.copies = self.last_good.all()
        self._list()
        deadline = time.monotonic() + _PATIENCE
        away_since: float | None = None
        while (owner := self._owner()) is not None:
            good = self.copies[owner]
            if is_there(owner):  # trying it may take longer than it stays: what counts is how long nobody saw it
                away_since = None
            copy = self._current(owner)
            if copy is not None and self.scorer_id in copy.scorers:
                return self._needed(copy, owner)
            if copy is None and is_there(owner):  # it does not load as it is
                return self._needed(good, owner, self.failures.get(owner))
            # It is away, or registers something else now. While it is being saved that may pass.
            now = time.monotonic()
            if copy is None:
                away_since = away_since or now
                passes = now - away_since < GONE_AFTER
                if passes and now >= deadline:
                    return self._needed(good, owner)
            else:
                passes = _is_young(owner)
            if passes and now < deadline:
                self.copies[owner] = good
                time.sleep(_LOOK)
            elif copy is None:
                self.last_good.forget(owner)
                self.copies.pop(owner)
        # Nobody is known to register it: those that were never seen, or have changed since, may do.
        for path in [*self.files]:
            if path in self.copies and self.copies[path].is_present():
                continue
            copy = self._current(path)
            if copy is not None and self._owner() == path:
                return self._needed(copy, path)
        return self._needed(None, None)

    def _list(self) -> None:
        folders, files = configured_places(self.settings, extra=self.extra, missing=True)
        self.pinned = pinned_files(self.settings, folders)
        for folder in folders:
            try:
                there = scorer_files(folder)
            except OSError as error:
                self.failures[folder] = load_error(f"{folder} can't be read: {error.strerror}.", folder)
                there = []
            self.files |= {path: self.files.get(path, "directory") for path in there}
            # Those that are away for a moment.
            self.files |= {p: "directory" for p in self.copies if p.parent == folder and p not in self.files}
        self.files |= {path: self.files.get(path, "file") for path in files}

    def _owner(self) -> Path | None:
        """The file that is known to register the scorer."""
        taken: set[str] = set()
        for path in self.files:
            copy = self.copies.get(path)
            if copy is None or taken & copy.scorers.keys():  # a file loads whole or not at all
                continue
            if self.scorer_id in copy.scorers:
                return path
            taken |= copy.scorers.keys()
        return None

    def _current(self, path: Path) -> GoodCopy | None:
        """The file as it lies there, if it loads; None when it is away, or does not load (``failures`` says why)."""
        known = self.copies.get(path)
        if known is not None and known.scorers and (path in self.pinned or known.is_present()):
            return known
        if not is_there(path):
            return None
        failed = self.last_good.failure(path)
        if failed is None:
            started = time.monotonic()
            attempt = try_import(path, seconds=self.settings.scorers.load_timeout)
            if attempt.error is None:
                self.copies[path] = copy = GoodCopy(path, attempt.sources, attempt.found)
                self.last_good.keep(copy)
                return copy
            if not attempt.sha256 and not is_there(path):
                return None
            failed = attempt.error
            self.last_good.keep_failure(path, attempt.files, failed, seconds=time.monotonic() - started)
            logger.warning("%s", failed.message)
        self.failures[path] = failed
        return None

    def _needed(self, copy: GoodCopy | None, path: Path | None, failure: AutoScorerError | None = None) -> Needed:
        return Needed(
            self.scorer_id,
            copy,
            self.files[path] if path is not None else "file",
            failure,
            tuple(sorted({i for path, known in self.copies.items() if path in self.files for i in known.scorers})),
            tuple(
                LoadFailure(str(source), self.files.get(source, "directory"), error)
                for source, error in self.failures.items()
                if source != path
            ),
        )


def _is_young(path: Path) -> bool:
    try:
        return time.time() - os.lstat(path).st_mtime < GONE_AFTER
    except OSError:
        return True
