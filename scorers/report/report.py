"""report.html: one file that shows a Result to a person, opens offline and runs nothing.

No script, no request: styles and pictures are inside, and a content security policy says that nothing else may
be loaded. Whatever a submission named (labels, metrics, files, log lines) is escaped; a picture is embedded as an
image, in which a browser runs nothing either.

The page is there in every language (``words``), one after the other, and shows the one that is chosen: by radio
buttons, which styles alone can ask. Those who may not see the ground truth have a page of their own, of what they may
have of the Result (``write_shared_report``).
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from ...core.workspace import ArtifactWriter
from ...schemas.result import Artifact, Result
from ..translation.words import LANGUAGES, Language, ReportLanguage
from . import files as report_files
from . import sections as report_sections
from .html import label, text

__all__ = ["render_report", "write_report", "write_shared_report"]

_FILE = "report.html"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def render_report(
    result: Result,
    workspace: Path,
    *,
    language: ReportLanguage = "en",
    name: str | None = None,
    shared: bool = False,
) -> str:
    """Render a Result as one self-contained HTML page.

    Args:
        result: What to show; with ``error`` set, the page says why there is no score.
        workspace: Its workspace: plots and errors.csv are read from ``output/artifacts/`` when the Result names
            them; a file that is missing, too large or not a plain file is left out.
        language: Which one is shown first.
        name: What the service calls the workspace: the title, where meta.json names the job no other way.
        shared: Whether it is for those who may not see the ground truth: ``result`` is what they may have of it.

    Returns:
        HTML. Links are relative to ``output/artifacts/``.
    """
    first = LANGUAGES[language]
    folder = workspace.resolve().name
    job = result.job_id or folder
    if name is not None and job == folder:
        job = name  # many workspaces may have a folder of that name
    picks = "".join(
        f'<input type="radio" name="lang" class="pick" id="in-{key}" aria-label="{each.name}"'
        f"{' checked' if each is first else ''}>"
        for key, each in LANGUAGES.items()
    )
    names = "".join(f'<label for="in-{key}" lang="{each.code}">{each.name}</label>' for key, each in LANGUAGES.items())
    return (
        f'<!doctype html>\n<html lang="{first.code}">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        # Without it, a browser would ask the server for /favicon.ico.
        '<link rel="icon" href="data:,">\n'
        f"<title>{text(job)} · {text(report_sections.page_title(result, first))}</title>\n"
        f"<style>\n{_style()}</style>\n</head>\n"
        f'<body>{picks}<div class="langs">{names}</div>\n'
        + "".join(_page(result, job, workspace, each, shared=shared) for each in LANGUAGES.values())
        + "</body>\n</html>\n"
    )


def _page(result: Result, job: str, workspace: Path, say: Language, *, shared: bool) -> str:
    """The page in one language."""
    artifacts = {name: item for name, item in result.artifacts.items() if not item.path.endswith(f"/{_FILE}")}
    sections = [
        report_sections.failure(result, say) if result.error else report_sections.hero(result, say),
        report_sections.notes(result, say),
        report_sections.metrics(result, say),
        report_files.figures(artifacts, workspace, say),
        report_files.errors(artifacts, workspace, say),
        _pair(report_sections.timing(result, say), report_sections.resources(result, say)),
        report_files.listing(artifacts, workspace, say),
        report_sections.provenance(result, say),
    ]
    if shared:
        end = say("Rounded for reading. This is the report for those who may not see the ground truth.")
    else:
        whole = '<a href="../result.json">result.json</a>'
        end = say("Rounded for reading; {link} holds every number in full.", link=whole)
    return (
        f'<div class="wrap" lang="{say.code}">\n<header><p class="brand">{say("AutoScorer report")}</p>\n'
        f"<h1>{label(job, say=say)}</h1>\n{report_sections.chips(result, say)}</header>\n<main>\n"
        + "\n".join(section for section in sections if section)
        + f"\n</main>\n<footer>{end}</footer>\n</div>\n"
    )


def write_report(
    result: Result, workspace: Path, *, language: ReportLanguage = "en", name: str | None = None
) -> Artifact:
    """Render the report and write it to ``output/artifacts/report.html``, whole or not at all.

    Args:
        result: As for ``render_report``, as complete as it will be: what is added later is not in the page.
        workspace: Its workspace.
        language: Which one is shown first.
        name: As for ``render_report``.

    Returns:
        The artifact, measured; add it to the Result under the name ``report``.
    """
    page = render_report(result, workspace, language=language, name=name).encode()
    writer = ArtifactWriter(workspace)
    writer.write("report", _FILE, page)
    return _measured(writer.artifacts["report"], page)


def write_shared_report(
    shown: Result, workspace: Path, *, language: ReportLanguage = "en", name: str | None = None
) -> Artifact:
    """Write the report of those who may not see the ground truth to ``output/artifacts/shared/report.html``.

    Args:
        shown: What they may have of a Result (``core.disclosed``), its artifacts being the shared ones.
        workspace: Its workspace.
        language: Which one is shown first.
        name: As for ``render_report``.

    Returns:
        The artifact, measured; add it to what the Result discloses under the name ``report``.
    """
    page = render_report(shown, workspace, language=language, name=name, shared=True).encode()
    writer = ArtifactWriter(workspace)
    writer.share("report", _FILE, page)
    return _measured(writer.shared["report"], page)


def _measured(artifact: Artifact, page: bytes) -> Artifact:
    return artifact.model_copy(update={"size": len(page), "sha256": hashlib.sha256(page).hexdigest()})


def _pair(*sections: str) -> str:
    there = [section for section in sections if section]
    return f'<div class="pair">{"".join(there)}</div>' if there else ""


@cache
def _style() -> str:
    return Path(__file__).with_name("report.css").read_text(encoding="utf-8")
