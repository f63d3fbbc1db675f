"""The commands of the API's client, and callbacks, against a live installation."""

from __future__ import annotations

import csv
import hashlib
import hmac
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ..support.installation import Installation
from ..support.prefect_server import eventually
from ..support.receiver import Receiver
from ..support.receiver import receiver as receiver

pytestmark = [pytest.mark.prefect, pytest.mark.slow]

Json = dict[str, Any]


def test_a_score_is_submitted_waited_for_and_told(installation: Installation, receiver: Receiver) -> None:
    receiver.statuses = [500, 200]
    workspace = installation.workspace("cli-score")
    told = ("--action", "score", "--wait", "--callback-url", receiver.url)
    code, answer, err = installation.command("submit", str(workspace), *told)
    assert code == 0, answer
    task = answer["data"]
    assert task["state"] == "completed" and task["result"]["summary"]["score"] == 1.0
    assert task["workspace"] == "cli-score" and str(installation.root) not in json.dumps(answer)
    assert f"task {task['id']}: completed" in err

    def delivered() -> Json | None:
        shown: Json = installation.command("status", task["id"])[1]["data"]
        return shown if shown["callback"]["state"] == "delivered" else None

    shown = eventually(delivered)
    assert shown["callback"]["attempts"] == 2
    (first, _), (headers, body) = receiver.requests
    assert first["x-autoscorer-delivery"] == headers["x-autoscorer-delivery"]
    secret = (installation.home / "callback-secret").read_bytes().strip()
    moment, mac = headers["x-autoscorer-signature"].removeprefix("t=").split(",v1=")
    assert mac == hmac.new(secret, moment.encode() + b"." + body, hashlib.sha256).hexdigest()
    envelope = json.loads(body)
    assert envelope["ok"] is True and envelope["data"]["id"] == headers["x-autoscorer-task"] == task["id"]
    assert envelope["data"]["result"] == task["result"]
    assert str(installation.root).encode() not in body and str(installation.home).encode() not in body


def test_a_model_that_fails_fails_the_command_and_its_log_says_why(installation: Installation) -> None:
    program = "print('about to fail', flush=True); raise SystemExit(4)"
    installation.workspace("cli-fails", pred="", container={"cmd": ["python", "-c", program]})
    code, answer, _ = installation.command("submit", "cli-fails", "--backend", "process", "--wait", role="admin")
    assert code == 1 and answer["error"]["code"] == "CONTAINER_FAILED", answer
    task_id = answer["error"]["details"]["task_id"]
    code, answer, _ = installation.command("logs", task_id, "--follow")
    assert code == 0 and answer["data"]["state"] == "failed"
    assert [each for each in answer["data"]["records"] if each["message"] == "about to fail"]
    code, answer, _ = installation.command("status", "--state", "failed", "--workspace", "cli-fails")
    assert code == 0 and [each["id"] for each in answer["data"]["tasks"]] == [task_id]


def test_ctrl_c_leaves_the_task_and_cancel_ends_it(installation: Installation) -> None:
    program = "import time; print('alive', flush=True); time.sleep(120)"
    installation.workspace("cli-long", pred="", container={"cmd": ["python", "-c", program]})
    waiting = installation.begin("submit", "cli-long", "--backend", "process", "--wait", role="admin")
    assert waiting.stderr is not None
    line = waiting.stderr.readline()
    task_id = line.split()[2].rstrip(":")
    following = installation.begin("logs", task_id, "--follow")
    assert following.stderr is not None
    while "│ alive" not in (line := following.stderr.readline()):
        assert line, "the log ended before the model spoke"
    waiting.send_signal(signal.SIGINT)
    out, _ = waiting.communicate(timeout=300)
    assert waiting.returncode == 1 and f"autoscorer cancel {task_id}" in json.loads(out)["error"]["message"]
    _, answer, _ = installation.command("status", task_id)
    assert answer["data"]["state"] == "running"
    # A second submit of it is the same task.
    _, answer, err = installation.command("submit", "cli-long", "--backend", "process", role="admin")
    assert answer["data"]["id"] == task_id and "submitted before" in err
    began = time.monotonic()
    code, answer, _ = installation.command("cancel", task_id)
    assert code == 0 and answer["data"]["state"] in ("cancelling", "cancelled")
    code, answer, _ = installation.command("status", task_id, "--watch")
    assert code == 1 and answer["error"]["code"] == "CANCELLED", answer
    assert time.monotonic() - began < 60
    out, _ = following.communicate(timeout=300)
    assert json.loads(out)["data"]["state"] == "cancelled"


def test_a_batch_ends_with_a_leaderboard(installation: Installation, tmp_path: Path) -> None:
    installation.workspace("cli-round/good")
    installation.workspace("cli-round/bad", pred="id,label\na,dog\nb,dog\nc,cat\n")
    installation.workspace("cli-round/broken", pred="id,label\na,dog\n")
    board = tmp_path / "board.csv"
    code, answer, _ = installation.command("batch", "cli-round", "--action", "score", "--csv", str(board))
    assert code == 0, answer
    rows = answer["data"]["leaderboard"]
    assert [row["workspace"] for row in rows] == ["cli-round/good", "cli-round/bad", "cli-round/broken"]
    assert answer["data"]["summary"]["completed"] == 2 and answer["data"]["summary"]["failed"] == 1
    with board.open(newline="") as file:
        assert [row["place"] for row in csv.DictReader(file)] == ["1", "2", ""]


def test_who_shows_no_token_is_told_so(installation: Installation) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "autoscorer", "status", "--api", installation.url],
        env={key: value for key, value in installation.person().items() if key != "AUTOSCORER_API_TOKEN"},
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == 2 and json.loads(done.stdout)["error"]["code"] == "UNAUTHORIZED"


def test_an_unknown_task_is_wrong_usage(installation: Installation) -> None:
    for name in ("status", "cancel", "logs"):
        code, answer, _ = installation.command(name, "no-such-task")
        assert code == 2 and answer["error"]["code"] == "NOT_FOUND"
