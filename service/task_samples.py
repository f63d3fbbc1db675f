"""The samples of a task: read from what its own Result lists, by its sha256.

Whether a row is right says what its truth is: it is what was predicted, or it is not. So nobody is told of any sample
who may not see the ground truth (docs/decisions/0029-samples-compare-notes.md).
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..core.errors import AutoScorerError, ErrorCode
from ..core.sample_file import ARTIFACT, MOST_BYTES, SampleFile, UnreadableError, unpack
from ..schemas.samples import Measure, Sample, SampleCounts, SamplePage, SampleVerdict
from ..schemas.task import TaskView
from .task_artifacts import open_task_artifact
from .workspaces.listing import wrong_cursor
from .workspaces.roots import WorkspaceRoots

__all__ = ["KeptSamples", "answers_of", "check_sees_samples", "page_of", "place_of", "read_samples", "shortened"]

# Where the scorer of answers keeps them, each with its scores.
_ANSWERS = "answers"
# Characters of an answer or a question that are shown.
_SHOWN = 2000


@dataclass(frozen=True)
class KeptSamples:
    """What is kept of a task's samples.

    Args:
        total: How many were scored.
        samples: Those that are kept, the wrong ones or the worst first.
        counts: Of all of them; None where there is no right and wrong.
        measure: What their values are.
    """

    total: int
    samples: list[Sample]
    counts: SampleCounts | None
    measure: Measure | None


def check_sees_samples(sees_truth: bool) -> None:
    """See that somebody may be told of single samples.

    Raises:
        AutoScorerError: ``FORBIDDEN``.
    """
    if not sees_truth:
        raise AutoScorerError(
            ErrorCode.FORBIDDEN,
            "Samples tell of single rows of the ground truth, also by whether they are right: they take a token of the "
            "role admin, or of an organiser for the own benchmarks.",
        )


def read_samples(roots: WorkspaceRoots, task: TaskView) -> KeptSamples:
    """What is kept of a task's samples. Reads a file.

    Args:
        roots: Where workspaces lie.
        task: With its whole Result.

    Raises:
        AutoScorerError: ``NOT_FOUND`` where nothing is kept, with why.
    """
    listed = (task.result or {}).get("artifacts")
    names = listed if isinstance(listed, dict) else {}
    if ARTIFACT not in names and _ANSWERS not in names:
        raise AutoScorerError(ErrorCode.NOT_FOUND, _why_none(task))
    name = ARTIFACT if ARTIFACT in names else _ANSWERS
    opened = open_task_artifact(roots, task, name, everything=True)
    with opened.file as file:
        content = file.read(MOST_BYTES + 1)
    try:
        return _of_rows(unpack(content)) if name == ARTIFACT else _of_answers(content)
    except UnreadableError as error:
        raise AutoScorerError(
            ErrorCode.NOT_FOUND, f"The samples of the task {task.id} can't be read: {str(error)[:200]}."
        ) from None


def page_of(
    task: TaskView,
    kept: KeptSamples,
    *,
    verdict: SampleVerdict | None = None,
    text: str | None = None,
    limit: int,
    cursor: str | None = None,
) -> SamplePage:
    """One page of those samples for which everything given holds.

    Args:
        task: Whose they are.
        kept: What is kept of them.
        verdict: Only those.
        text: Part of an id, a prediction, a truth or a question, whatever its case.
        limit: Most of them.
        cursor: ``next_cursor`` of the page before.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` for a cursor that no page gave.
    """
    start = place_of(cursor)
    wanted = _matching(verdict, text)
    found = [sample for sample in kept.samples if wanted(sample)]
    end = start + limit
    return SamplePage(
        task_id=task.id,
        scorer=((task.result or {}).get("versioning") or {}).get("scorer"),
        measure=kept.measure,
        total=kept.total,
        kept=len(kept.samples),
        counts=kept.counts,
        found=len(found),
        samples=[shortened(sample) for sample in found[start:end]],
        next_cursor=str(end) if end < len(found) else None,
    )


def place_of(cursor: str | None) -> int:
    """Where a page begins.

    Raises:
        AutoScorerError: ``INVALID_REQUEST`` for a cursor that no page gave.
    """
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 10):
        raise wrong_cursor()
    return int(cursor)


def shortened(sample: Sample) -> Sample:
    """A sample as it is shown: long answers and questions are cut."""
    texts = {"predicted": sample.predicted, "expected": sample.expected, "question": sample.question}
    long = {key: each[:_SHOWN] + "…" for key, each in texts.items() if isinstance(each, str) and len(each) > _SHOWN}
    return sample.model_copy(update=long) if long else sample


def _matching(verdict: SampleVerdict | None, text: str | None) -> Callable[[Sample], bool]:
    part = None if text is None else text.casefold()

    def matches(sample: Sample) -> bool:
        if verdict is not None and sample.verdict != verdict:
            return False
        if part is None:
            return True
        told = (sample.id, sample.predicted, sample.expected, sample.question)
        return any(part in str(each).casefold() for each in told if each is not None)

    return matches


def _why_none(task: TaskView) -> str:
    if task.action not in ("score", "pipeline"):
        return f"The task {task.id} is of the action {task.action}, and only score and pipeline have samples."
    if not task.state.is_final:
        return f"The task {task.id} has not ended: it is {task.state}. Its samples are there once it has."
    return (
        f"No samples are kept of the task {task.id}: it has no Result, was scored before samples were kept or with "
        "`artifacts` set to false, or its scorer keeps none. Score again to have some."
    )


def _of_rows(file: SampleFile) -> KeptSamples:
    labels, rows = file.labels, len(file.ids)
    expected = file.expected if labels is None else [labels[int(code)] for code in file.expected]
    predicted = file.predicted if labels is None else [labels[int(code)] for code in file.predicted]
    verdicts = file.verdicts if file.verdicts is not None else [None] * rows
    values = file.values if file.values is not None else [None] * rows
    samples = [
        # What was checked as it was read is not checked once more: a page may be asked for many times.
        Sample.model_construct(
            id=ident, verdict=_WORDS[verdict], predicted=guess, expected=truth, value=value, question=None, metrics=None
        )
        for ident, verdict, guess, truth, value in zip(file.ids, verdicts, predicted, expected, values, strict=True)
    ]
    counts = None if file.right is None else SampleCounts(right=file.right, wrong=file.total - file.right)
    given = file.measure
    measure = None if given is None else Measure(name=given.name, higher_is_better=given.higher_is_better)
    return KeptSamples(file.total, samples, counts, measure)


_WORDS: dict[bool | None, SampleVerdict | None] = {True: "right", False: "wrong", None: None}


def _of_answers(content: bytes) -> KeptSamples:
    """Answers, the worst first; those without a score before all others, because something is missing of them."""
    if len(content) > MOST_BYTES:
        raise UnreadableError("there are too many")
    samples = [_answer(each) for each in answers_of(content)]
    samples.sort(key=lambda sample: (sample.value is not None, sample.value or 0.0))
    return KeptSamples(len(samples), samples, None, Measure(name="weighted_score", higher_is_better=True))


def answers_of(content: bytes) -> Iterator[dict[str, Any]]:
    """The answers of a file that the scorer of answers has written.

    Raises:
        UnreadableError: It is not one.
    """
    for line in content.splitlines():
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            raise UnreadableError("a line is no JSON") from None
        if not isinstance(answer, dict) or not isinstance(answer.get("id"), str):
            raise UnreadableError("a line is no answer")
        yield answer


def _answer(answer: dict[str, Any]) -> Sample:
    metrics = answer.get("metrics")
    named = metrics.items() if isinstance(metrics, dict) else ()
    scores = {str(name): _number(each.get("score")) for name, each in named if isinstance(each, dict)}
    return Sample(
        id=answer["id"],
        predicted=_text(answer.get("answer")),
        expected=_text(answer.get("ground_truth")),
        question=_text(answer.get("question")),
        value=_number(answer.get("weighted_score")),
        metrics=scores,
    )


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    with contextlib.suppress(OverflowError):
        return float(value) if math.isfinite(value) else None
    return None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
