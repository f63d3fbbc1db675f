"""The reports that a scored workspace has: which title they bear."""

from __future__ import annotations

from pathlib import Path

import pytest
from autoscorer.core.config import load_settings
from autoscorer.tasks.score import score_workspace

from ..support.workspaces import write_workspace

TABLE = "id,label\na,x\nb,y\n"


def test_the_title_is_the_workspaces_name_below_its_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOSCORER_WORKSPACE_ROOTS", str(tmp_path))
    for name in ("round-1/task", "round-2/task"):
        folder = write_workspace(tmp_path, name, truth=TABLE, pred=TABLE)
        assert score_workspace(folder, settings=load_settings()).error is None
        for report in ("report.html", "shared/report.html"):
            assert f"<title>{name} · " in (folder / "output" / "artifacts" / report).read_text()


def test_of_a_workspace_elsewhere_no_path_of_the_host_is_told(tmp_path: Path) -> None:
    folder = write_workspace(tmp_path, "there/task", truth=TABLE, pred=TABLE)
    score_workspace(folder, settings=load_settings())
    page = (folder / "output" / "artifacts" / "report.html").read_text()
    assert "<title>task · " in page and "there/" not in page and str(tmp_path) not in page
