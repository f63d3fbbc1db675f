"""What a model sees as its system: the root of an image, or the host's own ``/usr`` and a Python environment."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Root", "host_root"]

# Of /etc what programs need to find their libraries, the time and certificates; nothing that tells of the host's users.
_ETC = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime", "ssl/certs", "fonts")
_LINKED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


@dataclass(frozen=True)
class Root:
    """A read-only root.

    Args:
        image: Folder of an unpacked image; None for one that is put together from ``folders`` and ``links``.
        folders: Of the host, each seen at its own path.
        links: Path to what it leads to.
        environment: Variables of the image.
        working_dir: Where the image begins; empty where it does not say.
        volumes: Paths that become small folders in memory.
        entrypoint: What the image runs, before its command or the job's.
        command: What it runs where the job names none.
    """

    image: Path | None = None
    folders: tuple[Path, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    working_dir: str = ""
    volumes: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()


def host_root(prefixes: tuple[Path, ...]) -> Root:
    """The host's programs and libraries, and one Python environment.

    Args:
        prefixes: Folders of that environment.
    """
    folders, links = [Path("/usr")], []
    for name in _LINKED:
        path = Path("/", name)
        if path.is_symlink():
            links.append((str(path), os.readlink(path)))
        elif path.is_dir():
            folders.append(path)
    folders += [path for name in _ETC if (path := Path("/etc", name)).exists()]
    for prefix in prefixes:
        if not any(prefix.is_relative_to(folder) for folder in folders):
            folders.append(prefix)
    return Root(folders=tuple(folders), links=tuple(links), environment={"PYTHONDONTWRITEBYTECODE": "1"})


def own_environment() -> tuple[Path, ...]:
    """The folders of the Python that runs this: of its virtual environment, and of what that is made from."""
    return tuple(dict.fromkeys(Path(each).resolve() for each in (sys.prefix, sys.base_prefix)))
