"""The page in a real browser: it shows what the API answers, does what it is asked to, and nothing else."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from autoscorer.core.config import Settings
from autoscorer.schemas.task import TaskView

from ..support.browser import Browser
from ..support.browser import browser as browser
from ..support.local_api import LocalApi, MadeUpTasks, serve_locally

API = Path(__file__).parents[2] / "api"
STATIC, PREACT = API / "static", API / "vendor" / "preact" / "preact.js"
EVIL = '<img src=x onerror="document.title=1">"\'</script><script>document.title=1</script>\u202e'
RESULT: dict[str, Any] = {
    "job_id": "team-done",
    "summary": {"score": 0.91234567, "pass": True, "rank": "A", "higher_is_better": True},
    "metrics": {"f1_macro": 0.91234567, "accuracy": 0.92, EVIL: None},
    "intervals": {"f1_macro": {"low": 0.89, "high": 0.93, "level": 0.95, "method": "wilson"}},
    "artifacts": {"report": {"path": "output/artifacts/report.html", "size": 2048}},
    "notes": [EVIL],
    "error": None,
}


def a_task(task_id: str, state: str, **more: Any) -> TaskView:
    data = {
        "id": task_id,
        "action": "pipeline",
        "workspace": f"round-1/team-{task_id.removeprefix('t-')}",
        "state": state,
        "created_at": "2026-11-22T21:00:00Z",
        "attempts": 1,
        **more,
    }
    return TaskView.model_validate(data)


def fill(made_up: MadeUpTasks) -> None:
    """Tasks of every kind."""
    error = {
        "code": "CONTAINER_FAILED",
        "message": f"The model exited with code 1. {EVIL}",
        "stage": "execution",
        "details": {"exit_code": 1, "log": [EVIL]},
    }
    for task in (
        a_task("t-queued", "queued", attempts=0, stage="scheduled"),
        a_task("t-running", "running", stage="run", flow_run_id="0190f2d4-9c0e-7d11-8a6b-5c4d3e2f1a0b", attempts=2),
        a_task("t-cancelling", "cancelling", stage="run"),
        a_task("t-done", "completed", workspace="team-done", result=RESULT, run_seconds=12.34, queue_seconds=0.5),
        a_task("t-failed", "failed", error=error, run_seconds=200.0, reason="exit code 1"),
        a_task("t-cancelled", "cancelled"),
        a_task("t-evil", "completed", workspace=EVIL, scorer=EVIL, params={EVIL: EVIL}, reason=EVIL),
    ):
        made_up.tasks[task.id] = task


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalApi]:
    (tmp_path / "root").mkdir()
    with serve_locally(Settings(workspace_roots=(tmp_path / "root",), home=tmp_path / "home"), monkeypatch) as api:
        fill(api.tasks)
        yield api


def rows(page: Browser) -> list[str]:
    found = page.value("[...document.querySelectorAll('#rows tr')].map(r => r.dataset.id)")
    return list(found)


def click(page: Browser, selector: str) -> None:
    page.value(f"document.querySelector({json.dumps(selector)}).click()")


@pytest.mark.slow
class TestPage:
    def test_every_part_has_a_name_that_is_read_out(self, browser: Browser, api: LocalApi) -> None:
        browser.open(api.url + "/#t-done", width=1300)
        browser.wait_for("document.querySelector('#detail .score')")
        tree = browser.call("Accessibility.getFullAXTree")["nodes"]
        nameless = [
            node["role"]["value"]
            for node in tree
            if not node.get("ignored")
            and node.get("role", {}).get("value") in {"button", "link", "combobox", "searchbox", "checkbox", "region"}
            and not node.get("name", {}).get("value")
        ]
        assert nameless == []
        roles = {node["role"]["value"] for node in tree if not node.get("ignored")}
        assert {"main", "banner", "navigation", "article", "table", "columnheader", "status", "heading"} <= roles
        assert browser.value("document.documentElement.lang") == "en"
        assert browser.value("new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size") == browser.value(
            "document.querySelectorAll('[id]').length"
        )

    def test_it_works_by_keyboard(self, browser: Browser, api: LocalApi) -> None:
        browser.open(api.url + "/", width=1300)
        browser.wait_for("document.querySelectorAll('#rows tr').length === 7")
        browser.press("Tab")
        assert browser.value("document.activeElement.className") == "skip"
        browser.press("Enter")
        browser.wait_for("document.activeElement.id === 'main'")
        browser.value("document.querySelector('[data-id=t-failed] a').focus()")
        browser.press("Enter")
        browser.wait_for("document.activeElement.id === 'title' && document.querySelector('#detail .problem')")
        assert browser.value("[location.pathname, document.title]") == [
            "/ui/record/t-failed", "round-1/team-failed · AutoScorer",
        ]  # fmt: skip
        browser.value("history.back()")
        browser.wait_for("document.querySelectorAll('#rows tr').length === 7")
        assert browser.value("document.title") == "Records · AutoScorer"

    def test_it_follows_by_itself_and_keeps_the_place(self, browser: Browser, api: LocalApi) -> None:
        browser.open(api.url + "/", width=1300)
        browser.wait_for("document.querySelectorAll('#rows tr').length === 7")
        browser.value("window.row = document.querySelector('[data-id=t-running]'); row.querySelector('a').focus()")
        api.tasks.tasks["t-running"] = a_task("t-running", "completed", result=RESULT)
        api.tasks.tasks = {"t-new": a_task("t-new", "queued"), **api.tasks.tasks}
        browser.wait_for("document.querySelectorAll('#rows tr').length === 8")
        assert rows(browser)[0] == "t-new"
        browser.wait_for("row.querySelector('.state').innerText === 'completed'")
        assert browser.value("row === document.querySelector('[data-id=t-running]')")
        assert browser.value("document.activeElement === row.querySelector('a')")

    def test_a_record_follows_by_itself_and_says_how_it_ended(self, browser: Browser, api: LocalApi) -> None:
        browser.open(api.url + "/#t-running", width=1300)
        browser.wait_for("document.querySelector('#cancel')")
        api.tasks.tasks["t-running"] = a_task("t-running", "completed", result=RESULT)
        browser.wait_for("document.querySelector('#detail .score')")
        browser.wait_for("document.querySelector('#said').textContent === 'round-1/team-running: passed'")

    def test_a_task_is_cancelled_after_a_question(self, browser: Browser, api: LocalApi) -> None:
        browser.open(api.url + "/#t-running", width=1300)
        browser.wait_for("document.querySelector('#cancel')")
        click(browser, "#cancel")
        browser.wait_for("document.activeElement.id === 'confirm-no'")
        click(browser, "#confirm-no")
        assert api.tasks.calls == []
        click(browser, "#cancel")
        browser.wait_for("document.querySelector('#confirm-yes')")
        click(browser, "#confirm-yes")
        browser.wait_for("document.querySelector('#detail .state').textContent === 'cancelled'")
        assert api.tasks.calls == [("cancel", "t-running")]

    def test_a_task_is_run_again_and_the_new_one_shown(self, browser: Browser, api: LocalApi) -> None:
        browser.open(api.url + "/#t-failed", width=1300)
        browser.wait_for("document.querySelector('#retry')")
        click(browser, "#retry")
        browser.wait_for("location.pathname === '/ui/record/t-failed-2' && document.querySelector('#cancel')")
        assert api.tasks.calls == [("retry", "t-failed")]

    def test_a_log_is_shown_as_text_and_grows(
        self, browser: Browser, api: LocalApi, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        messages = [f"line {number}" for number in range(450)] + [EVIL]

        async def row(task_id: str) -> SimpleNamespace:
            return SimpleNamespace(flow_run_id="0190f2d4-9c0e-7d11-8a6b-5c4d3e2f1a0b")

        async def logs(flow_run: str, *, offset: int, limit: int) -> list[dict[str, Any]]:
            found = [{"timestamp": "2026-11-22T21:00:00Z", "level": 20, "name": "x", "message": m} for m in messages]
            return found[offset : offset + limit]

        monkeypatch.setattr(api.tasks.ledger, "row", row)
        monkeypatch.setattr(api.tasks.prefect, "logs", logs)
        browser.open(api.url + "/#t-running", width=1300)
        browser.wait_for("document.querySelector('#log')?.textContent.split('\\n').length === 451")
        assert EVIL in browser.value("document.querySelector('#log').textContent")
        messages.append("and one more")
        browser.wait_for("document.querySelector('#log')?.textContent.split('\\n').length === 452")
        assert browser.value("document.querySelector('#log').textContent").count("line 449") == 1
        assert browser.value("(l => l.scrollTop + l.clientHeight > l.scrollHeight - 5)(document.querySelector('#log'))")

    def test_when_the_api_goes_away_it_says_so_and_comes_back(
        self, browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings = Settings(workspace_roots=(tmp_path,), home=tmp_path / "home")
        with serve_locally(settings, monkeypatch) as api:
            fill(api.tasks)
            browser.open(api.url + "/", width=1300)
            browser.wait_for("document.querySelectorAll('#rows tr').length === 7")
        browser.wait_for("document.querySelector('main > .problem')?.innerText.includes('does not answer')")
        assert browser.value("document.querySelectorAll('#rows tr').length") == 7


def test_the_page_is_closed_by_its_headers(api: LocalApi) -> None:
    names = [
        each.relative_to(STATIC).as_posix() for each in STATIC.rglob("*") if each.suffix in (".js", ".css", ".svg")
    ]
    for path in ("/", "/records", "/ui/record/x", "/static/preact.js", *(f"/static/{name}" for name in names)):
        answer = api.client.get(path)
        assert answer.status_code == 200, path
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'") and "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        # After an update nobody sees the old one; what has not changed is not sent again.
        assert answer.headers["cache-control"] == "no-cache"
        again = api.client.get(path, headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        plain = api.client.get(path, headers={"Accept-Encoding": "identity"})
        assert "content-encoding" not in plain.headers and plain.text == answer.text
    for path in ("/static/", "/static/index.html", "/static/..%2f..%2fapp.py", "/static/%2e%2e/app.py", "/static/x"):
        assert api.error("GET", path)[:2] == (404, "NOT_FOUND")


def test_the_page_puts_no_markup_together() -> None:
    script = "".join(each.read_text() for each in STATIC.rglob("*.js"))
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|https?:", script)
    html = (STATIC / "index.html").read_text()
    assert not re.search(r"<style|\son\w+=|https?:|style=|<script(?![^>]*\bsrc=)", html)


def test_it_is_small_and_no_script_is_long() -> None:
    own = [*STATIC.rglob("*.js"), STATIC / "page.css", STATIC / "index.html"]
    long = {path.name: count for path in own if (count := len(path.read_text().splitlines())) > 300}
    assert set(long) <= {"page.css"}
    # What the first view loads: the rest comes when it is looked at.
    first, wanted = (
        set[Path](),
        [STATIC / "begin.js", STATIC / "main.js", STATIC / "views" / "records.js", STATIC / "words" / "failures.js"],
    )
    while wanted:
        path = wanted.pop()
        if path.is_file() and path not in first:
            first.add(path)
            wanted += [STATIC / name for name in re.findall(r'from "/static/([^"]+)"', path.read_text())]
    first |= {STATIC / "page.css", STATIC / "index.html", PREACT}
    packed = sum(len(gzip.compress(path.read_bytes())) for path in first)
    assert packed <= 60 * 1024, packed


def test_every_rule_of_the_style_sheet_ends() -> None:
    """A block that is left open takes all that follows with it, and nothing complains."""
    depth = 0
    for line in (STATIC / "page.css").read_text().splitlines():
        depth += line.count("{") - line.count("}")
        assert 0 <= depth <= 2 and (depth == 0 or not line.startswith("@media") or line.count("{") == 1), line
    assert depth == 0


def test_what_is_loaded_ahead_is_there() -> None:
    ahead = re.findall(r'rel="modulepreload" href="/static/([^"]+)"', (STATIC / "index.html").read_text())
    assert ahead and all((STATIC / name).is_file() for name in ahead if name != "preact.js")


def test_what_others_have_made_is_what_the_readme_says() -> None:
    assert hashlib.sha256(PREACT.read_bytes()).hexdigest() in (PREACT.parent / "README.md").read_text()
    assert {each.name for each in PREACT.parent.iterdir()} == {
        "LICENSE.htm", "LICENSE.preact", "LICENSE.signals", "README.md", "preact.js",
    }  # fmt: skip
