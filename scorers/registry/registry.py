"""The scorer registry: ids to scorers, from the built-ins, files, folders and installed packages.

Readers never wait: what is registered is an immutable snapshot, swapped as a whole. A run takes a
``ScorerEntry`` once and finishes with that code, whatever is saved, reloaded or unloaded meanwhile.

An id has one owner. A file may not replace a built-in, or what another file, an installed package or the
running program registers; it may replace its own earlier version.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias, TypeVar

from ...core.errors import AutoScorerError, ErrorCode, suggest
from ...schemas.aliases import our_scorer
from ..base import BaseScorer
from . import installed as plugins
from .builtin import BUILTIN_MODULES, import_builtin
from .entry import LoadFailure, Registration, ScorerEntry, check_scorer
from .files import same_file, scorer_files, source_sha256, unchanged
from .last_good import LastGood
from .loader import LoadAttempt, current_capture, load_source, module_frame
from .snapshot import FileOrigin, RegistryState, Source

__all__ = ["LoadFailure", "ScorerEntry", "ScorerRegistry", "Source", "get_registry", "register"]

S = TypeVar("S", bound=type[BaseScorer])
# Named here because inside the class ``list`` is the method.
Entries: TypeAlias = list[ScorerEntry]
Failures: TypeAlias = list[LoadFailure]
Sources: TypeAlias = list[Source]
Ids: TypeAlias = list[str]
Plugins: TypeAlias = list[plugins.Plugin]


class Trial(Protocol):
    """Loads a file somewhere else first, or the given copies of it and its siblings."""

    def __call__(self, path: Path, copies: Mapping[Path, bytes] | None = None, /) -> LoadAttempt:
        """The attempt; its ``error`` says why it is not to be loaded here."""


# Every registration by ordinarily imported modules (built-ins, packages, programs): module → id → registration.
# A module's top-level code runs once a process, but there may be more than one registry.
_declared: dict[str, dict[str, Registration]] = {}


def register(scorer_id: str) -> Callable[[S], S]:
    """Class decorator: make a scorer known under ``scorer_id``. The class itself is left as it is.

    In a file that is being loaded the scorer belongs to that file; anywhere else (a notebook, a program, a
    package) it goes to the registry of this process.

    Args:
        scorer_id: What meta.json's ``scorer`` names: A-Z a-z 0-9 _ . - only.

    Returns:
        The decorator, which returns the class.

    Raises:
        AutoScorerError: ``SCORER_LOAD_ERROR`` when the class is not a complete scorer, or the id is taken.

    Example:
        >>> @register("always_one")
        ... class AlwaysOne(BaseScorer):
        ...     name = "always_one"
        ...     version = "1.0.0"
        ...
        ...     def score(self, workspace, params):
        ...         return Result(summary={"score": 1.0}, metrics={"score": 1.0})
    """

    def decorate(scorer: S) -> S:
        check_scorer(scorer_id, scorer)
        _declare(scorer_id, scorer)
        return scorer

    return decorate


def _declare(scorer_id: str, scorer: type[BaseScorer]) -> None:
    top, caller = module_frame(), sys._getframe(2)
    module = str(top.f_globals.get("__name__", "__main__")) if top is not None else ""
    capture = current_capture.get()
    builtin = module in BUILTIN_MODULES.values()
    if top is not None and not builtin and capture is not None:
        path = Path(top.f_code.co_filename)
        if capture.accept(Registration(scorer_id, scorer, module, path, top.f_lineno)):
            return
    file = Path(caller.f_code.co_filename)
    known = file.is_file()
    registration = Registration(
        scorer_id,
        scorer,
        module if builtin else str(caller.f_globals.get("__name__", "__main__")),
        file.absolute() if known else None,
        caller.f_lineno if known else None,
    )
    if not builtin:
        _registry.add(registration)
    _declared.setdefault(registration.module, {})[scorer_id] = registration


class ScorerRegistry:
    """Ids to scorers. Every method may be called from any thread.

    Args:
        entry_points: Look for scorers of installed packages: when a name is missed, and for a listing.
    """

    def __init__(self, *, entry_points: bool = True) -> None:
        self.entry_points = entry_points
        # Run before a file is loaded here; what it refuses is not loaded. Set where a file that hangs or crashes while
        # it is imported must not take the process with it.
        self.trial: Trial | None = None
        # Where files are kept as they last loaded, for a process that never saw them load.
        self.last_good: LastGood | None = None
        # What other files of the installation are known to register, and which do not load, where this process has
        # loaded only what it needs: for the message of ``SCORER_NOT_FOUND``.
        self.elsewhere: tuple[Sequence[str], Sequence[LoadFailure]] = ((), ())
        self._state = RegistryState()
        self._file_locks: dict[Path, threading.RLock] = {}
        self._plugins: Plugins | None = None
        self._plugins_done: set[str] = set()
        self._plugin_lock = threading.RLock()

    # --- asking ------------------------------------------------------------------------------------------

    def get(self, scorer_id: str) -> ScorerEntry:
        """The scorer of that id, or of an alias of it (``schemas.aliases``), as it is now.

        Raises:
            AutoScorerError: ``SCORER_NOT_FOUND`` with the known ids, the nearest one, and what failed to load;
                ``SCORER_LOAD_ERROR`` when a built-in's module does not import.
        """
        scorer_id = our_scorer(scorer_id)
        entry = self._state.current.entries.get(scorer_id)
        if entry is None and scorer_id in BUILTIN_MODULES:
            return self._load_builtin(scorer_id)
        if entry is None:
            self._load_plugins(scorer_id)
            entry = self._state.current.entries.get(scorer_id)
        if entry is None:
            raise self._not_found(scorer_id)
        return entry

    def has(self, scorer_id: str) -> bool:
        """Whether this process itself has registered or loaded it; a built-in counts once it was asked for."""
        return scorer_id in self._state.current.entries

    def ids(self) -> Ids:
        """Known ids, sorted. Imports nothing: scorers of packages show once ``get`` or ``list`` has met them."""
        return sorted({*BUILTIN_MODULES, *self._state.current.entries})

    def list(self) -> Entries:
        """Every scorer, sorted by id. What does not load is left out; ``errors`` has it."""
        for scorer_id, module in BUILTIN_MODULES.items():
            try:
                self.get(scorer_id)
                self._state.clear_failure(module)
            except AutoScorerError as error:
                self._state.note_failure(LoadFailure(module, "builtin", error))
        self._load_plugins()
        return sorted(self._state.current.entries.values(), key=lambda entry: entry.id)

    def errors(self) -> Failures:
        """What does not load at the moment: files (an earlier version may serve on), packages, built-ins."""
        now = self._state.current
        return [s.failure for s in now.sources.values() if s.failure is not None] + [*now.failures.values()]

    def sources(self) -> Sources:
        """The files that are loaded, or were tried."""
        return [*self._state.current.sources.values()]

    def source(self, path: Path | str) -> Source | None:
        """What is known of a file; None when it was never loaded, or was unloaded."""
        return self._state.current.sources.get(self._key(path))

    # --- files -------------------------------------------------------------------------------------------

    def load_file(self, path: Path | str, *, origin: FileOrigin = "file") -> Entries:
        """Load a scorer file; one that is loaded already, and unchanged with all it imports beside it, is kept.

        Returns:
            The entries of the file, in the order of its text.

        Raises:
            AutoScorerError: ``SCORER_LOAD_ERROR``. The last good version, if there is one, stays in use.
        """
        return self._load(self._key(path), origin, force=False)

    def load_copies(
        self,
        path: Path | str,
        copies: Mapping[Path, bytes],
        *,
        origin: FileOrigin = "file",
        failure: AutoScorerError | None = None,
    ) -> Entries:
        """Load a file from given bytes, instead of what lies on the disk.

        Args:
            path: The scorer file.
            copies: Its bytes and those of its siblings, by path.
            origin: How it came to be known.
            failure: Why the file on the disk does not load; the entries are marked stale then.

        Raises:
            AutoScorerError: ``SCORER_LOAD_ERROR``.
        """
        key = self._key(path)
        with self._lock_of(key):
            attempt = load_source(key, copies)
            if attempt.error is not None:
                raise attempt.error
            entries = self._install(key, origin, attempt)
            if failure is not None:
                self._state.keep_last_good(key, origin, attempt, failure)
            return [self._state.current.entries[entry.id] for entry in entries]

    def load_pinned(self, path: Path | str, sha256: str, *, anew: bool = False) -> Entries:
        """Load a file as it last loaded, whatever lies there now.

        Args:
            path: The scorer file.
            sha256: Of the version to keep; where that can't be had, what this process has or else the disk serves.
            anew: Load it even if it is loaded: what it imports beside it may be another.

        Raises:
            AutoScorerError: ``SCORER_LOAD_ERROR``.
        """
        key = self._key(path)
        with self._lock_of(key):
            source = self.source(key)
            loaded = source is not None and bool(source.ids)
            is_it = source is not None and source.files.get(key) == sha256 and source.failure is None
            if source is not None and loaded and is_it and not anew:
                return [self._state.current.entries[scorer_id] for scorer_id in source.ids]
            copies = self.last_good.load(key) if self.last_good is not None else None
            if copies is not None and hashlib.sha256(copies[key]).hexdigest() == sha256:
                self._try_copies(key, copies)
                return self.load_copies(key, copies)
            if source is not None and loaded:
                return [self._state.current.entries[scorer_id] for scorer_id in source.ids]
            return self.load_file(key)

    def reload_file(self, path: Path | str) -> Entries:
        """Run the file again even if it is unchanged (a package it imports may have changed).

        Raises:
            AutoScorerError: As ``load_file``.
        """
        known = self.source(path)
        return self._load(self._key(path), known.origin if known else "file", force=True)

    def unload_file(self, path: Path | str) -> Ids:
        """Forget a file and its scorers. A run that holds one of them finishes with it.

        Returns:
            The ids that went; empty when the file was not loaded.
        """
        key = self._key(path)
        with self._lock_of(key):
            return self._state.remove(key)

    def load_directory(self, directory: Path | str) -> Entries:
        """Load every scorer file of a folder, and unload those that have gone from it since.

        A file that does not load keeps none of the others from loading; ``errors`` has it.

        Raises:
            AutoScorerError: ``SCORER_LOAD_ERROR`` when the folder can't be read.
        """
        folder = Path(os.path.abspath(directory))
        try:
            files = scorer_files(folder)
        except OSError as error:
            unreadable = AutoScorerError(
                ErrorCode.SCORER_LOAD_ERROR,
                f"The folder of scorers {folder} can't be read: {error.strerror}.",
                details={"directory": str(folder)},
            )
            self._state.note_failure(LoadFailure(str(folder), "directory", unreadable))
            raise unreadable from None
        self._state.clear_failure(str(folder))
        for source in self.sources():
            if source.origin == "directory" and source.path.parent == folder and source.path not in files:
                self.unload_file(source.path)
        entries: Entries = []
        for file in files:
            try:
                entries += self.load_file(file, origin="directory")
            except AutoScorerError:
                continue  # kept in errors()
        return entries

    # --- what the process itself registers ---------------------------------------------------------------

    def add(self, registration: Registration) -> None:
        """Register a class of the running program; ``register`` calls this.

        Raises:
            AutoScorerError: ``SCORER_LOAD_ERROR`` when the id belongs to another module.
        """
        old = self._state.current.entries.get(registration.scorer_id)
        if old is not None and old.origin in ("file", "directory") and same_file(old.source, registration.path):
            return  # the program imports a file that is loaded as a scorer file: the loaded one stays
        entry = ScorerEntry.of(registration, "code", sha256=_sha256_of(registration.path))
        module = registration.module
        self._state.put([entry], lambda old: old.origin == "code" and old.module == module)

    # --- within ------------------------------------------------------------------------------------------

    def _key(self, path: Path | str) -> Path:
        # Not resolved: a mounted ConfigMap changes what a link resolves to at every update.
        absolute = Path(os.path.abspath(path))
        known = self._state.current.sources
        if absolute in known:
            return absolute
        return next((other for other in known if same_file(other, absolute)), absolute)

    def _lock_of(self, key: Path) -> threading.RLock:
        return self._file_locks.setdefault(key, threading.RLock())

    def _load(self, key: Path, origin: FileOrigin, *, force: bool) -> Entries:
        # Bytes are read under the file's lock: of two loads the later one reads, and installs, the later bytes.
        with self._lock_of(key):
            now = self._state.current
            source = now.sources.get(key)
            if source and not source.failure and not force and unchanged(source.files):
                return [now.entries[scorer_id] for scorer_id in source.ids]
            attempt = self._try(key, force=force)
            if attempt is None or attempt.error is None:
                attempt = load_source(key)
            try:
                if attempt.error is not None:
                    raise attempt.error
                entries = self._install(key, origin, attempt)
                if self.last_good is not None:
                    self.last_good.save(key, attempt.files, {entry.id: entry.version for entry in entries})
            except AutoScorerError as error:
                if source is None or not source.ids:
                    self._install_last_good(key, origin, attempt)
                self._state.keep_last_good(key, origin, attempt, error)
                raise
            finally:
                # Its error's traceback leads back to this frame: a ring that would keep old versions alive.
                del attempt, now
            return entries

    def _try(self, key: Path, *, force: bool) -> LoadAttempt | None:
        """Run it elsewhere first, unless the very same bytes are known to load, or to hang."""
        if self.trial is None:
            return None
        if self.last_good is None:
            return self.trial(key)
        if not force:
            known = self.last_good.read(key)
            if known is not None and known.scorers and known.is_present():
                return None
            if (failure := self.last_good.failure(key)) is not None and failure.details.get("hangs"):
                sha256 = source_sha256(key)
                return LoadAttempt(key, sha256, {key: sha256}, error=failure)
        started = time.monotonic()
        attempt = self.trial(key)
        if attempt.error is not None and attempt.sha256:
            self.last_good.keep_failure(key, attempt.files, attempt.error, seconds=time.monotonic() - started)
        return attempt

    def _try_copies(self, key: Path, copies: Mapping[Path, bytes]) -> None:
        """Run a copy of another host elsewhere first; one that does not load is not tried again for a while.

        Raises:
            AutoScorerError: ``SCORER_LOAD_ERROR``; what the file registered before stays, marked stale.
        """
        if self.trial is None or self.last_good is None or not self.last_good.is_untried(key):
            return
        if (failure := self.last_good.failure(key)) is None:
            started = time.monotonic()
            failure = self.trial(key, copies).error
            if failure is None:
                self.last_good.set_tried(key)
                return
            self.last_good.keep_failure(key, {}, failure, seconds=time.monotonic() - started)
        source = self.source(key)
        if source is None or source.failure is None or source.failure.error.message != failure.message:
            files = {path: hashlib.sha256(data).hexdigest() for path, data in copies.items()}
            self._state.keep_last_good(key, "file", LoadAttempt(key, files[key], files), failure)
        raise failure

    def _install(self, key: Path, origin: FileOrigin, attempt: LoadAttempt) -> Entries:
        entries = [
            ScorerEntry.of(r, origin, sha256=attempt.sha256, siblings=attempt.siblings, module_handle=attempt.handle)
            for r in attempt.registrations
        ]
        reserved = {p.name: p.source for p in self._discovered()}
        self._state.install(key, origin, attempt.files, entries, reserved)
        return entries

    def _install_last_good(self, key: Path, origin: FileOrigin, failed: LoadAttempt) -> None:
        """Where this process has no last good version of a file, take that of another. One that is gone stays gone."""
        copies = self.last_good.load(key) if self.last_good is not None and failed.sha256 else None
        if copies is not None:
            attempt = load_source(key, copies)
            if attempt.error is None:
                with contextlib.suppress(AutoScorerError):  # its id is another's by now
                    self._install(key, origin, attempt)

    def _load_builtin(self, scorer_id: str) -> ScorerEntry:
        registration = import_builtin(scorer_id, _declared)
        return self._state.put_builtin(ScorerEntry.of(registration, "builtin", sha256=_sha256_of(registration.path)))

    def _discovered(self) -> Plugins:
        if self._plugins is None and self.entry_points:
            self._plugins = plugins.discover()
        return self._plugins or []

    def _load_plugins(self, first: str | None = None) -> None:
        """Load the entry point that is called ``first``; all of them if that does not make it known."""
        with self._plugin_lock:
            waiting = [p for p in self._discovered() if p.source not in self._plugins_done]
            for plugin in sorted(waiting, key=lambda p: p.name != first):
                if first is not None and first in self._state.current.entries:
                    return
                self._plugins_done.add(plugin.source)
                self._load_plugin(plugin)

    def _load_plugin(self, plugin: plugins.Plugin) -> None:
        try:
            found = plugin.load(_declared)
            for registration in found:
                _declared.setdefault(registration.module, {})[registration.scorer_id] = registration
            entries = [ScorerEntry.of(r, "entry_point", sha256=_sha256_of(r.path)) for r in found]
            # Imported before by the program itself, the same classes already stand here as code.
            classes = [entry.scorer_class for entry in entries]
            self._state.put(entries, lambda old: old.scorer_class in classes)
        except AutoScorerError as error:
            self._state.note_failure(LoadFailure(plugin.source, "entry_point", error))

    def _not_found(self, scorer_id: str) -> AutoScorerError:
        known = sorted({*self.ids(), *self.elsewhere[0]})
        failures = [*self.errors(), *self.elsewhere[1]]
        message = f"No scorer {scorer_id!r} is registered{suggest(scorer_id, known) or '.'} "
        message += f"Known: {', '.join(known)}."
        its_own = [f for f in failures if f.error.details.get("entry_point") == scorer_id]
        if its_own:
            message += f" {its_own[0].brief()['message']}"
        elif failures:
            names = ", ".join(f.name for f in failures)
            message += f" These do not load, so it may be one of theirs: {names}."
        return AutoScorerError(
            ErrorCode.SCORER_NOT_FOUND,
            message,
            details={"scorer": scorer_id, "known": known, "not_loaded": [f.brief() for f in failures]},
        )


def _sha256_of(path: Path | None) -> str | None:
    return (source_sha256(path) or None) if path is not None else None


_registry = ScorerRegistry()


def get_registry() -> ScorerRegistry:
    """The registry of this process."""
    return _registry
