"""One answer of a retrieval-augmented system, with what it was asked and what it should have said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["INPUTS", "Input", "Sample", "Undefined"]

Input = Literal["question", "answer", "contexts", "ground_truth"]
INPUTS: tuple[Input, ...] = get_args(Input)


class Undefined(Exception):
    """A metric has no value for a sample; the text says why, in a sentence for people."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What is scored. None says that it was not given; an empty answer was given, and is empty.

    Args:
        question: What the system was asked.
        answer: What it answered.
        contexts: The passages that it had retrieved, best first.
        ground_truth: What it should have answered.
    """

    question: str | None = None
    answer: str | None = None
    contexts: tuple[str, ...] | None = None
    ground_truth: str | None = None

    def missing(self, needed: tuple[Input, ...]) -> tuple[Input, ...]:
        """Those of the needed inputs that are not there."""
        return tuple(name for name in needed if not self._has(name))

    def _has(self, name: Input) -> bool:
        value: str | tuple[str, ...] | None = getattr(self, name)
        # A system may answer nothing; nobody asks nothing, and no passages are no contexts.
        return value is not None if name == "answer" else bool(value)
