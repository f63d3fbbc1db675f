"""The scorers of an installation, as the facade shows and changes them.

What is loaded or watched here is noted in the home (``scorers.json``), so that every worker and command of the
installation has it, too; where homes share a ledger, it is noted there for all of them (``shared.py``). This process
follows the same files; each is tried in a process of its own before it is loaded here, because a file that hangs or
crashes while it is imported must not take the facade with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode
from ...schemas.aliases import SCORERS, our_scorer
from ...schemas.result import ErrorInfo
from ...scorers.registry import ScorerRegistry, get_registry
from ...scorers.registry.entry import LoadFailure, ScorerEntry
from ...scorers.registry.last_good import LastGood
from ...scorers.registry.manifest import ScorerManifest
from ...scorers.registry.trial import try_import
from ...scorers.registry.watcher import ScorerWatcher
from ...tasks.scoring.trial import try_scorer_apart
from ..disclosure import check_request
from ..ledger.ledger import Ledger
from ..policy import Act, Caller
from ..submissions import scorer_of
from ..workspaces.ownership import seen_workspace
from ..workspaces.redaction import each_text
from ..workspaces.roots import WorkspaceRoots
from .shared import SharedManifest
from .views import (
    LoadedView,
    ReloadedView,
    ScorerChange,
    ScorerFailure,
    ScorerList,
    ScorerView,
    TrialView,
    UnloadedView,
    WatchedPath,
    WatchList,
    change_of,
)

__all__ = ["ScorerService"]

T = TypeVar("T")

# How long the start of the facade waits for the scorers that are known; those that take longer come later.
_START_SECONDS = 10.0
_THREADS, _SLOW_THREADS = 4, 2
# Of the time for a request: the rest is for the answer.
_SHARE = 0.8


class ScorerService:
    """List, load, reload, watch and try scorers. The methods that are no coroutines block: call them by ``in_thread``.

    Args:
        settings: The configuration.
        roots: Where workspaces may lie; also takes the host's paths out of messages.
        registry: The registry; this process's own when None.
        manifest: Which files are loaded and watched; the home's own list when None.
    """

    def __init__(
        self,
        settings: Settings,
        roots: WorkspaceRoots,
        registry: ScorerRegistry | None = None,
        manifest: ScorerManifest | None = None,
    ) -> None:
        self.settings, self.roots = settings, roots
        self.registry = get_registry() if registry is None else registry
        self.registry.entry_points = settings.scorers.entry_points
        self.registry.last_good = LastGood(settings.home)
        self._stop = threading.Event()
        self.registry.trial = functools.partial(try_import, seconds=settings.scorers.load_timeout, stop=self._stop)
        # Of its own, and few: whoever tries slow scorers must not take the threads that others answer with.
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="autoscorer-scorers")
        self._slow_threads = ThreadPoolExecutor(_SLOW_THREADS, thread_name_prefix="autoscorer-scorer-trials")
        self._record = manifest or ScorerManifest(settings.home)
        self._watcher = ScorerWatcher(settings.scorers.dirs, registry=self.registry, recorded=self._record)

    @classmethod
    @contextlib.asynccontextmanager
    async def running(
        cls,
        settings: Settings,
        roots: WorkspaceRoots,
        ledger: Ledger | None = None,
        registry: ScorerRegistry | None = None,
    ) -> AsyncIterator[ScorerService]:
        """Follow the configured and recorded files from here on, in a thread; ends with the block.

        Args:
            settings: The configuration.
            roots: Where workspaces may lie.
            ledger: What this home may have in common with others; it is to be open until the end of the block.
            registry: The registry; this process's own when None.
        """
        loop, started = asyncio.get_running_loop(), asyncio.Event()
        shared = SharedManifest(settings.home, ledger, loop) if ledger is not None and ledger.is_shared else None
        service = cls(settings, roots, registry, shared)

        def start() -> None:
            service._watcher.start()
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(started.set)

        # No thread of the loop's: one that waits for a file that hangs must not keep the process from ending.
        threading.Thread(target=start, name="autoscorer-scorers-start", daemon=True).start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_START_SECONDS):
                await started.wait()
        try:
            yield service
        finally:
            service._stop.set()
            for threads in (service._threads, service._slow_threads):
                threads.shutdown(wait=False, cancel_futures=True)
            if started.is_set():
                await asyncio.to_thread(service._watcher.stop)
            service.registry.trial = None

    async def in_thread(self, work: Callable[[], T], *, slow: bool = False) -> T:
        """Call one of the methods below, off the event loop; ``slow`` for what runs a scorer."""
        threads = self._slow_threads if slow else self._threads
        return await asyncio.get_running_loop().run_in_executor(threads, work)

    # --- asking ------------------------------------------------------------------------------------------------

    def listing(self) -> ScorerList:
        """Every scorer, and what does not load."""
        entries = self.registry.list()
        return ScorerList(
            scorers=[self._view(entry) for entry in entries],
            errors=[self._failure(failure) for failure in self.registry.errors()],
        )

    def get(self, scorer_id: str) -> ScorerView:
        """One scorer.

        Raises:
            AutoScorerError: ``SCORER_NOT_FOUND``, or ``SCORER_LOAD_ERROR`` for a built-in that does not import.
        """
        return self._view(self.registry.get(scorer_id))

    def watched(self) -> WatchList:
        """The files and folders that are followed."""
        return WatchList(watched=[self._watched_path(path, why) for path, why in self._followed().items()])

    # --- changing ----------------------------------------------------------------------------------------------

    def load(self, path: str, *, watch: bool = True) -> LoadedView:
        """Load a scorer file, here and in every process of the installation, now and after a restart.

        Args:
            path: The file.
            watch: Load it anew whenever it changes.

        Raises:
            AutoScorerError: ``INVALID_REQUEST`` for what is not a file, ``SCORER_LOAD_ERROR`` for one that does not
                load; nothing is noted then.
        """
        file = _absolute(path)
        # os.path answers for any name; Path raises for one that is too long.
        if not os.path.isfile(file):
            raise _wrong(
                "is a folder; name a file, or watch the folder" if os.path.isdir(file) else "is not a file there"
            )
        with self._naming(file):
            is_new = self.registry.source(file) is None
            entries = self.registry.load_file(file)
            try:
                self._record.add(file, entries, followed=watch)
            except AutoScorerError:
                if is_new:
                    self.registry.unload_file(file)
                raise
        return LoadedView(file=self._shown(file), scorers=[self._view(entry) for entry in entries])

    def reload(self, scorer_id: str | None = None) -> ReloadedView:
        """Run the file of a scorer again, or all files, even if they are unchanged; say what that changed.

        Raises:
            AutoScorerError: ``SCORER_NOT_FOUND``; ``INVALID_REQUEST`` for a scorer that comes from no file; for one
                file ``SCORER_LOAD_ERROR``. Of all files, those that do not load are told of in the answer.
        """
        if scorer_id is None:
            # What another host has loaded need not be on this one.
            files = [source.path for source in self.registry.sources() if not self._is_elsewhere(source.path)]
        else:
            files = [self._file_of(scorer_id, "; such are loaded once a process")]
            if self._is_elsewhere(files[0]):
                raise _wrong("was loaded through another host and is not on this one: load it anew there")
        changes: list[ScorerChange] = []
        errors: list[ScorerFailure] = []
        for file in files:
            before = {entry.id: entry for entry in self._entries_of(file)}
            try:
                with self._naming(file):
                    now = {entry.id: entry for entry in self.registry.reload_file(file)}
                    if file in self._record.read():
                        self._record.add(file, [*now.values()])
            except AutoScorerError as error:
                if scorer_id is not None:
                    raise
                errors.append(self._failure(LoadFailure(str(file), "file", error, tuple(before))))
                continue
            changes += [change_of(known, before.get(known), now.get(known)) for known in sorted({*before, *now})]
        self._record.hand_over(self.registry)
        return ReloadedView(changes=changes, errors=errors)

    def watch(self, path: str) -> WatchedPath:
        """Follow a file or a folder, here and for every process of the installation, now and after a restart.

        Raises:
            AutoScorerError: ``INVALID_REQUEST`` for what is not there. What does not load is told of in the answer.
        """
        place = _absolute(path)
        if not os.path.isdir(place) and not (os.path.isfile(place) and place.suffix == ".py"):
            raise _wrong("is neither a folder nor a .py file there")
        with self._naming(place):
            self._record.watch(place)
        with contextlib.suppress(AutoScorerError):
            if place.is_dir():
                self.registry.load_directory(place)
            else:
                self.registry.load_file(place)
        self._record.hand_over(self.registry)
        return self._watched_path(place, "watched")

    def unwatch(self, path: str) -> WatchList:
        """Stop following a file or folder, everywhere. Its scorers stay loaded as they are.

        Args:
            path: The path that was given to ``watch`` or ``load``, or as ``watched`` shows it, or its id there.

        Returns:
            What is still followed.

        Raises:
            AutoScorerError: ``NOT_FOUND`` for what is not followed, ``CONFLICT`` for what the configuration names.
        """
        followed = self._followed()
        named = {_absolute(path)} if "\0" not in path else set()
        found = [p for p in followed if p in named or path in (self._shown(p), _id(p))]
        if not found:
            raise AutoScorerError(ErrorCode.NOT_FOUND, "No file or folder of that path is watched or loaded.")
        if len(found) > 1:
            raise AutoScorerError(
                ErrorCode.CONFLICT,
                "Several paths are shown like this one; name it by its id.",
                details={"ids": [*map(_id, found)]},
            )
        place = found[0]
        if followed[place] == "configured":
            raise AutoScorerError(
                ErrorCode.CONFLICT, "The configuration names this folder (scorers.dirs); take it out there."
            )
        sources = [s for s in self.registry.sources() if place in (s.path, s.path.parent)]
        loaded = {s.path: entries for s in sources if (entries := self._entries_of(s.path))}
        with self._naming(place):
            self._record.pin(place, loaded)
        return self.watched()

    def unload(self, scorer_id: str) -> UnloadedView:
        """Forget the file of a scorer, with all that it registers, everywhere. The file itself stays.

        Raises:
            AutoScorerError: ``SCORER_NOT_FOUND``; ``INVALID_REQUEST`` for a scorer that comes from no file;
                ``CONFLICT`` for one that lies in a folder which is followed.
        """
        file = self._file_of(scorer_id, ": it can't be unloaded")
        folder = self._followed().get(file.parent)
        if folder is not None:
            do = "take it out there" if folder == "configured" else "stop watching it first (DELETE /scorers/watch)"
            raise AutoScorerError(
                ErrorCode.CONFLICT, f"The file {self._shown(file)} lies in a folder that is {folder}; {do}."
            )
        gone = sorted(known.id for known in self._entries_of(file))
        with self._naming(file):
            self._record.unwatch(file)
            self._record.remove(file)
        # The watcher would notice; here the answer is already true.
        self.registry.unload_file(file)
        return UnloadedView(file=self._shown(file), unloaded=gone)

    def test(self, scorer_id: str, workspace: str, params: Mapping[str, Any], *, caller: Caller) -> TrialView:
        """Validate and score a workspace with a scorer, and change nothing in the workspace.

        Args:
            scorer_id: The scorer.
            workspace: The workspace.
            params: Over meta.json's.
            caller: Who asks.

        Raises:
            AutoScorerError: ``FORBIDDEN`` for what the caller may not ask for, ``WORKSPACE_NOT_FOUND`` also for a
                workspace that it may not see; whatever validating or scoring finds;
                ``TIMEOUT_ERROR`` when it takes too long.
        """
        root, _ = seen_workspace(self.roots, workspace, caller, Act.TRY_SCORER)
        scorer_id = our_scorer(scorer_id)
        check_request(caller.role, scorer=scorer_id, of_workspace=scorer_of(root), params=params)
        entry = self.registry.get(scorer_id)
        seconds = self.settings.api.request_timeout * _SHARE
        found = try_scorer_apart(entry, root, settings=self.settings, params=params, seconds=seconds, stop=self._stop)
        return TrialView.model_validate(found)

    # --- within ------------------------------------------------------------------------------------------------

    def _followed(self) -> dict[Path, str]:
        files, watched = self._record.read(), self._record.watched()
        configured = (Path(os.path.abspath(folder.expanduser())) for folder in self.settings.scorers.dirs)
        return {
            **self._record.elsewhere(),
            **{path: "loaded" for path, noted in files.items() if noted.followed},
            **dict.fromkeys(watched, "watched"),
            **dict.fromkeys(configured, "configured"),
        }

    def _is_elsewhere(self, path: Path) -> bool:
        """Whether a file was loaded through another host, and this one has no such file."""
        return self._record.is_foreign(path) and not os.path.isfile(path)

    def _file_of(self, scorer_id: str, otherwise: str) -> Path:
        entry = self.registry.get(scorer_id)
        if entry.origin not in ("file", "directory") or entry.source is None:
            raise AutoScorerError(
                ErrorCode.INVALID_REQUEST,
                f"The scorer {scorer_id!r} comes from {entry.origin}, not from a file that was loaded{otherwise}.",
            )
        return entry.source

    def _entries_of(self, path: Path) -> list[ScorerEntry]:
        return [
            entry
            for source in self.registry.sources()
            if path in (source.path, source.path.parent)
            for scorer_id in source.ids
            if (entry := self._current(scorer_id)) is not None
        ]

    def _current(self, scorer_id: str) -> ScorerEntry | None:
        with contextlib.suppress(AutoScorerError):  # gone meanwhile
            return self.registry.get(scorer_id)
        return None

    # --- showing -----------------------------------------------------------------------------------------------

    def _view(self, entry: ScorerEntry) -> ScorerView:
        data = entry.to_dict()
        failed = self.registry.source(entry.source) if entry.status == "stale" and entry.source else None
        failure = failed.failure if failed else None
        return ScorerView.model_validate(
            {
                **data,
                "aliases": [theirs for theirs, ours in SCORERS.items() if ours == entry.id],
                "source": self._shown(entry.source) if entry.source else None,
                "failed_at": failure.failed_at.isoformat() if failure else None,
            }
        )

    def _failure(self, failure: LoadFailure) -> ScorerFailure:
        data = failure.to_dict()
        is_path = failure.origin in ("file", "directory")
        return ScorerFailure(
            source=self._shown(Path(failure.source)) if is_path else failure.source,
            origin=failure.origin,
            error=ErrorInfo.model_validate(failure.error.to_dict()),
            stale_ids=data["stale_ids"],
            failed_at=data["failed_at"],
        )

    def _watched_path(self, path: Path, why: str) -> WatchedPath:
        sources = [s for s in self.registry.sources() if path in (s.path, s.path.parent)]
        return WatchedPath(
            id=_id(path),
            path=self._shown(path),
            kind="file" if path.suffix == ".py" and not path.is_dir() else "folder",
            origin=why,
            is_there=path.exists(),
            scorers=sorted(scorer_id for source in sources for scorer_id in source.ids),
            errors=[self._failure(source.failure) for source in sources if source.failure],
        )

    def _shown(self, path: Path) -> str:
        """A path without where it lies on this host."""
        redacted = str(self.roots.redact(str(path)))
        return redacted if redacted != str(path) else f"…/{path.name}"

    @contextlib.contextmanager
    def _naming(self, path: Path) -> Iterator[None]:
        """Let errors call a path as it is shown; whoever answers takes out what else of this host is in them.

        A file that is not loaded, as it fails, is not among the paths that are taken out of every answer.
        """
        try:
            yield
        except AutoScorerError as error:
            named = each_text(
                {"message": error.message, "details": error.details}, lambda text: self._named(text, path)
            )
            raise AutoScorerError(error.code, named["message"], stage=error.stage, details=named["details"]) from None

    def _named(self, text: str, path: Path) -> str:
        for place in (path, path.parent):
            if place != place.parent:
                text = text.replace(str(place), self._shown(place))
        return text


def _id(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]


def _absolute(path: str) -> Path:
    return Path(os.path.abspath(os.path.expanduser(path)))


def _wrong(why: str) -> AutoScorerError:
    return AutoScorerError(
        ErrorCode.INVALID_REQUEST, f"The path {why}. Expected one on the machine that the API runs on, absolute."
    )
