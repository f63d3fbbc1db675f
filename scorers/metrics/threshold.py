"""Probabilities of a binary task, decided at a threshold.

A probability is of one of the two labels, and the number is wrong where that is the other one. So it is never guessed:
the params name that label, or the ground truth's two labels are a pair whose meaning everybody knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...core.errors import AutoScorerError, ErrorCode
from ..tables.aligned import AlignedTable
from ..tables.labels import clipped

__all__ = ["Decided", "decide"]

_NUMBER = re.compile(r"[ \t]*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?[ \t]*", re.ASCII)
# Negative and positive, as they are written in lower case.
_PAIRS = (
    ("0", "1"), ("-1", "1"), ("0.0", "1.0"), ("-1.0", "1.0"), ("false", "true"), ("f", "t"), ("no", "yes"), ("n", "y"),
    ("neg", "pos"), ("negative", "positive"), ("-", "+"), ("否", "是"), ("阴性", "阳性"), ("负", "正"),
)  # fmt: skip


class Decided(NamedTuple):
    """A table with a label in each row, and what to say of it.

    Attributes:
        table: With labels as predictions.
        note: What a reader must know.
        harmless_note: The same without the names of labels.
    """

    table: AlignedTable
    note: str
    harmless_note: str


def decide(table: AlignedTable, threshold: float, positive_label: str | None) -> Decided:
    """Put a label in the place of each predicted probability: the positive one from the threshold on.

    Predictions are probabilities where all of them are numbers, and the ground truth has at most two labels, which
    some of them are not. Else they are labels and stay as they are.

    Args:
        table: Of text.
        threshold: 0 to 1; a probability that equals it counts as positive.
        positive_label: Whose probability it is; None where the ground truth's labels tell.

    Raises:
        AutoScorerError: ``BAD_FORMAT`` when a number is not a probability, ``BAD_PARAMS`` when it is not known, or not
            there, whose probabilities they are.
    """
    truth = np.unique(table.truth_codes).tolist()
    used = np.unique(table.prediction_codes)
    values = _probabilities(table.labels, truth, used)
    if values is None:
        note = f"The threshold {threshold:g} changes nothing: the predictions are labels, not probabilities."
        return Decided(table, note, note)
    outside = np.flatnonzero(~((values >= 0) & (values <= 1)))
    if len(outside):
        shown, file = clipped(table.labels[int(used[outside[0]])]), table.prediction_file
        raise AutoScorerError(
            ErrorCode.BAD_FORMAT,
            f"{file}: expected labels or, as the param threshold is given, probabilities from 0 to 1; got {shown!r}.",
            details={"file": file, "value": shown},
        )
    labels = sorted(_pair([table.labels[code] for code in truth], positive_label))
    positive = positive_label if positive_label is not None else _positive_of(labels)
    where = labels.index(positive)
    place = {label: number for number, label in enumerate(labels)}
    # Codes of the two labels, by codes of the texts that stood there.
    of_truth: NDArray[np.uint8] = np.zeros(len(table.labels), np.uint8)
    of_truth[truth] = [place[table.labels[code]] for code in truth]
    of_prediction: NDArray[np.uint8] = np.zeros(len(table.labels), np.uint8)
    of_prediction[used] = np.where(values >= threshold, where, 1 - where)
    what = f"from {threshold:g} on they count as"
    return Decided(
        replace(
            table,
            labels=labels,
            truth_codes=of_truth[table.truth_codes],
            prediction_codes=of_prediction[table.prediction_codes],
        ),
        f"The predictions are probabilities of {positive[:80]!r}: {what} that label, below as "
        f"{labels[1 - where][:80]!r}.",
        f"The predictions are probabilities: {what} the positive label.",
    )


def _probabilities(
    labels: Sequence[str], truth: Sequence[int], used: NDArray[np.integer]
) -> NDArray[np.float64] | None:
    """The predictions' texts as numbers, or None where they are labels."""
    if len(truth) > 2 or set(used.tolist()) <= set(truth):
        return None
    values = np.empty(len(used))
    for row, code in enumerate(used.tolist()):
        text = labels[code]
        if not _NUMBER.fullmatch(text):
            return None
        values[row] = float(text)
    return values


def _pair(truth: Iterable[str], positive: str | None) -> tuple[str, str]:
    """Both labels of the task, of which the ground truth may have one alone.

    Raises:
        AutoScorerError: ``BAD_PARAMS``.
    """
    found = list(truth)
    if len(found) == 2:
        if positive is not None and positive not in found:
            raise _unknown(
                f"positive_label: the ground truth has the labels {_shown(found)}, not {positive[:80]!r}.", found
            )
        return found[0], found[1]
    if positive is not None:
        return found[0], positive if positive != found[0] else f"not {positive}"
    for pair in _PAIRS:
        if found[0].lower() in pair:
            other = pair[1 - pair.index(found[0].lower())]
            return found[0], other if found[0].islower() or not found[0].isalpha() else other.title()
    raise _whose(found)


def _positive_of(labels: Sequence[str]) -> str:
    lower = [label.lower() for label in labels]
    for negative, positive in _PAIRS:
        if sorted(lower) == sorted((negative, positive)):
            return labels[lower.index(positive)]
    raise _whose(labels)


def _whose(labels: Sequence[str]) -> AutoScorerError:
    return _unknown(
        f"threshold: the predictions are probabilities, and nothing says of which label of {_shown(labels)}. Name "
        "it in the param positive_label.",
        labels,
    )


def _shown(labels: Iterable[str]) -> str:
    return " and ".join(repr(label[:80]) for label in labels)


def _unknown(message: str, labels: Sequence[str]) -> AutoScorerError:
    # The labels in the details say that this error tells of the ground truth: submit tokens get its code alone.
    details = {"params": ["positive_label"], "labels": [label[:80] for label in labels]}
    return AutoScorerError(ErrorCode.BAD_PARAMS, f"Params of the scorer: {message}", details=details)
