"""An image archive of a stranger, made safe to load: its own tags dropped, its size capped.

``docker load`` takes the tags that an archive names. One that names ``python:3.12-slim`` would replace that image for
everybody on the engine. So the archive is copied with its names taken out and one of ours put in.

What the engine unpacks must be what was checked here: a second ``manifest.json`` (as ``x/../manifest.json``, or
through a link) would bring the names back. So every path is plain and stands once. How the headers are
read: ``tar_stream.py``.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import posixpath
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from ...core.errors import AutoScorerError, ErrorCode, Stage
from ...core.tar_stream import TarSource, members
from ...core.workspace import open_regular

__all__ = ["MAX_MANIFEST", "MAX_MEMBERS", "member_path", "untagged", "unzipped"]

MAX_MANIFEST = 4 * 1024 * 1024
MAX_MEMBERS = 20_000
_BLOCK = tarfile.BLOCKSIZE
_NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


@contextlib.contextmanager
def untagged(archive: Path, tag: str, max_bytes: int) -> Iterator[IO[bytes]]:
    """Copy an archive (tar or tar.gz) with its names replaced.

    Args:
        archive: As ``docker save`` writes it, with or without an OCI index.
        tag: The only name the image gets.
        max_bytes: Most bytes it may unpack to.

    Yields:
        The new archive, open at its beginning, gone afterwards.

    Raises:
        AutoScorerError: ``IMAGE_NOT_FOUND`` when it is no image archive, or too large, or holds several images.
    """
    with tempfile.TemporaryFile() as target:
        try:
            _copy(archive, target, tag, max_bytes)
        except (
            tarfile.TarError,
            zlib.error,
            EOFError,
            OSError,
            ValueError,
            KeyError,
            TypeError,
            RecursionError,
            AutoScorerError,  # it is not a plain file
        ) as error:
            why = error.message if isinstance(error, AutoScorerError) else str(error)
            raise AutoScorerError(
                ErrorCode.IMAGE_NOT_FOUND, f"{archive.name} is not an image archive as `docker save` writes it: {why}"
            ) from error
        target.seek(0)
        yield target


def _copy(archive: Path, target: IO[bytes], tag: str, max_bytes: int) -> None:
    kinds: dict[str, bytes] = {}
    with (
        open_regular(archive, stage=Stage.EXECUTION) as file,
        unzipped(file) as plain,
        tarfile.open(fileobj=target, mode="w") as out,
    ):
        source = TarSource(plain, max_bytes)
        for member in members(source, MAX_MEMBERS):
            path = member_path(member, kinds)
            if path in ("", "repositories"):  # the archive's own folder, or the names of old engines
                source.skip(member.size)
                continue
            # A header of ours: nothing but name, kind and size is taken over.
            header = tarfile.TarInfo(path)
            header.type, header.linkname = member.type, member.linkname
            header.mode = 0o755 if member.isdir() else 0o644
            if path in ("manifest.json", "index.json"):
                if member.size > MAX_MANIFEST:
                    raise ValueError(f"{path} is {member.size:,} bytes long")
                content = json.loads(source.exactly(member.size))
                data = json.dumps(_manifest(content, tag) if path == "manifest.json" else _index(content)).encode()
                header.size = len(data)
                out.addfile(header, io.BytesIO(data))
                source.skip(-member.size % _BLOCK, padded=False)
            elif member.isreg():
                header.size = member.size
                out.addfile(header, source)
                source.skip(-member.size % _BLOCK, padded=False)
            else:
                out.addfile(header)
        source.drain()
    if "manifest.json" not in kinds:
        raise ValueError("it has no manifest.json")


@contextlib.contextmanager
def unzipped(file: IO[bytes]) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """The plain tar in a file that may be packed by gzip."""
    zipped = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    if not zipped:
        yield file
        return
    with gzip.GzipFile(fileobj=file) as plain:
        yield plain


def member_path(member: tarfile.TarInfo, kinds: dict[str, bytes]) -> str:
    """The member's path, plain and new; ``kinds`` holds those before it.

    Raises:
        ValueError: It has none, or is not what may lie in an image archive.
    """
    name = member.name
    path = name.removeprefix("./").rstrip("/")
    if path in ("", ".") and member.isdir():
        return ""
    if posixpath.normpath(path) != path or path[0] == "/" or path.split("/")[0] in ("..", ".") or "\0" in path:
        raise ValueError(f"{name!r} is not a plain path inside the archive")
    if not (member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.isdir() or _is_layer_link(path, member)):
        raise ValueError(f"{name!r} is not a plain file")
    if path in kinds and not (member.isdir() and kinds[path] == tarfile.DIRTYPE):
        raise ValueError(f"{name!r} appears twice in it")
    parent = posixpath.dirname(path)
    while parent:
        if kinds.setdefault(parent, tarfile.DIRTYPE) != tarfile.DIRTYPE:
            raise ValueError(f"{name!r} lies below something that is not a folder")
        parent = posixpath.dirname(parent)
    if path in ("manifest.json", "index.json", "repositories") and not member.isreg():
        raise ValueError(f"{name!r} is not a plain file")
    kinds[path] = member.type
    return path


def _is_layer_link(path: str, member: tarfile.TarInfo) -> bool:
    """Engines before 25 write a layer that appears twice as a link, ``<id>/layer.tar -> ../<id>/layer.tar``."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(path), member.linkname))
    return (
        member.issym()
        and posixpath.basename(path) == "layer.tar"
        and target.endswith(".tar")
        and not target.startswith(("/", "../"))
    )


def _manifest(content: Any, tag: str) -> Any:
    if not isinstance(content, list) or len(content) != 1 or not isinstance(content[0], dict):
        raise ValueError(f"expected one image, found {len(content) if isinstance(content, list) else 'none'}")
    return [{**content[0], "RepoTags": [tag]}]


def _index(content: Any) -> Any:
    manifests = content.get("manifests") if isinstance(content, dict) else None
    if not isinstance(manifests, list) or not all(isinstance(manifest, dict) for manifest in manifests):
        raise ValueError("index.json lists no manifests")
    for manifest in manifests:
        annotations = manifest.get("annotations")
        if isinstance(annotations, dict):
            manifest["annotations"] = {key: value for key, value in annotations.items() if key not in _NAMES}
    return content
