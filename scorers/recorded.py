"""Which scorer files this installation knows: folders of the configuration, and ``<home>/scorers.json``.

``autoscorer scorers load FILE`` copies nothing. It notes the file's path in scorers.json, so that every later
command, server and worker of the same home loads the file from where it lies.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..core.config import Settings
from ..core.errors import AutoScorerError, ErrorCode
from ..core.workspace import write_atomic
from .entry import ScorerEntry
from .registry import ScorerRegistry, get_registry

__all__ = ["RecordedFile", "RecordedFiles", "load_configured"]

logger = logging.getLogger(__name__)


class RecordedFile(BaseModel):
    """What a file was when it was last loaded by a command; tells ``reload`` what has changed since."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str
    scorers: dict[str, str] = Field(description="Id to version.")


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    files: dict[Path, RecordedFile] = Field(default_factory=dict)


class RecordedFiles:
    """scorers.json.

    Args:
        home: ``settings.home``.
    """

    def __init__(self, home: Path) -> None:
        self.path = home / "scorers.json"

    def read(self) -> dict[Path, RecordedFile]:
        """The files, by absolute path; empty when nothing was ever recorded.

        Raises:
            AutoScorerError: ``SCORER_LOAD_ERROR`` when scorers.json is damaged.
        """
        try:
            return _Record.model_validate_json(self.path.read_bytes()).files
        except FileNotFoundError:
            return {}
        except (OSError, ValidationError) as error:
            why = error.strerror if isinstance(error, OSError) else error.errors()[0]["msg"]
            raise AutoScorerError(
                ErrorCode.SCORER_LOAD_ERROR,
                f"{self.path} can't be read: {why}. Mend or delete it; it lists the scorer files that were loaded.",
                details={"file": str(self.path)},
            ) from None

    def add(self, path: Path, entries: Sequence[ScorerEntry]) -> None:
        """Record a file and what it registered.

        Raises:
            AutoScorerError: As ``read``.
        """
        noted = RecordedFile(sha256=entries[0].sha256 or "", scorers={e.id: e.version for e in entries})
        with self._locked():
            self._write({**self.read(), path: noted})

    def remove(self, path: Path) -> RecordedFile | None:
        """Forget a file; None when it was not recorded.

        Raises:
            AutoScorerError: As ``read``.
        """
        with self._locked():
            files = self.read()
            gone = files.pop(path, None)
            if gone is not None:
                self._write(files)
            return gone

    def _write(self, files: dict[Path, RecordedFile]) -> None:
        value = _Record(files=dict(sorted(files.items()))).model_dump(mode="json")
        write_atomic(self.path, json.dumps(value, ensure_ascii=False, indent=2).encode() + b"\n")

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        # Two commands at once must not lose one another's line.
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


def load_configured(
    settings: Settings, *, extra: Sequence[Path] = (), registry: ScorerRegistry | None = None
) -> ScorerRegistry:
    """Bring a registry up to date with the configuration: ``scorers.dirs``, and the recorded files.

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
    told = {failure.error.message for failure in registry.errors()}
    for folder in (*settings.scorers.dirs, *extra):
        with contextlib.suppress(AutoScorerError):
            registry.load_directory(folder.expanduser())
    try:
        files = RecordedFiles(settings.home).read()
    except AutoScorerError as error:
        logger.warning("%s", error.message)
        files = {}
    for file in files:
        with contextlib.suppress(AutoScorerError):
            registry.load_file(file)
    for failure in registry.errors():
        if failure.origin in ("file", "directory") and failure.error.message not in told:
            logger.warning("%s", failure.error.message)
    return registry
