"""An image archive of a stranger, made safe to load: its own tags dropped, its size capped.

``docker load`` takes the tags that an archive names. One that names ``python:3.12-slim`` would replace that image for
everybody on the engine. So the archive is copied with its names taken out and one of ours put in.
"""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from ..core.errors import AutoScorerError, ErrorCode

__all__ = ["untagged"]

_MAX_MANIFEST = 4 * 1024 * 1024
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
        ) as error:
            raise AutoScorerError(
                ErrorCode.IMAGE_NOT_FOUND, f"{archive.name} is no image archive that `docker save` writes: {error}"
            ) from error
        target.seek(0)
        yield target


def _copy(archive: Path, target: IO[bytes], tag: str, max_bytes: int) -> None:
    total = 0
    named = False
    with tarfile.open(archive, "r|*") as source, tarfile.open(fileobj=target, mode="w") as out:
        for member in source:
            total += max(member.size, 0) + 512
            if total > max_bytes:
                raise ValueError(f"it unpacks to more than the allowed {max_bytes:,} bytes")
            if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
                raise ValueError(f"{member.name!r} is no plain file")
            name = member.name.removeprefix("./")
            if name == "repositories":
                continue
            file = source.extractfile(member) if member.isreg() else None
            if name in ("manifest.json", "index.json") and file is not None:
                if member.size > _MAX_MANIFEST:
                    raise ValueError(f"{name} is {member.size:,} bytes long")
                content = json.loads(file.read())
                data = json.dumps(_manifest(content, tag) if name == "manifest.json" else _index(content)).encode()
                named |= name == "manifest.json"
                member.size = len(data)
                member.pax_headers = {}
                file = io.BytesIO(data)
            out.addfile(member, file)
    if not named:
        raise ValueError("it has no manifest.json")


def _manifest(content: Any, tag: str) -> Any:
    if not isinstance(content, list) or len(content) != 1:
        raise ValueError(f"expected one image, found {len(content) if isinstance(content, list) else 'none'}")
    return [{**content[0], "RepoTags": [tag]}]


def _index(content: Any) -> Any:
    for manifest in content.get("manifests", []):
        for name in _NAMES:
            (manifest.get("annotations") or {}).pop(name, None)
    return content
