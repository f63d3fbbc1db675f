"""Scorers and uploads on a live installation: what one process loads is what the others score with at once."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from ..api.test_api_scorers import write
from ..support.calls import call
from ..support.installation import Installation
from ..support.prefect_server import eventually

pytestmark = [pytest.mark.prefect, pytest.mark.slow]


def scored(installation: Installation, workspace: str, scorer: str) -> dict[str, Any]:
    wanted = {"workspace": workspace, "scorer": scorer}
    status, body = installation.call("POST", "/score", wanted, role="admin", timeout=200)
    assert body["ok"], body
    assert status == 200, body
    result: dict[str, Any] = body["data"]["result"]
    return result


def test_a_scorer_that_is_loaded_or_watched_scores_at_once(installation: Installation, tmp_path: Path) -> None:
    installation.workspace("live-ws")
    file = write(tmp_path / "scorers" / "live.py", "live_one", value=0.25)
    assert installation.call("POST", "/scorers/load", {"path": str(file)})[0] == 403
    status, body = installation.call("POST", "/scorers/load", {"path": str(file)}, role="admin")
    assert status == 200, body
    first = scored(installation, "live-ws", "live_one")
    assert first["summary"]["score"] == 0.25

    write(file, "live_one", value=0.75, version="2.0.0")
    second = scored(installation, "live-ws", "live_one")
    assert (second["summary"]["score"], second["versioning"]["scorer_version"]) == (0.75, "2.0.0")
    assert second["versioning"]["scorer_sha256"] != first["versioning"]["scorer_sha256"]

    file.write_text("def (:")
    third = scored(installation, "live-ws", "live_one")
    assert third["versioning"]["scorer_sha256"] == second["versioning"]["scorer_sha256"]

    folder = tmp_path / "watched"
    folder.mkdir()
    status, _ = installation.call("POST", "/scorers/watch", {"path": str(folder)}, role="admin")
    assert status == 200
    write(folder / "late.py", "live_late", value=0.5)
    eventually(lambda: installation.call("GET", "/scorers/live_late")[0] == 200)
    assert scored(installation, "live-ws", "live_late")["summary"]["score"] == 0.5
    for path in (folder, file):
        assert installation.call("DELETE", "/scorers/watch", {"path": str(path)}, role="admin")[0] == 200
    # Followed no more, both stay loaded as they last did, and runs have them, until they are unloaded.
    write(folder / "late.py", "live_late", value=0.75)
    assert scored(installation, "live-ws", "live_late")["summary"]["score"] == 0.5
    for scorer_id in ("live_late", "live_one"):
        assert installation.call("DELETE", f"/scorers/{scorer_id}", role="admin")[0] == 200
        assert installation.call("GET", f"/scorers/{scorer_id}")[0] == 404


def test_an_uploaded_workspace_is_scored(installation: Installation) -> None:
    files = {
        "meta.json": json.dumps({"task_type": "classification", "scorer": "classification_f1"}),
        "input/gt.csv": "id,label\na,1\nb,0\n",
        "output/pred.csv": "id,label\na,1\nb,0\n",
    }
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        for name, text in files.items():
            packed.writestr(name, text)
    body = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="uploaded-live.zip"\r\n\r\n'
        + archive.getvalue()
        + b"\r\n--b--\r\n"
    )
    answer = call(
        installation.url + "/workspaces",
        "POST",
        body,
        token=installation.token("submit"),
        headers={"Content-Type": "multipart/form-data; boundary=b"},
    )
    assert answer.status == 201, answer
    assert scored(installation, "uploaded-live", "classification_f1")["summary"]["score"] == 1.0
    status, body_of_result = installation.call("GET", "/result?workspace=uploaded-live")
    assert status == 200 and body_of_result["data"]["summary"]["score"] == 1.0
