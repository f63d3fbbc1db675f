"""Errors and Results say who and what to do: whose port it is, where the token goes, that nothing was sealed."""

from __future__ import annotations

import getpass
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from autoscorer.cli.main import main

from ..support.installation import Installation
from ..support.workspaces import predicting, result_of
from ..system.test_up import up


@pytest.mark.prefect
def test_a_second_up_on_the_same_ports_says_whose_they_are(installation: Installation, tmp_path: Path) -> None:
    port = installation.url.rpartition(":")[2]
    code, envelope, _ = up(tmp_path / "another", "--api-port", port, "--prefect-port", "0")
    error = envelope["error"]
    assert code == 2 and error["code"] == "CONFLICT"
    assert "AutoScorer already runs" in error["message"] and str(installation.home) in error["message"]
    assert getpass.getuser() in error["message"] and error["details"]["since"] in error["message"]
    code, envelope, _ = up(installation.home, "--api-port", port)
    error = envelope["error"]
    assert code == 2 and "is running already" in error["message"]
    assert error["details"]["since"] in error["message"] and f"user {getpass.getuser()}" in error["message"]


@pytest.mark.prefect
def test_a_port_of_somebody_elses_is_called_so(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        code, envelope, _ = up(home, "--api-port", port, "--prefect-port", "0")
    assert code == 2 and f"(process {os.getpid()} of the user" in envelope["error"]["message"]


class _Refuses(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        given = self.headers["authorization"] is not None
        details = {"token_was_given": True} if given else {}
        error = {"code": "UNAUTHORIZED", "message": "No.", "stage": "api", "details": details}
        body = json.dumps({"ok": False, "error": error, "meta": {}}).encode()
        self.send_response(401)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.mark.parametrize(("token", "told"), [(None, "is not set"), ("wrong", "holds another one")])
def test_an_api_that_wants_a_token_is_told_where_it_goes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], token: str | None, told: str
) -> None:
    with HTTPServer(("127.0.0.1", 0), _Refuses) as api:
        threading.Thread(target=api.serve_forever, daemon=True).start()
        monkeypatch.setenv("AUTOSCORER_API_URL", f"http://127.0.0.1:{api.server_port}")
        if token is not None:
            monkeypatch.setenv("AUTOSCORER_API_TOKEN", token)
        assert main(["status"]) == 2
        api.shutdown()
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "UNAUTHORIZED" and "AUTOSCORER_API_TOKEN" in error["message"] and told in error["message"]


def test_a_result_of_an_unsealed_run_says_so_everywhere(make_workspace: Callable[..., Path]) -> None:
    truth = "id,label\na,cat\n"
    root = make_workspace("open", truth=truth, container={"cmd": ["python", "-c", predicting(truth)]})
    command = [sys.executable, "-m", "autoscorer", "pipeline", str(root), "--backend", "process"]
    done = subprocess.run(
        ["script", "-qec", " ".join(command), "/dev/null"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0 and "note: Run without isolation" in done.stdout, done.stdout
    result = result_of(root)
    assert sum("without isolation" in note for note in result["notes"]) == 1
    assert any("without isolation" in note for note in result["disclosed"]["notes"])
    assert "without isolation" in (root / "output" / "artifacts" / "report.html").read_text()
    # Scored anew, the predictions are still that run's.
    assert main(["score", str(root)]) == 0
    result = result_of(root)
    assert sum("without isolation" in note for note in result["notes"]) == 1
