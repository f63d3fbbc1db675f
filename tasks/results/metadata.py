"""What every Result says beside its numbers: who made it, from which run, which artifacts."""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Mapping

from ...core.errors import AutoScorerError, ErrorCode
from ...core.provenance import current_attempt, current_flow_run, hostname, sha256_file, utc_now
from ...core.version import __version__
from ...core.workspace import Workspace
from ...schemas.result import Artifact, Resources, Result

__all__ = [
    "add_provenance",
    "take_run_facts",
    "timing_fields",
    "with_digest",
]


def add_provenance(result: Result) -> None:
    versioning = result.versioning
    versioning.autoscorer, versioning.timestamp, versioning.hostname = __version__, utc_now(), hostname()
    versioning.flow_run_id = current_flow_run.get()
    versioning.attempt = current_attempt.get()


def take_run_facts(space: Workspace, result: Result, *, always: bool = False) -> None:
    """Add what is known of the run, if these predictions are that run's: by sha256, not by belief."""
    try:
        info = json.loads((space.logs / "run_info.json").read_text(encoding="utf-8"))
        same = info["predictions_sha256"] is not None and (
            info["predictions_sha256"] == result.versioning.predictions_sha256
        )
        if not (same or always):
            result.notes.append("These predictions are not from the last run in this workspace: no image is known.")
            return
        image = info.get("image") or {}
        result.versioning.image = image.get("reference", result.versioning.image)
        result.versioning.image_digest = image.get("digest")
        result.versioning.input_sha256 = info.get("input_sha256")
        result.resources = Resources(**info["resources"])
        result.timing = result.timing.model_copy(
            update={
                "queue": info.get("queue_seconds"),
                "pull": info.get("pull_seconds"),
                "run": info.get("run_seconds"),
            }
        )
        result.notes.extend(note for note in info.get("notes", []) if note not in result.notes)
    except (OSError, ValueError, KeyError, TypeError):
        return  # no run of ours: predictions that came from elsewhere


def timing_fields(timing: Mapping[str, float | None]) -> dict[str, float | None]:
    return {"validate_" if key == "validate" else key: value for key, value in timing.items()}


def with_digest(space: Workspace, artifact: Artifact) -> Artifact:
    path = (space.root / artifact.path).resolve()
    if not path.is_relative_to(space.output.resolve()) or not path.is_file():
        raise AutoScorerError(
            ErrorCode.SCORER_ERROR,
            f"The scorer lists the artifact {artifact.path!r}, which is not a file under output/.",
        )
    media = artifact.media_type or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return artifact.model_copy(
        update={"size": path.stat().st_size, "sha256": sha256_file(path).hex(), "media_type": media}
    )
