"""Whether teams may see the scores of the withheld part."""

from __future__ import annotations

from datetime import UTC, datetime

from ...core.benchmark import BenchmarkFolder
from ...core.errors import AutoScorerError, ErrorCode
from ...core.provenance import utc_now
from ...core.workspace import write_atomic
from ...schemas.benchmark import Benchmark

__all__ = ["is_released", "release"]


def is_released(folder: BenchmarkFolder, spec: Benchmark) -> bool:
    """Whether the withheld part is: by hand, or because its date has come."""
    if spec.withheld is None:
        return False
    date = spec.withheld.release
    return (date is not None and date <= datetime.now(UTC)) or (folder.state / "released").is_file()


def release(folder: BenchmarkFolder) -> None:
    """Have teams see the scores of the withheld part from now on.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` where no part is withheld.
    """
    spec = folder.read()
    if spec.withheld is None:
        raise AutoScorerError(ErrorCode.INVALID_REQUEST, f"{spec.name} withholds no part of its ground truth.")
    folder.state.mkdir(exist_ok=True)
    write_atomic(folder.state / "released", f"{utc_now()}\n".encode())
