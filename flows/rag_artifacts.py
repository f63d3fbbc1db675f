"""What a flow run of ``rag-score`` leaves in Prefect for people: its scores with their reasons."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from prefect.artifacts import Artifact, MarkdownArtifact, TableArtifact

from .artifacts import plain, table

__all__ = ["job_artifacts"]

_CLAIMS = 100


def job_artifacts(name: str, request: Mapping[str, Any], data: Mapping[str, Any]) -> list[Callable[[], Artifact]]:
    """What makes the artifacts: ``…-scores`` (table) and ``…-reasons`` (Markdown).

    Args:
        name: Of the job, which the keys are made of.
        request: As it was asked for.
        data: The outcome's.

    Returns:
        One maker each.
    """
    key = f"rag-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    rows = [
        {"metric": metric, "score": each["score"], "status": each["status"], "reason": each["reason"], "calls": each["calls"]}
        for metric, each in data["metrics"].items()
    ]
    return [
        lambda: TableArtifact(key=f"{key}-scores", table=rows, description="Scores of one answer"),
        lambda: MarkdownArtifact(
            key=f"{key}-reasons", markdown=_reasons(request, data), description="Why the answer has these scores"
        ),
    ]


def _reasons(request: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    parts = [
        f"# Weighted score: {data['weighted_score']}",
        table(["", ""], [[key, plain(request.get(key) or "", longest=2000)] for key in ("question", "answer", "ground_truth")]),
    ]
    for metric, each in data["metrics"].items():
        parts.append(f"## {plain(metric)}: {each['score'] if each['score'] is not None else each['status']}")
        if each["reason"]:
            parts.append(plain(each["reason"], longest=1000))
        if each["claims"]:
            rows = [
                [_verdict(claim["verdict"]), plain(claim["text"], longest=500), plain(claim["reason"] or "", longest=500)]
                for claim in each["claims"][:_CLAIMS]
            ]
            parts.append(table(["", "Judged", "Reason"], rows))
    return "\n\n".join(parts) + "\n"


def _verdict(verdict: bool | None) -> str:
    return {True: "yes", False: "no", None: "–"}[verdict]
