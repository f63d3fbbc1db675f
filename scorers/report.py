"""report.html: one file that shows a Result to a person, opens offline and runs nothing.

No script, no request: styles and pictures are inside, and a content security policy says that nothing else may
be loaded. Whatever a submission named (labels, metrics, files, log lines) is escaped; a picture is embedded as an
image, in which a browser runs nothing either.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from ..core.workspace import ArtifactWriter
from ..schemas.result import Artifact, Result
from . import report_files, report_sections
from .report_html import label, text

__all__ = ["render_report", "write_report"]

_FILE = "report.html"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def render_report(result: Result, workspace: Path) -> str:
    """Render a Result as one self-contained HTML page.

    Args:
        result: What to show; with ``error`` set, the page says why there is no score.
        workspace: Its workspace: plots and errors.csv are read from ``output/artifacts/`` when the Result names
            them; a file that is missing, too large or not a plain file is left out.

    Returns:
        HTML. Links are relative to ``output/artifacts/``.
    """
    artifacts = {name: item for name, item in result.artifacts.items() if not item.path.endswith(f"/{_FILE}")}
    sections = [
        report_sections.failure(result) if result.error else report_sections.hero(result),
        report_sections.notes(result),
        report_sections.metrics(result),
        report_files.figures(artifacts, workspace),
        report_files.errors(artifacts, workspace),
        _pair(report_sections.timing(result), report_sections.resources(result)),
        report_files.listing(artifacts, workspace),
        report_sections.provenance(result),
    ]
    job = result.job_id or workspace.resolve().name
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        # Without it, a browser would ask the server for /favicon.ico.
        '<link rel="icon" href="data:,">\n'
        f"<title>{text(job)} · {text(report_sections.headline(result))}</title>\n<style>\n{_style()}</style>\n</head>\n"
        f'<body><div class="wrap">\n<header><p class="brand">AutoScorer report</p>\n<h1>{label(job)}</h1>\n'
        f"{report_sections.chips(result)}</header>\n<main>\n"
        + "\n".join(section for section in sections if section)
        + '\n</main>\n<footer>Rounded for reading; <a href="../result.json">result.json</a> holds every number '
        "in full.</footer>\n</div></body>\n</html>\n"
    )


def write_report(result: Result, workspace: Path) -> Artifact:
    """Render the report and write it to ``output/artifacts/report.html``, whole or not at all.

    Args:
        result: As for ``render_report``, as complete as it will be: what is added later is not in the page.
        workspace: Its workspace.

    Returns:
        The artifact, measured; add it to the Result under the name ``report``.
    """
    page = render_report(result, workspace).encode()
    writer = ArtifactWriter(workspace)
    writer.write("report", _FILE, page)
    return writer.artifacts["report"].model_copy(update={"size": len(page), "sha256": hashlib.sha256(page).hexdigest()})


def _pair(*sections: str) -> str:
    there = [section for section in sections if section]
    return f'<div class="pair">{"".join(there)}</div>' if there else ""


@cache
def _style() -> str:
    return Path(__file__).with_name("report.css").read_text(encoding="utf-8")
