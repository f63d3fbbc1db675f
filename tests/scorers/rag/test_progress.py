"""How far the scoring of many answers is, as a person reads it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from autoscorer.schemas.rag import MetricScore, SampleScores
from autoscorer.scorers.rag.progress import Progress

from ...support.stub_judge import StubJudge
from ...support.stub_judge import stub as stub
from ...support.terminal import in_terminal
from .test_judged_metrics import configured


def scores(**facts: float | None) -> SampleScores:
    return SampleScores(metrics={"faithfulness": MetricScore.model_validate({"score": 1.0, "status": "ok", **facts})})


def test_answers_calls_tokens_cost_and_the_time_left_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    progress = Progress(600, told.append)
    progress.count(0, scores(calls=8, cached=2, prompt_tokens=1000, completion_tokens=234, cost=0.01))
    now[0] = 110.0
    progress.count(1, scores(calls=3, cost=0.002))
    assert told == [
        "1 of 600 answers, 8 calls (2 more were known), 1,234 tokens, cost 0.01",
        "2 of 600 answers, 11 calls (2 more were known), 1,234 tokens, cost 0.012, about 50 min left",
    ]


def test_a_cost_that_nobody_knows_is_unknown_for_good() -> None:
    told: list[str] = []
    progress = Progress(2, told.append)
    progress.count(0, scores(calls=1, cost=None))
    progress.count(1, scores(calls=1, cost=1.0))
    assert [line.rpartition(", ")[2] for line in told] == ["cost unknown", "cost unknown"]


def test_where_no_model_is_asked_answers_alone_are_told() -> None:
    told: list[str] = []
    Progress(3, told.append).count(0, scores())
    assert told == ["1 of 3 answers"]


@pytest.mark.slow
def test_a_person_at_a_terminal_follows_it(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stub: StubJudge
) -> None:
    configured(home, monkeypatch, stub, concurrency=1, price={"prompt": 1, "completion": 1})
    stub.latency = 0.25
    (tmp_path / "input").mkdir()
    (tmp_path / "output").mkdir()
    asked = {"scorer": "rag", "params": {"metrics": ["context_recall"]}}
    (tmp_path / "meta.json").write_text(json.dumps(asked))
    truth = [{"id": n, "question": f"{n}?", "ground_truth": f"It is {n}.", "contexts": ["?"]} for n in range(8)]
    (tmp_path / "input" / "gt.jsonl").write_text("\n".join(map(json.dumps, truth)))
    answers = [{"id": n, "answer": "I do not know."} for n in range(8)]
    (tmp_path / "output" / "pred.jsonl").write_text("\n".join(map(json.dumps, answers)))
    code, shown = in_terminal("score", str(tmp_path))
    assert code == 0
    lines = [line for line in shown.replace("\x1b[2K", "").split("\r") if " of 8 answers, " in line]
    assert lines and lines[0].startswith("score") and "calls" in lines[0] and "tokens, cost " in lines[0]
