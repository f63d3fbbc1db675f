"""The benchmark that ``autoscorer benchmark new`` writes: from an example, or from a workspace."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

from ..core.errors import AutoScorerError, ErrorCode
from ..core.submissions import BENCHMARK_FILE
from ..schemas.benchmark import NAME
from .output import printable
from .workspace_templates import write_workspace

__all__ = ["from_workspace", "print_new", "write_benchmark"]

Json = dict[str, Any]

EXAMPLE = "example-submission"
# What a submission says for itself; the rest of a workspace's meta.json is the benchmark's.
_OF_SUBMISSION = ("container",)
_OF_BENCHMARK = ("task_type", "scorer", "params", "data", "resources", "timeout", "description")


def write_benchmark(directory: str, task: str) -> Json:
    """Write a benchmark that works as it is, with a submission to try.

    Args:
        directory: Where; its name becomes the benchmark's.
        task: ``classification``, ``regression`` or ``detection``.

    Returns:
        ``benchmark`` (absolute path), ``name``, ``files`` (relative paths) and ``next`` (commands to try).

    Raises:
        AutoScorerError: ``INVALID_REQUEST``: the folder is not empty or can't be written, or its name is not one.
    """
    root = _new_folder(directory)
    example = root / EXAMPLE
    write_workspace(str(example), task)
    os.rename(example / "input", root / "input")
    meta = json.loads((example / "meta.json").read_text(encoding="utf-8"))
    for name in ("README.md", ".gitignore"):
        (example / name).unlink(missing_ok=True)
    _write(example / "meta.json", {key: meta[key] for key in _OF_SUBMISSION if key in meta})
    _write(root / BENCHMARK_FILE, _spec(root.name, meta))
    folder = shlex.quote(directory)
    return _told(
        root,
        (f"autoscorer benchmark validate {folder}", "check the benchmark"),
        (f"autoscorer evaluate {folder} {folder}/{EXAMPLE} --team team-a", "build, run sealed (needs Docker), score"),
        (f"autoscorer benchmark leaderboard {folder}", "see who is best"),
    )


def from_workspace(workspace: str, directory: str) -> Json:
    """Make a benchmark of a workspace: its data, ground truth, scorer and limits.

    Args:
        workspace: The workspace's folder, which stays as it is.
        directory: Where to write; its name becomes the benchmark's.

    Returns:
        As ``write_benchmark``.

    Raises:
        AutoScorerError: The same, and what is wrong with the workspace.
    """
    from ..core.meta import load_job
    from ..core.workspace import Workspace

    space = Workspace(workspace)
    job = load_job(space)
    if job.scorer is None:
        raise AutoScorerError(
            ErrorCode.INVALID_META, "scorer: missing. A benchmark needs one; name it in the workspace's meta.json."
        )
    space.ground_truth()
    root = _new_folder(directory)
    shutil.copytree(space.input, root / "input", symlinks=True)
    asked = job.model_dump(mode="json", exclude_unset=True)
    _write(root / BENCHMARK_FILE, _spec(root.name, {**asked, "scorer": job.scorer}))
    folder = shlex.quote(directory)
    return _told(
        root,
        (f"autoscorer benchmark validate {folder}", "check the benchmark"),
        (f"autoscorer evaluate {folder} --predictions FILE --team team-a", "score predictions"),
    )


def _new_folder(directory: str) -> Path:
    root = Path(os.path.abspath(directory))
    if not re.fullmatch(NAME, root.name):
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            f"DIR: its name becomes the benchmark's: expected up to 64 lower-case letters, digits, - and _, got "
            f"{root.name!r}.",
        )
    try:
        root.mkdir(parents=True, exist_ok=True)
        is_empty = not any(root.iterdir())
    except OSError as error:
        raise AutoScorerError(ErrorCode.INVALID_REQUEST, f"{root} can't be written: {error.strerror}.") from None
    if not is_empty:
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST, f"{root} is not empty; nothing was written. Name a new folder."
        )
    return root


def _spec(name: str, meta: Json) -> Json:
    spec: Json = {"name": name, **{key: meta[key] for key in _OF_BENCHMARK if key in meta}}
    # To be changed: what an organiser thinks of first.
    return {**spec, "quota": {"per_day": 5, "total": None, "at_once": 1}, "visibility": "leaderboard"}


def _write(path: Path, content: Json) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _told(root: Path, *steps: tuple[str, str]) -> Json:
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    return {
        "benchmark": str(root),
        "name": root.name,
        "files": files[:50],
        "next": [{"command": command, "does": does} for command, does in steps],
    }


def print_new(data: Json) -> None:
    """Say what was written, and what to type next."""
    print(f"wrote {printable(data['benchmark'])}: {', '.join(printable(name) for name in data['files'])}")
    width = max(len(step["command"]) for step in data["next"])
    for step in data["next"]:
        print(f"  {printable(step['command']):{width}}  # {step['does']}")
