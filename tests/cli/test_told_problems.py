"""validate tells every problem at once: an unknown scorer and wrong params too, whatever else is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from autoscorer.cli.main import main

Problems = dict[str, str]

SCORER = """
from autoscorer.scorers.base_csv import BaseCSVScorer, CSVParams
from autoscorer.scorers.registry import register


class Params(CSVParams):
    weight: float = 1.0


@register("told_scorer")
class Told(BaseCSVScorer):
    name = "told_scorer"
    version = "1.0.0"
    description = "For a test."
    task_type = "classification"
    metric = "score"
    Params = Params

    def compute(self, table, params):
        return {"score": 1.0}
"""


@pytest.fixture
def problems(make_workspace: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> Callable[..., Problems]:
    def told(meta: dict[str, Any], *arguments: str, truth: str | None = None) -> Problems:
        folder = make_workspace(f"w{abs(hash(json.dumps(meta)))}")
        (folder / "meta.json").write_text(json.dumps({"task_type": "classification", **meta}))
        if truth is not None:
            (folder / "input" / "gt.csv").write_text(truth)
        assert main(["validate", str(folder), "--backend", "process", *arguments]) == 1
        error = json.loads(capsys.readouterr().out)["error"]
        return {each["code"]: each["message"] for each in error["details"].get("problems", [error])}

    return told


COMMAND = {"container": {"cmd": ["true"]}}


def test_an_unknown_scorer_is_told_beside_a_wrong_key(problems: Callable[..., Problems]) -> None:
    found = problems({**COMMAND, "scorer": "classification_f2", "colour": "red"})
    assert "colour" in found["INVALID_META"]
    assert "classification_f2" in found["SCORER_NOT_FOUND"]


def test_unknown_params_are_told_beside_a_wrong_key_and_a_wrong_truth(problems: Callable[..., Problems]) -> None:
    meta = {"scorer": "classification_f1", "params": {"avrage": "macro", "confidence_level": 3}, "memory": 5}
    found = problems({**COMMAND, **meta}, truth="id,label\na,cat\na,cat\n")
    assert "memory" in found["INVALID_META"]
    assert "avrage" in found["BAD_PARAMS"] and "confidence_level" in found["BAD_PARAMS"]
    assert set(found) - {"INVALID_META", "BAD_PARAMS"}  # that an id appears twice in the ground truth


@pytest.mark.slow
def test_a_scorer_of_ones_own_is_known_and_asked_all_the_same(
    problems: Callable[..., Problems], tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "told.py").write_text(SCORER)
    meta = {**COMMAND, "scorer": "told_scorer", "params": {"wait": 2}, "colour": "red"}
    found = problems(meta, "--scorers", str(tmp_path / "mine"))
    assert set(found) == {"INVALID_META", "BAD_PARAMS"} and "weight" in found["BAD_PARAMS"]


@pytest.mark.parametrize("scorer", [5, ["a"], {"id": "x"}])
def test_a_scorer_that_is_no_text_is_one_problem(problems: Callable[..., Problems], scorer: Any) -> None:
    assert set(problems({**COMMAND, "scorer": scorer})) == {"INVALID_META"}
