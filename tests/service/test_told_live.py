"""What is told of a log on its way through Prefect and the API: whose line it is, and how many are missing."""

from __future__ import annotations

from typing import Any

import pytest
from autoscorer.cli.logs import _line
from autoscorer.flows.batches.pool import member_names

from ..support.installation import Installation
from ..support.prefect_server import eventually
from ..support.terminal import in_terminal
from ..support.workspaces import TRUTH, predicting

Json = dict[str, Any]


def test_members_of_a_batch_have_names_of_their_own() -> None:
    assert member_names(["/data/r/team-a", "/data/r/team-b"]) == {
        "/data/r/team-a": "team-a",
        "/data/r/team-b": "team-b",
    }
    assert list(member_names(["/data/a/ws", "/data/b/ws"]).values()) == ["a/ws", "b/ws"]
    assert list(member_names(["/data/only"]).values()) == ["only"]
    strange = member_names(["/d/[x]", "/d/(x)", "/d/a\nmodel | b", "/d/" + "long" * 100])
    assert len(set(strange.values())) == 4
    assert not any(set("[]\n") & set(name) or len(name) > 210 for name in strange.values())
    assert member_names([]) == {}


def _make(installation: Installation, name: str, lines: int, what: str) -> None:
    program = f"for n in range({lines}): print('{what}', n)\n" + predicting(TRUTH)
    installation.workspace(name, pred="", container={"cmd": ["python", "-c", program]})


def _told(records: list[Json], what: str, whole: int) -> int:
    """Whether every line of ``what`` is told or counted where it is missing; how many are counted."""
    position = missing = 0
    for record in records:
        if record["left_out"]:
            position += record["left_out"]
            missing += record["left_out"]
        elif record["message"].startswith("[the last "):
            back = int(record["message"].split()[2].replace(",", ""))
            position, missing = position - back, missing - back
        elif record["source"] == "model":
            assert record["message"] == f"{what} {position}"
            position += 1
    assert position == whole
    return missing


@pytest.mark.prefect
@pytest.mark.slow
def test_a_log_of_thousands_of_lines_says_how_many_are_missing(installation: Installation) -> None:
    _make(installation, "told-many", 2680, "line")
    code, answer, _ = installation.command(
        "submit", "told-many", "--action", "run", "--backend", "process", "--wait", role="admin"
    )
    task_id = answer["data"]["id"] if code == 0 else answer["error"]["details"]["task_id"]

    def records(role: str) -> list[Json]:
        found: list[Json] = installation.command("logs", task_id, role=role)[1]["data"]["records"]
        return found if any("line 2679" in record["message"] for record in found) else []

    assert _told(eventually(lambda: records("admin")), "line", 2680) > 1000
    # Who submitted it is told the same of the model's log.
    assert _told([each for each in records("submit") if each["source"] == "model"], "line", 2680) > 1000


@pytest.mark.prefect
@pytest.mark.slow
def test_each_line_of_a_batch_says_whose_it_is_and_its_bar_is_full(installation: Installation) -> None:
    for name in ("ada", "bob"):
        _make(installation, f"told-batch/{name}", 400, name)
    arguments = ("batch", "told-batch", "--backend", "process", "--wait")
    _, text = in_terminal(*arguments, environment=installation.person("admin"))
    bars = [line for line in text.replace("\r", "\n").split("\n") if "/2" in line]
    assert bars and "2/2" in bars[-1], text[-3000:]

    tasks = installation.command("status", "--limit", "50", role="admin")[1]["data"]["tasks"]
    (task,) = [each for each in tasks if each["workspaces"] == ["told-batch"]]

    def records() -> list[Json]:
        found: list[Json] = installation.command("logs", task["id"], role="admin")[1]["data"]["records"]
        ends = {record["message"] for record in found}
        return found if {"ada 399", "bob 399"} <= ends else []

    told = eventually(records)
    assert {record["workspace"] for record in told if record["source"] == "model"} == {"ada", "bob"}
    for name in ("ada", "bob"):
        mine = [record for record in told if record["workspace"] == name]
        assert _told(mine, name, 400) < 400
        assert any(record["message"].startswith("stage run") for record in mine)
        assert any(record["message"].startswith("Finished in state") for record in mine)
    own = [record["message"] for record in told if record["workspace"] is None]
    assert own and all("stage" not in message for message in own), own
    assert any(_line(record).endswith("  ada  │ ada 399".lstrip()) for record in told)
