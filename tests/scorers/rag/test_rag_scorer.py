"""The scorer ``rag``: the answers of a workspace, joined by id, with means, intervals, and what has no value."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from autoscorer.core.config import load_settings
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.core.workspace import Workspace
from autoscorer.schemas.rag import MetricScore, SampleScores
from autoscorer.schemas.result import Result
from autoscorer.scorers.rag.aggregate import totals
from autoscorer.scorers.rag.dataset import read_dataset
from autoscorer.scorers.rag.overlap import token_f1
from autoscorer.scorers.rag.sample import Sample
from autoscorer.tasks.score import score_workspace

from ...support.stub_judge import Faults, StubJudge
from ...support.stub_judge import stub as stub
from .test_judged_metrics import configured, judging

Make = Callable[..., Path]

TRUTH = [
    {"id": "q1", "question": "Capital of France?", "ground_truth": "Paris.", "contexts": ["Paris is the capital."]},
    {"id": 2, "question": "Capital of Italy?", "ground_truth": "Rome is it."},
    {"id": "03", "question": "意大利的首都？", "ground_truth": "罗马是首都。"},
]
ANSWERS = [
    {"id": "03", "answer": "罗马。", "contexts": ["罗马是意大利的首都。"]},
    {"id": "q1", "answer": "Paris."},
    {"id": 2, "answer": "It is Rome, I think.", "contexts": ["Rome is the capital of Italy."]},
]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def made(truth: Any = TRUTH, answers: Any = ANSWERS, **params: Any) -> Path:
        root = tmp_path / "answers"
        (root / "input").mkdir(parents=True, exist_ok=True)
        (root / "output").mkdir(exist_ok=True)
        (root / "meta.json").write_text(json.dumps({"task_type": "rag", "scorer": "rag", "params": params}))
        for path, records in (("input/gt.jsonl", truth), ("output/pred.jsonl", answers)):
            lines = records if isinstance(records, str) else "".join(json.dumps(each) + "\n" for each in records)
            (root / path).write_text(lines, encoding="utf-8")
        return root

    return made


def told(result: Result) -> str:
    assert result.error is not None
    return f"{result.error.code}: {result.error.message}"


def test_answers_are_joined_by_id_and_scored_without_any_configuration(home: Path, make: Make) -> None:
    result = score_workspace(make())
    assert result.error is None, result.error
    by_hand = [
        token_f1(Sample(answer=answer, ground_truth=truth))
        for answer, truth in (("It is Rome, I think.", "Rome is it."), ("罗马。", "罗马是首都。"), ("Paris.", "Paris."))
    ]
    assert result.metrics["token_f1"] == pytest.approx(sum(by_hand) / 3)
    assert result.metrics["exact_match"] == pytest.approx(1 / 3)
    assert result.summary.score == result.metrics["rag_score"] and 0 < (result.summary.score or 0) < 1
    # Of the free metrics all count alike.
    free = [result.metrics[name] for name in result.metrics if name not in ("rag_score", "coverage")]
    assert result.summary.score == pytest.approx(math.fsum(value or 0 for value in free) / len(free))
    for name, interval in result.intervals.items():
        assert 0 <= interval.low <= (result.metrics[name] or 0) <= interval.high <= 1 and interval.low < interval.high
    assert result.versioning.models == {} and result.versioning.prompts == {}
    lines = [json.loads(line) for line in (make() / result.artifacts["answers"].path).read_text().splitlines()]
    # In the order of the ids; contexts of the answer win, and else those of the ground truth count.
    assert sorted(line["id"] for line in lines) == ["03", "2", "q1"]
    contexts = {line["id"]: line["contexts"] for line in lines}
    assert contexts["q1"] == ["Paris is the capital."] and contexts["03"] == ["罗马是意大利的首都。"]
    table = (make() / result.artifacts["scores"].path).read_text().splitlines()
    assert len(table) == 4 and table[0].startswith("id,") and table[0].endswith(",weighted_score")


def test_the_order_of_the_files_decides_nothing(home: Path, make: Make) -> None:
    first = score_workspace(make())
    shuffled = random.Random(7).sample(ANSWERS, 3)
    second = score_workspace(make(TRUTH[::-1], shuffled))
    assert first.metrics == second.metrics and first.intervals == second.intervals
    assert first.artifacts["scores"].sha256 == second.artifacts["scores"].sha256


def test_a_judge_scores_and_what_it_was_stands_in_the_result(
    home: Path, monkeypatch: pytest.MonkeyPatch, stub: StubJudge, make: Make
) -> None:
    configured(home, monkeypatch, stub)
    stub.answer = judging({"Paris.", "罗马。"})
    result = score_workspace(make(metrics=["faithfulness", "token_f1"], pass_threshold=0.5))
    assert result.metrics["faithfulness"] == pytest.approx(2 / 3)
    assert result.versioning.models == {"judge": "one: large", "embeddings": "one: small"}
    assert set(result.versioning.prompts) >= {"claims", "faithfulness"}
    # Of the weights faithfulness alone has one.
    assert (result.summary.score, result.summary.passed) == (result.metrics["faithfulness"], True)
    calls = stub.calls
    again = score_workspace(make(metrics=["faithfulness", "token_f1"], pass_threshold=0.5))
    assert again.metrics == result.metrics and stub.calls == calls
    weighted = score_workspace(make(weights={"faithfulness": 1, "token_f1": 3}))
    expected = ((weighted.metrics["faithfulness"] or 0) + 3 * (weighted.metrics["token_f1"] or 0)) / 4
    assert weighted.summary.score == pytest.approx(expected)


def test_what_could_not_be_judged_is_counted_and_lets_nothing_pass(
    home: Path, monkeypatch: pytest.MonkeyPatch, stub: StubJudge, make: Make
) -> None:
    configured(home, monkeypatch, stub, max_attempts=1)

    def answer(prompt: str, schema: Any) -> Any:
        return "nothing" if "罗马" in prompt else judging({"Paris.", "It is Rome, I think."})(prompt, schema)

    stub.answer = answer
    partial = score_workspace(make(metrics=["faithfulness"], pass_threshold=0.5))
    assert (partial.metrics["faithfulness"], partial.summary.passed) == (1.0, None)
    assert "2 of 3 answers count; 1 could not be judged" in " ".join(partial.notes)
    assert any(note.startswith("This Result is partial") for note in partial.notes)
    # Three answers of which two are known to be good are no certainty.
    assert partial.intervals["faithfulness"].low < 0.9
    allowed = score_workspace(make(metrics=["faithfulness"], pass_threshold=0.5, max_failed=0.4))
    assert allowed.summary.passed is True
    # Where nothing can be had there is no score at all.
    stub.faults = Faults(server_error=1)
    failed = score_workspace(make(TRUTH[:1], ANSWERS[1:2], metrics=["context_recall"]))
    assert failed.error is not None and failed.error.code == "JUDGE_ERROR"


def test_a_budget_that_is_used_up_stops_softly(
    home: Path, monkeypatch: pytest.MonkeyPatch, stub: StubJudge, make: Make
) -> None:
    monkeypatch.setenv("AUTOSCORER_JUDGE__BUDGET", '{"job_tokens": 400}')
    configured(home, monkeypatch, stub, concurrency=1)
    stub.answer = judging({"Paris."})
    result = score_workspace(make(metrics=["faithfulness", "token_f1"]))
    assert result.error is None and result.metrics["token_f1"] is not None and result.summary.score is None
    assert any(note.startswith("This Result is partial") for note in result.notes)
    codes = {
        each["metrics"]["faithfulness"]["error_code"]
        for each in map(json.loads, (make() / result.artifacts["answers"].path).read_text().splitlines())
    }
    assert "BUDGET_EXCEEDED" in codes


@pytest.mark.parametrize(
    ("truth", "answers", "expected"),
    [
        (TRUTH, ANSWERS[:2], "MISMATCH: Expected gt.jsonl and pred.jsonl to hold the same ids"),
        (TRUTH[:2], ANSWERS, "MISMATCH"),
        (TRUTH, [*ANSWERS, ANSWERS[0]], "MISMATCH"),
        (TRUTH, [*ANSWERS[:2], {"id": 2.0, "answer": "x"}], "MISMATCH"),
        (TRUTH, '{"id": "q1"}\n', "BAD_FORMAT: pred.jsonl, line 1: the key 'answer' is missing."),
        (TRUTH, '{"id": "q1", "answer": 5}\n', "'answer' must be text."),
        (TRUTH, '{"id": "", "answer": "x"}\n', "'id' must be text or a number"),
        (TRUTH, '{"id": "q1", "answer": "x", "contexts": "c"}\n', "'contexts' must be a list of texts."),
        (TRUTH, '{"id": "q1", "answer": "x", "contexts": [1]}\n', "'contexts' must be a list of texts."),
        (TRUTH, '{"id": "q1", "id": "q2", "answer": "x"}\n', "the key 'id' appears twice"),
        (TRUTH, '{"id": NaN, "answer": "x"}\n', "NaN is not JSON"),
        (TRUTH, "[1]\n", "expected a JSON object"),
        (TRUTH, "{\n", "expected a JSON object"),
        (TRUTH, '{"id": "q1", "answer": "\\ud800"}\n', "a lone surrogate"),
        (TRUTH, "[" * 100_000, "nested too deeply"),
        ('{"id": "q1", "question": " "}\n', ANSWERS, "'question' is empty."),
        ("", ANSWERS, "the file holds no records"),
    ],
)
def test_files_that_are_wrong_are_refused_by_name(
    home: Path, make: Make, truth: Any, answers: Any, expected: str
) -> None:
    assert expected in told(score_workspace(make(truth, answers)))


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"metrics": ["faithfullness"]}, "did you mean 'faithfulness'"),
        ({"weights": {"chrff": 1}}, "weights: 'chrff' is not a metric"),
        ({"weights": {"chrf": -1}}, "expected numbers from 0 up"),
        ({"judge": "nobody"}, "judge: 'nobody' is no profile here"),
        ({"metric": ["chrf"]}, "metric: Extra inputs are not permitted"),
    ],
)
def test_params_that_are_wrong_are_refused_by_name(
    home: Path, make: Make, params: dict[str, Any], expected: str
) -> None:
    message = told(score_workspace(make(**params)))
    assert message.startswith("BAD_PARAMS") and expected in message, message


def test_more_answers_than_questions_are_not_read_to_their_end(home: Path, make: Make) -> None:
    endless = "".join(f'{{"id": "x{number}", "answer": "y"}}\n' for number in range(10_000))
    with pytest.raises(AutoScorerError) as caught:
        read_dataset(Workspace(make(TRUTH, endless)))
    assert caught.value.code is ErrorCode.MISMATCH and caught.value.details["prediction_rows"] < 10


def sampled(*values: float | None) -> list[SampleScores]:
    return [
        SampleScores(metrics={"m": MetricScore(score=value, status="ok" if value is not None else "undefined")})
        for value in values
    ]


def test_an_interval_covers_as_often_as_it_says_and_no_perfect_score_is_certain() -> None:
    # Three perfect answers of two metrics: far from certain.
    perfect = totals(sampled(1.0, 1.0, 1.0), {"m": 1.0}, 0.95)
    assert perfect.score == 1 and perfect.interval is not None and perfect.interval.low < 0.5
    same = totals(sampled(0.5, 0.5), {"m": 1.0}, 0.95)
    assert same.interval is not None and same.interval.low < 0.3 and same.interval.high > 0.7
    # Of two metrics that are seen in different answers; true means 0.7 and 0.4, so 0.6 with weights of 2 and 1.
    rng = random.Random(1)
    covered = 0
    for _ in range(400):
        samples = []
        for _ in range(60):
            first, second = float(rng.random() < 0.7), rng.random() * 0.8
            metrics = {
                "a": MetricScore(score=first),
                "b": MetricScore(score=second) if rng.random() < 0.5 else MetricScore(status="undefined"),
            }
            samples.append(SampleScores(metrics=metrics))
        found = totals(samples, {"a": 2.0, "b": 1.0}, 0.95)
        assert found.interval is not None and found.coverage == 1
        covered += found.interval.low <= 0.6 <= found.interval.high
    assert 0.92 <= covered / 400 <= 0.98


def test_free_metrics_load_no_client_of_a_judge(home: Path, make: Make) -> None:
    code = (
        "import sys; from autoscorer.tasks.score import score_workspace; "
        f"result = score_workspace({str(make())!r}); assert result.error is None, result.error; "
        "assert not {'aiohttp', 'prefect'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
    assert load_settings().judge.default is None
