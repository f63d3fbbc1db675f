"""The staged folder of a run: what the model may see goes in, what it may have written comes out."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from ..core.errors import AutoScorerError, ErrorCode, Stage
from ..core.exposure import build_context, exposures, ground_truths, refuse_links, visible_inputs
from ..core.meta import model_meta
from ..core.text import escape
from ..core.workspace import Workspace
from .base import RunSpec, Staged
from .files import exchange, link_tree, remove_tree

__all__ = [
    "clear",
    "deliver",
    "no_such_folder",
    "refuse_exposure",
    "stage_code",
    "stage_run",
    "staged_at",
    "usual_stage_roots",
]


def staged_at(root: Path, run_id: str) -> Path:
    """Where a run is staged in one of the executor's ``stage_roots``; the name tells nothing of the workspace."""
    return root / f"autoscorer-{run_id}"


def usual_stage_roots(home: Path, workspace: Workspace) -> tuple[Path, ...]:
    """Where runs of a workspace are staged unless the operator says: the first of these that is on its mount."""
    usual = (Path("/var/tmp"), home / "stage")
    volume = next(folder for folder in workspace.root.parents if folder.is_mount())
    return usual if volume == Path("/") else (*usual, volume / ".autoscorer-runs")


def stage_code(spec: RunSpec, staged: Staged) -> Path:
    """Copy the workspace's own files into a folder of the staged run, for a model that has no image.

    Args:
        spec: The run.
        staged: Its staged folder.
    """
    code = staged.folder / "code"
    for path in build_context(spec.workspace):
        if not (path.is_symlink() or path.is_file()):
            continue  # a FIFO or a socket is no code, and reading it may never end
        target = code / path.relative_to(spec.workspace.root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target, follow_symlinks=False)
    code.mkdir(exist_ok=True)
    return code


def no_such_folder(spec: RunSpec) -> AutoScorerError:
    """The error for a working folder that those files do not have."""
    return AutoScorerError(
        ErrorCode.CONTAINER_FAILED,
        f"container.working_dir is {spec.job.container.working_dir!r}, and the workspace has no such folder.",
        details={"exit_code": 127, "log": []},
    )


def stage_run(spec: RunSpec, owner: tuple[int, int], roots: Sequence[Path] = ()) -> Staged:
    """Lay out the folder of one run, on the workspace's file system so that its output can be renamed into place.

    A container's mountinfo tells where on the host each mount comes from. So the folder lies in one of the roots, if
    one is on that file system and can be written, and the input is seen by hard links in there. What can't be linked
    (another file system below ``input/``, files of others where the caller is not root) is seen where it lies.

    Args:
        spec: The run.
        owner: uid and gid the model runs as. Input that they could not read is copied with open modes.
        roots: Where to stage it; in the workspace when none of them will do.

    Raises:
        AutoScorerError: ``GROUND_TRUTH_EXPOSED``, or ``MISSING_FILE`` for links; nothing is staged then.
    """
    workspace = spec.workspace
    refuse_exposure(workspace)
    refuse_links(workspace)
    visible = visible_inputs(workspace)
    folder = workspace.scratch / f"run-{spec.run_id}"
    try:
        folder.mkdir()
        elsewhere = _moved(folder, [staged_at(root, spec.run_id) for root in roots])
        folder = elsewhere or folder
        inputs = _lay_out(folder, spec, visible, owner, links=elsewhere is not None)
        return Staged(folder, inputs, all(path.is_relative_to(folder) for path in inputs.values()) and bool(elsewhere))
    except BaseException:
        remove_tree(folder)
        raise


def _moved(folder: Path, places: Sequence[Path]) -> Path | None:
    """Move an empty folder to the first place on the same mount, which renames and links will need later."""
    for place in places:
        with contextlib.suppress(OSError):
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.rename(folder, place)
            return place
    return None


def _lay_out(
    folder: Path, spec: RunSpec, visible: list[Path], owner: tuple[int, int], *, links: bool
) -> dict[str, Path]:
    # Among everybody's temporary files nobody else may look in; the engine may.
    folder.chmod(0o700 if links else 0o755)
    for name in ("input", "output", *(["files"] if links else [])):
        (folder / name).mkdir()
        (folder / name).chmod(0o755)
    meta = folder / "meta.json"
    told = model_meta(spec.job)
    if links and told.get("job_id") == os.fsencode(spec.workspace.name).decode("utf-8", "replace"):
        del told["job_id"]  # nobody gave one, and the folder's name is not for the model
    meta.write_text(json.dumps(told, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    meta.chmod(0o644)
    output = folder / "output"
    if os.geteuid() == 0:
        os.chown(output, *owner)
    output.chmod(0o700)
    inputs = {}
    for path in visible:
        if links and link_tree(path, folder / "files" / path.name):
            path = folder / "files" / path.name  # from here on nobody else can change what is where
        if path.is_symlink():
            # Put there since it was looked at. The engine would follow it on the host.
            raise AutoScorerError(
                ErrorCode.MISSING_FILE,
                f"input/{escape(path.name)[:200]} became a link while the run was staged. Put the data itself there.",
                stage=Stage.VALIDATION,
            )
        if not _readable(path, owner):
            path = _open_copy(path, folder / "readable" / path.name)
        inputs[path.name] = path
        point = folder / "input" / path.name
        if path.is_dir():
            point.mkdir()
        else:
            point.touch()
    return inputs


def refuse_exposure(workspace: Workspace) -> None:
    """Refuse a workspace whose ground truth the model could read under another name.

    Raises:
        AutoScorerError: ``GROUND_TRUTH_EXPOSED``, naming the files.
    """
    for truth in ground_truths(workspace):
        found = exposures(workspace, truth)
        if found:
            raise AutoScorerError(
                ErrorCode.GROUND_TRUTH_EXPOSED,
                f"The model could read the ground truth: {', '.join(found[:5])} leads to the same bytes as "
                f"input/{truth.name}. Remove it.",
                details={"files": found},
            )


def deliver(staged: Staged, workspace: Workspace) -> None:
    """Put the audited output in the workspace's place in one rename; history comes along by hard links.

    Raises:
        AutoScorerError: As ``Workspace.ensure_ours``.
    """
    workspace.ensure_ours()
    workspace.archive_result()
    history = workspace.output / "history"
    if history.is_dir() and not history.is_symlink():
        kept = staged.output / "history"
        kept.mkdir()
        for entry in sorted(history.iterdir()):
            if entry.is_file() and not entry.is_symlink():
                os.link(entry, kept / entry.name)
    staged.output.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(staged.output, 0, os.getegid())
    exchange(staged.output, workspace.output)


def clear(staged: Staged) -> None:
    """Remove the staged folder."""
    remove_tree(staged.folder)


def _readable(path: Path, owner: tuple[int, int]) -> bool:
    """Whether a plain Unix user could read a file or a whole folder (modes alone; ACLs are not looked at)."""
    if owner[0] == os.geteuid():
        return True
    if not path.is_dir():
        return _allows(path.stat(), owner, 4)
    for parent, _, files in os.walk(path):
        if not _allows(os.stat(parent), owner, 5):
            return False
        for name in files:
            status = os.lstat(os.path.join(parent, name))
            if stat.S_ISREG(status.st_mode) and not _allows(status, owner, 4):
                return False
    return True


def _allows(status: os.stat_result, owner: tuple[int, int], wanted: int) -> bool:
    shift = 6 if status.st_uid == owner[0] else 3 if status.st_gid == owner[1] else 0
    return (status.st_mode >> shift) & wanted == wanted


def _open_copy(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copyfile(source, target)
    for path in [target, *target.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)
    return target
