"""Images made by hand: layers of any entries, in the layouts that engines and registries write."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from autoscorer.executors.images.image_config import machine

__all__ = [
    "Entry",
    "digest",
    "docker_files",
    "entry",
    "file",
    "folder",
    "hard_link",
    "layer",
    "link",
    "oci_files",
    "pack",
    "snapshot",
    "write_layout",
]

Entry = tuple[tarfile.TarInfo, bytes]


def entry(name: str, kind: bytes, *, data: bytes = b"", link: str = "", mode: int = 0o755, mtime: int = 1000) -> Entry:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.mtime, info.size = kind, link, mode, mtime, len(data)
    info.uid = info.gid = 1234
    return info, data


def file(name: str, data: bytes = b"", mode: int = 0o644, mtime: int = 1000) -> Entry:
    return entry(name, tarfile.REGTYPE, data=data, mode=mode, mtime=mtime)


def folder(name: str, mode: int = 0o755, mtime: int = 1000) -> Entry:
    return entry(name, tarfile.DIRTYPE, mode=mode, mtime=mtime)


def link(name: str, target: str) -> Entry:
    return entry(name, tarfile.SYMTYPE, link=target, mode=0o777)


def hard_link(name: str, target: str) -> Entry:
    return entry(name, tarfile.LNKTYPE, link=target)


def layer(entries: Iterable[Entry], form: int = tarfile.PAX_FORMAT) -> bytes:
    """The tar of a layer."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as out:
        for info, data in entries:
            out.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _blob(data: bytes) -> str:
    return f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"


def _config(layers: list[bytes], config: dict[str, Any] | None, **more: Any) -> bytes:
    content = {
        "os": "linux",
        "architecture": machine(),
        "config": config or {},
        "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
    }
    return json.dumps({**content, **more}).encode()


def docker_files(
    layers: list[bytes],
    config: dict[str, Any] | None = None,
    packed: Callable[[bytes], bytes] = bytes,
    *,
    old: bool = False,
    **more: Any,
) -> dict[str, bytes]:
    """The files that ``docker save`` writes; ``old`` as engines before 25 named them."""
    raw = _config(layers, config, **more)
    stored = [packed(layer) for layer in layers]
    names = [f"{number:064x}/layer.tar" for number in range(len(stored))] if old else [_blob(data) for data in stored]
    name = f"{digest(raw).removeprefix('sha256:')}.json" if old else _blob(raw)
    manifest = [{"Config": name, "RepoTags": ["evil:latest"], "Layers": names}]
    return {name: raw, **dict(zip(names, stored, strict=True)), "manifest.json": json.dumps(manifest).encode()}


def oci_files(
    layers: list[bytes],
    config: dict[str, Any] | None = None,
    packed: Callable[[bytes], bytes] = bytes,
    *,
    others: Iterable[dict[str, Any]] = (),
    **more: Any,
) -> dict[str, bytes]:
    """The files of an OCI image layout; ``others`` are further entries of its index."""
    raw = _config(layers, config, **more)
    stored = [packed(layer) for layer in layers]
    described = [{"digest": digest(data), "size": len(data), "mediaType": "application/x"} for data in (raw, *stored)]
    manifest = json.dumps({"schemaVersion": 2, "config": described[0], "layers": described[1:]}).encode()
    entry = {
        "digest": digest(manifest),
        "size": len(manifest),
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "platform": {"os": "linux", "architecture": machine()},
    }
    index = {"schemaVersion": 2, "manifests": [*others, entry]}
    return {
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        "index.json": json.dumps(index).encode(),
        **{_blob(data): data for data in (raw, *stored, manifest)},
    }


def pack(path: Path, files: dict[str, bytes], *, zipped: bool = False) -> Path:
    """Write the files of an image as an archive."""
    data = layer([file(name, data) for name, data in files.items()])
    path.write_bytes(gzip.compress(data, 1) if zipped else data)
    return path


def write_layout(folder: Path, files: dict[str, bytes]) -> Path:
    """Write the files of an image as a folder."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def _content(path: Path, mode: int) -> bytes:
    """What is in a file, also where its owner, who this may be, may not read it."""
    try:
        return path.read_bytes()
    except PermissionError:
        path.chmod(mode | 0o400)
        try:
            return path.read_bytes()
        finally:
            path.chmod(mode)


def snapshot(root: Path) -> dict[str, tuple[Any, ...]]:
    """What lies below a folder: kind, mode and content of each path. No link is followed."""
    found: dict[str, tuple[Any, ...]] = {}
    for place, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = os.path.join(place, name)
            status = os.lstat(path)
            mode = stat.S_IMODE(status.st_mode)
            key = os.path.relpath(path, root)
            if stat.S_ISLNK(status.st_mode):
                found[key] = ("link", os.readlink(path))
            elif stat.S_ISDIR(status.st_mode):
                found[key] = ("folder", mode)
            elif stat.S_ISREG(status.st_mode):
                found[key] = ("file", mode, _content(Path(path), mode))
            else:
                found[key] = ("other", status.st_mode)
    return found
