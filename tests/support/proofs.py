"""What ``doctor --prove`` found, and how to ask it for less."""

from __future__ import annotations

from typing import Any

from autoscorer.tasks.prove.attacks import ATTACKS, EVERYTHING, Attack

__all__ = ["cells", "some"]


def cells(proof: dict[str, Any], backend: str) -> dict[str, dict[str, Any]]:
    """Attack to what came of it on a backend."""
    return {row["attack"]: row["outcomes"][backend] for row in proof["attacks"] if backend in row["outcomes"]}


def some(*names: str) -> tuple[Attack, ...]:
    """Attacks by their names; without any all those of one run."""
    return tuple(attack for attack in ATTACKS if attack.name in names or (not names and attack.run == EVERYTHING))
