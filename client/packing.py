"""A workspace's folder as an archive, made while it is sent: nothing is written to the disk for it."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast

from ..core.errors import AutoScorerError, ErrorCode
from ..core.workspace import open_regular
from .connection import Connection

__all__ = ["PackedFolder", "send"]

# What the API would leave out: it says what a system has done with a workspace, and there nobody has done it yet.
LEFT_OUT = (("output", "result.json"), ("output", "artifacts"), ("output", "history"), ("logs",), (".autoscorer",))
_CHUNK = 256 * 1024
# Of gzip: ground truths are text, and a link between two machines is slower than this.
_LEVEL = 1


def send(
    api: Connection, path: Path, name: str | None, on_progress: Callable[[int, int], None] | None
) -> dict[str, Any]:
    """Send a folder or an archive, as ``Client.upload`` says it."""
    if path.is_dir():
        folder = PackedFolder(path)
        tell = (lambda done: on_progress(done, folder.size)) if on_progress is not None else None
        packed = cast(IO[bytes], _Stream(folder.chunks(tell)))
        sent: dict[str, Any] = api.send_file(
            "/workspaces", packed, f"{path.name}.tar.gz", {"name": path.name if name is None else name}
        )
        return {**sent, "left_out": [*folder.left_out, *sent["left_out"]]}
    with _open_archive(path) as file:
        fields = {} if name is None else {"name": name}
        uploaded: dict[str, Any] = api.send_file("/workspaces", _counted(file, on_progress), path.name, fields)
    return uploaded


class _Stream(io.RawIOBase):
    """Chunks, read as a file; what was read counts as sent.

    Args:
        chunks: Of any size.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._left = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        parts, wanted = [self._left], size - len(self._left)
        while size < 0 or wanted > 0:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            parts.append(chunk)
            wanted -= len(chunk)
        data = b"".join(parts)
        size = len(data) if size < 0 else size
        data, self._left = data[:size], data[size:]
        return data


class PackedFolder:
    """A workspace's folder, to be sent as .tar.gz.

    Links, devices and FIFOs stay here: no API takes them. So do an earlier Result, its artifacts and logs.

    Args:
        folder: With a meta.json.

    Attributes:
        size: Bytes of its files.
        left_out: What is not packed, relative to the folder.

    Raises:
        AutoScorerError: ``INVALID_META`` when it holds no meta.json, ``INVALID_REQUEST`` when it can't be read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._entries: list[tuple[str, os.stat_result]] = []
        self.left_out: list[str] = []
        self.size = 0
        try:
            self._look(())
        except OSError as error:
            raise _unreadable(error.filename or folder, error.strerror) from None
        if not any(name == "meta.json" for name, _ in self._entries):
            why = "it is a link, which is not sent" if "meta.json" in self.left_out else "it has none"
            raise AutoScorerError(
                ErrorCode.INVALID_META,
                f"{str(folder)!r} can't be uploaded: expected a workspace with a meta.json, and {why}.",
            )

    def _look(self, parts: tuple[str, ...]) -> None:
        with os.scandir(self._folder.joinpath(*parts)) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            path = (*parts, entry.name)
            name = "/".join(path)
            about = entry.stat(follow_symlinks=False)
            is_folder = stat.S_ISDIR(about.st_mode)
            if path in LEFT_OUT or not (is_folder or stat.S_ISREG(about.st_mode)):
                self.left_out.append(name)
                continue
            self._entries.append((name, about))
            if is_folder:
                self._look(path)
            else:
                self.size += about.st_size

    def chunks(self, on_progress: Callable[[int], None] | None = None) -> Iterator[bytes]:
        """The archive.

        Args:
            on_progress: Told how many bytes of the files were read so far.

        Raises:
            AutoScorerError: ``INVALID_REQUEST`` when a file can't be read, or became shorter meanwhile.
        """
        packer = zlib.compressobj(_LEVEL, wbits=31)
        done = 0
        for name, about in self._entries:
            is_folder = stat.S_ISDIR(about.st_mode)
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE if is_folder else tarfile.REGTYPE
            info.mode, info.mtime = stat.S_IMODE(about.st_mode), int(about.st_mtime)
            info.size = 0 if is_folder else about.st_size
            try:
                header = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")
            except UnicodeError:
                raise _unreadable(name, "its name is not UTF-8") from None
            yield packer.compress(header)
            if is_folder:
                continue
            for chunk in self._content(name, info.size):
                done += len(chunk)
                yield packer.compress(chunk)
                if on_progress is not None:
                    on_progress(done)
            yield packer.compress(bytes(-info.size % tarfile.BLOCKSIZE))
        yield packer.compress(bytes(2 * tarfile.BLOCKSIZE)) + packer.flush()

    def _content(self, name: str, size: int) -> Iterator[bytes]:
        left = size
        with contextlib.ExitStack() as stack:
            try:
                file = stack.enter_context(open_regular(self._folder / name))
                while left > 0 and (chunk := file.read(min(_CHUNK, left))):
                    left -= len(chunk)
                    yield chunk
            except AutoScorerError as error:
                raise _unreadable(name, error.message) from None
            except OSError as error:
                raise _unreadable(name, error.strerror) from None
        if left:
            raise _unreadable(name, "it became shorter while it was sent")


def _unreadable(name: object, why: str | None) -> AutoScorerError:
    return AutoScorerError(ErrorCode.INVALID_REQUEST, f"{str(name)!r} can't be uploaded: {why or 'it is unreadable'}.")


def _open_archive(path: Path) -> IO[bytes]:
    """An archive, to be sent.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` when there is none, or it can't be read.
    """
    if not path.is_file():
        what = "is neither a folder nor a file" if path.exists() else "does not exist"
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            f"{str(path)!r} {what}. Expected a workspace's folder, or an archive of one (.zip, .tar, .tar.gz, "
            ".tar.bz2, .tar.xz).",
        )
    try:
        return path.open("rb")
    except OSError as error:
        raise _unreadable(path, error.strerror) from None


def _counted(file: IO[bytes], on_progress: Callable[[int, int], None] | None) -> IO[bytes]:
    """A file that tells how much of it was read."""
    return file if on_progress is None else cast(IO[bytes], _Counted(file, on_progress))


class _Counted:
    def __init__(self, file: IO[bytes], on_progress: Callable[[int, int], None]) -> None:
        self._file, self._on_progress = file, on_progress
        self._size, self._done = os.fstat(file.fileno()).st_size, 0

    def fileno(self) -> int:
        """By which its length is known, so that it is sent with one."""
        return self._file.fileno()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._done += len(data)
        self._on_progress(self._done, self._size)
        return data
