"""The two reports of a Result: the complete one, and that of those who may not see the ground truth."""

from __future__ import annotations

from ...core.config import Settings
from ...core.disclosed import WITHHELD_ERROR, disclosed_result
from ...core.workspace import Workspace
from ...core.workspace_names import name_below
from ...schemas.result import Result

__all__ = ["write_reports"]


def write_reports(space: Workspace, result: Result, settings: Settings) -> None:
    """Write both reports, and list them in the Result.

    Args:
        space: The workspace.
        result: As complete as it will be; its artifacts and those it discloses are measured.
        settings: The configuration.
    """
    from ...scorers.report.report import write_report, write_shared_report

    language, name = settings.scorers.report_language, name_below(space.root, settings.workspace_roots)
    shown = Result.model_validate(disclosed_result(result.to_dict(), settings.security.disclosure.digits))
    shown.artifacts = dict(result.disclosed.artifacts)
    if result.error is not None:
        # Its message may quote the ground truth; whether it does is judged where the task's error is answered.
        shown.error = result.error.model_copy(update={"message": WITHHELD_ERROR, "details": {}})
    result.disclosed.artifacts["report"] = write_shared_report(shown, space.root, language=language, name=name)
    result.artifacts["report"] = write_report(result, space.root, language=language, name=name)
