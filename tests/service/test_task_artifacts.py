"""Artifacts belong to a task: whoever opens an old record sees that run's files or is told that they are gone."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from autoscorer.core.config import Settings
from autoscorer.core.errors import AutoScorerError, ErrorCode
from autoscorer.schemas.result import Result
from autoscorer.schemas.task import TaskView
from autoscorer.service.links import KEY_FILE, SignedLinks
from autoscorer.service.policy import Caller, Subject
from autoscorer.service.task_artifacts import list_task_artifacts
from autoscorer.service.workspaces.history import list_history, past_result
from autoscorer.service.workspaces.roots import WorkspaceRoots
from autoscorer.tasks.score import score_workspace
from pydantic import SecretStr

from ..docs.test_examples import EXAMPLES, run_model, stage
from ..support.browser import Browser
from ..support.browser import browser as browser
from ..support.calls import Answer, call
from ..support.installation import Installation
from ..support.local_api import LocalApi, serve_locally
from ..support.prefect_server import eventually
from ..support.records_page import visit
from ..support.workspaces import result_of, write_workspace

pytestmark = pytest.mark.slow  # all together; each is quick

TRUTH = "id,label\n" + "".join(f"r{n},{'cat' if n % 3 else 'dog'}\n" for n in range(60))
ADMIN, SUBMIT = "admin-token-of-the-tests", "submit-token-of-the-tests"
ASKS = {"admin": {"Authorization": f"Bearer {ADMIN}"}, "submit": {"Authorization": f"Bearer {SUBMIT}"}}
PAGE = {"Accept": "text/html,application/xhtml+xml"}


def predictions(wrong: int) -> str:
    lines = TRUTH.splitlines(keepends=True)
    return lines[0] + "".join(
        f"{line.split(',')[0]},{'bird' if n < wrong else 'cat'}\n" for n, line in enumerate(lines[1:])
    )


def holds_no_truth(text: str) -> bool:
    """Whether a text names no row of the ground truth."""
    return not re.search(r"\br\d+\b", text)


def workspace(root: Path, name: str = "team") -> Path:
    folder = write_workspace(root, name, truth=TRUTH, pred=None)
    (folder / "output").mkdir()
    return folder


@pytest.fixture
def api(tmp_path: Path, home: Path) -> Iterator[LocalApi]:
    root = tmp_path / "round"
    root.mkdir()
    settings = Settings(workspace_roots=(root,), home=home, api_tokens=SecretStr(f"submit:{SUBMIT},admin:{ADMIN}"))
    with pytest.MonkeyPatch.context() as patch, serve_locally(settings, patch) as served:
        yield served


@pytest.fixture
def root(api: LocalApi) -> Path:
    return api.settings.workspace_roots[0]


def task(api: LocalApi, folder: Path, task_id: str, result: Result, *, action: str = "score") -> TaskView:
    """A task that ended in this Result, as the ledger has it."""
    name = folder.relative_to(api.settings.workspace_roots[0]).as_posix()
    view = TaskView(
        id=task_id, action=action, workspace=name, state="completed", created_at="now", result=result.to_dict()
    )  # type: ignore[arg-type]
    api.tasks.tasks[task_id] = view
    return view


def scored(api: LocalApi, folder: Path, task_id: str, wrong: int) -> TaskView:
    (folder / "output" / "pred.csv").write_text(predictions(wrong))
    return task(api, folder, task_id, score_workspace(folder, settings=api.settings))


def links_of(html: str) -> list[str]:
    return [each for each in re.findall(r'<a [^>]*?href="([^"]+)"', html) if not each.startswith(("#", "data:"))]


# --- of a task ------------------------------------------------------------------------------------------------------


def test_an_old_task_opens_its_own_report_and_not_that_of_a_later_run(api: LocalApi, root: Path) -> None:
    folder = workspace(root)
    first = scored(api, folder, "first", 5)
    for wrong in (9, 30):
        scored(api, folder, f"later-{wrong}", wrong)
    for one in ("first", "later-9", "later-30"):
        listed = api.data("GET", f"/tasks/{one}/artifacts", headers=ASKS["admin"])
        names = {each["name"] for each in listed["artifacts"]}
        assert {"report", "errors"} <= names and listed["workspace"] == "team"
        for each in listed["artifacts"]:
            assert each["kept"]
            content = api.client.get(f"/tasks/{one}/artifacts/{each['file']}", headers=ASKS["admin"])
            assert content.status_code == 200
            assert hashlib.sha256(content.content).hexdigest() == each["sha256"]
            assert len(content.content) == each["size"]
            again = api.client.get(f"/tasks/{one}/artifacts/{each['name']}", headers=ASKS["admin"])
            assert again.content == content.content
    assert first.result is not None
    told = api.client.get("/tasks/first/result.json", headers=ASKS["admin"])
    assert told.json() == first.result


def test_what_there_is_not_is_said_with_its_reason(api: LocalApi, root: Path) -> None:
    folder = workspace(root)
    scored(api, folder, "old", 5)
    scored(api, folder, "new", 9)

    def refused(path: str, role: str = "admin") -> tuple[int, str, str]:
        return api.error("GET", path, headers=ASKS[role])

    assert refused("/tasks/old/artifacts/nothing.csv")[:2] == (404, "NOT_FOUND")
    for outside in ("..%2F..%2Finput%2Fgt.csv", "input/gt.csv", "%2Fetc%2Fpasswd", "output/pred.csv"):
        assert refused(f"/tasks/old/artifacts/{outside}")[1] == "NOT_FOUND"
    assert refused("/tasks/old/pred.csv")[1] == "NOT_FOUND"
    assert refused("/tasks/nobody/artifacts/report.html")[1] == "NOT_FOUND"
    # Somebody has written into what was kept: it is no longer what the Result says.
    result = api.tasks.tasks["old"].result
    assert result is not None
    kept = folder / ".autoscorer" / "artifacts" / result["artifacts"]["errors"]["sha256"]
    kept.write_text("forged")
    status, code, message = refused("/tasks/old/artifacts/errors.csv")
    assert (status, code) == (404, "NOT_FOUND") and "not kept any more" in message and "api.keep_artifacts" in message
    listed = api.data("GET", "/tasks/old/artifacts", headers=ASKS["admin"])["artifacts"]
    assert {each["name"]: each["kept"] for each in listed}["errors"] is False
    # The whole workspace is gone.
    shutil.rmtree(folder)
    assert "was deleted or moved" in refused("/tasks/new/artifacts/report.html")[2]
    # A task that was refused has none, and says where to look.
    api.tasks.tasks["refused"] = TaskView(
        id="refused", action="score", workspace="team", state="failed", created_at="now"
    )  # type: ignore[arg-type]
    assert api.data("GET", "/tasks/refused/artifacts", headers=ASKS["admin"])["artifacts"] == []
    assert "has left no Result" in refused("/tasks/refused/artifacts/report")[2]
    assert refused("/tasks/refused/result.json")[1] == "NOT_FOUND"


def test_a_submitter_has_the_shared_versions_by_their_own_digest_and_nothing_else(api: LocalApi, root: Path) -> None:
    folder = workspace(root)
    scored(api, folder, "old", 20)
    scored(api, folder, "new", 30)
    listed = api.data("GET", "/tasks/old/artifacts", headers=ASKS["submit"])["artifacts"]
    assert listed and all(each["kept"] and "shared" not in each["path"] for each in listed)
    for each in listed:
        content = api.client.get(f"/tasks/old/artifacts/{each['file']}", headers=ASKS["submit"])
        whole = api.client.get(f"/tasks/old/artifacts/{each['file']}", headers=ASKS["admin"])
        assert hashlib.sha256(content.content).hexdigest() == each["sha256"] and content.content != whole.content
        assert holds_no_truth(content.text)
    assert {each["name"] for each in listed} >= {"report"} and "errors" not in {each["name"] for each in listed}
    for name in ("errors", "errors.csv", "output/artifacts/errors.csv"):
        assert api.error("GET", f"/tasks/old/artifacts/{name}", headers=ASKS["submit"])[:2] == (403, "FORBIDDEN")
    shown = api.client.get("/tasks/old/result.json", headers=ASKS["submit"]).json()
    assert shown["versioning"]["ground_truth_sha256"] is None and "errors" not in shown["artifacts"]
    (report,) = [each for each in listed if each["name"] == "report"]
    assert shown["artifacts"]["report"]["sha256"] == report["sha256"]
    assert api.error("GET", "/tasks/old/artifacts")[1] == "UNAUTHORIZED"


def test_what_is_kept_is_bounded_and_the_oldest_go_first(tmp_path: Path, settings: Settings) -> None:
    folder = workspace(tmp_path)
    few = settings.model_copy(update={"api": settings.api.model_copy(update={"keep_artifacts": 150_000})})
    for wrong in range(12):
        (folder / "output" / "pred.csv").write_text(predictions(wrong))
        result = score_workspace(folder, settings=few)
    kept = {path.name: path.stat().st_size for path in (folder / ".autoscorer" / "artifacts").iterdir()}
    listed = {each.sha256 for each in (*result.artifacts.values(), *result.disclosed.artifacts.values())}
    assert listed <= set(kept) and sum(kept.values()) <= 150_000
    history = [past_result(folder, "team", each.id) for each in list_history(folder, "team", limit=50).results]
    whole = [all(each.sha256 in kept for each in past.artifacts.values()) for past in history]
    assert len(whole) == 12 and whole[0] and not whole[-1] and whole == sorted(whole, reverse=True)
    # And none is older than tasks are listed for.
    for name in kept:
        os.utime(folder / ".autoscorer" / "artifacts" / name, (1, 1))
    score_workspace(folder, settings=few)
    assert all(path.stat().st_mtime > 1 for path in (folder / ".autoscorer" / "artifacts").iterdir())


@pytest.mark.slow
def test_a_killed_scoring_loses_nothing_and_mixes_no_two_runs(tmp_path: Path, settings: Settings) -> None:
    """kill -9 at any moment: every Result that there is has all of its own files, or says nothing of them."""
    folder = workspace(tmp_path)
    program = (
        "import sys\nfrom pathlib import Path\nfrom autoscorer.tasks.score import score_workspace\n"
        "from autoscorer.core.config import load_settings\nsettings = load_settings()\n"
        "folder, number = Path(sys.argv[1]), int(sys.argv[2])\n"
        "while True:\n"
        "    number += 1\n"
        "    lines = (folder / 'input' / 'gt.csv').read_text().splitlines()\n"
        "    rows = [f\"{x.split(',')[0]},{'bird' if n < number % 50 else 'cat'}\" for n, x in enumerate(lines[1:])]\n"
        "    (folder / 'output' / 'pred.csv').write_text('\\n'.join([lines[0], *rows]) + '\\n')\n"
        "    score_workspace(folder, settings=settings)\n"
        "    print('scored', flush=True)\n"
    )
    roots = WorkspaceRoots(settings.model_copy(update={"workspace_roots": (tmp_path,)}))
    luck = random.Random(8)
    for turn in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(folder), str(turn * 7)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        # On a busy machine the first takes longer than any of these moments.
        assert process.stdout.readline() == "scored\n"
        time.sleep(luck.uniform(0.2, 1.2))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        for each in list_history(folder, "team", limit=500).results:
            past = past_result(folder, "team", each.id)
            view = TaskView(
                id="x", action="score", workspace="team", state="completed", created_at="", result=past.to_dict()
            )  # type: ignore[arg-type]
            for listed in list_task_artifacts(roots, view, everything=True).artifacts:
                assert listed.kept, (turn, each.id, listed.name)
    assert len(list_history(folder, "team", limit=500).results) > 3
    score_workspace(folder, settings=settings)
    assert not list((folder / ".autoscorer" / "artifacts").glob(".new-*"))


def test_without_hard_links_artifacts_are_copied(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = workspace(tmp_path)
    (folder / "output" / "pred.csv").write_text(predictions(3))

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    result = score_workspace(folder, settings=settings)
    for artifact in result.artifacts.values():
        kept = folder / ".autoscorer" / "artifacts" / str(artifact.sha256)
        assert kept.read_bytes() == (folder / artifact.path).read_bytes() and kept.stat().st_nlink == 1


# --- links in a report ------------------------------------------------------------------------------------------------


# The model of the third takes its time.
@pytest.mark.parametrize("example", ["classification", "regression", pytest.param("detection", marks=pytest.mark.slow)])
def test_every_link_of_an_examples_report_leads_somewhere(
    api: LocalApi, root: Path, tmp_path: Path, example: str
) -> None:
    code, staged = stage(example, tmp_path / "model")
    ran = run_model(example, code, staged)
    assert ran.returncode == 0, ran.stderr
    folder = root / "round 1" / "team ä"
    shutil.copytree(EXAMPLES / example / "input", folder / "input")
    shutil.copy(EXAMPLES / example / "meta.json", folder / "meta.json")
    shutil.copytree(staged / "output", folder / "output")
    result = score_workspace(folder, settings=api.settings)
    assert result.error is None
    task(api, folder, "t1", result)
    signed = api.data("POST", "/tasks/t1/links", headers=ASKS["admin"])["url"]
    by_workspace = "/artifacts/output/artifacts/report.html?workspace=round%201%2Fteam%20%C3%A4"
    # As a browser does: one that followed a link has no token, the others stand for a service without tokens.
    for address, headers in (
        ("/tasks/t1/artifacts/report.html", ASKS["admin"]),
        ("/tasks/t1/artifacts/report", ASKS["admin"]),
        (by_workspace, ASKS["admin"]),
        ("/artifacts/report.html?workspace=round%201%2Fteam%20%C3%A4", ASKS["admin"]),
        (signed, {}),
    ):
        page = api.client.get(address, headers={**headers, **PAGE}, follow_redirects=True)
        assert page.status_code == 200 and page.headers["content-type"].startswith("text/html"), page.text
        found = links_of(page.text)
        assert len(found) >= 5 and "../result.json" in found
        for each in found:
            answer = api.client.get(urljoin(str(page.url), each), headers=headers)
            assert answer.status_code == 200, (address, each, answer.text)
            if each.endswith("result.json"):
                assert answer.json() == result.to_dict()
    # Who asks for the bytes has them without a detour, as ever.
    assert api.client.get(by_workspace, headers=ASKS["admin"]).status_code == 200


def test_an_address_of_a_workspace_gives_no_more_than_its_artifacts(api: LocalApi, root: Path) -> None:
    folder = workspace(root)
    scored(api, folder, "t1", 5)
    for path in ("pred.csv", "history", "..%2Finput%2Fgt.csv", "artifacts/..%2F..%2Finput%2Fgt.csv", "artifacts"):
        assert api.error("GET", f"/workspaces/team/output/{path}", headers=ASKS["admin"])[1] in (
            "NOT_FOUND",
            "FORBIDDEN",
            "WORKSPACE_NOT_FOUND",
        ), path
    assert api.error("GET", "/workspaces/team/output/artifacts/errors.csv", headers=ASKS["submit"])[1] == "FORBIDDEN"
    report, whole = (
        api.client.get("/workspaces/team/output/artifacts/report.html", headers=ASKS[role])
        for role in ("submit", "admin")
    )
    assert (report.status_code, whole.status_code) == (200, 200) and report.content != whole.content
    assert holds_no_truth(report.text) and not holds_no_truth(whole.text)
    shown = api.client.get("/workspaces/team/output/result.json", headers=ASKS["submit"]).json()
    assert shown["versioning"]["ground_truth_sha256"] is None


# --- signed links -----------------------------------------------------------------------------------------------------


def test_a_signed_link_opens_one_tasks_artifacts_for_its_role_and_nothing_else(api: LocalApi, root: Path) -> None:
    folder = workspace(root)
    scored(api, folder, "one", 20)
    scored(api, folder, "two", 30)
    link = api.data("POST", "/tasks/one/links", headers=ASKS["admin"])
    assert link["url"].endswith("/tasks/one/artifacts/report.html") and link["url"].startswith(link["base"])
    page = api.client.get(link["url"])
    assert page.status_code == 200 and page.headers["referrer-policy"] == "no-referrer"
    assert "sandbox" in page.headers["content-security-policy"] and "no-cache" in page.headers["cache-control"]
    # Another task, another address, another method.
    assert api.error("GET", link["url"].replace("/tasks/one/", "/tasks/two/"))[:2] == (403, "FORBIDDEN")
    signature = link["base"].split("/")[2]
    for path in ("/tasks/one", "/result?workspace=team", "/tasks/one/logs", "/workspaces"):
        status, code, _ = api.error("GET", f"/signed/{signature}{path}")
        assert status in (403, 404) and code in ("FORBIDDEN", "NOT_FOUND"), path
    for method in ("POST", "DELETE", "PUT"):
        assert api.call(method, link["url"])[0] == 405
    assert api.error("POST", f"/signed/{signature}/tasks/one/cancel")[0] == 404
    assert api.error("GET", "/tasks/one/artifacts", headers={"Authorization": f"Bearer {signature}"})[0] == 401


def test_a_submitters_link_shows_only_what_the_submitter_may_see(api: LocalApi, root: Path) -> None:
    folder = workspace(root)
    scored(api, folder, "one", 20)
    link = api.data("POST", "/tasks/one/links", headers=ASKS["submit"])
    listed = api.data("GET", link["base"] + "/artifacts")["artifacts"]
    assert listed == api.data("GET", "/tasks/one/artifacts", headers=ASKS["submit"])["artifacts"] != []
    assert api.error("GET", link["base"] + "/artifacts/errors.csv")[:2] == (403, "FORBIDDEN")
    assert api.error("POST", "/tasks/one/links", headers=ASKS["submit"], json={"artifact": "errors.csv"})[0] == 403
    shown = api.client.get(link["base"] + "/result.json").json()
    assert shown["versioning"]["ground_truth_sha256"] is None
    # Saying that it is an admin's makes it nobody's.
    assert api.error("GET", link["base"].replace("-submit-", "-admin-") + "/artifacts/errors.csv")[:2] == (
        403,
        "FORBIDDEN",
    )
    assert api.error("POST", "/tasks/one/links")[1] == "UNAUTHORIZED"
    assert api.error("POST", "/tasks/nobody/links", headers=ASKS["admin"])[1] == "NOT_FOUND"


def test_expired_altered_and_unsigned_links_are_refused_in_words(api: LocalApi, root: Path) -> None:
    folder = workspace(root)
    scored(api, folder, "one", 5)
    links = SignedLinks(api.settings.home)
    past, _ = links.sign("one", Caller("c", "admin"), Subject(), now=time.time() - 601)
    good, expires = links.sign("one", Caller("c", "admin"), Subject())
    assert 590 < expires - time.time() <= 600
    later = str(expires + 1000)
    altered = (
        good[:-1] + ("0" if good[-1] != "0" else "1"),
        good.replace(str(expires), later),
        good[:-3],
        "x",
        good.upper(),
        f"{expires}-admin-{'0' * 64}",
    )
    for signature in (past, *altered):
        address = f"/signed/{signature}/tasks/one/artifacts/report.html"
        assert api.error("GET", address)[:2] == (403, "FORBIDDEN")
        page = api.client.get(address, headers=PAGE)
        assert page.status_code == 403 and page.headers["content-type"].startswith("text/html")
        assert ("minutes and has expired" if signature == past else "not valid") in page.text
    assert api.client.get(f"/signed/{good}/tasks/one/artifacts/report.html").status_code == 200
    gone = api.client.get(f"/signed/{good}/tasks/one/artifacts/nothing.html", headers=PAGE)
    assert gone.status_code == 404 and gone.headers["content-type"].startswith("text/html")
    # A clock that was put back makes no link good for longer.
    ahead, _ = links.sign("one", Caller("c", "admin"), Subject(), now=time.time() + 5000)
    assert api.error("GET", f"/signed/{ahead}/tasks/one/artifacts/report.html")[0] == 403


def test_the_key_is_made_once_and_read_by_its_owner_alone(tmp_path: Path) -> None:
    one, two = SignedLinks(tmp_path), SignedLinks(tmp_path)
    signature, _ = one.sign("t", Caller("c", "submit"), Subject())
    assert two.check("t", signature) == Caller("link-submit", "submit")
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600
    (tmp_path / "other").mkdir()
    with pytest.raises(AutoScorerError) as caught:
        SignedLinks(tmp_path / "other").check("t", signature)
    assert caught.value.code is ErrorCode.FORBIDDEN
    (tmp_path / KEY_FILE).write_text("")
    with pytest.raises(AutoScorerError, match="link-key in the home is empty"):
        one.sign("t", Caller("c", "submit"), Subject())


@pytest.mark.slow
def test_no_log_holds_a_signature(api: LocalApi, root: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = workspace(root)
    scored(api, folder, "one", 5)
    # pytest hears uvicorn's access log, too, which is off as we serve, and on where somebody else runs uvicorn.
    caplog.set_level(0)
    link = api.data("POST", "/tasks/one/links", headers=ASKS["admin"])
    assert api.client.get(link["url"]).status_code == 200
    assert api.client.get(link["url"] + "x").status_code == 404
    assert api.client.get(link["url"].replace("admin", "submit")).status_code == 403
    signature = link["base"].split("/")[2]
    for record in caplog.records:
        if not record.name.startswith(("httpx", "httpcore")):  # of the test's own client
            told = record.getMessage() + json.dumps(getattr(record, "fields", {}), default=str)
            assert signature not in told and signature[-64:] not in told, record
    assert signature[-64:] not in api.client.get("/metrics", headers=ASKS["admin"]).text


def test_in_a_browser_a_signed_report_opens_and_its_links_lead_on(
    api: LocalApi, root: Path, browser: Browser, tmp_path: Path
) -> None:
    folder = workspace(root)
    scored(api, folder, "one", 9)
    link = api.data("POST", "/tasks/one/links", headers=ASKS["admin"])

    assert "f1_macro" in visit(browser, api.url + link["url"])
    browser.picture(tmp_path / "report.png")
    browser.value("document.querySelector('a[href=\"../result.json\"]').click()")
    browser.wait_for(f"location.pathname === '{link['base']}/result.json' && document.readyState === 'complete'")
    assert '"f1_macro"' in browser.value("document.body.innerText")
    assert browser.value("document.referrer") == ""
    refused = visit(browser, api.url + link["url"].replace("/one/", "/two/"))
    assert "FORBIDDEN" in refused and "not valid" in refused


# --- a whole service --------------------------------------------------------------------------------------------------


@pytest.mark.prefect
def test_tasks_of_a_service_keep_their_own_reports_and_a_refused_one_takes_nothing(installation: Installation) -> None:
    folder = installation.workspace("kept", truth=TRUTH, pred=predictions(5))

    def score(**body: Any) -> dict[str, Any]:
        status, answer = installation.call("POST", "/submit", {"action": "score", "workspace": "kept", **body}, "admin")
        assert status == 202, answer
        return installation.finished(answer["data"]["id"])

    def get(path: str) -> Answer:
        return call(installation.url + path, token=installation.token("admin"))

    first = score()
    report = get(f"/tasks/{first['id']}/artifacts/report.html")
    assert report.status == 200
    files = {path: path.read_bytes() for path in (folder / "output").rglob("*") if path.is_file()}
    refused = score(params={"pass_treshold": 0.8})
    assert refused["state"] == "failed" and refused["error"]["code"] == "BAD_PARAMS"
    assert {path: path.read_bytes() for path in (folder / "output").rglob("*") if path.is_file()} == files

    def logged() -> bool:
        records = get(f"/tasks/{refused['id']}/logs").data["records"]
        return any("BAD_PARAMS" in record["message"] for record in records)

    # What a run has said reaches Prefect a moment after its end.
    assert eventually(logged)
    (folder / "output" / "pred.csv").write_text(predictions(30))
    second = score()
    assert get(f"/tasks/{second['id']}/artifacts/report").body != report.body
    assert get(f"/tasks/{first['id']}/artifacts/report").body == report.body
    told = get("/workspaces/kept/history").data
    assert [each["stands"] for each in told["results"]] == [True, False]
    assert told["total"] == 2 and told["results"][0]["score"] < told["results"][1]["score"]
    # A batch that scores a workspace whose model failed takes nothing from it either.
    failed = installation.workspace("failed", truth=TRUTH, pred="")
    (failed / "output").mkdir()
    result = Result(error={"code": "CONTAINER_FAILED", "message": "It exited with 7.", "stage": "execution"})  # type: ignore[arg-type]
    (failed / "output" / "result.json").write_text(json.dumps(result.to_dict()))
    body = {"action": "score", "workspaces": ["failed"]}
    status, answer = installation.call("POST", "/batch", body, "admin")
    assert status == 202, answer
    installation.finished(answer["data"]["id"])
    batch = installation.call("GET", f"/batch/{answer['data']['id']}", role="admin")[1]["data"]
    (outcome,) = batch["workspaces"]
    assert outcome["error"]["code"] == "MISSING_FILE" and "CONTAINER_FAILED" in outcome["error"]["message"]
    assert result_of(failed)["error"]["code"] == "CONTAINER_FAILED"
