"""An image made without an engine or a registry: this machine's own Python, as ``docker save`` would write it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import platform
import struct
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

from ...core.config import Settings
from ...core.errors import AutoScorerError, ErrorCode
from ...core.processes import ProcessIdentity
from ...core.provenance import utc_now
from ...executors.docker.container_config import LABEL
from ...executors.docker.engine import connect, engine_errors

__all__ = ["remove_images", "write_python_image"]

# Which proof made an image, and the process that it runs in.
_PROOF, _OWNER = LABEL + "proof", LABEL + "proof.owner"
_FOLDER = "/autoscorer-prove"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_PT_INTERP = 3
# What the model imports, and what of that is imported late; what has been read then is what an image of it needs.
_LIST = """
import sys
sys.path.insert(0, sys.argv[1])
import inside.main, encodings.ascii, encodings.idna, encodings.latin_1, linecache, traceback, json, os
files = {getattr(each, name, None) for each in [*sys.modules.values()] for name in ("__file__", "__cached__")}
with open("/proc/self/maps") as maps:
    files |= {line.split(None, 5)[5].rstrip("\\n") for line in maps if line.count("/")}
binary = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
json.dump({"binary": binary, "files": sorted(path for path in files if path)}, sys.stdout)
"""


def write_python_image(target: Path, proof: str) -> None:
    """Write the archive.

    Args:
        target: Where.
        proof: What ``remove_images`` will find the image by.

    Raises:
        AutoScorerError: ``IMAGE_BUILD_FAILED`` where this Python is not made of plain files.
    """
    try:
        found = _needed()
        layer = _layer(Path(found["binary"]), [Path(path) for path in found["files"]])
        config = _config(hashlib.sha256(layer).hexdigest(), found, proof)
    except (OSError, ValueError, KeyError, subprocess.SubprocessError, struct.error) as error:
        raise AutoScorerError(
            ErrorCode.IMAGE_BUILD_FAILED,
            f"No image can be made of this machine's Python ({sys.executable}): {error}. Give --image.",
            details={"log": []},
        ) from error
    manifest = [{"Config": "config.json", "RepoTags": None, "Layers": ["layer.tar"]}]
    with tarfile.open(target, "w") as archive:
        for name, data in (
            ("layer.tar", layer),
            ("config.json", json.dumps(config).encode()),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))


def remove_images(settings: Settings, proof: str) -> None:
    """Remove from the engine the image of a proof, and those of proofs whose process has died.

    Raises:
        AutoScorerError: ``BACKEND_UNAVAILABLE``.
    """
    client = connect(settings)
    try:
        with engine_errors("remove the image of the proof"):
            for image in client.images(filters={"label": _PROOF}):
                labels = image.get("Labels") or {}
                if labels.get(_PROOF) == proof or ProcessIdentity(labels.get(_OWNER, "")).is_dead():
                    client.remove_image(image["Id"], force=True)
    finally:
        client.close()


def _needed() -> dict[str, Any]:
    """This Python's program, and every file that the model's own program makes it read."""
    told = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _LIST, str(Path(__file__).parent)],
        capture_output=True,
        check=True,
        timeout=60,
        cwd="/",
    ).stdout
    found: dict[str, Any] = json.loads(told)
    return found


def _layer(binary: Path, files: list[Path]) -> bytes:
    paths = {path for path in files if path.is_file() and not path.is_relative_to(Path(__file__).parent)}
    libraries = {path for path in paths if _is_program(path)} - {binary}
    folders, data = set(), io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:

        def add(path: str, *, link: str = "", content: Path | None = None, mode: int = 0o755) -> None:
            """Add an entry and the folders above it. Nothing of the host's but content and time is taken over."""
            above = [str(each) for each in reversed(Path(path).parents) if str(each) != "/"]
            for each in [*above, *([path] if content is None and not link else [])]:
                if each not in folders:
                    folders.add(each)
                    tar.addfile(_header(each, tarfile.DIRTYPE, 0o1777 if each == "/tmp" else 0o755))
            if link:
                header = _header(path, tarfile.SYMTYPE, 0o777)
                header.linkname = link
                tar.addfile(header)
            elif content is not None:
                header = _header(path, tarfile.REGTYPE, mode)
                with content.open("rb") as file:
                    status = os.fstat(file.fileno())
                    header.size, header.mtime = status.st_size, int(status.st_mtime)
                    tar.addfile(header, file)

        for path in sorted({*paths, binary}):
            # Compiled code may go away at any moment, when something is installed; it is not needed.
            with contextlib.suppress(FileNotFoundError) if path.suffix == ".pyc" else contextlib.nullcontext():
                add(str(path), content=path, mode=0o755 if path in libraries or path == binary else 0o644)
        for path in sorted(libraries):
            for name in _names_of(path):
                add(name, link=path.name)
        interpreter = _interpreter(binary)
        if interpreter is not None and interpreter not in map(str, paths):
            add(interpreter, content=Path(interpreter))
        add(f"{_FOLDER}/bin/python3", link=str(binary))
        # Whose owner is root: the model tries whether it becomes root by it.
        add(f"{_FOLDER}/setuid-python", content=binary, mode=0o4755)
        for folder in ("/dev", "/etc", "/proc", "/sys", "/tmp", "/workspace"):
            add(folder)
    return data.getvalue()


def _header(path: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(path.lstrip("/"))
    header.type, header.mode = kind, mode
    return header


def _config(layer: str, found: dict[str, Any], proof: str) -> dict[str, Any]:
    libraries = sorted({str(Path(path).parent) for path in found["files"] if ".so" in Path(path).name})
    machine = platform.machine()
    return {
        "architecture": _ARCHITECTURES.get(machine, machine),
        "os": "linux",
        "created": utc_now(),
        "config": {
            "Env": [f"PATH={_FOLDER}/bin", f"LD_LIBRARY_PATH={':'.join(libraries)}"],
            "Labels": {_PROOF: proof, _OWNER: ProcessIdentity.current().text},
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer}"]},
        "history": [{"created": utc_now(), "created_by": "autoscorer doctor --prove"}],
    }


def _is_program(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _names_of(library: Path) -> list[str]:
    """Links beside a library that lead to it: programs ask for ``libz.so.1``, and it is ``libz.so.1.2.13``."""
    with os.scandir(library.parent) as entries:
        links = [entry for entry in entries if entry.is_symlink() and entry.name.startswith(library.name.split(".")[0])]
    return [entry.path for entry in links if os.path.realpath(entry.path) == str(library)]


def _interpreter(program: Path) -> str | None:
    """The path of the loader that a program names; None for a static one."""
    data = program.read_bytes()[: 1 << 16]
    if data[:6] not in (b"\x7fELF\x02\x01", b"\x7fELF\x02\x02"):
        raise ValueError(f"{program} is not a 64-bit program")
    order = "<" if data[5] == 1 else ">"
    (start,) = struct.unpack_from(f"{order}Q", data, 32)
    size, number = struct.unpack_from(f"{order}HH", data, 54)
    for index in range(number):
        at = start + index * size
        kind, _, offset, _, _, length = struct.unpack_from(f"{order}IIQQQQ", data, at)
        if kind == _PT_INTERP:
            return data[offset : offset + length].rstrip(b"\0").decode()
    return None
