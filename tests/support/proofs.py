"""What ``doctor --prove`` found, and how to ask it for less."""

from __future__ import annotations

from typing import Any

import pytest
from autoscorer.core.config import Settings
from autoscorer.core.errors import AutoScorerError
from autoscorer.executors.bubblewrap.executor import BubblewrapExecutor
from autoscorer.tasks.prove.attacks import ATTACKS, EVERYTHING, Attack

__all__ = ["cells", "need_bubblewrap", "some"]


def cells(proof: dict[str, Any], backend: str) -> dict[str, dict[str, Any]]:
    """Attack to what came of it on a backend."""
    return {row["attack"]: row["outcomes"][backend] for row in proof["attacks"] if backend in row["outcomes"]}


def some(*names: str) -> tuple[Attack, ...]:
    """Attacks by their names; without any all those of one run."""
    return tuple(attack for attack in ATTACKS if attack.name in names or (not names and attack.run == EVERYTHING))


def need_bubblewrap(settings: Settings) -> None:
    """Skip the test where this kernel does not let bubblewrap seal; CI fails if it was."""
    try:
        BubblewrapExecutor(settings).check()
    except AutoScorerError as error:
        pytest.skip(f"bubblewrap does not seal here: {error.message}")
