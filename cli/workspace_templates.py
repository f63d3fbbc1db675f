"""The small workspaces that ``autoscorer init`` writes, from ``templates/init/``.

A task's workspace is what ``common/`` and the task's own folder hold. A file named ``X.tmpl`` is written as ``X``:
the suffix keeps linters and importers away from code that is only data here; README's is filled in besides.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

from ..core.errors import AutoScorerError, ErrorCode

__all__ = ["TASKS", "write_workspace"]

_TEMPLATES = Path(__file__).parent / "templates" / "init"


class _Task(NamedTuple):
    """What the README of a task's workspace says."""

    scorer: str
    ground_truth: str
    predictions: str
    about: str
    format: str
    source: str


_TABLE = "Both it and the predictions have the columns `id` and `label`; rows are matched by id, in any order."
_IRIS = (
    "45 flowers of Fisher's iris data (UCI Machine Learning Repository, CC BY 4.0); the model was made from the\n"
    "other 105. `flower-042` is row 42 of `sklearn.datasets.load_iris()`."
)
TASKS = {
    "classification": _Task(
        "classification_f1", "gt.csv", "pred.csv",
        "A model names the species of a flower from four measurements.", _TABLE, _IRIS,
    ),
    "regression": _Task(
        "regression_rmse", "gt.csv", "pred.csv",
        "A model predicts how wide a flower's petals are, in cm, from three other measurements.", _TABLE, _IRIS,
    ),
    "detection": _Task(
        "detection_map", "gt.json", "pred.json",
        "A model finds the coins in two photographs.",
        "It is a COCO object\n   (`images`, `annotations`, `categories`); the predictions are a COCO results list.",
        "Greek coins from Pompeii, Brooklyn Museum, no known copyright restrictions; the photograph ships with\n"
        "scikit-image. The boxes were drawn by hand.",
    ),
}  # fmt: skip


def write_workspace(directory: str, task: str, *, force: bool = False) -> dict[str, Any]:
    """Write a workspace that runs as it is.

    Args:
        directory: Where; its name becomes the job's id.
        task: A key of ``TASKS``.
        force: Write into a folder that is not empty; files of the same names are replaced, others stay.

    Returns:
        ``workspace`` (absolute path), ``job_id``, ``task_type``, ``files`` (relative paths) and ``next`` (commands
        to try, each with what it does).

    Raises:
        AutoScorerError: ``INVALID_REQUEST``: a folder that is not empty, a name no job can have, or a path that
            can't be written.
    """
    root = Path(os.path.abspath(directory))
    _check_name(root)
    _check_contents(root, task, force)
    contents = {
        name: _fill(name, path, directory, root.name, TASKS[task]) for name, path in sorted(_files(task).items())
    }
    for name, data in contents.items():
        try:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            if force:
                (root / name).unlink(missing_ok=True)
            with open(root / name, "xb") as file:
                file.write(data)
        except OSError as error:
            raise _unwritable(root / name, error) from None
    return {
        "workspace": str(root),
        "job_id": root.name,
        "task_type": task,
        "files": list(contents),
        "next": [{"command": command, "does": does} for command, does in _next(directory)],
    }


def _files(task: str) -> dict[str, Path]:
    """The names in the workspace, and where each comes from."""
    found = {}
    for folder in (_TEMPLATES / "common", _TEMPLATES / task):
        for path in _walk(folder):
            name = path.relative_to(folder).as_posix().removesuffix(".tmpl")
            # A real .gitignore would act on this repository as well, and packaging skips dot files.
            found[".gitignore" if name == "gitignore" else name] = path
    return found


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_dir():
            yield from _walk(path)
        else:
            yield path


def _fill(name: str, path: Path, directory: str, job_id: str, task: _Task) -> bytes:
    data = path.read_bytes()
    if name == "meta.json":
        meta = {"job_id": job_id, **json.loads(data)}
        lines = (f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in meta.items())
        return ("{\n" + ",\n".join(lines) + "\n}\n").encode()
    if name == "README.md":
        words = {"job_id": job_id, "folder": shlex.quote(directory), **task._asdict()}
        return Template(data.decode()).substitute(words).encode()
    return data


def _check_name(root: Path) -> None:
    # The same rule as Job.job_id; a test holds the two together, for pydantic would double this command's start.
    if not re.fullmatch(r"[^/\\\x00-\x1f\x7f]{1,200}", root.name):
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            f"DIR: its name becomes the job's id: expected 1 to 200 characters without backslashes and control "
            f"characters, got {root.name!r}.",
        )
    try:
        str(root).encode()
    except UnicodeEncodeError:
        # The envelope and meta.json are UTF-8, and could not tell where the workspace is.
        raise AutoScorerError(ErrorCode.INVALID_REQUEST, f"DIR: expected a path in UTF-8, got {str(root)!r}.") from None


def _check_contents(root: Path, task: str, force: bool) -> None:
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            f"{root} is a file, or lies below one; expected a folder, or a path that is free.",
        ) from None
    except OSError as error:
        raise _unwritable(root, error) from None
    if names and not force:
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            f"{root} is not empty; nothing was written. Name a new folder, or add --force to write over the files "
            f"that init writes.",
            details={"found": names[:10]},
        )
    # A workspace has one ground truth; one of another kind would make what init writes fail its validation.
    for folder, name in (("input", TASKS[task].ground_truth), ("output", TASKS[task].predictions)):
        stem = name.split(".")[0]
        others = [path for path in (root / folder).glob(f"{stem}.*") if path.name != name]
        if others:
            raise AutoScorerError(
                ErrorCode.INVALID_REQUEST,
                f"{others[0]} is there already, and {task} uses {folder}/{name}; nothing was written. Remove it first.",
            )


def _unwritable(path: Path, error: OSError) -> AutoScorerError:
    hint = {
        errno.EACCES: " Choose a folder you may write to.",
        errno.EPERM: " Choose a folder you may write to.",
        errno.EROFS: " Choose a folder you may write to.",
        errno.ENOTDIR: " A file stands where a folder is needed.",
        errno.EEXIST: " A file stands where a folder is needed.",
        errno.EISDIR: " A folder stands where a file is needed.",
        errno.ENOSPC: " Free some space and try again with --force.",
    }.get(error.errno or 0, "")
    return AutoScorerError(ErrorCode.INVALID_REQUEST, f"{path} can't be written: {error.strerror}.{hint}")


def _next(directory: str) -> list[tuple[str, str]]:
    folder = shlex.quote(directory)
    return [
        (f"autoscorer validate {folder}", "check the workspace"),
        (f"autoscorer pipeline {folder}", "build the image, run it sealed (needs Docker), score what it wrote"),
        (f"autoscorer pipeline {folder} --backend process", "the same without a container, for code you trust"),
    ]
