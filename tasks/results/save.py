"""How a Result is written into its workspace."""

from __future__ import annotations

from ...core.config import Settings
from ...core.kept import keep_artifacts
from ...core.scores import record
from ...core.workspace import SHARED, Workspace
from ...executors.files import remove_tree
from ...schemas.result import Result

__all__ = ["remove_stale_artifacts", "save"]


def save(space: Workspace, result: Result, settings: Settings) -> None:
    """Write a Result whose artifacts are written and measured; they are kept first, so that it never stands without.

    Args:
        space: The workspace, held.
        result: The Result.
        settings: How much is kept of earlier ones.
    """
    remove_stale_artifacts(space, result)
    keep_artifacts(space, result, most_bytes=settings.api.keep_artifacts, keep_seconds=settings.api.keep_days * 86400)
    space.save_result(result)
    record(space, result)


def remove_stale_artifacts(space: Workspace, result: Result) -> None:
    """Artifacts of an earlier scoring would pass for this one's."""
    listed = [*result.artifacts.values(), *result.disclosed.artifacts.values()]
    kept = {(space.root / artifact.path).resolve() for artifact in listed}
    if not space.artifacts.is_dir():
        return
    shared = space.artifacts / SHARED
    inside = sorted(shared.iterdir()) if shared.is_dir() and not shared.is_symlink() else []
    for path in [*inside, *sorted(space.artifacts.iterdir())]:
        if path.resolve() not in kept and not any(keep.is_relative_to(path.resolve()) for keep in kept):
            remove_tree(path)
