"""A whole scoring by a real language model, small as it is: forms, tokens, and the same numbers again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ...support.real_model import RealModel
from ...support.real_model import real_model as real_model

pytestmark = pytest.mark.slow

METRICS = ["faithfulness", "answer_relevancy", "context_precision", "semantic_similarity"]
TRUTH = {"id": 1, "question": "What is the capital of France?", "ground_truth": "Paris is the capital of France."}
ANSWER = {
    "id": 1,
    "answer": "The capital of France is Paris.",
    "contexts": ["Paris is the capital and the largest city of France.", "Bread is baked in an oven."],
}


def scored(folder: Path, model: RealModel) -> tuple[dict[str, Any], dict[str, Any]]:
    """The Result, and the counts of each metric, of a workspace with a home of its own, where nothing is known yet."""
    (folder / "input").mkdir(parents=True)
    (folder / "output").mkdir()
    (folder / "meta.json").write_text(json.dumps({"scorer": "rag", "params": {"metrics": METRICS}}))
    (folder / "input" / "gt.jsonl").write_text(json.dumps(TRUTH))
    (folder / "output" / "pred.jsonl").write_text(json.dumps(ANSWER))
    judge = {"base_url": model.judge, "model": "smollm2", "max_tokens": 512, "price": {"prompt": 1, "completion": 2}}
    embedder = {"base_url": model.embeddings, "model": "smollm2", "price": {"prompt": 1}}
    environment = {
        "AUTOSCORER_HOME": str(folder / "home"),
        "AUTOSCORER_JUDGE__DEFAULT": "small",
        "AUTOSCORER_JUDGE__PROFILES": json.dumps({"small": {**judge, "timeout": 300}}),
        "AUTOSCORER_EMBEDDINGS__DEFAULT": "small",
        "AUTOSCORER_EMBEDDINGS__PROFILES": json.dumps({"small": embedder}),
    }
    done = subprocess.run(
        [sys.executable, "-m", "autoscorer", "score", str(folder)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts: dict[str, Any] = json.loads((folder / "output" / "artifacts" / "metrics.json").read_text())
    return json.loads(done.stdout)["data"], counts


def test_a_real_model_judges_in_the_form_it_is_asked_for_and_again_the_same(
    tmp_path: Path, real_model: RealModel
) -> None:
    result, counts = scored(tmp_path / "first", real_model)
    answers = json.loads((tmp_path / "first" / "output" / "artifacts" / "answers.jsonl").read_text())
    for name in METRICS:
        metric = answers["metrics"][name]
        assert metric["status"] in ("ok", "undefined"), metric
        assert metric["calls"] >= 1 and metric["prompt_tokens"] > 0 and metric["cost"] > 0, (name, metric)
        assert metric["score"] is None or 0 <= metric["score"] <= 1
    # This one is no opinion: the two texts are nearly the same.
    assert answers["metrics"]["semantic_similarity"]["score"] > 0.8
    assert result["versioning"]["models"] == {"judge": "small: smollm2", "embeddings": "small: smollm2"}
    assert counts["faithfulness"]["prompt_tokens"] == answers["metrics"]["faithfulness"]["prompt_tokens"]
    again, _ = scored(tmp_path / "again", real_model)
    assert again["metrics"] == result["metrics"]
