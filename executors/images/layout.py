"""Finding the one image in an archive or a folder: as ``docker save`` writes it, or an OCI image layout.

Where an archive is both, its ``manifest.json`` counts, as for the engine. Everything that is found is bound by digests:
the index names the manifest's, the manifest the configuration's and its layers', the configuration the layers' content.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import posixpath
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from ...core.errors import Stage
from ...core.tar_stream import TarSource, members
from ...core.workspace import open_regular
from .archive import MAX_MANIFEST, MAX_MEMBERS, member_path, unzipped
from .image_config import ImageConfig, check_digest, machine, read_config
from .layers import LayerDigests

__all__ = ["FolderLayout", "ImageSource", "Layer", "Layout", "archive_layout", "find_image", "platform_manifest"]

_BLOBS = "blobs/sha256/"
_MOST_INDEXES = 4


class Layout(Protocol):
    """Files by their paths."""

    def open(self, path: str) -> io.BufferedReader:
        """A file at its beginning, to be closed; a ``ValueError`` where there is none."""

    def size(self, path: str) -> int | None:
        """Its size; None where there is no such file."""


@dataclass(frozen=True)
class Layer:
    """One layer: where it lies, and what it must be."""

    path: str
    digests: LayerDigests


@dataclass(frozen=True)
class ImageSource:
    """An image that was found, and is not unpacked yet.

    Attributes:
        id: Digest of the configuration.
        raw: The configuration as it is stored.
        config: The same, read.
        layers: From the lowest on.
        size: Bytes of the layers as they are stored.
        machine: The processor it says it is for; empty where it says none.
    """

    id: str
    raw: bytes
    config: ImageConfig
    layers: tuple[Layer, ...]
    size: int
    machine: str


@contextlib.contextmanager
def archive_layout(file: IO[bytes], aside: Path, most: int) -> Iterator[Layout]:
    """The files in an archive, a tar or a tar.gz.

    Args:
        file: The archive, seekable, at its beginning.
        aside: Folder for an unnamed file that an archive packed by gzip is unpacked to.
        most: Bytes that the archive may have, unpacked.

    Raises:
        ValueError, EOFError, tarfile.TarError: It is not an archive of plain files.
        TooMuch: It is larger.
    """
    with contextlib.ExitStack() as stack:
        plain = stack.enter_context(unzipped(file))
        if plain is not file:
            copy = stack.enter_context(tempfile.TemporaryFile(dir=aside))
            shutil.copyfileobj(TarSource(plain, most), copy, 1024 * 1024)
            copy.seek(0)
            file = copy
        yield _TarLayout(file, most)


class _TarLayout:
    """Of an open tar, whose headers are read once; contents are not looked at before they are asked for."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        self._fd = file.fileno()
        self._places: dict[str, tuple[int, int]] = {}
        self._links: dict[str, str] = {}
        end = os.fstat(self._fd).st_size
        kinds: dict[str, bytes] = {}
        for member in members(TarSource(file, most), MAX_MEMBERS):
            path = member_path(member, kinds)
            start = file.tell()
            if member.isreg():
                self._places[path] = (start, member.size)
            elif member.issym():  # a layer that appears twice
                self._links[path] = posixpath.normpath(posixpath.join(posixpath.dirname(path), member.linkname))
            file.seek(start + member.size + -member.size % tarfile.BLOCKSIZE)
            if file.tell() > end:
                raise EOFError("it ends too early")

    def _place(self, path: str) -> tuple[int, int] | None:
        return self._places.get(self._links.get(path, path))

    def open(self, path: str) -> io.BufferedReader:
        place = self._place(path)
        if place is None:
            raise ValueError(f"it has no {path[:200]}")
        return io.BufferedReader(_Part(self._fd, *place))

    def size(self, path: str) -> int | None:
        place = self._place(path)
        return None if place is None else place[1]


class _Part(io.RawIOBase):
    """A part of an open file, whatever the file's own position."""

    def __init__(self, fd: int, start: int, size: int) -> None:
        self._fd, self._start, self._size, self._at = fd, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        if whence != os.SEEK_SET:
            raise io.UnsupportedOperation
        self._at = offset
        return offset

    def readinto(self, buffer: Any, /) -> int:
        size = min(len(buffer), self._size - self._at)
        if size <= 0:
            return 0
        count = os.preadv(self._fd, [memoryview(buffer)[:size]], self._start + self._at)
        if count == 0:
            raise EOFError("it ends too early")  # somebody has cut it meanwhile
        self._at += count
        return count


class FolderLayout:
    """The files of an OCI image layout in a folder of ours, such as one that skopeo has copied an image to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self, path: str) -> io.BufferedReader:
        if self.size(path) is None:
            raise ValueError(f"it has no {path[:200]}")
        file = open_regular(self._folder / path, stage=Stage.EXECUTION)
        assert isinstance(file, io.BufferedReader)
        return file

    def size(self, path: str) -> int | None:
        if path != "index.json" and _digest_of(path) is None:
            return None
        with contextlib.suppress(FileNotFoundError):
            return os.lstat(self._folder / path).st_size
        return None


def find_image(layout: Layout) -> ImageSource:
    """Find the image in a layout, and read its configuration.

    Raises:
        ValueError: There is none, or more than one for this machine, or it is broken.
    """
    if layout.size("manifest.json") is not None:
        return _of_docker(layout)
    if layout.size("index.json") is not None:
        return _of_oci(layout)
    raise ValueError("it has neither manifest.json nor index.json")


def _of_docker(layout: Layout) -> ImageSource:
    content = json.loads(_read(layout, "manifest.json"))
    if not isinstance(content, list) or len(content) != 1 or not isinstance(content[0], dict):
        raise ValueError(f"expected one image, found {len(content) if isinstance(content, list) else 'none'}")
    path, paths = content[0].get("Config"), content[0].get("Layers")
    if not isinstance(path, str) or not isinstance(paths, list) or not all(isinstance(each, str) for each in paths):
        raise ValueError("manifest.json must name Config and Layers")
    return _image(layout, path, [(each, _digest_of(each)) for each in paths])


def _of_oci(layout: Layout) -> ImageSource:
    manifest = json.loads(_read(layout, "index.json"))
    for _ in range(_MOST_INDEXES):
        chosen = platform_manifest(manifest)
        if chosen is None:
            break
        manifest = json.loads(_blob(layout, chosen))
    else:
        raise ValueError("its indexes lead from one to another")
    config = manifest.get("config") if isinstance(manifest, dict) else None
    layers = manifest.get("layers") if isinstance(manifest, dict) else None
    if not isinstance(config, dict) or not isinstance(layers, list) or not all(isinstance(it, dict) for it in layers):
        raise ValueError("a manifest must name config and layers")
    digests = [check_digest(layer.get("digest")) for layer in layers]
    return _image(layout, _path_of(check_digest(config.get("digest"))), [(_path_of(each), each) for each in digests])


def platform_manifest(content: Any) -> str | None:
    """The digest of the manifest that an index has for this machine; None where it is not an index.

    Raises:
        ValueError: It has none for this machine, or several images.
    """
    if not isinstance(content, dict) or "manifests" not in content:
        return None
    found = content["manifests"]
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ValueError("an index must list manifests")
    if len(found) > 1:
        found = [each for each in found if _is_for(each.get("platform"))]
    digests = {check_digest(each.get("digest")) for each in found}
    if len(digests) != 1:
        raise ValueError(f"expected one image for linux/{machine()}, found {len(digests)}")
    return digests.pop()


def _is_for(platform: Any) -> bool:
    return isinstance(platform, dict) and (platform.get("os"), platform.get("architecture")) == ("linux", machine())


def _image(layout: Layout, path: str, stored: list[tuple[str, str | None]]) -> ImageSource:
    raw = _read(layout, path)
    found = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    _same(path, _digest_of(path) or found, found)
    config, contents, processor = read_config(raw)
    if len(contents) != len(stored):
        raise ValueError(f"it has {len(stored)} layers, and its configuration lists {len(contents)}")
    size = 0
    for layer, _ in stored:
        held = layout.size(layer)
        if held is None:
            raise ValueError(f"it has no {layer[:200]}")
        size += held
    layers = tuple(
        Layer(layer, LayerDigests(content, digest)) for (layer, digest), content in zip(stored, contents, strict=True)
    )
    return ImageSource(found, raw, config, layers, size, processor)


def _read(layout: Layout, path: str) -> bytes:
    size = layout.size(path)
    if size is not None and size > MAX_MANIFEST:
        raise ValueError(f"{path[:200]} is {size:,} bytes long")
    with layout.open(path) as file:
        return file.read(MAX_MANIFEST)


def _blob(layout: Layout, digest: str) -> bytes:
    data = _read(layout, _path_of(digest))
    _same(_path_of(digest), digest, f"sha256:{hashlib.sha256(data).hexdigest()}")
    return data


def _same(path: str, expected: str, found: str) -> None:
    if found != expected:
        raise ValueError(f"{path[:200]} has the digest {found}, where {expected} was expected")


def _path_of(digest: str) -> str:
    return _BLOBS + digest.removeprefix("sha256:")


def _digest_of(path: str) -> str | None:
    """The digest that a path names; None where it names none, as those of old engines."""
    return check_digest(f"sha256:{path.removeprefix(_BLOBS)}") if path.startswith(_BLOBS) else None
