"""Secrets of this installation, in files of its home: made once, readable by their owner alone."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from pathlib import Path

__all__ = [
    "CALLBACK_SECRET",
    "LINK_KEY",
    "EmptySecret",
    "UnusableSecret",
    "home_secret",
    "make_secret",
    "read_secret",
]

# The names of the files whose secrets all homes of one installation have in common.
CALLBACK_SECRET, LINK_KEY = "callback-secret", "link-key"


class EmptySecret(Exception):
    """The file is there and holds nothing."""


class UnusableSecret(Exception):
    """The file can't be used; the text says why, without saying where the home is."""


def home_secret(path: Path) -> bytes:
    """The secret in a file of the home, made at its first use.

    Raises:
        UnusableSecret: It is empty, or can't be read or made.
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            return read_secret(path)
        make_secret(path)
        return read_secret(path)
    except EmptySecret:
        raise UnusableSecret(f"{path.name} in the home is empty; remove it, and a new one is made") from None
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise UnusableSecret(f"{path.name} in the home can't be used ({why})") from None


def read_secret(path: Path) -> bytes:
    """The secret that a file holds, without white space around it.

    Raises:
        EmptySecret: It holds nothing.
        OSError: It is not there, or can't be read.
    """
    secret = path.read_bytes().strip()
    if not secret:
        raise EmptySecret
    return secret


def make_secret(path: Path) -> bool:
    """Write 64 random hexadecimal digits into a new file with mode 0600, on disk when this returns.

    Returns:
        Whether it was made here. A file that another process has made meanwhile stays as it is.

    Raises:
        OSError: It can't be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # mkstemp makes it 0600. Linked, not renamed: of two processes that start at once both must use the same secret.
    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(secrets.token_hex(32).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
            return True
        return False
    finally:
        os.unlink(temporary)
