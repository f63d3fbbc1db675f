"""What a scoring of RAG answers leaves beside its Result: every answer with its scores and reasons, and the counts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ...core.workspace import ArtifactWriter
from ...schemas.rag import SampleScores
from ..artifacts import csv_text
from .aggregate import Totals
from .dataset import Dataset

__all__ = ["write_artifacts"]


def write_artifacts(writer: ArtifactWriter, dataset: Dataset, samples: Sequence[SampleScores], found: Totals) -> None:
    """Write the scores of each answer as a table and with their reasons, and the totals of each metric.

    Args:
        writer: Of the workspace.
        dataset: The answers.
        samples: Their scores, in the same order.
        found: All of them together.
    """
    names = list(found.metrics)
    rows = (
        [item.id, *(scores.metrics[name].score for name in names), scores.weighted_score]
        for item, scores in zip(dataset.items, samples, strict=True)
    )
    writer.write("scores", "scores.csv", csv_text(["id", *names, "weighted_score"], rows))
    lines = (
        json.dumps(_line(item, scores), ensure_ascii=False, allow_nan=False)
        for item, scores in zip(dataset.items, samples, strict=True)
    )
    writer.write("answers", "answers.jsonl", "".join(f"{line}\n" for line in lines))
    writer.write_json("metrics", "metrics.json", {name: _totals(found, name) for name in names})


def _line(item: Any, scores: SampleScores) -> dict[str, Any]:
    sample = item.sample
    return {
        "id": item.id,
        "question": sample.question,
        "answer": sample.answer,
        "contexts": list(sample.contexts) if sample.contexts is not None else None,
        "ground_truth": sample.ground_truth,
        **scores.model_dump(mode="json"),
    }


def _totals(found: Totals, name: str) -> dict[str, Any]:
    each = found.metrics[name]
    failure = each.first_failure
    return {
        "mean": each.mean,
        "interval": each.interval.model_dump(mode="json") if each.interval is not None else None,
        "ok": each.ok,
        "skipped": each.skipped,
        "undefined": each.undefined,
        "failed": each.failed,
        "first_failure": {"code": failure.error_code, "reason": failure.reason} if failure is not None else None,
        **each.usage,
    }
