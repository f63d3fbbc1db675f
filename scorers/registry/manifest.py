"""Which scorer files this installation knows: folders of the configuration, and ``<home>/scorers.json``.

``autoscorer scorers load FILE`` copies nothing. It notes the file's path in scorers.json, so that every later
command, server and worker of the same home loads the file from where it lies. What other homes of the same ledger have
loaded stands there as pinned (``service/scorers/shared.py``). Files and folders that are watched by
order of the API stand there as well: what is there, or comes there, is loaded, and loaded anew when it changes. A
file that is followed no more is pinned: it stays loaded as it last did, until it is loaded again or unloaded.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode
from ...core.locks import held
from ...core.workspace import write_atomic
from .entry import ScorerEntry
from .last_good import LastGood
from .registry import ScorerRegistry, get_registry

__all__ = [
    "ManifestContents",
    "ManifestFile",
    "ScorerManifest",
    "configured_places",
    "load_configured",
    "pinned_files",
]

logger = logging.getLogger(__name__)


class ManifestFile(BaseModel):
    """What a file was when it was last loaded by a command; tells ``reload`` what has changed since."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str
    scorers: dict[str, str] = Field(description="Id to version.")
    followed: bool = Field(True, description="Loaded anew when it changes; else pinned: kept as it last loaded.")


class ManifestContents(BaseModel):
    """All that stands in scorers.json."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    files: dict[Path, ManifestFile] = Field(default_factory=dict)
    watched: tuple[Path, ...] = ()


class ScorerManifest:
    """scorers.json: the scorer files this home knows, and the files and folders it watches.

    Args:
        home: ``settings.home``.
    """

    def __init__(self, home: Path) -> None:
        self.path = home / "scorers.json"

    def read(self) -> dict[Path, ManifestFile]:
        """The files, by absolute path; empty when nothing was ever recorded.

        Raises:
            AutoScorerError: ``SCORER_LOAD_ERROR`` when scorers.json is damaged.
        """
        return self._read().files

    def watched(self) -> tuple[Path, ...]:
        """The files and folders that are watched, by absolute path; none of them need be there.

        Raises:
            AutoScorerError: As ``read``.
        """
        return self._read().watched

    def _read(self) -> ManifestContents:
        try:
            return ManifestContents.model_validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return ManifestContents()
        except (OSError, ValidationError) as error:
            why = error.strerror if isinstance(error, OSError) else error.errors()[0]["msg"]
            raise AutoScorerError(
                ErrorCode.SCORER_LOAD_ERROR,
                f"{self.path} can't be read: {why}. Repair or delete it; it lists the scorer files that were loaded.",
                details={"file": str(self.path)},
            ) from None

    def pinned(self, folders: Sequence[Path] = ()) -> dict[Path, ManifestFile]:
        """The pinned files: they stay loaded as they last did, whatever is saved there.

        Args:
            folders: Of the configuration: what lies in them is followed.

        Raises:
            AutoScorerError: As ``read``.
        """
        contents = self._read()
        wanted = {*folders, *contents.watched}
        return {p: file for p, file in contents.files.items() if not file.followed and not {p, p.parent} & wanted}

    def add(self, path: Path, entries: Sequence[ScorerEntry], *, followed: bool | None = None) -> None:
        """Record a file and what it registered.

        Args:
            path: The file.
            entries: What it registered.
            followed: Whether it is loaded anew when it changes; None for as it was, and at first True.

        Raises:
            AutoScorerError: As ``read``.
        """
        with self._locked():
            contents = self._read()
            if followed is None:
                followed = path not in contents.files or contents.files[path].followed
            noted = _manifest_file(entries, followed=followed)
            self._write(contents.model_copy(update={"files": dict(sorted({**contents.files, path: noted}.items()))}))

    def pin(self, path: Path, loaded: Mapping[Path, Sequence[ScorerEntry]]) -> None:
        """Stop following a file or folder, and pin what is loaded from it.

        Args:
            path: The file or folder.
            loaded: The files of it that are loaded, with what they registered.

        Raises:
            AutoScorerError: As ``read``.
        """
        with self._locked():
            contents = self._read()
            watched = tuple(known for known in contents.watched if known != path)
            files = {known: noted for known, noted in contents.files.items() if known != path}
            for file, entries in loaded.items():
                # One in a folder that somebody has loaded by itself is followed for its own sake.
                if file == path or file not in files or not files[file].followed:
                    files[file] = _manifest_file(entries, followed=False)
            self._write(ManifestContents(files=dict(sorted(files.items())), watched=watched))

    def remove(self, path: Path) -> ManifestFile | None:
        """Forget a file; None when it was not recorded.

        Raises:
            AutoScorerError: As ``read``.
        """
        with self._locked():
            contents = self._read()
            gone = contents.files.get(path)
            if gone is not None:
                files = {known: noted for known, noted in contents.files.items() if known != path}
                self._write(contents.model_copy(update={"files": files}))
            return gone

    def watch(self, path: Path) -> bool:
        """Record that a file or folder is watched; False when it was before.

        Raises:
            AutoScorerError: As ``read``.
        """
        with self._locked():
            contents = self._read()
            if path in contents.watched:
                return False
            self._write(contents.model_copy(update={"watched": tuple(sorted((*contents.watched, path)))}))
            return True

    def unwatch(self, path: Path) -> bool:
        """Forget that it is watched; False when it was not.

        Raises:
            AutoScorerError: As ``read``.
        """
        with self._locked():
            contents = self._read()
            if path not in contents.watched:
                return False
            watched = tuple(known for known in contents.watched if known != path)
            self._write(contents.model_copy(update={"watched": watched}))
            return True

    # --- where several homes share a ledger, and nothing in a home alone ---------------------------------------

    def elsewhere(self) -> Mapping[Path, str]:
        """What other homes follow, and whether it is ``loaded`` or ``watched`` there."""
        return {}

    def is_foreign(self, path: Path) -> bool:
        """Whether another home keeps a file up to date."""
        return False

    def take_over(self) -> set[Path]:
        """Take over what other homes have changed; the files of which there is another copy now."""
        return set()

    def hand_over(self, registry: ScorerRegistry) -> None:
        """Let other homes have what this one follows, as the registry has it now."""

    # --- within ------------------------------------------------------------------------------------------------

    def _write(self, contents: ManifestContents) -> None:
        value = contents.model_dump(mode="json")
        write_atomic(self.path, json.dumps(value, ensure_ascii=False, indent=2).encode() + b"\n")

    def _locked(self) -> AbstractContextManager[None]:
        # Two commands at once must not lose one another's line.
        return held(self.path.with_suffix(".lock"))


def _manifest_file(entries: Sequence[ScorerEntry], *, followed: bool) -> ManifestFile:
    return ManifestFile(sha256=entries[0].sha256 or "", scorers={e.id: e.version for e in entries}, followed=followed)


def load_configured(
    settings: Settings, *, extra: Sequence[Path] = (), registry: ScorerRegistry | None = None
) -> ScorerRegistry:
    """Bring a registry up to date with the configuration: ``scorers.dirs``, and the recorded files and folders.

    Cheap to call again (unchanged files are not run again), so a worker may call it before every run. What does
    not load is logged and stands in ``registry.errors()``; it breaks nothing else.

    Args:
        settings: The configuration.
        extra: More folders (``--scorers DIR``).
        registry: The registry; this process's own when None.

    Returns:
        The registry.
    """
    registry = get_registry() if registry is None else registry
    registry.entry_points = settings.scorers.entry_points
    registry.last_good = LastGood(settings.home)
    told = {failure.error.message for failure in registry.errors()}
    folders, files = configured_places(settings, extra=extra)
    pinned = pinned_files(settings, folders)
    for folder in folders:
        with contextlib.suppress(AutoScorerError):
            registry.load_directory(folder)
    for file in files:
        with contextlib.suppress(AutoScorerError):
            if file in pinned:
                registry.load_pinned(file, pinned[file].sha256)
            else:
                registry.load_file(file)
    for failure in registry.errors():
        if failure.origin in ("file", "directory") and failure.error.message not in told:
            logger.warning("%s", failure.error.message)
    return registry


def pinned_files(settings: Settings, folders: Sequence[Path]) -> dict[Path, ManifestFile]:
    """The pinned files (``ScorerManifest.pinned``); none where scorers.json is damaged.

    Args:
        settings: The configuration.
        folders: What ``configured_places`` gives: what lies in them is followed.
    """
    with contextlib.suppress(AutoScorerError):  # told by configured_places
        return ScorerManifest(settings.home).pinned(folders)
    return {}


def configured_places(
    settings: Settings, *, extra: Sequence[Path] = (), missing: bool = False
) -> tuple[list[Path], list[Path]]:
    """The folders and the single files that scorers are loaded from, in their order.

    Args:
        settings: The configuration.
        extra: More folders (``--scorers DIR``).
        missing: Also the files that are watched and are not there (yet, or for a moment).
    """
    try:
        manifest = ScorerManifest(settings.home)
        files, watched = [*manifest.read()], manifest.watched()
    except AutoScorerError as error:
        logger.warning("%s", error.message)
        files, watched = [], ()
    # What is watched may not be there yet, or no more: that is no fault.
    folders = [path for path in watched if os.path.isdir(path)]
    alone = [path for path in watched if path not in folders and path not in files]
    files += [path for path in alone if os.path.isfile(path) or (missing and path.suffix == ".py")]
    return [Path(os.path.abspath(f.expanduser())) for f in (*settings.scorers.dirs, *extra)] + folders, files
