"""``autoscorer scorers test``: a scorer on a workspace, without leaving a trace in it."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..core.config import Settings
from ..core.meta import load_job
from ..core.workspace import Workspace
from ..scorers.entry import ScorerEntry
from ..tasks.score import score_workspace
from ..tasks.validate import resolve_scorer
from .arguments import raise_failure

__all__ = ["try_scorer"]


def try_scorer(
    entry: ScorerEntry, workspace: Path | str, *, settings: Settings, params: Mapping[str, Any]
) -> dict[str, Any]:
    """Validate and score with one scorer; artifacts and result.json go to a copy that is thrown away.

    Args:
        entry: The scorer.
        workspace: The folder.
        settings: The configuration.
        params: Over meta.json's.

    Returns:
        ``scorer``, ``summary``, ``metrics``, ``intervals``, ``notes``, ``artifacts`` (names), ``seconds``.

    Raises:
        AutoScorerError: Whatever validating or scoring finds.
    """
    with _copy(Workspace(workspace)) as space:
        _, merged = resolve_scorer(load_job(space), entry.id, params)
        started = time.monotonic()
        entry.create().validate(space.root, merged)
        validated = time.monotonic()
        result = score_workspace(space.root, settings=settings, scorer=entry.id, params=params, lock=False)
        raise_failure(result)
        scored = time.monotonic()
    data = result.to_dict()
    return {
        "scorer": {"id": entry.id, "version": entry.version, "sha256": entry.sha256},
        **{key: data[key] for key in ("summary", "metrics", "intervals", "notes")},
        "artifacts": sorted(data["artifacts"]),
        "seconds": {"validate": validated - started, "score": scored - validated},
    }


@contextlib.contextmanager
def _copy(space: Workspace) -> Iterator[Workspace]:
    """A workspace with the same input and predictions. What may be large, the content of folders, is linked."""
    with tempfile.TemporaryDirectory(prefix="autoscorer-test-") as temporary:
        root = Path(temporary) / space.name
        root.mkdir()
        for file in (space.meta, space.logs / "run_info.json"):
            if file.is_file():
                _copy_file(file, root / file.relative_to(space.root))
        (root / "input").mkdir()
        (root / "output").mkdir()
        for item in _entries(space.input):
            copied = root / "input" / item.name
            if item.is_dir() and not item.is_symlink():
                copied.mkdir()  # a link right under input/ would be refused, as no model could follow it
                for inside in _entries(item):
                    (copied / inside.name).symlink_to(inside)
            else:
                _copy_file(item, copied)
        for item in _entries(space.output):
            copied = root / "output" / item.name
            if item.name in ("result.json", "artifacts", "history"):
                continue
            if item.is_dir() and not item.is_symlink():
                copied.symlink_to(item)
            else:
                _copy_file(item, copied)
        yield Workspace(root)


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _copy_file(source: Path, target: Path) -> None:
    """Copy a file; a link stays the link it is, so that the scorer meets, and refuses, what lies in the workspace."""
    target.parent.mkdir(exist_ok=True)
    if source.is_symlink():
        target.symlink_to(os.path.join(source.parent, os.readlink(source)))
    elif source.is_file():
        shutil.copyfile(source, target)
