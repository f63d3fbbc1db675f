"""The store of unpacked images: each once, by the digest of its configuration, for as long as there is room.

An image is a folder of the store: ``rootfs/``, ``config.json`` as it was stored, ``facts.json``. The disk is not waited
for, which would cost more than unpacking. So after a reboot, which may have lost what was not written yet, an image is
unpacked anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ...core.backoff import seldom
from ...core.errors import AutoScorerError, ErrorCode, Stage
from ...core.storage import writing_home
from ...core.tar_stream import TooMuch
from ...core.text import escape
from ...core.workspace import open_regular
from ..files import remove_tree
from .image_config import ImageConfig, machine, read_config
from .layers import LayerBudget, apply_layer
from .layout import FolderLayout, ImageSource, Layout, archive_layout, find_image
from .store_folder import StoreFolder, is_key
from .tree import Tree

__all__ = ["ImageStore", "UnpackedImage"]

# File systems tell times in steps of at most this many nanoseconds: a file may change once more within one.
_STEP = 2 * 10**9
_BOOT = Path("/proc/sys/kernel/random/boot_id")

OnProgress = Callable[[str], None]


@dataclass(frozen=True)
class UnpackedImage:
    """An image on the disk.

    Attributes:
        rootfs: Its root. Nothing is ever written there but mount points.
        id: Digest of its configuration, with ``sha256:``.
        config: How it wants to be run.
        notes: What a reader of the Result must know of it.
    """

    rootfs: Path
    id: str
    config: ImageConfig
    notes: tuple[str, ...] = ()


class ImageStore:
    """Unpacked images of one home.

    Args:
        home: The installation's folder.
        max_bytes: How much all images together may take of the disk; those in use may take more.
    """

    def __init__(self, home: Path, max_bytes: int) -> None:
        self._home = home
        self._max = max_bytes
        self._folder = StoreFolder(home / "images")

    @contextlib.contextmanager
    def archive(
        self, archive: Path, max_unpacked: int, on_progress: OnProgress | None = None
    ) -> Iterator[UnpackedImage]:
        """The image of an archive as ``docker save`` writes it or with an OCI layout, plain or packed by gzip.

        It stays for as long as the block lasts.

        Args:
            archive: The file, which may be a stranger's.
            max_unpacked: Bytes that its layers may unpack to.
            on_progress: Told in a few words what is done, now and then.

        Raises:
            AutoScorerError: ``IMAGE_NOT_FOUND`` for what is not an image archive, or too large; ``STORAGE_FULL``;
                ``INVALID_REQUEST`` at stage ``config`` where the home can't be written.
        """
        with writing_home(self._home), _blaming(archive.name):
            self._folder.prepare()
            try:
                file = open_regular(archive, stage=Stage.EXECUTION)
            except AutoScorerError as error:
                raise ValueError(error.message) from error
            with file:
                held = self._of_archive(file, max_unpacked, on_progress)
        with held as image:
            yield image

    @contextlib.contextmanager
    def layout(self, folder: Path, max_unpacked: int, on_progress: OnProgress | None = None) -> Iterator[UnpackedImage]:
        """The image of an OCI image layout in a folder of ours; everything else is as for ``archive``."""
        with writing_home(self._home), _blaming(f"The OCI layout {folder.name}"):
            self._folder.prepare()
            held = self._unpacked(FolderLayout(folder), max_unpacked, on_progress)
        with held as image:
            yield image

    @contextlib.contextmanager
    def known(self, key: str) -> Iterator[UnpackedImage | None]:
        """The image that is remembered under a key, if it is here yet."""
        with writing_home(self._home):
            self._folder.prepare()
            held = self._remembered(key)
        if held is None:
            yield None
            return
        with held as image:
            yield image

    def remember(self, key: str, value: str) -> None:
        """Remember the id of an image, or another text, under a key."""
        with writing_home(self._home):
            self._folder.prepare()
            self._folder.remember(key, value)

    def recall(self, key: str) -> str | None:
        """What is remembered under a key."""
        return self._folder.recall(key)

    @contextlib.contextmanager
    def workplace(self, key: str) -> Iterator[Path]:
        """An empty folder for what is being made, that nobody else has at the time; it is gone afterwards.

        Args:
            key: Who wants to make the same waits.
        """
        with contextlib.ExitStack() as stack:
            with writing_home(self._home):
                self._folder.prepare()
                place = stack.enter_context(self._folder.workplace(key))
            yield place

    def _of_archive(self, file: IO[bytes], most: int, on_progress: OnProgress | None) -> _Held:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        status = os.fstat(file.fileno())
        # Of a plain tar the headers are read each time. One that is packed would have to be unpacked for them. Nobody
        # but the kernel sets the time of a file's last change (ctime), so these facts are of one content alone, if that
        # time was over when the reading began.
        had_rested = time.time_ns() - status.st_ctime_ns > _STEP
        times = f"{status.st_mtime_ns} {status.st_ctime_ns}"
        key = f"archive {_boot()} {status.st_dev} {status.st_ino} {status.st_size} {times}"
        if packed and (held := self._remembered(key)) is not None:
            return held
        if packed and on_progress is not None:
            on_progress("unpacking the archive")
        with contextlib.ExitStack() as stack:
            try:
                layout = stack.enter_context(archive_layout(file, self._folder.root, most))
            except TooMuch as error:
                raise TooMuch(f"{error} (images.max_archive)") from error
            held = self._unpacked(layout, most, on_progress)
        if packed and had_rested:
            with contextlib.suppress(OSError):  # it only saves time
                self._folder.remember(key, held.image.id)
        return held

    def _remembered(self, key: str) -> _Held | None:
        found = (self._folder.recall(key) or "").removeprefix("sha256:")
        if not is_key(found):
            return None
        return self._held(found)

    def _unpacked(self, layout: Layout, most: int, on_progress: OnProgress | None) -> _Held:
        source = find_image(layout)
        key = source.id.removeprefix("sha256:")
        if source.size > self._max:
            # Before anything is removed for it.
            raise TooMuch(f"its layers have more than the allowed {self._max:,} bytes (images.store_size)")
        while True:
            if (held := self._held(key)) is not None:
                return held
            fd = self._folder.lock(key)
            try:
                if self._image(key) is None:
                    self._folder.evict(self._max - source.size, self._size)
                    self._make(key, source, layout, most, on_progress)
                    self._folder.evict(self._max, self._size)
            except BaseException:
                self._folder.unlock(key, fd)
                raise
            os.close(fd)

    def _make(self, key: str, source: ImageSource, layout: Layout, most: int, on_progress: OnProgress | None) -> None:
        """Unpack an image beside its place, and put it there in one step."""
        work, place = self._folder.making(key), self._folder.place(key)
        for left in (work, place):  # of a killed process, or of an earlier boot
            remove_tree(left)
        try:
            work.mkdir(mode=0o711)
            work.chmod(0o711)
            facts = self._unpack(source, layout, work, most, on_progress)
            (work / "config.json").write_bytes(source.raw)
            (work / "facts.json").write_text(json.dumps(facts))
            os.rename(work, place)
        except BaseException:
            remove_tree(work)
            raise

    def _unpack(
        self, source: ImageSource, layout: Layout, work: Path, most: int, on_progress: OnProgress | None
    ) -> dict[str, Any]:
        told = _Progress(len(source.layers), on_progress)
        budget = LayerBudget(min(most, self._max), told=told.read)
        rootfs = work / "rootfs"
        rootfs.mkdir()
        rootfs.chmod(0o755)
        root = os.open(rootfs, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            with contextlib.closing(Tree(root)) as tree:
                for layer in source.layers:
                    told.next_layer()
                    with layout.open(layer.path) as stored:
                        apply_layer(tree, stored, layer.digests, budget)
                tree.finish()
                if tree.size > self._max:
                    raise TooMuch("with its folders and blocks it takes more")
        except TooMuch as error:
            key, limit = ("images.store_size", self._max) if self._max < most else ("images.max_archive", most)
            raise TooMuch(f"it unpacks to more than the allowed {limit:,} bytes ({key})") from error
        finally:
            os.close(root)
        notes = list(budget.notes())
        if source.machine not in ("", machine()):
            notes.append(f"The image is for {escape(source.machine)[:50]}, and this machine is {machine()}.")
        return {"size": tree.size, "boot": _boot(), "notes": notes}

    def _facts(self, key: str) -> dict[str, Any]:
        try:
            facts = json.loads((self._folder.place(key) / "facts.json").read_text())
        except (OSError, ValueError):
            return {}
        return facts if isinstance(facts, dict) else {}

    def _size(self, key: str) -> int:
        return int(self._facts(key).get("size", 0))

    def _image(self, key: str) -> UnpackedImage | None:
        """An image that is here, whole; its lock must be held."""
        folder, facts = self._folder.place(key), self._facts(key)
        if facts.get("boot") != _boot() or not (folder / "rootfs").is_dir():
            return None
        try:
            raw = (folder / "config.json").read_bytes()
        except FileNotFoundError:
            return None
        if hashlib.sha256(raw).hexdigest() != key:
            return None
        config, _, _ = read_config(raw)
        return UnpackedImage(folder / "rootfs", f"sha256:{key}", config, tuple(facts["notes"]))

    def _held(self, key: str) -> _Held | None:
        """An image that is here, with its lock; None where it is not."""
        fd = self._folder.lock(key, shared=True)
        try:
            image = self._image(key)
            if image is not None:
                self._folder.mark_used(fd)
                return _Held(fd, image)
        except BaseException:
            os.close(fd)
            raise
        self._folder.unlock(key, fd)
        return None


class _Held:
    """An image whose lock is held until the block ends."""

    def __init__(self, fd: int, image: UnpackedImage) -> None:
        self._fd = fd
        self.image = image

    def __enter__(self) -> UnpackedImage:
        return self.image

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


class _Progress:
    """Tells how far unpacking is, at most once a second."""

    def __init__(self, layers: int, on_progress: OnProgress | None) -> None:
        self._layers, self._layer, self._read = layers, 0, 0
        self._tell = seldom(on_progress, 1.0) if on_progress is not None else None

    def next_layer(self) -> None:
        self._layer += 1

    def read(self, size: int) -> None:
        self._read += size
        if self._tell is not None:
            self._tell(f"layer {self._layer} of {self._layers}, {self._read // 1024**2:,} MiB")


@contextlib.contextmanager
def _blaming(name: str) -> Iterator[None]:
    """What is wrong with an image, as the submission's error; the disk's own errors pass."""
    try:
        yield
    except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError, RecursionError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise AutoScorerError(
            ErrorCode.IMAGE_NOT_FOUND,
            f"{escape(name)} is not an image archive as `docker save` writes it: {escape(str(error))}",
        ) from error


def _boot() -> str:
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""
