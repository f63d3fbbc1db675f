"""Answers about samples, comparisons and notes, as the OpenAPI document shows them."""

from __future__ import annotations

from typing import Any

__all__ = ["COMPARISON_EXAMPLE", "NOTE_EXAMPLE", "SAMPLES_EXAMPLE"]

Json = dict[str, Any]

_A, _B = "0190f2d4a1b37c6e8f0a1b2c3d4e5f60", "0190f2d5b2c47d7f9a1b2c3d4e5f6071"
_WRONG: Json = {"id": "r017", "verdict": "wrong", "predicted": "dog", "expected": "cat", "value": None}
_COUNTS: Json = {"right": 941, "wrong": 59}

SAMPLES_EXAMPLE: Json = {
    "task_id": _A,
    "scorer": "classification_f1",
    "measure": None,
    "total": 1000,
    "kept": 1000,
    "counts": _COUNTS,
    "found": 59,
    "samples": [_WRONG],
    "next_cursor": "1",
}


def _side(task_id: str, score: float) -> Json:
    return {
        "task_id": task_id,
        "workspace": "team-a",
        "state": "completed",
        "ended_at": "2026-11-22T21:00:00Z",
        "scorer": "classification_f1",
        "metric": "f1_macro",
        "score": score,
        "higher_is_better": True,
        "interval": None,
        "pass": True,
        "rank": "A",
        "error": None,
    }


COMPARISON_EXAMPLE: Json = {
    "a": _side(_A, 0.91),
    "b": _side(_B, 0.94),
    "comparable": True,
    "better": "b",
    "notes": [],
    "metrics": [{"name": "f1_macro", "a": 0.91, "b": 0.94, "difference": 0.03, "interval_a": None, "interval_b": None}],
    "params": [{"name": "pass_threshold", "a": 0.8, "b": 0.9}],
    "provenance": [{"name": "image", "a": "team-a:1", "b": "team-a:2"}],
    "samples": {
        "kept_a": 1000,
        "total_a": 1000,
        "kept_b": 1000,
        "total_b": 1000,
        "compared": 1000,
        "gained": 34,
        "lost": 4,
        "other": 2,
        "measure": None,
        "found": 40,
        "samples": [
            {
                "id": "r017",
                "change": "lost",
                "a": {**_WRONG, "verdict": "right", "predicted": "cat"},
                "b": _WRONG,
            }
        ],
        "next_cursor": "1",
    },
}

NOTE_EXAMPLE: Json = {
    "id": "0190f2d6c3d58e80ab2c3d4e5f607182",
    "task_id": _A,
    "text": "The picture shows a dog; the ground truth is wrong.",
    "sample": "r017",
    "metric": None,
    "verdict": "disagree",
    "role": "organiser",
    "own": True,
    "of_truth": True,
    "created_at": "2026-11-22T21:05:00Z",
}
