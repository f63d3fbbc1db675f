"""Opening what lies in a workspace without being led out of it."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import IO

from ...core.errors import AutoScorerError, ErrorCode, Stage

__all__ = ["open_beneath"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def open_beneath(root: Path, parts: tuple[str, ...]) -> IO[bytes]:
    """Open a plain file below a folder; no component may be a link, whoever exchanges them meanwhile.

    Raises:
        AutoScorerError: ``MISSING_FILE`` or ``OUTPUT_REJECTED``.
    """
    try:
        with contextlib.ExitStack() as opened:
            folder = os.open(root, _FOLDER)
            opened.callback(os.close, folder)
            for part in parts[:-1]:
                folder = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
                opened.callback(os.close, folder)
            fd = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        code = ErrorCode.MISSING_FILE if isinstance(error, FileNotFoundError) else ErrorCode.OUTPUT_REJECTED
        raise AutoScorerError(
            code, f"{'/'.join(parts)} is not a plain file that can be read.", stage=Stage.API
        ) from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise AutoScorerError(ErrorCode.OUTPUT_REJECTED, f"{'/'.join(parts)} is not a plain file.", stage=Stage.API)
    return os.fdopen(fd, "rb")
