"""Making a submission: a workspace of its own that references the benchmark's input."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ...core.benchmark import BenchmarkFolder
from ...core.errors import AutoScorerError, ErrorCode, Stage
from ...core.exposure import NOT_CODE
from ...core.meta import parse_job
from ...core.scores import read_submission
from ...core.storage import naming_full_disks
from ...core.strict_json import read_text
from ...core.submissions import SUBMISSIONS, link_input
from ...core.text import escape
from ...core.workspace import TABLE_SUFFIXES, write_atomic
from ...executors.files import remove_tree
from ...schemas.benchmark import NAME, Benchmark, Kind, Phase, Submission
from ...schemas.image_reference import parse_image

__all__ = ["Source", "add_submission", "open_phase", "submission_folder", "submission_of_run", "workspace_of"]

# Keys of a folder's own meta.json that a submission may say something in.
_OWN_KEYS = ("container", "resources", "timeout", "description", "version")
_MOST_FILES = 100_000


@dataclass(frozen=True)
class Source:
    """What a team hands in.

    Args:
        kind: What it is.
        path: The archive, the folder with a Dockerfile, or the file of predictions; None for an image.
        container: Of meta.json: ``image`` for an image, and how it is started.
    """

    kind: Kind
    path: Path | None = None
    container: dict[str, Any] = field(default_factory=dict)


def submission_folder(folder: BenchmarkFolder, team: str, number: int) -> Path:
    """Where a submission lies, or would."""
    return folder.root / SUBMISSIONS / team / f"{number:04d}"


def open_phase(spec: Benchmark, now: datetime | None = None) -> tuple[Phase | None, bool]:
    """The phase that a submission of this moment is of, and whether it is late.

    Raises:
        AutoScorerError: ``PHASE_CLOSED``, with the time of the next one.
    """
    if not spec.phases:
        return None, False
    now = now or datetime.now(UTC)
    begun = [phase for phase in spec.phases if phase.open is None or phase.open <= now]
    for phase in begun:
        if phase.close is None or now < phase.close:
            return phase, False
    late = [phase for phase in begun if phase.late == "accept"]
    if late:
        return late[-1], True
    opens = sorted(phase.open for phase in spec.phases if phase.open is not None and phase.open > now)
    then = f"The next phase opens at {opens[0]:%Y-%m-%d %H:%M} UTC." if opens else "No further phase will open."
    raise AutoScorerError(
        ErrorCode.PHASE_CLOSED,
        f"{spec.name} takes no submissions now. {then}",
        details={"next_open": opens[0].isoformat() if opens else None},
    )


def add_submission(
    folder: BenchmarkFolder,
    team: str,
    source: Source,
    *,
    label: str | None = None,
    flow_run_id: str | None = None,
    now: datetime | None = None,
) -> Path:
    """Make the workspace of a submission, whole or not at all.

    Its number is the team's next one. Several that come at the same time get different ones, from any host that sees
    the folder.

    Args:
        folder: The benchmark.
        team: Whose it is.
        source: What is handed in; files are copied.
        label: The team's own words for it.
        flow_run_id: The flow run that makes it, by which ``submission_of_run`` finds it.
        now: The time that counts for the phase; this moment when None.

    Returns:
        The workspace's folder.

    Raises:
        AutoScorerError: ``PHASE_CLOSED``; ``INVALID_REQUEST`` for a name or an image that is none; ``MISSING_FILE``,
            ``INVALID_META``, ``OUTPUT_REJECTED`` for what is handed in; ``STORAGE_FULL``.
    """
    if not re.fullmatch(NAME, team):
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            f"{escape(team)[:100]!r} is not a team's name: expected up to 64 lower-case letters, digits, - and _.",
        )
    if label is not None and (len(label) > 200 or not label.isprintable()):
        raise AutoScorerError(ErrorCode.INVALID_REQUEST, "label: expected up to 200 printable characters.")
    phase, late = open_phase(folder.read(), now)
    with naming_full_disks(workspace=folder.root):
        root = _numbered(folder, team)
        try:
            meta = _lay_out(root, source)
            about = Submission(
                team=team,
                number=int(root.name),
                kind=source.kind,
                label=label,
                # With the part of a second by which two are told apart.
                created_at=(now or datetime.now(UTC)).isoformat().replace("+00:00", "Z"),
                phase=phase.name if phase is not None else None,
                flow_run_id=flow_run_id,
                late=late,
            )
            link_input(root)
            write_atomic(root / "submission.json", (about.model_dump_json(indent=2) + "\n").encode())
            # Last: from here on it is a workspace.
            write_atomic(root / "meta.json", (json.dumps(meta, ensure_ascii=False, indent=2) + "\n").encode())
        except BaseException:
            remove_tree(root)
            raise
    return root


def submission_of_run(benchmark: Path, team: str, flow_run_id: str) -> Path | None:
    """The submission that a flow run has made; None before it has, and where there is no such benchmark."""
    try:
        folder = BenchmarkFolder(benchmark)
    except AutoScorerError:
        return None
    if not re.fullmatch(NAME, team):
        return None
    # The newest first: it is one of the last.
    for root in reversed([*folder.submissions(team)]):
        about = read_submission(root)
        if about is not None and about.flow_run_id == flow_run_id:
            return root
    return None


def workspace_of(parameters: Mapping[str, Any] | None, flow_run_id: str) -> str | None:
    """The workspace that a flow run works on: the one that it is given, or the submission that it has made.

    Args:
        parameters: What the flow is called with.
        flow_run_id: Of the run.
    """
    given = parameters or {}
    if isinstance(given.get("workspace"), str):
        return str(given["workspace"])
    benchmark, team = given.get("benchmark"), given.get("team")
    if not isinstance(benchmark, str) or not isinstance(team, str):
        return None
    found = submission_of_run(Path(benchmark), team, flow_run_id)
    return None if found is None else str(found)


def _numbered(folder: BenchmarkFolder, team: str) -> Path:
    parent = folder.root / SUBMISSIONS / team
    parent.mkdir(parents=True, exist_ok=True)
    taken = [int(name) for name in os.listdir(parent) if name.isdigit()]
    number = max(taken, default=0)
    while True:
        number += 1
        root = submission_folder(folder, team, number)
        with contextlib.suppress(FileExistsError):
            root.mkdir()
            return root


def _lay_out(root: Path, source: Source) -> dict[str, Any]:
    """Put what is handed in in its place; the meta.json that goes with it."""
    container = dict(source.container)
    if source.kind == "image":
        try:
            parse_image(str(container.get("image", "")))
        except ValueError as error:
            raise AutoScorerError(ErrorCode.INVALID_REQUEST, f"The image is not one: {escape(str(error))}.") from None
    elif source.kind == "predictions":
        _take_predictions(root, _file(source))
    elif source.kind == "archive":
        path = _file(source)
        # By its first bytes, because the name may be anything.
        with path.open("rb") as file:
            name = "image.tar.gz" if file.read(2) == b"\x1f\x8b" else "image.tar"
        shutil.copyfile(path, root / name)
    else:
        return _take_folder(root, source)
    return {"container": container} if container else {}


def _file(source: Source) -> Path:
    assert source.path is not None
    if not source.path.is_file():
        why = "is not a file" if source.path.exists() else "does not exist"
        raise AutoScorerError(ErrorCode.MISSING_FILE, f"{str(source.path)!r} {why}.")
    return source.path


def _take_predictions(root: Path, path: Path) -> None:
    suffix = path.suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            f"{path.name!r} ends with {path.suffix!r}. How predictions are read is told by the file's name: expected "
            f"one of {', '.join(TABLE_SUFFIXES)}.",
        )
    (root / "output").mkdir()
    shutil.copyfile(path, root / "output" / f"pred{suffix}")


def _take_folder(root: Path, source: Source) -> dict[str, Any]:
    folder = source.path
    assert folder is not None
    if not folder.is_dir():
        raise AutoScorerError(ErrorCode.MISSING_FILE, f"{str(folder)!r} is not a folder.")
    if not os.path.isfile(folder / "Dockerfile"):
        raise AutoScorerError(
            ErrorCode.MISSING_FILE, f"{str(folder)!r} holds no Dockerfile, from which a submission's image is built."
        )
    for number, (path, at) in enumerate(_entries(folder)):
        if number == _MOST_FILES:
            raise AutoScorerError(
                ErrorCode.INVALID_REQUEST, f"{str(folder)!r} holds more than {_MOST_FILES:,} files. Hand in an image."
            )
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise AutoScorerError(
                ErrorCode.OUTPUT_REJECTED,
                f"{escape(at)} is not a plain file or folder. A submission holds no links.",
                stage=Stage.VALIDATION,
                details={"file": escape(at)},
            )
        if path.is_dir():
            (root / at).mkdir()
        else:
            shutil.copyfile(path, root / at)
            (root / at).chmod(0o755 if os.access(path, os.X_OK) else 0o644)
    meta: dict[str, Any] = {}
    if os.path.lexists(folder / "meta.json"):
        text = read_text(folder / "meta.json", code=ErrorCode.INVALID_META, missing="")
        parse_job(text)
        given = json.loads(text)
        meta = {key: given[key] for key in _OWN_KEYS if key in given}
        meta.get("container", {}).pop("image", None)
    container = {**meta.get("container", {}), **source.container}
    return {**meta, **({"container": container} if container else {})}


def _entries(folder: Path) -> Iterator[tuple[Path, str]]:
    """Everything below a folder that may belong to a submission, folders before what is in them."""
    pending = [(path, path.name) for path in sorted(folder.iterdir()) if path.name not in NOT_CODE]
    while pending:
        path, at = pending.pop()
        yield path, at
        if path.is_dir() and not path.is_symlink():
            pending.extend((each, f"{at}/{each.name}") for each in path.iterdir())
