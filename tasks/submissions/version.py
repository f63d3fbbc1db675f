"""Versions of a benchmark: a new one whenever its data, ground truth, scorer or params have changed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...core.benchmark import BenchmarkFolder
from ...core.errors import AutoScorerError, ErrorCode
from ...core.exposure import input_digest
from ...core.locks import held
from ...core.provenance import sha256_file, utc_now
from ...core.workspace import write_atomic
from ...schemas.benchmark import Benchmark
from ...scorers.registry.entry import ScorerEntry

__all__ = ["Version", "current_version", "known_versions"]


@dataclass(frozen=True)
class Version:
    """One version.

    Attributes:
        number: 1, 2, …
        digest: sha256 over all that decides a score.
        since: When it was first seen; ISO 8601, UTC.
        input_sha256: Of input/ without the ground truth.
        ground_truth_sha256: Of the ground truth.
        scorer: The scorer's id, and its version or its source's sha256.
    """

    number: int
    digest: str
    since: str
    input_sha256: str
    ground_truth_sha256: str
    scorer: str


def current_version(folder: BenchmarkFolder, spec: Benchmark, entry: ScorerEntry) -> Version:
    """The version that a score of this moment belongs to; a new one is noted down.

    Files are read again only where their size, times or place on the disk have changed.

    Args:
        folder: The benchmark.
        spec: Its benchmark.json.
        entry: The scorer.

    Raises:
        AutoScorerError: ``MISSING_FILE``, ``BAD_FORMAT``: of the ground truth or the data. ``INVALID_REQUEST``: the
            benchmark's folder can't be written.
    """
    with _locked(folder):
        kept = _read(folder)
        files = _files(folder, spec, kept)
        scorer = f"{entry.id} {entry.version}" if entry.origin == "builtin" else f"{entry.id} sha256:{entry.sha256}"
        decides = {
            "input": files["input_sha256"],
            "ground_truth": files["ground_truth_sha256"],
            "usage": files["usage_sha256"],
            "scorer": [scorer, entry.siblings if entry.origin != "builtin" else {}],
            "params": spec.params,
            "data": spec.data.model_dump(mode="json"),
            "withheld": spec.withheld.model_dump(mode="json", exclude={"release"}) if spec.withheld else None,
        }
        digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
        versions = [Version(**each) for each in kept.get("versions", [])]
        # One that comes back is the one that it was: its Results are as good as ever.
        found = next((each for each in versions if each.digest == digest), None)
        if found is None:
            found = Version(
                len(versions) + 1, digest, utc_now(), files["input_sha256"], files["ground_truth_sha256"], scorer
            )
            versions.append(found)
        now = {"files": files, "current": found.number, "versions": [asdict(each) for each in versions]}
        if now != kept:
            write_atomic(_file(folder), (json.dumps(now, indent=2) + "\n").encode(), mode=0o600)
        return found


def known_versions(folder: BenchmarkFolder) -> list[Version]:
    """Every version that was scored by, the oldest first."""
    return [Version(**each) for each in _read(folder).get("versions", [])]


def _file(folder: BenchmarkFolder) -> Path:
    return folder.state / "versions.json"


def _locked(folder: BenchmarkFolder) -> Any:
    try:
        folder.state.mkdir(exist_ok=True)
        return held(folder.state / "versions.lock")
    except OSError as error:
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            f"The benchmark {folder.root.name!r} can't be written: {error.strerror}. What is scored is noted in it.",
        ) from None


def _read(folder: BenchmarkFolder) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(_file(folder).read_bytes())
    except FileNotFoundError:
        return {}
    return found


def _files(folder: BenchmarkFolder, spec: Benchmark, kept: dict[str, Any]) -> dict[str, Any]:
    """Digests of the files that decide a score, and by what a change of one is seen."""
    seen = hashlib.sha256(repr(list(_looks(folder.input))).encode()).hexdigest()
    has_usage = spec.withheld is not None and spec.withheld.file is not None
    known: dict[str, Any] = kept.get("files", {})
    if known.get("seen") == seen and (known["usage_sha256"] is not None) == has_usage:
        return known
    space = folder.as_workspace()
    usage = folder.input / "gt_usage.csv"
    if has_usage and not usage.is_file():
        raise AutoScorerError(
            ErrorCode.MISSING_FILE,
            "input/gt_usage.csv is not there; benchmark.json says that it tells which part each row is in.",
        )
    return {
        "seen": seen,
        "input_sha256": input_digest(space),
        "ground_truth_sha256": sha256_file(space.ground_truth()).hex(),
        "usage_sha256": sha256_file(usage).hex() if has_usage else None,
    }


def _looks(folder: Path) -> Iterator[tuple[object, ...]]:
    """What changes when a file of a folder does, in the order of their paths."""
    pending = [folder]
    while pending:
        here = pending.pop()
        with os.scandir(here) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                status = entry.stat(follow_symlinks=False)
                at = os.path.relpath(entry.path, folder)
                yield (at, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
                if entry.is_dir(follow_symlinks=False):
                    pending.append(Path(entry.path))
