"""Which of its submissions a team has chosen, where the leaderboard goes by that."""

from __future__ import annotations

import json

from ...core.benchmark import BenchmarkFolder
from ...core.errors import AutoScorerError, ErrorCode
from ...core.locks import held
from ...core.workspace import write_atomic
from .adding import submission_folder

__all__ = ["choose", "chosen"]


def chosen(folder: BenchmarkFolder) -> dict[str, int]:
    """The number of the submission that each team has chosen, of those that have."""
    try:
        found: dict[str, int] = json.loads((folder.state / "chosen.json").read_bytes())
    except FileNotFoundError:
        return {}
    return found


def choose(folder: BenchmarkFolder, team: str, number: int) -> None:
    """Have a submission of a team count.

    Raises:
        AutoScorerError: ``NOT_FOUND`` where there is none of that number; ``INVALID_REQUEST`` where the leaderboard
            does not go by what is chosen.
    """
    rule = folder.read().leaderboard.choose
    if rule != "chosen":
        raise AutoScorerError(
            ErrorCode.INVALID_REQUEST,
            f"On this benchmark's leaderboard the {rule} submission of a team counts; benchmark.json must say "
            '"choose": "chosen" for a team to choose.',
        )
    if not submission_folder(folder, team, number).is_dir():
        raise AutoScorerError(ErrorCode.NOT_FOUND, f"The team {team} has no submission {number}.")
    with held(folder.state / "chosen.lock"):
        both = {**chosen(folder), team: number}
        write_atomic(folder.state / "chosen.json", (json.dumps(both, indent=2) + "\n").encode(), mode=0o600)
