"""The folder of an imported benchmark: written beside its place, checked, and put there in one step."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...core.benchmark import parse_benchmark
from ...core.errors import AutoScorerError, ErrorCode, Stage
from ...core.submissions import BENCHMARK_FILE
from ...core.text import escape
from ...executors.files import remove_tree
from ..programs.columns import Column
from ..programs.digests import PROGRAM, REFERENCE, TRUTH, tree_digests, tree_sha256
from ..programs.scorer import ProgramScorer
from .fields import slug
from .scorer_file import scorer_source

__all__ = ["DATA", "ImportReport", "Imported", "finish", "new_folder"]

# Below input/: what models see.
DATA = "data"
# Below the benchmark: the file that registers its scorer.
SCORER_FOLDER = "scorer"


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """What an import did.

    Args:
        benchmark: The folder.
        name: The benchmark's.
        scorer: The scorer's id.
        scorer_file: The file that registers it.
        program_sha256: Of the scoring program.
        main: The column that ranks.
        higher_is_better: Its direction.
        notes: What an organiser should look at.
        left_out: What the benchmark does not have of what was imported.
    """

    benchmark: Path
    name: str
    scorer: str
    scorer_file: Path
    program_sha256: str
    main: str
    higher_is_better: bool
    notes: tuple[str, ...]
    left_out: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "benchmark": str(self.benchmark),
            "name": self.name,
            "scorer": self.scorer,
            "scorer_file": str(self.scorer_file),
            "program_sha256": self.program_sha256,
            "main": self.main,
            "higher_is_better": self.higher_is_better,
            "notes": list(self.notes),
            "left_out": list(self.left_out),
        }


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What an importer has found, beside the files that it has laid out.

    Args:
        platform: ``codabench`` or ``evalai``.
        title: The competition's.
        command: The scoring program's.
        columns: The leaderboard's.
        main: The column that ranks.
        spec: More keys of benchmark.json.
        params: The scorer's.
        notes: As in ``ImportReport``.
        left_out: As in ``ImportReport``.
    """

    platform: str
    title: str
    command: Sequence[str]
    columns: Sequence[Column]
    main: Column
    spec: Mapping[str, Any]
    params: Mapping[str, Any]
    notes: list[str] = field(default_factory=list)
    left_out: Sequence[str] = ()


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder that becomes ``out`` when what is done with it has gone well, and is removed otherwise.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` where ``out`` is there already, or can't be written.
    """
    if os.path.lexists(out) and (not out.is_dir() or out.is_symlink() or any(out.iterdir())):
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            f"--out: {escape(str(out))[:200]} is there already. Name a folder that is not, or an empty one.",
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".importing-", dir=out.parent))
    except OSError as error:
        raise _unwritable(out, error) from None
    try:
        (folder / "input").mkdir()
        yield folder
        folder.chmod(0o755)
        try:
            os.rename(folder, out)
        except OSError as error:  # a mount, or somebody was quicker
            raise _unwritable(out, error) from None
    except BaseException:
        remove_tree(folder)
        raise


def _unwritable(out: Path, error: OSError) -> AutoScorerError:
    return AutoScorerError(
        ErrorCode.INVALID_REQUEST, f"--out: {escape(str(out))[:200]} can't be written: {error.strerror}."
    )


def finish(folder: Path, out: Path, found: Imported, *, shared: bool = False) -> ImportReport:
    """Write what makes a folder with ``input/gt_program``, ``input/gt_reference`` and ``input/data`` a benchmark.

    Args:
        folder: The folder.
        out: What it becomes.
        found: What the importer has found; its notes are added to.
        shared: Whether models may see files of the reference data, which are in the input data as well.

    Raises:
        AutoScorerError: ``GROUND_TRUTH_EXPOSED``: models would see a file of the reference data. What could not be
            read as a benchmark is ``INVALID_BENCHMARK``, and a param that the scorer refuses ``BAD_PARAMS``.
    """
    digests = {name: tree_digests(folder / "input" / name, links=False) for name in (PROGRAM, REFERENCE)}
    if exposed := _exposed(folder / "input", digests[REFERENCE]):
        if not shared:
            raise _exposure(exposed)
        found.notes.append(f"Models see files of the reference data, as --shared allows: {len(exposed):,}.")
    program = tree_sha256(digests[PROGRAM])
    name = slug(out.resolve().name) or slug(found.title) or found.platform
    scorer = f"{found.platform}_{name.replace('-', '_')}"
    truth = {"imported_from": found.platform, "program": digests[PROGRAM], "reference": digests[REFERENCE]}
    _write_json(folder / "input" / TRUTH, truth)
    spec: dict[str, Any] = {
        "name": name,
        "title": found.title[:200] or name,
        "task_type": "custom",
        "scorer": scorer,
        "params": dict(found.params),
        **found.spec,
    }
    ProgramScorer().parse_params(spec["params"])
    parse_benchmark(json.dumps(spec))
    _write_json(folder / BENCHMARK_FILE, spec)
    (folder / "submissions").mkdir()
    (folder / SCORER_FOLDER).mkdir()
    source = scorer_source(
        scorer_id=scorer,
        platform=found.platform,
        title=found.title,
        command=found.command,
        columns=found.columns,
        main=found.main,
        program_sha256=program,
    )
    (folder / SCORER_FOLDER / f"{scorer}.py").write_text(source, encoding="utf-8")
    return ImportReport(
        benchmark=out,
        name=name,
        scorer=scorer,
        scorer_file=out / SCORER_FOLDER / f"{scorer}.py",
        program_sha256=program,
        main=found.main.key,
        higher_is_better=found.main.higher_is_better,
        notes=tuple(found.notes),
        left_out=tuple(found.left_out),
    )


def _exposed(folder: Path, reference: Mapping[str, str]) -> list[str]:
    """Files of the input data that are files of the reference data, too. An empty one tells nothing."""
    data = tree_digests(folder / DATA, links=False)
    secret = {digest: path for path, digest in reference.items() if (folder / REFERENCE / path).stat().st_size}
    return [f"{path} is {secret[digest]}" for path, digest in data.items() if digest in secret]


def _exposure(exposed: Sequence[str]) -> AutoScorerError:
    names = escape(", ".join(exposed[:5]))[:500]
    more = f" and {len(exposed) - 5:,} more" if len(exposed) > 5 else ""
    return AutoScorerError(
        ErrorCode.GROUND_TRUTH_EXPOSED,
        f"Models would see files of the reference data in the input data: {names}{more}. Where they are answers, "
        "remove them there. Where they are inputs that the scoring program needs as well, say --shared.",
        stage=Stage.VALIDATION,
        details={"files": exposed[:50]},
    )


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
