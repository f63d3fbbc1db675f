"""A workspace on disk: its paths, atomic writes, the lock, its Result and the history of Results."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from ..schemas.result import Artifact, Result
from .errors import AutoScorerError, ErrorCode, Stage
from .locks import is_at, is_locked, open_lock, try_lock
from .provenance import current_attempt, current_flow_run
from .storage import naming_full_disks, sync_folder
from .submissions import benchmark_of

__all__ = ["SHARED", "TABLE_SUFFIXES", "ArtifactWriter", "Workspace", "open_regular", "result_id", "write_atomic"]

# In the order they are looked for; one of them only may be there.
TABLE_SUFFIXES = (".csv", ".json", ".jsonl", ".parquet")
# Below output/artifacts: what stands for the artifacts of the same names where the ground truth may not be seen.
SHARED = "shared"

_YEAR_9999 = 253_402_300_799.0

MEDIA_TYPES = {
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".csv": "text/csv",
    ".html": "text/html",
    ".png": "image/png",
    ".txt": "text/plain",
    ".md": "text/markdown",
    ".gz": "application/gzip",
}


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write ``data`` so that ``path`` holds all of it or is as it was (write, fsync, rename, fsync dir)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync_folder(path.parent)


def open_regular(path: Path, *, stage: Stage = Stage.SCORING) -> IO[bytes]:
    """Open a file that must be a plain one, without following a link and without blocking on a FIFO.

    Predictions may come from a stranger: ``output/pred.csv`` as a link to the ground truth would score 1.0,
    as a FIFO it would hang the scorer.

    Raises:
        AutoScorerError: ``MISSING_FILE`` when it is not there, ``OUTPUT_REJECTED`` when it is not a plain file.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise AutoScorerError(
            ErrorCode.MISSING_FILE, f"{path.name} is not in {path.parent.name}/.", stage=stage
        ) from None
    except OSError as error:
        raise AutoScorerError(
            ErrorCode.OUTPUT_REJECTED,
            f"{path.name} must be a plain file, not a link."
            if error.errno == errno.ELOOP
            else f"{path.name} must be a plain file that can be read: {error.strerror}.",
            stage=stage,
            details={"file": path.name},
        ) from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise AutoScorerError(
            ErrorCode.OUTPUT_REJECTED,
            f"{path.name} must be a plain file, not a link, a folder, a FIFO or a device.",
            stage=stage,
            details={"file": path.name},
        )
    return os.fdopen(fd, "rb")


def result_id(written: float) -> str:
    """What a Result is called in the history, by when its file was written: it has that name before it goes there."""
    # A file may carry any time; a date holds years 1 to 9999.
    moment = datetime.fromtimestamp(min(max(written, 0.0), _YEAR_9999), UTC)
    return f"{moment:%Y%m%dT%H%M%S.%fZ}"


def _own_folder(path: Path) -> None:
    """Make a folder for what we write. A link that a stranger left in its place would send it somewhere else."""
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        path.unlink()
    path.mkdir(exist_ok=True)


class Workspace:
    """Paths of one workspace, and the few things done to it.

    Args:
        root: The folder that holds meta.json.

    Attributes:
        root: The folder, links resolved.
        benchmark: Of a submission the benchmark's folder, whose input is the submission's; None of any other workspace.

    Raises:
        AutoScorerError: ``WORKSPACE_NOT_FOUND``, or ``INVALID_REQUEST`` when a folder that is written to is a link.
    """

    def __init__(self, root: Path | str) -> None:
        path = Path(root)
        # os.path answers for any name; Path raises for one that is too long or may not be looked at.
        if not os.path.isdir(path):
            what = "is not a folder" if os.path.exists(path) else "does not exist, or may not be opened"
            raise AutoScorerError(
                ErrorCode.WORKSPACE_NOT_FOUND,
                f"The workspace {str(root)!r} {what}. Expected a folder with meta.json and input/.",
            )
        self.root = path.resolve()
        self.benchmark = benchmark_of(self.root)
        for folder in (self.output, self.logs, self.scratch):
            if folder.is_symlink():
                raise AutoScorerError(
                    ErrorCode.INVALID_REQUEST,
                    f"{folder.name} in the workspace is a link. What runs and scorings write must stay in the "
                    "workspace: make it a folder.",
                )

    @property
    def name(self) -> str:
        return self.root.name

    @property
    def meta(self) -> Path:
        return self.root / "meta.json"

    @property
    def input(self) -> Path:
        return (self.benchmark or self.root) / "input"

    def named(self, path: Path) -> str:
        """How messages call a file of the workspace, or of the input that it shares with others."""
        home = self.root if path.is_relative_to(self.root) else self.benchmark or self.root
        return str(path.relative_to(home))

    @property
    def output(self) -> Path:
        return self.root / "output"

    @property
    def artifacts(self) -> Path:
        return self.output / "artifacts"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def model_log(self) -> Path:
        """What the model wrote to its streams in the last run."""
        return self.logs / "container.log"

    @property
    def result_file(self) -> Path:
        return self.output / "result.json"

    @property
    def scratch(self) -> Path:
        """Our own folder inside the workspace, on its file system, so that a rename can move things."""
        return self.root / ".autoscorer"

    def ground_truth(self) -> Path:
        """``input/gt.*``: exactly one.

        Raises:
            AutoScorerError: ``MISSING_FILE`` when there is none or it is a link, ``BAD_FORMAT`` when there are several.
        """
        found = self._only_one(self.input, "gt", Stage.VALIDATION)
        if found.is_symlink():
            raise AutoScorerError(
                ErrorCode.MISSING_FILE,
                f"input/{found.name} is a link, and links are not followed: where it leads may change, and be no "
                "ground truth. Put the file itself there.",
                stage=Stage.VALIDATION,
                details={"file": found.name},
            )
        return found

    def predictions(self) -> Path:
        """``output/pred.*``: exactly one.

        Raises:
            AutoScorerError: As ``ground_truth``.
        """
        return self._only_one(self.output, "pred", Stage.SCORING)

    def _only_one(self, folder: Path, stem: str, stage: Stage) -> Path:
        found = [folder / (stem + suffix) for suffix in TABLE_SUFFIXES if os.path.lexists(folder / (stem + suffix))]
        names = ", ".join(stem + suffix for suffix in TABLE_SUFFIXES)
        if not found:
            raise AutoScorerError(ErrorCode.MISSING_FILE, f"{folder.name}/ holds none of {names}.", stage=stage)
        if len(found) > 1:
            raise AutoScorerError(
                ErrorCode.BAD_FORMAT,
                f"{folder.name}/ holds {' and '.join(p.name for p in found)}; expected only one of them.",
                stage=stage,
            )
        return found[0]

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the workspace: one run or scoring at a time, released by the kernel if this process dies.

        Raises:
            AutoScorerError: ``CONFLICT`` when another process holds it, ``STORAGE_FULL``, ``INVALID_REQUEST`` when it
                can't be written for another reason.
        """
        try:
            with naming_full_disks(workspace=self.root):
                self.scratch.mkdir(exist_ok=True)
                fd = open_lock(self.scratch / "lock")
        except OSError as error:
            raise AutoScorerError(
                ErrorCode.INVALID_REQUEST,
                f"The workspace {self.name!r} can't be written: {error.strerror}. Results and logs go into it.",
                stage=Stage.VALIDATION,
            ) from None
        try:
            # One that was waited for may be that of a workspace which another one has taken the place of.
            if not _locked(fd) or not is_at(fd, self.scratch / "lock"):
                raise AutoScorerError(
                    ErrorCode.CONFLICT,
                    f"Another process is working on the workspace {self.name!r}. Wait for it, or cancel it.",
                )
            _mark(fd, _holder())
            try:
                yield
            finally:
                _mark(fd, "")
        finally:
            os.close(fd)

    def left_by(self) -> str | None:
        """The flow run whose process held the workspace last and did not live to let go of it; None for none."""
        return self._marked().partition(" ")[0] or None

    def _marked(self) -> str:
        with contextlib.suppress(OSError):
            return (self.scratch / "lock").read_text(encoding="utf-8", errors="replace").strip()
        return ""

    def break_lock(self, flow_run_id: str) -> None:
        """Take the workspace from a flow run whose worker is lost; what that still does is refused by ``ensure_ours``.

        A process that was stopped together with its host holds the lock, and may go on one day.
        """
        if self.left_by() == flow_run_id:
            (self.scratch / "lock").unlink(missing_ok=True)

    def ensure_ours(self) -> None:
        """See that no later attempt at this flow run has the workspace by now.

        Raises:
            AutoScorerError: ``CONFLICT``.
        """
        if current_attempt.get() is not None and self._marked() != _holder():
            raise AutoScorerError(
                ErrorCode.CONFLICT,
                f"The workspace {self.name!r} was taken from this attempt, whose worker was silent for too long. "
                "Another attempt works on it; its Result counts.",
            )

    def is_held(self) -> bool:
        """Whether a process works on it at this moment. Only whoever has the lock can rely on the answer."""
        return is_locked(self.scratch / "lock")

    def read_result(self) -> Result | None:
        """The Result that lies there, or None."""
        try:
            with open_regular(self.result_file) as file:
                return Result.model_validate_json(file.read())
        except (AutoScorerError, OSError, ValueError):
            return None

    def save_result(self, result: Result) -> Path:
        """Write result.json, whole or not at all; the previous one moves to ``output/history/``.

        Raises:
            AutoScorerError: As ``ensure_ours``.
        """
        data = result.to_bytes()
        self.ensure_ours()
        if not self._repeats(result):
            self.archive_result()
        write_atomic(self.result_file, data)
        return self.result_file

    def _repeats(self, result: Result) -> bool:
        """Whether a flow run says once more that it waits for room: the history must not fill the disk meanwhile."""
        if result.error is None or result.error.code != ErrorCode.STORAGE_FULL or not result.versioning.flow_run_id:
            return False
        found = self.read_result()
        return (
            found is not None
            and found.error is not None
            and found.error.code == ErrorCode.STORAGE_FULL
            and found.versioning.flow_run_id == result.versioning.flow_run_id
        )

    def archive_result(self) -> None:
        """Keep a copy of result.json under ``output/history/``, named by when it was written."""
        try:
            with open_regular(self.result_file) as file:
                old, written = file.read(), os.fstat(file.fileno()).st_mtime
        except AutoScorerError:
            return
        stem = f"result-{result_id(written)}"
        history = self.output / "history"
        _own_folder(history)
        for number in itertools.count(1):
            # Two Results within one tick of the file system's clock are told apart by a number.
            path = history / (f"{stem}.json" if number == 1 else f"{stem}-{number}.json")
            if not os.path.lexists(path):
                write_atomic(path, old)
                return
            if path.is_file() and path.read_bytes() == old:
                return


def _holder() -> str:
    """What the lock says of who holds it: the flow run, and which attempt at it where that is told apart."""
    flow_run, attempt = current_flow_run.get() or "", current_attempt.get()
    return flow_run if attempt is None else f"{flow_run} {attempt}"


def _mark(fd: int, text: str) -> None:
    """Write into the lock who holds it. For those who come after a kill; on a full disk they go without."""
    with contextlib.suppress(OSError):
        os.ftruncate(fd, 0)
        os.pwrite(fd, text.encode(), 0)


def _locked(fd: int) -> bool:
    # Again, because ``is_held`` of another process may have it for a moment.
    for pause in (0.02, 0.08, None):
        if try_lock(fd):
            return True
        if pause is not None:
            time.sleep(pause)
    return False


class ArtifactWriter:
    """Writes a scorer's artifacts under ``output/artifacts/`` and remembers them for the Result."""

    def __init__(self, workspace: Path) -> None:
        self._root = Path(workspace)
        self.artifacts: dict[str, Artifact] = {}
        self.shared: dict[str, Artifact] = {}

    def write(
        self, name: str, filename: str, content: str | bytes, *, rows: int | None = None, rows_total: int | None = None
    ) -> Path:
        """Write one artifact atomically.

        Args:
            name: Its key in ``Result.artifacts``.
            filename: Plain file name, no path, below ``output/artifacts/``; the suffix gives the media type.
            content: Text (UTF-8) or bytes.
            rows: Of a table, the rows in it.
            rows_total: How many there are, of which these are the first.

        Raises:
            ValueError: The file name is a path, as one made of a label may be.
        """
        path, artifact = self._write(filename, content)
        self.artifacts[name] = artifact.model_copy(update={"rows": rows, "rows_total": rows_total})
        return path

    def share(self, name: str, filename: str, content: str | bytes) -> Path:
        """Write what stands for an artifact where the ground truth may not be seen, below ``output/artifacts/shared/``.

        It has to name no label that the ground truth does not have and no row, and to show no count below
        ``security.disclosure.min_count``. List it under ``Result.disclosed.artifacts``.

        Args:
            name: Its key in ``Result.artifacts``.
            filename: As in ``write``.
            content: As in ``write``.

        Raises:
            ValueError: The file name is a path.
        """
        path, self.shared[name] = self._write(filename, content, SHARED)
        return path

    def _write(self, filename: str, content: str | bytes, *below: str) -> tuple[Path, Artifact]:
        if filename in ("", "..") or Path(filename).name != filename or "\0" in filename:
            raise ValueError(f"expected a plain file name for an artifact, got {filename!r}")
        folder = self._root / "output" / "artifacts"
        folder.parent.mkdir(exist_ok=True)
        _own_folder(folder)
        for part in below:
            folder /= part
            _own_folder(folder)
        path = folder / filename
        write_atomic(path, content.encode() if isinstance(content, str) else content)
        media_type = MEDIA_TYPES.get(path.suffix, "application/octet-stream")
        return path, Artifact(path="/".join(("output", "artifacts", *below, filename)), media_type=media_type)

    def write_json(self, name: str, filename: str, value: Any) -> Path:
        """Write ``value`` as strict JSON."""
        return self.write(name, filename, json.dumps(value, ensure_ascii=False, allow_nan=False, indent=1) + "\n")
