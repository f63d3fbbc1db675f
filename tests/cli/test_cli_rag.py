"""``autoscorer rag score``: one answer by hand, with no service, and with no configuration where no model is asked."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from autoscorer.cli.main import main

from ..scorers.rag.test_judged_metrics import configured, judging
from ..support.stub_judge import Faults, StubJudge
from ..support.stub_judge import stub as stub
from ..support.terminal import in_terminal

ASKED = ("--question", "What is the capital of France?", "--answer", "It is Paris.")


def _score(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main(["rag", "score", *arguments])
    told = json.loads(capsys.readouterr().out)
    return code, told["data"] if code == 0 else told["error"]


def test_without_any_configuration_the_free_metrics_are_scored(capsys: pytest.CaptureFixture[str]) -> None:
    code, data = _score(capsys, *ASKED, "--ground-truth", "Paris.", "--context", "Paris is it.", "--context", "Lyon.")
    assert code == 0
    # One token of three is the truth's only one; all three stand in the contexts.
    assert data["metrics"]["token_f1"]["score"] == pytest.approx(1 / 2)
    assert data["metrics"]["grounded_token_ratio"]["score"] == 1.0
    assert data["metrics"]["nonllm_context_precision"]["score"] == 1.0
    assert all(each["status"] == "ok" for each in data["metrics"].values())
    assert (data["coverage"], data["models"]) == (1.0, {})
    assert data["usage"] == {"calls": 0, "cached": 0, "prompt_tokens": 0, "completion_tokens": 0, "cost": 0.0}


def test_a_metric_that_lacks_an_input_or_a_judge_is_skipped_and_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    code, data = _score(
        capsys, *ASKED, "--context", "Paris.", "--metrics", "token_f1, faithfulness,grounded_token_ratio"
    )
    assert code == 0 and list(data["metrics"]) == ["token_f1", "faithfulness", "grounded_token_ratio"]
    assert [each["status"] for each in data["metrics"].values()] == ["skipped", "skipped", "ok"]
    assert "ground_truth" in data["metrics"]["token_f1"]["reason"]
    assert "judge" in data["metrics"]["faithfulness"]["reason"]
    assert data["metrics"]["token_f1"]["score"] is None


def test_texts_come_from_files_and_from_stdin(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "answer.txt").write_text("巴黎。\n", encoding="utf-8-sig")
    monkeypatch.setattr(sys, "stdin", io.StringIO("巴黎。\n"))
    truth = ("--ground-truth", "-", "--metrics", "exact_match")
    code, data = _score(capsys, "--question", "@@where?", "--answer", f"@{tmp_path / 'answer.txt'}", *truth)
    assert code == 0 and data["metrics"]["exact_match"]["score"] == 1.0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--question", "q", "--answer", "a"], "No metric fits"),
        (["--question", "", "--answer", "a", "--ground-truth", "a"], "question"),
        (["--question", "q", "--answer", "@/no/such/file", "--ground-truth", "a"], "No such file"),
        (["--question", "-", "--answer", "-"], "two texts"),
        (
            ["--question", "q", "--answer", "a", "--ground-truth", "a", "--metrics", "token_f2"],
            "did you mean 'token_f1'",
        ),
        (["--question", "q", "--answer", "a", "--ground-truth", "a", "--judge", "nobody"], "no profile"),
        (["--question", "q", "--answer", "a", "--votes", "0"], "from 1 on"),
    ],
)
def test_what_can_not_be_scored_is_said(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, error = _score(capsys, *arguments)
    assert code in (1, 2) and told in error["message"]


def test_a_judge_is_asked_and_what_that_took_is_told(
    home: Path, monkeypatch: pytest.MonkeyPatch, stub: StubJudge, capsys: pytest.CaptureFixture[str]
) -> None:
    configured(home, monkeypatch, stub, price={"prompt": 1.0, "completion": 2.0})
    stub.answer = judging({"It is Paris."})
    arguments = (*ASKED, "--context", "Paris.", "--metrics", "faithfulness", "--judge", "one", "--votes", "3")
    code, data = _score(capsys, *arguments)
    assert code == 0 and data["metrics"]["faithfulness"]["score"] == 1.0
    usage = data["usage"]
    assert usage["calls"] == stub.calls > 3 and usage["cost"] > 0
    assert data["models"]["judge"] == "one: large" and data["weighted_score"] == 1.0


def test_where_every_metric_fails_the_command_fails_and_says_why(
    home: Path, monkeypatch: pytest.MonkeyPatch, stub: StubJudge, capsys: pytest.CaptureFixture[str]
) -> None:
    configured(home, monkeypatch, stub, max_attempts=1)
    stub.faults = Faults(server_error=1)
    code, error = _score(capsys, *ASKED, "--context", "Paris.", "--metrics", "faithfulness")
    assert code == 3 and error["code"] == "JUDGE_ERROR" and "Every metric failed" in error["message"]


def test_on_a_terminal_scores_stand_with_their_reasons() -> None:
    code, shown = in_terminal("rag", "score", *ASKED, "--ground-truth", "Paris.", "--metrics", "token_f1,faithfulness")
    assert code == 0
    assert "token_f1" in shown and "0.5" in shown and "skipped" in shown and "contexts" in shown
    assert "weighted score" in shown and "coverage" in shown


def test_nothing_of_the_service_is_imported() -> None:
    program = (
        "import sys; from autoscorer.cli.main import main; "
        "main(['rag', 'score', '--question', 'q', '--answer', 'a', '--ground-truth', 'a']); "
        "sys.exit(any(name in sys.modules for name in ('prefect', 'fastapi', 'sqlalchemy', 'docker', 'rich')))"
    )
    assert subprocess.run([sys.executable, "-c", program], stdout=subprocess.DEVNULL).returncode == 0
