"""``compare``, ``samples`` and ``judge labels``: what a person and a program get of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from autoscorer.api.openapi_records import COMPARISON_EXAMPLE, SAMPLES_EXAMPLE
from autoscorer.cli.main import main
from autoscorer.scorers.rag.labels import read_labels

from ..support.terminal import in_terminal
from .test_cli_client import Api, error, ok
from .test_cli_client import api as api


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main([*arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_two_tasks_are_a_table(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    found = {**COMPARISON_EXAMPLE, "notes": [{"code": "other_params", "text": "Params differ: \x1b[31mred."}]}
    api.answers["GET /compare"] = [ok(found)]
    code, page = in_terminal("compare", "one", "two", "--change", "lost", "--limit", "5", columns=160)
    assert code == 0 and "\x1b[31mred" not in page
    for text in (
        "f1_macro",
        "0.91",
        "0.94",
        "+0.03",
        "pass_threshold",
        "team-a:2",
        "r017",
        "lost",
        "better",
        "and 39 more",
    ):
        assert text in page, page
    (path,) = api.paths()
    assert path == "GET /compare?a=one&b=two&limit=5&change=lost"
    code, answer = told(capsys, "compare", "one", "two")
    assert code == 0 and answer["data"]["samples"]["samples"][0]["id"] == "r017"


def test_samples_are_a_table(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    api.answers["GET /tasks/one/samples"] = [ok(SAMPLES_EXAMPLE)]
    code, page = in_terminal("samples", "one", "--verdict", "wrong", "--find", "cat", "--limit", "1", columns=160)
    assert code == 0
    for text in ("1,000 samples", "941 right, 59 wrong", "r017", "dog", "cat", "and 58 more"):
        assert text in page, page
    assert api.paths() == ["GET /tasks/one/samples?verdict=wrong&q=cat&limit=1"]
    api.answers["GET /tasks/one/samples"] = [error(403, "FORBIDDEN", "Samples tell of single rows.")]
    code, answer = told(capsys, "samples", "one")
    assert code != 0 and answer["error"]["code"] == "FORBIDDEN"


def test_labels_are_written_as_calibrate_reads_them(
    api: Api, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    label = {"sample": {"question": "q?", "answer": "ü", "contexts": ["c"]}, "metric": "faithfulness", "label": True}
    api.answers["GET /tasks/one/labels"] = [(200, (json.dumps(label) + "\n").encode())]
    file = tmp_path / "labels.jsonl"
    code, answer = told(capsys, "judge", "labels", "one", str(file), "--threshold", "0.8")
    assert (code, answer["data"]) == (0, {"task_id": "one", "labels": 1, "file": str(file)})
    (read,) = read_labels(file).items
    assert (read.sample.answer, read.label) == ("ü", True)
    assert api.paths() == ["GET /tasks/one/labels?threshold=0.8"]
    assert "1 labels were written" in in_terminal("judge", "labels", "one", str(file))[1]
    code, answer = told(capsys, "judge", "labels", "one", str(tmp_path))
    assert code == 2 and "can't be written" in answer["error"]["message"]
