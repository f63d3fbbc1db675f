"""What an imported benchmark is scored with: its program and its reference data, held by digests in input/gt.json.

Everything lies below input/ under names that begin with ``gt``, which no model ever sees. input/gt.json is the ground
truth of the workspace; it says the sha256 of every file of both folders. So the digest of the ground truth in a Result
is that of all of them, and a file that was changed is noticed before it scores anybody.
"""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from ...core.errors import AutoScorerError, ErrorCode, Stage
from ...core.provenance import sha256_file
from ...core.text import escape
from ...core.workspace import open_regular

__all__ = ["PROGRAM", "REFERENCE", "TRUTH", "Truth", "check_tree", "read_truth", "tree_digests", "tree_sha256"]

# Below input/.
TRUTH, PROGRAM, REFERENCE = "gt.json", "gt_program", "gt_reference"
# Bytes of gt.json: some hundred thousand files.
_MAX_TRUTH = 64 * 1024**2


class Truth(BaseModel):
    """input/gt.json of an imported benchmark: paths to sha256."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    imported_from: str
    program: dict[str, str]
    reference: dict[str, str]


def read_truth(folder: Path) -> Truth:
    """What input/gt.json says.

    Args:
        folder: input/.

    Raises:
        AutoScorerError: ``MISSING_FILE``, ``OUTPUT_REJECTED`` for a link, ``BAD_FORMAT``.
    """
    try:
        with open_regular(folder / TRUTH, stage=Stage.VALIDATION) as file:
            data = file.read(_MAX_TRUTH + 1)
        if len(data) > _MAX_TRUTH:
            raise ValueError("it is too long")
        return Truth.model_validate_json(data)
    except ValueError:
        raise AutoScorerError(
            ErrorCode.BAD_FORMAT,
            f"input/{TRUTH} does not say the digests of {PROGRAM} and {REFERENCE}. This scorer is for benchmarks that "
            "`autoscorer benchmark import` has made.",
            stage=Stage.VALIDATION,
        ) from None


def tree_digests(folder: Path, *, links: bool) -> dict[str, str]:
    """sha256 of every file below a folder, by its path there, in order.

    Args:
        folder: The folder.
        links: Whether entries of the folder itself may be links, as in the copy of a benchmark that a scorer is tried
            on. Below there may be none.

    Raises:
        AutoScorerError: ``BAD_FORMAT`` for what is neither a plain file nor a folder.
    """
    return {path: sha256_file(file).hex() for path, file in _files(folder, links)}


def _files(folder: Path, links: bool) -> Iterator[tuple[str, Path]]:
    entries = sorted(folder.iterdir(), reverse=True)
    pending = [(entry.name, entry.resolve() if links else entry) for entry in entries]
    while pending:
        name, path = pending.pop()
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            pending += [(f"{name}/{entry.name}", entry) for entry in sorted(path.iterdir(), reverse=True)]
        elif stat.S_ISREG(mode):
            yield name, path
        else:
            raise AutoScorerError(
                ErrorCode.BAD_FORMAT,
                f"{escape(name)[:200]} in {folder.name} is neither a plain file nor a folder.",
                stage=Stage.VALIDATION,
            )


def tree_sha256(digests: Mapping[str, str]) -> str:
    """One digest of many files: of their paths and contents."""
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def check_tree(folder: Path, expected: Mapping[str, str]) -> None:
    """See that a folder holds exactly the files of input/gt.json.

    Raises:
        AutoScorerError: ``BAD_FORMAT``, naming what differs.
    """
    found = tree_digests(folder, links=True) if folder.is_dir() else {}
    differing = sorted(path for path in found.keys() | expected.keys() if found.get(path) != expected.get(path))
    if differing:
        names = ", ".join(escape(path)[:100] for path in differing[:5])
        more = f" and {len(differing) - 5:,} more" if len(differing) > 5 else ""
        raise AutoScorerError(
            ErrorCode.BAD_FORMAT,
            f"input/{folder.name} is not what input/{TRUTH} says: {names}{more}. Import the benchmark again.",
            stage=Stage.VALIDATION,
            details={"files": differing[:50]},
        )
