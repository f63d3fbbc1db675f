"""Answers about workspaces and scorers, as the OpenAPI document shows them."""

from __future__ import annotations

from typing import Any

__all__ = [
    "ARTIFACT_EXAMPLE",
    "HISTORY_EXAMPLE",
    "LINK_EXAMPLE",
    "LOG_EXAMPLE",
    "RELOADED_EXAMPLE",
    "RESULT_EXAMPLE",
    "SCORER_EXAMPLE",
    "TRIAL_EXAMPLE",
    "UPLOADED_EXAMPLE",
    "WATCHED_EXAMPLE",
    "WORKSPACE_EXAMPLE",
]

Json = dict[str, Any]

_SUMMARY: Json = {"score": 0.91, "f1_macro": 0.91, "pass": True, "rank": "A", "higher_is_better": True}
_INTERVAL: Json = {"low": 0.89, "high": 0.93, "level": 0.95, "method": "bootstrap-multinomial", "n_resamples": 2000}
_SHA256 = "9f2c1d0a5b7e4f3689aa01c2d3e4f5061728394a5b6c7d8e9f00112233445566"

WORKSPACE_EXAMPLE: Json = {
    "name": "team-a",
    "job_id": "team-a",
    "task_type": "classification",
    "scorer": "classification_f1",
    "has_ground_truth": True,
    "has_predictions": True,
    "score": 0.91,
    "pass": True,
    "rank": "A",
    "scored_at": "2026-11-22T21:00:00Z",
    "error": None,
}

ARTIFACT_EXAMPLE: Json = {
    "name": "report",
    "file": "report.html",
    "path": "output/artifacts/report.html",
    "size": 48_112,
    "sha256": _SHA256,
    "media_type": "text/html",
    "kept": True,
}

_SIGNED = f"/signed/1795381800-admin-{_SHA256}/tasks/0190f2d4a1b37c6e8f0a1b2c3d4e5f60"

LINK_EXAMPLE: Json = {
    "url": f"{_SIGNED}/artifacts/report.html",
    "base": _SIGNED,
    "expires_at": "2026-11-22T21:10:00Z",
}

HISTORY_EXAMPLE: Json = {
    "id": "20261122T210000.123456Z",
    "time": "2026-11-22T21:00:00Z",
    "score": 0.91,
    "low": 0.89,
    "high": 0.93,
    "metric": "f1_macro",
    "pass_threshold": 0.9,
    "pass": True,
    "rank": "A",
    "scorer": "classification_f1",
    "error": None,
    "changed": ["image"],
    "flow_run_id": "3f0c1d0a-5b7e-4f36-89aa-01c2d3e4f506",
    "task_id": "0190f2d4a1b34c5e8f90a1b2c3d4e5f6",
    "stands": True,
}

UPLOADED_EXAMPLE: Json = {
    "workspace": {**WORKSPACE_EXAMPLE, "score": None, "pass": None, "rank": None, "scored_at": None},
    "files": 4,
    "size": 183_201,
    "left_out": ["output/result.json"],
}

RESULT_EXAMPLE: Json = {
    "job_id": "team-a",
    "task_type": "classification",
    "summary": _SUMMARY,
    "metrics": {"f1_macro": 0.91, "accuracy": 0.92},
    "intervals": {"f1_macro": _INTERVAL},
    "artifacts": {
        "report": {
            "path": "output/artifacts/report.html",
            "size": 48_112,
            "sha256": _SHA256,
            "media_type": "text/html",
        }
    },
    "timing": {"run": 12.4, "compute": 0.02, "total": 12.6},
    "resources": {"peak_memory_bytes": 73_400_320, "exit_code": 0, "backend": "docker"},
    "versioning": {"scorer": "classification_f1", "scorer_version": "1.0.0", "timestamp": "2026-11-22T21:00:00Z"},
    "notes": [],
    "error": None,
}

LOG_EXAMPLE: Json = {
    "workspace": "team-a",
    "log": "read 1000 rows\nwrote output/pred.csv\n",
    "lines": 2,
    "truncated": False,
    "left_out": 0,
    "size": 37,
    "run_info": {"backend": "docker", "exit_code": 0},
}

SCORER_EXAMPLE: Json = {
    "id": "my_scorer",
    "aliases": [],
    "name": "my_scorer",
    "version": "1.0.0",
    "description": "Share of right labels.",
    "task_type": "classification",
    "metric": "accuracy",
    "higher_is_better": True,
    "origin": "file",
    "source": "…/my_scorer.py",
    "line": 12,
    "sha256": _SHA256,
    "siblings": {},
    "loaded_at": "2026-11-22T21:00:00+00:00",
    "status": "ok",
    "error": None,
    "failed_at": None,
    "params_schema": {"type": "object", "properties": {"pass_threshold": {"type": "number"}}},
}

RELOADED_EXAMPLE: Json = {
    "changes": [
        {
            "id": "my_scorer",
            "change": "new version",
            "version_before": "1.0.0",
            "version": "1.1.0",
            "sha256": _SHA256,
        }
    ],
    "errors": [],
}

WATCHED_EXAMPLE: Json = {
    "id": "5b1d3c0f9a27",
    "path": "…/scorers",
    "kind": "folder",
    "origin": "watched",
    "is_there": True,
    "scorers": ["my_scorer"],
    "errors": [],
}

TRIAL_EXAMPLE: Json = {
    "scorer": {"id": "my_scorer", "version": "1.0.0", "sha256": _SHA256},
    "summary": _SUMMARY,
    "metrics": {"accuracy": 0.92},
    "intervals": {},
    "notes": [],
    "artifacts": ["report"],
    "seconds": {"validate": 0.01, "score": 0.03},
}
