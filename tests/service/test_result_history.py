"""Reading what a workspace came to, today and before: on the command line without a service, and over HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from autoscorer.cli.main import main
from autoscorer.core.config import Settings
from autoscorer.service.ledger.ledger import Ledger
from autoscorer.service.ledger.records import NewTask
from autoscorer.service.policy import SEVERAL
from autoscorer.tasks.score import score_workspace

from ..support.facade import ADMIN, SUBMIT, Facade, facade, facade_settings
from ..support.ledger import new
from ..support.terminal import in_terminal
from ..support.workspaces import result_of

Made = Callable[..., Path]
TRUTH = "id,label\n" + "".join(f"r{n},{'cat' if n % 3 else 'dog'}\n" for n in range(30))


def predictions(wrong: int) -> str:
    rows = TRUTH.splitlines()[1:]
    return "id,label\n" + "".join(
        f"{row.split(',')[0]},{'bird' if n < wrong else row.split(',')[1]}\n" for n, row in enumerate(rows)
    )


@pytest.fixture
def three(make_workspace: Made, settings: Settings) -> Path:
    """A workspace that was scored twice, and then could not be."""
    root = make_workspace(truth=TRUTH, pred=predictions(7), params={"pass_threshold": 0.9})
    for wrong in (7, 0):
        (root / "output" / "pred.csv").write_text(predictions(wrong))
        assert score_workspace(root, settings=settings).error is None
    (root / "output" / "pred.csv").write_text("id,label\nr1,cat\n")
    assert score_workspace(root, settings=settings).error is not None
    return root


def asked(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    code = main([*arguments, "--json"])
    told = json.loads(capsys.readouterr().out)
    return code, told.get("data", told.get("error"))


def test_the_history_is_told_newest_first_with_what_each_came_to(three: Path, capsys: Any) -> None:
    code, told = asked(capsys, "result", str(three), "--history")
    assert code == 0 and told["workspace"] == "ws"
    assert [(each["error"], each["pass"], each["stands"]) for each in told["results"]] == [
        ("MISMATCH", None, True),
        (None, True, False),
        (None, False, False),
    ]
    assert [each["score"] for each in told["results"][:2]] == [None, 1.0]
    assert {each["metric"] for each in told["results"][1:]} == {"f1_macro"}
    assert {each["scorer"] for each in told["results"]} == {"classification_f1"}
    # One of them whole, by its id; and the one that stands keeps its id when it goes into the history.
    code, whole = asked(capsys, "result", str(three), "--id", told["results"][1]["id"])
    assert code == 0 and whole["summary"]["score"] == 1.0
    (three / "output" / "pred.csv").write_text(predictions(0))
    asked(capsys, "score", str(three))
    _, later = asked(capsys, "result", str(three), "--history")
    assert [each["id"] for each in later["results"]][1:] == [each["id"] for each in told["results"]]
    assert asked(capsys, "result", str(three), "--id", "../../input/gt")[1]["code"] == "NOT_FOUND"
    assert asked(capsys, "result", str(three), "--id", "x", "--history")[1]["code"] == "INVALID_REQUEST"


def test_the_standing_result_is_shown_as_score_shows_it(three: Path, capsys: Any) -> None:
    code, told = asked(capsys, "result", str(three))
    assert code == 0 and told == result_of(three)
    assert told["error"]["code"] == "MISMATCH"
    (three / "output" / "pred.csv").write_text(predictions(0))
    code, scored = asked(capsys, "score", str(three))
    assert asked(capsys, "result", str(three)) == (0, scored)


def test_without_a_result_the_command_says_so(make_workspace: Made, capsys: Any, tmp_path: Path) -> None:
    root = make_workspace()
    code, error = asked(capsys, "result", str(root))
    assert (code, error["code"]) == (2, "NOT_FOUND")
    assert asked(capsys, "result", str(root), "--history") == (0, {"workspace": "ws", "results": []})
    (root / "output").mkdir()
    (root / "output" / "result.json").write_text("{")
    assert asked(capsys, "result", str(root))[1]["code"] == "BAD_FORMAT"
    _, told = asked(capsys, "result", str(root), "--history")
    assert [each["error"] for each in told["results"]] == ["BAD_FORMAT"]
    assert asked(capsys, "result", str(tmp_path / "nowhere"))[1]["code"] == "WORKSPACE_NOT_FOUND"


def test_a_person_sees_a_table_and_a_readable_error(three: Path) -> None:
    code, shown = in_terminal("result", str(three), "--history", columns=160)
    assert (
        code == 0 and "MISMATCH" in shown and "f1_macro" in shown and "(stands)" in shown and "Traceback" not in shown
    )
    code, shown = in_terminal("result", str(three), columns=160)
    assert code == 0 and "MISMATCH (scoring)" in shown and "report.html" in shown


def test_it_needs_no_service_and_no_prefect(three: Path) -> None:
    code = (
        "import sys; from autoscorer.cli.main import main; main(['result', sys.argv[1]]); "
        "assert 'prefect' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(three)], check=True, capture_output=True)


# --- over HTTP -------------------------------------------------------------------------------------------------------


@pytest.fixture
def api(three: Path) -> Any:
    with facade(facade_settings(three.parent)) as one:
        yield one


def test_over_http_the_history_is_paged_and_each_result_can_be_read(api: Facade, three: Path) -> None:
    seen: list[dict[str, Any]] = []
    cursor = ""
    for _ in range(3):
        page = api.call("GET", f"/workspaces/ws/history?limit=1{cursor}", token=ADMIN).data
        assert page["total"] == 3
        seen += page["results"]
        cursor = f"&cursor={page['next_cursor']}"
    assert page["next_cursor"] is None
    assert [each["error"] for each in seen] == ["MISMATCH", None, None]
    for each in seen:
        whole = api.call("GET", f"/workspaces/ws/history/{each['id']}", token=ADMIN).data
        assert whole["summary"]["score"] == each["score"]
    kept = {json.loads(path.read_text())["summary"]["score"] for path in (three / "output/history").iterdir()}
    assert {each["score"] for each in seen} == {None, *kept}
    for path, code in (
        ("/workspaces/ws/history?cursor=x", "INVALID_REQUEST"),
        ("/workspaces/ws/history/20200101T000000.000000Z", "NOT_FOUND"),
        ("/workspaces/nobody/history", "WORKSPACE_NOT_FOUND"),
        ("/workspaces/ws/history/..%2F..%2Finput%2Fgt.csv", "NOT_FOUND"),
    ):
        assert api.call("GET", path, token=ADMIN).error["code"] in (code, "WORKSPACE_NOT_FOUND"), path


def test_each_result_says_its_interval_and_what_it_took_to_pass(api: Facade) -> None:
    failed, best, first = api.call("GET", "/workspaces/ws/history", token=ADMIN).data["results"]
    assert first["low"] < first["score"] < first["high"] and first["pass_threshold"] == 0.9
    whole = api.call("GET", f"/workspaces/ws/history/{best['id']}", token=ADMIN).data
    interval = whole["intervals"]["f1_macro"]
    assert (best["low"], best["high"]) == (interval["low"], interval["high"])
    assert (failed["low"], failed["high"]) == (None, None)
    shown = api.call("GET", "/workspaces/ws/history", token=SUBMIT).data["results"][2]
    assert shown["low"] == float(f"{first['low']:.4g}") and shown["high"] == float(f"{first['high']:.4g}")


def test_what_changed_beside_the_predictions_is_told_with_the_result_that_it_changed_for(
    api: Facade, three: Path, settings: Settings
) -> None:
    def changes() -> list[list[str]]:
        return [each["changed"] for each in api.call("GET", "/workspaces/ws/history", token=ADMIN).data["results"]]

    assert changes() == [[], [], []]
    (three / "output" / "pred.csv").write_text(predictions(0))
    (three / "input" / "gt.csv").write_text(TRUTH.replace("r1,cat", "r1,dog"))
    score_workspace(three, settings=settings)
    meta = json.loads((three / "meta.json").read_text())
    (three / "meta.json").write_text(json.dumps({**meta, "params": {"pass_threshold": 0.5}}))
    score_workspace(three, settings=settings)
    score_workspace(three, settings=settings, scorer="classification_accuracy")
    # Another scorer has other params.
    assert changes()[:4] == [["scorer", "params"], ["params"], ["truth"], []]
    # Where a page ends makes no difference.
    one = api.call("GET", "/workspaces/ws/history?limit=1", token=ADMIN).data["results"][0]
    assert one["changed"] == ["scorer", "params"]
    # A submitter learns that the truth changed, and not its digest, which could be tried out.
    third = api.call("GET", "/workspaces/ws/history", token=SUBMIT)
    assert third.data["results"][2]["changed"] == ["truth"] and b"sha256" not in third.body


def test_the_task_that_made_a_result_is_named_to_those_who_may_see_it(api: Facade, three: Path) -> None:
    made = [
        new(str(three), origin="prefect", flow_run_id="own"),
        new(str(three), origin="prefect", flow_run_id="other"),
    ]
    # As of a batch over submissions of several benchmarks.
    made[1] = replace(made[1], benchmark=SEVERAL)
    asyncio.run_coroutine_threadsafe(_adopt(api.state.tasks.ledger, made), api.state.loop).result(300)
    files = sorted((three / "output" / "history").iterdir())
    for file, flow_run in zip(files, ("own", "other"), strict=True):
        result = json.loads(file.read_text())
        result["versioning"]["flow_run_id"] = flow_run
        file.write_text(json.dumps(result))

    def named(token: str) -> list[str | None]:
        return [each["task_id"] for each in api.call("GET", "/workspaces/ws/history", token=token).data["results"]]

    assert named(ADMIN) == [None, made[1].id, made[0].id]
    assert named(SUBMIT) == [None, None, made[0].id]


async def _adopt(ledger: Ledger, made: list[NewTask]) -> None:
    assert len(await ledger.adopt(made)) == len(made)


def test_a_submitter_is_shown_rounded_scores_and_no_ground_truth(api: Facade, three: Path) -> None:
    page = api.call("GET", "/workspaces/ws/history", token=SUBMIT).data
    exact = api.call("GET", "/workspaces/ws/history", token=ADMIN).data
    for shown, true in zip(page["results"], exact["results"], strict=True):
        assert shown["score"] == (None if true["score"] is None else float(f"{true['score']:.4g}"))
        whole = api.call("GET", f"/workspaces/ws/history/{shown['id']}", token=SUBMIT).data
        assert whole["versioning"]["ground_truth_sha256"] is None
        assert "errors" not in whole["artifacts"]
        # The report is the one that is made for them: another file than an administrator's, without the truth.
        own = api.call("GET", f"/workspaces/ws/history/{true['id']}", token=ADMIN).data["artifacts"]
        digest = whole["artifacts"]["report"]["sha256"]
        assert digest != own["report"]["sha256"]
        shared = (three / ".autoscorer" / "artifacts" / digest).read_bytes()
        assert hashlib.sha256(shared).hexdigest() == digest
        assert not re.search(rb"\br\d+\b", shared)
    assert api.call("GET", "/workspaces/ws/history").error["code"] == "UNAUTHORIZED"


def test_a_link_in_the_place_of_the_history_leads_nowhere(api: Facade, three: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    (three / "output" / "history").rename(other)
    os.symlink(other, three / "output" / "history")
    assert len(api.call("GET", "/workspaces/ws/history", token=ADMIN).data["results"]) == 1


def test_a_workspace_that_is_called_history_is_still_found(api: Facade, three: Path) -> None:
    folder = three.parent / "round" / "history"
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text(json.dumps({"task_type": "classification", "scorer": "classification_f1"}))
    assert api.call("GET", "/workspaces/round/history", token=ADMIN).data["name"] == "round/history"
