"""A scorer tried on a workspace, without leaving a trace in it: ``autoscorer scorers test``, ``POST /scorers/test``."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...core.config import Settings, load_settings
from ...core.errors import AutoScorerError, ErrorCode, Stage, internal_error
from ...core.meta import read_meta
from ...core.subprocess_call import Json, SubprocessFailed, answer_call, call_in_subprocess
from ...core.workspace import Workspace
from ...scorers.registry import get_registry
from ...scorers.registry.entry import ScorerEntry
from ...scorers.registry.last_good import LastGood
from ...scorers.registry.manifest import configured_places, pinned_files
from ..memory import limit_memory, out_of_memory
from ..score import score
from ..scorer_call import call_scorer, make_scorer
from ..validate import resolve_scorer

__all__ = ["try_scorer", "try_scorer_apart"]


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
        ``scorer``, ``summary``, ``metrics``, ``intervals``, ``notes``, ``disclosed``, ``artifacts`` (names),
        ``seconds``.

    Raises:
        AutoScorerError: Whatever validating or scoring finds.
    """
    with _copy(Workspace(workspace)) as space:
        meta = read_meta(space)
        _, merged = resolve_scorer(meta.job, entry.id, params)
        started = time.monotonic()
        call_scorer(entry, make_scorer(entry, meta.job, settings).validate, space.root, merged)
        validated = time.monotonic()
        result = score(space, meta, settings, scorer=entry.id, params=params)
        if result.error is not None:
            raise AutoScorerError.from_dict(result.error.model_dump())
        scored = time.monotonic()
    data = result.to_dict()
    return {
        "scorer": {"id": entry.id, "version": entry.version, "sha256": entry.sha256},
        **{key: data[key] for key in ("summary", "metrics", "intervals", "notes", "disclosed")},
        "artifacts": sorted(data["artifacts"]),
        "seconds": {"validate": validated - started, "score": scored - validated},
    }


def try_scorer_apart(
    entry: ScorerEntry,
    workspace: Path,
    *,
    settings: Settings,
    params: Mapping[str, Any],
    seconds: float,
    stop: threading.Event | None = None,
) -> dict[str, Any]:
    """As ``try_scorer``, in a process of its own that is killed when it takes too long. Blocks.

    Args:
        entry: The scorer; that process loads its file anew.
        workspace: The folder.
        settings: The configuration.
        params: Over meta.json's.
        seconds: How long it may take.
        stop: Set by another thread, it is given up.

    Raises:
        AutoScorerError: As ``try_scorer``; ``TIMEOUT_ERROR`` or ``SCORER_ERROR`` when it hangs or crashes.
    """
    question = {
        "scorer": entry.id,
        "file": str(entry.source) if entry.origin in ("file", "directory") else None,
        "entry_points": settings.scorers.entry_points,
        "workspace": str(workspace),
        "params": dict(params),
    }
    # A process that is killed removes nothing, so its temporary files lie where they are removed here.
    with tempfile.TemporaryDirectory(prefix="autoscorer-trial-") as temporary:
        try:
            answer = call_in_subprocess(
                "autoscorer.tasks.scoring.trial",
                question,
                seconds=seconds,
                env={"AUTOSCORER_HOME": str(settings.home), "TMPDIR": temporary},
                stop=stop,
            )
        except SubprocessFailed as failed:
            raise AutoScorerError(
                ErrorCode.TIMEOUT_ERROR if failed.took_too_long else ErrorCode.SCORER_ERROR,
                f"Scoring with {entry.id!r} {failed}.",
                stage=Stage.SCORING,
                details={"scorer": entry.id},
            ) from None
    if "error" in answer:
        raise AutoScorerError.from_dict(answer["error"])
    found: dict[str, Any] = answer["found"]
    return found


def _answer(question: Json) -> Json:
    registry = get_registry()
    registry.entry_points = question["entry_points"]
    try:
        settings = load_settings()
        if question["file"] is not None:
            file, pinned = Path(question["file"]), pinned_files(settings, configured_places(settings)[0])
            if file in pinned:
                registry.last_good = LastGood(settings.home)
                registry.load_pinned(file, pinned[file].sha256)
            else:
                registry.load_file(file)
        entry = registry.get(question["scorer"])
        limit_memory(settings)
        try:
            found = try_scorer(entry, question["workspace"], settings=settings, params=question["params"])
        except MemoryError:
            raise out_of_memory(settings) from None
        return {"found": found}
    except AutoScorerError as error:
        return {"error": error.to_dict()}
    except Exception as error:
        return {"error": internal_error(error).to_dict()}


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


if __name__ == "__main__":
    answer_call(_answer)
