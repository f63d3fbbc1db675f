"""People's verdicts on a judge's, as labels that ``autoscorer judge calibrate`` reads.

A note says whether its writer agrees with what the judge said of one metric of one answer. The judge's score is a yes
from the threshold on, so who agrees says the same, and who disagrees says the opposite.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..core.errors import AutoScorerError, ErrorCode
from ..core.sample_file import MOST_BYTES, UnreadableError
from ..schemas.task import TaskView
from ..scorers.rag.catalogue import METRICS
from ..scorers.rag.sample import INPUTS, Sample
from .ledger.notes import NoteRow
from .task_artifacts import open_task_artifact
from .task_samples import answers_of
from .workspaces.roots import WorkspaceRoots

__all__ = ["labels_of"]

Json = dict[str, Any]

_SCORER, _ANSWERS = "rag", "answers"


def labels_of(roots: WorkspaceRoots, task: TaskView, notes: Iterable[NoteRow], *, threshold: float) -> list[Json]:
    """The labels that a task's notes come to, in the order of the answers. Reads a file.

    A note counts where it names a metric that a judge was asked for, or where there is one such metric alone. Of
    several on one metric of one answer the newest counts.

    Args:
        roots: Where workspaces lie.
        task: A task of the scorer ``rag``, with its whole Result.
        notes: By those who saw the ground truth, the oldest first.
        threshold: Scores from here on are a yes.

    Returns:
        ``{"sample": {…}, "metric": NAME, "label": true}`` each.

    Raises:
        AutoScorerError: ``NOT_FOUND`` for a task of another scorer, and where its answers are not kept.
    """
    versioning = (task.result or {}).get("versioning") or {}
    if versioning.get("scorer") != _SCORER:
        raise AutoScorerError(
            ErrorCode.NOT_FOUND,
            f"Labels are of answers that a judge has judged: the task {task.id} has no Result of the scorer {_SCORER}.",
        )
    said = _said(notes)
    opened = open_task_artifact(roots, task, _ANSWERS, everything=True)
    with opened.file as file:
        content = file.read(MOST_BYTES + 1)
    # Two answers that are alike are one to whoever reads labels; the newest of what was said of them counts.
    found: dict[tuple[Sample, str], tuple[int, Json]] = {}
    try:
        for answer in answers_of(content):
            for metric, (number, agrees) in _of_answer(answer, said.get(answer["id"], {})).items():
                label = _label(answer, metric, agrees, threshold)
                key = (_sample(answer), metric)
                if label is not None and (key not in found or found[key][0] < number):
                    found[key] = (number, label)
    except UnreadableError as error:
        raise AutoScorerError(
            ErrorCode.NOT_FOUND, f"The answers of the task {task.id} can't be read: {str(error)[:200]}."
        ) from None
    return [label for _, label in found.values()]


# Of an answer: what was said of each metric, by the number of the note and whether it agrees; None: of the only one.
_Said = dict[str | None, tuple[int, bool]]


def _said(notes: Iterable[NoteRow]) -> dict[str, _Said]:
    found: dict[str, _Said] = {}
    for number, note in enumerate(notes):
        if note.sample is not None and note.verdict is not None:
            found.setdefault(note.sample, {})[note.metric] = (number, note.verdict == "agree")
    return found


def _of_answer(answer: Json, said: _Said) -> dict[str, tuple[int, bool]]:
    scores = answer.get("metrics")
    judged = [name for name in scores if name in METRICS and METRICS[name].judge] if isinstance(scores, dict) else []
    found: dict[str, tuple[int, bool]] = {}
    for metric, verdict in said.items():
        name = metric if metric is not None else judged[0] if len(judged) == 1 else None
        if name is not None and name in judged and (name not in found or found[name][0] < verdict[0]):
            found[name] = verdict
    return found


def _label(answer: Json, metric: str, agrees: bool, threshold: float) -> Json | None:
    scores = answer["metrics"][metric]
    score = scores.get("score") if isinstance(scores, dict) else None
    if not isinstance(score, (int, float)) or isinstance(score, bool):
        return None  # the judge said nothing that somebody could agree with
    if _sample(answer).missing(METRICS[metric].needs):
        return None
    given = {name: answer[name] for name in INPUTS if answer.get(name) is not None}
    return {"sample": given, "metric": metric, "label": (score >= threshold) is agrees}


def _sample(answer: Json) -> Sample:
    contexts = answer.get("contexts")
    return Sample(
        answer.get("question"),
        answer.get("answer"),
        tuple(contexts) if isinstance(contexts, list) else None,
        answer.get("ground_truth"),
    )
