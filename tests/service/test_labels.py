"""Verdicts on a judge's come to labels that its calibration reads."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.schemas.result import Result
from autoscorer.schemas.task import TaskState, TaskView
from autoscorer.scorers.rag.labels import read_labels
from autoscorer.service.labels import labels_of
from autoscorer.service.ledger.notes import NoteRow
from autoscorer.service.task_samples import page_of, read_samples
from autoscorer.service.workspaces.roots import WorkspaceRoots

from ..support.workspaces import write_workspace


def answer(ident: str, *, contexts: Any = ("Paris is the capital.",), **scores: float | None) -> dict[str, Any]:
    return {
        "id": ident,
        "question": "Capital?",
        "answer": f"Paris, says {ident}.",
        "contexts": contexts and list(contexts),
        "ground_truth": "Paris.",
        "metrics": {name: {"score": score, "status": "ok"} for name, score in scores.items()},
        "weighted_score": next(iter(scores.values()), None),
    }


ANSWERS = [
    answer("q1", faithfulness=0.9, token_f1=0.5),
    answer("q2", faithfulness=0.2, token_f1=0.1),
    answer("q3", faithfulness=0.9, answer_relevancy=0.1),
    answer("q4", faithfulness=None),
    answer("q5", faithfulness=0.5, contexts=None),
]


def said(sample: str, verdict: str, metric: str | None = None) -> NoteRow:
    return NoteRow("id", "t", "admin-1", "admin", None, 1, "", sample, metric, verdict, 0.0)  # type: ignore[arg-type]


@pytest.fixture
def roots(tmp_path: Path) -> WorkspaceRoots:
    return WorkspaceRoots(Settings(workspace_roots=(tmp_path,)))


def rag_task(root: Path, content: str, *, scorer: str = "rag") -> TaskView:
    folder = write_workspace(root, "answers") / "output" / "artifacts"
    folder.mkdir()
    (folder / "answers.jsonl").write_text(content)
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    result = Result.model_validate(
        {"artifacts": {"answers": {"path": "output/artifacts/answers.jsonl", "sha256": sha256}}}
    )
    result.versioning.scorer = scorer
    return TaskView(
        id="t",
        action="score",
        workspace="answers",
        state=TaskState.COMPLETED,
        created_at="now",
        result=result.to_dict(),
    )


@pytest.fixture
def task(tmp_path: Path) -> TaskView:
    return rag_task(tmp_path, "".join(json.dumps(each) + "\n" for each in ANSWERS))


def test_who_agrees_says_as_the_judge_and_who_disagrees_the_opposite(
    roots: WorkspaceRoots, task: TaskView, tmp_path: Path
) -> None:
    notes = [
        said("q1", "agree"),
        said("q1", "disagree", "token_f1"),  # no judge was asked
        said("q2", "agree", "faithfulness"),
        said("q3", "agree"),  # of which of two?
        said("q3", "disagree", "faithfulness"),
        said("q4", "agree"),  # the judge said nothing
        said("q5", "agree"),  # without contexts a judge can't be asked for it
        said("nobody", "agree"),
        said("q2", "disagree"),  # newer than the first one on q2, and about the same
    ]
    found = labels_of(roots, task, notes, threshold=0.5)
    assert [(each["sample"]["answer"][-3:-1], each["metric"], each["label"]) for each in found] == [
        ("q1", "faithfulness", True),
        ("q2", "faithfulness", True),
        ("q3", "faithfulness", False),
    ]
    assert found[0]["sample"]["contexts"] == ["Paris is the capital."] and "id" not in found[0]["sample"]
    file = tmp_path / "labels.jsonl"
    file.write_text("".join(json.dumps(each) + "\n" for each in found))
    assert [(each.metric, each.label) for each in read_labels(file).items] == [
        ("faithfulness", True), ("faithfulness", True), ("faithfulness", False),
    ]  # fmt: skip
    assert labels_of(roots, task, notes[:1], threshold=0.95)[0]["label"] is False
    assert labels_of(roots, task, [], threshold=0.5) == []


def test_two_answers_that_are_alike_are_one_and_the_newest_word_counts(roots: WorkspaceRoots, tmp_path: Path) -> None:
    twins = [{**answer("q1", faithfulness=0.9), "id": ident} for ident in ("q1", "q2")]
    task = rag_task(tmp_path, "".join(json.dumps(each) + "\n" for each in twins))
    for notes, label in (
        ([said("q1", "agree"), said("q2", "disagree")], False),
        ([said("q2", "disagree"), said("q1", "agree")], True),
    ):
        (found,) = labels_of(roots, task, notes, threshold=0.5)
        assert found["label"] is label


def test_answers_are_samples_the_worst_first(roots: WorkspaceRoots, task: TaskView) -> None:
    page = page_of(task, read_samples(roots, task), limit=10)
    assert [each.id for each in page.samples] == ["q4", "q2", "q5", "q1", "q3"]
    assert page.measure is not None and page.measure.name == "weighted_score" and page.counts is None
    worst = page.samples[1]
    assert (worst.value, worst.expected, worst.question) == (0.2, "Paris.", "Capital?")
    assert worst.metrics == {"faithfulness": 0.2, "token_f1": 0.1} and worst.verdict is None


@pytest.mark.parametrize(
    "content", ["{", "[]\n", '{"id": 1}\n', "[" * 100_000, '{"id": "a", "metrics": {"faithfulness": 1}}\n{"id"']
)
def test_what_is_no_list_of_answers_is_said_not_to_be_kept(roots: WorkspaceRoots, tmp_path: Path, content: str) -> None:
    task = rag_task(tmp_path, content)
    for ask in (
        lambda: read_samples(roots, task),
        lambda: labels_of(roots, task, [said("a", "agree")], threshold=0.5),
    ):
        with pytest.raises(AutoScorerError) as caught:
            ask()
        assert caught.value.code is ErrorCode.NOT_FOUND


def test_numbers_that_are_none_are_left_out(roots: WorkspaceRoots, tmp_path: Path) -> None:
    task = rag_task(tmp_path, '{"id": "a", "weighted_score": 1e999, "metrics": {"x": 3, "y": {"score": true}}}\n')
    (only,) = read_samples(roots, task).samples
    assert (only.value, only.metrics) == (None, {"y": None})


def test_labels_are_of_answers_alone(roots: WorkspaceRoots, tmp_path: Path) -> None:
    task = rag_task(tmp_path, "", scorer="classification_f1")
    with pytest.raises(AutoScorerError, match="has no Result of the scorer rag") as caught:
        labels_of(roots, task, [], threshold=0.5)
    assert caught.value.code is ErrorCode.NOT_FOUND
