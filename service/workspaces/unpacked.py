"""What was unpacked, made a workspace: found, named, and freed of what must not be taken over."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path, PurePosixPath

from ...core.errors import AutoScorerError, ErrorCode, Stage
from ...core.plain_names import has_hidden_characters

__all__ = ["check_name", "find_workspace", "leave_out", "name_of_archive", "normalise", "sync"]

_MAX_NAME = 100
# A name stands in URLs, patterns of batches, and shells.
_NO_NAME = re.compile(r"[/\\*?\[\]{}$`\"'<>|;&]")
# What a packing tool adds beside what it was told to pack.
_BESIDE = ("__MACOSX", ".DS_Store")
# What says what a system has done with a workspace. This one has not done it: it must not pass for its own word.
_OURS = (("output", "result.json"), ("output", "artifacts"), ("output", "history"), ("logs",), (".autoscorer",))


def find_workspace(unpacked: Path) -> tuple[Path, list[str]]:
    """The folder with the meta.json (the archive's top, or the one folder in it), and what stands beside it.

    Raises:
        AutoScorerError: ``INVALID_META`` when there is none.
    """
    if os.path.lexists(unpacked / "meta.json"):
        return unpacked, []
    beside = [item for item in unpacked.iterdir() if item.name in _BESIDE or item.name.startswith("._")]
    tops = [item for item in unpacked.iterdir() if item not in beside]
    if len(tops) == 1 and os.path.lexists(tops[0] / "meta.json"):
        return tops[0], [item.name for item in beside]
    raise AutoScorerError(
        ErrorCode.INVALID_META,
        "The archive holds no workspace: expected meta.json at its top, or in the one folder at its top; found "
        f"{', '.join(sorted(repr(item.name) for item in tops)[:5]) or 'nothing'}.",
        stage=Stage.VALIDATION,
    )


def leave_out(workspace: Path) -> list[str]:
    """Remove what only this system may write; what went."""
    gone = []
    for parts in _OURS:
        path = workspace.joinpath(*parts)
        if path.is_dir():
            shutil.rmtree(path)
        elif path.exists():
            path.unlink()
        else:
            continue
        gone.append("/".join(parts))
    return gone


def normalise(workspace: Path) -> tuple[int, int]:
    """Give every folder the usual mode; how many files there are, and their bytes."""
    files = size = 0
    for folder, _, names in os.walk(workspace):
        os.chmod(folder, 0o755)  # noqa: S103 - as any folder that a person makes
        files += len(names)
        size += sum(os.lstat(os.path.join(folder, name)).st_size for name in names)
    return files, size


def sync(path: Path) -> None:
    """Have everything on that file system on its disk: after the answer no loss of power may take it back."""
    import ctypes

    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
        if syncfs is None or syncfs(fd) != 0:
            os.sync()
    finally:
        os.close(fd)


def name_of_archive(filename: str | None) -> str:
    """What an archive is called, without folders and suffix."""
    name = PurePosixPath((filename or "").replace("\\", "/")).name
    return re.sub(r"\.(zip|tar|tgz|tbz2|txz|(tar\.)?(gz|bz2|xz))$", "", name, flags=re.IGNORECASE)


def check_name(name: str) -> None:
    """Refuse what can't be, or should not be, a workspace's name.

    Raises:
        AutoScorerError: ``INVALID_REQUEST``.
    """
    plain = not has_hidden_characters(name) and name == name.strip() and not _NO_NAME.search(name)
    # Nor spaces that are not the usual one, and what has no picture: people type these names.
    plain = plain and name.isprintable()
    try:
        short = 0 < len(name.encode()) <= _MAX_NAME
    except UnicodeEncodeError:
        short = False
    if not plain or not short or name[:1] in (".", "-"):
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            f"{name[:_MAX_NAME]!r} can't be a workspace's name: expected 1 to {_MAX_NAME} bytes that do not begin with "
            ". or -, without / \\ * ? [ ] { } $ ` quotes < > | ; & and characters that are not seen. Give another one "
            "in the form field `name`.",
            details={"fields": [{"field": "name", "message": "can't be a workspace's name"}]},
        )
