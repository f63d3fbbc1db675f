"""What a registry holds: an immutable snapshot, swapped as a whole, and the rule that an id has one owner."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from ...core.errors import AutoScorerError, ErrorCode
from ...schemas.aliases import our_scorer
from .builtin import BUILTIN_MODULES, where_builtin
from .entry import LoadFailure, ScorerEntry
from .files import same_file
from .loader import LoadAttempt

__all__ = ["FileOrigin", "RegistryState", "Snapshot", "Source"]

FileOrigin = Literal["file", "directory"]


@dataclass(frozen=True)
class Source:
    """A file the registry was asked to load.

    Args:
        path: As it was first named, made absolute.
        origin: Named by itself, or found in a folder.
        ids: What its last good version registered.
        files: What the last attempt read: the file and its siblings, with their sha256 ("" for a missing one).
        failure: Set while the file on disk does not load.
    """

    path: Path
    origin: FileOrigin
    ids: tuple[str, ...]
    files: Mapping[Path, str]
    failure: LoadFailure | None = None


@dataclass(frozen=True)
class Snapshot:
    """All a reader sees; never changed, only replaced.

    Args:
        entries: By id.
        sources: By path.
        failures: Modules and entry points that do not load, by what they are called.
    """

    entries: Mapping[str, ScorerEntry] = field(default_factory=dict)
    sources: Mapping[Path, Source] = field(default_factory=dict)
    failures: Mapping[str, LoadFailure] = field(default_factory=dict)


class RegistryState:
    """The current snapshot, and the few ways to replace it. The lock is held for a moment, never over foreign code."""

    def __init__(self) -> None:
        self.current = Snapshot()
        self._swap = threading.Lock()

    def put(self, entries: Sequence[ScorerEntry], own: Callable[[ScorerEntry], bool]) -> None:
        """Add entries that come from no watched file.

        Args:
            entries: The entries.
            own: Whether an entry of the same id is these entries' own earlier self.

        Raises:
            AutoScorerError: ``SCORER_LOAD_ERROR`` when an id belongs to another.
        """
        with self._swap:
            self._refuse_conflicts(entries, own)
            self.current = replace(self.current, entries={**self.current.entries, **{e.id: e for e in entries}})

    def put_builtin(self, entry: ScorerEntry) -> ScorerEntry:
        """Add a built-in, or answer with the entry of the same class that another thread has just added."""
        with self._swap:
            known = self.current.entries.get(entry.id)
            if known is not None and known.scorer_class is entry.scorer_class:
                return known
            self.current = replace(self.current, entries={**self.current.entries, entry.id: entry})
            return entry

    def install(
        self, path: Path, origin: FileOrigin, files: Mapping[Path, str], entries: Sequence[ScorerEntry],
        reserved: Mapping[str, str],
    ) -> None:  # fmt: skip
        """Replace what a file registered by what its new version registers.

        Args:
            path: The file's key.
            origin: How it came to be loaded.
            files: What was read, with sha256.
            entries: Of the new version.
            reserved: Ids of entry points that are not loaded yet, and whose they are.

        Raises:
            AutoScorerError: ``SCORER_LOAD_ERROR`` when an id belongs to another, or is registered twice.
        """
        first: dict[str, ScorerEntry] = {}
        for entry in entries:
            if entry.id in first:
                raise _id_conflict(entry, first[entry.id].where)
            first[entry.id] = entry
        with self._swap:
            now = self.current
            self._refuse_conflicts(
                entries, lambda old: same_file(old.source, path) if old.origin == "code" else old.source == path
            )
            for entry in entries:
                if entry.id in reserved and entry.id not in now.entries:
                    raise _id_conflict(entry, reserved[entry.id])
            before = now.sources.get(path)
            gone = set(before.ids if before else ())
            source = Source(path, origin, tuple(first), files)
            self.current = replace(
                now,
                entries={**{i: e for i, e in now.entries.items() if i not in gone}, **first},
                sources={**now.sources, path: source},
            )

    def keep_last_good(self, path: Path, origin: FileOrigin, attempt: LoadAttempt, error: AutoScorerError) -> None:
        """Note that a file does not load; what its last good version registered stays, marked stale."""
        with self._swap:
            now = self.current
            before = now.sources.get(path)
            ids = before.ids if before else ()
            failure = LoadFailure(str(path), origin, error, ids)
            stale = {i: replace(now.entries[i], status="stale", error=error.message) for i in ids}
            self.current = replace(
                now,
                entries={**now.entries, **stale},
                sources={**now.sources, path: Source(path, origin, ids, attempt.files, failure)},
            )

    def remove(self, path: Path) -> list[str]:
        """Forget a file; the ids that went."""
        with self._swap:
            now = self.current
            source = now.sources.get(path)
            if source is None:
                return []
            self.current = replace(
                now,
                entries={i: e for i, e in now.entries.items() if i not in source.ids},
                sources={p: s for p, s in now.sources.items() if p != path},
            )
            return list(source.ids)

    def note_failure(self, failure: LoadFailure) -> None:
        """Note a module or an entry point that does not load."""
        with self._swap:
            self.current = replace(self.current, failures={**self.current.failures, failure.source: failure})

    def clear_failure(self, source: str) -> None:
        """Forget such a failure: it loads now."""
        with self._swap:
            if source in self.current.failures:
                self.current = replace(
                    self.current, failures={k: f for k, f in self.current.failures.items() if k != source}
                )

    def _refuse_conflicts(self, entries: Iterable[ScorerEntry], own: Callable[[ScorerEntry], bool]) -> None:
        for entry in entries:
            if entry.id in BUILTIN_MODULES:
                raise _id_conflict(entry, where_builtin(entry.id), " by a built-in")
            if (ours := our_scorer(entry.id)) != entry.id:
                raise _id_conflict(entry, where_builtin(ours), f" by another name of the built-in {ours}")
            old = self.current.entries.get(entry.id)
            if old is not None and not own(old):
                raise _id_conflict(entry, old.where)


def _id_conflict(entry: ScorerEntry, owner: str, by: str = "") -> AutoScorerError:
    return AutoScorerError(
        ErrorCode.SCORER_LOAD_ERROR,
        f"The id {entry.id!r} is taken{by}: {owner} and {entry.where} both define it. Give one of them another id.",
        details={
            "scorer": entry.id,
            "file": None if entry.source is None else str(entry.source),
            "line": entry.line,
            "defined_at": [owner, entry.where],
        },
    )
