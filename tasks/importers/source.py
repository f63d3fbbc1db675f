"""The files of a bundle: a folder or an archive, with folders, archives and files in it that it names.

Nothing is taken but plain files and folders with plain names; what leads out of the bundle, links and what unpacks to
too much are refused, wherever they stand.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from ...core.archives import ArchiveLimits, read_archive
from ...core.errors import AutoScorerError, ErrorCode, Stage
from ...core.plain_names import has_hidden_characters
from ...core.text import escape

__all__ = ["Bundle", "open_bundle"]

_LIMITS = ArchiveLimits(files=200_000, unpacked=64 * 1024**3, named=("the most that is imported",) * 2)
# What packing tools add.
_BESIDE = frozenset({"__MACOSX", ".DS_Store"})
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


class Bundle:
    """An opened bundle.

    Args:
        root: The folder that its configuration lies in.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def find(self, name: str, *, what: str) -> Path:
        """The file or folder of a name that the configuration gives.

        Args:
            name: A relative path.
            what: The key that gives it, for messages.

        Raises:
            AutoScorerError: ``MISSING_FILE``; ``BAD_FORMAT`` for one that leads out of the bundle.
        """
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if not parts or name.startswith("/") or ".." in parts or has_hidden_characters(name):
            raise _bad(f"{what}: {_shown(name)} is not the path of a file in the bundle")
        path = self.root.joinpath(*parts)
        if not os.path.lexists(path):
            raise AutoScorerError(
                ErrorCode.MISSING_FILE,
                f"{what}: {_shown(name)} is not in the bundle. Where it is the id of something that only the platform "
                "has, download that and name the file.",
                stage=Stage.VALIDATION,
                details={"key": what},
            )
        if path.resolve() != path:
            raise _bad(f"{what}: {_shown(name)} is a link, or lies below one; put the data itself there")
        return path

    def place(self, name: str, target: Path, *, what: str, unpack: bool = True) -> None:
        """Copy a folder, the content of an archive, or a file to a new folder.

        Args:
            name: As in ``find``.
            target: The folder that is made.
            what: As in ``find``.
            unpack: Whether an archive stands for its content.

        Raises:
            AutoScorerError: As ``find``; ``INVALID_REQUEST`` or ``PAYLOAD_TOO_LARGE`` for an archive that is refused.
        """
        source = self.find(name, what=what)
        target.mkdir(parents=True)
        if source.is_dir():
            _copy_folder(source, target, what)
        elif unpack and source.name.lower().endswith(_ARCHIVES):
            _unpack(source, target)
        else:
            _copy_file(source, target / source.name)


@contextlib.contextmanager
def open_bundle(source: Path, names: Sequence[str], *, near: Path) -> Iterator[tuple[Bundle, Path]]:
    """Open a folder or an archive, in which a configuration lies at the top, or in the only folder there.

    Args:
        source: The folder or archive.
        names: What the configuration may be called.
        near: A folder on whose disk an archive is unpacked, for as long as the bundle is open.

    Yields:
        The bundle, and its configuration's path.

    Raises:
        AutoScorerError: ``MISSING_FILE``; as ``Bundle.place``.
    """
    with contextlib.ExitStack() as stack:
        if source.is_dir():
            root = source
        elif source.is_file():
            root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".importing-", dir=near)))
            _unpack(source, root)
        else:
            raise AutoScorerError(
                ErrorCode.MISSING_FILE, f"{_shown(str(source))} is not there.", stage=Stage.VALIDATION
            )
        bundle, found = _rooted(root, names)
        yield bundle, found


def _rooted(root: Path, names: Sequence[str]) -> tuple[Bundle, Path]:
    folders = [entry for entry in sorted(root.iterdir()) if entry.is_dir() and entry.name not in _BESIDE]
    for folder in [root, *(folders if len(folders) == 1 else [])]:
        for name in names:
            if (folder / name).is_file():
                bundle = Bundle(folder)
                return bundle, bundle.find(name, what=name)
    raise AutoScorerError(
        ErrorCode.MISSING_FILE,
        f"{' or '.join(names)} is not in {_shown(root.name)}. Expected the folder or archive of one competition.",
        stage=Stage.VALIDATION,
    )


def _unpack(source: Path, target: Path) -> None:
    with open(source, "rb") as file:
        for member in read_archive(file, _LIMITS):
            if not _BESIDE.isdisjoint(member.parts):
                continue
            path = target.joinpath(*member.parts)
            if member.is_dir:
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "xb") as out:
                for chunk in member.chunks:
                    out.write(chunk)
            path.chmod(0o755 if member.executable else 0o644)


def _copy_folder(source: Path, target: Path, what: str) -> None:
    count = size = 0
    pending = [(source, target)]
    while pending:
        folder, copy = pending.pop()
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if entry.name in _BESIDE:
                continue
            path, count = Path(entry.path), count + 1
            if has_hidden_characters(entry.name) or "\\" in entry.name:
                raise _bad(f"{what}: the name {_shown(entry.name)} holds a character that is not seen, or a backslash")
            if entry.is_dir(follow_symlinks=False):
                (copy / entry.name).mkdir()
                pending.append((path, copy / entry.name))
            else:
                size += entry.stat(follow_symlinks=False).st_size
                if count > _LIMITS.files or size > _LIMITS.unpacked:
                    raise _bad(
                        f"{what}: more than {_LIMITS.files:,} files or {_LIMITS.unpacked // 1024**3} GiB, the most "
                        "that is imported"
                    )
                _copy_file(path, copy / entry.name)


def _copy_file(source: Path, target: Path) -> None:
    """Copy a plain file, without following a link to one."""
    status = source.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise _bad(f"{_shown(source.name)} is a link, or not a plain file; only plain files and folders are taken")
    shutil.copyfile(source, target, follow_symlinks=False)
    target.chmod(0o755 if status.st_mode & 0o100 else 0o644)


def _shown(name: str) -> str:
    return escape(repr(name if len(name) <= 100 else name[:100] + "…"))


def _bad(message: str) -> AutoScorerError:
    return AutoScorerError(ErrorCode.BAD_FORMAT, f"{message}.", stage=Stage.VALIDATION)
