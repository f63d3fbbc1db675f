"""The records page in a real browser: it shows what the API answers, does what it is asked to, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from autoscorer.core.config import Settings
from autoscorer.schemas.task import TaskView
from pydantic import SecretStr

from ..support.browser import CONTRAST, Browser
from ..support.browser import browser as browser
from ..support.local_api import LocalApi, MadeUpTasks, serve_locally

STATIC = Path(__file__).parents[2] / "api" / "static"
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


def choose(page: Browser, state: str) -> None:
    page.value(
        f"(() => {{ const s = document.querySelector('#state'); s.value = {json.dumps(state)};"
        " s.dispatchEvent(new Event('change')); })()"
    )


@pytest.mark.slow
class TestPage:
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize("width", [320, 1300])
    def test_it_reads_well_and_asks_only_this_api(
        self, browser: Browser, api: LocalApi, width: int, scheme: str
    ) -> None:
        for address, there in (
            ("/", "document.querySelectorAll('#rows tr').length === 7"),
            ("/records#t-done", "document.querySelector('#detail .score')"),
            ("/#t-failed", "document.querySelector('#detail .problem')"),
            ("/#t-evil", "document.querySelector('#detail .facts')"),
        ):
            browser.open(api.url + address, width=width, scheme=scheme)
            browser.wait_for(there)
            browser.wait_for("document.querySelector('#service-state').textContent")
            assert browser.value("document.documentElement.scrollWidth") <= width
            assert browser.value(CONTRAST) == []
            assert browser.value("document.title") == "AutoScorer records"
            assert browser.value("document.querySelectorAll('#detail img, #detail script, #rows img').length") == 0
        assert all(url.startswith(api.url + "/") for url in browser.requests())
        # Nothing but /readyz fails: the Prefect server is away here.
        complaints = [str(item) for item in browser.complaints()]
        assert [text for text in complaints if "/readyz" not in text] == []
        assert browser.value("document.querySelector('#service-state').textContent") == "not ready"

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
        assert {"main", "banner", "search", "table", "columnheader", "status", "heading"} <= roles
        assert browser.value("document.documentElement.lang") == "en"
        assert browser.value("new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size") == browser.value(
            "document.querySelectorAll('[id]').length"
        )

    def test_it_works_by_keyboard(self, browser: Browser, api: LocalApi) -> None:
        browser.open(api.url + "/", width=1300)
        browser.wait_for("document.querySelectorAll('#rows tr').length === 7")
        browser.value("document.querySelector('[data-id=t-failed] a').focus()")
        browser.press("Enter", code=13, text="\r")
        browser.wait_for("document.activeElement.id === 'detail-title' && document.querySelector('#detail .problem')")
        browser.press("Escape", code=27)
        browser.wait_for("document.querySelector('#detail').hidden")
        assert browser.value("document.activeElement.closest('tr').dataset.id") == "t-failed"

    def test_tasks_are_filtered_by_state_and_workspace(self, browser: Browser, api: LocalApi) -> None:
        browser.open(api.url + "/", width=1300)
        browser.wait_for("document.querySelectorAll('#rows tr').length === 7")
        choose(browser, "queued,running,cancelling")
        browser.wait_for("document.querySelectorAll('#rows tr').length === 3")
        assert rows(browser) == ["t-queued", "t-running", "t-cancelling"]
        choose(browser, "")
        browser.value("document.querySelector('#q').value = 'team-done'")
        click(browser, "#filters button")
        browser.wait_for("document.querySelectorAll('#rows tr').length === 1")
        assert rows(browser) == ["t-done"]
        browser.value(f"document.querySelector('#q').value = {json.dumps(EVIL)}")
        choose(browser, "failed")
        browser.wait_for("!document.querySelector('#empty').hidden")
        assert EVIL in browser.value("document.querySelector('#empty').textContent")

    def test_it_follows_by_itself_and_keeps_the_place(self, browser: Browser, api: LocalApi) -> None:
        browser.open(api.url + "/#t-running", width=1300)
        browser.wait_for("document.querySelector('#cancel') && document.querySelectorAll('#rows tr').length === 7")
        browser.value("window.row = document.querySelector('[data-id=t-running]'); row.querySelector('a').focus()")
        api.tasks.tasks["t-running"] = a_task("t-running", "completed", result=RESULT)
        api.tasks.tasks = {"t-new": a_task("t-new", "queued"), **api.tasks.tasks}
        browser.wait_for(
            "document.querySelectorAll('#rows tr').length === 8 && document.querySelector('#detail .score')"
        )
        assert rows(browser)[0] == "t-new"
        assert browser.value("row === document.querySelector('[data-id=t-running]')")
        assert browser.value("document.activeElement === row.querySelector('a')")

    def test_a_task_is_cancelled_after_a_question(self, browser: Browser, api: LocalApi) -> None:
        browser.open(api.url + "/#t-running", width=1300)
        browser.wait_for("document.querySelector('#cancel')")
        click(browser, "#cancel")
        assert browser.value("document.activeElement.id") == "confirm-no"
        click(browser, "#confirm-no")
        assert api.tasks.calls == []
        click(browser, "#cancel")
        click(browser, "#confirm-yes")
        browser.wait_for("document.querySelector('#detail .state').textContent === 'cancelled'")
        assert api.tasks.calls == [("cancel", "t-running")]

    def test_a_task_is_run_again_and_the_new_one_shown(self, browser: Browser, api: LocalApi) -> None:
        browser.open(api.url + "/#t-failed", width=1300)
        browser.wait_for("document.querySelector('#retry')")
        click(browser, "#retry")
        browser.wait_for("location.hash === '#t-failed-2' && document.querySelector('#cancel')")
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
        browser.wait_for("document.querySelector('#log').textContent.split('\\n').length === 451")
        assert EVIL in browser.value("document.querySelector('#log').textContent")
        messages.append("and one more")
        browser.wait_for("document.querySelector('#log').textContent.split('\\n').length === 452")
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
        browser.wait_for("!document.querySelector('#problem').hidden")
        assert "does not answer" in browser.value("document.querySelector('#problem').textContent")
        assert browser.value("document.querySelectorAll('#rows tr').length") == 7


TOKENS = SecretStr("submit:sss-token,admin:aaa-token")


@pytest.mark.slow
def test_a_token_is_asked_for_and_kept_in_the_tab_only(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with serve_locally(
        Settings(workspace_roots=(root,), home=tmp_path / "home", api_tokens=TOKENS), monkeypatch
    ) as api:
        fill(api.tasks)
        browser.open(api.url + "/#t-done", width=1300)
        browser.wait_for("document.querySelector('#token-dialog').open && document.activeElement.id === 'token'")
        assert rows(browser) == []
        for value, accepted in (("wrong", False), ("aaa-token", True)):
            browser.value(f"document.querySelector('#token').value = {json.dumps(value)}")
            browser.press("Enter", code=13, text="\r")
            browser.wait_for(
                "document.querySelectorAll('#rows tr').length === 7 && document.querySelector('#problem').hidden"
                if accepted
                else "document.querySelector('#token-problem').textContent.includes('does not know that token')"
            )
        assert browser.value("[Object.values(sessionStorage), localStorage.length, document.cookie]") == [
            ["aaa-token"], 0, "",
        ]  # fmt: skip
        assert not any("aaa-token" in url for url in browser.requests())
        # Who has signed out sees nothing of any task, and is not pressed to sign in again.
        click(browser, "#sign-out")
        browser.wait_for("!document.querySelector('#outside').hidden")
        assert browser.value("sessionStorage.length") == 0
        assert browser.value("document.activeElement.id") == "outside-in"
        assert "team-done" not in browser.value("document.body.innerText")
        browser.value("document.dispatchEvent(new Event('visibilitychange'))")
        browser.value("new Promise(r => setTimeout(r, 300))")
        assert browser.value("document.querySelector('#token-dialog').open") is False


def test_the_page_is_closed_by_its_headers(api: LocalApi) -> None:
    for path in ("/", "/records", *(f"/static/{each.name}" for each in STATIC.iterdir() if each.suffix != ".html")):
        answer = api.client.get(path)
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'") and "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
    for path in ("/static/", "/static/records.html", "/static/..%2f..%2fapp.py", "/static/%2e%2e/app.py", "/static/x"):
        assert api.error("GET", path)[:2] == (404, "NOT_FOUND")


def test_the_page_puts_no_markup_together() -> None:
    script = "".join(each.read_text() for each in STATIC.glob("*.js"))
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|https?:", script)
    html = (STATIC / "records.html").read_text()
    assert not re.search(r"<style|\son\w+=|https?:|style=|<script(?![^>]*\bsrc=)", html)
