"""The scorer ``rag`` with a judge that was held against people, and with one that was not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import Settings
from autoscorer.core.disclosed import disclosed_result
from autoscorer.core.workspace import Workspace
from autoscorer.scorers.judge.runtime import open_judges
from autoscorer.scorers.rag.agreement import rate
from autoscorer.scorers.rag.calibrated import judged_by
from autoscorer.scorers.rag.calibration import Calibrations, calibrate
from autoscorer.scorers.rag.corrected import are_alike, prediction_powered, rogan_gladen
from autoscorer.scorers.rag.dataset import read_dataset
from autoscorer.scorers.rag.labels import read_labels
from autoscorer.scorers.rag.run import models_of
from autoscorer.scorers.rag.templates import prompt_digests
from autoscorer.tasks.score import score_workspace

from ...support.stub_judge import StubJudge
from ...support.stub_judge import stub as stub
from .test_judged_metrics import configured, judging

# People accept the first 28 of 40 answers. The judge refuses one of these and accepts six of the others.
N, GOOD = 40, 28
SAID = [f"A{number} is it." for number in range(N)]
ACCEPTED = set(SAID[1:34])


def workspace(root: Path, **params: Any) -> Path:
    (root / "input").mkdir(parents=True, exist_ok=True)
    (root / "output").mkdir(exist_ok=True)
    (root / "meta.json").write_text(
        json.dumps({"task_type": "rag", "scorer": "rag", "params": {"pass_threshold": 0.8, **params}})
    )
    asked = [{"id": number, "question": "What?", "contexts": ["It."]} for number in range(N)]
    said = [{"id": number, "answer": answer} for number, answer in enumerate(SAID)]
    for path, rows in (("input/gt.jsonl", asked), ("output/pred.jsonl", said)):
        (root / path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def calibrated(settings: Settings, root: Path, labels: Mapping[int, Any], **more: Any) -> None:
    rows = [{"sample": {"id": n}, "metric": "faithfulness", "label": label} for n, label in labels.items()]
    file = root.with_suffix(".jsonl")
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for each in asyncio.run(calibrate(read_labels(file, read_dataset(Workspace(root))), settings, **more)):
        Calibrations(settings.home).save(each)


@pytest.fixture
def settings(home: Path, monkeypatch: pytest.MonkeyPatch, stub: StubJudge) -> Settings:
    stub.answer = judging(ACCEPTED)
    return configured(home, monkeypatch, stub)


def test_the_corrected_share_stands_beside_the_judges_own_which_stays_the_score(
    settings: Settings, tmp_path: Path, stub: StubJudge
) -> None:
    root = workspace(tmp_path / "w", metrics=["faithfulness"])
    before = score_workspace(root)
    assert set(before.metrics) == {"rag_score", "faithfulness", "coverage"}
    calibrated(settings, root, {number: number < GOOD for number in range(N)})
    calls = stub.calls
    result = score_workspace(root)
    # Of the same answers nothing is asked twice, by calibrating or by scoring.
    assert stub.calls == calls == 2 * N
    assert result.summary.score == result.metrics["faithfulness"] == before.metrics["faithfulness"] == 33 / 40
    assert result.summary.passed is True
    # Of labels of just these answers it gives just what people say.
    assert result.metrics["faithfulness_corrected"] == pytest.approx(GOOD / N)
    expected = rogan_gladen(33, N, rate(27, 28, 0.95), rate(6, 12, 0.95), 0.95)
    assert result.intervals["faithfulness_corrected"] == expected.interval
    [note] = [note for note in result.notes if note.startswith("faithfulness_corrected")]
    assert "with 40 labels; sensitivity 0.964 [0.823, 0.994], specificity 0.5 [0.254, 0.746]" in note
    shown = disclosed_result(result.to_dict(), 6)
    assert shown["metrics"]["faithfulness_corrected"] == pytest.approx(0.7) and note in shown["notes"]
    # With other votes it is another judge.
    other = score_workspace(root, params={"votes": 3})
    assert "faithfulness_corrected" not in other.metrics and other.notes == before.notes
    wider = score_workspace(root, params={"confidence_level": 0.99}).intervals["faithfulness_corrected"]
    assert wider.level == 0.99 and wider.high - wider.low > 0.3


def test_numbers_of_people_correct_the_mean_and_say_where_they_may_not(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stub: StubJudge
) -> None:
    root = workspace(tmp_path / "w", metrics=["faithfulness"])
    calibrated(settings, root, {number: 0.8 if number < 20 else 0.4 for number in range(N)})
    result = score_workspace(root)
    assert result.metrics["faithfulness_corrected"] == pytest.approx(0.6)
    scores = [float(answer in ACCEPTED) for answer in SAID]
    expected = prediction_powered(scores, scores, [0.8] * 20 + [0.4] * 20, 0.95)
    assert result.intervals["faithfulness_corrected"] == expected.interval
    assert any("people's numbers less the judge's come to -0.225 in the mean" in note for note in result.notes)
    assert not any("may be off" in note for note in result.notes)
    # Only such as the judge refuses were labelled.
    calibrated(settings, root, dict.fromkeys(range(34, N), 0.25))
    result = score_workspace(root)
    assert any(note.startswith("faithfulness_corrected may be off") for note in result.notes)


def test_labels_that_tell_nothing_leave_it_undefined_with_the_reason(settings: Settings, tmp_path: Path) -> None:
    root = workspace(tmp_path / "w", metrics=["faithfulness"])
    calibrated(settings, root, dict.fromkeys(range(10), True))
    result = score_workspace(root)
    assert result.metrics["faithfulness_corrected"] is None and "faithfulness_corrected" not in result.intervals
    assert any("no label says no" in note and "specificity unknown" in note for note in result.notes)
    assert result.summary.passed is True


def test_where_calibration_is_required_an_unmeasured_judge_decides_nothing(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = workspace(tmp_path / "w", metrics=["faithfulness", "token_f1"], rank_thresholds=[0.9, 0.8, 0.7])
    monkeypatch.setenv("AUTOSCORER_JUDGE__REQUIRE_CALIBRATION", "true")
    result = score_workspace(root, params={"judge": "large"})
    assert (result.summary.score, result.summary.passed, result.summary.rank) == (33 / 40, None, None)
    [note] = [note for note in result.notes if "neither passes nor ranks" in note]
    assert "`autoscorer judge calibrate LABELS --judge large`" in note and note in result.disclosed.notes
    # Free metrics need none, and one that does not count neither.
    free = score_workspace(root, params={"metrics": ["grounded_token_ratio"]})
    assert free.summary.passed is not None
    beside = {"metrics": ["faithfulness", "grounded_token_ratio"], "weights": {"grounded_token_ratio": 1}}
    assert score_workspace(root, params=beside).summary.passed is not None
    calibrated(settings, root, {number: number < GOOD for number in range(N)})
    decided = score_workspace(root, params={"judge": "large"})
    assert (decided.summary.passed, decided.summary.rank) == (True, "B")


def test_scores_are_alike_within_what_they_vary_by() -> None:
    assert are_alike([0.0, 1.0] * 50, [1.0, 0.0, 1.0]) and are_alike([0.5] * 9, [0.5] * 3)
    assert not are_alike([0.0, 1.0] * 50, [1.0] * 100) and not are_alike([0.5] * 9, [0.6] * 3)
    assert are_alike([0.5], [0.9] * 5)


def test_who_judged_is_told_with_the_words_of_the_questions_and_which_metrics_are_calibrated(
    settings: Settings, tmp_path: Path
) -> None:
    root = workspace(tmp_path / "w", metrics=["faithfulness"])

    async def told(*metrics: str) -> Any:
        async with open_judges(settings) as runtime:
            return judged_by(metrics, models_of(runtime, None, None, None, None), settings.home)

    found = asyncio.run(told("faithfulness", "context_recall", "token_f1"))
    digests = prompt_digests()
    assert found.prompts == {name: digests[name] for name in ("claims", "faithfulness", "context_recall")}
    assert set(found.models) == {"judge"} and not found.calibrated
    assert asyncio.run(told("token_f1")) is None
    calibrated(settings, root, {number: number < GOOD for number in range(N)})
    (kept,), _ = Calibrations(settings.home).all()
    assert asyncio.run(told("faithfulness", "context_recall")).calibrated == {"faithfulness": kept.made_at}
