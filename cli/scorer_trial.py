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
    """A workspace with the same input and predictions. What may be large, folders below input/, is linked."""
    with tempfile.TemporaryDirectory(prefix="autoscorer-test-") as temporary:
        root = Path(temporary) / space.name
        root.mkdir()
        if space.meta.exists():
            shutil.copyfile(space.meta, root / "meta.json")
        for folder, left_out in ((space.input, ()), (space.output, ("result.json", "artifacts", "history"))):
            (root / folder.name).mkdir()
            for item in sorted(folder.iterdir()) if folder.is_dir() else ():
                if item.name in left_out:
                    continue
                copied = root / folder.name / item.name
                if item.is_file() and not item.is_symlink():
                    shutil.copyfile(item, copied)
                elif item.is_dir():
                    copied.symlink_to(item.absolute())
                elif item.is_symlink():
                    # Kept as the link it is: a scorer must see, and refuse, what it would meet in the workspace.
                    copied.symlink_to(os.readlink(item))
        if (space.logs / "run_info.json").is_file():
            (root / "logs").mkdir()
            shutil.copyfile(space.logs / "run_info.json", root / "logs" / "run_info.json")
        yield Workspace(root)
