"""What a metric takes from a sample: never None, and of the ground truth never nothing to compare with."""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import TypeVar

from .sample import Sample, Undefined

__all__ = ["answer_of", "contexts_of", "ground_truth_by"]

Parts = TypeVar("Parts", bound=Sized)


def answer_of(sample: Sample) -> str:
    """The answer, which may be empty.

    Raises:
        Undefined: None was given.
    """
    if sample.answer is None:
        raise Undefined("No answer was given.")
    return sample.answer


def contexts_of(sample: Sample) -> tuple[str, ...]:
    """The contexts, at least one; each may be empty.

    Raises:
        Undefined: None were given.
    """
    if not sample.contexts:
        raise Undefined("No contexts were given.")
    return sample.contexts


def ground_truth_by(sample: Sample, split: Callable[[str], Parts]) -> Parts:
    """What a function makes of the ground truth: at least one token, sentence or character.

    Raises:
        Undefined: None was given, or the function finds nothing in it.
    """
    if sample.ground_truth is None:
        raise Undefined("No ground truth was given.")
    found = split(sample.ground_truth)
    if not found:
        raise Undefined("The ground truth has nothing to compare with.")
    return found
