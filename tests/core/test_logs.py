"""A process's log is lines for people or for programs, and libraries are in it only where they are asked for."""

from __future__ import annotations

import json
import subprocess
import sys

CODE = """
import logging, sys
from autoscorer.core.logs import log_to_stderr
log_to_stderr(as_json=sys.argv[1] == "json", also=["library"])
for name in ("autoscorer.x", "library.y", "asyncio", "other"):
    logging.getLogger(name).info("said\\nby %s", name, extra={"fields": {"task_id": "t1"}})
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("autoscorer").exception("it failed")
"""


def written(form: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", CODE, form], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_programs_get_one_json_object_a_line() -> None:
    records = [json.loads(line) for line in written("json")]
    assert [record["logger"] for record in records] == ["autoscorer.x", "library.y", "autoscorer"]
    assert records[0]["message"] == "said\nby autoscorer.x" and records[0]["level"] == "info"
    assert records[0]["task_id"] == "t1" and records[0]["time"].endswith("+00:00")
    assert "ZeroDivisionError" in records[2]["exception"]


def test_people_get_lines_with_the_fields_behind() -> None:
    lines = written("plain")
    assert lines[1] == "by autoscorer.x (task_id=t1)" and " info " in lines[0]
    assert lines[-1] == "ZeroDivisionError: division by zero"
