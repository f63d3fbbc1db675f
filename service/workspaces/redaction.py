"""The host's paths, taken out of what is shown: what stands for each, and where it stands in a text."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ...core.config import Settings
from ...core.errors import AutoScorerError
from ...scorers.registry.manifest import ScorerManifest

__all__ = ["PathRedactor", "each_text"]

_PACKAGE = Path(__file__).resolve().parents[2]
_TOP = Path("/")
# A name that merely begins like one of ours (/database, /data.old for /data) is another, and so is one that only ends
# like it (/mnt/data, s3://data).
_BEGIN, _END = r"(?<![\w.-])(?<!:/)", r"(?![\w-]|\.\w)"


class PathRedactor:
    """Takes the host's paths out of JSON values.

    Args:
        roots: Every way to write a workspace root, with what it is called outside.
        settings: The configuration.
    """

    def __init__(self, roots: Iterable[tuple[Path, str]], settings: Settings) -> None:
        self._always: dict[str, str] = {}
        for path, label in roots:
            self._always.setdefault(str(path), label)
        temporary = Path(tempfile.gettempdir())
        for path, called in ((settings.home, "<home>"), (_PACKAGE, "<autoscorer>"), (temporary, "<tmp>")):
            for spelled in (path, _real(path)):
                self._always.setdefault(str(spelled), called)
        self._dirs = settings.scorers.dirs
        self._record = ScorerManifest(settings.home)
        self._recorded: tuple[int, int] | None = None
        self._instead: dict[str, str] = {}
        self._know(())

    def __call__(self, value: Any) -> Any:
        """The value as it may be shown: as ``WorkspaceRoots.redact`` says."""
        self._refresh()
        return each_text(value, self._text)

    def _refresh(self) -> None:
        """Learn where scorer files lie that were loaded, or are watched, since."""
        try:
            found = os.stat(self._record.path)
        except OSError:
            return  # none ever was; and of those that were once, a text may still tell
        if self._recorded != (found.st_ino, found.st_mtime_ns):
            self._recorded = found.st_ino, found.st_mtime_ns
            with contextlib.suppress(AutoScorerError):  # damaged: whoever loads scorers says so
                self._know((*self._record.read(), *self._record.watched()))

    def _know(self, scorers: Iterable[Path]) -> None:
        instead = dict(self._always)
        roots = [Path(text) for text in self._always]
        for path in (*(folder.expanduser() for folder in self._dirs), *scorers):
            for spelled in (Path(os.path.abspath(path)), _real(path)):
                for place in (spelled, *([spelled.parent] if spelled.suffix == ".py" else [])):
                    # In a root, it has a better name already.
                    if not any(place.is_relative_to(root) for root in roots if root != _TOP):
                        instead.setdefault(str(place), f"…/{place.name}")
        # / itself, as a root, says nothing about the host. The longest first: a root may lie in the home.
        known = sorted((text for text in instead if text != "/"), key=len, reverse=True)
        pattern = re.compile(f"{_BEGIN}({'|'.join(map(re.escape, known))}){_END}(/+(?=[^/\\s]))?")
        # Never less than before: another thread may be at a text with the pattern of before.
        self._instead |= instead
        self._pattern = pattern

    def _text(self, value: str) -> str:
        text = self._pattern.sub(self._replace, value) if "/" in value else value
        # A label of a submission may hold half a character, which JSON can escape and UTF-8 can't hold.
        return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()

    def _replace(self, found: re.Match[str]) -> str:
        instead = self._instead[found[1]]
        if found[2]:  # something in it
            return f"{instead}/" if instead else ""
        return instead or "."


def each_text(value: Any, change: Callable[[str], str]) -> Any:
    """A JSON value with every string changed, keys included; what stands under the key ``traceback`` is left out."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {each_text(key, change): each_text(item, change) for key, item in value.items() if key != "traceback"}
    if isinstance(value, (list, tuple)):
        return [each_text(item, change) for item in value]
    return value


def _real(path: Path | str) -> Path:
    return Path(os.path.realpath(path))
