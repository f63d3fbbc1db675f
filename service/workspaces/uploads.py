"""Workspaces that are uploaded: one archive in, one folder under a workspace root out, or nothing at all.

An upload is received and unpacked in a hidden folder of the root it goes to, so that the last step is a rename. The
folder is locked by the process that works in it: what a killed one has left is told by its lock being free.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from ...core.archives import ArchiveLimits, read_archive
from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode, Stage
from ...core.locks import acquire, try_lock
from ...core.meta import load_job
from ...core.storage import full_disk, no_room
from ...core.workspace import Workspace
from .reading import WorkspaceView, view_workspace
from .replacing import DeletedWorkspace, delete_workspace, put_back, replace_workspace, root_of
from .roots import WorkspaceRoots
from .unpacked import check_name, find_workspace, leave_out, name_of_archive, normalise, sync

__all__ = ["Upload", "UploadedWorkspace", "Uploads", "remove_leftovers"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

_PREFIX = ".autoscorer-upload-"
# Uploads that are written or unpacked at the same time; the others wait.
_THREADS = 2
_BUFFER = 1024 * 1024
_CHECK_ROOM_EVERY = 32 * 1024**2


class UploadedWorkspace(BaseModel):
    """A workspace that was put in place."""

    model_config = ConfigDict(extra="forbid")

    workspace: WorkspaceView
    files: int
    size: int = Field(description="Bytes of all of them.")
    left_out: list[str] = Field(
        description="What stood in the archive and was not taken over: records of runs and scorings that were not made "
        "here (result.json, artifacts, history, logs), and what packing tools add."
    )


class Uploads:
    """Takes workspaces in.

    Args:
        settings: ``api.max_upload``, ``api.max_unpacked``, ``api.max_files``, ``security.limits.free_disk``.
        roots: The first of them is where uploads go.
    """

    def __init__(self, settings: Settings, roots: WorkspaceRoots) -> None:
        self.settings, self.roots = settings, roots
        self.root = roots.paths[0]
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="autoscorer-upload")

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, settings: Settings, roots: WorkspaceRoots) -> AsyncIterator[Uploads]:
        """Take workspaces in until the end of the block; what killed processes have left is removed first."""
        for name in await asyncio.to_thread(remove_leftovers, roots):
            logger.warning("removed %s: an upload whose process ended before it was done", name)
        uploads = cls(settings, roots)
        try:
            yield uploads
        finally:
            uploads._threads.shutdown(wait=False, cancel_futures=False)

    @contextlib.asynccontextmanager
    async def begin(self, replacing: Path | None = None) -> AsyncIterator[Upload]:
        """An upload that is under way; whatever happens inside, nothing of it stays but a workspace in its place.

        Args:
            replacing: The workspace whose place it takes; None for a new one.

        Raises:
            AutoScorerError: ``BACKEND_UNAVAILABLE`` when the root can't be written or its disk is full.
        """
        upload = Upload(self, replacing)
        try:
            await upload.open()
            yield upload
        finally:
            await asyncio.shield(upload.close())

    async def delete(self, workspace: Path) -> DeletedWorkspace:
        """Delete a workspace. Raises as ``delete_workspace``."""
        return await self.in_thread(lambda: delete_workspace(self.roots, workspace, _PREFIX))

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Do what blocks, off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


class Upload:
    """One archive that comes in."""

    def __init__(self, uploads: Uploads, replacing: Path | None = None) -> None:
        self._uploads = uploads
        self._replacing = replacing
        # Of the same file system, so that the last step is a rename.
        self._root = uploads.root if replacing is None else root_of(uploads.roots, replacing)
        self._api = uploads.settings.api
        self._folder: Path | None = None
        self._lock: int | None = None
        self._file: IO[bytes] | None = None
        self._buffer = bytearray()
        self._size = 0
        self._room_at = 0
        self._given_up = threading.Event()
        # Of a thread that is still at work when its caller has gone.
        self._working = threading.Lock()

    async def open(self) -> None:
        """Make the hidden folder and the file for the archive."""
        await self._do(self._open)

    async def write(self, data: bytes) -> None:
        """Take the next part of the archive.

        Raises:
            AutoScorerError: ``PAYLOAD_TOO_LARGE``, or ``BACKEND_UNAVAILABLE`` when the disk is full.
        """
        self._size += len(data)
        if self._size > self._api.max_upload:
            raise AutoScorerError(
                ErrorCode.PAYLOAD_TOO_LARGE,
                f"The archive is larger than {self._api.max_upload:,} bytes (api.max_upload).",
                details={"limit": self._api.max_upload},
            )
        self._buffer += data
        if len(self._buffer) >= _BUFFER:
            await self._flush()

    async def place(self, *, name: str | None, filename: str | None) -> UploadedWorkspace:
        """Unpack what has come and put the workspace in place, in one step.

        Args:
            name: What it is to be called.
            filename: The archive's own name. Without ``name`` it is called as the archive's one top folder, or as the
                archive without its suffix.

        Raises:
            AutoScorerError: ``INVALID_REQUEST`` for an archive or a name that is refused, ``INVALID_META``,
                ``PAYLOAD_TOO_LARGE``, ``CONFLICT`` when the name is taken, ``BACKEND_UNAVAILABLE``.
        """
        if name is not None:
            check_name(name)
            self._refuse_taken(name)
        await self._flush()
        return await self._do(lambda: self._place(name, filename))

    async def close(self) -> None:
        """Remove what is left of it; a second time does nothing."""
        self._given_up.set()
        await self._uploads.in_thread(self._close)

    # --- in a thread --------------------------------------------------------------------------------------------

    async def _do(self, work: Callable[[], T]) -> T:
        def locked() -> T:
            with self._working:
                if self._given_up.is_set():
                    raise _gone()
                try:
                    return work()
                except OSError as error:
                    if (full := full_disk(error, workspace=self._root)) is not None:
                        raise full from None
                    raise _unavailable(f"The upload can't be written: {error.strerror}.") from None

        return await self._uploads.in_thread(locked)

    def _open(self) -> None:
        self._check_room()
        self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self._root))
        self._lock = acquire(self._folder / "lock", mode=0o600)
        self._file = (self._folder / "archive").open("xb+", buffering=0)

    async def _flush(self) -> None:
        data, self._buffer = bytes(self._buffer), bytearray()
        await self._do(lambda: self._append(data))

    def _append(self, data: bytes) -> None:
        assert self._file is not None
        self._make_room(len(data))
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]

    def _make_room(self, size: int) -> None:
        self._room_at -= size
        if self._room_at <= 0:
            self._check_room()
            self._room_at = _CHECK_ROOM_EVERY

    def _check_room(self) -> None:
        status = os.statvfs(self._root)
        free, needed = status.f_bavail * status.f_frsize, self._uploads.settings.security.limits.free_disk
        if free < needed:
            raise no_room(free, needed, stage=Stage.API)

    def _place(self, name: str | None, filename: str | None) -> UploadedWorkspace:
        assert self._folder is not None and self._file is not None
        unpacked = self._folder / "unpacked"
        unpacked.mkdir(mode=0o755)
        self._unpack(unpacked)
        top, left_out = find_workspace(unpacked)
        if self._replacing is not None:
            name = self._replacing.name
        else:
            name = name or (top.name if top != unpacked else name_of_archive(filename))
            check_name(name)
        # Under its own name from here on: a job without an id is called so.
        named = self._folder / "named"
        named.mkdir()
        top = top.rename(named / name)
        left_out += leave_out(top)
        load_job(Workspace(top))
        files, size = normalise(top)
        sync(top)
        if self._given_up.is_set():
            raise _gone()
        if self._replacing is not None:
            target = self._replacing
            replace_workspace(top, target, self._folder)
        else:
            target = self._put_in_place(top)
        view = view_workspace(self._uploads.roots, target)
        return UploadedWorkspace(workspace=view, files=files, size=size, left_out=sorted(left_out))

    def _put_in_place(self, top: Path) -> Path:
        target = self._root / top.name
        self._refuse_taken(top.name)
        try:
            # Over nothing, or at worst an empty folder that has just been made: no content is ever replaced.
            top.rename(target)
        except OSError as error:
            self._refuse_taken(top.name)
            raise _unavailable(f"The workspace can't be put in place: {error.strerror}.") from None
        sync(self._root)
        return target

    def _unpack(self, target: Path) -> None:
        assert self._file is not None
        self._file.seek(0)
        with os.fdopen(os.dup(self._file.fileno()), "rb") as archive:
            limits = ArchiveLimits(self._api.max_files, self._api.max_unpacked)
            for member in read_archive(archive, limits, lambda parts: target.joinpath(*parts).open("rb")):
                path = target.joinpath(*member.parts)
                if member.is_dir:
                    path.mkdir(parents=True, exist_ok=True)
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("xb") as file:
                    for chunk in member.chunks:
                        if self._given_up.is_set():
                            raise _gone()
                        self._make_room(len(chunk))
                        file.write(chunk)
                    os.fchmod(file.fileno(), 0o755 if member.executable else 0o644)

    def _refuse_taken(self, name: str) -> None:
        if os.path.lexists(self._root / name):
            raise AutoScorerError(
                ErrorCode.CONFLICT,
                f"There is something called {name!r} already; an upload replaces nothing. Give another name in the "
                "form field `name`.",
                details={"name": name},
            )

    def _close(self) -> None:
        with self._working:
            if self._file is not None:
                self._file.close()
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
            if self._lock is not None:
                os.close(self._lock)
            self._file = self._folder = self._lock = None


def remove_leftovers(roots: WorkspaceRoots) -> list[str]:
    """Remove what uploads have left whose process was killed; for the start of the API.

    Args:
        roots: Where workspaces may lie.

    Returns:
        The names of the folders that went. One that another process works in stays.
    """
    removed = []
    for root in roots.paths:
        for folder in root.glob(_PREFIX + "*"):
            if not folder.is_symlink() and _is_abandoned(folder):
                put_back(folder)
                shutil.rmtree(folder, ignore_errors=True)
                removed.append(folder.name)
    return removed


def _is_abandoned(folder: Path) -> bool:
    try:
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        # Killed before the lock was made, or about to make it: only time tells.
        with contextlib.suppress(OSError):
            return os.stat(folder).st_mtime < time.time() - 60
        return False
    except OSError:
        return False
    try:
        return try_lock(lock)
    except OSError:
        return False
    finally:
        os.close(lock)


def _unavailable(why: str) -> AutoScorerError:
    return AutoScorerError(ErrorCode.BACKEND_UNAVAILABLE, f"{why} Try again later.", stage=Stage.API)


def _gone() -> AutoScorerError:
    return AutoScorerError(ErrorCode.CANCELLED, "The upload was given up.", stage=Stage.API)
