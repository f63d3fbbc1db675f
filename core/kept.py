"""Artifacts that outlive the next scoring: kept beside the workspace, by the sha256 that their Result gives for them.

``output/artifacts/`` holds the files of the Result that stands. What a Result lists is kept in
``.autoscorer/artifacts/`` as well, before the Result is written: so whoever has an earlier Result can have its files,
and never those of another run. docs/decisions/0017-artifacts-of-a-task.md says why there.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from ..schemas.result import Artifact, Result
from .errors import AutoScorerError
from .provenance import sha256_file
from .storage import sync_folder
from .workspace import Workspace, open_regular

__all__ = ["FOLDER", "is_digest", "keep_artifacts", "restore_artifacts"]

FOLDER = (".autoscorer", "artifacts")
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_READ = 1024 * 1024


def is_digest(text: str | None) -> bool:
    """Whether a text is a sha256 in hexadecimal digits, and so the name of a file that may be kept."""
    return text is not None and _DIGEST.fullmatch(text) is not None


def keep_artifacts(space: Workspace, result: Result, *, most_bytes: int | None, keep_seconds: float | None) -> None:
    """Keep what a Result lists, and let go of what is too much or too old.

    By hard links, so it takes no room while the Result stands; where the file system has none, by copies. Call it
    before the Result is written, and with the workspace held.

    Args:
        space: The workspace.
        result: The Result that is about to be written, its artifacts measured.
        most_bytes: Bytes that may be kept beside a workspace; those of ``result`` stay in any case. None: all of them.
        keep_seconds: Seconds for which one is kept after a Result listed it last. None: for ever.
    """
    folder = space.root.joinpath(*FOLDER)
    listed = [each for each in _listed(result) if is_digest(each.sha256)]
    # A file that can't be kept, on a full disk, say, can still be had from output/artifacts while its Result stands.
    with contextlib.suppress(OSError, AutoScorerError):
        if listed:
            _own(folder)
        for artifact in listed:
            with contextlib.suppress(OSError, AutoScorerError):
                _put(space.root / artifact.path, folder / str(artifact.sha256))
        if listed:
            sync_folder(folder)
        _forget(folder, {str(each.sha256) for each in listed}, most_bytes, keep_seconds)


def restore_artifacts(space: Workspace, result: Result) -> None:
    """Put back the artifacts of a Result that stands, where a scoring that was given up has written over them."""
    for artifact in _listed(result):
        place = space.root / artifact.path
        kept = space.root.joinpath(*FOLDER, str(artifact.sha256))
        # What is anywhere else is no artifact that was written here.
        inside = place.parent in (space.artifacts, space.artifacts / "shared")
        if not inside or not is_digest(artifact.sha256) or _digest(place) == artifact.sha256:
            continue
        if _digest(kept) == artifact.sha256:
            with contextlib.suppress(OSError, AutoScorerError):
                _put(kept, place)


def _listed(result: Result) -> Iterable[Artifact]:
    return [*result.artifacts.values(), *result.disclosed.artifacts.values()]


def _own(folder: Path) -> None:
    for each in (folder.parent, folder):
        # A link that somebody left in its place would send what is written to somewhere else.
        if each.is_symlink():
            each.unlink()
        each.mkdir(exist_ok=True)


def _put(source: Path, target: Path) -> None:
    """Make ``target`` the same file as ``source``, in one rename."""
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=".new-"))
    try:
        new = temporary / "file"
        try:
            os.link(source, new, follow_symlinks=False)
        except OSError:
            with open_regular(source) as opened, new.open("xb") as file:
                shutil.copyfileobj(opened, file, _READ)
                file.flush()
                os.fsync(file.fileno())
        if not stat.S_ISREG(new.lstat().st_mode):
            return
        os.replace(new, target)
        # By this age it is judged when a Result listed it last.
        os.utime(target, follow_symlinks=False)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _forget(folder: Path, listed: set[str], most_bytes: int | None, keep_seconds: float | None) -> None:
    found = []
    for entry in os.scandir(folder) if folder.is_dir() and not folder.is_symlink() else ():
        status = entry.stat(follow_symlinks=False)
        if entry.name.startswith(".new-"):  # of a process that was killed: who holds the workspace has no other
            shutil.rmtree(entry.path, ignore_errors=True)
        elif stat.S_ISREG(status.st_mode):
            found.append((status.st_mtime, entry.name, status.st_size))
    total = sum(size for _, _, size in found)
    oldest = time.time() - keep_seconds if keep_seconds is not None else None
    for moment, name, size in sorted(found):
        too_much = most_bytes is not None and total > most_bytes
        if name not in listed and (too_much or (oldest is not None and moment < oldest)):
            with contextlib.suppress(OSError):
                (folder / name).unlink()
                total -= size


def _digest(path: Path) -> str | None:
    # Not there, no plain file, not readable: in no case the bytes that are looked for.
    with contextlib.suppress(OSError):
        if stat.S_ISREG(path.lstat().st_mode):
            return sha256_file(path).hex()
    return None
