"""Scoring a file of predictions against a file of the ground truth, with no workspace around them.

One is made for them all the same, because scorers read workspaces; it goes when the scoring is done, unless it is asked
for. What is wrong with a file is told with the file's own name.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.config import Settings
from ..core.errors import AutoScorerError, ErrorCode
from ..core.storage import naming_full_disks
from ..core.workspace import TABLE_SUFFIXES
from ..schemas.result import Result
from .score import score_workspace

if TYPE_CHECKING:
    import pandas

__all__ = ["ScoredFiles", "score"]


# How scorers and readers name the two files of a workspace.
_SUFFIXES = "|".join(map(re.escape, TABLE_SUFFIXES))
_NAMES = re.compile(rf"(?<![\w./-])(?:input/|output/)?(gt|pred)(?:{_SUFFIXES})(?![\w./-])")


@dataclass(frozen=True)
class ScoredFiles:
    """The two files, and the workspace that is made of them.

    Args:
        truth: The ground truth.
        predictions: What is scored against it.
        out: A folder that the workspace is left in, with the Result and its artifacts; it must not be there, or be
            empty. None for no such folder, and for no artifacts.
    """

    truth: Path
    predictions: Path
    out: Path | None = None

    @contextlib.contextmanager
    def workspace(self, scorer: str, params: Mapping[str, Any]) -> Iterator[Path]:
        """The workspace, for as long as the block lasts; with ``out``, for good.

        Args:
            scorer: Id of the scorer.
            params: The scorer's params.

        Raises:
            AutoScorerError: ``MISSING_FILE`` where a file is not there, ``INVALID_REQUEST`` where it is of a kind that
                no scorer reads or ``out`` can't be used, ``STORAGE_FULL``.
        """
        suffixes = [_suffix(self.truth), _suffix(self.predictions)]
        with contextlib.ExitStack() as stack:
            root = Path(stack.enter_context(_scratch())) if self.out is None else _made(self.out)
            with naming_full_disks(workspace=root):
                for folder, name, file, suffix in zip(
                    ("input", "output"), ("gt", "pred"), (self.truth, self.predictions), suffixes, strict=True
                ):
                    (root / folder).mkdir()
                    _copy(file, root / folder / (name + suffix))
                given = {**({} if self.out is not None else {"artifacts": False}), **params}
                meta = {"job_id": self.predictions.stem[:100] or "predictions", "scorer": scorer, "params": given}
                (root / "meta.json").write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
            yield root

    def named(self, result: Result) -> Result:
        """The Result, whose error names the files as the caller does."""
        if result.error is None:
            return result
        details = json.loads(self._own_names(json.dumps(result.error.details), in_json=True))
        told = result.error.model_copy(
            update={"message": self._own_names(result.error.message), "details": _without_workspace(details)}
        )
        return result.model_copy(update={"error": told})

    def _own_names(self, text: str, *, in_json: bool = False) -> str:
        names = {"gt": self.truth.name, "pred": self.predictions.name}

        def own(found: re.Match[str]) -> str:
            name = names[found[1]]
            return json.dumps(name)[1:-1] if in_json else name

        # Both in one go: the truth's own name may be "pred.csv".
        return _NAMES.sub(own, text)


def score(
    truth: Path | str | pandas.DataFrame,
    predictions: Path | str | pandas.DataFrame,
    *,
    scorer: str,
    params: Mapping[str, Any] | None = None,
    out: Path | str | None = None,
    settings: Settings | None = None,
) -> Result:
    """Score predictions against the ground truth.

    Args:
        truth: A file (CSV, JSON, JSON lines or Parquet) or a pandas frame, with the columns that the scorer reads.
        predictions: The same.
        scorer: Id of the scorer.
        params: The scorer's params.
        out: A folder that is made: a workspace with both files, the Result, plots and a report. None for the Result
            alone.
        settings: The configuration; read from its usual places when None.

    Returns:
        The Result, with ``error`` set when it could not be scored.

    Raises:
        AutoScorerError: ``MISSING_FILE`` where a file is not there, ``INVALID_REQUEST`` where it is of a kind that no
            scorer reads or ``out`` can't be used, ``STORAGE_FULL``.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(_scratch()))
        files = ScoredFiles(
            _file(truth, folder / "truth.csv"),
            _file(predictions, folder / "predictions.csv"),
            None if out is None else Path(out),
        )
        workspace = stack.enter_context(files.workspace(scorer, params or {}))
        return files.named(score_workspace(workspace, settings=settings))


def _file(given: Path | str | pandas.DataFrame, written: Path) -> Path:
    if isinstance(given, str | Path):
        return Path(given)
    # Its index is no column: an id that stands in it is to be made one, by reset_index.
    given.to_csv(written, index=False)
    return written


def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="autoscorer-score-")


def _suffix(file: Path) -> str:
    if not file.is_file():
        why = "is a folder" if file.is_dir() else "does not exist"
        raise AutoScorerError(ErrorCode.MISSING_FILE, f"{str(file)!r} {why}; expected a file.")
    suffix = file.suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            f"{file.name!r} ends with {file.suffix!r}. How a file is read is told by its name: expected one of "
            f"{', '.join(TABLE_SUFFIXES)}.",
        )
    return suffix


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_empty = not any(folder.iterdir())
    except OSError as error:
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST, f"The folder {str(folder)!r} can't be made: {error.strerror}."
        ) from None
    if not is_empty:
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            f"The folder {str(folder)!r} is not empty. Name another one; a workspace that was made before is scored "
            f"again by `autoscorer score {folder}`.",
        )
    return folder


def _copy(file: Path, to: Path) -> None:
    try:
        shutil.copyfile(file, to)
    except PermissionError:
        raise AutoScorerError(ErrorCode.MISSING_FILE, f"{str(file)!r} can't be read: permission denied.") from None


def _without_workspace(details: dict[str, Any]) -> dict[str, Any]:
    """What a caller has no use for: where a workspace was that is gone."""
    return {key: value for key, value in details.items() if key not in ("workspace", "logs_path")}
