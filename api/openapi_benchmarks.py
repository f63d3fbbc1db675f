"""Bodies and answers about benchmarks, as the OpenAPI document shows them."""

from __future__ import annotations

from typing import Any

from ..service.benchmarks.submitting import Handed, ImageSubmission
from .models import TASK_EXAMPLE

__all__ = [
    "BENCHMARK_EXAMPLE",
    "BOARD_EXAMPLE",
    "HANDED_EXAMPLE",
    "PUBLIC_EXAMPLE",
    "SUBMISSION_BODY",
    "SUBMITTED_EXAMPLE",
]

Json = dict[str, Any]

_LEFT: Json = {"left_today": 4, "left": 95, "at_once_left": 1, "next_at": None}
_WORKSPACE = "flowers/submissions/team-a/0003"

BENCHMARK_EXAMPLE: Json = {
    "name": "flowers",
    "title": "Flowers",
    "description": None,
    "task_type": "classification",
    "scorer": "classification_f1",
    "params": None,
    "resources": {"cpu": 2},
    "timeout": 300,
    "backends": ["docker"],
    "phases": [{"name": "final", "open": "2026-11-01T00:00:00Z", "close": "2026-12-31T23:59:00Z", "late": "refuse"}],
    "is_open": True,
    "quota": {"per_day": 5, "total": 100, "at_once": 2},
    "left": _LEFT,
    "visibility": "leaderboard",
    "leaderboard": {"choose": "best", "decimals": None, "margin": None, "freeze": None, "public": True},
    "withheld": {"released": False, "release": None},
    "error": None,
}

HANDED_EXAMPLE: Json = {
    "benchmark": "flowers",
    "submission": {
        "team": "team-a",
        "number": 3,
        "kind": "predictions",
        "label": "with more data",
        "created_at": "2026-11-22T21:00:00Z",
        "phase": "final",
        "late": False,
    },
    "workspace": _WORKSPACE,
    "task": {
        **TASK_EXAMPLE,
        "action": "score",
        "workspace": _WORKSPACE,
        "benchmark": "flowers",
        "team": "team-a",
        "params": None,
    },
    "quota": _LEFT,
}

SUBMITTED_EXAMPLE: Json = {
    "team": "team-a",
    "number": 3,
    "workspace": _WORKSPACE,
    "kind": "predictions",
    "label": "with more data",
    "submitted_at": "2026-11-22T21:00:00Z",
    "phase": "final",
    "late": False,
    "task_id": "0190f2d4a1b34c5e8f90a1b2c3d4e5f6",
    "state": "completed",
    "score": 0.93,
    "low": 0.9,
    "high": 0.95,
    "pass": True,
    "version": 1,
    "error": None,
}

BOARD_EXAMPLE: Json = {
    "benchmark": "flowers",
    "part": "public",
    "released": False,
    "team": "team-a",
    "rows": [
        {
            "place": 1,
            "team": "team-a",
            "score": 0.93,
            "low": 0.9,
            "high": 0.95,
            "metric": "f1_macro",
            "number": 3,
            "label": "with more data",
            "submissions": 3,
            "submitted_at": "2026-11-22T21:00:00Z",
            "version": 1,
            "higher_is_better": True,
            "outdated": False,
        }
    ],
}


PUBLIC_EXAMPLE: Json = {
    **{
        key: BENCHMARK_EXAMPLE[key]
        for key in ("name", "title", "description", "phases", "is_open", "leaderboard", "withheld")
    },
    "board": {
        **BOARD_EXAMPLE,
        "team": None,
        "rows": [{**BOARD_EXAMPLE["rows"][0], "number": None, "label": None, "submitted_at": None}],
    },
}


def _form() -> Json:
    fields = Handed.model_json_schema()["properties"]
    file = {"type": "string", "format": "binary", "description": "The predictions, or the archive of an image."}
    return {
        "schema": {
            "type": "object",
            "required": ["file"],
            "additionalProperties": False,
            "properties": {"file": file, **{name: _of_a_form(field) for name, field in fields.items()}},
        },
        "example": {"file": "@pred.csv", "label": "with more data"},
    }


def _of_a_form(field: Json) -> Json:
    """A field of a form: a text that is there or not."""
    text = next(each for each in field["anyOf"] if each.get("type") != "null")
    return {"description": field.get("description", ""), **text}


SUBMISSION_BODY: Json = {
    "required": True,
    "content": {
        "application/json": {
            "schema": ImageSubmission.model_json_schema(),
            "example": {"image": "registry.example.org/team-a/model:3", "label": "with more data"},
        },
        "multipart/form-data": _form(),
    },
}
