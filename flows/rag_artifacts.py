"""What a flow run of ``rag-score`` leaves in Prefect for people: its scores with their reasons."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from prefect.artifacts import Artifact, MarkdownArtifact, TableArtifact

from ..core.config import Settings
from .artifacts import plain, record_link, table

__all__ = ["job_artifacts"]

_CLAIMS = 100
_VERDICTS = {True: "yes", False: "no", None: "–"}


def job_artifacts(
    settings: Settings, flow_run_id: str, request: Mapping[str, Any], data: Mapping[str, Any]
) -> list[Callable[[], Artifact]]:
    """What makes the artifacts: ``…-scores`` (table), ``…-reasons`` (Markdown) and ``…-record`` (link).

    Args:
        settings: The configuration.
        flow_run_id: The run, which the keys are made of.
        request: As it was asked for.
        data: The outcome's.

    Returns:
        One maker each.
    """
    key = f"rag-{hashlib.sha256(flow_run_id.encode()).hexdigest()[:12]}"
    rows = [
        {"metric": metric, **{key: each[key] for key in ("score", "status", "reason", "calls")}}
        for metric, each in data["metrics"].items()
    ]
    return [
        lambda: TableArtifact(key=f"{key}-scores", table=rows, description="Scores of one answer"),
        lambda: MarkdownArtifact(
            key=f"{key}-reasons", markdown=_reasons(request, data), description="Why the answer has these scores"
        ),
        *record_link(settings, flow_run_id, f"{key}-record", "The answer"),
    ]


def _reasons(request: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    said = [[key, plain(request.get(key) or "", longest=2000)] for key in ("question", "answer", "ground_truth")]
    parts = [f"# Weighted score: {data['weighted_score']}", table(["", ""], said)]
    for metric, each in data["metrics"].items():
        parts.append(f"## {plain(metric)}: {each['score'] if each['score'] is not None else each['status']}")
        if each["reason"]:
            parts.append(plain(each["reason"], longest=1000))
        rows = [
            [_VERDICTS[claim["verdict"]], *(plain(claim[key] or "", longest=500) for key in ("text", "reason"))]
            for claim in each["claims"][:_CLAIMS]
        ]
        if rows:
            parts.append(table(["", "Judged", "Reason"], rows))
    return "\n\n".join(parts) + "\n"
