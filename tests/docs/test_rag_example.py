"""The example of retrieval-augmented answers is what its README says, and its programs write what is committed."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from autoscorer.tasks.score import score_workspace

from .test_examples import EXAMPLES, run_model, stage

SYSTEMS = ("rag/system-a", "rag/system-b")


def test_both_systems_have_the_same_input() -> None:
    first, second = (
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (EXAMPLES / system / "input" for system in SYSTEMS)
    )
    assert first == second and len(first) == 3


@pytest.mark.parametrize("system", SYSTEMS)
def test_its_program_writes_what_is_committed(system: str, tmp_path: Path) -> None:
    code, workspace = stage(system, tmp_path)
    done = run_model(system, code, workspace)
    assert (done.returncode, done.stderr) == (0, "")
    assert (workspace / "output/pred.jsonl").read_bytes() == (EXAMPLES / system / "output/pred.jsonl").read_bytes()


def test_the_scores_are_those_of_the_readme_without_any_configuration(tmp_path: Path) -> None:
    rows = re.findall(r"^\| (\w+) \| ([\d.]+) \| ([\d.]+) \|$", (EXAMPLES / "rag/README.md").read_text(), re.MULTILINE)
    assert [name for name, *_ in rows] == ["score", "string_presence", "token_f1", "nonllm_context_precision"]
    for number, system in enumerate(SYSTEMS, 1):
        workspace = tmp_path / Path(system).name
        shutil.copytree(EXAMPLES / system, workspace)
        result = score_workspace(workspace)
        assert result.error is None, result.error
        for name, *told in rows:
            found = result.summary.score if name == "score" else result.metrics[name]
            assert f"{found:.3f}" == told[number - 1], (system, name)


def test_no_question_is_left_without_a_ground_truth_that_some_text_holds() -> None:
    folder = EXAMPLES / SYSTEMS[0] / "input"
    texts = [json.loads(line)["text"] for line in (folder / "data/documents.jsonl").read_text().splitlines()]
    truths = [json.loads(line) for line in (folder / "gt.jsonl").read_text().splitlines()]
    languages = [truth["id"].partition("-")[0] for truth in truths]
    assert (languages.count("en"), languages.count("zh")) == (20, 10)
    for truth in truths:
        words = re.findall(r"\d+|[A-Z][a-z]+|[\u4e00-\u9fff]{3,}", truth["ground_truth"])
        assert any(all(word.casefold() in text.casefold() for word in words) for text in texts), truth
