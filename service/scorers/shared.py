"""Scorer files that several homes have in common: each as it last loaded, in the ledger that the homes share.

A home keeps up to date what was loaded or is watched through it. In every other home the file is pinned: its copy lies
in ``scorers-good`` and is loaded from there, so the file itself need not be on that host. ``scorers.json`` of a home is
the home's part of what the ledger has, so whatever reads it (a run, a command) asks no database.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import logging
import secrets
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode
from ...core.workspace import write_atomic
from ...scorers.registry import ScorerRegistry
from ...scorers.registry.entry import ScorerEntry
from ...scorers.registry.files import is_there, read_source
from ...scorers.registry.last_good import GoodCopy, LastGood
from ...scorers.registry.manifest import ManifestContents, ManifestFile, ScorerManifest
from ..ledger.ledger import Ledger
from ..ledger.records import ScorerChange, SharedScorer, SharedScorers

__all__ = ["SharedManifest", "shared_manifest"]

logger = logging.getLogger(__name__)
T = TypeVar("T")
Kind = Literal["loaded", "found", "pinned"]

# Tells ledgers apart: a home that comes to another one brings its scorers along.
_LEDGER_ID = "ledger-id"


class SharedManifest(ScorerManifest):
    """The scorer files of a home that shares its ledger. Its methods block; call them in threads other than the loop's.

    Args:
        home: ``settings.home``.
        ledger: The ledger, which several homes share.
        loop: The event loop that it was opened in.
    """

    def __init__(self, home: Path, ledger: Ledger, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(home)
        self._ledger, self._loop = ledger, loop
        self._copies = LastGood(home)
        self._note = home / "scorers-shared.json"
        self._changing = threading.RLock()
        # Which home this is, and what the ledger had at the last look; None before the first.
        self._home = ""
        self._known: SharedScorers | None = None
        # Files of which there is another copy that nobody was told of yet.
        self._renewed: set[Path] = set()
        # What was handed over: the files' sha256 with the digest of their copy.
        self._handed: dict[Path, tuple[Mapping[Path, str], str]] = {}

    async def is_behind(self) -> bool:
        """Whether another home has changed something that this one has not taken over; to be awaited in the loop.

        Raises:
            AutoScorerError: ``BACKEND_UNAVAILABLE``.
        """
        return self._known is None or self._known.number != await self._ledger.scorers_number()

    # --- what ScorerManifest does to a home alone --------------------------------------------------------------

    def elsewhere(self) -> Mapping[Path, str]:
        """What other homes follow, and whether it is ``loaded`` or ``watched`` there."""
        if (known := self._known) is None:
            return {}
        loaded = [file.path for file in known.files.values() if file.kind == "loaded" and file.home != self._home]
        watched = [path for path, home in known.watches.items() if home != self._home]
        return {**dict.fromkeys(map(Path, loaded), "loaded"), **dict.fromkeys(map(Path, watched), "watched")}

    def is_foreign(self, path: Path) -> bool:
        """Whether another home keeps a file up to date."""
        file = self._known.files.get(str(path)) if self._known is not None else None
        return file is not None and file.home != self._home

    def take_over(self) -> set[Path]:
        """Take over what other homes have changed; the files of which there is another copy now.

        Raises:
            AutoScorerError: ``BACKEND_UNAVAILABLE``.
            OSError: The home can't be written.
        """
        with self._changing:
            if self._known is None:
                self._join()
            elif self._known.number == self._read_note().get("number") == self._ask(self._ledger.scorers_number):
                return self._told()
            self._take(self._ask(self._ledger.scorers))
            return self._told()

    def hand_over(self, registry: ScorerRegistry) -> None:
        """Let other homes have what this one follows, as the registry has it now.

        Raises:
            AutoScorerError: ``BACKEND_UNAVAILABLE``, or ``SCORER_LOAD_ERROR`` where another home was first with an id.
        """
        with self._changing:
            known = self._known
            if known is None:
                return
            failed = list[AutoScorerError]()
            for source in registry.sources():
                if not self._follows(known, source.path) or source.failure is not None or not source.ids:
                    continue
                file = known.files.get(str(source.path))
                if file is not None and self._handed.get(source.path) == (source.files, file.digest):
                    continue
                copy, loaded = self._copies.read(source.path), {p: sha for p, sha in source.files.items() if sha}
                if copy is None or copy.sha256s != loaded:
                    continue  # it was not kept; the next load does it
                try:
                    digest = self._put(copy, "found" if file is None else file.kind)
                    self._handed[source.path] = source.files, digest
                except AutoScorerError as error:  # of this file; the others are handed over all the same
                    failed.append(error)
            for path in [*self._handed]:
                # Only what was there: a disk that is not mounted yet takes nothing from the other hosts.
                if registry.source(path) is None and not is_there(path):
                    self._lose(str(path))
                    del self._handed[path]
            if failed:
                raise failed[0]

    def add(self, path: Path, entries: Sequence[ScorerEntry], *, followed: bool | None = None) -> None:
        """As a home alone does, for all homes.

        Raises:
            AutoScorerError: ``SCORER_LOAD_ERROR`` where another file has one of its ids, or where it has changed since
                it was loaded; ``BACKEND_UNAVAILABLE``.
        """
        copy = self._copy_of(path, entries)
        with self._changing:
            self._put(copy, None if followed is None else "loaded" if followed else "pinned", takes=True)

    def pin(self, path: Path, loaded: Mapping[Path, Sequence[ScorerEntry]]) -> None:
        """As a home alone does, for all homes."""

        def change(known: SharedScorers) -> ScorerChange:
            let_go = [
                file
                for file in known.files.values()
                if file.path == str(path) or (file.kind == "found" and Path(file.path).parent == path)
            ]
            return ScorerChange(
                files=[(dataclasses.replace(file, kind="pinned"), None) for file in let_go if file.scorers],
                gone=[file.path for file in let_go if not file.scorers],
                watches={str(path): None},
            )

        self._change(change)

    def remove(self, path: Path) -> ManifestFile | None:
        """As a home alone does, for all homes."""
        gone = self.read().get(path)
        self._change(lambda known: ScorerChange(gone=[str(path)] if str(path) in known.files else ()))
        return gone

    def watch(self, path: Path) -> bool:
        """As a home alone does, for all homes; this one watches it from now on."""
        before = self.watched()

        def change(known: SharedScorers) -> ScorerChange:
            # Those that another home found there, and those that nobody followed, are this one's to keep up to date.
            found = [
                dataclasses.replace(file, home=self._home, kind="found")
                for file in known.files.values()
                if file.kind != "loaded" and path in (Path(file.path), Path(file.path).parent)
            ]
            return ScorerChange(files=[(file, None) for file in found], watches={_text(path): self._home})

        self._change(change)
        return path not in before

    def unwatch(self, path: Path) -> bool:
        """As a home alone does, for all homes."""
        known = self._known
        self._change(lambda now: ScorerChange(watches={str(path): None} if str(path) in now.watches else {}))
        return known is not None and str(path) in known.watches

    # --- changing ----------------------------------------------------------------------------------------------

    def _ask(self, question: Callable[[], Awaitable[T]]) -> T:
        async def answer() -> T:
            return await question()  # in the loop, where a question to the ledger begins

        return asyncio.run_coroutine_threadsafe(answer(), self._loop).result()

    def _told(self) -> set[Path]:
        renewed, self._renewed = self._renewed, set()
        return renewed

    def _change(self, change: Callable[[SharedScorers], ScorerChange]) -> None:
        with self._changing:
            if self._known is None:
                self.take_over()
            self._take(self._ask(lambda: self._ledger.change_scorers(change)))

    def _put(self, copy: GoodCopy, kind: Kind | None, *, takes: bool = False) -> str:
        """Give the ledger a file that this home has, unless it has the very same.

        Args:
            copy: The file.
            kind: None for as it was, and at first ``loaded``.
            takes: This home keeps it up to date from now on, also where another one did; where that one has found it in
                a place it watches, and ``kind`` is None, it remains with it.

        Returns:
            The digest of its copy.
        """
        path, text = _text(copy.path), _written(copy)
        digest = _digest(text.encode())

        def change(known: SharedScorers) -> ScorerChange:
            before = known.files.get(path)
            if not takes and not self._follows(known, copy.path):
                return ScorerChange()  # another home was asked meanwhile to take it, or to unload it
            _refuse_taken(known, path, copy)
            remains = before is not None and before.kind == "found" and kind is None
            home = before.home if before is not None and remains else self._home
            found = kind or (before.kind if before is not None else "loaded")
            file = SharedScorer(path, home, found, copy.sha256s[copy.path], dict(copy.scorers), digest)
            return ScorerChange(files=[(file, text)] if file != before else ())

        # What stands in this home is what the others get.
        if self._copies.text(copy.path) != text.encode():
            self._copies.put(copy.path, text.encode())
        self._change(change)
        return digest

    def _lose(self, path: str) -> None:
        """Have no home use a file that is away here; one that was loaded by itself may come back."""

        def change(known: SharedScorers) -> ScorerChange:
            file = known.files.get(path)
            if file is None or not self._follows(known, Path(path)):
                return ScorerChange()
            if file.kind == "found":
                return ScorerChange(gone=[path])
            return ScorerChange(files=[(dataclasses.replace(file, scorers={}, digest=""), "")])

        self._change(change)

    def _follows(self, known: SharedScorers, path: Path) -> bool:
        """Whether this home keeps a file up to date."""
        if (file := known.files.get(str(path))) is not None:
            return file.home == self._home and file.kind != "pinned"
        return self._home in (known.watches.get(str(path)), known.watches.get(str(path.parent)))

    def _copy_of(self, path: Path, entries: Sequence[ScorerEntry]) -> GoodCopy:
        """A file as it has just been loaded."""
        wanted = {path: entries[0].sha256, **{path.with_name(n): sha for n, sha in entries[0].siblings.items() if sha}}
        with contextlib.suppress(OSError):
            copy = self._copies.read(path)
            if copy is None or copy.sha256s != wanted:
                copy = GoodCopy(path, {each: read_source(each) for each in wanted}, {})
            if copy.sha256s == wanted:
                return dataclasses.replace(copy, scorers={entry.id: entry.version for entry in entries})
        raise AutoScorerError(
            ErrorCode.SCORER_LOAD_ERROR,
            f"{path} has changed since it was loaded, so it is not given to the other hosts. Load it again.",
            details={"file": str(path)},
        )

    # --- this home's part --------------------------------------------------------------------------------------

    def _join(self) -> None:
        """Bring along what this home has, where it comes to a ledger for the first time."""
        with self._locked():  # of two processes that start at once both must be the same home
            note = self._read_note()
            if "home" not in note:
                note = {"home": secrets.token_hex(16)}
                self._write_note(note)
        self._home = note["home"]
        ledger = self._ask(lambda: self._ledger.secret(_LEDGER_ID, secrets.token_hex(16)))
        if note.get("ledger") == ledger:
            return
        files, watched = self.read(), self.watched()
        found = {path: copy for path in files if (copy := self._copies.read(path)) is not None and copy.scorers}

        def change(known: SharedScorers) -> ScorerChange:
            brought = dict[str, tuple[SharedScorer, str]]()
            for path, copy in found.items():
                text = _written(copy)
                kind: Kind = "loaded" if files[path].followed else "pinned"
                file = SharedScorer(
                    _text(path), self._home, kind, copy.sha256s[path], dict(copy.scorers), _digest(text.encode())
                )
                others = {**known.files, **{name: other for name, (other, _) in brought.items()}}
                if file.path not in others and not _taken(others, file.path, copy):
                    brought[file.path] = file, text
            watches = {_text(path): self._home for path in watched if _text(path) not in known.watches}
            return ScorerChange(files=[*brought.values()], watches=watches)

        known = self._ask(lambda: self._ledger.change_scorers(change))
        for path in files:
            if str(path) not in known.files:
                logger.warning("%s is not given to the other hosts: its scorers are taken, or it never loaded.", path)
        self._write_note({"home": self._home, "ledger": ledger})

    def _take(self, known: SharedScorers) -> None:
        """Have this home be as the ledger is."""
        foreign = {Path(path): file for path, file in known.files.items() if file.home != self._home and file.scorers}
        missing = [file.path for path, file in foreign.items() if _digest(self._copies.text(path)) != file.digest]
        if missing:
            for name, text in self._ask(lambda: self._ledger.scorer_copies(missing)).items():
                self._copies.put(Path(name), text.encode(), untried=True)
        files = dict[Path, ManifestFile]()
        for name, file in sorted(known.files.items()):
            followed = file.home == self._home and file.kind == "loaded"
            # What is away elsewhere is nobody's; what this home finds in a folder is not listed.
            if followed or (file.scorers and not (file.home == self._home and file.kind == "found")):
                files[Path(name)] = ManifestFile(sha256=file.sha256, scorers=dict(file.scorers), followed=followed)
        watched = sorted(Path(path) for path, home in known.watches.items() if home == self._home)
        with self._locked():
            self._write(ManifestContents(files=files, watched=tuple(watched)))
        self._write_note({**self._read_note(), "number": known.number})
        before, self._known = self._known.files if self._known is not None else {}, known
        for path, file in foreign.items():
            was = before.get(file.path)
            if was is None or (was.home, was.digest) != (file.home, file.digest):
                self._renewed.add(path)

    def _read_note(self) -> dict[str, Any]:
        """Which home this is, of which ledger, and as of which change."""
        with contextlib.suppress(OSError, ValueError):
            note = json.loads(self._note.read_bytes())
            if isinstance(note, dict):
                return note
        return {}

    def _write_note(self, note: dict[str, Any]) -> None:
        if note != self._read_note():
            write_atomic(self._note, json.dumps(note).encode() + b"\n")


@contextlib.contextmanager
def shared_manifest(settings: Settings) -> Iterator[SharedManifest]:
    """The scorer files of a home that shares its ledger, as they are now; for a command.

    Raises:
        AutoScorerError: As ``Ledger.open``.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="autoscorer-ledger", daemon=True)
    thread.start()
    try:
        ledger = asyncio.run_coroutine_threadsafe(Ledger.open(settings), loop).result()
        try:
            manifest = SharedManifest(settings.home, ledger, loop)
            manifest.take_over()
            yield manifest
        finally:
            asyncio.run_coroutine_threadsafe(ledger.close(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _taken(files: Mapping[str, SharedScorer], path: str, copy: GoodCopy) -> str | None:
    """An id of a file that another one has."""
    return next((i for file in files.values() if file.path != path for i in file.scorers if i in copy.scorers), None)


def _refuse_taken(known: SharedScorers, path: str, copy: GoodCopy) -> None:
    """Of two hosts that load the same id at the same moment the first has it."""
    if (taken := _taken(known.files, path, copy)) is not None:
        raise AutoScorerError(
            ErrorCode.SCORER_LOAD_ERROR,
            f"The id {taken!r} of {path} is taken by a file that was loaded through another host. Give one of them "
            "another id.",
            details={"scorer": taken, "file": path},
        )


def _written(copy: GoodCopy) -> str:
    return json.dumps(copy.to_dict(), sort_keys=True)


def _digest(text: bytes | None) -> str:
    return "" if text is None else hashlib.sha256(text).hexdigest()


def _text(path: Path) -> str:
    """A path as the ledger has it.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` for one that is not Unicode.
    """
    try:
        path.as_posix().encode()
    except UnicodeEncodeError:
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST, "A path whose name is not Unicode can't be shared with other hosts."
        ) from None
    return str(path)
