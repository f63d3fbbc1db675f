"""Workspaces that are uploaded: one archive in, one folder under a workspace root out, or nothing at all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from ..core.config import Settings
from .browse import WorkspaceView
from .roots import WorkspaceRoots

__all__ = ["Uploads", "remove_leftovers"]


def remove_leftovers(roots: WorkspaceRoots) -> list[Path]:
    """Remove what uploads have left whose process died; called once when the API starts."""
    raise NotImplementedError


class Uploads:
    """Receives archives.

    Args:
        settings: ``api.max_upload``, ``api.max_unpacked``, ``api.max_files``.
        roots: The first of them is where workspaces go.
    """

    def __init__(self, settings: Settings, roots: WorkspaceRoots) -> None:
        raise NotImplementedError

    async def receive(self, chunks: AsyncIterator[bytes], content_type: str) -> WorkspaceView:
        """Take a multipart body apart, unpack its archive, and put the workspace in place."""
        raise NotImplementedError
