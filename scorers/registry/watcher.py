"""Hot reload: a background thread that keeps a registry equal to the scorer files on disk.

What is loaded is decided by the files' content alone (sha256), never by which event came: an event, or half a
second without one, only says "look again". So a lost event, a rename-save, a file system without events, a file
that comes back or ten saves in one second all end in the same place: what lies on disk now.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

from ...core.errors import AutoScorerError
from .files import is_there, read_source, scorer_files
from .manifest import ManifestFile, ScorerManifest
from .registry import ScorerRegistry, get_registry
from .snapshot import FileOrigin

__all__ = ["GONE_AFTER", "ScorerWatcher", "WatchEvent"]

logger = logging.getLogger(__name__)

# Look again at least this often (seconds). It bounds how late a change is seen where no event comes.
TICK = 0.5
# A file must be away this long before its scorers go: editors delete and write anew when they save.
GONE_AFTER = 1.0
# A time stamp younger than this does not prove that a file is unchanged: two writes may share one.
SETTLED_AFTER = 2.0
# The same complaint is made again only after this many seconds.
QUIET = 60.0
_MAX_LINKS = 40


@dataclass(frozen=True)
class WatchEvent:
    """What the watcher did.

    Args:
        kind: ``loaded`` (new or replaced), ``failed`` (the last good version stays), ``removed``, or ``error``
            (watching itself stumbled; it goes on).
        path: The scorer file; None for ``error``.
        ids: The scorers concerned.
        error: Why, for ``failed`` and ``error``.
    """

    kind: Literal["loaded", "failed", "removed", "error"]
    path: Path | None
    ids: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class _FileState:
    """A file's content at one look, and the stat by which an unchanged one is recognised."""

    signature: tuple[int, ...]
    sha256: str
    settled: bool


class ScorerWatcher:
    """Watches scorer files and folders, and every other file its registry has loaded.

    Args:
        paths: Files and folders; none of them need exist yet. A name that ends in ``.py`` is a file's, unless there is
            a folder of that name.
        registry: The registry to keep up to date; this process's own when None.
        recorded: Follow scorers.json too: what another process loads, unloads, watches or watches no more there is
            loaded or unloaded here.
        on_event: Called from the watching thread with every ``WatchEvent``; what it raises is logged.
    """

    def __init__(
        self,
        paths: Iterable[Path | str] = (),
        *,
        registry: ScorerRegistry | None = None,
        recorded: ScorerManifest | None = None,
        on_event: Callable[[WatchEvent], None] | None = None,
    ) -> None:
        self.registry = get_registry() if registry is None else registry
        self._paths = tuple(dict.fromkeys(Path(os.path.abspath(Path(path).expanduser())) for path in paths))
        self._manifest = recorded
        self._manifest_files: set[Path] = set()
        self._manifest_watched: set[Path] = set()
        self._pinned: dict[Path, ManifestFile] = {}
        # Pinned files of which another home has given a new copy that was not loaded yet.
        self._renewed: set[Path] = set()
        self._on_event = on_event
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._control = threading.Lock()
        self._seen: dict[Path, _FileState] = {}
        self._tried: dict[Path, Mapping[Path, str]] = {}
        self._missing_since: dict[Path, float] = {}
        self._gone: dict[Path, FileOrigin] = {}
        self._reported: dict[str, float] = {}

    def start(self) -> ScorerWatcher:
        """Load what is there, then watch in the background. A second start does nothing."""
        with self._control:
            if self._thread is None or not self._thread.is_alive():
                self._stop = threading.Event()
                self._guarded_scan()
                self._thread = threading.Thread(
                    target=self._run, args=(self._stop,), name="autoscorer-scorers", daemon=True
                )
                self._thread.start()
        return self

    def stop(self) -> None:
        """End watching; what is loaded stays loaded. A second stop does nothing."""
        with self._control:
            thread, self._thread = self._thread, None
            self._stop.set()
        if thread is not None and thread is not threading.current_thread():
            # A scorer file that never finishes loading must not keep the process from ending.
            thread.join(timeout=5)

    def __enter__(self) -> ScorerWatcher:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- the thread --------------------------------------------------------------------------------------

    def _run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self._watch_until_folders_change(stop)
            except BaseException as error:  # nothing may end the watching but stop()
                self._report_error(f"{type(error).__name__}: {error}")
                stop.wait(TICK)
                self._guarded_scan()

    def _watch_until_folders_change(self, stop: threading.Event) -> None:
        folders = self._folders()
        if not folders:
            stop.wait(TICK)
            self._guarded_scan()
            return
        from watchfiles import watch

        for _ in watch(
            *(path for path, _, _ in folders),
            watch_filter=None,
            recursive=False,
            # Save after save, look at the latest 0.4 s after the first, or as soon as 50 ms bring no more.
            debounce=400,
            step=50,
            rust_timeout=int(TICK * 1000),
            yield_on_timeout=True,
            ignore_permission_denied=True,
            raise_interrupt=False,
            stop_event=stop,
        ):
            if stop.is_set():
                return
            self._guarded_scan()
            if self._folders() != folders:
                return

    def _folders(self) -> set[tuple[str, int, int]]:
        """Folders whose events matter, each with its identity: one that was made anew needs a new watch."""
        wanted: set[str] = set()
        for path in (*self._watched(), *self._files()):
            if os.path.isdir(path):
                wanted.add(str(path))
            # The folder of every link on the way to the file, and the folder it really lies in.
            hop = str(path)
            for _ in range(_MAX_LINKS):
                wanted.add(os.path.dirname(hop))
                try:
                    hop = os.path.join(os.path.dirname(hop), os.readlink(hop))
                except OSError:
                    break
            wanted.add(os.path.dirname(os.path.realpath(path)))
        found = set()
        for folder in wanted:
            try:
                info = os.stat(folder)
            except OSError:
                continue
            if stat.S_ISDIR(info.st_mode):
                found.add((folder, info.st_dev, info.st_ino))
        return found

    # --- looking -----------------------------------------------------------------------------------------

    def _guarded_scan(self) -> None:
        try:
            self._scan()
        except Exception as error:
            self._report_error(f"{type(error).__name__}: {error}")

    def _scan(self) -> None:
        changed = self._follow_manifest()
        files = self._files()
        for path, noted in self._pinned.items():
            files.pop(path, None)
            changed |= self._load_pinned(path, noted.sha256)
        for path in sorted(files):
            if not is_there(path):
                changed |= self._remove_if_gone(path, files[path])
        for path, origin in sorted(files.items()):
            if is_there(path):
                self._missing_since.pop(path, None)
                self._gone.pop(path, None)
                if self._is_changed(path):
                    changed |= self._load(path, origin)
        if changed:
            # An id may have become free for a file that asked for it in vain, as when a file is renamed.
            for source in self.registry.sources():
                asked_in_vain = source.failure is not None and "defined_at" in source.failure.error.details
                if asked_in_vain and source.path not in self._pinned:
                    self._load(source.path, source.origin)
        if self._manifest is not None:
            self._manifest.hand_over(self.registry)

    def _files(self) -> dict[Path, FileOrigin]:
        found: dict[Path, FileOrigin] = dict(self._gone)
        for path in self._watched():
            if os.path.isdir(path):
                try:
                    found |= dict.fromkeys(scorer_files(path), "directory")
                except OSError as error:  # what is loaded from it stays
                    self._report_error(f"{path} can't be read: {error.strerror}")
            elif path.suffix == ".py":
                found[path] = "file"
        found |= dict.fromkeys(self._manifest_files, "file")
        found |= {source.path: source.origin for source in self.registry.sources()}
        return found

    def _watched(self) -> tuple[Path, ...]:
        return (*self._paths, *sorted(self._manifest_watched.difference(self._paths)))

    def _follow_manifest(self) -> bool:
        """Take up what was added to scorers.json, and drop what was taken out; whether a scorer went."""
        if self._manifest is None:
            return False
        try:
            self._renewed |= self._manifest.take_over()
        except (AutoScorerError, OSError) as error:  # what this home knows is followed all the same
            self._report_error(str(error))
        try:
            files, watched = set(self._manifest.read()), set(self._manifest.watched())
            self._pinned = self._manifest.pinned(self._paths)
        except AutoScorerError as error:
            self._report_error(error.message)
            return False
        let_go = self._manifest_files - files | self._manifest_watched - watched
        self._manifest_files, self._manifest_watched = files, watched
        if not let_go:
            return False
        # What lay in a folder goes with it, and stays where something else still wants it.
        wanted = {*files, *self._watched()}
        known = {*self._gone, *(source.path for source in self.registry.sources())}
        dropped = {path for path in known | let_go if not {path, path.parent} & wanted and {path, path.parent} & let_go}
        for path in dropped:
            self._gone.pop(path, None)
            self._tried.pop(path, None)
            if self.registry.source(path) is not None:
                self._emit(WatchEvent("removed", path, tuple(self.registry.unload_file(path))))
        return bool(dropped)

    def _is_changed(self, path: Path) -> bool:
        source = self.registry.source(path)
        tried = source.files if source is not None else self._tried.get(path)
        if tried is None:
            return True
        self._tried[path] = tried
        return any(self._sha256(file) != sha256 for file, sha256 in tried.items())

    def _sha256(self, path: Path) -> str:
        """Of a file's content; "" when it is not there. Read anew only where its stat leaves a doubt."""
        try:
            info = os.stat(path)
            signature = (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
            seen = self._seen.get(path)
            if seen is None or seen.signature != signature or not seen.settled:
                settled = time.time() - max(info.st_mtime, info.st_ctime) > SETTLED_AFTER
                seen = _FileState(signature, hashlib.sha256(read_source(path)).hexdigest(), settled)
                self._seen[path] = seen
            return seen.sha256
        except OSError:
            self._seen.pop(path, None)
            return ""

    def _load(self, path: Path, origin: FileOrigin) -> bool:
        """Load a file; whether that changed anything."""
        before = self.registry.source(path)
        try:
            entries = self.registry.load_file(path, origin=origin)
            event = WatchEvent("loaded", path, tuple(entry.id for entry in entries))
        except AutoScorerError as error:
            event = WatchEvent("failed", path, before.ids if before else (), error.message)
        after = self.registry.source(path)
        if after is not None:
            self._tried[path] = after.files
        if after is before:
            return False
        was = before.failure.error.message if before and before.failure else None
        if event.error is None or event.error != was:
            self._emit(event)
        return event.error is None

    def _load_pinned(self, path: Path, sha256: str) -> bool:
        """See that a file which is followed no more is loaded as it was; whether that changed anything."""
        before = self.registry.source(path)
        try:
            entries = self.registry.load_pinned(path, sha256, anew=path in self._renewed)
            self._renewed.discard(path)
        except AutoScorerError as error:
            self._report_error(error.message)
            return False
        if self.registry.source(path) is before:
            return False
        self._emit(WatchEvent("loaded", path, tuple(entry.id for entry in entries)))
        return True

    def _remove_if_gone(self, path: Path, origin: FileOrigin) -> bool:
        if path in self._gone or self.registry.source(path) is None:
            return False
        now = time.monotonic()
        if now - self._missing_since.setdefault(path, now) < GONE_AFTER:
            return False
        self._missing_since.pop(path, None)
        self._tried.pop(path, None)
        self._gone[path] = origin
        self._emit(WatchEvent("removed", path, tuple(self.registry.unload_file(path))))
        return True

    # --- telling -----------------------------------------------------------------------------------------

    def _report_error(self, error: str) -> None:
        now = time.monotonic()
        if now - self._reported.get(error, -QUIET) >= QUIET:
            self._reported[error] = now
            self._emit(WatchEvent("error", None, (), error))

    def _emit(self, event: WatchEvent) -> None:
        level = logging.INFO if event.error is None else logging.WARNING
        logger.log(level, "scorers %s: %s %s", event.kind, event.path or "", event.error or ", ".join(event.ids))
        if self._on_event is not None:
            try:
                self._on_event(event)
            except Exception:
                logger.exception("the on_event callback of a ScorerWatcher failed")
